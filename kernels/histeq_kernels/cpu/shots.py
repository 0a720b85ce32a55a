"""How far the histogram of a video's frame is from that of the frame before."""

import numpy as np

from histeq_kernels.cpu.core.kernel import COUNTS, inline, kernel


@kernel(f64=f"void({COUNTS}, float64, int64[::1], float64[::1])")
def distance(histogram, unit, shares, result):
    """Write what `distance_between` returns."""
    result[0] = distance_between(histogram, unit, shares)


@inline
def distance_between(histogram, unit, shares):
    """Return half the L1 distance of two normalised histograms, 0 where one is empty.

    Parameters
    ----------
    unit : what the shares of all levels add up to
    shares : those of the frame before; they become those of this frame
    """
    size, total = np.uint64(histogram.size), np.int64(0)
    for level in range(size):
        total += histogram[level]
    divisor = np.float64(max(total, np.int64(1)))
    moved, before = np.int64(0), np.int64(0)
    for level in range(size):
        share = np.int64(np.float64(histogram[level]) / divisor * unit)
        moved += abs(share - shares[level])
        before |= shares[level]
        shares[level] = share
    return np.float64(moved) / (2.0 * unit) if before and total else 0.0
