"""Counting of a tile of 8-bit pixels by pairs, in gathered parts, since most rows of tiles are too short."""

import numpy as np

from histeq_kernels.cpu.clahe.parameters import DEPTH, HEIGHT, WIDTH
from histeq_kernels.cpu.core.kernel import inline
from histeq_kernels.cpu.core.views import load_64, part_8, row, store_64
from histeq_kernels.cpu.histogram.pairs import count_row_by_pairs, fold_pairs

MIN_PIXELS = 1 << 16
"""The number of pixels in a tile from which counting pairs saves more time than folding them takes."""
GATHERED = 1 << 17
"""Pixels of an 8-bit tile that are counted together."""


@inline
def count_tile(image, positions, tile, i, memory, scratch, counts):
    """Add the i-th tile's pixels to its counts.

    The parts are gathered in `memory`, from entry 256 on.
    """
    zs, ys, xs = positions
    tall, wide = np.int64(ys.size) // tile[HEIGHT], np.int64(xs.size) // tile[WIDTH]
    front, top = np.uint64(i // (tall * wide) * tile[DEPTH]), np.uint64(i // wide % tall * tile[HEIGHT])
    left, size = np.uint64(i % wide * tile[WIDTH]), np.uint64(tile[WIDTH])
    gathered, filled = part_8(memory, 256, GATHERED), np.uint64(0)
    for z in range(front, front + np.uint64(tile[DEPTH])):
        for y in range(top, top + np.uint64(tile[HEIGHT])):
            pixels, x = row(image, np.uint64(zs[z]), np.uint64(ys[y])), np.uint64(0)
            while x < size:
                some = min(size - x, np.uint64(GATHERED) - filled)
                gather(pixels, xs, left + x, some, gathered, filled)
                x, filled = x + some, filled + some
                if filled == np.uint64(GATHERED):
                    count_row_by_pairs(gathered, scratch, counts)
                    filled = np.uint64(0)
    count_row_by_pairs(part_8(memory, 256, np.int64(filled)), scratch, counts)
    fold_pairs(scratch, counts)


@inline
def gather(pixels, xs, x, size, gathered, filled):
    """Copy the pixels at `size` positions from the x-th on, in words if no position is reflected."""
    first, last = np.uint64(xs[x]), np.uint64(xs[x + size - np.uint64(1)])
    words = size // np.uint64(8) * np.uint64(8) if last + np.uint64(1) == first + size else np.uint64(0)
    for i in range(np.uint64(0), words, np.uint64(8)):
        store_64(gathered, filled + i, load_64(pixels, first + i))
    for i in range(words, size):
        gathered[filled + i] = pixels[np.uint64(xs[x + i])]
