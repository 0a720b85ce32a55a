"""Strided arrays as the CUDA kernels take them: planes of layers of rows, as long and as dense as may be."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cupy
import numpy as np
from histeq_kernels.cuda.interface import LAYOUT, RESIDENT_BLOCKS, TABLES, VECTOR

from histeq._backends.cupy import device as _device
from histeq._backends.cupy.device import Device, address, refuse_capture, structure
from histeq._backends.cupy.rules import nodata_bin
from histeq._core.backend import Pixels

Array = Any


@dataclass(frozen=True, slots=True)
class Region:
    """The pixels of a launch: what the kernels need to find them."""

    layout: np.ndarray
    """struct Layout of common.cuh."""
    planes: int
    """Planes of all images."""
    plane_size: int
    """Pixels of a plane."""
    image: np.uint64
    """Address of the first pixel."""
    mask: np.uint64
    """Address of the first pixel's mask; 0: all pixels count."""
    out: np.uint64
    """Address of the first pixel of the result; 0: there is none."""
    is_contiguous: bool
    """No mask, and contiguous rows in the image and in the result, whose pixels are as large."""

    def stretches(self, length: int, pixel_size: int) -> int:
        """Return how many stretches of `length` bytes kernels cut a plane of contiguous rows into."""
        vectors = (int(self.layout["columns"]) * pixel_size + 2 * (VECTOR - 1)) // VECTOR
        return int(self.layout["layers"] * self.layout["rows"]) * -(-vectors // (length // VECTOR))

    def grid(
        self, gpu: Device, pixel_size: int, slices: int = 1, resident_blocks: int = RESIDENT_BLOCKS
    ) -> tuple[int, int, int]:
        """Return the grid of a launch: blocks for a plane, planes, slices of the values.

        The blocks for a plane follow from its size: every pixel has `pixel_size` bytes to be read.
        """
        size = self.plane_size * pixel_size
        blocks = gpu.blocks_per_plane(size, self.planes * slices, self.plane_size, resident_blocks)
        return blocks, min(self.planes, _device.GRID_Y), slices


def region_of(
    image: Array, mask: Array | None = None, out: Array | None = None, *, luma: bool = False
) -> Region:
    """Return the region of canonical arrays of one shape (the mask's N and C may be 1), with its own axes."""
    strides = [_strides(array, image.shape) for array in (image, mask, out)]
    addresses = [address(array) for array in (image, mask, out)]
    return _region(image.shape, strides, addresses, luma, is_contiguous=False)


def merged_region_of(
    image: Array, mask: Array | None = None, out: Array | None = None, *, luma: bool = False
) -> Region:
    """Return the region of canonical arrays of one shape (the mask's N and C may be 1), in rows of any order.

    The spatial axes are turned to ascending addresses, ordered by stride and merged where they can be, in all
    arrays alike: a contiguous plane of any axis order is one row.
    """
    arrays = [image, mask, out]
    strides = [list(_strides(array, image.shape)) for array in arrays]
    addresses = [address(array) for array in arrays]
    _turn_to_ascending(image.shape, strides, addresses)
    merged = _merge(image.shape, strides)
    if merged[2][0] == 1:  # the stride along one column is any
        merged[2] = (1, [0 if array is None else array.itemsize for array in arrays])
    shape = (*image.shape[:2], *(size for size, _ in merged))
    for i, array_strides in enumerate(strides):
        array_strides[2:] = [axis_strides[i] for _, axis_strides in merged]
    is_contiguous = mask is None and strides[0][4] == image.itemsize
    if out is not None:
        is_contiguous = is_contiguous and image.itemsize == out.itemsize == strides[2][4]
    return _region(shape, strides, addresses, luma, is_contiguous=is_contiguous)


def _region(
    shape: tuple[int, ...], strides: list[list[int]], addresses: list[int], luma: bool, *, is_contiguous: bool
) -> Region:
    images, planes = shape[0], 1 if luma else shape[1]
    layout = structure(LAYOUT, images, planes, *shape[2:], *map(tuple, strides))
    image, mask, out = map(np.uint64, addresses)
    return Region(layout, images * planes, int(np.prod(shape[2:])), image, mask, out, is_contiguous)


def _strides(array: Array | None, shape: tuple[int, ...]) -> list[int]:
    """Return an array's strides, 0 along axes where it is broadcast."""
    if array is None:
        return [0] * 5
    return [
        0 if size == 1 and length != 1 else stride
        for stride, size, length in zip(array.strides, array.shape, shape, strict=True)
    ]


def _turn_to_ascending(shape: tuple[int, ...], strides: list[list[int]], addresses: list[int]) -> None:
    """Turn the spatial axes along which the image's addresses descend, in all arrays."""
    for axis in (2, 3, 4):
        if strides[0][axis] < 0:
            for i, array_strides in enumerate(strides):
                addresses[i] += array_strides[axis] * (shape[axis] - 1)
                array_strides[axis] = -array_strides[axis]


def _merge(shape: tuple[int, ...], strides: list[list[int]]) -> list[tuple[int, list[int]]]:
    """Return three spatial axes, size and stride in every array of each, by the image's strides."""
    merged: list[tuple[int, list[int]]] = []
    for axis in sorted((2, 3, 4), key=lambda a: -strides[0][a]):
        if shape[axis] == 1:
            continue
        axis_strides = [array_strides[axis] for array_strides in strides]
        if merged and merged[-1][1] == [shape[axis] * stride for stride in axis_strides]:
            merged[-1] = (merged[-1][0] * shape[axis], axis_strides)
        else:
            merged.append((shape[axis], axis_strides))
    return [(1, [0, 0, 0])] * (3 - len(merged)) + merged


# Arrays that kernels take ----------------------------------------------------------------------------


def tag_of(dtype: Any) -> str:
    """Name a kernel's variant: u8, u16 (signed integers too), f16, f32, f64."""
    return f"{'f' if dtype.kind == 'f' else 'u'}{8 * dtype.itemsize}"


def flip_of(dtype: Any) -> np.uint32:
    """Return what turns the bits of an integer into its place among the values."""
    return np.uint32(1 << (8 * dtype.itemsize - 1) if dtype.kind == "i" else 0)


def red_first(pixels: Pixels, image: Array) -> Array:
    """Return a view whose first channel is red, where the luma is the image."""
    return image[:, ::-1] if pixels.luma == "bgr" else image


def is_aligned(array: Array) -> bool:
    """Tell whether every element lies at a multiple of its size, as device loads and stores need it."""
    size = array.itemsize
    return size == 1 or not (address(array) % size or any(stride % size for stride in array.strides))


def aligned(array: Array) -> Array:
    """Return an array that kernels take: a copy where elements are misaligned."""
    if is_aligned(array):
        return array
    _refuse_misaligned()
    copied = cupy.empty(array.shape, array.dtype)
    _copy_bytes(array, copied)
    return copied


@contextmanager
def aligned_target(out: Array) -> Iterator[Array]:
    """Give an array that kernels store to: `out`, or one that is copied to a misaligned `out` in the end."""
    if is_aligned(out):
        yield out
    else:
        _refuse_misaligned()
        target = cupy.empty(out.shape, out.dtype)
        yield target
        _copy_bytes(target, out)


def _refuse_misaligned() -> None:
    refuse_capture("a misaligned array", "pass one with all elements at multiples of their size")


def _copy_bytes(source: Array, target: Array) -> None:
    """Copy elements byte by byte."""
    as_strided = cupy.lib.stride_tricks.as_strided
    size = source.itemsize

    def bytes_of(array: Array) -> Array:
        flat = cupy.ndarray((1,), np.uint8, memptr=array.data)
        return as_strided(flat, (*array.shape, size), (*array.strides, 1))

    bytes_of(target)[...] = bytes_of(source)


def with_contiguous_levels(table: Array) -> Array:
    """Return tables (N, P, levels) whose levels are contiguous; the leading axes may be broadcast."""
    if table.strides[2] == table.itemsize or table.shape[2] == 1:
        return table
    refuse_capture("a table whose entries are apart", "pass a contiguous table")
    return cupy.ascontiguousarray(table)


def tables_of(table: Array | None, pixels: Pixels | None = None) -> np.ndarray:
    """Return struct Tables of common.cuh for tables (N or 1, P, ...) whose levels are contiguous.

    `pixels` are the integers that they map. None for `table`: the kernel makes them.
    """
    image = plane = 0
    if table is not None:
        image, plane = (
            0 if size == 1 else stride // table.itemsize
            for size, stride in zip(table.shape[:2], table.strides, strict=False)
        )
    nodata, flip = (-1, 0.0, 0.0), np.uint32(0)
    if pixels is not None:
        nodata = (nodata_bin(pixels), *pixels.nodata_and_beside(0.0))
        flip = flip_of(pixels.image.dtype)
    return structure(TABLES, address(table), image, plane, *nodata, flip)
