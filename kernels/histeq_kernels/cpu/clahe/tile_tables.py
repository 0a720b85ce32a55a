"""The first half of CLAHE, for 8 bits: the clipped histogram of every tile, and its lookup table."""

import numpy as np

from histeq_kernels.cpu.clahe.clip import clip_counts, clipped_at, fill_levels, level_of
from histeq_kernels.cpu.clahe.parameters import BINS, DEPTH, HEIGHT, LOWEST, PARAMETERS, SPAN, WIDTH
from histeq_kernels.cpu.core.kernel import COUNTS, flat, inline, kernel, plane
from histeq_kernels.cpu.core.operations import count_tile, min_pixels_of_counted_tile
from histeq_kernels.cpu.core.views import load_64, part_i32, row
from histeq_kernels.cpu.histogram.small import count_word, fold_small
from histeq_kernels.cpu.tiers import tiered_kernel

SUMS = 65536
"""Entries of the workspace for sums, int32, of any content."""
MAX_AREA = 1 << 31
"""The tiles of `tile_tables` must have fewer pixels than this, since its sums have 32 bits."""


POSITIONS = ", ".join([flat("int64")] * 3)
"""Signature of the pixel at each position along the three axes, up to the end of the last tile."""


def signature(element: str) -> str:
    """Return the signature of a kernel that writes tables of tiles."""
    return (
        f"void({plane(element)}, {POSITIONS}, {PARAMETERS}, int64, int64, float64, {PARAMETERS}, "
        f"uint32[::1], int32[::1], {element}[:, ::1])"
    )


@tiered_kernel(u8=signature("uint8"))
def tile_tables(image, zs, ys, xs, tile, start, stop, clip_limit, levels, scratch, sums, tables):
    """Write the tables of tiles `start` to `stop` of an 8-bit image with contiguous rows.

    Parameters
    ----------
    zs, ys, xs : the pixel at each position, up to the end of the last tile
    tile : its depth, height, width
    levels : see `parameters.py`
    scratch : counters, zero before and after
    sums : a workspace of any content
    tables : (tiles, bins)
    """
    at, memory = (zs, ys, xs), (scratch, sums)
    make_tables(image, at, tile, start, stop, clip_limit, levels, memory, tables)


@kernel(
    u8=f"void({COUNTS}, float64, {flat('int64')}, int64[::1], uint8[::1])",
    u16=f"void({COUNTS}, float64, {flat('int64')}, int64[::1], uint16[::1])",
)
def tile_table(counts, clip_limit, levels, clipped, table):
    """Write the table of a tile from its counts, which must not all be 0."""
    area = np.int64(0)
    for i in range(np.uint64(counts.size)):
        clipped[i] = counts[i]
        area += counts[i]
    clip_counts(clipped, clipped_at(clip_limit, area, levels[BINS]))
    scale, total = np.float32(levels[SPAN]) / np.float32(area), np.int64(0)
    for i in range(np.uint64(counts.size)):
        total += clipped[i]
        table[i] = level_of(np.float32(total) * scale, np.int32(levels[LOWEST]), np.int32(levels[SPAN]))


@inline
def make_tables(image, positions, tile, start, stop, clip_limit, levels, memory, tables):
    """Count the pixels of each tile, clip the counts, and write the levels.

    The loop over tiles is here because calling a function for each, with its arrays, takes longer than a
    small tile does.
    """
    scratch, sums = memory
    area, counts = tile[DEPTH] * tile[HEIGHT] * tile[WIDTH], part_i32(sums, 0, 256)
    for i in range(start, stop):
        for value in range(np.uint64(256)):
            counts[value] = 0
        if area < min_pixels_of_counted_tile:
            count_small_tile(image, positions, tile, i, scratch)
            fold_small(scratch, counts)
        else:
            count_tile(image, positions, tile, i, sums, scratch, counts)
        clip_counts(counts, clipped_at(clip_limit, area, 256))
        fill_levels(counts, np.float32(levels[SPAN]) / np.float32(area), levels, tables[np.uint64(i)])


@inline
def count_small_tile(image, positions, tile, i, scratch):
    """Count the pixels of the i-th tile in four tables: in words, but reflected pixels one by one.

    The upper and the lower half alternate, because similar neighbours wait for each other's stores.
    """
    zs, ys, xs = positions
    tall, wide, one = np.int64(ys.size) // tile[HEIGHT], np.int64(xs.size) // tile[WIDTH], np.uint32(1)
    front, top = np.uint64(i // (tall * wide) * tile[DEPTH]), np.uint64(i // wide % tall * tile[HEIGHT])
    left, width = np.uint64(i % wide * tile[WIDTH]), np.uint64(image.shape[2])
    right, half = left + np.uint64(tile[WIDTH]), np.uint64(tile[HEIGHT] // 2)
    inside = max(min(right, width), left)
    words = left + (inside - left) // np.uint64(8) * np.uint64(8)
    for z in range(front, front + np.uint64(tile[DEPTH])):
        for y in range(top, top + half):
            upper = row(image, np.uint64(zs[z]), np.uint64(ys[y]))
            lower = row(image, np.uint64(zs[z]), np.uint64(ys[y + half]))
            for x in range(left, words, np.uint64(8)):
                count_word(load_64(upper, x), one, scratch)
                count_word(load_64(lower, x), one, scratch)
            for x in range(words, right):
                scratch[upper[np.uint64(xs[x])]] += one
                scratch[lower[np.uint64(xs[x])]] += one
        for y in range(top + half + half, top + np.uint64(tile[HEIGHT])):
            pixels = row(image, np.uint64(zs[z]), np.uint64(ys[y]))
            for x in range(left, right):
                scratch[pixels[np.uint64(xs[x])]] += one
