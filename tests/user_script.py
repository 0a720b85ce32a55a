"""A user's script for mypy: what an editor knows of the results. It is checked, not run: `mypy` in dev.py."""

from pathlib import Path
from typing import Any, BinaryIO, assert_type

import numpy as np
from numpy.typing import NDArray

import histeq


def numpy_arrays(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> None:
    """Arrays of NumPy come back as arrays of NumPy, with the dtype that the call gives them."""
    assert_type(histeq.equalize(image), NDArray[np.uint8])
    assert_type(histeq.equalize(image, mask=mask, color="luma-bgr", out=image), NDArray[np.uint8])
    assert_type(histeq.equalize(image, rule="skimage"), NDArray[np.float32 | np.float64])
    assert_type(histeq.clahe(image, tiles=(6, 10), alpha=True), NDArray[np.uint8])
    deep = image.astype(np.uint16)
    assert_type(histeq.equalize(deep, value_range=(0, 4095)), NDArray[np.uint16])
    assert_type(histeq.equalize(deep, out_dtype=np.uint8), NDArray[np.uint8])
    assert_type(histeq.equalize(deep, rule="numpy", out_dtype="uint8", out=image), NDArray[np.uint8])
    assert_type(histeq.clahe(deep, value_range=(0, 4095), out_dtype=image.dtype), NDArray[np.uint8])
    assert_type(histeq.clahe(deep), NDArray[np.uint16])
    assert_type(histeq.match(image, image), NDArray[np.uint8])
    assert_type(histeq.match(image, image, reference_mask=mask, reference_nodata=None), NDArray[np.uint8])
    counts = histeq.histogram(image)
    assert_type(counts, NDArray[np.int64])
    table = histeq.lookup_table(counts, dtype=np.uint8)
    assert_type(table, NDArray[np.uint8])
    assert_type(histeq.lookup_table(counts, dtype=np.uint16), NDArray[np.uint16])
    assert_type(histeq.lookup_table(counts, dtype=np.uint16, out_dtype=np.uint8), NDArray[np.uint8])
    assert_type(histeq.apply(image, table), NDArray[np.uint8])
    assert_type(histeq.tile_tables(image), histeq.TileTables)
    assert_type(histeq.apply_tiles(image, histeq.tile_tables(image), origin=(3, 4)), NDArray[np.uint8])
    tiles = histeq.tile_histograms(image, shape=(300, 400), origin=(3, 4))
    assert_type(tiles + tiles, histeq.TileHistograms)
    assert_type(histeq.tile_tables(tiles).part((0, 0), (2, 8), counted=tiles.totals()), histeq.TileTables)
    with histeq.threads(1):
        assert_type(histeq.equalize(image), NDArray[np.uint8])
    assert_type(histeq.backends()[0].available, bool)


def files(path: Path, file: BinaryIO, mask: NDArray[np.bool_]) -> None:
    """Files are paths, open files or arrays of zarr's; several together give several results."""
    assert_type(histeq.equalize_file("a.tif", path, mask=mask, out_dtype=np.uint8), histeq.FileResult)
    assert_type(histeq.match_file(path, "model.tif", file, nodata=0), histeq.FileResult)
    assert_type(histeq.clahe_file(file, path, tiles=(6, 10), memory="1G"), histeq.FileResult)
    assert_type(histeq.equalize_file([path, path], ["a.tif", "b.tif"]), list[histeq.FileResult])
    assert_type(histeq.match_file((file,), path, (path,)), list[histeq.FileResult])
    assert_type(histeq.equalize_file(path, file).notes, tuple[str, ...])


class Tensor:
    """An array of another library."""

    shape: tuple[int, ...] = (3, 4)
    dtype: Any = "uint8"


def other_arrays(tensor: Tensor) -> None:
    """Arrays of other libraries come back as arrays of the same."""
    assert_type(histeq.equalize(tensor), Tensor)
    assert_type(histeq.clahe(tensor), Tensor)
    assert_type(histeq.histogram(tensor), Tensor)
    assert_type(histeq.match(tensor, tensor, color="luma"), Tensor)


class Dataset:
    """Several arrays, as xarray has them."""

    data_vars: Any = ()


def several_arrays(dataset: Dataset) -> None:
    """A Dataset of xarray's comes back as one."""
    assert_type(histeq.equalize(dataset), Dataset)
    assert_type(histeq.clahe(dataset), Dataset)
    assert_type(histeq.histogram(dataset), Dataset)


def mistakes(image: NDArray[np.uint8]) -> None:
    """What an editor marks: strict mypy complains about a comment that is not needed."""
    histeq.equalize(image, rule="OpenCV")  # type: ignore[call-overload]
    histeq.equalize(image, color="rgb")  # type: ignore[call-overload]
    histeq.equalize([[1, 2]])  # type: ignore[call-overload]
    histeq.clahe(image, backend="cuda")  # type: ignore[call-overload]
    histeq.equalize_file("a.tif", "b.tif", pages="all")  # type: ignore[call-overload]
    histeq.equalize_file(["a.tif"], "b.tif")  # type: ignore[call-overload]
    histeq.clahe_file(["a.tif"], "b.tif")  # type: ignore[arg-type]
    histeq.match(image, image, nodata="0")  # type: ignore[arg-type]
    histeq.match(image, image, reference_nodata="0")  # type: ignore[arg-type]
