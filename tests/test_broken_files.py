"""Files whose pixels are in part missing or wrong: an error, or leniently what is left and a warning."""

import io
import random
import struct
import sys
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from click.testing import CliRunner
from fuzz_files import fuzz, judged, picture, samples, write_mutant
from PIL import Image

import histeq
from histeq._cli import cli
from histeq._files import FileError, jpeg, opened
from histeq._files.blocks import Damage, Window

GREY = picture(120, 100)
RGB = picture(120, 100, 3)
RANDOM = np.random.default_rng(2)

has_fax = pytest.mark.skipif(
    not hasattr(imagecodecs, "ccittfax4_decode"), reason="an imagecodecs that refuses faxes"
)


def read_leniently(path):
    """Return the pixels, and what is said of the damage."""
    with opened(path, lenient=True) as source:
        header = source.header
        return source.read(Window(0, 0, 0, header.height, header.width)), " ".join(source.damage.notes)


def check(path, says, warns, same):
    """Check that a file is refused, that nothing is lost by that, and what is read of it leniently.

    `same` is how many rows at least are those of the sound file, which `warns` of the others.
    """
    target = path.with_name("out.npy")
    target.write_bytes(b"old")
    with pytest.raises(FileError, match=says):
        histeq.equalize_file(path, target, overwrite=True, backend="numpy")
    assert target.read_bytes() == b"old"
    result = histeq.equalize_file(path, target, overwrite=True, backend="numpy", lenient=True)
    (note,) = result.damage
    assert warns in note
    pixels, again = read_leniently(path)
    assert again == note
    np.testing.assert_array_equal(
        np.load(target), histeq.equalize(pixels, backend="numpy", layout="HWC"[: pixels.ndim])
    )
    sound = GREY if pixels.ndim == 2 else RGB
    equal = (pixels == sound).reshape(len(sound), -1).all(axis=1)
    assert same <= equal.sum() < len(sound)
    return pixels


def saved(path, pixels, kind, **options):
    Image.fromarray(pixels).save(path, kind, **options)
    return path.read_bytes()


class TestJpeg:
    def data(self, pixels=RGB, **options):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=90, **options)
        return file.getvalue()

    @pytest.mark.parametrize("pixels", [GREY, RGB])
    @pytest.mark.parametrize("progressive", [False, True])
    def test_the_pixels_are_pillows(self, tmp_path, pixels, progressive):
        data = self.data(pixels, progressive=progressive)
        (tmp_path / "a.jpg").write_bytes(data)
        found, note = read_leniently(tmp_path / "a.jpg")
        np.testing.assert_array_equal(found, np.asarray(Image.open(io.BytesIO(data))))
        assert not note

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (lambda data: data[: len(data) // 2], "[Pp]remature end|truncated"),
            (lambda data: data[: len(data) // 2] + data[len(data) // 2 + 200 :], "premature end"),
            (lambda data: data[: len(data) // 2] + b"\xff\xd9", "premature end|Premature"),
            (lambda data: data[:-900] + b"\xfe" * 300 + data[-600:], "bad Huffman|premature|extraneous"),
        ],
    )
    def test_damage(self, tmp_path, change, says):
        pytest.importorskip("simplejpeg")
        data = self.data()
        (tmp_path / "a.jpg").write_bytes(change(data))
        with pytest.raises(FileError, match=rf"broken JPEG file: .*({says}).*; --lenient keeps"):
            histeq.equalize_file(tmp_path / "a.jpg", tmp_path / "b.npy")
        found, note = read_leniently(tmp_path / "a.jpg")
        assert note
        equal = (found == np.asarray(Image.open(io.BytesIO(data)))).all(axis=(1, 2))
        assert 40 <= equal.sum() < len(equal)

    def test_what_cameras_leave_before_metadata_is_no_damage(self, tmp_path):
        data = self.data(exif=Image.Exif().tobytes(), comment=b"a comment")
        place = data.index(b"\xff\xfe")
        (tmp_path / "a.jpg").write_bytes(data[:place] + b"\0" * 11 + data[place:])
        found, note = read_leniently(tmp_path / "a.jpg")
        assert not note
        np.testing.assert_array_equal(found, np.asarray(Image.open(io.BytesIO(data))))
        assert jpeg.clean(data) == data

    def test_without_simplejpeg_what_is_cut_short_is_noticed(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "simplejpeg", None)
        data = self.data()
        (tmp_path / "a.jpg").write_bytes(data)
        np.testing.assert_array_equal(
            read_leniently(tmp_path / "a.jpg")[0], np.asarray(Image.open(io.BytesIO(data)))
        )
        (tmp_path / "a.jpg").write_bytes(data[:-500])
        with pytest.raises(FileError, match="truncated"):
            histeq.equalize_file(tmp_path / "a.jpg", tmp_path / "b.npy")

    def test_in_tiff(self, tmp_path):
        pytest.importorskip("simplejpeg")
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, GREY, compression="jpeg", tile=(64, 64), metadata=None)
        with tifffile.TiffFile(path) as file:
            offset, count = file.pages[0].dataoffsets[1], file.pages[0].databytecounts[1]
        data = bytearray(path.read_bytes())
        start = offset + count // 3
        data[start : start + 2] = b"\xff\xd9"
        path.write_bytes(data)
        with pytest.raises(FileError, match="Corrupt JPEG data"):
            histeq.equalize_file(path, tmp_path / "b.npy")
        found, note = read_leniently(path)
        assert note.startswith("1 of its 4 blocks are damaged, the first one found: Corrupt JPEG data")
        assert (abs(found.astype(int) - GREY)[:64, :64] < 30).all()


class TestPng:
    def chunks(self, data):
        position = 8
        while position < len(data):
            size, name = struct.unpack_from(">I4s", data, position)
            yield name, data[position + 8 : position + 8 + size]
            position += 12 + size

    def with_pixels(self, data, change):
        """Change the compressed pixels; the checksum is right."""
        parts = [data[:8]]
        for name, body in self.chunks(data):
            body = change(body) if name == b"IDAT" else body
            parts.append(
                struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
            )
        return b"".join(parts)

    @pytest.mark.parametrize("interlaced", [False, True])
    @pytest.mark.parametrize("pixels", [GREY, RGB])
    def test_pixels_that_end_early(self, tmp_path, pixels, interlaced):
        path = tmp_path / "a.png"
        data = imagecodecs.png_encode(pixels)
        if interlaced:
            import pyvips

            data = pyvips.Image.new_from_array(pixels).pngsave_buffer(interlace=True)
        path.write_bytes(self.with_pixels(data, lambda body: body[: len(body) * 3 // 4]))
        check(path, "broken PNG file", "% of its pixels are missing", 0 if interlaced else 30)

    def test_a_file_that_ends_early(self, tmp_path):
        path = tmp_path / "a.png"
        path.write_bytes(imagecodecs.png_encode(GREY)[:-4000])
        check(path, "the file is truncated", "the file is truncated; ", 30)

    def test_a_checksum(self, tmp_path):
        """The pixels may be right, and are taken."""
        path = tmp_path / "a.png"
        data = bytearray(imagecodecs.png_encode(GREY))
        data[-16:-12] = b"\0\0\0\0"
        path.write_bytes(data)
        with pytest.raises(FileError, match="checksum of its IDAT chunk is wrong; --lenient"):
            histeq.equalize_file(path, tmp_path / "b.npy")
        found, note = read_leniently(path)
        assert note == "the checksum of its IDAT chunk is wrong; IDAT: CRC error"
        np.testing.assert_array_equal(found, GREY)

    @pytest.mark.parametrize("end", [7, 20, 30])
    def test_nothing_to_keep(self, tmp_path, end):
        path = tmp_path / "a.png"
        path.write_bytes(imagecodecs.png_encode(GREY)[:end])
        with pytest.raises(FileError):
            histeq.equalize_file(path, tmp_path / "b.npy", lenient=True)
        assert not (tmp_path / "b.npy").exists()


def test_bmp(tmp_path):
    path = tmp_path / "a.bmp"
    path.write_bytes(saved(path, RGB, "BMP")[:-9000])
    pixels = check(path, "truncated", "truncated", 80)
    assert not pixels[0].any()  # from the bottom to the top


def test_webp(tmp_path):
    """Nothing can be decoded of it."""
    path = tmp_path / "a.webp"
    path.write_bytes(saved(path, RGB, "WEBP", lossless=True)[:-900])
    for lenient in (False, True):
        with pytest.raises(FileError, match="broken WebP file"):
            histeq.equalize_file(path, tmp_path / "b.npy", lenient=lenient)


def test_npy(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, GREY)
    path.write_bytes(path.read_bytes()[:-1050])
    pixels = check(path, "has 10950 of 12000 bytes", "has 10950 of 12000 bytes", 109)
    assert not pixels[-10:].any()


@pytest.mark.parametrize("compressed", [False, True])
def test_zarr(tmp_path, compressed):
    path = tmp_path / "a.zarr"
    options = {} if compressed else {"compressors": None}
    array = zarr.create_array(path, shape=GREY.shape, chunks=(50, 40), dtype="u1", fill_value=7, **options)
    array[...] = GREY
    chunk = path / "c" / "1" / "2"
    chunk.write_bytes(chunk.read_bytes()[:-3])
    pixels = check(path, "broken Zarr file", "1 of its 9 blocks are damaged", 70)
    assert (pixels[50:100, 80:] == 7).all()
    assert (pixels[50:100, :80] == GREY[50:100, :80]).all()


class TestTiff:
    """Blocks of every codec, of which something is missing."""

    def written(self, path, pixels=GREY, **options):
        tifffile.imwrite(path, pixels, metadata=None, **options)
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            counts = page.tags[325 if page.is_tiled else 279]
            offsets = page.tags[324 if page.is_tiled else 273]
            where = counts.valueoffset, {3: "<H", 4: "<I"}[int(counts.dtype)], offsets.valueoffset
            return where, page.dataoffsets, page.databytecounts

    @pytest.mark.parametrize(
        ("options", "same"),
        [
            ({"rowsperstrip": 40, "compression": "zlib", "predictor": True}, 80),
            ({"tile": (32, 32), "compression": "zlib"}, 88),
            ({"rowsperstrip": 40, "compression": "lzw"}, 90),
            ({"rowsperstrip": 40, "compression": "packbits"}, 90),
            ({"rowsperstrip": 40, "compression": "lzma"}, 80),
            ({"rowsperstrip": 40, "compression": "zstd"}, 80),
            ({"rowsperstrip": 40}, 90),
            ({"tile": (32, 32)}, 88),
            ({}, 55),
        ],
    )
    def test_a_block_that_ends_early(self, tmp_path, options, same):
        path = tmp_path / "a.tif"
        (position, kind, _), _, counts = self.written(path, **options)
        number = min(1, len(counts) - 1)
        data = bytearray(path.read_bytes())
        struct.pack_into(kind, data, position + number * struct.calcsize(kind), counts[number] // 2)
        path.write_bytes(data)
        blocks = f"1 of its {len(counts)} blocks are damaged" if len(counts) > 1 else "block"
        check(path, "broken TIFF file: .*; --lenient keeps", blocks, same)

    def test_a_file_that_ends_early(self, tmp_path):
        path = tmp_path / "a.tif"
        self.written(path, rowsperstrip=40)
        path.write_bytes(path.read_bytes()[:-5000])
        pixels = check(
            path, "truncated", "2 of its 3 blocks are damaged, the first one found: the file is", 70
        )
        assert not pixels[-40:].any()

    def test_counts_of_nothing(self, tmp_path):
        """Only where the offset is 0 as well is a block absent: GDAL's sparse files."""
        path = tmp_path / "a.tif"
        (position, kind, offset), _, _ = self.written(path, tile=(32, 32), compression="zlib")
        data = bytearray(path.read_bytes())
        struct.pack_into(kind, data, position, 0)
        path.write_bytes(data)
        check(path, "a block without data", "1 of its 16 blocks are damaged", 88)
        struct.pack_into("<I", data, offset, 0)
        path.write_bytes(data)
        pixels, note = read_leniently(path)
        assert not note
        assert not pixels[:32, :32].any()

    @has_fax
    @pytest.mark.parametrize("codec", ["group3", "group4", "tiff_ccitt"])
    @pytest.mark.parametrize("name", ["white", "black", "half white", "text", "noise", "bars"])
    def test_sound_faxes(self, tmp_path, codec, name):
        import skimage.data

        pixels = {
            "white": np.ones((700, 500), bool),
            "black": np.zeros((700, 500), bool),
            "half white": np.arange(700)[:, None] * np.ones(500) < 100 * RANDOM.random(500),
            "text": skimage.data.page() > 100,
            "noise": RANDOM.random((200, 300)) > 0.5,
            "bars": np.zeros((400, 300), bool) | (np.arange(300) % 30 > 5),
        }[name]
        for strip in (pixels.shape[1] // 8 * 37, 1 << 20):
            Image.fromarray(pixels).save(tmp_path / "a.tif", compression=codec, strip_size=strip)
            found, _ = read_leniently(tmp_path / "a.tif")
            histeq.equalize_file(tmp_path / "a.tif", tmp_path / "b.npy", overwrite=True)
            np.testing.assert_array_equal(found > 0, pixels)

    @has_fax
    @pytest.mark.parametrize("codec", ["group3", "group4", "tiff_ccitt"])
    @pytest.mark.parametrize("how", ["half", "wrong"])
    def test_fax(self, tmp_path, codec, how):
        path = tmp_path / "a.tif"
        bilevel = Image.fromarray(GREY > 128)
        bilevel.save(path, compression=codec, strip_size=100 // 8 * 40)
        with opened(path) as source:
            sound = source.read(Window(0, 0, 0, 120, 100))
        np.testing.assert_array_equal(sound > 0, np.asarray(bilevel))
        with tifffile.TiffFile(path) as file:
            tag, offset = file.pages[0].tags[279], file.pages[0].dataoffsets[1]
            count, kind = (
                file.pages[0].databytecounts[1],
                {3: "<H", 4: "<I"}[int(file.pages[0].tags[279].dtype)],
            )
        data = bytearray(path.read_bytes())
        if how == "half":
            struct.pack_into(kind, data, tag.valueoffset + struct.calcsize(kind), count // 2)
        elif codec == "group4":
            data[offset + 9 : offset + 14] = bytes(5)
        path.write_bytes(data)
        if how == "wrong" and codec != "group4":
            return
        with pytest.raises(
            FileError, match=r"broken TIFF file: (a block has|the data of a block ends|.*CCITT)"
        ):
            histeq.equalize_file(path, tmp_path / "b.npy")
        pixels, note = read_leniently(path)
        assert "blocks are damaged" in note
        assert (pixels == sound).all(axis=1).sum() >= 75


def test_the_command_line(tmp_path):
    """One warning a file, which --json lists, too."""
    np.save(tmp_path / "a.npy", GREY)
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-50])
    arguments = ["equalize", str(tmp_path / "a.npy"), str(tmp_path / "b.npy"), "--json"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 1
    assert not (tmp_path / "b.npy").exists()
    result = CliRunner().invoke(cli, [*arguments, "--lenient"])
    assert result.exit_code == 0
    says = "the file is truncated: it has 11950 of 12000 bytes of pixels"
    assert result.stderr == f"histeq: warning: {tmp_path / 'a.npy'}: {says}\n"
    assert '"damage": [' in result.stdout


def test_damage_of_a_reference_and_of_files_counted_together(tmp_path):
    for name in ("a.npy", "b.npy"):
        np.save(tmp_path / name, GREY)
    (tmp_path / "b.npy").write_bytes((tmp_path / "b.npy").read_bytes()[:-50])
    first, second = tmp_path / "a.npy", tmp_path / "b.npy"
    with pytest.raises(FileError, match=r"b\.npy: broken NPY"):
        histeq.match_file(first, second, tmp_path / "c.npy")
    result = histeq.match_file(first, second, tmp_path / "c.npy", lenient=True)
    assert result.damage[0].startswith(f"{second}: the file is truncated")
    with pytest.raises(FileError, match=r"b\.npy: broken NPY"):
        histeq.equalize_file([first, second], [tmp_path / "d.npy", tmp_path / "e.npy"])
    results = histeq.equalize_file([first, second], [tmp_path / "d.npy", tmp_path / "e.npy"], lenient=True)
    assert [len(each.damage) for each in results] == [0, 1]


def test_damage_is_told_once_a_part():
    damage = Damage(lenient=True)
    damage.parts = 4
    for part in (1, 2, 1):
        damage.found(f"bad {part}.", part)
    assert damage.notes == ("2 of its 4 blocks are damaged, the first one found: bad 1",)
    with pytest.raises(ValueError, match="bad; --lenient keeps"):
        Damage().found("bad")


def test_mutants(tmp_path):
    """A sample of what `python tests/fuzz_files.py` makes."""
    sound = samples()
    names = sorted(sound)
    for number in range(2 * len(names)):
        name = names[number % len(names)]
        folder = tmp_path / str(number)
        folder.mkdir()
        path = write_mutant(folder, name, sound[name], random.Random(f"1 {number}"))
        _, wrong = judged(path, name, folder, most=1 << 40)
        assert wrong is None, (number, name, wrong)


@pytest.mark.exhaustive
def test_many_mutants():
    outcomes, failed = fuzz(5000, seed=1, jobs=2)
    assert not failed
    assert min(outcomes[name] for name in ("success", "refused", "kept with a warning")) > 500
