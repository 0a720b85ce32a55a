"""Integers of 32 and 64 bits in files, whose values lie in a range of at most 65536."""

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

import histeq
from histeq._cli import cli
from histeq._files import read

RANDOM = np.random.default_rng(12)
DTYPES = ("int32", "uint32", "int64", "uint64")
LOW, HIGH = 70000, 74095


def made(dtype, shape=(90, 80), nodata=False):
    """Return pixels, those that are counted, and the same as 16 bits."""
    pixels = RANDOM.integers(LOW + 1000, LOW + 2000, shape).astype(dtype)
    counted = np.ones(shape, bool)
    pixels[:5], pixels[5:9] = LOW - 60000, HIGH + 60000
    counted[:9] = False
    if nodata:
        pixels[9:20, :40] = 99
        counted[9:20, :40] = False
    return pixels, counted, (np.clip(pixels.astype(np.int64), LOW, HIGH) - LOW).astype(np.uint16)


def run(*arguments, code=0):
    every = (*arguments, "--backend", "numpy")  # nothing is compiled
    result = CliRunner().invoke(cli, [str(argument) for argument in every])
    assert result.exit_code == code, result.output
    return result.stderr


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("memory", ["4M", "1G"])
def test_as_sixteen_bits(tmp_path, dtype, memory):
    """By blocks and as wholes."""
    shape = (900, 800) if memory == "4M" else (90, 80)
    pixels, counted, small = made(dtype, shape)
    np.save(tmp_path / "a.npy", pixels)
    np.save(tmp_path / "m.npy", small[::-1, ::2].astype(dtype) + np.dtype(dtype).type(LOW))
    options = ("--value-range", LOW, HIGH, "--memory", memory)
    given = {"mask": counted, "value_range": (0, HIGH - LOW)}
    model = small[::-1, ::2]
    expected = {
        "equalize": histeq.equalize(small, **given),
        "clahe": histeq.clahe(small, **given),
        "match": histeq.match(small, model, **given),
    }
    for command, result in expected.items():
        reference = (tmp_path / "m.npy",) if command == "match" else ()
        run(command, tmp_path / "a.npy", *reference, tmp_path / f"{command}.npy", *options)
        found = np.load(tmp_path / f"{command}.npy")
        assert found.dtype == dtype
        np.testing.assert_array_equal(found.astype(np.int64), result.astype(np.int64) + LOW)


def test_all_of_sixteen_bits(tmp_path):
    pixels = RANDOM.integers(0, 65536, (90, 80))
    np.save(tmp_path / "a.npy", pixels.astype(np.uint32))
    run("equalize", tmp_path / "a.npy", tmp_path / "b.npy", "--value-range", 0, 65535)
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), histeq.equalize(pixels.astype(np.uint16)))


@pytest.mark.parametrize("nodata", [99, LOW, HIGH])
def test_nodata_and_overviews(tmp_path, nodata):
    pixels, counted, small = made("int32", (600, 500), nodata=True)
    pixels[pixels == 99] = nodata
    tags = [(42113, 2, 6, b"%d\0" % nodata, True)]
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(64, 64), extratags=tags, metadata=None)
    run("equalize", tmp_path / "a.tif", tmp_path / "b.tif", "--value-range", LOW, HIGH, "--overviews")
    result = read(tmp_path / "b.tif").pixels
    np.testing.assert_array_equal(result == nodata, pixels == nodata)
    expected = histeq.equalize(small, mask=counted, value_range=(0, HIGH - LOW)).astype(int) + LOW
    same = result == expected
    assert same[(pixels != nodata) & (expected != nodata)].all()
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.series[0].levels[1].asarray().dtype == np.int32


def test_ranges_of_the_result(tmp_path):
    pixels, counted, small = made("uint32")
    np.save(tmp_path / "a.npy", pixels)
    given = {"mask": counted, "value_range": (0, HIGH - LOW)}
    for options, expected in (
        (("--out-range", 5, 1000), histeq.equalize(small, out_range=(0, 995), **given) + np.uint32(5)),
        (("--out-dtype", "uint8"), histeq.equalize(small, out_dtype="uint8", **given)),
        (("--rule", "skimage"), histeq.equalize(small, rule="skimage", **given)),
    ):
        limits = ("--value-range", LOW, HIGH, "--overwrite")
        run("equalize", tmp_path / "a.npy", tmp_path / "b.npy", *limits, *options)
        found = np.load(tmp_path / "b.npy")
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype


def test_several_together(tmp_path):
    pixels, counted, small = made("int32")
    for name, part in (("a.npy", pixels[:30]), ("b.npy", pixels[30:])):
        np.save(tmp_path / name, part)
    files = (tmp_path / "a.npy", tmp_path / "b.npy", f"{tmp_path}/out/")
    run("equalize", *files, "--together", "--value-range", LOW, HIGH)
    found = np.concatenate([np.load(tmp_path / "out" / name) for name in ("a.npy", "b.npy")])
    expected = histeq.equalize(small, mask=counted, value_range=(0, HIGH - LOW))
    np.testing.assert_array_equal(found, expected.astype(np.int32) + LOW)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "--value-range must name at most 65536 values of int32"),
        (("--value-range", 0, 65536), "at most 65536 values of int32"),
        (("--value-range", 9, 3), "must have low < high"),
        (("--value-range", 0, 1e12), "at most 65536 values of int32"),
        (("--value-range", 0, "nan"), "at most 65536 values of int32"),
        (("--value-range", 0, 100, "--nodata", 1e12), "nodata must be a value that int32 holds"),
        (("--value-range", 0, 100, "--nodata", 0.5), "nodata must be a value that int32 holds"),
        (("--value-range", 0, 100, "--out-range", 0, 1e12), "out-range must"),
        (("--value-range", 0, 100, "--out-dtype", "uint8", "--nodata", 300), "nodata must"),
    ],
)
@pytest.mark.parametrize("command", ["equalize", "clahe"])
def test_wrong(tmp_path, command, options, says):
    np.save(tmp_path / "a.npy", np.arange(100, dtype=np.int32).reshape(10, 10))
    assert says in run(command, tmp_path / "a.npy", tmp_path / "b.npy", *options, code=1)
    assert not (tmp_path / "b.npy").exists()


def test_colour_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((9, 9, 3), np.uint32))
    options = ("--layout", "HWC", "--value-range", 0, 9)
    assert "grey pictures are served" in run(
        "equalize", tmp_path / "a.npy", tmp_path / "b.npy", *options, code=1
    )
