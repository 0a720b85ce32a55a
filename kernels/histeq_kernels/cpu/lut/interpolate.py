"""Mapping floating images through a table given at the bins' centres, as np.interp does.

`table` has the levels at the `centres` of the bins between `edges`, `slopes` the rise from each centre to
the next. NaN, infinities and `nodata` stay as they are; what would become `nodata` becomes `beside`. Images
without nodata have kernels of their own: they would take up to a third longer.
"""

import numpy as np

from histeq_kernels.cpu.core.kernel import flat, inline, inline_per_pixel, kernel, plane, plane_out
from histeq_kernels.cpu.core.views import row
from histeq_kernels.cpu.histogram import intervals

_NODATA, _FOUND = "float64, float64", "int32[::1]"
_CURVE = {element: ", ".join([flat(element), *[flat("float64")] * 3]) for element in ("float32", "float64")}


@kernel(
    f32=f"void({plane('float32')}, {_CURVE['float32']}, {plane_out('float32')})",
    f64=f"void({plane('float64')}, {_CURVE['float64']}, {plane_out('float64')})",
)
def apply_interpolated(image, edges, centres, table, slopes, out):
    """Map a floating image of any strides."""
    map_pixels(image, np.nan, np.nan, edges, centres, table, slopes, out, False)


@kernel(
    f32=f"void({plane('float32')}, {_NODATA}, {_CURVE['float32']}, {plane_out('float32')})",
    f64=f"void({plane('float64')}, {_NODATA}, {_CURVE['float64']}, {plane_out('float64')})",
)
def apply_interpolated_nodata(image, nodata, beside, edges, centres, table, slopes, out):
    """Map a floating image of any strides that has nodata."""
    map_pixels(image, nodata, beside, edges, centres, table, slopes, out, True)


@kernel(
    f32=f"void({plane('float32')}, {_CURVE['float32']}, {_FOUND}, {plane_out('float32')})",
    f64=f"void({plane('float64')}, {_CURVE['float64']}, {_FOUND}, {plane_out('float64')})",
)
def apply_interpolated_rows(image, edges, centres, table, slopes, found, out):
    """Map a floating image with contiguous rows."""
    map_rows(image, np.nan, np.nan, edges, centres, table, slopes, found, out, False)


@kernel(
    f32=f"void({plane('float32')}, {_NODATA}, {_CURVE['float32']}, {_FOUND}, {plane_out('float32')})",
    f64=f"void({plane('float64')}, {_NODATA}, {_CURVE['float64']}, {_FOUND}, {plane_out('float64')})",
)
def apply_interpolated_rows_nodata(image, nodata, beside, edges, centres, table, slopes, found, out):
    """Map a floating image with contiguous rows that has nodata."""
    map_rows(image, nodata, beside, edges, centres, table, slopes, found, out, True)


@inline
def map_pixels(image, nodata, beside, edges, centres, table, slopes, out, has_nodata):
    """Map an image of any strides, pixel by pixel."""
    scale = intervals.scale_of(edges)
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            for x in range(np.uint64(image.shape[2])):
                raw = image[z, y, x]
                level = interpolated(raw, nodata, edges, scale, centres, table, slopes)
                out[z, y, x] = apart(level, raw, nodata, beside) if has_nodata else type(raw)(level)


@inline
def map_rows(image, nodata, beside, edges, centres, table, slopes, found, out, has_nodata):
    """Map contiguous rows: the bins of a block of pixels are found at once."""
    scale, steps = intervals.scale_of(edges), intervals.scale_of(centres)
    doubt = intervals.doubt_of(centres, steps)
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            values, new = row(image, z, y), row(out, z, y)
            for start in range(np.uint64(0), np.uint64(values.size), np.uint64(intervals.BLOCK)):
                size = min(np.uint64(intervals.BLOCK), np.uint64(values.size) - start)
                intervals.guess(values, start, size, nodata, centres, steps, doubt, found)
                for i in range(size):
                    raw, index = values[start + i], np.uint64(found[i])
                    if found[i] >= 0:
                        level = slopes[index] * (np.float64(raw) - centres[index]) + table[index]
                    else:
                        level = interpolated(raw, nodata, edges, scale, centres, table, slopes)
                    new[start + i] = apart(level, raw, nodata, beside) if has_nodata else type(raw)(level)


@inline_per_pixel
def interpolated(raw, nodata, edges, scale, centres, table, slopes):
    """Return the level of one value."""
    value, last = np.float64(raw), np.uint64(centres.size - 1)
    if not np.isfinite(value) or value == nodata:
        return value
    if value < centres[0]:
        return table[0]
    if value >= centres[last]:
        return table[last]
    index = intervals.bin_of(raw, edges, scale)
    index -= np.uint64(value < centres[index])  # either half of a bin: a branch would be guessed wrong
    return slopes[index] * (value - centres[index]) + table[index]


@inline_per_pixel
def apart(level, raw, nodata, beside):
    """Return the level of one value in its dtype, `beside` where another value would become `nodata`."""
    rounded = type(raw)(level)
    return type(raw)(beside) if rounded == nodata and raw != nodata else rounded
