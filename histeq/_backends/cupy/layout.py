"""Canonical arrays as the CUDA kernels walk them: lines of columns, as long and as dense as may be."""

from dataclasses import dataclass
from typing import Any

import cupy
import numpy as np

from histeq._backends.cupy.device import LAYOUT, address
from histeq._core.backend import Pixels

Array = Any


@dataclass(frozen=True, slots=True)
class Lines:
    """The pixels of a launch: what the kernels need to find them."""

    layout: np.ndarray
    """struct Layout of common.cuh."""
    planes: int
    """Images times planes."""
    pixels: int
    """Of one plane."""
    image: np.uint64
    """Address of the first pixel; the same of mask and out, 0 for none."""
    mask: np.uint64
    out: np.uint64
    dense: bool
    """Lines are contiguous in the image and in `out`, which has pixels of the same size, without a mask."""


def lines_of(
    image: Array, mask: Array | None = None, out: Array | None = None, *, luma: bool = False
) -> Lines:
    """Return how to walk canonical arrays of one shape (the mask's N and C may be 1).

    The spatial axes are turned to ascending addresses, ordered by stride and merged where they can be, in all
    arrays alike: a contiguous plane of any axis order is one line.
    """
    arrays = [image, mask, out]
    strides = [list(_strides(array, image.shape)) for array in arrays]
    addresses = [address(array) for array in arrays]
    shape = list(image.shape)
    for axis in (2, 3, 4):
        if strides[0][axis] < 0:
            for i, one in enumerate(strides):
                addresses[i] += one[axis] * (shape[axis] - 1)
                one[axis] = -one[axis]
    axes = [axis for axis in sorted((2, 3, 4), key=lambda a: -strides[0][a]) if shape[axis] != 1]
    merged: list[tuple[int, list[int]]] = []  # (size, strides of image, mask and out), the outermost first
    for axis in axes:
        steps = [one[axis] for one in strides]
        if merged and all(
            outer == shape[axis] * step for outer, step in zip(merged[-1][1], steps, strict=True)
        ):
            merged[-1] = (merged[-1][0] * shape[axis], steps)
        else:
            merged.append((shape[axis], steps))
    merged = [(1, [0, 0, 0])] * (3 - len(merged)) + merged
    columns, steps = merged[2]
    if columns == 1:
        steps = [array.itemsize if array is not None else 0 for array in arrays]
        merged[2] = (1, steps)
    planes = 1 if luma else shape[1]
    layout = np.array(
        (
            shape[0], planes, *(size for size, _ in merged),
            *((one[0], one[1], *(steps[i] for _, steps in merged)) for i, one in enumerate(strides)),
        ),
        LAYOUT,
    )  # fmt: skip
    dense = mask is None and steps[0] == image.itemsize
    dense = dense and (out is None or (out.itemsize == image.itemsize and steps[2] == out.itemsize))
    pixels = shape[2] * shape[3] * shape[4]
    first, masked, target = (np.uint64(one) for one in addresses)
    return Lines(layout, shape[0] * planes, pixels, first, masked, target, dense)


def rows_of(
    image: Array, mask: Array | None = None, out: Array | None = None, *, luma: bool = False
) -> Lines:
    """Return how to walk canonical arrays of one shape row by row, every axis as it is."""
    strides = [_strides(array, image.shape) for array in (image, mask, out)]
    shape = list(image.shape)
    if luma:
        shape[1] = 1
    layout = np.array((*shape, *map(tuple, strides)), LAYOUT)
    first, masked, target = (np.uint64(address(one)) for one in (image, mask, out))
    return Lines(layout, shape[0] * shape[1], shape[2] * shape[3] * shape[4], first, masked, target, False)


def _strides(array: Array | None, shape: tuple[int, ...]) -> list[int]:
    """Return an array's strides, 0 along axes where it is broadcast."""
    if array is None:
        return [0] * 5
    return [
        0 if size == 1 and length != 1 else stride
        for stride, size, length in zip(array.strides, array.shape, shape, strict=True)
    ]


# Arrays that kernels take ----------------------------------------------------------------------------


def tag_of(dtype: Any) -> str:
    """Name a kernel's variant: u8, u16 (int16 too), f16, f32, f64."""
    return f"{'f' if dtype.kind == 'f' else 'u'}{8 * dtype.itemsize}"


def flip_of(dtype: Any) -> np.uint32:
    """Return what turns the bits of a 16-bit integer into its place among the values."""
    return np.uint32(0x8000 if dtype.kind == "i" else 0)


def red_first(pixels: Pixels, image: Array) -> Array:
    """Return a view whose first channel is red."""
    return image[:, ::-1] if pixels.luma == "bgr" else image


def is_aligned(array: Array) -> bool:
    """Tell whether every element lies at a multiple of its size, as device loads and stores need it."""
    size = array.itemsize
    return size == 1 or not (address(array) % size or any(stride % size for stride in array.strides))


def aligned(array: Array) -> Array:
    """Return an array that kernels take: a copy where elements are misaligned."""
    if is_aligned(array):
        return array
    copied = cupy.empty(array.shape, array.dtype)
    copy_bytes(array, copied)
    return copied


def copy_bytes(source: Array, target: Array) -> None:
    """Copy elements byte by byte."""
    as_bytes = cupy.lib.stride_tricks.as_strided
    size = source.itemsize

    def seen(array: Array) -> Array:
        flat = cupy.ndarray((1,), np.uint8, memptr=array.data)
        return as_bytes(flat, (*array.shape, size), (*array.strides, 1))

    seen(target)[...] = seen(source)
