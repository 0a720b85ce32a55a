"""Computation and replacement of Y in the pixels of a row; separation and interleaving of their channels."""

from typing import Any, NamedTuple

import numpy as np

from histeq_kernels.cpu.core.kernel import inline
from histeq_kernels.cpu.core.operations import (
    interleave_rgb,
    interleave_rgba,
    luma_of_planes,
    luma_of_rgb,
    luma_of_rgba,
    replace_luma_of_planes,
    replace_luma_of_rgb,
    replace_luma_of_rgba,
    separate_rgb,
    separate_rgba,
)
from histeq_kernels.cpu.core.views import row
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
    if old.stride == 1:
        done = luma_of_planes(old.channels, start, size, old.k, y)
    elif old.stride == 3:
        done = luma_of_rgb(old.channels, start, size, old.k, y)
    else:
        done = luma_of_rgba(old.channels, start, size, old.k, y)
    for i in range(np.uint64(done), size):
        p, q, r = pixel(old.channels, start + i, old.stride)
        y[i] = luma_of(p, q, r, old.k)


@inline
def replace_luma_of_chunk(old, start, size, y, mapped, new):
    """Write `size` pixels of a row with Y, which is `y`, replaced by `mapped`; `new` has the output rows."""
    if old.stride == 1:
        done = replace_luma_of_planes(old.channels, start, size, old.k, y, mapped, new)
    elif old.stride == 3:
        done = replace_luma_of_rgb(old.channels, start, size, old.k, y, mapped, new)
    else:
        done = replace_luma_of_rgba(old.channels, start, size, old.k, y, mapped, new)
    for i in range(np.uint64(done), size):
        replace_pixel(old.channels, start + i, old.stride, old.k, y[i], mapped[i], new)


@inline
def separate_channels(pixels, start, size, stride, channels):
    """Write the channels of `size` pixels of a row to separate buffers; `stride` is their number, 3 or 4."""
    rows = (pixels, pixels, pixels)
    if stride == 3:
        done = separate_rgb(rows, start, size, channels)
    else:
        done = separate_rgba(rows, start, size, channels)
    for i in range(np.uint64(done), size):
        for c in range(stride):
            channels[c][i] = pixels[stride * (start + i) + c]


@inline
def interleave_channels(channels, start, size, stride, pixels):
    """Write `size` pixels of a row from their channels; `stride` is the number of channels, 3 or 4."""
    rows = (pixels, pixels, pixels)
    if stride == 3:
        done = interleave_rgb(rows, start, size, channels)
    else:
        done = interleave_rgba(rows, start, size, channels)
    for i in range(np.uint64(done), size):
        for c in range(stride):
            pixels[stride * (start + i) + c] = channels[c][i]
