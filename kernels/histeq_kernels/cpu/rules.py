"""The rules for integers: how a histogram becomes a lookup table.

Each rule consists of two functions. `number` computes, once for all levels, the factor or divisor of the rule
from the counts of the darkest and the brightest value that occur, the number of pixels, and `span`, the
number of levels above the lowest; it returns 0 if every pixel keeps its value. `level` computes the level of
a value, above the lowest, from the number of pixels below the value and up to it. Counts are float64 here,
which represents them exactly and can be vectorized.
"""

import numpy as np

from histeq_kernels.cpu.core.kernel import COUNTS, inline, kernel
from histeq_kernels.cpu.core.prefix_sums import accumulate_to_float

BLOCK = 256
"""Values whose cumulative counts are in memory at the same time."""
SUMS = BLOCK + 8
"""Entries of the memory for these counts, float64, of any content: one more, in whole cache lines."""

_SIGNATURES = {
    tag: f"void({COUNTS}, int64, int64, int64, int64, float64[::1], {element}[::1])"
    for tag, element in (("u8", "uint8"), ("i8", "int8"), ("u16", "uint16"), ("i16", "int16"))
}


@kernel(**_SIGNATURES)
def table_opencv(counts, first, last, low, span, sums, table):
    """cv2.equalizeHist: float32 throughout."""
    fill(counts, (first, last), (low, span), (opencv_number, opencv_level), sums, table)


@kernel(**_SIGNATURES)
def table_numpy(counts, first, last, low, span, sums, table):
    """(cdf - cdf_min) * span / (cdf_max - cdf_min) in float64, truncated."""
    fill(counts, (first, last), (low, span), (numpy_number, numpy_level), sums, table)


@kernel(**_SIGNATURES)
def table_pillow(counts, first, last, low, span, sums, table):
    """PIL.ImageOps.equalize: whole numbers throughout."""
    fill(counts, (first, last), (low, span), (pillow_number, pillow_level), sums, table)


@kernel(**_SIGNATURES)
def table_vips(counts, first, last, low, span, sums, table):
    """Scale the cumulative count by span / pixels in float32, truncated (libvips' hist_equal)."""
    fill(counts, (first, last), (low, span), (vips_number, vips_level), sums, table)


@inline
def opencv_number(darkest, brightest, total, span):
    """Return the levels per pixel."""
    rest = total - darkest
    return np.float32(span) / np.float32(rest) if rest else np.float32(0)


@inline
def opencv_level(below, upto, darkest, number, span):
    """Return the level, rounded half to even."""
    return min(np.rint(np.float32(upto - darkest) * number), np.float32(span))


@inline
def numpy_number(darkest, brightest, total, span):
    """Return the number of pixels above the darkest value."""
    return total - darkest


@inline
def numpy_level(below, upto, darkest, number, span):
    """Return the level."""
    return (upto - darkest) * span / number


@inline
def pillow_number(darkest, brightest, total, span):
    """Return the pixels per level, which are 0 if only one bin is occupied."""
    return np.floor((total - brightest) / span)


@inline
def pillow_level(below, upto, darkest, number, span):
    """Return the level; the rounding error of the quotient is too small to reach the next whole number."""
    return min(np.floor((np.floor(number / 2.0) + below) / number), span)


@inline
def vips_number(darkest, brightest, total, span):
    """Return levels per pixel."""
    return np.float32(span / total) if total else np.float32(0)


@inline
def vips_level(below, upto, darkest, number, span):
    """Return the level."""
    return min(np.float32(upto) * number, np.float32(span))


@inline
def fill(counts, kept, levels, rule, sums, table):
    """Write the levels of all values, by the two functions of a rule.

    `levels` is the lowest level and how many there are above it. Where every pixel keeps its value, `kept`
    says what the first and the last bin become; the others lie evenly between.
    """
    first, last = occupied(counts)
    low, _ = levels
    one, total = np.uint64(1), np.int64(0)
    for i in range(first, last + one):
        total += counts[i]
    if not fill_occupied(counts, (first, last), total, levels, rule, sums, table):
        start, end = kept
        step = np.float64(end - start) / np.float64(table.size - 1)
        for i in range(np.uint64(table.size)):
            table[i] = start + np.int64(np.rint(np.float64(i) * step))
        return
    for i in range(first):
        table[i] = low
    for i in range(last + one, np.uint64(table.size)):
        table[i] = low + np.int64(sums[0])


@inline
def occupied(counts):
    """Return the first and the last non-empty bin, or the last bin twice if all are empty."""
    one, block = np.uint64(1), np.uint64(BLOCK)
    first, last = np.uint64(0), np.uint64(counts.size) - one
    while first + block <= last and empty(counts, first, block):
        first += block
    while first < last and counts[first] == 0:
        first += one
    while last >= first + block and empty(counts, last + one - block, block):
        last -= block
    while last > first and counts[last] == 0:
        last -= one
    return first, last


@inline
def fill_occupied(counts, limits, total, levels, rule, sums, table):
    """Write the levels of the values between two limits, and the level of all values above them to sums[0].

    Write nothing and return False if every pixel keeps its value.
    """
    (first, last), (low, span), (number_of, level_of) = limits, levels, rule
    pixels, top = np.float64(total), np.float64(span)
    darkest, brightest = np.float64(counts[first]), np.float64(counts[last])
    number = number_of(darkest, brightest, pixels, top)
    if number == 0:
        return False
    below, one = np.int64(0), np.uint64(1)
    for start in range(first, last + one, np.uint64(BLOCK)):
        size = min(np.uint64(BLOCK), last + one - start)
        if empty(counts, start, size):
            upto = np.float64(below)
            level = level_of(upto, upto, darkest, number, top)
            for i in range(start, start + size):
                table[i] = np.int32(low) + np.int32(level)
            continue
        below = accumulate(counts, start, size, below, sums)
        for i in range(size):
            level = level_of(sums[i], sums[i + one], darkest, number, top)
            table[start + i] = np.int32(low) + np.int32(level)
    sums[0] = level_of(pixels, pixels, darkest, number, top)
    return True


@inline
def empty(counts, start, size):
    """Return whether `size` counts from `start` on are all 0."""
    some = counts[start]
    for i in range(start, start + size):
        some |= counts[i]
    return some == 0


@inline
def accumulate(counts, start, size, below, sums):
    """Write the cumulative counts of `size` values, added to `below`, to `sums`; return the last."""
    one, vectors = np.uint64(1), size // np.uint64(16) * np.uint64(16)
    sums[0] = below
    below = accumulate_to_float(counts, start, vectors, below, sums)
    for i in range(vectors, size):
        below += np.int64(counts[start + i])
        sums[i + one] = below
    return below
