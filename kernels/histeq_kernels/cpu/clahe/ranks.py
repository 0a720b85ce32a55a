"""CLAHE of 16-bit images without tables.

If clipping leaves at most one pixel in a bin, as the usual limit of 2 does in tiles of fewer than 65,536
pixels, the cumulative count up to a bin is the number of bins up to it that have any pixel, and of those that
get a clipped one. Two bits per bin store that, together with the count before every eighth bin: 32 KB a tile.
Where a tile has a pixel is marked by a byte a bin: one store a pixel, and nothing to clear between tiles.
"""

import numpy as np

from histeq_kernels.cpu.clahe.blend import limits_of
from histeq_kernels.cpu.clahe.blend_runs import blend_ranked_run
from histeq_kernels.cpu.clahe.parameters import HEIGHT, LOWEST, PARAMETERS, SIGN, SPAN, WIDTH
from histeq_kernels.cpu.clahe.rank_vectors import BINS, BLOCK, ENTRIES, fill_cell, fill_entries, find_marked
from histeq_kernels.cpu.clahe.runs import AXIS, end_of_run
from histeq_kernels.cpu.core.kernel import flat, inline, kernel, plane, plane_out
from histeq_kernels.cpu.core.views import part_8, part_32, part_64, row

__all__ = ["ENTRIES", "blend_ranks", "tile_ranks"]

POSITIONS = ", ".join([flat("int64")] * 3)
"""Signature of the pixel at each position down and across, and of the size of a tile."""


@kernel(
    u16=f"void({plane('uint16')}, {POSITIONS}, int64, int64, {PARAMETERS}, {flat('int64')}, uint64[::1],"
    " uint32[:, ::1])"
)
def tile_ranks(image, ys, xs, tile, start, stop, levels, limits, memory, ranks):
    """Write the ranks of tiles `start` to `stop` of a (1, rows, columns) image with contiguous rows.

    Parameters
    ----------
    ys, xs : the pixel at each position, up to the end of the last tile
    tile : its depth, height, width
    levels : see `parameters.py`
    limits : the first and the last bin that the image uses
    memory : a workspace of (65536,), of any content
    ranks : (tiles, ENTRIES), by the values of pixels; those of bins that the image uses are written
    """
    wide, area = np.int64(xs.size) // tile[WIDTH], tile[HEIGHT] * tile[WIDTH]
    marks, found, found_bytes = (
        part_8(memory, 0, 65536),
        part_64(memory, 8192, 1024),
        part_8(memory, 8192, 8192),
    )
    first, last = blocks_of(limits[0], limits[1])
    sign, words = np.uint64(levels[SIGN]), np.uint64(BLOCK * BINS // 64)
    for i in range(start, stop):
        mark = np.uint8((i - start) % 255 + 1)
        if mark == 1:
            marks[:] = 0
        y, x = i // wide * tile[HEIGHT], i % wide * tile[WIDTH]
        mark_tile(image, ys[y : y + tile[HEIGHT]], xs[x : x + tile[WIDTH]], x, mark_byte, mark, marks)
        rest = area - find_marked(marks, mark, first * words, last * words, sign // np.uint64(64), found)
        step, entries = np.uint64(65536 // max(rest, 1)), ranks[np.uint64(i)]
        fill_entries(found_bytes, first, last, sign // np.uint64(BINS), step, np.uint64(rest), entries)


@inline
def blocks_of(low, high):
    """Return from which block of entries to which the bins from `low` to `high` have theirs."""
    size = np.uint64(BLOCK * BINS)
    return np.uint64(low) // size, np.uint64(high) // size + np.uint64(1)


@inline
def mark_tile(image, ys, xs, first, mark_value, mark, marks):
    """Call mark_value(value, mark, marks) for each pixel of a tile; those beyond the image are reflected."""
    inside = np.uint64(max(min(np.int64(xs.size), np.int64(image.shape[2]) - first), 0))
    for y in range(np.uint64(ys.size)):
        pixels = row(image, np.uint64(0), np.uint64(ys[y]))
        for x in range(inside):
            mark_value(pixels[np.uint64(first) + x], mark, marks)
        for x in range(inside, np.uint64(xs.size)):
            mark_value(pixels[np.uint64(xs[x])], mark, marks)


@inline
def mark_byte(value, mark, marks):
    """Mark a value by its byte."""
    marks[value] = mark


_RANKS = "Array(uint32, 3, 'C', readonly=True)"


@kernel(
    u16=f"void({plane('uint16')}, {AXIS}, {AXIS}, {_RANKS}, {PARAMETERS}, int64, uint64[::1],"
    f" {plane_out('uint16')})"
)
def blend_ranks(image, ys, y_weights, xs, x_weights, ranks, levels, area, memory, out):
    """Map the pixels of the image, as `blend.blend_tiles_16` does.

    Parameters
    ----------
    ranks : (tiles down, tiles across, ENTRIES)
    levels : see `parameters.py`
    area : the number of pixels of a tile
    memory : a workspace of (65536,), of any content
    """
    height, width, top = np.uint64(image.shape[1]), np.uint64(image.shape[2]), np.uint64(0)
    sign, scale = np.uint64(levels[SIGN]), np.float32(levels[SPAN]) / np.float32(area)
    conversion = np.uint16(sign), np.uint16(0), scale, np.float32(levels[LOWEST])
    columns, entries = (x_weights[0], x_weights[1]), part_32(memory, 0, 4 * ENTRIES)
    while top < height:
        bottom, left = end_of_run(ys, top, height), np.uint64(0)
        upper, lower = np.uint64(ys[0, top]), np.uint64(ys[1, top])
        while left < width:
            right = end_of_run(xs, left, width)
            a, b = np.uint64(xs[0, left]), np.uint64(xs[1, left])
            four = ranks[upper, a], ranks[upper, b], ranks[lower, a], ranks[lower, b]
            cell = (top, bottom, left, right)
            low, high = limits_of(image, cell, sign)
            first, last = blocks_of(low, high)
            if (right - left) * (bottom - top) < (last - first) * np.uint64(4):
                fill_entries_of_pixels(image, cell, four, entries)
            else:
                fill_cell(four, first, last, sign // np.uint64(BINS), entries)
            for y in range(top, bottom):
                pixels, new = row(image, np.uint64(0), y), row(out, np.uint64(0), y)
                rows = y_weights[0, y], y_weights[1, y]
                blend_ranked_run(pixels, left, right, entries, conversion, columns, rows, new)
            left = right
        top = bottom


@inline
def fill_entries_of_pixels(image, cell, four, entries):
    """Do as `fill_cell` does, for the pixels of a cell alone."""
    top, bottom, left, right = cell
    a, b, c, d = four
    half, bits = np.uint32(65535), np.uint32(16)
    for y in range(top, bottom):
        pixels = row(image, np.uint64(0), y)
        for x in range(left, right):
            i = np.uint64(pixels[x]) // np.uint64(BINS)
            at = np.uint64(4) * i
            entries[at] = a[i] & half | b[i] << bits
            entries[at + np.uint64(1)] = c[i] & half | d[i] << bits
            entries[at + np.uint64(2)] = a[i] >> bits | b[i] & ~half
            entries[at + np.uint64(3)] = c[i] >> bits | d[i] & ~half
