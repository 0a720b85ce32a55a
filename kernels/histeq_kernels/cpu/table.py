"""From a histogram to a lookup table: the integer rules.

Each takes the counts, `low` and `span` (the lowest output level and how many levels above it the highest
lies) and writes the level of every value. Where every pixel keeps its value, it writes the values
themselves, from `bottom` up, the dtype's smallest. An empty bin has the level of the bin before it, which
spares the arithmetic: most of 65,536 bins are empty in a small image.
"""

import numpy as np

from histeq_kernels.cpu._kernel import COUNTS, inline, kernel

_SIGNATURES = {
    tag: f"void({COUNTS}, int64, int64, int64, {element}[::1])"
    for tag, element in (("u8", "uint8"), ("u16", "uint16"), ("i16", "int16"))
}


@kernel(**_SIGNATURES)
def table_opencv(counts, bottom, low, span, table):
    """cv2.equalizeHist: float32 throughout."""
    fill_opencv(counts, bottom, low, span, table)


@kernel(**_SIGNATURES)
def table_numpy(counts, bottom, low, span, table):
    """(cdf - cdf_min) * span / (cdf_max - cdf_min) in float64, truncated."""
    first, total = first_and_total(counts)
    if total == counts[first]:
        identity(bottom, table)
        return
    divisor = np.float64(total - counts[first])
    above, level = np.int64(0), low
    for i in range(counts.size):
        if i > first and counts[i]:
            above += counts[i]
            level = low + np.int64(np.float64(above) * np.float64(span) / divisor)
        table[i] = level


@kernel(**_SIGNATURES)
def table_pillow(counts, bottom, low, span, table):
    """PIL.ImageOps.equalize: whole numbers throughout."""
    last = counts.size - 1
    while last > 0 and counts[last] == 0:
        last -= 1
    total = first_and_total(counts)[1]
    step = (total - counts[last]) // span
    if step == 0:  # as with one occupied bin: nothing lies below the last
        identity(bottom, table)
        return
    position, level = step // 2, low
    for i in range(counts.size):
        table[i] = level
        if counts[i]:
            position += counts[i]
            level = low + min(position // step, span)


@kernel(**_SIGNATURES)
def table_vips(counts, bottom, low, span, table):
    """Scale the cumulative count by span / pixels in float32, truncated (libvips' hist_equal)."""
    total = first_and_total(counts)[1]
    if total == 0:
        identity(bottom, table)
        return
    scale = np.float32(span / total)
    cumulative, level = np.int64(0), low
    for i in range(counts.size):
        if counts[i]:
            cumulative += counts[i]
            level = low + min(np.int64(np.float32(cumulative) * scale), span)
        table[i] = level


@inline
def first_and_total(counts):
    """Return the first non-empty bin (0 where all are empty) and the number of pixels."""
    first, total = np.int64(-1), np.int64(0)
    for i in range(counts.size):
        if first < 0 and counts[i]:
            first = np.int64(i)
        total += counts[i]
    return max(first, np.int64(0)), total


@inline
def identity(bottom, table):
    """Let every pixel keep its value."""
    for i in range(table.size):
        table[i] = bottom + i


@inline
def fill_opencv(counts, bottom, low, span, table):
    """Write the table of cv2.equalizeHist."""
    first, total = first_and_total(counts)
    if total == counts[first]:
        identity(bottom, table)
        return
    scale = np.float32(span) / np.float32(total - counts[first])
    above, level = np.int64(0), low
    for i in range(counts.size):
        if i > first and counts[i]:
            above += counts[i]
            level = low + min(np.int64(np.rint(np.float32(above) * scale)), span)
        table[i] = level


@inline
def fill_opencv_direct(counters, total, cumulative, table):
    """Write the table of `total` 16-bit pixels, fewer than 2**31; leave zeros in `counters`.

    Only the values from the darkest pixel to the brightest are looked at. Adding up goes entry by entry; in
    a loop of its own, the arithmetic goes in vectors.
    """
    first, last = np.int64(0), np.int64(counters.size - 1)
    while first < last and counters[np.uint64(first)] == 0:
        first += 1
    while last > first and counters[np.uint64(last)] == 0:
        last -= 1
    darkest = counters[np.uint64(first)]
    counters[np.uint64(first)] = 0
    if first == last:
        table[np.uint64(first)] = first
        return
    scale = np.float32(65535) / np.float32(total - np.int64(darkest))
    above = np.int32(0)
    for i in range(np.uint64(first), np.uint64(last) + np.uint64(1)):
        above = np.int32(above + np.int32(counters[i]))
        cumulative[i] = above
        counters[i] = 0
    for i in range(np.uint64(first), np.uint64(last) + np.uint64(1)):
        table[i] = np.int32(np.rint(np.float32(cumulative[i]) * scale))  # never above 65535: see test_tables
