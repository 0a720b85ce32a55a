"""The arithmetic of a tile: its histogram is clipped, and its cumulative counts become levels.

It is that of `histeq/_core/tile_grid.py`, which states it in NumPy.
"""

import numpy as np

from histeq_kernels.cpu.clahe.parameters import LOWEST, SPAN
from histeq_kernels.cpu.core.kernel import inline
from histeq_kernels.cpu.core.prefix_sums import accumulate
from histeq_kernels.cpu.core.rounding import rounded


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
    low, span = np.int32(levels[LOWEST]), np.int32(levels[SPAN])
    accumulate(counts, np.uint64(0), np.uint64(counts.size), np.int32(0))
    for i in range(np.uint64(counts.size)):
        table[i] = level_of(np.float32(counts[i]) * scale, low, span)


@inline
def level_of(level, low, span):
    """Return a level, rounded half to even and limited."""
    return np.int32(min(rounded(level), span) + low)
