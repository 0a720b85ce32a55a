"""The luma of colour images of any strides taken out, and put back changed: OpenCV's YCrCb."""

import numpy as np

from histeq_kernels.cpu._kernel import inline, kernel, plane, plane_out
from histeq_kernels.cpu.luma import clamp, luma_of

_THREE = {element: ", ".join([plane(element)] * 3) for element in ("uint8", "uint16")}
_OUT = {element: ", ".join([plane_out(element)] * 3) for element in ("uint8", "uint16")}


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
