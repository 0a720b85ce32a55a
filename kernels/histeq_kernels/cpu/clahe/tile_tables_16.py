"""The first half of CLAHE, for 16 bits: the clipped histogram of every tile, and its lookup table."""

import numpy as np

from histeq_kernels.cpu.clahe.clip import clipped_at, level_of
from histeq_kernels.cpu.clahe.level_vectors import levels_16
from histeq_kernels.cpu.clahe.parameters import (
    BIN_SHIFT,
    BINS,
    DEPTH,
    FIRST_BIN,
    HEIGHT,
    LOWEST,
    PARAMETERS,
    SIGN,
    SPAN,
    WIDTH,
)
from histeq_kernels.cpu.clahe.tile_tables import signature
from histeq_kernels.cpu.core.kernel import inline, kernel, plane
from histeq_kernels.cpu.core.views import row
from histeq_kernels.cpu.histogram.pairs import count_row_16

BLOCK = 256
"""Bins whose excess is summed in 32 bits."""


@kernel(u16=signature("uint16"))
def tile_tables_16(image, zs, ys, xs, tile, start, stop, clip_limit, levels, scratch, sums, tables):
    """Write the tables of tiles `start` to `stop` of a 16-bit image with contiguous rows: see `tile_tables`.

    The tables may begin at a bin above 0, `levels[FIRST_BIN]`, and end before the last one.
    """
    tall, wide = np.int64(ys.size) // tile[HEIGHT], np.int64(xs.size) // tile[WIDTH]
    area = tile[DEPTH] * tile[HEIGHT] * tile[WIDTH]
    for i in range(start, stop):
        z, y, x = i // (tall * wide) * tile[DEPTH], i // wide % tall * tile[HEIGHT], i % wide * tile[WIDTH]
        count_tile_16(
            image, zs[z : z + tile[DEPTH]], ys[y : y + tile[HEIGHT]], xs[x : x + tile[WIDTH]], x, scratch
        )
        clip = clipped_at(clip_limit, area, levels[BINS])
        fill_levels_16(scratch, sums, clip, area, levels, tables[np.uint64(i)])


@kernel(u16=f"void({plane('uint16')}, {PARAMETERS}, int64[::1])")
def occupied_bins(image, levels, limits):
    """Write the first and the last bin that a 16-bit image with contiguous rows uses."""
    sign, shift = np.uint16(levels[SIGN]), np.uint16(levels[BIN_SHIFT])
    low, high = np.uint16(65535), np.uint16(0)
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            pixels = row(image, z, y)
            for i in range(np.uint64(pixels.size)):
                value = np.uint16(pixels[i] ^ sign)
                low = value if value < low else low
                high = value if value > high else high
    limits[0], limits[1] = low >> shift, high >> shift


@inline
def count_tile_16(image, zs, ys, xs, first, counters):
    """Count the 16-bit pixels of a tile."""
    inside = max(min(np.int64(xs.size), np.int64(image.shape[2]) - first), 0)
    for z in range(np.uint64(zs.size)):
        for y in range(np.uint64(ys.size)):
            pixels = row(image, np.uint64(zs[z]), np.uint64(ys[y]))
            count_row_16(pixels[first : first + inside], counters)
            for x in range(np.uint64(inside), np.uint64(xs.size)):
                counters[pixels[np.uint64(xs[x])]] += np.uint32(1)


@inline
def gather_bins(counters, sums, shift, sign):
    """Replace the counters of 16-bit values by those of bins, which begin at the first counter."""
    values = np.uint64(1) << shift
    for b in range(np.uint64(65536) >> shift):
        count = np.uint32(0)
        for value in range(b << shift, (b << shift) + values):
            count += counters[value ^ sign]
        sums[b] = np.int32(count)
    counters[: np.uint64(65536)] = 0
    for b in range(np.uint64(65536) >> shift):
        counters[b] = np.uint32(sums[b])


@inline
def excess_of(counters, first, size, clip):
    """Return how many pixels of `size` bins exceed the clip limit."""
    excess, most = np.int64(0), np.uint32(clip)
    for start in range(first, first + size, np.uint64(BLOCK)):
        above = np.uint32(0)
        for i in range(start, min(start + np.uint64(BLOCK), first + size)):
            above += np.uint32(max(counters[i], most) - most)
        excess += np.int64(above)
    return excess


@inline
def fill_levels_16(counters, sums, clip, area, levels, table):
    """Clip the counters of a tile, write the levels of the cumulative counts, and reset the counters.

    Each bin gets `share` pixels of the excess, and the bins 0, `step`, 2 * `step`, ... get one of the `rest`
    remaining pixels each: min(b // step + 1, rest) of them go to the bins up to b.
    """
    bins, first, size = levels[BINS], np.uint64(levels[FIRST_BIN]), np.uint64(table.size)
    low, span, scale = (
        np.int32(levels[LOWEST]),
        np.int32(levels[SPAN]),
        np.float32(levels[SPAN]) / np.float32(area),
    )
    if levels[BIN_SHIFT] or levels[SIGN]:
        gather_bins(counters, sums, np.uint64(levels[BIN_SHIFT]), np.uint64(levels[SIGN]))
    excess = excess_of(counters, first, size, clip)
    share, rest = np.int32(excess // bins), np.int32(excess % bins)
    step = np.int32(max(bins // np.int64(rest), 1) if rest else bins)
    vectors, most = size // np.uint64(16) * np.uint64(16), np.int32(clip)
    clipping, conversion = (most, share, step, rest), (scale, low, span)
    total = levels_16(counters, first, vectors, clipping, conversion, table)
    for i in range(vectors, size):
        total = np.int32(total + min(np.int32(counters[first + i]), most))
        counters[first + i] = 0
        b = np.int32(first + i)
        upto = np.int32(total + share * np.int32(b + 1) + min(np.int32(b // step + 1), rest))
        table[i] = level_of(np.float32(upto) * scale, low, span)
