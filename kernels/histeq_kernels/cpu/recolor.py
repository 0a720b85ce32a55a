"""The luma of colour images taken out, and put back changed: OpenCV's YCrCb.

The kernels for rows take 8-bit pixels as those of `luma.py` do; `take_luma` and `put_luma` take any strides.
"""

from collections.abc import Callable

import numpy as np

from histeq_kernels.cpu import _ycrcb
from histeq_kernels.cpu._kernel import flat, inline, kernel, plane, plane_out
from histeq_kernels.cpu._vector import row
from histeq_kernels.cpu.luma import clamp, luma_of, luma_of_chunk, replace_in_chunk
from histeq_kernels.cpu.tiers import tier

_THREE = {element: ", ".join([plane(element)] * 3) for element in ("uint8", "uint16")}
_OUT = {element: ", ".join([plane_out(element)] * 3) for element in ("uint8", "uint16")}
_TAKE = f"void({_THREE['uint8']}, uint64, {flat('int16')}, {plane_out('uint8')})"
_PUT = f"void({_THREE['uint8']}, uint64, {flat('int16')}, {', '.join([plane('uint8')] * 2)}, {_OUT['uint8']})"


def taking() -> Callable[..., None]:
    """Return the fastest kernel that takes Y out of rows."""
    return (take_rows_portable if tier() == "portable" else take_rows_avx2).u8


def putting() -> Callable[..., None]:
    """Return the fastest kernel that puts another Y into rows."""
    return (put_rows_portable if tier() == "portable" else put_rows_avx2).u8


@kernel(u8=_TAKE)
def take_rows_portable(first, second, third, step, k, y):
    """Write Y; `k` has the channels' coefficients."""
    luma = (_ycrcb.luma_planes_portable, _ycrcb.luma_rgb_portable, _ycrcb.luma_rgba_portable)
    take_rows(first, second, third, step, k, y, luma)


@kernel(u8=_TAKE)
def take_rows_avx2(first, second, third, step, k, y):
    """Do the same with 16-bit products."""
    luma = (_ycrcb.luma_planes_avx2, _ycrcb.luma_rgb_avx2, _ycrcb.luma_rgba_avx2)
    take_rows(first, second, third, step, k, y, luma)


@kernel(u8=_PUT)
def put_rows_portable(first, second, third, step, k, y, new_y, new_first, new_second, new_third):
    """Write the pixels, whose Y is `y`, with another Y; Cr and Cb stay, and a fourth channel."""
    replace = (_ycrcb.replace_planes_portable, _ycrcb.replace_rgb_portable, _ycrcb.replace_rgba_portable)
    put_rows((first, second, third), step, k, y, new_y, (new_first, new_second, new_third), replace)


@kernel(u8=_PUT)
def put_rows_avx2(first, second, third, step, k, y, new_y, new_first, new_second, new_third):
    """Do the same with 16-bit products."""
    replace = (_ycrcb.replace_planes_avx2, _ycrcb.replace_rgb_avx2, _ycrcb.replace_rgba_avx2)
    put_rows((first, second, third), step, k, y, new_y, (new_first, new_second, new_third), replace)


@inline
def take_rows(first, second, third, step, k, y, luma):
    """Write Y of all rows."""
    for d in range(np.uint64(y.shape[0])):
        for h in range(np.uint64(y.shape[1])):
            old, size = (row(first, d, h), row(second, d, h), row(third, d, h)), np.uint64(y.shape[2])
            luma_of_chunk(old, np.uint64(0), size, step, k, row(y, d, h), luma)


@inline
def put_rows(old_three, step, k, y, new_y, new_three, replace):
    """Write all rows with another Y."""
    first, second, third = old_three
    new_first, new_second, new_third = new_three
    for d in range(np.uint64(y.shape[0])):
        for h in range(np.uint64(y.shape[1])):
            old, size = (row(first, d, h), row(second, d, h), row(third, d, h)), np.uint64(y.shape[2])
            new = (row(new_first, d, h), row(new_second, d, h), row(new_third, d, h))
            replace_in_chunk(old, np.uint64(0), size, step, k, row(y, d, h), row(new_y, d, h), new, replace)


@kernel(
    u8=f"void({_THREE['uint8']}, {plane_out('uint8')})",
    u16=f"void({_THREE['uint16']}, {plane_out('uint16')})",
)
def take_luma(red, green, blue, luma):
    """Write Y."""
    for z in range(np.uint64(red.shape[0])):
        for y in range(np.uint64(red.shape[1])):
            for x in range(np.uint64(red.shape[2])):
                r, g, b = np.int64(red[z, y, x]), np.int64(green[z, y, x]), np.int64(blue[z, y, x])
                luma[z, y, x] = luma_of(r, g, b)


@kernel(
    u8=f"void({_THREE['uint8']}, {plane('uint8')}, int64, {_OUT['uint8']})",
    u16=f"void({_THREE['uint16']}, {plane('uint16')}, int64, {_OUT['uint16']})",
)
def put_luma(red, green, blue, luma, top, new_red, new_green, new_blue):
    """Write the pixels with another Y; Cr and Cb stay. `top` is the highest level."""
    for z in range(np.uint64(red.shape[0])):
        for y in range(np.uint64(red.shape[1])):
            for x in range(np.uint64(red.shape[2])):
                r, g, b = np.int64(red[z, y, x]), np.int64(green[z, y, x]), np.int64(blue[z, y, x])
                r, g, b = with_luma(r, g, b, np.int64(luma[z, y, x]), top)
                new_red[z, y, x] = r
                new_green[z, y, x] = g
                new_blue[z, y, x] = b


@inline
def with_luma(r, g, b, new, top):
    """Return a pixel with another Y."""
    centre = (top + 1) >> 1
    y = luma_of(r, g, b)
    cr = clamp((11682 * (r - y) + (centre << 14) + 8192) >> 14, top) - centre
    cb = clamp((9241 * (b - y) + (centre << 14) + 8192) >> 14, top) - centre
    return (
        clamp(new + ((22987 * cr + 8192) >> 14), top),
        clamp(new + ((-5636 * cb - 11698 * cr + 8192) >> 14), top),
        clamp(new + ((29049 * cb + 8192) >> 14), top),
    )
