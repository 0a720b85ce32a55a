"""Counting, mapping, extraction and replacement of the luma of 8- and 16-bit colour images of any strides."""

import numpy as np

from histeq_kernels.cpu.core.kernel import COUNTS_OUT, flat, kernel, plane, plane_out
from histeq_kernels.cpu.ycrcb.scalar import RGB, luma_of, with_luma

_RGB = {element: ", ".join([plane(element)] * 3) for element in ("uint8", "uint16")}
_RGB_OUT = {element: ", ".join([plane_out(element)] * 3) for element in ("uint8", "uint16")}


@kernel(
    u8=f"void({_RGB['uint8']}, {plane('uint8')}, int64, {COUNTS_OUT})",
    u16=f"void({_RGB['uint16']}, {plane('uint8')}, int64, {COUNTS_OUT})",
)
def histogram_luma_strided(red, green, blue, mask, nodata, counts):
    """Add the counts of Y where the mask is not zero and not all three channels are `nodata`; -1: none."""
    for z in range(np.uint64(red.shape[0])):
        for y in range(np.uint64(red.shape[1])):
            for x in range(np.uint64(red.shape[2])):
                r, g, b = np.int64(red[z, y, x]), np.int64(green[z, y, x]), np.int64(blue[z, y, x])
                if mask[z, y, x] and not (r == nodata and g == nodata and b == nodata):
                    counts[np.uint64(luma_of(r, g, b, RGB))] += 1


@kernel(
    u8=f"void({_RGB['uint8']}, {flat('uint8')}, int64, int64, {_RGB_OUT['uint8']})",
    u16=f"void({_RGB['uint16']}, {flat('uint16')}, int64, int64, {_RGB_OUT['uint16']})",
)
def apply_luma_strided(red, green, blue, table, nodata, beside, new_red, new_green, new_blue):
    """Map Y through the table and keep Cr and Cb, but where all three channels are `nodata`; -1: none.

    A pixel whose channels would all become `nodata` becomes `beside`.
    """
    top = np.int64(table.size - 1)
    for z in range(np.uint64(red.shape[0])):
        for y in range(np.uint64(red.shape[1])):
            for x in range(np.uint64(red.shape[2])):
                r, g, b = np.int64(red[z, y, x]), np.int64(green[z, y, x]), np.int64(blue[z, y, x])
                if not (r == nodata and g == nodata and b == nodata):
                    luma = luma_of(r, g, b, RGB)
                    r, g, b = with_luma(r, b, luma, np.int64(table[np.uint64(luma)]), top, RGB)
                    if r == nodata and g == nodata and b == nodata:
                        r = g = b = beside
                new_red[z, y, x] = r
                new_green[z, y, x] = g
                new_blue[z, y, x] = b


@kernel(
    u8=f"void({_RGB['uint8']}, {plane_out('uint8')})",
    u16=f"void({_RGB['uint16']}, {plane_out('uint16')})",
)
def extract_luma(red, green, blue, luma):
    """Write Y of every pixel."""
    for z in range(np.uint64(red.shape[0])):
        for y in range(np.uint64(red.shape[1])):
            for x in range(np.uint64(red.shape[2])):
                r, g, b = np.int64(red[z, y, x]), np.int64(green[z, y, x]), np.int64(blue[z, y, x])
                luma[z, y, x] = luma_of(r, g, b, RGB)


@kernel(
    u8=f"void({_RGB['uint8']}, {plane('uint8')}, int64, {_RGB_OUT['uint8']})",
    u16=f"void({_RGB['uint16']}, {plane('uint16')}, int64, {_RGB_OUT['uint16']})",
)
def replace_luma(red, green, blue, luma, top, new_red, new_green, new_blue):
    """Replace Y of every pixel by `luma`, and keep Cr and Cb; `top` is the highest level."""
    for z in range(np.uint64(red.shape[0])):
        for y in range(np.uint64(red.shape[1])):
            for x in range(np.uint64(red.shape[2])):
                r, g, b = np.int64(red[z, y, x]), np.int64(green[z, y, x]), np.int64(blue[z, y, x])
                r, g, b = with_luma(r, b, luma_of(r, g, b, RGB), np.int64(luma[z, y, x]), top, RGB)
                new_red[z, y, x] = r
                new_green[z, y, x] = g
                new_blue[z, y, x] = b
