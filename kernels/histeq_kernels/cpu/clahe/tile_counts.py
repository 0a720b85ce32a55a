"""The counts of tiles by themselves: those of the parts of a window, and the tables that counts give."""

import numpy as np

from histeq_kernels.cpu.clahe.clip import clip_counts, clipped_at, level_of
from histeq_kernels.cpu.clahe.parameters import BIN_SHIFT, BINS, FIRST_BIN, LOWEST, PARAMETERS, SIGN, SPAN
from histeq_kernels.cpu.clahe.tile_tables import MAX_AREA
from histeq_kernels.cpu.clahe.tile_tables_16 import fill_levels_16
from histeq_kernels.cpu.core.kernel import inline, kernel, plane
from histeq_kernels.cpu.core.operations import count_rows, fold_rows, min_pixels_counted_by_rows
from histeq_kernels.cpu.core.views import row
from histeq_kernels.cpu.histogram.pairs import count_long_row_16
from histeq_kernels.cpu.histogram.small import count_small
from histeq_kernels.cpu.tiers import tiered_kernel

TILE, FRONT, BACK, TOP, BOTTOM, LEFT, RIGHT = 0, 1, 2, 3, 4, 5, 6
"""The columns of a list of parts: which row of `counts` a part adds to, and where it begins and ends."""
_PARTS = "Array(int64, 2, 'C', readonly=True)"
_TABLES = (
    f"void(Array(int64, 2, 'C', readonly=True), int64, int64, float64, {PARAMETERS}, uint32[::1], int32[::1]"
)


@tiered_kernel(
    u8=f"void({plane('uint8')}, {_PARTS}, {PARAMETERS}, int64, uint32[::1], int64[::1], int64[:, ::1])"
)
def count_parts(image, parts, levels, nodata, scratch, values, counts):
    """Add the counts of parts of an 8-bit image with contiguous rows to those of their tiles.

    Parameters
    ----------
    parts : (parts, 7), see `TILE`
    levels : see `parameters.py`
    nodata : the value that is not counted, as its bits; -1: there is none
    scratch : counters, zero before and after
    values : a workspace of 256 entries of any content
    counts : (tiles, bins)
    """
    for i in range(np.uint64(parts.shape[0])):
        at = parts[i]
        part = image[at[FRONT] : at[BACK], at[TOP] : at[BOTTOM], at[LEFT] : at[RIGHT]]
        for value in range(np.uint64(256)):
            values[value] = 0
        if part.size < min_pixels_counted_by_rows:
            count_small(part, scratch, values)
        else:
            count_rows(part, scratch, values)
            fold_rows(scratch, values)
        if nodata >= 0:
            values[np.uint64(nodata)] = 0
        add_bins(values, levels, counts[np.uint64(at[TILE])])


@kernel(u16=f"void({plane('uint16')}, {_PARTS}, {PARAMETERS}, int64, uint32[::1], int64[:, ::1])")
def count_parts_16(image, parts, levels, nodata, scratch, counts):
    """Add the counts of parts of a 16-bit image to those of their tiles: see `count_parts`."""
    for i in range(np.uint64(parts.shape[0])):
        at = parts[i]
        for z in range(np.uint64(at[FRONT]), np.uint64(at[BACK])):
            for y in range(np.uint64(at[TOP]), np.uint64(at[BOTTOM])):
                count_long_row_16(row(image, z, y)[at[LEFT] : at[RIGHT]], scratch)
        if nodata >= 0:
            scratch[np.uint64(nodata)] = 0
        add_bins(scratch, levels, counts[np.uint64(at[TILE])])
        for value in range(np.uint64(65536)):
            scratch[value] = 0


@inline
def add_bins(values, levels, counts):
    """Add the counts of values, by their bits, to those of bins."""
    shift, sign, first = np.uint64(levels[BIN_SHIFT]), np.uint64(levels[SIGN]), np.uint64(levels[FIRST_BIN])
    if shift == 0 and sign == 0:
        for b in range(np.uint64(counts.size)):
            counts[b] += values[first + b]
        return
    for b in range(np.uint64(counts.size)):
        total = np.int64(0)
        for value in range((first + b) << shift, (first + b + np.uint64(1)) << shift):
            total += values[value ^ sign]
        counts[b] += total


@kernel(
    u8=f"{_TABLES}, int64[::1], uint8[:, ::1], uint8[::1])",
    u16=f"{_TABLES}, int64[::1], uint16[:, ::1], uint8[::1])",
)
def tables_of_tiles(counts, start, stop, clip_limit, levels, scratch, sums, clipped, tables, empty):
    """Write the tables of tiles `start` to `stop` from their counts, and which of them have none.

    Parameters
    ----------
    counts : (tiles, bins)
    levels : see `parameters.py`; the counts are those of bins: nothing is to be shifted or flipped
    scratch : counters, zero before and after
    sums : a workspace of any content
    clipped : a workspace of any content, one entry a bin
    tables : (tiles, bins); zeros where `empty` is 1
    """
    for i in range(np.uint64(start), np.uint64(stop)):
        histogram, table, area = counts[i], tables[i], np.int64(0)
        for b in range(np.uint64(histogram.size)):
            area += histogram[b]
        empty[i] = area == 0
        if area == 0:
            table[:] = 0
        elif area < MAX_AREA and table.itemsize == 2:
            for b in range(np.uint64(histogram.size)):
                scratch[b] = np.uint32(histogram[b])
            fill_levels_16(scratch, sums, clipped_at(clip_limit, area, levels[BINS]), area, levels, table)
        else:
            make_table(histogram, area, clip_limit, levels, clipped, table)


@inline
def make_table(counts, area, clip_limit, levels, clipped, table):
    """Write the table of a tile of `area` counted pixels."""
    for b in range(np.uint64(counts.size)):
        clipped[b] = counts[b]
    clip_counts(clipped, clipped_at(clip_limit, area, levels[BINS]))
    scale, total = np.float32(levels[SPAN]) / np.float32(area), np.int64(0)
    for b in range(np.uint64(counts.size)):
        total += clipped[b]
        table[b] = level_of(np.float32(total) * scale, np.int32(levels[LOWEST]), np.int32(levels[SPAN]))
