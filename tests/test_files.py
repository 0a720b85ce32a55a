"""Files: what comes in goes out again, and what cannot be read or written is refused in one line."""

import os
import random
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import skimage
import tifffile
from PIL import Image

from histeq import _files
from histeq._files import FileError, Picture, read, write

DATA = Path(skimage.__file__).parent / "data"
PROFILE = b"not a real profile, but bytes that must arrive " * 9
RANDOM = np.random.default_rng(1)
SUFFIXES = (".png", ".jpg", ".webp", ".bmp", ".tif")


def noise(*shape, dtype="uint8"):
    if np.dtype(dtype).kind == "f":
        return RANDOM.random(shape).astype(dtype)
    limits = np.iinfo(dtype)
    return RANDOM.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def smooth(*shape):
    """Return something that JPEG does not change much."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    planes = [(y * 2 + x * (i + 1)) % 200 for i in range(shape[2] if len(shape) > 2 else 1)]
    return np.stack(planes, -1).astype(np.uint8).reshape(shape)


def exif_block(orientation=6):
    exif = Image.Exif()
    exif[274] = orientation
    exif[271] = "a camera"
    return exif.tobytes()


def round_trip(path, change=lambda pixels: np.flip(pixels, -2)):
    """Read, change the pixels, write beside; return both pictures as read."""
    picture = read(path)
    target = path.with_name("out" + path.suffix)
    write(replace(picture, pixels=change(picture.pixels)), target)
    again = read(target)
    assert (again.layout, again.alpha) == (picture.layout, picture.alpha)
    assert again.pixels.dtype == picture.pixels.dtype
    if path.suffix != ".jpg":
        np.testing.assert_array_equal(again.pixels, change(picture.pixels))
    assert sorted(p.name for p in path.parent.iterdir()) == sorted({path.name, target.name})
    return picture, again, target


class TestPng:
    @pytest.mark.parametrize("dtype", ["uint8", "uint16"])
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_depths_and_channels(self, tmp_path, dtype, channels):
        pixels = noise(*((9, 13) if channels == 1 else (9, 13, channels)), dtype=dtype)
        (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(pixels))
        picture, _, _ = round_trip(tmp_path / "a.png")
        np.testing.assert_array_equal(picture.pixels, pixels)
        assert picture.alpha == (channels in (2, 4))
        assert picture.layout == ("HW" if channels == 1 else "HWC")

    def test_metadata(self, tmp_path):
        from PIL.PngImagePlugin import PngInfo

        texts = PngInfo()
        texts.add_text("Author", "someone")
        texts.add_itxt("Title", "Ünïcode")
        Image.fromarray(noise(9, 13, 3)).save(
            tmp_path / "a.png", icc_profile=PROFILE, exif=exif_block(), dpi=(300, 150), pnginfo=texts
        )
        picture, again, target = round_trip(tmp_path / "a.png")
        assert picture.orientation == 6
        assert picture.dpi == pytest.approx((300, 150), abs=0.02)
        with Image.open(target) as image:
            assert image.info["icc_profile"] == PROFILE
            assert image.getexif()[274] == 6
            assert image.info["dpi"] == pytest.approx((300, 150), abs=0.02)
            assert (image.info["Author"], image.info["Title"]) == ("someone", "Ünïcode")
        assert (again.icc, again.exif) == (picture.icc, picture.exif) == (PROFILE, exif_block()[6:])

    def test_metadata_of_16_bits(self, tmp_path):
        source = Picture(
            noise(5, 6, 4, dtype="uint16"), "HWC", "BMP", alpha=True, icc=PROFILE, exif=exif_block()[6:]
        )
        write(source, tmp_path / "a.png")
        _, again, _ = round_trip(tmp_path / "a.png")
        assert (again.icc, again.orientation) == (PROFILE, 6)

    def test_old_transparency_and_broken_chunks_are_left(self, tmp_path):
        Image.fromarray(noise(9, 13)).save(tmp_path / "a.png", transparency=7, dpi=(99, 99))
        data = (tmp_path / "a.png").read_bytes()
        position = data.index(b"pHYs")
        (tmp_path / "a.png").write_bytes(data[: position + 5] + b"?" + data[position + 6 :])
        picture, _, target = round_trip(tmp_path / "a.png")
        assert picture.alpha
        assert picture.channels == 2
        assert picture.dpi is None
        assert b"tRNS" not in target.read_bytes()
        assert b"pHYs" not in target.read_bytes()

    def test_checksum_of_the_pixels(self, tmp_path):
        data = bytearray(imagecodecs.png_encode(noise(9, 13)))
        data[-16:-12] = b"\0\0\0\0"  # of the last IDAT, which libpng does not look at
        (tmp_path / "a.png").write_bytes(data)
        with pytest.raises(FileError, match="checksum of its IDAT chunk"):
            read(tmp_path / "a.png")

    @pytest.mark.parametrize("transparency", [None, 3])
    @pytest.mark.parametrize("bits", [4, 8])
    def test_palette(self, tmp_path, transparency, bits):
        image = Image.fromarray(smooth(20, 30, 3)).quantize(1 << bits)
        options = {} if transparency is None else {"transparency": transparency}
        image.save(tmp_path / "a.png", bits=bits, **options)
        picture, _, _ = round_trip(tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as image:
            expected = np.asarray(image.convert("RGBA" if options else "RGB"))
        np.testing.assert_array_equal(picture.pixels, expected)
        assert picture.alpha == bool(options)

    @pytest.mark.parametrize("bits", [1, 2, 4])
    def test_few_bits(self, tmp_path, bits):
        rows = np.zeros((2, 9), np.uint8)
        rows[:, 1:] = np.packbits(np.tile([0, 1], 32)).reshape(-1)[:8]
        header = struct.pack(">IIBBBBB", 64 // bits, 2, bits, 0, 0, 0, 0)
        body = b"".join(
            struct.pack(">I4s", len(part), name)
            + part
            + struct.pack(">I", zlib.crc32(part, zlib.crc32(name)))
            for name, part in ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b""))
        )
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
        picture, _, _ = round_trip(tmp_path / "a.png")
        assert set(np.unique(picture.pixels)) <= {0, 255, 85, 170}


class TestJpeg:
    @pytest.mark.parametrize("subsampling", [0, 1, 2])
    def test_tables_and_metadata(self, tmp_path, subsampling):
        Image.fromarray(smooth(40, 64, 3)).save(
            tmp_path / "a.jpg",
            quality=71,
            subsampling=subsampling,
            progressive=True,
            icc_profile=PROFILE,
            exif=exif_block(),
            dpi=(240, 240),
            comment=b"a word",
        )
        picture, again, _ = round_trip(tmp_path / "a.jpg")
        assert again.keep == picture.keep
        assert picture.keep["subsampling"] == subsampling
        assert (again.icc, again.exif, again.orientation) == (PROFILE, picture.exif, 6)
        assert again.dpi == (240, 240)

    def test_grey(self, tmp_path):
        Image.fromarray(smooth(40, 64)).save(tmp_path / "a.jpg", quality=90)
        picture, again, _ = round_trip(tmp_path / "a.jpg", change=lambda pixels: pixels)
        assert again.layout == "HW"
        assert again.keep["qtables"] == picture.keep["qtables"]
        assert np.abs(again.pixels.astype(int) - picture.pixels).max() <= 3

    def test_quality(self, tmp_path):
        Image.fromarray(noise(40, 64, 3)).save(tmp_path / "a.jpg", quality=71)
        picture = read(tmp_path / "a.jpg")
        write(picture, tmp_path / "low.jpg", quality=5)
        write(picture, tmp_path / "high.jpg", quality=99)
        sizes = [(tmp_path / f"{name}.jpg").stat().st_size for name in ("low", "a", "high")]
        assert sizes == sorted(sizes)


class TestWebpAndBmp:
    @pytest.mark.parametrize("channels", [3, 4])
    def test_lossless_stays_lossless(self, tmp_path, channels):
        Image.fromarray(noise(40, 64, channels)).save(
            tmp_path / "a.webp", lossless=True, exact=True, icc_profile=PROFILE, exif=exif_block()
        )
        _, again, _ = round_trip(tmp_path / "a.webp")
        assert (again.icc, again.orientation, again.keep["lossless"]) == (PROFILE, 6, True)

    @pytest.mark.parametrize("exif", [b"", exif_block()])
    def test_lossy_stays_lossy(self, tmp_path, exif):
        Image.fromarray(smooth(40, 64, 3)).save(tmp_path / "a.webp", quality=80, exif=exif)
        picture = read(tmp_path / "a.webp")
        write(picture, tmp_path / "b.webp")
        again = read(tmp_path / "b.webp")
        assert picture.keep == again.keep == {"lossless": False}
        assert again.orientation == (6 if exif else 1)

    @pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
    def test_bmp(self, tmp_path, mode):
        image = Image.fromarray(smooth(20, 31, 3)).convert(mode)
        image.save(tmp_path / "a.bmp", dpi=(96, 96))
        picture, again, _ = round_trip(tmp_path / "a.bmp")
        np.testing.assert_array_equal(
            picture.pixels, np.asarray(image.convert("L" if mode in "1L" else "RGB"))
        )
        assert again.dpi == pytest.approx((96, 96), abs=0.1)


def first_page(path):
    with tifffile.TiffFile(path) as file:
        return file.pages[0]


def pages(*pages):
    """Return a function that makes a TIFF file of these pages, each with options of its own."""

    def make(path):
        with tifffile.TiffWriter(path) as file:
            for page, options in pages:
                file.write(page, metadata=None, **options)

    return make


class TestTiff:
    @pytest.fixture
    def tif(self, tmp_path):
        return tmp_path / "a.tif"

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float16", "float32", "float64"])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_dtypes(self, tif, dtype, channels):
        pixels = noise(*((9, 13) if channels == 1 else (9, 13, 3)), dtype=dtype)
        tifffile.imwrite(tif, pixels, photometric="rgb" if channels == 3 else "minisblack")
        picture, _, target = round_trip(tif)
        np.testing.assert_array_equal(picture.pixels, pixels)
        assert not first_page(target).is_shaped  # tifffile's note would have been stale
        assert first_page(target).compression == 1

    @pytest.mark.parametrize("compression", ["lzw", "zlib", "zstd", "lzma", "packbits"])
    @pytest.mark.parametrize("predictor", [False, True])
    @pytest.mark.parametrize("tile", [None, (16, 32)])
    @pytest.mark.parametrize("byteorder", ["<", ">"])
    def test_compression_and_tiles(self, tif, compression, predictor, tile, byteorder):
        predictor = predictor and compression != "packbits"
        layout = {"tile": tile} if tile else {"rowsperstrip": 7}
        tifffile.imwrite(
            tif,
            noise(50, 70, 3, dtype="uint16"),
            compression=compression,
            predictor=predictor,
            byteorder=byteorder,
            photometric="rgb",
            **layout,
        )
        _, _, target = round_trip(tif)
        assert target.read_bytes()[:2] == tif.read_bytes()[:2]
        for name in ("compression", "predictor", "tile", "rowsperstrip", "photometric", "planarconfig"):
            assert getattr(first_page(target), name) == getattr(first_page(tif), name), name

    def test_other_compressions_become_deflate(self, tif):
        tifffile.imwrite(tif, noise(32, 32, 3), compression="jpeg2000", photometric="rgb")
        _, _, target = round_trip(tif)
        assert first_page(target).compression == 8

    def test_jpeg_within(self, tif):
        tifffile.imwrite(tif, smooth(64, 64, 3), compression="jpeg", tile=(32, 32))
        picture = read(tif)
        target = tif.with_name("b.tif")
        write(picture, target)
        assert first_page(target).compression == 7
        assert np.abs(read(target).pixels.astype(int) - picture.pixels).mean() < 3

    @pytest.mark.parametrize("channels", [2, 3, 4, 5, 7])
    @pytest.mark.parametrize("planar", ["contig", "separate"])
    def test_bands(self, tif, channels, planar):
        pixels = noise(channels, 20, 24) if planar == "separate" else noise(20, 24, channels)
        tifffile.imwrite(tif, pixels, photometric="minisblack", planarconfig=planar, metadata=None)
        picture, _, target = round_trip(tif)
        assert picture.pixels.shape == (20, 24, channels)
        assert first_page(target).planarconfig == (2 if planar == "separate" else 1)
        assert first_page(target).photometric == 1

    @pytest.mark.parametrize("kind", ["unassalpha", "assocalpha", "unspecified"])
    @pytest.mark.parametrize("channels", [2, 4])
    def test_alpha(self, tif, kind, channels):
        photometric = "rgb" if channels == 4 else "minisblack"
        tifffile.imwrite(
            tif,
            noise(20, 24, channels),
            photometric=photometric,
            planarconfig="contig",
            extrasamples=[kind],
            metadata=None,
        )
        picture, _, target = round_trip(tif)
        assert picture.alpha == (kind != "unspecified")
        assert first_page(target).extrasamples == first_page(tif).extrasamples

    def test_white_is_zero(self, tif):
        pixels = noise(20, 24)
        tags = [(42113, 2, 4, b"250\0", True)]
        tifffile.imwrite(tif, pixels, photometric="miniswhite", extratags=tags)
        picture, _, target = round_trip(tif)
        np.testing.assert_array_equal(picture.pixels, 255 - pixels)
        assert picture.nodata == 5
        assert first_page(target).photometric == 0
        np.testing.assert_array_equal(tifffile.imread(target), np.flip(pixels, -2))

    def test_palette_and_bilevel(self, tif):
        colours = noise(3, 256, dtype="uint16")
        indices = noise(20, 24)
        tifffile.imwrite(tif, indices, photometric="palette", colormap=colours)
        picture, _, _ = round_trip(tif)
        np.testing.assert_array_equal(picture.pixels, (colours >> 8).T[indices])
        for photometric, levels in (("minisblack", (255, 0)), ("miniswhite", (0, 255))):
            tifffile.imwrite(tif, indices > 99, photometric=photometric)
            picture, _, _ = round_trip(tif)
            np.testing.assert_array_equal(picture.pixels, np.where(indices > 99, *levels))

    def test_geotiff(self, tif):
        statistics = (
            b'<GDALMetadata><Item name="STATISTICS_MAXIMUM" sample="0">9</Item><Item name="a">b</Item>'
        )
        statistics += b"</GDALMetadata>\0"
        tags = [
            (33550, 12, 3, (30.0, 30.0, 0.0), True),
            (33922, 12, 6, (0.0, 0.0, 0.0, 5e5, 4.1e6, 0.0), True),
            (34735, 3, 8, (1, 1, 0, 1, 1024, 0, 1, 1), True),
            (34737, 2, 7, b"WGS 84\0", True),
            (42112, 2, len(statistics), statistics, True),
            (42113, 2, 6, b"65535\0", True),
            (34675, 7, len(PROFILE), PROFILE, True),
            (270, 2, 6, "été".encode() + b"\0", True),
            (274, 3, 1, 8, True),
            (700, 1, 6, b"<xmp/>", True),
        ]
        tifffile.imwrite(
            tif,
            noise(50, 70, dtype="uint16"),
            metadata=None,
            extratags=tags,
            resolution=(300, 200),
            resolutionunit="INCH",
            software="surveyor 1.0",
            byteorder=">",
        )
        picture, _, target = round_trip(tif)
        assert (picture.nodata, picture.icc, picture.orientation) == (65535, PROFILE, 8)
        assert picture.dpi == (300, 200)
        assert picture.xmp == b"<xmp/>"
        with tifffile.TiffFile(tif) as a, tifffile.TiffFile(target) as b:
            for code, *_ in (*tags, (282,), (283,), (296,), (305,)):
                if code != 42112:
                    assert a.pages[0].tags[code].value == b.pages[0].tags[code].value, code
            assert b.pages[0].tags[42112].value == '<GDALMetadata><Item name="a">b</Item></GDALMetadata>'

    @pytest.mark.parametrize(
        ("text", "dtype", "expected"),
        [
            (b"-9999\0", "float32", -9999),
            (b"-9999\0", "int16", -9999),
            (b"-9999\0", "uint8", None),
            (b"1e3\0", "uint16", 1000),
            (b"0.5\0", "uint8", None),
            (b"junk\0", "float32", None),
        ],
    )
    def test_nodata(self, tif, text, dtype, expected):
        tifffile.imwrite(tif, noise(8, 8, dtype=dtype), extratags=[(42113, 2, len(text), text, True)])
        assert read(tif).nodata == expected

    @pytest.mark.parametrize("channels", [1, 3])
    def test_pages(self, tif, channels):
        pixels = noise(*((4, 20, 24) if channels == 1 else (4, 20, 24, 3)))
        pages(*((page, {"description": f"page {i}"}) for i, page in enumerate(pixels)))(tif)
        picture, _, target = round_trip(tif)
        np.testing.assert_array_equal(picture.pixels, pixels)
        assert picture.layout == ("NHW" if channels == 1 else "NHWC")
        with tifffile.TiffFile(target) as file:
            assert [page.description for page in file.pages] == [f"page {i}" for i in range(4)]

    def test_stack_of_one_series(self, tif):
        tifffile.imwrite(tif, noise(4, 20, 24), photometric="minisblack")
        picture, _, _ = round_trip(tif)
        assert picture.pixels.shape == (4, 20, 24)

    def test_overviews_are_left(self, tif):
        pages((noise(32, 32), {}), (noise(16, 16), {"subfiletype": 1}))(tif)
        picture, _, target = round_trip(tif)
        assert picture.layout == "HW"
        with tifffile.TiffFile(target) as file:
            assert len(file.pages) == 1

    def test_bigtiff_stays_big(self, tif):
        tifffile.imwrite(tif, noise(8, 8), bigtiff=True)
        _, _, target = round_trip(tif)
        assert target.read_bytes()[2] == 43

    @pytest.mark.parametrize("name", ["multipage.tif", "multipage_rgb.tif"])
    def test_real(self, tif, name):
        tif.write_bytes((DATA / name).read_bytes())
        picture, _, _ = round_trip(tif)
        assert picture.layout.startswith("N")


def animation(path):
    first, second = (Image.fromarray(noise(9, 9)) for _ in range(2))
    first.save(path, save_all=True, append_images=[second])


def stack_of_one_directory(path):
    tifffile.imwrite(path, noise(5, 9, 9), truncate=True, photometric="minisblack")


@pytest.mark.parametrize(
    ("suffix", "make", "message"),
    [
        (".png", animation, "animated"),
        (".webp", animation, "animated"),
        (".jpg", Image.fromarray(noise(9, 9, 4), "CMYK").save, "CMYK"),
        (".tif", pages((noise(9, 9, 4), {"photometric": "separated"})), "SEPARATED"),
        (".tif", pages((noise(32, 32), {}), (noise(16, 16), {})), "pages differ"),
        (".tif", pages((noise(32, 32), {}), (noise(40, 32) > 9, {"subfiletype": 4})), "kind of mask"),
        (".tif", stack_of_one_directory, "single directory"),
    ],
)
def test_sound_files_that_are_refused(tmp_path, suffix, make, message):
    make(tmp_path / f"a{suffix}")
    with pytest.raises(FileError, match=message):
        read(tmp_path / f"a{suffix}")


class TestConversion:
    def picture(self, tmp_path, suffix, channels=3):
        path = tmp_path / f"a{suffix}"
        shape = (30, 40) if channels == 1 else (30, 40, channels)
        start = Picture(
            smooth(*shape),
            "HW" if channels == 1 else "HWC",
            "none",
            alpha=channels in (2, 4),
            icc=PROFILE,
            exif=exif_block()[6:],
            dpi=(300.0, 300.0),
        )
        write(start, path)
        return read(path)

    @pytest.mark.parametrize("source", SUFFIXES)
    @pytest.mark.parametrize("target", SUFFIXES)
    @pytest.mark.parametrize("channels", [1, 3])
    def test_every_pair(self, tmp_path, source, target, channels):
        picture = self.picture(tmp_path, source, channels)
        write(picture, tmp_path / f"b{target}")
        again = read(tmp_path / f"b{target}")
        tolerance = 0 if target in (".png", ".bmp", ".tif") else 12
        expected = np.broadcast_to(picture.batch, (*picture.batch.shape[:3], again.channels))
        assert np.abs(again.batch.astype(int) - expected).mean() <= tolerance
        if ".bmp" not in (source, target):
            assert (again.icc, again.orientation) == (PROFILE, 6)
            assert ".webp" in (source, target) or again.dpi == pytest.approx((300, 300), abs=0.1)

    @pytest.mark.parametrize("target", [".png", ".webp", ".tif"])
    @pytest.mark.parametrize("channels", [2, 4])
    def test_alpha(self, tmp_path, target, channels):
        picture = self.picture(tmp_path, ".png", channels)
        write(picture, tmp_path / f"b{target}")
        again = read(tmp_path / f"b{target}")
        assert again.alpha
        np.testing.assert_array_equal(again.pixels[..., -1], picture.pixels[..., -1])

    @pytest.mark.parametrize(
        ("pixels", "alpha", "suffix", "message"),
        [
            (noise(9, 9, dtype="float32"), False, ".png", "PNG holds 8- and 16-bit grey and RGB"),
            (noise(9, 9, dtype="int16"), False, ".png", "not this picture .9 x 9 int16, 1 channel."),
            (noise(9, 9, dtype="uint16"), False, ".jpg", "JPEG holds 8-bit"),
            (noise(9, 9, dtype="uint16"), False, ".webp", "WebP holds 8-bit"),
            (noise(9, 9, 4), True, ".jpg", "without alpha.*4 channels with alpha"),
            (noise(9, 9, 4), True, ".bmp", "without alpha"),
            (noise(9, 9, 4), False, ".png", "4 channels"),
            (noise(9, 9, 5), False, ".png", "5 channels"),
            (noise(2, 16384), False, ".webp", "16383 pixels a side"),
            (noise(2, 65501), False, ".jpg", "65500 pixels a side"),
            (noise(9, 9), False, ".xyz", "must end in one of .png"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, tmp_path, pixels, alpha, suffix, message):
        picture = Picture(pixels, "HWC" if pixels.ndim == 3 else "HW", "TIFF", alpha=alpha)
        with pytest.raises(FileError, match=message):
            write(picture, tmp_path / f"a{suffix}")
        assert not list(tmp_path.iterdir())

    def test_pages_need_tiff(self, tmp_path):
        with pytest.raises(FileError, match="3 pages; write TIFF"):
            write(Picture(noise(3, 9, 9), "NHW", "TIFF"), tmp_path / "a.png")


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Return the bytes of a file of every format, and of several kinds of TIFF."""
    folder = tmp_path_factory.mktemp("samples")
    picture = Picture(smooth(60, 80, 3), "HWC", "none", icc=PROFILE, exif=exif_block()[6:])
    for suffix in SUFFIXES:
        write(picture, folder / f"a{suffix}")
    write(picture, folder / "lossy.webp", quality=80)
    for compression in (None, "lzw", "zstd"):
        for tile in (None, (16, 16)):
            tifffile.imwrite(
                folder / f"{compression}-{tile}.tif",
                np.stack([smooth(60, 80)] * 2),
                compression=compression,
                tile=tile,
                photometric="minisblack",
                metadata=None,
            )
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class TestBroken:
    def attempt(self, path, data):
        """Read; a FileError of one line is as good as a picture, anything else is not."""
        path.write_bytes(data)
        try:
            return read(path, max_pixels=2**20)
        except FileError as error:
            assert str(error).startswith(f"{path}: ")  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
            return None

    def test_truncated(self, tmp_path, samples, capfd):
        for name, data in samples.items():
            for part in (0, 1, 3, 8, 11, 30, 60, 120, len(data) // 4, len(data) // 2, len(data) * 3 // 4):
                assert self.attempt(tmp_path / name, data[:part]) is None, (name, part)
            cut = 40 if name.endswith((".jpg", ".webp", "a.tif")) else 1
            assert self.attempt(tmp_path / name, data[:-cut]) is None or "tif" in name, name
        assert capfd.readouterr() == ("", "")

    def test_flipped_bytes(self, tmp_path, samples, capfd):
        chooser = random.Random(5)
        for name, data in samples.items():
            for position in [*range(0, 64, 3), *(chooser.randrange(len(data)) for _ in range(80))]:
                broken = bytearray(data)
                broken[position] ^= 1 << chooser.randrange(8)
                self.attempt(tmp_path / name, bytes(broken))
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize(
        ("content", "message"), [(b"", "empty"), (b"just some text\n" * 9, "not a picture")]
    )
    def test_empty_and_text(self, tmp_path, suffix, content, message):
        (tmp_path / f"a{suffix}").write_bytes(content)
        with pytest.raises(FileError, match=message):
            read(tmp_path / f"a{suffix}")

    def test_bombs(self, tmp_path, samples):
        for name, data in samples.items():
            (tmp_path / name).write_bytes(data)
            with pytest.raises(FileError, match=r"(4800|9600) pixels are more than --max-pixels 4799 allows"):
                read(tmp_path / name, max_pixels=4799)

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
    def test_header_that_lies(self, tmp_path, samples, suffix):
        """Refused from the header, before any memory is taken."""
        data = bytearray(samples["lossy.webp" if suffix == ".webp" else f"a{suffix}"])
        if suffix == ".png":
            data[16:24] = struct.pack(">II", 2**30, 2**30)
            data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        elif suffix == ".jpg":
            start = data.index(b"\xff\xc0")
            data[start + 5 : start + 9] = struct.pack(">HH", 65000, 65000)
        elif suffix == ".bmp":
            data[18:26] = struct.pack("<ii", 2**17, 2**17)
        else:
            start = data.index(b"VP8X")
            data[start + 12 : start + 18] = b"\xff" * 6
        (tmp_path / f"a{suffix}").write_bytes(data)
        with pytest.raises(FileError, match="pixels are more than"):
            read(tmp_path / f"a{suffix}")

    def test_missing_and_folder(self, tmp_path):
        with pytest.raises(FileError, match=r"b\.png: No such file"):
            read(tmp_path / "b.png")
        with pytest.raises(FileError, match="the folder is no Zarr store"):
            read(tmp_path)

    def test_missing_library_is_no_broken_file(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "imagecodecs", None)
        with pytest.raises(ImportError):
            read(DATA / "moon.png")


class TestAtomic:
    def test_failure_while_writing(self, tmp_path, monkeypatch):
        """An encoder that dies on a full disk leaves the old file and nothing else."""
        picture = Picture(noise(9, 9), "HW", "none")
        for suffix, kind in zip(SUFFIXES, ("PNG", "JPEG", "WebP", "BMP", "TIFF"), strict=True):
            target = tmp_path / f"a{suffix}"
            target.write_bytes(b"old")

            def full(picture, file, quality):
                file.write(b"half")
                raise OSError(28, os.strerror(28))

            def full_sink(file, header, options):
                full(None, file, None)

            if kind == "TIFF":
                monkeypatch.setattr(_files.tiff, "create", full_sink)
            else:
                monkeypatch.setitem(_files.formats.ENCODERS, kind, full)
            with pytest.raises(FileError, match="cannot write it: No space left on device"):
                write(picture, target)
            assert target.read_bytes() == b"old"
        assert len(list(tmp_path.iterdir())) == len(SUFFIXES)

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_full_disk(self, tmp_path, monkeypatch, suffix):
        """Every encoder reports a device that takes no byte."""
        import contextlib

        @contextlib.contextmanager
        def full(path, overwrite):
            (tmp_path / f"full{suffix}").symlink_to("/dev/full")
            yield tmp_path / f"full{suffix}"

        monkeypatch.setattr(_files, "replacing", full)
        with pytest.raises(FileError, match="cannot write it"):
            write(Picture(noise(300, 300), "HW", "none"), tmp_path / f"a{suffix}")

    def test_interruption(self, tmp_path):
        def interrupted():
            with _files.replacing(tmp_path / "a.png") as path:
                path.write_bytes(b"half")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert not list(tmp_path.iterdir())

    def test_folder_that_is_none(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(FileError, match="Not a directory"):
            write(Picture(noise(9, 9), "HW", "none"), tmp_path / "file" / "a.png")
        with pytest.raises(FileError, match="No such file or directory"):
            write(Picture(noise(9, 9), "HW", "none"), tmp_path / "missing" / "a.png")

    def test_mode_and_link(self, tmp_path):
        """A replaced file keeps its permissions; a link stays one."""
        (tmp_path / "real.png").touch(mode=0o640)
        (tmp_path / "link.png").symlink_to("real.png")
        write(Picture(noise(9, 9), "HW", "none"), tmp_path / "link.png")
        assert (tmp_path / "link.png").is_symlink()
        assert (tmp_path / "real.png").stat().st_mode & 0o777 == 0o640
        assert read(tmp_path / "real.png").channels == 1

    def test_names(self, tmp_path):
        path = tmp_path / "a picture é 猫 $x$.tif"
        write(Picture(noise(9, 9), "HW", "none"), path)
        assert read(path).format == "TIFF"


def test_two_bands_and_alpha_are_no_rgb(tmp_path):
    """Three channels of which the last is alpha: no format but TIFF can tell."""
    picture = Picture(np.zeros((4, 5, 3), np.uint8), "HWC", "TIFF", alpha=True)
    for name in ("a.png", "a.jpg", "a.webp", "a.bmp"):
        with pytest.raises(FileError, match="not this picture"):
            write(picture, tmp_path / name)
    assert not list(tmp_path.iterdir())
