"""The arithmetic of a tile: clipping its histogram, and turning cumulative counts into levels.

`histeq/_core/tile_grid.py` has the same arithmetic in NumPy.
"""

import numpy as np

from histeq_kernels.cpu.clahe.parameters import LOWEST, SPAN
from histeq_kernels.cpu.core.kernel import inline
from histeq_kernels.cpu.core.prefix_sums import accumulate
from histeq_kernels.cpu.core.rounding import rounded


@inline
def clipped_at(clip_limit, area, bins):
    """Return the most pixels that a bin may keep, which is `area` if there is no limit."""
    limit = clip_limit * np.float64(area) / np.float64(bins)
    if not clip_limit > 0 or limit >= area:
        return np.int64(area)
    return max(np.int64(limit), np.int64(1))


@inline
def clip_counts(counts, clip):
    """Clip the counts and spread the excess evenly; the remainder goes to evenly spaced bins."""
    number = counts.dtype.type  # sums have the type of the counts: vectors hold more narrow numbers
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
    """Replace the counts by their cumulative sums, and write the levels of these to the table."""
    low, span = np.int32(levels[LOWEST]), np.int32(levels[SPAN])
    accumulate(counts, np.uint64(0), np.uint64(counts.size), np.int32(0))
    for i in range(np.uint64(counts.size)):
        table[i] = level_of(np.float32(counts[i]) * scale, low, span)


@inline
def level_of(level, low, span):
    """Return a level, rounded half to even and limited to `span`, then shifted by `low`."""
    return np.int32(min(rounded(level), span) + low)
