"""The smallest and the largest value of floating images, which determine the range of the bins."""

import numpy as np

from histeq_kernels.cpu.core.kernel import inline, kernel, plane
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


@kernel(
    f32=f"void({plane('float32')}, float32[::1])",
    f64=f"void({plane('float64')}, float64[::1])",
)
def extremes_rows(image, limits):
    """Widen `limits` to the finite values of a floating image with contiguous rows.

    Four pairs of limits alternate, because a single pair would wait for its previous result.
    """
    low_a = low_b = low_c = low_d = limits[0]
    high_a = high_b = high_c = high_d = limits[1]
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            values = row(image, z, y)
            vectors = np.uint64(values.size - values.size % 4)
            for i in range(np.uint64(0), vectors, np.uint64(4)):
                low_a, high_a = widened(low_a, high_a, values[i])
                low_b, high_b = widened(low_b, high_b, values[i + np.uint64(1)])
                low_c, high_c = widened(low_c, high_c, values[i + np.uint64(2)])
                low_d, high_d = widened(low_d, high_d, values[i + np.uint64(3)])
            for i in range(vectors, np.uint64(values.size)):
                low_a, high_a = widened(low_a, high_a, values[i])
    limits[0] = min(min(low_a, low_b), min(low_c, low_d))
    limits[1] = max(max(high_a, high_b), max(high_c, high_d))


@inline
def widened(low, high, value):
    """Return limits widened to a value, unless it is infinite or NaN (no comparison with NaN is true)."""
    low = value if value < low and value > -np.inf else low
    high = value if value > high and value < np.inf else high
    return low, high
