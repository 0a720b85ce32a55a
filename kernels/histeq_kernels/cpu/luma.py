"""Counting and equalizing the luma of colour images, in OpenCV's 8- and 16-bit YCrCb (cvtColor).

Cr and Cb depend on the pixel alone, so that one pass goes from RGB to RGB and no image of Y is ever made. The
kernels for rows take contiguous rows of 8-bit pixels, in planes (`step` 1; the three are given) or
interleaved (`step` 3 or 4: all three are the same rows); `_ycrcb.py` has their arithmetic. The strided ones
take the rest.
"""

from collections.abc import Callable

import numpy as np

from histeq_kernels.cpu import _ycrcb
from histeq_kernels.cpu._kernel import COUNTS_OUT, flat, inline, kernel, plane, plane_out
from histeq_kernels.cpu._sliced import TALL, count_sliced, fold_sliced, slice_block_avx512
from histeq_kernels.cpu._vector import address_in, line, part_8, row
from histeq_kernels.cpu._ycrcb import COEFFICIENTS, WIDTH
from histeq_kernels.cpu.histogram import SMALL, ZEROS, count_row, fold
from histeq_kernels.cpu.lut import fill_steps, map_row_avx2, map_row_avx512
from histeq_kernels.cpu.tiers import tier

__all__ = ["CHUNK", "CHUNKS", "COEFFICIENTS", "apply_luma", "counting", "histogram_luma", "mapping"]

CHUNK = 2048
"""Pixels whose Y is kept at once, in the first-level cache."""
BLOCK = 1 << 14
"""Pixels of several rows that are counted together in the tier avx512: one flush of its counter."""
CHUNKS = (8, BLOCK // 2)
"""Room for eight chunks, or for four channels of a block."""

_HALF = 1 << 13
_PLANES = {element: ", ".join([plane(element)] * 3) for element in ("uint8", "uint16")}
_OUTPUTS = {element: ", ".join([plane_out(element)] * 3) for element in ("uint8", "uint16")}


_K = flat("int16")
_COUNT_ROWS = f"void({_PLANES['uint8']}, uint64, {_K}, uint8[:, ::1], uint32[::1], {COUNTS_OUT})"
_APPLY_ROWS = f"void({_PLANES['uint8']}, uint64, {_K}, {flat('uint8')}, uint8[:, ::1], {_OUTPUTS['uint8']})"


def counting() -> Callable[..., None]:
    """Return the fastest kernel that counts Y of rows."""
    kernels = {
        "portable": histogram_luma_portable,
        "avx2": histogram_luma_avx2,
        "avx512": histogram_luma_avx512,
    }
    return kernels[tier()].u8


def mapping() -> Callable[..., None]:
    """Return the fastest kernel that maps Y of rows."""
    kernels = {"portable": apply_luma_portable, "avx2": apply_luma_avx2, "avx512": apply_luma_avx512}
    return kernels[tier()].u8


@kernel(u8=_COUNT_ROWS)
def histogram_luma_portable(first, second, third, step, k, chunks, scratch, counts):
    """Add the counts of Y; `k` has the channels' coefficients, `chunks` room for pixels."""
    luma = (_ycrcb.luma_planes_portable, _ycrcb.luma_rgb_portable, _ycrcb.luma_rgba_portable)
    count_luma(first, second, third, step, k, chunks, scratch, counts, luma)


@kernel(u8=_COUNT_ROWS)
def histogram_luma_avx2(first, second, third, step, k, chunks, scratch, counts):
    """Do the same with 16-bit products."""
    luma = (_ycrcb.luma_planes_avx2, _ycrcb.luma_rgb_avx2, _ycrcb.luma_rgba_avx2)
    count_luma(first, second, third, step, k, chunks, scratch, counts, luma)


@kernel(u8=_COUNT_ROWS)
def histogram_luma_avx512(first, second, third, step, k, chunks, scratch, counts):
    """Do the same with the counter of the tier avx512."""
    count_blocks_of_luma(first, second, third, step, k, chunks, scratch)
    fold_sliced(scratch, counts)


@kernel(u8=_APPLY_ROWS)
def apply_luma_portable(first, second, third, step, k, table, chunks, new_first, new_second, new_third):
    """Map Y through the table, keep Cr and Cb; a fourth channel is copied."""
    luma = (_ycrcb.luma_planes_portable, _ycrcb.luma_rgb_portable, _ycrcb.luma_rgba_portable)
    replace = (_ycrcb.replace_planes_portable, _ycrcb.replace_rgb_portable, _ycrcb.replace_rgba_portable)
    old, new = (first, second, third), (new_first, new_second, new_third)
    map_luma(old, step, k, table, chunks, new, luma, replace, lookup)


@kernel(u8=_APPLY_ROWS)
def apply_luma_avx2(first, second, third, step, k, table, chunks, new_first, new_second, new_third):
    """Do the same with 16-bit products and the lookup of the tier avx2."""
    luma = (_ycrcb.luma_planes_avx2, _ycrcb.luma_rgb_avx2, _ycrcb.luma_rgba_avx2)
    replace = (_ycrcb.replace_planes_avx2, _ycrcb.replace_rgb_avx2, _ycrcb.replace_rgba_avx2)
    fill_steps(table, chunks[2])
    old, new = (first, second, third), (new_first, new_second, new_third)
    map_luma(old, step, k, table, chunks, new, luma, replace, map_row_avx2)


@kernel(u8=_APPLY_ROWS)
def apply_luma_avx512(first, second, third, step, k, table, chunks, new_first, new_second, new_third):
    """Do the same with the lookup of the tier avx512."""
    luma = (_ycrcb.luma_planes_avx512, _ycrcb.luma_rgb_avx512, _ycrcb.luma_rgba_avx512)
    replace = (_ycrcb.replace_planes_avx512, _ycrcb.replace_rgb_avx512, _ycrcb.replace_rgba_avx512)
    old, new = (first, second, third), (new_first, new_second, new_third)
    map_luma(old, step, k, table, chunks, new, luma, replace, lookup_avx512)


@inline
def count_blocks_of_luma(first, second, third, step, k, chunks, scratch):
    """Compute Y of blocks of several rows and count it into the sums, first in the scratch."""
    luma = (_ycrcb.luma_planes_avx512, _ycrcb.luma_rgb_avx512, _ycrcb.luma_rgba_avx512)
    memory, zero = line(chunks), np.uint64(0)
    tall = np.uint64(TALL if first.shape[1] >= TALL // 2 else 1)
    wide, width = np.uint64(BLOCK) // tall, np.uint64(first.shape[2]) // step
    for d in range(np.uint64(first.shape[0])):
        for top in range(zero, np.uint64(first.shape[1]), tall):
            height = min(tall, np.uint64(first.shape[1]) - top)
            for start in range(zero, width, wide):
                size = min(wide, width - start)
                for y in range(height):
                    old = (row(first, d, top + y), row(second, d, top + y), row(third, d, top + y))
                    target = part_8(memory, np.int64(wide * y), np.int64(size))
                    luma_of_chunk(old, start, size, step, k, target, luma)
                begin = address_in(memory, zero)
                count_sliced(begin, height, size, wide, scratch, ZEROS, slice_block_avx512, False)


@inline
def count_luma(first, second, third, step, k, chunks, scratch, counts, luma):
    """Compute Y chunk by chunk and count it."""
    y = chunks[0]
    few = np.uint64(first.size) < step * np.uint64(SMALL)
    for d in range(np.uint64(first.shape[0])):
        for h in range(np.uint64(first.shape[1])):
            old = (row(first, d, h), row(second, d, h), row(third, d, h))
            width = np.uint64(old[0].size) // step
            for start in range(np.uint64(0), width, np.uint64(CHUNK)):
                size = min(np.uint64(CHUNK), width - start)
                luma_of_chunk(old, start, size, step, k, y, luma)
                count_row(y[:size], few, scratch, counts)
    fold(few, scratch, counts)


@inline
def map_luma(first_to_third, step, k, table, chunks, new_first_to_third, luma, replace, look_up):
    """Compute Y chunk by chunk, look it up, put it in place."""
    first, second, third = first_to_third
    new_first, new_second, new_third = new_first_to_third
    y, mapped, steps = chunks[0], chunks[1], chunks[2]
    for d in range(np.uint64(first.shape[0])):
        for h in range(np.uint64(first.shape[1])):
            old = (row(first, d, h), row(second, d, h), row(third, d, h))
            new = (row(new_first, d, h), row(new_second, d, h), row(new_third, d, h))
            width = np.uint64(old[0].size) // step
            for start in range(np.uint64(0), width, np.uint64(CHUNK)):
                size = min(np.uint64(CHUNK), width - start)
                luma_of_chunk(old, start, size, step, k, y, luma)
                look_up(y[:size], table, steps, mapped)
                replace_in_chunk(old, start, size, step, k, y, mapped, new, replace)


@inline
def luma_of_chunk(old, start, size, step, k, y, luma):
    """Write Y of some pixels of a row."""
    a, b, c = old
    planes, rgb, rgba = luma
    wide = np.uint64(WIDTH)
    vectors = (size + wide - np.uint64(1)) // wide if size >= wide else np.uint64(0)
    for j in range(vectors):
        i = min(wide * j, size - wide)  # the last ones with some that already were
        at = step * (start + i)
        if step == 1:
            planes(a, b, c, at, k, y, i)
        elif step == 3:
            rgb(a, b, c, at, k, y, i)
        else:
            rgba(a, b, c, at, k, y, i)
    for i in range(size if vectors else np.uint64(0), size):
        p, q, r = _ycrcb.pixel(old, start + i, step)
        y[i] = _ycrcb.luma(p, q, r, k)


@inline
def replace_in_chunk(old, start, size, step, k, y, mapped, new, replace):
    """Write some pixels of a row with their new Y."""
    a, b, c = old
    new_a, new_b, new_c = new
    planes, rgb, rgba = replace
    whole = size - size % np.uint64(WIDTH)
    for i in range(np.uint64(0), whole, np.uint64(WIDTH)):
        at = step * (start + i)
        if step == 1:
            planes(a, b, c, at, k, y, mapped, i, new_a, new_b, new_c)
        elif step == 3:
            rgb(a, b, c, at, k, y, mapped, i, new_a, new_b, new_c)
        else:
            rgba(a, b, c, at, k, y, mapped, i, new_a, new_b, new_c)
    for i in range(whole, size):
        _ycrcb.replace_pixel(old, start + i, step, k, y[i], mapped[i], new)


@inline
def lookup(pixels, table, steps, new):
    """Look up a row, one pixel at a time."""
    for i in range(np.uint64(pixels.size)):
        new[i] = table[pixels[i]]


@inline
def lookup_avx512(pixels, table, steps, new):
    """Look up a row, 64 pixels at a time."""
    map_row_avx512(pixels, table, False, new)


@kernel(
    u8=f"void({_PLANES['uint8']}, {plane('uint8')}, int64, {COUNTS_OUT})",
    u16=f"void({_PLANES['uint16']}, {plane('uint8')}, int64, {COUNTS_OUT})",
)
def histogram_luma(red, green, blue, mask, nodata, counts):
    """Add the counts of Y; `nodata` -1: none."""
    for z in range(np.uint64(red.shape[0])):
        for y in range(np.uint64(red.shape[1])):
            for x in range(np.uint64(red.shape[2])):
                r, g, b = np.int64(red[z, y, x]), np.int64(green[z, y, x]), np.int64(blue[z, y, x])
                if mask[z, y, x] and not (r == nodata and g == nodata and b == nodata):
                    counts[np.uint64(luma_of(r, g, b))] += 1


@kernel(
    u8=f"void({_PLANES['uint8']}, {flat('uint8')}, int64, {_OUTPUTS['uint8']})",
    u16=f"void({_PLANES['uint16']}, {flat('uint16')}, int64, {_OUTPUTS['uint16']})",
)
def apply_luma(red, green, blue, table, nodata, new_red, new_green, new_blue):
    """Map Y through the table and keep Cr and Cb; `nodata` -1: none."""
    top = np.int64(table.size - 1)
    for z in range(np.uint64(red.shape[0])):
        for y in range(np.uint64(red.shape[1])):
            for x in range(np.uint64(red.shape[2])):
                r, g, b = np.int64(red[z, y, x]), np.int64(green[z, y, x]), np.int64(blue[z, y, x])
                if not (r == nodata and g == nodata and b == nodata):
                    r, g, b = replace_luma(r, g, b, table, top)
                new_red[z, y, x] = r
                new_green[z, y, x] = g
                new_blue[z, y, x] = b


@inline
def luma_of(r, g, b):
    """Return Y."""
    return (4899 * r + 9617 * g + 1868 * b + _HALF) >> 14


@inline
def replace_luma(r, g, b, table, top):
    """Return the pixel whose Y went through the table."""
    centre = (top + 1) >> 1
    y = luma_of(r, g, b)
    cr = clamp((11682 * (r - y) + (centre << 14) + _HALF) >> 14, top) - centre
    cb = clamp((9241 * (b - y) + (centre << 14) + _HALF) >> 14, top) - centre
    new = np.int64(table[np.uint64(y)])
    return (
        clamp(new + ((22987 * cr + _HALF) >> 14), top),
        clamp(new + ((-5636 * cb - 11698 * cr + _HALF) >> 14), top),
        clamp(new + ((29049 * cb + _HALF) >> 14), top),
    )


@inline
def clamp(value, top):
    """Limit to 0..top."""
    return min(max(value, 0), top)
