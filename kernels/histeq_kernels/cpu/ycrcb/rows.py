"""Computation and replacement of Y in the pixels of a row."""

from typing import Any, NamedTuple

import numpy as np

from histeq_kernels.cpu.core.kernel import inline
from histeq_kernels.cpu.core.operations import (
    luma_of_planes,
    luma_of_rgb,
    luma_of_rgba,
    replace_luma_of_planes,
    replace_luma_of_rgb,
    replace_luma_of_rgba,
)
from histeq_kernels.cpu.core.views import row
from histeq_kernels.cpu.ycrcb.lanes import WIDTH
from histeq_kernels.cpu.ycrcb.scalar import luma_of
from histeq_kernels.cpu.ycrcb.vectors import pixel, replace_pixel

CHUNK = 2048
"""The number of pixels whose Y is in the first-level cache at the same time."""


class Colors(NamedTuple):
    """Rows of 8-bit colour pixels, or images of such rows."""

    channels: Any
    """Three planes, or, for interleaved pixels, three times the same rows."""
    stride: Any
    """Bytes from one pixel to the next, uint64: 1, 3 or 4."""
    k: Any
    """The coefficients of the channels, in their order in memory."""


@inline
def row_of(image, z, y):
    """Return one row of a colour image."""
    first, second, third = image.channels
    return Colors((row(first, z, y), row(second, z, y), row(third, z, y)), image.stride, image.k)


@inline
def pixels_of(old):
    """Return how many pixels a row has."""
    return np.uint64(old.channels[0].size) // old.stride


@inline
def luma_of_chunk(old, start, size, y):
    """Write Y of `size` pixels of a row from pixel `start` on."""
    wide = np.uint64(WIDTH)
    vectors = (size + wide - np.uint64(1)) // wide if size >= wide else np.uint64(0)
    for j in range(vectors):
        i = min(wide * j, size - wide)  # the last vector computes some pixels again
        at = old.stride * (start + i)
        if old.stride == 1:
            luma_of_planes(old.channels, at, old.k, y, i)
        elif old.stride == 3:
            luma_of_rgb(old.channels, at, old.k, y, i)
        else:
            luma_of_rgba(old.channels, at, old.k, y, i)
    for i in range(size if vectors else np.uint64(0), size):
        p, q, r = pixel(old.channels, start + i, old.stride)
        y[i] = luma_of(p, q, r, old.k)


@inline
def replace_luma_of_chunk(old, start, size, y, mapped, new):
    """Write `size` pixels of a row with Y, which is `y`, replaced by `mapped`; `new` has the output rows."""
    vectors = size - size % np.uint64(WIDTH)
    for i in range(np.uint64(0), vectors, np.uint64(WIDTH)):
        at = old.stride * (start + i)
        if old.stride == 1:
            replace_luma_of_planes(old.channels, at, old.k, y, mapped, i, new)
        elif old.stride == 3:
            replace_luma_of_rgb(old.channels, at, old.k, y, mapped, i, new)
        else:
            replace_luma_of_rgba(old.channels, at, old.k, y, mapped, i, new)
    for i in range(vectors, size):
        replace_pixel(old.channels, start + i, old.stride, old.k, y[i], mapped[i], new)
