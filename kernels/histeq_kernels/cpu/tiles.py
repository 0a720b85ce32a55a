"""CLAHE, the first half: the histogram of every tile, clipped, and its lookup table.

The arithmetic is that of `histeq/_tiles.py`, which states it in NumPy.
"""

import numpy as np

from histeq_kernels.cpu._kernel import COUNTS, flat, inline, kernel, plane
from histeq_kernels.cpu._vector import load_64, row
from histeq_kernels.cpu.histogram import SMALL, count_row_pairs, count_row_small, count_two_words

MAGIC = np.float32(3 << 22)
"""Added to a float32 between 0 and 2**22 and taken off again, it rounds to a whole number, half to even."""
MAX_AREA = 1 << 31
"""Tiles of this many pixels are beyond `tile_tables`, whose sums have 32 bits."""

_POSITIONS = ", ".join([flat("int64")] * 3)
_TABLES = {
    element: (
        f"void({plane(element)}, {_POSITIONS}, {flat('int64')}, int64, int64, float64, {flat('int64')}, "
        f"uint32[::1], int32[::1], {element}[:, ::1])"
    )
    for element in ("uint8", "uint16")
}


@kernel(u8=_TABLES["uint8"])
def tile_tables(image, zs, ys, xs, tile, start, stop, clip_limit, levels, scratch, sums, tables):
    """Write the tables of tiles `start` to `stop` of an 8-bit image with contiguous rows.

    Parameters
    ----------
    zs, ys, xs : the pixel at each position, up to the end of the last tile
    tile : its depth, height, width
    levels : bins, the lowest level, levels above it
    scratch, sums : zeros before and after; of any content
    tables : (tiles, bins)
    """
    tall, wide = np.int64(ys.size) // tile[1], np.int64(xs.size) // tile[2]
    area = tile[0] * tile[1] * tile[2]
    for i in range(start, stop):
        z, y, x = i // (tall * wide) * tile[0], i // wide % tall * tile[1], i % wide * tile[2]
        counts = sums[:256]
        count_box(image, zs[z : z + tile[0]], ys[y : y + tile[1]], xs[x : x + tile[2]], x, scratch, counts)
        clip_counts(counts, clipped_at(clip_limit, area, 256))
        fill_levels(counts, np.float32(levels[2]) / np.float32(area), levels, tables[np.uint64(i)])


@kernel(u16=_TABLES["uint16"])
def tile_tables_direct(image, zs, ys, xs, tile, start, stop, clip_limit, levels, scratch, sums, tables):
    """Do the same for a 16-bit image; `tables` may begin at a bin above 0 and end below the last.

    Parameters
    ----------
    levels : bins, the lowest level, levels above it, the shift from pixel to bin, the bits to turn in a pixel
        before that, the first bin of the tables
    """
    tall, wide = np.int64(ys.size) // tile[1], np.int64(xs.size) // tile[2]
    area = tile[0] * tile[1] * tile[2]
    for i in range(start, stop):
        z, y, x = i // (tall * wide) * tile[0], i // wide % tall * tile[1], i % wide * tile[2]
        count_box_direct(image, zs[z : z + tile[0]], ys[y : y + tile[1]], xs[x : x + tile[2]], x, scratch)
        clip = clipped_at(clip_limit, area, levels[0])
        fill_levels_direct(scratch, sums, clip, area, levels, tables[np.uint64(i)])


@kernel(
    u8=f"void({COUNTS}, float64, {flat('int64')}, int64[::1], uint8[::1])",
    u16=f"void({COUNTS}, float64, {flat('int64')}, int64[::1], uint16[::1])",
)
def tile_table(counts, clip_limit, levels, clipped, table):
    """Write the table of a tile from its counts; any number of pixels but none."""
    area = np.int64(0)
    for i in range(np.uint64(counts.size)):
        clipped[i] = counts[i]
        area += counts[i]
    clip_counts(clipped, clipped_at(clip_limit, area, levels[0]))
    scale, total = np.float32(levels[2]) / np.float32(area), np.int64(0)
    for i in range(np.uint64(counts.size)):
        total += clipped[i]
        table[i] = level_of(np.float32(total) * scale, levels)


@inline
def count_box(image, zs, ys, xs, first, scratch, counts):
    """Write the counts of a tile, which begins at column `first`; columns beyond the image are `xs`'."""
    inside = max(min(np.int64(xs.size), np.int64(image.shape[2]) - first), 0)
    large = zs.size * ys.size * inside >= SMALL
    counts[:] = 0
    for z in range(np.uint64(zs.size)):
        for y in range(np.uint64(ys.size)):
            pixels = row(image, np.uint64(zs[z]), np.uint64(ys[y]))
            if large:
                count_row_pairs(pixels[first : first + inside], scratch, counts)
            else:
                count_row_small(pixels[first : first + inside], scratch)
            for x in range(np.uint64(inside), np.uint64(xs.size)):
                counts[np.uint64(pixels[np.uint64(xs[x])])] += 1
    if large:
        for pair in range(np.uint64(65536)):
            counts[pair & np.uint64(255)] += np.int32(scratch[pair])
            counts[pair >> np.uint64(8)] += np.int32(scratch[pair])
            scratch[pair] = 0
    else:
        for value in range(np.uint64(256)):
            for table in range(np.uint64(0), np.uint64(1024), np.uint64(256)):
                counts[value] += np.int32(scratch[table + value])
                scratch[table + value] = 0


@inline
def count_box_direct(image, zs, ys, xs, first, counters):
    """Count the 16-bit pixels of a tile."""
    one = np.uint32(1)
    inside = max(min(np.int64(xs.size), np.int64(image.shape[2]) - first), 0)
    half = np.uint64(inside // 8 * 4)
    for z in range(np.uint64(zs.size)):
        for y in range(np.uint64(ys.size)):
            pixels = row(image, np.uint64(zs[z]), np.uint64(ys[y]))
            part = pixels[first : first + inside]
            for i in range(np.uint64(0), half, np.uint64(4)):
                count_two_words(load_64(part, i), load_64(part, half + i), one, counters)
            for i in range(half + half, np.uint64(inside)):
                counters[part[i]] += one
            for x in range(np.uint64(inside), np.uint64(xs.size)):
                counters[pixels[np.uint64(xs[x])]] += one


@inline
def clipped_at(clip_limit, area, bins):
    """Return how many pixels a bin may hold: `area` if any number."""
    limit = clip_limit * np.float64(area) / np.float64(bins)
    if not clip_limit > 0 or limit >= area:
        return np.int64(area)
    return max(np.int64(limit), np.int64(1))


@inline
def clip_counts(counts, clip):
    """Take off each bin what is above `clip`, and spread it evenly; what remains goes to bins evenly apart."""
    bins, excess, most = np.int64(counts.size), np.int64(0), counts.dtype.type(clip)
    for i in range(np.uint64(counts.size)):
        excess += max(counts[i] - most, 0)
    if excess == 0:
        return
    share, rest = counts.dtype.type(excess // bins), excess % bins
    for i in range(np.uint64(counts.size)):
        counts[i] = min(counts[i], most) + share
    if rest:
        step = max(bins // rest, 1)
        for i in range(np.uint64(0), np.uint64(rest * step), np.uint64(step)):
            counts[i] += 1


@inline
def fill_levels(counts, scale, levels, table):
    """Write the levels of the cumulative counts, which overwrite the counts."""
    total = np.int32(0)
    for i in range(np.uint64(counts.size)):
        total += counts[i]
        counts[i] = total
    for i in range(np.uint64(counts.size)):
        table[i] = level_of(np.float32(counts[i]) * scale, levels)


@inline
def level_of(level, levels):
    """Return a level, rounded half to even and limited."""
    rounded = np.int32(np.float32(level + MAGIC) - MAGIC)
    return min(rounded, np.int32(levels[2])) + np.int32(levels[1])


@inline
def fill_levels_direct(counters, sums, clip, area, levels, table):
    """Clip the counters of a tile, write the levels of the cumulative counts, leave zeros."""
    bins, shift, turn, first = levels[0], np.uint64(levels[3]), np.uint64(levels[4]), np.uint64(levels[5])
    each = np.uint64(1) << shift
    excess = np.int64(0)
    for b in range(np.uint64(table.size)):
        count = np.uint32(0)
        for j in range(each):
            at = (((first + b) << shift) + j) ^ turn
            count += counters[at]
            counters[at] = 0
        sums[b] = np.int32(min(np.int64(count), clip))
        excess += max(np.int64(count) - clip, 0)
    share, rest = excess // bins, excess % bins
    step = max(bins // rest, 1) if rest else bins
    scale = np.float32(levels[2]) / np.float32(area)
    total = share * np.int64(first)
    given = min(rest, (np.int64(first) + step - 1) // step) if rest else np.int64(0)
    total += given
    following = given * step if given < rest else bins
    for b in range(np.uint64(table.size)):
        total += np.int64(sums[b]) + share
        if np.int64(first + b) == following:
            total += 1
            given += 1
            following = following + step if given < rest else bins
        table[b] = level_of(np.float32(total) * scale, levels)
