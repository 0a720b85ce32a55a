"""Counting of few 8-bit pixels, in four tables, so that equal neighbours need not wait for a store."""

import numpy as np

from histeq_kernels.cpu.core.kernel import inline
from histeq_kernels.cpu.core.views import load_64, row

TABLES = 1024
"""Entries of the four tables, uint32, zero before and after."""


@inline
def count_small(image, scratch, counts):
    """Add the counts of (depth, rows, columns) with contiguous rows to `counts`."""
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            count_row_small(row(image, z, y), scratch)
    fold_small(scratch, counts)


@inline
def count_row_small(pixels, scratch):
    """Count a row in four tables. Consecutive equal words are counted together, by their number."""
    one = np.uint32(1)
    half = np.uint64(pixels.size // 16 * 8)
    last_a, last_b, times = np.uint64(0), np.uint64(0), np.uint32(0)
    for i in range(np.uint64(0), half, np.uint64(8)):
        a, b = load_64(pixels, i), load_64(pixels, half + i)
        if a == last_a and b == last_b:
            times = np.uint32(times + one)
            continue
        count_word(last_a, times, scratch)
        count_word(last_b, times, scratch)
        last_a, last_b, times = a, b, one
    count_word(last_a, times, scratch)
    count_word(last_b, times, scratch)
    for i in range(half + half, np.uint64(pixels.size)):
        scratch[pixels[i]] += one


@inline
def fold_small(scratch, counts):
    """Add the four tables to `counts`, and reset them."""
    merge(scratch, TABLES)
    for value in range(np.uint64(256)):
        counts[value] += scratch[value]
        scratch[value] = 0


@inline
def merge(scratch, entries):
    """Add tables of 256 entries to the first of them, and reset all but the first."""
    for table in range(np.uint64(256), np.uint64(entries), np.uint64(256)):
        for value in range(np.uint64(256)):
            scratch[value] += scratch[table + value]
            scratch[table + value] = 0


@inline
def count_word(word, times, scratch):
    """Add `times` to the counters of eight pixels, in four tables."""
    mask = np.uint64(0xFF)
    scratch[word & mask] += times
    scratch[np.uint64(256) + ((word >> np.uint64(8)) & mask)] += times
    scratch[np.uint64(512) + ((word >> np.uint64(16)) & mask)] += times
    scratch[np.uint64(768) + ((word >> np.uint64(24)) & mask)] += times
    scratch[(word >> np.uint64(32)) & mask] += times
    scratch[np.uint64(256) + ((word >> np.uint64(40)) & mask)] += times
    scratch[np.uint64(512) + ((word >> np.uint64(48)) & mask)] += times
    scratch[np.uint64(768) + (word >> np.uint64(56))] += times
