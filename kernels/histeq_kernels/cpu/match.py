"""From two histograms to the lookup table that gives one the distribution of the other."""

import numpy as np

from histeq_kernels.cpu.core.kernel import COUNTS, inline, kernel


@kernel(
    **{
        tag: f"void({COUNTS}, {COUNTS}, int64, {element}[::1])"
        for tag, element in (("u8", "uint8"), ("i8", "int8"), ("u16", "uint16"), ("i16", "int16"))
    }
)
def match_table(counts, reference, first, table):
    """Write skimage.exposure.match_histograms as a table: np.interp of quantiles in float64, truncated.

    `first` is the value of the first bin. A quantile lies between those of two of the reference's
    occupied bins, `left` and `right`: both move up with it.
    """
    one, size = np.uint64(1), np.uint64(table.size)
    total, wanted = np.float64(counts.sum()), np.float64(reference.sum())
    if total == 0 or wanted == 0:
        for value in range(size):
            table[value] = first + np.int64(value)
        return
    right = next_occupied(reference, np.uint64(0))
    left, upto, left_upto, right_upto = right, np.int64(0), np.int64(-1), reference[right]
    level = first + np.int64(left)
    for value in range(size):
        if counts[value] != 0:
            upto += counts[value]
            quantile = upto / total
            while right < size and right_upto / wanted <= quantile:
                left, left_upto = right, right_upto
                right = next_occupied(reference, right + one)
                if right < size:
                    right_upto += reference[right]
            low = np.float64(first + np.int64(left))
            if left_upto >= 0 and right < size and left_upto / wanted != quantile:
                x0, x1 = left_upto / wanted, right_upto / wanted
                slope = np.float64(np.int64(right - left)) / (x1 - x0)
                level = np.int64(slope * (quantile - x0) + low)
            else:
                level = np.int64(low)
        table[value] = level


@inline
def next_occupied(counts, start):
    """Return the first non-empty bin from `start` on; their number where there is none."""
    while start < np.uint64(counts.size) and counts[start] == 0:
        start += np.uint64(1)
    return start
