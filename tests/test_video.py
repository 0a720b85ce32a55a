"""Videos: what is equalized, and that everything else comes back as it was."""

import itertools
import json
import os
import pickle
import subprocess
import sys
from fractions import Fraction
from io import BytesIO

import av
import clips
import imagecodecs
import numpy as np
import pytest
from clips import BIKES, BUNNY, PHONE, chromas, lumas, make, packets, times
from test_cli import fails, run

import histeq
from histeq import FileError

LIMITED = (16, 235)


def expected(path, value_range=LIMITED, **options):
    """Return the lumas of a video as the equalizer makes them from those that are decoded."""
    # CLAHE of 8 bits counts all levels.
    name = "out_range" if options.get("method") == "clahe" else "value_range"
    equalizer = histeq.Equalizer(centered=True, **{name: value_range}, **options)
    return np.array(list(equalizer.frames(lumas(path))))


def went(source, target, **options):
    return histeq.equalize_video(source, target, overwrite=True, **options)


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    """A Matroska file with everything in it: variable times, sound, subtitles, a font, chapters, tags."""

    def setup(container, video):
        container.metadata.update(title="A title", mytag="mine")
        video.metadata.update(language="fra", title="the video")
        video.codec_context.sample_aspect_ratio = Fraction(4, 3)
        video.codec_context.color_primaries, video.codec_context.color_trc = 1, 1
        video.codec_context.colorspace, video.codec_context.color_range = 1, 1
        container.add_attachment("a.ttf", "application/x-truetype-font", b"font" * 10)
        unit = Fraction(1, 1000)
        container.set_chapters([
            {"id": 1, "start": 0, "end": 500, "time_base": unit, "metadata": {"title": "one"}},
            {"id": 2, "start": 500, "end": 900, "time_base": unit, "metadata": {"title": "two"}},
        ])  # fmt: skip

    uneven = [
        0,
        40,
        100,
        110,
        200,
        240,
        300,
        390,
        400,
        480,
        500,
        600,
        610,
        700,
        720,
        777,
        800,
        850,
        900,
        950,
    ]
    path = tmp_path_factory.mktemp("rich") / "rich.mkv"
    return make(path, codec="libx264", times=uneven, audio=True, subtitles="subrip", setup=setup)


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long")
    noise = np.random.default_rng(0).integers(-20, 20, (48, 64))

    def noisy(frame, index):
        plane = np.frombuffer(frame.planes[0], np.uint8).reshape(48, -1)
        plane[:, :64] += (np.roll(noise, index * 7) % 16).astype(np.uint8)

    make(folder / "a.mkv", 60, "libx264", audio=True, edit=noisy)
    make(
        folder / "a.mp4",
        60,
        "libx264",
        audio=True,
        edit=noisy,
        container_options={"movflags": "faststart"},
    )
    make(folder / "a.avi", 60, "mpeg4", edit=noisy)
    make(folder / "a.y4m", 60, "wrapped_avframe", edit=noisy, container="yuv4mpegpipe")
    return folder


class TestPixels:
    @pytest.mark.parametrize(
        "options",
        [{}, {"window": 1}, {"method": "clahe", "tiles": (2, 2)}, {"strength": 0.5}, {"roi": (8, 8, 16, 16)},
         {"cuts": False, "rule": "numpy"}],
    )  # fmt: skip
    def test_luma_is_what_the_equalizer_makes_and_chroma_is_untouched(self, tmp_path, options):
        source = make(tmp_path / "a.mkv", cuts=(9,))
        result = went(source, tmp_path / "b.mkv", **options)
        assert (result.frames, result.codec, result.pixel_format) == (20, "ffv1", "yuv420p")
        np.testing.assert_array_equal(lumas(tmp_path / "b.mkv"), expected(source, **options))
        assert chromas(source) == chromas(tmp_path / "b.mkv")

    @pytest.mark.parametrize(
        ("format", "value_range"),
        [
            ("yuv422p", LIMITED), ("yuv444p", LIMITED), ("gray", (0, 255)), ("yuv420p10le", (64, 940)),
            ("yuv422p12le", (256, 3760)), ("gray10le", (0, 1023)), ("gray16le", (0, 65535)),
            ("yuva420p", LIMITED), ("yuv420p16le", (4096, 60160)),
        ],
    )  # fmt: skip
    def test_depths_and_samplings(self, tmp_path, format, value_range):
        source = make(tmp_path / "a.mkv", 6, format=format)
        result = went(source, tmp_path / "b.mkv")
        assert result.pixel_format == format
        np.testing.assert_array_equal(lumas(tmp_path / "b.mkv"), expected(source, value_range))

    @pytest.mark.parametrize("format", ["nv12", "yuyv422", "uyvy422", "ya8"])
    def test_formats_with_other_places_for_luma(self, tmp_path, format):
        source = make(tmp_path / "a.nut", 5, "rawvideo", format)
        assert went(source, tmp_path / "b.nut").pixel_format == format
        with av.open(str(source)) as a, av.open(str(tmp_path / "b.nut")) as b:
            planar = "yuv422p10le" if format == "p010le" else "gray" if format == "ya8" else "yuv422p"
            if format in ("nv12", "p010le"):
                planar = planar.replace("422", "420")
            before, after = ([f.reformat(format=planar) for f in c.decode(video=0)] for c in (a, b))
        deep = "10" in planar
        values = []
        for frames in (before, after):
            dtype = np.dtype("<u2" if deep else "u1")
            rows = [np.frombuffer(memoryview(f.planes[0]), dtype) for f in frames]
            width = frames[0].planes[0].line_size // dtype.itemsize
            values.append(np.array([r[: width * f.height].reshape(f.height, -1)[:, : f.width]
                                    for r, f in zip(rows, frames, strict=True)]))  # fmt: skip
        limits = (64, 940) if deep else (0, 255) if format == "ya8" else LIMITED
        equalizer = histeq.Equalizer(centered=True, value_range=limits)
        np.testing.assert_array_equal(values[1], list(equalizer.frames(values[0])))

    @pytest.mark.parametrize("format", ["bgr0", "bgra", "gbrp10le", "rgb48le", "gbrp16le"])
    def test_rgb_by_its_own_luma(self, tmp_path, format):
        source = make(tmp_path / "a.mkv", 5, format=format)
        assert went(source, tmp_path / "b.mkv").notes == ()
        deep = "rgb48le" if format != "bgr0" and format != "bgra" else "rgb24"
        before, after = (self.colours(path, deep) for path in (source, tmp_path / "b.mkv"))
        shift = 6 if "10" in format else 0
        limits = (0, (1023 if shift else 65535) if deep == "rgb48le" else 255)
        equalizer = histeq.Equalizer(centered=True, layout="HWC", value_range=limits)
        whole = list(equalizer.frames(before >> shift))
        np.testing.assert_array_equal(after >> shift, whole)

    @staticmethod
    def colours(path, format):
        with av.open(str(path)) as container:
            return np.array([frame.to_ndarray(format=format) for frame in container.decode(video=0)])

    def test_full_range_is_spanned_where_the_stream_says_so(self, tmp_path):
        def full(container, video):
            video.codec_context.color_range = 2

        source = make(tmp_path / "a.mkv", 5, setup=full)
        went(source, tmp_path / "b.mkv")
        result = lumas(tmp_path / "b.mkv")
        np.testing.assert_array_equal(result, expected(source, (0, 255)))
        assert result.max() == 255
        with av.open(str(tmp_path / "b.mkv")) as container:
            assert container.streams.video[0].codec_context.color_range == 2

    def test_frames_that_others_are_predicted_from_are_not_changed(self, tmp_path):
        """Decoded frames are the decoder's own: written to, they would spoil the next ones."""
        source = make(tmp_path / "a.mp4", 30, "libx264")
        went(source, tmp_path / "b.mkv", codec="ffv1")
        np.testing.assert_array_equal(lumas(tmp_path / "b.mkv"), expected(source))

    @pytest.mark.parametrize("size", [(47, 63), (1, 1), (2, 100), (33, 64)])
    def test_odd_sizes(self, tmp_path, size):
        source = make(tmp_path / "a.mkv", 4, size=size)
        went(source, tmp_path / "b.mkv")
        np.testing.assert_array_equal(lumas(tmp_path / "b.mkv"), expected(source))

    def test_causal_windows(self, tmp_path):
        source = make(tmp_path / "a.mkv")
        went(source, tmp_path / "b.mkv", centered=False)
        whole = [*histeq.Equalizer(value_range=LIMITED).frames(lumas(source))]
        np.testing.assert_array_equal(lumas(tmp_path / "b.mkv"), whole)

    def test_mask(self, tmp_path):
        mask = np.zeros(clips.SIZE, bool)
        mask[:20, :20] = True
        source = make(tmp_path / "a.mkv", 3)
        went(source, tmp_path / "b.mkv", mask=mask)
        np.testing.assert_array_equal(lumas(tmp_path / "b.mkv"), expected(source, mask=mask))

    def test_every_backend(self, tmp_path):
        source = make(tmp_path / "a.mkv", 4)
        for name in ("numba", "numpy"):
            went(source, tmp_path / f"{name}.mkv", backend=name)
        np.testing.assert_array_equal(lumas(tmp_path / "numba.mkv"), lumas(tmp_path / "numpy.mkv"))


class TestKept:
    @pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
    def test_everything(self, tmp_path, rich, suffix):
        target = tmp_path / f"b{suffix}"
        result = went(rich, target, preset="ultrafast")
        assert [(round(float(t), 3)) for t, _ in times(target)] == [
            round(float(t), 3) for t, _ in times(rich)
        ]
        assert [p[0] for p in packets(target, "audio")] == [p[0] for p in packets(rich, "audio")]
        assert self.described(target)["video"] == self.described(rich)["video"]
        assert self.described(target)["chapters"] == [(0, 0.5, "one"), (0.5, 0.9, "two")]
        assert self.described(target)["title"] == "A title"
        words = [p[0][2:] if suffix != ".mkv" else p[0] for p in packets(target, "subtitle")]
        assert [w for w in words if w] == [p[0] for p in packets(rich, "subtitle")]
        with av.open(str(target)) as container:
            assert {name.lower(): value for name, value in container.metadata.items()}["mytag"] == "mine"
            attachments = [s.data for s in container.streams if s.type == "attachment"]
        assert attachments == ([b"font" * 10] if suffix == ".mkv" else [])
        assert result.notes == (() if suffix == ".mkv" else ("the attachment a.ttf",))

    def described(self, path):
        with av.open(str(path)) as container:
            video = container.streams.video[0]
            context = video.codec_context
            chapters = [
                (float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"]), c["metadata"]["title"])
                for c in container.chapters()
            ]
            return {
                "video": (video.sample_aspect_ratio, context.color_primaries, context.color_trc,
                          context.colorspace, context.color_range, video.metadata["language"]),
                "chapters": chapters,
                "title": container.metadata.get("title", container.metadata.get("TITLE")),
            }  # fmt: skip

    def test_subtitles_go_back_to_matroska(self, tmp_path, rich):
        went(rich, tmp_path / "b.mp4", preset="ultrafast")
        went(tmp_path / "b.mp4", tmp_path / "c.mkv", preset="ultrafast")
        assert [p[0] for p in packets(tmp_path / "c.mkv", "subtitle")] == [
            p[0] for p in packets(rich, "subtitle")
        ]

    @pytest.mark.parametrize("degrees", [90, 180, -90])
    def test_rotation(self, tmp_path, degrees):
        source = make(tmp_path / "a.mp4", 4, "libx264", setup=lambda c, v: v.set_display_rotation(degrees))
        went(source, tmp_path / "b.mp4", preset="ultrafast")
        with av.open(str(tmp_path / "b.mp4")) as container:
            assert next(container.decode(video=0)).rotation in (degrees, degrees - 360 * (degrees == 180))

    def test_the_last_frame_lasts(self, tmp_path):
        def last(frame, index):
            frame.duration = 40 if index < 3 else 500

        source = make(tmp_path / "a.mp4", 4, "libx264", times=[0, 40, 80, 120], edit=last)
        went(source, tmp_path / "b.mp4", preset="ultrafast")
        assert times(tmp_path / "b.mp4") == times(source)
        assert times(source)[-1][1] == Fraction(1, 2)

    @pytest.mark.parametrize(
        ("codec", "suffix"), [("libx264", ".mp4"), ("mpeg2video", ".mpg"), ("mpeg4", ".avi")]
    )
    def test_fields_stay(self, tmp_path, codec, suffix):
        def fields(container, video):
            video.codec_context.flags |= 1 << 18 | 1 << 29
            video.codec_context.field_order = 2

        source = make(tmp_path / f"a{suffix}", 8, codec, setup=fields, options={} if codec != "libx264" else {
            "preset": "ultrafast", "x264-params": "tff=1"})  # fmt: skip
        went(source, tmp_path / f"b{suffix}")
        found = []
        for path in (source, tmp_path / f"b{suffix}"):
            with av.open(str(path)) as container:
                found.append([frame.interlaced_frame for frame in container.decode(video=0)])
        assert found[0][0]
        assert found[0] == found[1]

    @pytest.mark.parametrize(
        ("codec", "suffix", "encoder"),
        [("mpeg4", ".mp4", "mpeg4"), ("mjpeg", ".avi", "mjpeg"), ("utvideo", ".avi", "utvideo"),
         ("libvpx", ".webm", "libvpx"), ("mpeg2video", ".ts", "mpeg2video"), ("ffvhuff", ".avi", "ffvhuff")],
    )  # fmt: skip
    def test_codec_of_the_input(self, tmp_path, codec, suffix, encoder):
        source = make(tmp_path / f"a{suffix}", 5, codec, "yuvj420p" if codec == "mjpeg" else "yuv420p")
        result = went(source, tmp_path / f"b{suffix}")
        assert (result.codec, result.notes) == (encoder, ())
        assert len(times(tmp_path / f"b{suffix}")) == 5

    @pytest.mark.parametrize(
        ("codec", "suffix", "best", "worst"),
        [
            ("h264", ".mkv", 1, 40),
            ("mpeg4", ".mkv", 1, 31),
            ("mpeg2video", ".ts", 2, 31),
            ("mjpeg", ".avi", 2, 20),
        ],
    )
    def test_quality(self, tmp_path, codec, suffix, best, worst):
        source = make(tmp_path / "a.mkv", 3, size=(128, 160))
        sizes = []
        for quality in (best, None, worst):
            went(source, tmp_path / f"b{suffix}", codec=codec, quality=quality)
            sizes.append(sum(len(data) for data, _, _ in packets(tmp_path / f"b{suffix}", "video")))
        assert sizes[0] > sizes[1] > 1.1 * sizes[2]

    @pytest.mark.parametrize(("codec", "suffix", "range_"), [("mjpeg", ".avi", 2), ("dnxhd", ".mov", 1)])
    def test_codecs_that_take_few_pixel_formats(self, tmp_path, codec, suffix, range_):
        """MJPEG has the full range, and DNxHD of any size is DNxHR."""
        source = make(tmp_path / "a.mkv", 3, size=(128, 256))
        result = went(source, tmp_path / f"b{suffix}", codec=codec)
        assert (result.notes != ()) == (codec == "mjpeg")
        lossless = went(source, tmp_path / "c.mkv", codec="ffv1")
        assert lossless.notes == ()
        with av.open(str(tmp_path / f"b{suffix}")) as a, av.open(str(tmp_path / "c.mkv")) as b:
            for one, two in zip(a.decode(video=0), b.decode(video=0), strict=True):
                assert one.color_range in (range_, 0)
                shown, exact = (f.to_ndarray(format="rgb24").astype(int) for f in (one, two))
                assert abs(shown - exact).mean() < 4

    @pytest.mark.exhaustive
    @pytest.mark.parametrize(
        ("codec", "format", "suffix"),
        [("libx265", "yuv420p", ".mp4"), ("libx265", "yuv420p10le", ".mkv"),
         ("libx265", "yuv422p12le", ".mkv"), ("libx265", "gbrp", ".mkv"), ("libx264", "yuv444p10le", ".mkv"),
         ("libsvtav1", "yuv420p10le", ".mkv"), ("libvpx-vp9", "yuv444p", ".webm"),
         ("prores_ks", "yuv422p10le", ".mov"), ("dnxhd", "yuv422p", ".mov"),
         ("libx264rgb", "rgb24", ".mkv")],
    )  # fmt: skip
    def test_slow_codecs(self, tmp_path, codec, format, suffix):
        options = {"profile": "dnxhr_hq"} if codec == "dnxhd" else None
        source = make(tmp_path / f"a{suffix}", 5, codec, format, size=(128, 256), options=options)
        result = went(source, tmp_path / f"b{suffix}")
        assert (result.codec, result.notes) == (codec, ())
        with av.open(str(source)) as a, av.open(str(tmp_path / f"b{suffix}")) as b:
            one, two = (c.streams.video[0].codec_context for c in (a, b))
            assert (one.name, one.pix_fmt, one.profile) == (two.name, two.pix_fmt, two.profile)
            assert sum(1 for _ in b.decode(video=0)) == 5

    def test_other_video_streams_are_copied(self, tmp_path):
        with av.open(str(tmp_path / "a.mkv"), "w") as out:
            streams = [out.add_stream("ffv1", rate=25) for _ in range(2)]
            for video in streams:
                video.width, video.height = 64, 48
            for index in range(5):
                for number, video in enumerate(streams):
                    frame = clips.frame_of(clips.scene(number, index))
                    frame.pts, frame.time_base = index, Fraction(1, 25)
                    out.mux(video.encode(frame))
            for video in streams:
                out.mux(video.encode(None))
        went(tmp_path / "a.mkv", tmp_path / "b.mkv", stream=1)
        with av.open(str(tmp_path / "a.mkv")) as a, av.open(str(tmp_path / "b.mkv")) as b:
            for number in (0, 1):
                one, two = ([bytes(f.planes[0]) for f in c.decode(video=number)] for c in (a, b))
                assert (one == two) == (number == 0)
                a.seek(0), b.seek(0)

    def test_alpha_of_vp9(self, tmp_path):
        def clear(frame, index):
            np.frombuffer(frame.planes[3], np.uint8)[:] = 7 * index

        def with_alpha(container, video):
            video.metadata["alpha_mode"] = "1"

        options = {"lossless": "1", "cpu-used": "8"}
        source = make(
            tmp_path / "a.webm", 3, "libvpx-vp9", "yuva420p", options=options, edit=clear, setup=with_alpha
        )
        assert went(source, tmp_path / "b.webm").pixel_format == "yuva420p"
        with av.open(str(tmp_path / "b.webm")) as container:
            decoder = av.CodecContext.create("libvpx-vp9", "r")
            frames = [frame for packet in container.demux(video=0) for frame in decoder.decode(packet)]
        alphas = [np.frombuffer(frame.planes[3], np.uint8)[:64].mean() for frame in frames]
        np.testing.assert_allclose(alphas, [0, 7, 14], atol=2)

    def test_avi_stores_no_times_and_gets_no_frames_out_of_order(self, tmp_path):
        source = make(tmp_path / "a.mp4", 12, "libx264", options={"preset": "medium"})
        went(source, tmp_path / "b.avi")
        found = [t for t, _ in times(tmp_path / "b.avi")]
        assert len(found) == 12
        assert set(np.diff(found)) == {Fraction(1, 25)}

    def test_times_that_a_codec_rounds_are_told(self, tmp_path):
        source = make(tmp_path / "a.mkv", 6, times=[0, 40, 90, 200, 210, 220])
        note = "the frames' times: they became multiples of 1/25 s"
        assert went(source, tmp_path / "b.mp4", codec="mpeg4").notes == (note,)
        found = [t for t, _ in times(tmp_path / "b.mp4")]
        assert len(found) == 6
        assert found == sorted(set(found))

    def test_late_starts(self, tmp_path):
        source = make(tmp_path / "a.mkv", 6, "libx264", times=[1000 + 40 * i for i in range(6)], audio=True)
        for suffix in (".mkv", ".mp4"):
            went(source, tmp_path / f"b{suffix}", preset="ultrafast")
            assert [t for t, _ in times(tmp_path / f"b{suffix}")] == [t for t, _ in times(source)]

    def test_cover_time_code_and_tags(self, tmp_path):
        tags = {"timecode": "01:02:03:04", "creation_time": "2024-05-06T07:08:09.000000Z", "comment": "hi",
                "com.apple.quicktime.make": "maker"}  # fmt: skip
        own = {"movflags": "use_metadata_tags"}
        source = make(tmp_path / "a.mov", 5, "libx264", container_options=own,
                      setup=lambda container, video: container.metadata.update(tags))  # fmt: skip
        assert went(source, tmp_path / "b.mp4", preset="ultrafast").notes == ()
        with av.open(str(tmp_path / "b.mp4")) as container:
            assert {name: container.metadata.get(name, tags["timecode"]) for name in tags} == tags
            assert container.streams.video[0].metadata["timecode"] == tags["timecode"]

    def test_cover(self, tmp_path):
        cover = imagecodecs.jpeg_encode(np.zeros((16, 16, 3), np.uint8))
        made, source = make(tmp_path / "a.mp4", 5, "libx264"), tmp_path / "cover.mp4"
        with av.open(str(made)) as a, av.open(str(source), "w") as out:
            video = out.add_stream_from_template(a.streams.video[0], opaque=True)
            picture = out.add_mux_stream("mjpeg", width=16, height=16)
            picture.disposition = av.stream.Disposition.attached_pic
            packet = av.Packet(cover)
            packet.stream, packet.pts, packet.dts, packet.time_base = picture, 0, 0, Fraction(1, 90000)
            out.mux(packet)
            for packet in a.demux(a.streams.video[0]):
                if packet.size:
                    packet.stream = video
                    out.mux(packet)
        assert went(source, tmp_path / "b.mp4", preset="ultrafast").notes == ()
        with av.open(str(tmp_path / "b.mp4")) as container:
            kept = [bytes(p) for p in container.demux(container.streams.video[1]) if p.size]
        assert kept == [cover]

    def test_two_frames_of_hevc(self, tmp_path):
        """The encoder gives them times out of any range."""
        source = make(tmp_path / "a.mkv", 2)
        went(source, tmp_path / "b.mp4", codec="hevc", preset="ultrafast")
        assert [t for t, _ in times(tmp_path / "b.mp4")] == [0, Fraction(1, 25)]

    def test_hdr10_is_told_on(self, tmp_path):
        told = ("colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:hdr10=1:log-level=none:"
                "max-cll=1000,400:master-display=G(13250,34500)B(7500,3000)R(34000,16000)"
                "WP(15635,16450)L(10000000,1)")  # fmt: skip
        options = {"preset": "ultrafast", "x265-params": told}
        source = make(tmp_path / "a.mp4", 4, "libx265", "yuv420p10le", options=options)
        result = went(source, tmp_path / "b.mp4", hdr=True, preset="ultrafast")
        assert (result.codec, result.pixel_format) == ("libx265", "yuv420p10le")
        found = []
        for path in (source, tmp_path / "b.mp4"):
            with av.open(str(path)) as container:
                data = next(container.decode(video=0)).side_data
                kinds = av.sidedata.sidedata.Type
                found.append([bytes(data[kinds.MASTERING_DISPLAY_METADATA])[:88],
                              bytes(data[kinds.CONTENT_LIGHT_LEVEL])[:8]])  # fmt: skip
        assert found[0] == found[1]
        with av.open(str(tmp_path / "b.mp4")) as container:
            assert container.streams.video[0].codec_tag == "hvc1"

    def test_pictures_stored_upside_down(self, tmp_path):
        source = make(tmp_path / "a.avi", 3, "rawvideo", "bgr24")
        assert went(source, tmp_path / "b.avi").notes == ()
        before, after = (TestPixels.colours(path, "rgb24") for path in (source, tmp_path / "b.avi"))
        np.testing.assert_array_equal(
            after, list(histeq.Equalizer(centered=True, layout="HWC").frames(before))
        )

    def test_palettes_become_colours(self, tmp_path):
        from PIL import Image

        images = [Image.fromarray(clips.scene(0, i).astype(np.uint8)).quantize(32) for i in range(3)]
        images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=100)
        result = went(tmp_path / "a.gif", tmp_path / "b.mkv", codec="ffv1")
        assert (result.pixel_format, result.notes) == ("bgra", ())
        fails("video", tmp_path / "a.gif", tmp_path / "b.gif", says="gif writes palettes only")

    @pytest.mark.exhaustive
    def test_real_sound_comes_back_byte_by_byte(self, tmp_path):
        went(BUNNY, tmp_path / "b.mp4", preset="ultrafast", quality=35)
        assert packets(tmp_path / "b.mp4", "audio") == packets(BUNNY, "audio")
        assert times(tmp_path / "b.mp4") == times(BUNNY)


class TestLosses:
    """Whatever FFmpeg is silent about."""

    @pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".avi", ".y4m"])
    def test_cut_short(self, tmp_path, long, suffix):
        data = (long / f"a{suffix}").read_bytes()
        source, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
        source.write_bytes(data[: len(data) * 6 // 10])
        with pytest.raises(FileError, match=r"frames are missing|are damaged") as error:
            histeq.equalize_video(source, target)
        assert str(error.value).startswith(str(source))
        assert "\n" not in str(error.value)
        assert list(tmp_path.iterdir()) == [source]
        result = histeq.equalize_video(source, target, lenient=True)
        assert 0 < result.frames < 60
        assert result.lost > 0
        assert len(result.notes) == 1
        assert len(times(target)) == result.frames

    @pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".avi"])
    def test_bytes_overwritten(self, tmp_path, long, suffix):
        data = bytearray((long / f"a{suffix}").read_bytes())
        middle = len(data) // 2
        data[middle : middle + 4000] = os.urandom(4000)
        source = tmp_path / f"a{suffix}"
        source.write_bytes(data)
        with pytest.raises(FileError, match=r"missing|damaged|cannot be read"):
            histeq.equalize_video(source, tmp_path / "b.mkv")
        assert list(tmp_path.iterdir()) == [source]

    @pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".avi", ".y4m"])
    def test_no_false_alarm(self, tmp_path, long, suffix):
        assert histeq.equalize_video(long / f"a{suffix}", tmp_path / f"b{suffix}").lost == 0

    def test_frames_that_an_avi_repeats(self, tmp_path):
        """A capture that missed frames has empty chunks in their place, which announce frames, too."""

        def place(frame, index):
            frame.pts = (0, 1, 2, 8, 9, 20)[index]

        source = make(tmp_path / "a.avi", 6, "mpeg4", edit=place)
        with av.open(str(source)) as container:
            assert container.streams.video[0].frames == 21
        assert went(source, tmp_path / "b.avi").lost == 0
        np.testing.assert_array_equal(times(tmp_path / "b.avi"), times(source))

    def test_no_frames(self, tmp_path):
        with av.open(str(tmp_path / "a.mkv"), "w") as out:
            video = out.add_stream("ffv1", rate=25)
            video.width, video.height = 64, 48
            out.start_encoding()
        with pytest.raises(FileError, match=r"a\.mkv: (there are no frames|broken video|there is no video)"):
            histeq.equalize_video(tmp_path / "a.mkv", tmp_path / "b.mkv")
        assert [p.name for p in tmp_path.iterdir()] == ["a.mkv"]

    def test_another_size_in_the_middle(self, tmp_path):
        parts = [
            make(tmp_path / f"{i}.ts", 10, "libx264", size=size, container="mpegts").read_bytes()
            for i, size in enumerate([(48, 64), (64, 96)])
        ]
        source = tmp_path / "a.ts"
        source.write_bytes(b"".join(parts))
        with pytest.raises(FileError, match=r"it goes on with 96 x 64"):
            histeq.equalize_video(source, tmp_path / "b.ts")
        result = histeq.equalize_video(source, tmp_path / "b.ts", lenient=True)
        assert (result.width, result.height, result.frames) == (64, 48, 10)
        assert result.lost in (10, 11)

    def test_joined_streams_go_on(self, tmp_path):
        part = make(tmp_path / "0.ts", 30, "libx264", container="mpegts", audio=True).read_bytes()
        (tmp_path / "a.ts").write_bytes(part * 2)
        result = histeq.equalize_video(tmp_path / "a.ts", tmp_path / "b.mp4")
        found = [float(t) for t, _ in times(tmp_path / "b.mp4")]
        assert result.frames == len(found) == 60
        steps = np.diff(found)
        assert steps.min() > 0.03
        assert steps.max() < 0.2
        assert len(packets(tmp_path / "b.mp4", "audio")) == len(packets(tmp_path / "a.ts", "audio"))

    def test_times_that_are_missing(self, tmp_path):
        source = make(tmp_path / "a.h264", 12, "libx264", container="h264")
        histeq.equalize_video(source, tmp_path / "b.mp4")
        found = [t for t, _ in times(tmp_path / "b.mp4")]
        assert len(found) == 12
        assert len(set(np.diff(found))) == 1


class TestRefused:
    def test_not_a_video(self, tmp_path):
        (tmp_path / "a.mp4").write_text("no video at all" * 100)
        (tmp_path / "empty.mp4").touch()
        clip = make(tmp_path / "c.mkv", 3)
        fails("video", tmp_path / "a.mp4", tmp_path / "b.mp4", says="a.mp4: broken video file")
        fails("video", tmp_path / "empty.mp4", tmp_path / "b.mp4", says="the file is empty")
        fails("video", tmp_path / "none.mp4", tmp_path / "b.mp4", says="none.mp4: No such file")
        fails("video", clip, tmp_path / "b.txt", says="must end in one of .mp4")
        fails("video", clip, tmp_path / "no" / "b.mkv", says="No such file")
        fails("video", clip, clip, says="exists already; --overwrite replaces it")
        fails("video", clip, tmp_path / "b.mkv", "--stream", 1, says="it has one video stream")
        fails("video", clip, tmp_path / "b.mkv", "--codec", "nothing", says="no video encoder named nothing")
        fails("video", clip, tmp_path / "b.mp4", "--codec", "vp8", says="mp4 cannot hold vp8")
        fails("video", clip, tmp_path / "b.mkv", "--quality", 20, says="ffv1 takes no --quality")
        fails("video", clip, tmp_path / "b.mkv", "--rate", 20, says="rate is that of a sequence")
        fails("video", clip, tmp_path / "b.mkv", "--max-pixels", 100, says="more than --max-pixels 100")
        fails("video", clip, tmp_path / "b.mkv", "--roi", 0, 0, 500, 5, says="roi")
        fails("video", clip, says="OUT is missing", code=2)
        fails("video", clip, "-", "--json", says="--json prints to standard output", code=2)
        assert not list(tmp_path.glob("b.*")) + list(tmp_path.glob(".histeq*"))

    def test_a_picture(self, tmp_path):
        from PIL import Image

        Image.new("L", (64, 48)).save(tmp_path / "a.png")
        fails("video", tmp_path / "a.png", tmp_path / "b.mp4", says="a picture, no video")

    def test_sound_only(self, tmp_path):
        with av.open(str(tmp_path / "a.m4a"), "w", format="mp4") as out:
            clips._tone(out, out.add_stream("aac", rate=48000), 0.2)
        fails("video", tmp_path / "a.m4a", tmp_path / "b.mp4", says="there is no video in it")

    @pytest.mark.parametrize(("curve", "name"), [(16, "PQ"), (18, "HLG")])
    def test_hdr(self, tmp_path, curve, name):
        def setup(container, video):
            video.codec_context.color_trc = curve

        source = make(tmp_path / "a.mkv", 3, format="yuv420p10le", setup=setup)
        fails("video", source, tmp_path / "b.mkv", says=f"HDR footage ({name})")
        run("video", source, tmp_path / "b.mkv", "--hdr")
        with av.open(str(tmp_path / "b.mkv")) as container:
            assert container.streams.video[0].codec_context.color_trc == curve

    def test_what_a_container_cannot_hold_is_named_before_anything_is_encoded(self, tmp_path):
        source = make(tmp_path / "a.mkv", 5, "libx264", subtitles="subrip", audio=True)
        fails("video", source, tmp_path / "b.avi", says="avi cannot hold stream 2 (subtitle, srt)")
        run("video", source, tmp_path / "b.avi", "--drop", "subtitle", "--preset", "ultrafast")
        fails(
            "video",
            source,
            tmp_path / "b.webm",
            "--drop",
            "subtitle",
            says="webm cannot hold stream 1 (audio, aac)",
        )
        assert not (tmp_path / "b.webm").exists()

    def test_full_disk(self, tmp_path):
        import resource

        source = make(tmp_path / "a.mkv", 40)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        try:
            with pytest.raises(FileError, match=r"b.mkv: cannot write it: File too large"):
                histeq.equalize_video(source, tmp_path / "b.mkv")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert list(tmp_path.iterdir()) == [source]

    @pytest.mark.parametrize("method", ["write", "finish"])
    def test_an_interrupt_leaves_nothing(self, tmp_path, monkeypatch, method):
        from histeq._video.sink import Sink

        def interrupted(*_):
            raise KeyboardInterrupt

        source = make(tmp_path / "a.mkv")
        (tmp_path / "b.mkv").write_bytes(b"before")
        monkeypatch.setattr(Sink, method, interrupted)
        with pytest.raises(KeyboardInterrupt):
            went(source, tmp_path / "b.mkv")
        assert (tmp_path / "b.mkv").read_bytes() == b"before"
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mkv", "b.mkv"]

    def test_wrong_arguments(self, tmp_path):
        source = make(tmp_path / "a.mkv", 3)
        for wrong, says in [
            ({"window": 0}, "window"), ({"strength": 2}, "strength"), ({"method": "x"}, "method"),
            ({"drop": "x"}, "drop"), ({"rate": -1}, "rate"), ({"rule": "skimage"}, "rule"),
            ({"stream": -1}, "stream"),
        ]:  # fmt: skip
            with pytest.raises(ValueError, match=says):
                histeq.equalize_video(source, tmp_path / "b.mkv", **wrong)


class TestFiles:
    def test_in_place(self, tmp_path):
        source = make(tmp_path / "a.mkv", 5)
        whole = expected(source)
        went(source, source)
        np.testing.assert_array_equal(lumas(source), whole)

    @pytest.mark.parametrize("name", ["a:b.mkv", "-x.mkv", "http:x.mkv", "ü %05d.mkv", "a[1].mkv"])
    def test_odd_names(self, tmp_path, name):
        source = tmp_path / name
        source.write_bytes(make(tmp_path / "plain.mkv", 3).read_bytes())
        histeq.equalize_video(source, tmp_path / "out.mkv")
        assert len(lumas(tmp_path / "out.mkv")) == 3

    def test_open_files(self, tmp_path):
        source = make(tmp_path / "a.mkv", 5)
        with source.open("rb") as reader, (tmp_path / "b.nut").open("wb") as writer:
            result = histeq.equalize_video(reader, writer)
        assert result.codec == "rawvideo"
        np.testing.assert_array_equal(lumas(tmp_path / "b.nut"), expected(source))

    def test_causal_pipes_do_not_wait(self, tmp_path):
        """Who sends frames by a pipe gets each before it sends many more."""
        source = make(tmp_path / "a.y4m", 12, "wrapped_avframe", size=(256, 256), container="yuv4mpegpipe")
        written, behind, frame = BytesIO(), [], 256 * 384

        class Pipe:
            file = BytesIO(source.read_bytes())

            def read(self, size):
                behind.append(self.file.tell() - written.tell())
                return self.file.read(size)

        histeq.equalize_video(Pipe(), written, centered=False)
        assert max(behind) < 3 * frame

    def test_pipes_that_end_early(self, tmp_path):
        """A pipe does not say how long it is to be, but how much of it was read."""
        source = make(tmp_path / "a.y4m", 6, "wrapped_avframe", container="yuv4mpegpipe")
        data = source.read_bytes()
        for length, lost in ((len(data), 0), (len(data) - 100, 1)):

            class Pipe:
                read = BytesIO(data[:length]).read

            result = histeq.equalize_video(Pipe(), tmp_path / "b.mkv", lenient=True, overwrite=True)
            assert (result.frames, result.lost) == (6 - lost, lost)

    def test_progress_and_result(self, tmp_path):
        seen = []
        source = make(tmp_path / "a.mkv", 30, cuts=(12,))
        result = histeq.equalize_video(source, tmp_path / "b.mkv", progress=lambda *at: seen.append(at))
        assert seen == [(i + 1, 30) for i in range(30)]
        assert result.cuts == (12,)
        assert pickle.loads(pickle.dumps(result)) == result

    def test_json(self, tmp_path):
        source = make(tmp_path / "a.mkv", 5)
        (entry,) = json.loads(run("video", source, tmp_path / "b.mkv", "--json").stdout)
        assert (entry["frames"], entry["codec"], entry["lost"], entry["notes"]) == (5, "ffv1", 0, [])

    def test_pipes(self, tmp_path):
        source = make(tmp_path / "a.y4m", 8, "wrapped_avframe", container="yuv4mpegpipe")
        command = [sys.executable, "-m", "histeq", "video", "-", "-"]
        done = subprocess.run(
            command, input=source.read_bytes(), capture_output=True, timeout=120, check=True
        )
        assert done.stderr == b""
        assert done.stdout.startswith(b"YUV4MPEG2")
        (tmp_path / "b.y4m").write_bytes(done.stdout)
        np.testing.assert_array_equal(lumas(tmp_path / "b.y4m"), expected(source))

    def test_importing_histeq_loads_no_av(self):
        code = "import sys, histeq; histeq.equalize; assert 'av' not in sys.modules; print('ok')"
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "ok\n"

    def test_without_av(self, tmp_path, monkeypatch):
        source = make(tmp_path / "a.mkv", 3)
        monkeypatch.setitem(sys.modules, "av", None)
        fails("video", source, tmp_path / "b.mkv", says='pip install "histeq[video]"')


class TestSequences:
    def images(self, folder, suffix=".tif", shape=(48, 64), dtype="uint16"):
        import tifffile

        folder.mkdir()
        rng = np.random.default_rng(0)
        frames = [(rng.random(shape) * 3000 + 40 * i).astype(dtype) for i in range(12)]
        for index, pixels in enumerate(frames):
            tifffile.imwrite(folder / f"img{index}{suffix}", pixels, resolution=(300, 300),
                             software=f"no {index}",
                             photometric="rgb" if len(shape) == 3 else "minisblack")  # fmt: skip
        return np.array(frames)

    @pytest.mark.parametrize("shape", [(48, 64), (48, 64, 3)])
    def test_a_folder_keeps_names_depth_and_metadata(self, tmp_path, shape):
        import tifffile

        frames = self.images(tmp_path / "in", shape=shape)
        result = histeq.equalize_video(tmp_path / "in", tmp_path / "out/")
        assert result.frames == 12
        layout = {"layout": "HWC"} if len(shape) == 3 else {}
        whole = list(histeq.Equalizer(centered=True, **layout).frames(list(frames)))
        for index in range(12):
            with tifffile.TiffFile(tmp_path / "out" / f"img{index}.tif") as file:
                np.testing.assert_array_equal(file.asarray(), whole[index])
                assert file.pages[0].tags["Software"].value == f"no {index}"
                assert file.pages[0].tags["XResolution"].value == (300, 1)

    @pytest.mark.parametrize("pattern", ["img*.tif", "img%d.tif"])
    def test_patterns(self, tmp_path, pattern):
        self.images(tmp_path / "in")
        run("video", tmp_path / "in" / pattern, tmp_path / "out" / "f%03d.png")
        assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"f{i:03}.png" for i in range(12)]
        fails("video", tmp_path / "in" / pattern, tmp_path / "out" / "f%03d.png", says="exists already")
        fails("video", tmp_path / "in" / "no*.tif", tmp_path / "out2/", says="there are no images")

    def test_a_video_becomes_images_and_images_a_video(self, tmp_path):
        source = make(tmp_path / "a.mkv", 6)
        run("video", source, f"{tmp_path}/frames/", "--strength", 0)
        assert len(list((tmp_path / "frames").iterdir())) == 6
        run("video", tmp_path / "frames", tmp_path / "b.mp4", "--rate", "30000/1001", "--strength", 0)
        with av.open(str(tmp_path / "b.mp4")) as container:
            video = container.streams.video[0]
            assert (video.average_rate, video.format.name) == (Fraction(30000, 1001), "yuv420p")
        close = np.abs(lumas(tmp_path / "b.mp4").astype(int) - lumas(source))
        assert close.mean() < 8

    def test_one_that_differs_is_named(self, tmp_path):
        import tifffile

        self.images(tmp_path / "in")
        tifffile.imwrite(tmp_path / "in" / "img7.tif", np.zeros((10, 10), np.uint16))
        fails("video", tmp_path / "in", f"{tmp_path}/out/", says="img7.tif: it has 10 x 10 uint16")
        assert [p.name for p in tmp_path.iterdir()] == ["in"]


class TestPreview:
    def test_a_picture_of_a_video(self, tmp_path):
        from PIL import Image

        source = make(tmp_path / "a.mkv", 30, cuts=(11,))
        run("video", source, "--preview", tmp_path / "a.png")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mkv", "a.png"]
        with Image.open(tmp_path / "a.png") as picture:
            assert picture.width == 1440
            colors = np.asarray(picture.convert("RGB"), int)
        blue = (colors[..., 2] - colors[..., 0] > 100) & (colors[..., 1] > 80)
        lines = np.flatnonzero(blue.sum(axis=0) > 300)
        assert lines.size  # of the cut, in three panels
        assert abs(lines.mean() / 1440 - (0.04 + 0.95 * 11 / 30)) < 0.03
        fails("video", source, "--preview", tmp_path / "a.png", says="a.png: exists already")
        fails("video", source, "--preview", tmp_path / "a.jpg", says="must end in .png", code=2)
        run("video", source, tmp_path / "b.mkv", "--preview", tmp_path / "a.png", "--overwrite")
        np.testing.assert_array_equal(lumas(tmp_path / "b.mkv"), expected(source))

    @pytest.mark.parametrize("format", ["gray10le", "bgr0"])
    def test_of_other_pixels(self, tmp_path, format):
        source = make(tmp_path / "a.mkv", 3, format=format)
        run("video", source, "--preview", tmp_path / "a.svg", "--method", "clahe")

    def test_memory_is_bounded(self):
        from histeq._video.preview import _COLUMNS, Series

        series = Series()
        for value in range(5 * _COLUMNS):
            series.add(np.array([value, np.nan]))
        found = series.array()
        assert len(found) <= _COLUMNS
        np.testing.assert_allclose(found[:3, 0], (np.arange(3) + 0.5) * series.step - 0.5)
        assert np.isnan(found[:, 1]).all()


class TestRealClips:
    def test_exactly_the_cuts_of_bikes(self, tmp_path):
        result = histeq.equalize_video(BIKES, tmp_path / "b.mp4", preset="ultrafast", quality=35)
        assert result.cuts == (30, 76, 137, 187, 242)
        assert result.frames == 250

    @pytest.mark.exhaustive
    def test_flicker_and_the_frames_after_cuts(self, tmp_path):
        went(BIKES, tmp_path / "b.nut", codec="rawvideo")
        before, after = lumas(BIKES), lumas(tmp_path / "b.nut")
        alone = (histeq.equalize(frame, value_range=LIMITED) for frame in before)
        assert histeq.flicker(before, after).mean <= 0.72 * histeq.flicker(before, alone).mean
        ends = (30, 76, 137, 187, 242, 250)
        for begin, end in itertools.pairwise(ends):
            shot = histeq.Equalizer(centered=True, value_range=LIMITED, cuts=False)
            np.testing.assert_array_equal(after[begin], next(shot.frames(before[begin:end])))

    @pytest.mark.exhaustive
    def test_no_cut_in_others(self, tmp_path):
        for path in (BUNNY, PHONE):
            assert (
                histeq.equalize_video(
                    path, tmp_path / f"{path.stem}.mp4", preset="ultrafast", quality=35
                ).cuts
                == ()
            )
