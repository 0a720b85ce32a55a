"""Counting and mapping each channel of interleaved 8-bit pixels (`step` 3 or 4) alone.

Chunk by chunk the channels are taken apart in the first-level cache, where the kernels of grey images serve
them, and put together again. A fourth channel is copied.
"""

from collections.abc import Callable

import numpy as np

from histeq_kernels.cpu import _ycrcb
from histeq_kernels.cpu._kernel import inline, kernel, plane, plane_out
from histeq_kernels.cpu._vector import row
from histeq_kernels.cpu._ycrcb import WIDTH
from histeq_kernels.cpu.histogram import SMALL, count_row, fold
from histeq_kernels.cpu.luma import CHUNK, lookup
from histeq_kernels.cpu.lut import fill_steps, map_row_avx2
from histeq_kernels.cpu.tiers import tier

_COUNT = f"void({plane('uint8')}, uint64, uint8[:, ::1], uint32[:, ::1], int64[:, ::1])"
_TABLES = "Array(uint8, 2, 'C', readonly=True)"
_APPLY = f"void({plane('uint8')}, uint64, {_TABLES}, uint8[:, ::1], {plane_out('uint8')})"


def mapping() -> Callable[..., None]:
    """Return the fastest kernel that maps interleaved channels."""
    return (apply_channels_portable if tier() == "portable" else apply_channels_avx2).u8


@kernel(u8=_COUNT)
def histogram_channels(image, step, chunks, scratch, counts):
    """Add the counts of the first three channels; `scratch` has a row for each."""
    few = np.uint64(image.size) < step * np.uint64(SMALL)
    for d in range(np.uint64(image.shape[0])):
        for h in range(np.uint64(image.shape[1])):
            pixels = row(image, d, h)
            width = np.uint64(pixels.size) // step
            for start in range(np.uint64(0), width, np.uint64(CHUNK)):
                size = min(np.uint64(CHUNK), width - start)
                take_apart(pixels, start, size, step, chunks)
                for c in range(3):
                    count_row(chunks[c][:size], few, scratch[c], counts[c])
    for c in range(3):
        fold(few, scratch[c], counts[c])


@kernel(u8=_APPLY)
def apply_channels_portable(image, step, tables, chunks, out):
    """Map three channels, each through its row of `tables`."""
    map_channels(image, step, tables, chunks, out, lookup)


@kernel(u8=_APPLY)
def apply_channels_avx2(image, step, tables, chunks, out):
    """Do the same with the lookup of the tier avx2."""
    for c in range(3):
        fill_steps(tables[c], chunks[4 + c])
    map_channels(image, step, tables, chunks, out, map_row_avx2)


@inline
def map_channels(image, step, tables, chunks, out, look_up):
    """Map chunk by chunk; the steps of the tables are in the chunks from the fifth on."""
    for d in range(np.uint64(image.shape[0])):
        for h in range(np.uint64(image.shape[1])):
            pixels, new = row(image, d, h), row(out, d, h)
            width = np.uint64(pixels.size) // step
            for start in range(np.uint64(0), width, np.uint64(CHUNK)):
                size = min(np.uint64(CHUNK), width - start)
                take_apart(pixels, start, size, step, chunks)
                for c in range(3):
                    look_up(chunks[c][:size], tables[c], chunks[4 + c], chunks[c])
                put_together(chunks, start, size, step, new)


@inline
def take_apart(pixels, start, size, step, chunks):
    """Write the channels of some pixels of a row to the first chunks."""
    whole = size - size % np.uint64(WIDTH)
    for i in range(np.uint64(0), whole, np.uint64(WIDTH)):
        at = step * (start + i)
        if step == 3:
            _ycrcb.take_apart_rgb(pixels, at, chunks[0], chunks[1], chunks[2], chunks[3], i)
        else:
            _ycrcb.take_apart_rgba(pixels, at, chunks[0], chunks[1], chunks[2], chunks[3], i)
    for i in range(whole, size):
        for c in range(step):
            chunks[c, i] = pixels[step * (start + i) + c]


@inline
def put_together(chunks, start, size, step, pixels):
    """Write the first chunks as the channels of some pixels of a row."""
    whole = size - size % np.uint64(WIDTH)
    for i in range(np.uint64(0), whole, np.uint64(WIDTH)):
        at = step * (start + i)
        if step == 3:
            _ycrcb.put_together_rgb(chunks[0], chunks[1], chunks[2], chunks[3], i, pixels, at)
        else:
            _ycrcb.put_together_rgba(chunks[0], chunks[1], chunks[2], chunks[3], i, pixels, at)
    for i in range(whole, size):
        for c in range(step):
            pixels[step * (start + i) + c] = chunks[c, i]
