"""Counting pixels.

The kernels for uint8 come in tiers (`tiers.py`): `counting` names the one in use. They take planes whose rows
are contiguous; `histogram_strided` takes any strides and a mask.
"""

from collections.abc import Callable

import numpy as np

from histeq_kernels.cpu import _pairs, _sliced, intervals
from histeq_kernels.cpu._kernel import COUNTS_OUT, flat, inline, kernel, plane
from histeq_kernels.cpu._pairs import count_row_direct_many, count_row_many, count_row_pairs, fold_pairs
from histeq_kernels.cpu._vector import load_64, row
from histeq_kernels.cpu.tiers import tier

ZEROS = _pairs.ENTRIES
"""Entries of the scratch, uint32, that are zero before and after every call."""
SCRATCH = ZEROS + _sliced.ROOM
"""All entries of the scratch; it begins with a cache line."""
MAX_PIXELS = 1 << 32
"""No call counts more pixels than this, or an entry of the scratch could overflow."""
SMALL = 1 << 17
"""Below this many pixels of colour counting pairs gains less than it costs: they come in blocks, which nobody
looks at as `_pairs.count_row_many` looks at rows."""

FEW = 1 << 12
"""Below this many pixels adding up the sums of bit planes costs more than they gain."""

_ROWS = f"void({plane('uint8')}, uint32[::1], {COUNTS_OUT})"


def along_rows() -> bool:
    """Tell whether the fastest kernel wants rows as long as may be; the other, blocks of several."""
    return tier() != "avx512"


def counting(pixels: int) -> Callable[..., None]:
    """Return the fastest kernel that counts this many contiguous 8-bit pixels."""
    if tier() == "avx512" and pixels >= FEW:
        return histogram_avx512.u8
    return histogram_small.u8 if pixels < _pairs.MANY else histogram.u8


@kernel(u8=_ROWS)
def histogram_small(image, scratch, counts):
    """Add the counts of 8-bit pixels to `counts`: four tables in turn."""
    count_small(image, scratch, counts)


@kernel(u8=_ROWS)
def histogram(image, scratch, counts):
    """Add the counts of 8-bit pixels to `counts`: two pixels an increment."""
    count_pairs(image, scratch, counts)


@kernel(u8=_ROWS)
def histogram_avx512(image, scratch, counts):
    """Add the counts of 8-bit pixels to `counts`: 512 pixels as bit planes."""
    _sliced.rows_sliced(image, scratch, ZEROS, _sliced.slice_block_avx512)
    _sliced.fold_rows(scratch, counts)


@kernel(u8=_ROWS)
def histogram_sliced(image, scratch, counts):
    """Do as `histogram_avx512` without its one special instruction, so that any processor can test it."""
    _sliced.rows_sliced(image, scratch, ZEROS, _sliced.slice_block_portable)
    _sliced.fold_rows(scratch, counts)


@kernel(u16=f"void({plane('uint16')}, uint32[::1], {COUNTS_OUT})")
def histogram_direct(image, scratch, counts):
    """Add the counts of 16-bit pixels to `counts`."""
    count_direct(image, scratch)
    for value in range(np.uint64(65536)):
        counts[value] += scratch[value]
        scratch[value] = 0


@kernel(
    u8=f"void({plane('uint8')}, {plane('uint8')}, {COUNTS_OUT})",
    u16=f"void({plane('uint16')}, {plane('uint8')}, {COUNTS_OUT})",
)
def histogram_strided(image, mask, counts):
    """Add the counts of the pixels whose mask is not zero; any strides."""
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            for x in range(np.uint64(image.shape[2])):
                if mask[z, y, x]:
                    counts[image[z, y, x]] += 1


@kernel(
    f32=f"void({plane('float32')}, {flat('float32')}, int32[::1], uint32[::1], {COUNTS_OUT})",
    f64=f"void({plane('float64')}, {flat('float64')}, int32[::1], uint32[::1], {COUNTS_OUT})",
)
def histogram_bins_rows(image, edges, found, scratch, counts):
    """Add the counts of a floating image with contiguous rows, in fewer than 2**15 bins.

    Two tables in turn: neighbours are often alike, and one would wait for the other's store.
    """
    low, high, scale = edges[0], edges[edges.size - 1], intervals.scale_of(edges)
    doubt, half = intervals.doubt_of(edges, scale), np.uint64(1 << 15)
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            values = row(image, z, y)
            for start in range(np.uint64(0), np.uint64(values.size), np.uint64(intervals.BLOCK)):
                size = min(np.uint64(intervals.BLOCK), np.uint64(values.size) - start)
                intervals.guess(values, start, size, np.nan, edges, scale, doubt, found)
                for i in range(size):
                    table = (i & np.uint64(1)) * half
                    if found[i] >= 0:
                        scratch[np.uint64(found[i]) + table] += np.uint32(1)
                    elif low <= values[start + i] <= high:
                        scratch[intervals.bin_of(values[start + i], edges, scale) + table] += np.uint32(1)
    for i in range(np.uint64(counts.size)):
        counts[i] += np.int64(scratch[i]) + np.int64(scratch[half + i])
        scratch[i] = 0
        scratch[half + i] = 0


@kernel(
    f32=f"void({plane('float32')}, {plane('uint8')}, float64, {flat('float32')}, {COUNTS_OUT})",
    f64=f"void({plane('float64')}, {plane('uint8')}, float64, {flat('float64')}, {COUNTS_OUT})",
)
def histogram_bins(image, mask, nodata, edges, counts):
    """Add the counts of a floating image by bin, as np.histogram does; `nodata` may be NaN: none."""
    low, high = edges[0], edges[edges.size - 1]
    scale = intervals.scale_of(edges)
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            for x in range(np.uint64(image.shape[2])):
                value = image[z, y, x]
                if mask[z, y, x] and low <= value <= high and value != nodata:
                    counts[intervals.bin_of(value, edges, scale)] += 1


@kernel(
    f32=f"void({plane('float32')}, {plane('uint8')}, float64, float32[::1])",
    f64=f"void({plane('float64')}, {plane('uint8')}, float64, float64[::1])",
)
def extremes(image, mask, nodata, limits):
    """Widen `limits`, (smallest, largest), to the finite counted values of a floating image."""
    low, high = limits[0], limits[1]
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            for x in range(np.uint64(image.shape[2])):
                value = image[z, y, x]
                if mask[z, y, x] and np.isfinite(value) and value != nodata:
                    low = min(low, value)
                    high = max(high, value)
    limits[0], limits[1] = low, high


@kernel(
    f32=f"void({plane('float32')}, float32[::1])",
    f64=f"void({plane('float64')}, float64[::1])",
)
def extremes_rows(image, limits):
    """Widen `limits` to the finite values of a floating image with contiguous rows.

    Four pairs of limits in turn: one would wait for itself.
    """
    low_a = low_b = low_c = low_d = limits[0]
    high_a = high_b = high_c = high_d = limits[1]
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            values = row(image, z, y)
            whole = np.uint64(values.size - values.size % 4)
            for i in range(np.uint64(0), whole, np.uint64(4)):
                low_a, high_a = widened(low_a, high_a, values[i])
                low_b, high_b = widened(low_b, high_b, values[i + np.uint64(1)])
                low_c, high_c = widened(low_c, high_c, values[i + np.uint64(2)])
                low_d, high_d = widened(low_d, high_d, values[i + np.uint64(3)])
            for i in range(whole, np.uint64(values.size)):
                low_a, high_a = widened(low_a, high_a, values[i])
    limits[0] = min(min(low_a, low_b), min(low_c, low_d))
    limits[1] = max(max(high_a, high_b), max(high_c, high_d))


@inline
def widened(low, high, value):
    """Return limits widened to a value, unless it is infinite; no comparison with NaN is true."""
    low = value if value < low and value > -np.inf else low
    high = value if value > high and value < np.inf else high
    return low, high


@inline
def count_small(image, scratch, counts):
    """Count into four tables in turn, so that equal neighbours do not wait for each other's store."""
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            count_row_small(row(image, z, y), scratch)
    fold_small(scratch, counts)


@inline
def count_row_small(pixels, scratch):
    """Count a row into four tables. Equal words in a row are counted once, by their number."""
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
    """Add the four tables to `counts`."""
    merge_small(scratch)
    for value in range(np.uint64(256)):
        counts[value] += scratch[value]
        scratch[value] = 0


@inline
def merge_small(scratch):
    """Add three of the four tables to the first, and leave zeros there."""
    for table in range(np.uint64(256), np.uint64(1024), np.uint64(256)):
        for value in range(np.uint64(256)):
            scratch[value] += scratch[table + value]
            scratch[table + value] = 0


@inline
def count_word(word, times, scratch):
    """Count eight pixels `times` times, in four tables."""
    mask = np.uint64(0xFF)
    scratch[word & mask] += times
    scratch[np.uint64(256) + ((word >> np.uint64(8)) & mask)] += times
    scratch[np.uint64(512) + ((word >> np.uint64(16)) & mask)] += times
    scratch[np.uint64(768) + ((word >> np.uint64(24)) & mask)] += times
    scratch[(word >> np.uint64(32)) & mask] += times
    scratch[np.uint64(256) + ((word >> np.uint64(40)) & mask)] += times
    scratch[np.uint64(512) + ((word >> np.uint64(48)) & mask)] += times
    scratch[np.uint64(768) + (word >> np.uint64(56))] += times


@inline
def count_pairs(image, scratch, counts):
    """Count two neighbours by one increment: together they are one 16-bit index into 65,536 counters."""
    rows_pairs(image, scratch, counts)
    fold_pairs(scratch, counts)


@inline
def rows_pairs(image, scratch, counts):
    """Count the pairs of all rows."""
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            count_row_many(row(image, z, y), scratch, counts)


@inline
def count_row(pixels, few, scratch, counts):
    """Count a row of an image with few pixels or many; `fold` ends the counting."""
    if few:
        count_row_small(pixels, scratch)
    else:
        count_row_pairs(pixels, scratch, counts)


@inline
def fold(few, scratch, counts):
    """Add the counters of all rows to `counts`."""
    if few:
        fold_small(scratch, counts)
    else:
        fold_pairs(scratch, counts)


@inline
def count_direct(image, scratch):
    """Count 16-bit pixels."""
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            count_row_direct_many(row(image, z, y), scratch)
