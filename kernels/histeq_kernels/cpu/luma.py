"""Counting and equalizing the luma of colour images, in OpenCV's 8- and 16-bit YCrCb (cvtColor).

Cr and Cb depend on the pixel alone, so that one pass goes from RGB to RGB. 14 fractional bits; int64
keeps 16-bit sums exact.
"""

import numpy as np

from histeq_kernels.cpu._kernel import COUNTS_OUT, flat, inline, kernel, plane, plane_out

_HALF = 1 << 13
_PLANES = {element: ", ".join([plane(element)] * 3) for element in ("uint8", "uint16")}
_OUTPUTS = {element: ", ".join([plane_out(element)] * 3) for element in ("uint8", "uint16")}


@kernel(
    u8=f"void({_PLANES['uint8']}, {plane('uint8')}, int64, {COUNTS_OUT})",
    u16=f"void({_PLANES['uint16']}, {plane('uint8')}, int64, {COUNTS_OUT})",
)
def histogram_luma(red, green, blue, mask, nodata, counts):
    """Add the counts of Y; `nodata` -1: none."""
    for z in range(np.uint64(red.shape[0])):
        for y in range(np.uint64(red.shape[1])):
            for x in range(np.uint64(red.shape[2])):
                r, g, b = np.int64(red[z, y, x]), np.int64(green[z, y, x]), np.int64(blue[z, y, x])
                if mask[z, y, x] and not (r == nodata and g == nodata and b == nodata):
                    counts[np.uint64(luma(r, g, b))] += 1


@kernel(
    u8=f"void({_PLANES['uint8']}, {flat('uint8')}, int64, {_OUTPUTS['uint8']})",
    u16=f"void({_PLANES['uint16']}, {flat('uint16')}, int64, {_OUTPUTS['uint16']})",
)
def apply_luma(red, green, blue, table, nodata, new_red, new_green, new_blue):
    """Map Y through the table and keep Cr and Cb; `nodata` -1: none."""
    top = np.int64(table.size - 1)
    for z in range(np.uint64(red.shape[0])):
        for y in range(np.uint64(red.shape[1])):
            for x in range(np.uint64(red.shape[2])):
                r, g, b = np.int64(red[z, y, x]), np.int64(green[z, y, x]), np.int64(blue[z, y, x])
                if not (r == nodata and g == nodata and b == nodata):
                    r, g, b = replace_luma(r, g, b, table, top)
                new_red[z, y, x] = r
                new_green[z, y, x] = g
                new_blue[z, y, x] = b


@inline
def luma(r, g, b):
    """Return Y."""
    return (4899 * r + 9617 * g + 1868 * b + _HALF) >> 14


@inline
def replace_luma(r, g, b, table, top):
    """Return the pixel whose Y went through the table."""
    centre = (top + 1) >> 1
    y = luma(r, g, b)
    cr = clamp((11682 * (r - y) + (centre << 14) + _HALF) >> 14, top) - centre
    cb = clamp((9241 * (b - y) + (centre << 14) + _HALF) >> 14, top) - centre
    new = np.int64(table[np.uint64(y)])
    return (
        clamp(new + ((22987 * cr + _HALF) >> 14), top),
        clamp(new + ((-5636 * cb - 11698 * cr + _HALF) >> 14), top),
        clamp(new + ((29049 * cb + _HALF) >> 14), top),
    )


@inline
def clamp(value, top):
    """Limit to 0..top."""
    return min(max(value, 0), top)
