"""OpenCV's YCrCb for one pixel: the arithmetic of cvtColor with 14 fractional bits, for 8 and 16 bits.

The coefficients are in the order of the channels in memory, so that RGB and BGR share the code: red and blue
are the first and the last channel in either order, and are treated alike.

    y = (k0 first + k1 second + k2 third + 2**13) >> 14
    d = clamp((k3 (end - y) + 2**14) >> 15, -centre, top - centre)   Cr or Cb; k3 is twice OpenCV's
    end = new + d + ((k5 d + 2**14) >> 15)                           OpenCV's factor is 2**14 + k5 / 2
    second = new + ((k7 d of the first + k8 d of the third + 2**13) >> 14)

In this form 16-bit multiplications are exact for 8-bit pixels: see `arithmetic.py`.
"""

import numpy as np

from histeq_kernels.cpu.core.kernel import inline

COEFFICIENTS = {
    "rgb": np.array([4899, 9617, 1868, 23364, 18482, 13206, 25330, -11698, -5636], np.int16),
    "bgr": np.array([1868, 9617, 4899, 18482, 23364, 25330, 13206, -5636, -11698], np.int16),
}
RGB = tuple(int(k) for k in COEFFICIENTS["rgb"])
"""The coefficients of red, green and blue, as constants for the compiler."""


@inline
def luma_of(first, second, third, k):
    """Return Y of one pixel."""
    return (np.int64(k[0]) * first + np.int64(k[1]) * second + np.int64(k[2]) * third + 8192) >> 14


@inline
def with_luma(first, third, y, new, top, k):
    """Return the channels of one pixel whose Y is `y` with Y replaced; `top` is the highest level."""
    centre = (top + 1) >> 1
    a = min(max((np.int64(k[3]) * (first - y) + 16384) >> 15, -centre), top - centre)
    b = min(max((np.int64(k[4]) * (third - y) + 16384) >> 15, -centre), top - centre)
    return (
        clamped(new + a + ((np.int64(k[5]) * a + 16384) >> 15), top),
        clamped(new + ((np.int64(k[7]) * a + np.int64(k[8]) * b + 8192) >> 14), top),
        clamped(new + b + ((np.int64(k[6]) * b + 16384) >> 15), top),
    )


@inline
def clamped(value, top):
    """Return a value limited to 0..top."""
    return min(max(value, 0), top)
