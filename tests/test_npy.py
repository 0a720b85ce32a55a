"""Arrays in NPY files as sources and sinks of blocks."""

import io
import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib import format as npy_format
from numpy.testing import assert_array_equal

from histeq._files import npy
from histeq._files.blocks import Header, Options, Window
from histeq._files.picture import Unfit

LIMIT = 10**7


def opened(path: Path, layout: str | None = None) -> Any:
    with path.open("rb") as file:
        return npy.open(io.BytesIO(file.read()), LIMIT, layout)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    ("shape", "layout", "expected", "dtype"),
    [
        ((50, 70), None, "HW", "u1"),
        ((50, 70, 3), None, "HWC", ">i2"),
        ((4, 50, 70), None, "NHW", "f4"),
        ((2, 50, 70, 4), None, "NHWC", "u2"),
        ((3, 50, 70), "CHW", "HWC", ">f8"),
        ((2, 3, 4, 20, 30), "TCDHW", "NHWC", ">u2"),
        ((70, 50, 5), "WHN", "NHW", "i1"),
        ((1, 50, 70), None, "HW", "f2"),
    ],
)
@pytest.mark.parametrize("kind", ["on disk", "in memory", "other"])
def test_windows_and_copies_are_the_array(
    *, tmp_path: Path, shape: Any, layout: str | None, expected: str, dtype: str, order: Any, kind: str
) -> None:
    array = np.random.default_rng(0).integers(0, 100, shape).astype(dtype, order=order)
    np.save(tmp_path / "a.npy", array)
    letters = layout or ("N" + expected if shape[0] == 1 else expected)
    pages_first = [axis for axis, letter in enumerate(letters) if letter not in "HWC"]
    last = [letters.index(letter) for letter in "HWC" if letter in letters]
    pages = array.transpose(pages_first + last).reshape(-1, *(array.shape[axis] for axis in last))
    data = (tmp_path / "a.npy").read_bytes()
    memory = [io.BytesIO(data), io.BytesIO()]
    source_file, target = [io.BufferedRandom(file) for file in memory] if kind == "other" else memory
    with (tmp_path / "a.npy").open("rb") as on_disk, (tmp_path / "b.npy").open("w+b") as written:
        source = npy.open(on_disk if kind == "on disk" else source_file, LIMIT, layout)
        header = source.header
        assert (header.layout, header.pages, header.dtype) == (
            expected,
            len(pages),
            array.dtype.newbyteorder("="),
        )
        assert source.in_blocks == (kind != "other")
        sink = npy.create(written if kind == "on disk" else target, header, Options())
        windows = [
            Window(page, top, left, min(20, header.height - top), min(30, header.width - left))
            for page in range(header.pages)
            for top in range(0, header.height, 20)
            for left in range(0, header.width, 30)
        ]
        random.Random(0).shuffle(windows)

        def one(window: Window) -> None:
            pixels = source.read(window)
            assert pixels.dtype == header.dtype
            assert pixels.flags.writeable
            assert pixels.flags.c_contiguous
            assert_array_equal(pixels, pages[window.page][window.slices])
            sink.write(window, pixels)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(one, windows))
        assert_array_equal(sink.read(windows[0]), pages[windows[0].page][windows[0].slices])
        sink.finish()
    target.seek(0)
    result = np.load(tmp_path / "b.npy" if kind == "on disk" else io.BytesIO(target.read()))
    assert_array_equal(result, array)
    assert result.dtype == header.dtype
    assert result.flags.c_contiguous


def test_an_image_of_another_format_has_its_layout(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"format": "PNG", "pages": 1, "height": 4, "width": 5, "channels": 3}
    header = Header(**fields, dtype=np.dtype("u1"), layout="HWC")
    with (tmp_path / "a.npy").open("w+b") as file:
        sink = npy.create(file, header, Options())
        assert sink.blocks(0) == (4, 5)
        sink.write(Window(0, 0, 0, 4, 5), np.full((4, 5, 3), 9, np.uint8))
    assert_array_equal(np.load(tmp_path / "a.npy"), np.full((4, 5, 3), 9, np.uint8))


def test_only_the_window_is_in_memory(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    with (tmp_path / "a.npy").open("w+b") as file:
        fields = {"shape": (20000, 20000), "fortran_order": False, "descr": "|u1"}
        npy_format.write_array_header_1_0(file, fields)
        file.truncate(file.tell() + 20000**2)
        file.seek(0)
        source = npy.open(file, 10**9)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for top in range(0, 20000, 500):
            source.read(Window(0, top, 0, 500, 20000))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100_000  # KiB, of 400 MB


def saved(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([[{}, {}]]), "Python objects"),
        (np.zeros((3, 4), [("a", "u1")]), "dtype"),
        (np.zeros((3, 4), [("é", "u1")]), "dtype"),  # version 3 of the format
        (np.zeros((3, 4), np.complex64), "dtype complex64"),
        (np.zeros((3, 4), bool), "dtype bool"),
        (np.zeros((3, 4), complex), "dtype complex"),
        (np.uint8(3), "0 axes"),
        (np.zeros(4, np.uint8), "1 axes"),
        (np.zeros((0, 4), np.uint8), "no pixels"),
        (np.zeros((4000, 4000), np.uint8), "--max-pixels"),
    ],
)
@pytest.mark.filterwarnings("ignore:Stored array in format 3.0")
def test_what_is_no_image(tmp_path: Path, array: np.ndarray, message: str) -> None:
    with pytest.raises(Unfit, match=message):
        opened(saved(tmp_path / "a.npy", array))


def test_hostile_files(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npy", np.zeros((300, 400), np.uint8))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with path.open("rb") as file, pytest.raises(ValueError, match="119999 of 120000"):
        npy.open(file, LIMIT)
    for data, message in (
        (whole[:50], "header"),
        (whole.replace(b"(300, 400)", b"(-30, 400)"), "shape"),
        (whole.replace(b"'descr'", b"'disco'"), "keys"),
        (whole.replace(b"'|u1'", b"'?u1'"), "(?i)descr"),
    ):
        with pytest.raises((ValueError, EOFError), match=message):
            npy.open(io.BytesIO(data), LIMIT)
    path.write_bytes(whole)
    with path.open("rb") as file:
        source = npy.open(file, LIMIT)
        os.truncate(path, 1000)  # between the passes
        with pytest.raises(ValueError, match=r"length|size"):
            source.read(Window(0, 0, 0, 10, 10))
    with path.open("rb") as file, pytest.raises(Unfit, match="layout must have"):
        npy.open(io.BytesIO(whole), LIMIT, "HWC")
