"""The command line, mostly in this process, and as a program where that matters."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import skimage
import tifffile
from click.testing import CliRunner
from images import same
from PIL import Image

import histeq
from histeq import _files
from histeq._cli import cli, drawing
from histeq._files import read

DATA = Path(skimage.__file__).parent / "data"
MOON, RETINA = DATA / "moon.png", DATA / "retina.jpg"
COLORS = ("luma", "channels")
RANDOM = np.random.default_rng(3)


def run(*arguments, code=0):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="histeq")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    return result


def python(*arguments, **options):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


def program(*arguments):
    return python("-W", "error", "-m", "histeq", *arguments)


def fails(*arguments, says, code=1):
    """Run what must fail with one line on standard error."""
    result = run(*arguments, code=code)
    assert result.stdout == ""
    if code == 1:
        assert result.stderr.startswith("histeq: error: ")
        assert result.stderr.count("\n") == 1
    assert says in result.stderr


def holds(path, expected):
    np.testing.assert_array_equal(read(path).pixels, expected)


def picture(path, *shape, dtype="uint8", **options):
    """Write noise of a narrow range, so that equalizing changes it."""
    pixels = (RANDOM.random(shape) * 99 + 20).astype(dtype)
    if path.suffix == ".png":
        path.write_bytes(imagecodecs.png_encode(pixels))
    else:
        tifffile.imwrite(path, pixels, photometric="rgb" if shape[-1] in (3, 4) else "minisblack", **options)
    return pixels


class TestEqualize:
    @pytest.mark.parametrize(
        ("source", "options", "arguments"),
        [
            *((MOON, ("--rule", rule), {"rule": rule}) for rule in ("opencv", "pillow", "numpy", "vips")),
            *((MOON, ("--backend", b.name), {}) for b in histeq.backends() if b.available),
            *((RETINA, ("--color", color), {"layout": "HWC", "color": color}) for color in COLORS),
        ],
    )
    def test_as_the_function_has_it(self, tmp_path, source, options, arguments):
        assert run("equalize", source, tmp_path / "a.png", *options).output == ""
        holds(tmp_path / "a.png", histeq.equalize(read(source).pixels, **arguments))

    def test_as_opencv(self, tmp_path):
        import cv2

        run("equalize", MOON, tmp_path / "a.tif")
        expected = cv2.equalizeHist(cv2.imread(str(MOON), cv2.IMREAD_GRAYSCALE))
        holds(tmp_path / "a.tif", expected)

    @pytest.mark.parametrize("dtype", ["uint8", "uint16"])
    @pytest.mark.parametrize("channels", [2, 4])
    def test_alpha(self, tmp_path, dtype, channels):
        pixels = picture(tmp_path / "a.png", 30, 40, channels, dtype=dtype)
        run("equalize", tmp_path / "a.png", tmp_path / "b.png")
        result = read(tmp_path / "b.png").pixels
        assert result.dtype == dtype
        np.testing.assert_array_equal(result[..., -1], pixels[..., -1])
        colour = pixels[..., 0] if channels == 2 else pixels[..., :3]
        expected = histeq.equalize(colour, layout="HW" if channels == 2 else "HWC")
        np.testing.assert_array_equal(result[..., :-1].reshape(expected.shape), expected)

    @pytest.mark.parametrize("dtype", ["int16", "float16", "float32", "float64"])
    def test_tiff_dtypes(self, tmp_path, dtype):
        pixels = picture(tmp_path / "a.tif", 30, 40, dtype=dtype)
        run("equalize", tmp_path / "a.tif", tmp_path / "b.tif")
        expected = histeq.equalize(pixels)
        holds(tmp_path / "b.tif", expected)
        assert read(tmp_path / "b.tif").pixels.dtype == expected.dtype

    def test_pages_one_by_one(self, tmp_path):
        with tifffile.TiffWriter(tmp_path / "a.tif") as file:
            pixels = [(RANDOM.random((20, 30)) * 60 + 50 * i).astype("uint8") for i in range(3)]
            for page in pixels:
                file.write(page, metadata=None)
        run("equalize", tmp_path / "a.tif", tmp_path / "b.tif")
        expected = [histeq.equalize(page) for page in pixels]
        holds(tmp_path / "b.tif", expected)

    @pytest.mark.parametrize("pages", [1, 2])
    def test_four_bands(self, tmp_path, pages):
        pixels = (RANDOM.random((pages, 20, 30, 4)) * 99).astype("uint8")
        with tifffile.TiffWriter(tmp_path / "a.tif") as file:
            for page in pixels:
                file.write(page, photometric="minisblack", planarconfig="contig", metadata=None)
        files = (tmp_path / "a.tif", tmp_path / "b.tif")
        fails("equalize", *files, says="none of them alpha: use --color channels")
        run("equalize", *files, "--color", "channels")
        expected = [[histeq.equalize(page[..., band]) for band in range(4)] for page in pixels]
        expected = np.moveaxis(expected, 1, -1)
        np.testing.assert_array_equal(read(tmp_path / "b.tif").batch, expected)

    def test_metadata_stays(self, tmp_path):
        exif = Image.Exif()
        exif[274] = 8
        with Image.open(RETINA) as image:
            image.save(tmp_path / "a.jpg", exif=exif, icc_profile=b"profile", dpi=(200, 200), quality=88)
        run("equalize", tmp_path / "a.jpg", tmp_path / "b.jpg")
        with Image.open(tmp_path / "a.jpg") as a, Image.open(tmp_path / "b.jpg") as b:
            assert a.size == b.size
            assert b.getexif()[274] == 8
            assert b.info["icc_profile"] == b"profile"
            assert b.info["dpi"] == (200, 200)
            assert a.quantization == b.quantization

    def test_nodata_of_the_file(self, tmp_path):
        pixels = (RANDOM.random((30, 40)) * 99 + 20).astype("uint16")
        pixels[:9] = 7
        tags = [(42113, 2, 2, b"7\0", True)]
        tifffile.imwrite(tmp_path / "a.tif", pixels, extratags=tags)
        for options, nodata in (((), 7), (("--nodata", "none"), None), (("--nodata", "50"), 50)):
            run("equalize", tmp_path / "a.tif", tmp_path / "b.tif", "--overwrite", *options)
            holds(tmp_path / "b.tif", histeq.equalize(pixels, nodata=nodata))
            assert read(tmp_path / "b.tif").nodata == nodata  # what holds of the new pixels

    @pytest.mark.parametrize("channels", [1, 3])
    def test_mask(self, tmp_path, channels):
        pixels = picture(tmp_path / "a.tif", 30, 40)
        mask = np.zeros((30, 40, channels), np.uint8)
        mask[:, :20, -1] = 3
        (tmp_path / "m.png").write_bytes(imagecodecs.png_encode(mask.squeeze()))
        run("equalize", tmp_path / "a.tif", tmp_path / "b.tif", "--mask", tmp_path / "m.png")
        expected = histeq.equalize(pixels, mask=mask.any(axis=-1))
        holds(tmp_path / "b.tif", expected)

    def test_numbers(self, tmp_path):
        pixels = picture(tmp_path / "a.tif", 30, 40, dtype="float32")
        options = ("--bins", "50", "--value-range", "10", "90.5", "--out-range", "-1", "2")
        run("equalize", tmp_path / "a.tif", tmp_path / "b.tif", *options)
        expected = histeq.equalize(pixels, bins=50, value_range=(10, 90.5), out_range=(-1, 2))
        holds(tmp_path / "b.tif", expected)
        deep = picture(tmp_path / "a.tif", 30, 40, dtype="uint16")
        run("equalize", tmp_path / "a.tif", tmp_path / "b.tif", "--value-range", "0", "4095", "--overwrite")
        holds(tmp_path / "b.tif", histeq.equalize(deep, value_range=(0, 4095)))
        run("equalize", MOON, tmp_path / "b.png", "--out-range", "16", "235")
        assert (read(tmp_path / "b.png").pixels.min(), read(tmp_path / "b.png").pixels.max()) == (16, 235)

    def test_fractions_need_tiff(self, tmp_path):
        fails("equalize", MOON, tmp_path / "a.png", "--rule", "skimage", says="PNG holds 8- and 16-bit")
        run("equalize", MOON, tmp_path / "a.tif", "--rule", "skimage")
        assert read(tmp_path / "a.tif").pixels.dtype == np.float64
        picture(tmp_path / "alpha.png", 9, 9, 2)
        run("equalize", tmp_path / "alpha.png", tmp_path / "b.tif", "--rule", "skimage")
        alpha = read(tmp_path / "alpha.png").pixels[..., 1] / 255
        assert same(np.ascontiguousarray(read(tmp_path / "b.tif").pixels[..., 1]), alpha)

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("--backend", "abacus"), "--backend must be one of"),
            (("--out-range", "9", "3"), "--out-range must be"),
            (("--bins", "9"), "bins is for floating images"),
            (("--nodata", "300"), "--nodata must be a value that uint8 holds"),
            (("--mask", RETINA), "mask must have the image's shape"),
            (("--max-pixels", "1000"), "262144 pixels are more than --max-pixels 1000 allows"),
        ],
    )
    def test_arguments_that_do_not_suit(self, tmp_path, arguments, says):
        fails("equalize", MOON, tmp_path / "a.png", *arguments, says=says)
        assert not list(tmp_path.iterdir())

    def test_words_are_those_of_the_command_line(self, tmp_path):
        """Not those of Python: no name='value', no name_with_underscores, no methods of arrays."""
        picture(tmp_path / "a.tif", 9, 9, 3, dtype="float32")
        picture(tmp_path / "b.tif", 9, 9, dtype="int32")
        picture(tmp_path / "c.tif", 9, 9, 3, dtype="uint16")
        for command, name, *options in (
            ("equalize", "a.tif"),
            ("equalize", "b.tif"),
            ("plot", "b.tif", "--overwrite"),
            ("equalize", "c.tif", "--rule", "skimage"),
            ("equalize", "c.tif", "--out-dtype", "uint8"),
            ("equalize", "c.tif", "--value-range", "5", "3"),
            ("equalize", "c.tif", "--value-range", "0", "9", "--bins", "9"),
            ("clahe", "c.tif", "--clip", "nan", "--tile-size", "0"),
            ("clahe", "c.tif", "--out-range", "5", "3"),
            ("equalize", "c.tif", "--max-pixels", "3"),
            ("equalize", "c.tif", "--memory", "3x"),
        ):
            arguments = (str(tmp_path / name), str(tmp_path / "out.png"), *options)
            result = CliRunner().invoke(cli, [command, *arguments])
            assert result.exit_code in (1, 2), (command, arguments)
            said = result.stderr.replace(str(tmp_path), "")
            assert not re.search(r"\w=|\w_\w|\bnp\.|astype|None", said), said

    def test_colour_of_floats_needs_channels(self, tmp_path):
        picture(tmp_path / "a.tif", 9, 9, 3, dtype="float32")
        fails("equalize", tmp_path / "a.tif", tmp_path / "b.tif", says="use --color channels")
        run("equalize", tmp_path / "a.tif", tmp_path / "b.tif", "--color", "channels")

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ((MOON,), "Missing argument"),
            ((MOON, "a.png", "--rule", "magic"), "'magic' is not one of"),
            ((MOON, "a.png", "--nodata", "x"), "neither a number nor 'none'"),
            ((MOON, "a.png", "--quality", "101"), "101 is not in the range"),
            ((MOON, RETINA, "a.png"), "OUT must be a folder"),
            ((MOON, MOON, "new/"), "would both be written to"),
        ],
    )
    def test_usage(self, tmp_path, monkeypatch, arguments, says):
        monkeypatch.chdir(tmp_path)
        fails("equalize", *arguments, says=says, code=2)
        assert not list(tmp_path.iterdir())


class TestFiles:
    def test_nothing_is_overwritten(self, tmp_path):
        out = tmp_path / "a.png"
        out.write_bytes(b"precious")
        fails("equalize", MOON, out, says="exists already; --overwrite replaces it")
        fails("match", MOON, MOON, out, says="exists already")
        fails("plot", MOON, out, says="exists already")
        assert out.read_bytes() == b"precious"
        run("equalize", MOON, out, "--overwrite")
        assert read(out).channels == 1

    def test_checked_before_any_work(self, tmp_path):
        (tmp_path / RETINA.name).touch()
        fails("equalize", MOON, RETINA, tmp_path, says="exists already")
        assert [path.name for path in tmp_path.iterdir()] == [RETINA.name]

    def test_in_place(self, tmp_path):
        (tmp_path / "a.png").write_bytes(MOON.read_bytes())
        fails("equalize", tmp_path / "a.png", tmp_path / "a.png", says="exists already")
        fails("equalize", tmp_path / "a.png", tmp_path, says="exists already")
        run("equalize", tmp_path / "a.png", tmp_path / "a.png", "--overwrite")
        holds(tmp_path / "a.png", histeq.equalize(read(MOON).pixels))

    def test_bad_name(self, tmp_path):
        fails("equalize", MOON, tmp_path / "a.tga", says="must end in one of .png")
        fails("equalize", MOON, tmp_path / "missing" / "a.png", says="No such file or directory")
        (tmp_path / "file").touch()
        fails("equalize", MOON, tmp_path / "file" / "a.png", says="Not a directory")
        fails("equalize", MOON, f"{tmp_path}/file/new/", says="Not a directory")

    @pytest.mark.parametrize("jobs", [1, 3])
    def test_folder(self, tmp_path, jobs):
        names = ["moon.png", "camera.png", "coins.png", "brick.png"]
        run("equalize", *(DATA / name for name in names), f"{tmp_path}/new/", "-j", jobs)
        assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(names)
        for name in names:
            expected = histeq.equalize(read(DATA / name).pixels)
            holds(tmp_path / "new" / name, expected)

    @pytest.mark.parametrize("jobs", [1, 2])
    def test_one_failure_does_not_stop_the_others(self, tmp_path, jobs):
        (tmp_path / "bad.png").write_bytes(MOON.read_bytes()[:999])
        inputs = (tmp_path / "bad.png", MOON, tmp_path / "missing.png")
        result = run("equalize", *inputs, f"{tmp_path}/new/", "-j", jobs, "--json", code=1)
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["moon.png"]
        first, second = result.stderr.splitlines()
        wrong = "broken PNG file: the file is truncated; --lenient keeps what can be decoded"
        assert first == f"histeq: error: {inputs[0]}: {wrong}"
        assert second == f"histeq: error: {inputs[2]}: No such file or directory"
        assert ["error" in entry for entry in json.loads(result.stdout)] == [True, False, True]

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tif"])
    def test_broken_input_leaves_the_output(self, tmp_path, suffix):
        whole = tmp_path / f"whole{suffix}"
        _files.write(read(MOON), whole)
        data = whole.read_bytes()
        target = tmp_path / f"out{suffix}"
        for i, content in enumerate((b"", b"text", data[:100], data[: len(data) // 2])):
            bad = tmp_path / f"bad{i}{suffix}"
            bad.write_bytes(content)
            fails("equalize", bad, target, says=str(bad))
            assert not target.exists()
            target.write_bytes(b"old")
            fails("equalize", bad, target, "--overwrite", says=str(bad))
            fails("match", MOON, bad, target, "--overwrite", says=str(bad))
            fails("info", bad, says=str(bad))
            assert target.read_bytes() == b"old"
            target.unlink()
        assert len(list(tmp_path.iterdir())) == 5

    def test_names(self, tmp_path):
        folder = tmp_path / "a folder é 猫"
        folder.mkdir()
        source = folder / "mond 月 $1.png"
        Image.fromarray(read(MOON).pixels).save(source)
        result = program("equalize", source, folder / "neu ñ.tif", "--json", "--backend", "numpy")
        assert (result.returncode, result.stderr) == (0, "")
        assert json.loads(result.stdout)[0]["output"] == str(folder / "neu ñ.tif")
        assert read(folder / "neu ñ.tif").format == "TIFF"
        run("plot", source, folder / "bild é.png")


class TestMatch:
    def test_grey(self, tmp_path):
        run("match", MOON, DATA / "camera.png", tmp_path / "a.png")
        expected = skimage.exposure.match_histograms(read(MOON).pixels, read(DATA / "camera.png").pixels)
        holds(tmp_path / "a.png", expected.astype(np.uint8))

    @pytest.mark.parametrize("color", ["luma", "channels"])
    def test_colour_and_alpha(self, tmp_path, color):
        pixels = picture(tmp_path / "a.png", 30, 40, 4)
        model = read(RETINA).pixels
        result = run("match", tmp_path / "a.png", RETINA, tmp_path / "b.png", "--color", color, "--json")
        expected = histeq.match(pixels[..., :3], model, layout="HWC", color=color)
        np.testing.assert_array_equal(read(tmp_path / "b.png").pixels[..., :3], expected)
        np.testing.assert_array_equal(read(tmp_path / "b.png").pixels[..., 3], pixels[..., 3])
        (entry,) = json.loads(result.stdout)
        assert (entry["reference"], entry["channels"]) == (str(RETINA), 4)

    def test_nodata_of_each_file(self, tmp_path):
        pixels, model = ((RANDOM.random((30, 40)) * 99 + 20).astype("uint8") for _ in range(2))
        for name, image, nodata in (("a.tif", pixels, 7), ("model.tif", model, 9)):
            image[:9] = nodata
            tifffile.imwrite(tmp_path / name, image, extratags=[(42113, 2, 2, b"%d\0" % nodata, True)])
        for options, states in (
            ((), (7, 9)),
            (("--nodata", "none"), (None, None)),
            (("--nodata", "50"), (50, 50)),
        ):
            run("match", *(tmp_path / n for n in ("a.tif", "model.tif", "b.tif")), "--overwrite", *options)
            expected = histeq.match(pixels, model, nodata=states[0], reference_nodata=states[1])
            holds(tmp_path / "b.tif", expected)

    def test_what_does_not_suit(self, tmp_path):
        out = tmp_path / "b.png"
        picture(tmp_path / "a.tif", 9, 9, dtype="uint16")
        fails("match", MOON, RETINA, out, says="the reference has 3 channels and the picture 1")
        fails("match", MOON, tmp_path / "a.tif", out, says="the reference must have the picture's dtype")
        fails("match", MOON, tmp_path / "no.tif", out, says="no.tif: No such file")


class TestInfo:
    def test_text(self, tmp_path):
        text = run("info", MOON, RETINA).stdout
        parts = ["moon.png", "PNG", "512 x 512", "uint8, 1 channel\n", "178 levels", "JPEG", "150 x 150 dpi"]
        assert [part for part in parts if part not in text] == []

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64", "uint32", "int8"])
    def test_numbers(self, tmp_path, dtype):
        pixels = picture(tmp_path / "a.tif", 30, 40, 3, dtype=dtype)
        (entry,) = json.loads(run("info", tmp_path / "a.tif", "--json").stdout)
        assert (entry["format"], entry["width"], entry["height"], entry["channels"]) == ("TIFF", 40, 30, 3)
        for i, values in enumerate(entry["values"]):
            channel = pixels[..., i]
            assert (values["min"], values["max"]) == (channel.min(), channel.max())
            assert values["mean"] == pytest.approx(channel.mean(dtype=float), rel=1e-6)
            assert values["levels"] == len(np.unique(channel))

    def test_what_is_not_counted(self, tmp_path):
        pixels = np.array([[np.nan, 1, 2], [np.inf, -9999, 5]], np.float32)
        tifffile.imwrite(tmp_path / "a.tif", pixels, extratags=[(42113, 2, 6, b"-9999\0", True)])
        (entry,) = json.loads(run("info", tmp_path / "a.tif", "--json").stdout)
        assert entry["nodata"] == -9999
        assert entry["values"] == [{"min": 1, "max": 5, "mean": pytest.approx(8 / 3), "levels": 3}]
        (entry,) = json.loads(run("info", tmp_path / "a.tif", "--json", "--nodata", "none").stdout)
        assert entry["values"][0]["min"] == -9999
        tifffile.imwrite(tmp_path / "b.tif", pixels * np.nan)
        assert "no valid pixel" in run("info", tmp_path / "b.tif").stdout

    def test_details(self, tmp_path):
        exif = Image.Exif()
        exif[274] = 6
        Image.fromarray(np.zeros((4, 5, 4), np.uint8)).save(tmp_path / "a.png", exif=exif, icc_profile=b"123")
        text = run("info", tmp_path / "a.png").stdout
        assert "orientation  6" in text
        assert "ICC profile  3 bytes" in text
        assert "with alpha" in text
        assert "2 pages" in run("info", DATA / "multipage.tif").stdout


class TestClahe:
    @pytest.mark.parametrize(
        ("options", "arguments"),
        [
            ((), {}),
            (("--clip", "3.5", "--tiles", "4x6"), {"clip_limit": 3.5, "tiles": (4, 6)}),
            (("--tile-size", "100"), {"tile_size": 100}),
            (("--tile-size", "64X50", "--bins", "128"), {"tile_size": (64, 50), "bins": 128}),
            (("--backend", "numpy", "--out-range", "16", "235"), {"out_range": (16, 235)}),
        ],
    )
    def test_as_the_function_has_it(self, tmp_path, options, arguments):
        assert run("clahe", MOON, tmp_path / "a.png", *options).output == ""
        holds(tmp_path / "a.png", histeq.clahe(read(MOON).pixels, **arguments))

    def test_color_and_folder(self, tmp_path):
        (result,) = json.loads(run("clahe", RETINA, f"{tmp_path}/a/", "--json", "--quality", "100").stdout)
        assert result["clip_limit"] == 2
        assert result["seconds"].keys() == {"read", "compute", "write"}
        run("clahe", RETINA, tmp_path / "a.png", "--color", "channels")
        pixels = read(RETINA).pixels
        holds(tmp_path / "a.png", histeq.clahe(pixels, layout="HWC", color="channels"))

    def test_float_tiff(self, tmp_path):
        pixels = picture(tmp_path / "a.tif", 30, 40, dtype="float32")
        run("clahe", tmp_path / "a.tif", tmp_path / "b.tif", "--value-range", "0", "100", "--bins", "50")
        holds(tmp_path / "b.tif", histeq.clahe(pixels, value_range=(0, 100), bins=50))

    def test_failures(self, tmp_path):
        out = tmp_path / "a.png"
        for value in ("0", "8x", "8x8x8", "-1", "a"):
            fails("clahe", MOON, out, "--tiles", value, says="neither a number of at least 1 nor two", code=2)
        fails("clahe", MOON, out, "--tiles", "2", "--tile-size", "9", says="give one of them", code=2)
        fails("clahe", MOON, out, "--bins", "100", says="bins must be a power of two from 2 to 256")
        fails("clahe", tmp_path / "no.png", out, says="no.png: No such file")
        out.write_bytes(b"")
        fails("clahe", MOON, out, says="exists already")
        assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


class TestPlot:
    def test_locally_equalized(self, panels):
        *_, local = panels(MOON, "--clip", "3", "--tiles", "4x5")
        assert local.title == "CLAHE\nclip 3, 4 x 5 tiles"
        expected = histeq.clahe(read(MOON).pixels, clip_limit=3.0, tiles=(4, 5))
        np.testing.assert_array_equal(local.pixels[..., 0], expected)
        *_, local = panels(MOON, "--tile-size", "64")
        assert local.title == "CLAHE\nclip 2, 64 x 64 pixels a tile"

    def test_picture(self, tmp_path):
        run("plot", RETINA, tmp_path / "a.png", "--color", "channels", "--rule", "pillow")
        assert min(read(tmp_path / "a.png").pixels.shape[:2]) > 500
        assert len(list(tmp_path.iterdir())) == 1

    def test_dots_an_inch(self, tmp_path):
        for dpi in (40, 80):
            run("plot", MOON, tmp_path / f"{dpi}.png", "--dpi", str(dpi))
        small, large = (read(tmp_path / f"{dpi}.png").pixels.shape for dpi in (40, 80))
        assert (large[0], large[1]) == (2 * small[0], 2 * small[1])

    @pytest.fixture
    def panels(self, monkeypatch, tmp_path):
        """Return a function that gives the panels of a plot, undrawn."""

        def panels(source, *options):
            drawn = []
            monkeypatch.setattr(drawing, "draw", lambda path, panels, dpi: drawn.extend(panels))
            run("plot", source, tmp_path / "drawn.png", "--overwrite", *options)
            return drawn

        return panels

    def test_grey(self, panels):
        before, after, _ = panels(MOON)
        assert (before.title, after.title) == ("moon.png\n512 x 512, uint8", "equalized\nrule opencv")
        np.testing.assert_array_equal(before.counts[0], np.bincount(read(MOON).pixels.ravel(), minlength=256))
        np.testing.assert_array_equal(after.pixels[..., 0], histeq.equalize(read(MOON).pixels))
        assert (before.extent, before.label) == ((-0.5, 255.5), "value")

    @pytest.mark.parametrize(("color", "histograms"), [("luma", 1), ("channels", 3)])
    @pytest.mark.parametrize("name", ["retina.jpg", "logo.png"])
    def test_colour(self, panels, color, histograms, name):
        before, after, _ = panels(DATA / name, "--color", color)
        pixels = read(DATA / name).pixels
        expected = histeq.histogram(pixels, layout="HWC", color=color, alpha=pixels.shape[-1] == 4).reshape(
            histograms, 256
        )
        np.testing.assert_array_equal(before.counts, expected)
        assert after.pixels.shape == pixels.shape
        assert before.label == ("luma" if color == "luma" else "value")

    def test_fractions(self, panels):
        before, after, _ = panels(MOON, "--rule", "skimage")
        assert after.title.endswith("rule skimage")
        assert after.counts.sum() == before.counts.sum()
        assert after.extent[1] == 1

    def test_turned(self, panels, tmp_path):
        exif = Image.Exif()
        exif[274] = 6
        Image.fromarray(np.zeros((4, 9), np.uint8)).save(tmp_path / "a.png", exif=exif)
        before, *_ = panels(tmp_path / "a.png")
        assert (before.title, before.orientation) == ("a.png\n4 x 9, uint8", 6)

    @pytest.mark.parametrize(
        ("shape", "dtype"),
        [((9, 9, 3), "uint16"), *(((9, 9), dtype) for dtype in ("uint16", "int16", "float32", "float64"))],
    )
    def test_dtypes(self, panels, tmp_path, shape, dtype):
        pixels = picture(tmp_path / "a.tif", *shape, dtype=dtype)
        before, after, _ = panels(tmp_path / "a.tif")
        assert before.counts.sum() == after.counts.sum() == 81
        if len(shape) == 2:
            margin = 0 if dtype.startswith("float") else 0.5
            assert before.extent == (pixels.min() - margin, pixels.max() + margin)
        tifffile.imwrite(tmp_path / "a.tif", np.full_like(pixels, 7))
        before, after, _ = panels(tmp_path / "a.tif")
        assert before.counts.sum() == after.counts.sum() == 81

    @pytest.mark.parametrize("channels", [2, 4, 5])
    def test_bands(self, panels, tmp_path, channels):
        bands = RANDOM.integers(0, 9, (9, 9, channels), np.uint8)
        tifffile.imwrite(
            tmp_path / "a.tif", bands, photometric="minisblack", planarconfig="contig", metadata=None
        )
        before, *_ = panels(tmp_path / "a.tif", "--color", "channels")
        assert before.counts.shape == (channels, 256)
        np.testing.assert_array_equal(before.pixels, bands if channels == 5 else bands[..., :-1])

    def test_pages_and_mask(self, panels, tmp_path):
        before, *_ = panels(DATA / "multipage.tif")
        assert before.counts.sum() == 150
        mask = np.eye(512, dtype=np.uint8)
        (tmp_path / "m.png").write_bytes(imagecodecs.png_encode(mask))
        before, *_ = panels(MOON, "--mask", tmp_path / "m.png")
        assert before.counts.sum() == 512

    def test_nothing_but_nan(self, panels, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", np.full((9, 9), np.nan, np.float32))
        before, *_ = panels(tmp_path / "a.tif")
        assert before.counts.sum() == 0

    def test_long_name(self, panels, tmp_path):
        (tmp_path / f"{'x' * 99}.png").write_bytes(MOON.read_bytes())
        before, *_ = panels(tmp_path / f"{'x' * 99}.png")
        assert "…" in before.title

    def test_failures(self, tmp_path):
        fails("plot", MOON, tmp_path / "a.bmp", says="must end in .png, .svg or .pdf", code=2)
        fails("plot", tmp_path / "no.png", tmp_path / "a.png", says="no.png: No such file")
        fails("plot", MOON, tmp_path / "missing" / "a.png", says="a.png: ")
        assert not list(tmp_path.iterdir())


class TestBackends:
    def test_list(self):
        text = run("backends").stdout
        for backend in histeq.backends():
            assert backend.name in text
            assert (backend.device if backend.available else backend.reason) in text
        rows = json.loads(run("backends", "--json").stdout)
        assert [row["name"] for row in rows] == [backend.name for backend in histeq.backends()]

    def test_unavailable(self, monkeypatch):
        rows = [
            histeq.BackendInfo("numpy", True, "", "CPU"),
            histeq.BackendInfo("cupy", False, "no CUDA; pip install cupy", ""),
        ]
        monkeypatch.setattr(histeq, "backends", lambda: rows)
        lines = run("backends").stdout.splitlines()
        assert lines[2].split() == ["cupy", "no", "no", "CUDA;", "pip", "install", "cupy"]


class TestProgram:
    """What only a process of its own shows."""

    def test_help_and_version(self):
        result = program("--help")
        assert result.returncode == 0
        for command in ("equalize", "clahe", "match", "info", "plot", "backends", "bench"):
            assert f"  {command}" in result.stdout
        assert "\n  Examples:\n" in program("equalize", "-h").stdout

    def test_help_loads_nothing_heavy(self):
        code = (
            "import sys; from histeq._cli import cli; cli(['--help'], standalone_mode=False)\n"
            "heavy = {'PIL', 'matplotlib', 'tifffile', 'imagecodecs', 'numba'}\n"
            "print(heavy & set(sys.modules), file=sys.stderr)"
        )
        assert python("-c", code).stderr == "set()\n"

    def test_what_numba_needs_not_is_not_loaded(self, tmp_path):
        code = (
            "import sys; import coverage.misc as kept; from histeq.__main__ import main\n"
            f"sys.argv[1:] = ['equalize', {str(MOON)!r}, 'a.png', '--backend', 'numba']\n"
            "try: main()\n"
            "finally: print(*(bool(sys.modules.get(name)) for name in "
            "['numba', 'coverage', 'scipy', 'cffi', 'asyncio']), file=sys.stderr)"
        )
        assert python("-c", code, cwd=tmp_path).stderr == "True True False False False\n"

    def test_failure(self, tmp_path):
        result = program("equalize", tmp_path / "no.png", tmp_path / "a.png")
        assert result.returncode == 1
        assert result.stderr == f"histeq: error: {tmp_path}/no.png: No such file or directory\n"

    def test_broken_tiff_says_one_line(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", np.zeros((99, 99), np.uint8), metadata=None)
        data = bytearray((tmp_path / "a.tif").read_bytes())
        data[4:8] = b"\xff\xff\xff\x00"
        (tmp_path / "a.tif").write_bytes(data)
        result = program("info", tmp_path / "a.tif")
        assert result.returncode == 1
        assert result.stderr.startswith(f"histeq: error: {tmp_path}/a.tif: broken TIFF file")
        assert result.stderr.count("\n") == 1

    def test_what_libraries_log_stays_unsaid(self, tmp_path):
        Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "a.png", icc_profile=b"no profile")
        result = program("info", tmp_path / "a.png")
        assert (result.returncode, result.stderr) == (0, "")

    @pytest.mark.parametrize(
        ("missing", "command", "says"),
        [
            ("click", ["backends"], "the command line needs click"),
            ("imagecodecs", ["info", str(MOON)], "imagecodecs is missing"),
            ("PIL", ["info", str(RETINA)], "PIL is missing"),
            ("tifffile", ["info", str(DATA / "multipage.tif")], "tifffile is missing"),
            ("zarr", ["equalize", str(MOON), "a.zarr"], "zarr is missing"),
            ("matplotlib", ["plot", str(MOON), "a.png"], "matplotlib is missing"),
        ],
    )
    def test_without_the_extra(self, tmp_path, missing, command, says):
        """A finder that knows no such module stands for an environment without it."""
        code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] == {missing!r}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)
sys.meta_path.insert(0, Absent())
sys.argv[1:] = {command!r}
from histeq.__main__ import main
main()
"""
        result = python("-c", code, cwd=tmp_path)
        assert result.returncode == 1
        extra = "zarr" if missing == "zarr" else "cli"
        page = "" if missing == "click" else " (documentation: start)"
        assert result.stderr == f'histeq: error: {says}: pip install "histeq[{extra}]"{page}\n'
        assert not list(tmp_path.iterdir())

    @pytest.mark.skipif(os.name == "nt", reason="POSIX terminals")
    def test_progress_on_a_terminal_only(self, tmp_path):
        import pty

        def shown(*inputs):
            ours, theirs = pty.openpty()
            command = [sys.executable, "-m", "histeq", "equalize", *inputs, tmp_path, "--backend", "numpy"]
            process = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, check=True, timeout=60)
            os.close(theirs)
            try:
                text = os.read(ours, 10000)
            except OSError:  # nothing was written
                text = b""
            os.close(ours)
            assert process.stdout == b""
            return text

        assert b"100%" in shown(DATA / "text.png", DATA / "coins.png")
        assert shown(MOON) == b""

    @pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_stopped_while_writing(self, tmp_path, number):
        code = f"""
import signal, sys, time
from histeq import _files
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin without it
def slowly(picture, file, quality):
    file.write(b'half')
    print('writing', flush=True)
    time.sleep(60)
_files.formats.ENCODERS['PNG'] = slowly
sys.argv[1:] = ['equalize', {str(MOON)!r}, {str(tmp_path / "a.png")!r}, '--backend', 'numpy']
from histeq.__main__ import main
main()
"""
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            assert process.stdout.readline() == b"writing\n"
            assert len(list(tmp_path.iterdir())) == 1
            process.send_signal(number)
            process.communicate(timeout=20)
        finally:
            process.kill()
        assert process.returncode == -number  # a shell says 128 more, and ends its own loop
        assert not list(tmp_path.iterdir())

    def test_eight_at_a_time(self, tmp_path):
        inputs = []
        for i in range(12):
            inputs.append(tmp_path / f"{i}.tif")
            picture(inputs[-1], 50, 60, compression="zlib")
        start = time.perf_counter()
        result = program("equalize", *inputs, f"{tmp_path}/new/", "-j", "8", "--json", "--backend", "numpy")
        assert (result.returncode, result.stderr) == (0, "")
        assert [Path(entry["input"]) for entry in json.loads(result.stdout)] == inputs
        for path in inputs:
            expected = histeq.equalize(read(path).pixels)
            holds(tmp_path / "new" / path.name, expected)
        assert time.perf_counter() - start < 60
