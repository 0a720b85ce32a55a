"""CLAHE, the first half: the histogram of every tile, clipped, and its lookup table.

The arithmetic is that of `histeq/_core/tile_grid.py`, which states it in NumPy.
"""

import numpy as np

from histeq_kernels.cpu._kernel import COUNTS, flat, inline, kernel, plane
from histeq_kernels.cpu._levels import levels_16
from histeq_kernels.cpu._pairs import count_row_direct, count_row_pairs, fold_pairs
from histeq_kernels.cpu._vector import cumulate, load_64, part_8, part_i32, row, store_64
from histeq_kernels.cpu._whole import whole
from histeq_kernels.cpu.histogram import count_word, fold_small

BLOCK = 256
"""Bins that are looked at together."""
SUMS = 65536
"""Entries that the kernels work in."""
FEW = 1 << 16
"""Below this many pixels in a tile folding the pairs costs more than counting them gains."""
GATHERED = 1 << 17
"""Pixels of an 8-bit tile that are counted together."""
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
    at, memory = (zs, ys, xs), (scratch, sums)
    make_tables(image, at, tile, start, stop, clip_limit, levels, memory, tables, FEW, count_gathered)


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
        table[i] = level_of(np.float32(total) * scale, np.int32(levels[1]), np.int32(levels[2]))


@inline
def make_tables(image, positions, tile, start, stop, clip_limit, levels, memory, tables, few, count_many):
    """Count, clip, write the levels; tiles of `few` pixels and more are counted by `count_many`.

    A function that is called for each tile costs more for its arrays than a small tile gives it to do.
    """
    scratch, sums = memory
    area, counts = tile[0] * tile[1] * tile[2], part_i32(sums, 0, 256)
    for i in range(start, stop):
        for value in range(np.uint64(256)):
            counts[value] = 0
        if area < few:
            count_small(image, positions, tile, i, scratch)
            fold_small(scratch, counts)
        else:
            count_many(image, positions, tile, i, sums, scratch, counts)
        clip_counts(counts, clipped_at(clip_limit, area, 256))
        fill_levels(counts, np.float32(levels[2]) / np.float32(area), levels, tables[np.uint64(i)])


@inline
def count_small(image, positions, tile, i, scratch):
    """Count the pixels of the i-th tile in four tables: those within the image in words, the others alone.

    The upper and the lower half take turns: neighbours are alike, and wait for each other's store.
    """
    zs, ys, xs = positions
    tall, wide, one = np.int64(ys.size) // tile[1], np.int64(xs.size) // tile[2], np.uint32(1)
    front, top = np.uint64(i // (tall * wide) * tile[0]), np.uint64(i // wide % tall * tile[1])
    left, width = np.uint64(i % wide * tile[2]), np.uint64(image.shape[2])
    right, half = left + np.uint64(tile[2]), np.uint64(tile[1] // 2)
    inside = max(min(right, width), left)
    whole = left + (inside - left) // np.uint64(8) * np.uint64(8)
    for z in range(front, front + np.uint64(tile[0])):
        for y in range(top, top + half):
            upper = row(image, np.uint64(zs[z]), np.uint64(ys[y]))
            lower = row(image, np.uint64(zs[z]), np.uint64(ys[y + half]))
            for x in range(left, whole, np.uint64(8)):
                count_word(load_64(upper, x), one, scratch)
                count_word(load_64(lower, x), one, scratch)
            for x in range(whole, right):
                scratch[upper[np.uint64(xs[x])]] += one
                scratch[lower[np.uint64(xs[x])]] += one
        for y in range(top + half + half, top + np.uint64(tile[1])):
            pixels = row(image, np.uint64(zs[z]), np.uint64(ys[y]))
            for x in range(left, right):
                scratch[pixels[np.uint64(xs[x])]] += one


@inline
def count_gathered(image, positions, tile, i, memory, scratch, counts):
    """Add the i-th tile to its counts by pairs, brought together a part at a time: most rows are too short.

    The parts are kept in `memory`, behind 256 entries.
    """
    zs, ys, xs = positions
    tall, wide = np.int64(ys.size) // tile[1], np.int64(xs.size) // tile[2]
    front, top = np.uint64(i // (tall * wide) * tile[0]), np.uint64(i // wide % tall * tile[1])
    left, size = np.uint64(i % wide * tile[2]), np.uint64(tile[2])
    gathered, filled = part_8(memory, 256, GATHERED), np.uint64(0)
    for z in range(front, front + np.uint64(tile[0])):
        for y in range(top, top + np.uint64(tile[1])):
            pixels, x = row(image, np.uint64(zs[z]), np.uint64(ys[y])), np.uint64(0)
            while x < size:
                some = min(size - x, np.uint64(GATHERED) - filled)
                gather(pixels, xs, left + x, some, gathered, filled)
                x, filled = x + some, filled + some
                if filled == np.uint64(GATHERED):
                    count_row_pairs(gathered, scratch, counts)
                    filled = np.uint64(0)
    count_row_pairs(part_8(memory, 256, np.int64(filled)), scratch, counts)
    fold_pairs(scratch, counts)


@inline
def gather(pixels, xs, x, size, gathered, filled):
    """Copy the pixels at `size` positions from the x-th on: consecutive ones, but for those reflected."""
    first, last = np.uint64(xs[x]), np.uint64(xs[x + size - np.uint64(1)])
    whole = size // np.uint64(8) * np.uint64(8) if last + np.uint64(1) == first + size else np.uint64(0)
    for i in range(np.uint64(0), whole, np.uint64(8)):
        store_64(gathered, filled + i, load_64(pixels, first + i))
    for i in range(whole, size):
        gathered[filled + i] = pixels[np.uint64(xs[x + i])]


@inline
def count_box_direct(image, zs, ys, xs, first, counters):
    """Count the 16-bit pixels of a tile."""
    inside = max(min(np.int64(xs.size), np.int64(image.shape[2]) - first), 0)
    for z in range(np.uint64(zs.size)):
        for y in range(np.uint64(ys.size)):
            pixels = row(image, np.uint64(zs[z]), np.uint64(ys[y]))
            count_row_direct(pixels[first : first + inside], counters)
            for x in range(np.uint64(inside), np.uint64(xs.size)):
                counters[pixels[np.uint64(xs[x])]] += np.uint32(1)


@inline
def clipped_at(clip_limit, area, bins):
    """Return how many pixels a bin may hold: `area` if any number."""
    limit = clip_limit * np.float64(area) / np.float64(bins)
    if not clip_limit > 0 or limit >= area:
        return np.int64(area)
    return max(np.int64(limit), np.int64(1))


@inline
def clip_counts(counts, clip):
    """Take off each bin what is above `clip` and spread it evenly; what is left goes to bins evenly apart."""
    number = counts.dtype.type  # sums stay as narrow as the counts: vectors hold more of them
    bins, above, most = np.int64(counts.size), number(0), number(clip)
    for i in range(np.uint64(counts.size)):
        above = number(above + max(number(counts[i] - most), number(0)))
    excess = np.int64(above)
    if excess == 0:
        return
    share, rest = number(excess // bins), excess % bins
    for i in range(np.uint64(counts.size)):
        counts[i] = number(min(counts[i], most) + share)
    if rest:
        step = max(bins // rest, 1)
        for i in range(np.uint64(0), np.uint64(rest * step), np.uint64(step)):
            counts[i] += 1


@inline
def fill_levels(counts, scale, levels, table):
    """Write the levels of the cumulative counts, which overwrite the counts."""
    low, span = np.int32(levels[1]), np.int32(levels[2])
    cumulate(counts, np.uint64(0), np.uint64(counts.size), np.int32(0))
    for i in range(np.uint64(counts.size)):
        table[i] = level_of(np.float32(counts[i]) * scale, low, span)


@inline
def level_of(level, low, span):
    """Return a level, rounded half to even and limited."""
    return np.int32(min(whole(level), span) + low)


@inline
def gather_bins(counters, sums, shift, turn):
    """Fold the counters of 16-bit values into those of bins, from the first counter on."""
    each = np.uint64(1) << shift
    for b in range(np.uint64(65536) >> shift):
        count = np.uint32(0)
        for value in range(b << shift, (b << shift) + each):
            count += counters[value ^ turn]
        sums[b] = np.int32(count)
    counters[: np.uint64(65536)] = 0
    for b in range(np.uint64(65536) >> shift):
        counters[b] = np.uint32(sums[b])


@inline
def excess_of(counters, first, size, clip):
    """Return how many pixels of some bins are above the clip limit."""
    excess, most = np.int64(0), np.uint32(clip)
    for start in range(first, first + size, np.uint64(BLOCK)):
        above = np.uint32(0)
        for i in range(start, min(start + np.uint64(BLOCK), first + size)):
            above += np.uint32(max(counters[i], most) - most)
        excess += np.int64(above)
    return excess


@inline
def fill_levels_direct(counters, sums, clip, area, levels, table):
    """Clip the counters of a tile, write the levels of the cumulative counts, leave zeros.

    Of the excess each bin gets `share`, and the bins 0, `step`, 2 * `step`, ... get one of the `rest` each:
    up to a bin b these are b // step + 1, unless that is more than all.
    """
    bins, first, size = levels[0], np.uint64(levels[5]), np.uint64(table.size)
    low, span, scale = np.int32(levels[1]), np.int32(levels[2]), np.float32(levels[2]) / np.float32(area)
    if levels[3] or levels[4]:
        gather_bins(counters, sums, np.uint64(levels[3]), np.uint64(levels[4]))
    excess = excess_of(counters, first, size, clip)
    share, rest = np.int32(excess // bins), np.int32(excess % bins)
    step = np.int32(max(bins // np.int64(rest), 1) if rest else bins)
    whole_16, most = size // np.uint64(16) * np.uint64(16), np.int32(clip)
    total = levels_16(counters, first, whole_16, most, share, step, rest, scale, low, span, table)
    for i in range(whole_16, size):
        total = np.int32(total + min(np.int32(counters[first + i]), most))
        counters[first + i] = 0
        b = np.int32(first + i)
        upto = np.int32(total + share * np.int32(b + 1) + min(np.int32(b // step + 1), rest))
        table[i] = level_of(np.float32(upto) * scale, low, span)


@kernel(u16=f"void({plane('uint16')}, {flat('int64')}, int64[::1])")
def occupied_bins(image, levels, limits):
    """Write the first and the last bin that a 16-bit image with contiguous rows uses."""
    turn, shift = np.uint16(levels[4]), np.uint16(levels[3])
    low, high = np.uint16(65535), np.uint16(0)
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            pixels = row(image, z, y)
            for i in range(np.uint64(pixels.size)):
                value = np.uint16(pixels[i] ^ turn)
                low = value if value < low else low
                high = value if value > high else high
    limits[0], limits[1] = low >> shift, high >> shift
