"""The smallest and the largest value of floating images, which determine the range of the bins."""

import numpy as np

from histeq_kernels.cpu.core.kernel import kernel, plane
from histeq_kernels.cpu.core.views import row


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


@kernel(i32=f"void({plane('int32')}, int32[::1])", i64=f"void({plane('int64')}, int64[::1])")
def extremes_rows(image, limits):
    """Widen `limits` to the finite values of a floating image with contiguous rows, given as its bits.

    The limits are *ranks*, integers in the order of the values: a negative number's bits, all but the sign,
    are inverted. Minima of integers may be taken in any order, and so in vectors.
    """
    number = limits.dtype.type
    most, mantissa = number(np.iinfo(limits.dtype).max), 23 if limits.itemsize == 4 else 52
    infinity = number(most >> mantissa << mantissa)
    low, high = limits[0], limits[1]
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            values = row(image, z, y)
            for i in range(np.uint64(values.size)):
                bits = values[i]
                rank = number(bits ^ (number(bits >> (8 * limits.itemsize - 1)) & most))
                finite = number(bits & most) < infinity
                low = min(low, rank if finite else most)
                high = max(high, rank if finite else number(~most))
    limits[0], limits[1] = low, high
