"""Counting pixels."""

import numpy as np

from histeq_kernels.cpu._kernel import COUNTS_OUT, flat, inline, kernel, plane

PAIRS = 1 << 16
"""Entries of the scratch that counts pairs of 8-bit pixels, or 16-bit pixels: uint32, zero on entry."""
MAX_PIXELS = 1 << 32
"""No call counts more pixels than this, or a uint32 of the scratch could overflow."""


@kernel(u8=f"void({flat('uint8')}, {COUNTS_OUT})")
def histogram_small(pixels, counts):
    """Add the counts of contiguous pixels to `counts`, one by one."""
    for i in range(np.uint64(pixels.size)):
        counts[pixels[i]] += 1


@kernel(u8=f"void({flat('uint8')}, uint32[::1], {COUNTS_OUT})")
def histogram(pixels, scratch, counts):
    """Add the counts of contiguous pixels to `counts`; `scratch` is zero before and after.

    Two neighbours are one 16-bit index into 65,536 counters, so that one increment counts two pixels, and
    equal neighbours do not wait for each other's store. Folding costs about 10 microseconds.
    """
    whole = np.uint64(pixels.size - pixels.size % 8)
    mask = np.uint64(0xFFFF)
    for i in range(np.uint64(0), whole, np.uint64(8)):
        word = load_8(pixels, i)
        scratch[word & mask] += np.uint32(1)
        scratch[(word >> np.uint64(16)) & mask] += np.uint32(1)
        scratch[(word >> np.uint64(32)) & mask] += np.uint32(1)
        scratch[word >> np.uint64(48)] += np.uint32(1)
    for high in range(np.uint64(256)):
        row = np.uint64(0)
        for low in range(np.uint64(256)):
            pairs = scratch[high * np.uint64(256) + low]
            counts[low] += pairs
            row += pairs
            scratch[high * np.uint64(256) + low] = 0
        counts[high] += row
    for i in range(whole, np.uint64(pixels.size)):
        counts[pixels[i]] += 1


@kernel(u16=f"void({flat('uint16')}, uint32[::1], {COUNTS_OUT})")
def histogram_direct(pixels, scratch, counts):
    """Add the counts of contiguous 16-bit pixels to `counts`; `scratch` is zero before and after."""
    for i in range(np.uint64(pixels.size)):
        scratch[pixels[i]] += np.uint32(1)
    for value in range(np.uint64(PAIRS)):
        counts[value] += scratch[value]
        scratch[value] = 0


@kernel(
    u8=f"void({plane('uint8')}, {plane('uint8')}, {COUNTS_OUT})",
    u16=f"void({plane('uint16')}, {plane('uint8')}, {COUNTS_OUT})",
)
def histogram_masked(image, mask, counts):
    """Add the counts of the pixels whose mask is not zero; any strides."""
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            for x in range(np.uint64(image.shape[2])):
                if mask[z, y, x]:
                    counts[image[z, y, x]] += 1


@kernel(
    f32=f"void({plane('float32')}, {plane('uint8')}, float64, {flat('float32')}, {COUNTS_OUT})",
    f64=f"void({plane('float64')}, {plane('uint8')}, float64, {flat('float64')}, {COUNTS_OUT})",
)
def histogram_bins(image, mask, nodata, edges, counts):
    """Add the counts of a floating image by bin, as np.histogram does; `nodata` may be NaN: none."""
    low, high = edges[0], edges[edges.size - 1]
    scale = bin_scale(edges)
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            for x in range(np.uint64(image.shape[2])):
                value = image[z, y, x]
                if mask[z, y, x] and low <= value <= high and value != nodata:
                    counts[bin_of(value, edges, scale)] += 1


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


@inline
def load_8(pixels, i):
    """Return pixels i to i + 7 as one 64-bit word, the first lowest. LLVM makes one load of it."""
    return (
        np.uint64(pixels[i])
        | np.uint64(pixels[i + np.uint64(1)]) << np.uint64(8)
        | np.uint64(pixels[i + np.uint64(2)]) << np.uint64(16)
        | np.uint64(pixels[i + np.uint64(3)]) << np.uint64(24)
        | np.uint64(pixels[i + np.uint64(4)]) << np.uint64(32)
        | np.uint64(pixels[i + np.uint64(5)]) << np.uint64(40)
        | np.uint64(pixels[i + np.uint64(6)]) << np.uint64(48)
        | np.uint64(pixels[i + np.uint64(7)]) << np.uint64(56)
    )


@inline
def bin_scale(edges):
    """Return bins per unit of value, 0 where the range overflows."""
    width = np.float64(edges[edges.size - 1]) - np.float64(edges[0])
    return (edges.size - 1) / width if width < np.inf else 0.0


@inline
def bin_of(value, edges, scale):
    """Return the last bin whose left edge is not above `value`, which lies between the outer edges.

    The product only guesses; the edges decide, so that rounding cannot put a value into the wrong bin.
    """
    last = edges.size - 2
    index = min(max(np.int64((np.float64(value) - np.float64(edges[0])) * scale), 0), last)
    while index > 0 and value < edges[index]:
        index -= 1
    while index < last and value >= edges[index + 1]:
        index += 1
    return np.uint64(index)
