"""Mapping floating images through a table given at the bins' centres, as np.interp does.

`curve` has a row for each interval between the `centres` of the bins, with one before the first and one after
the last centre. A row has what the line in its interval needs, and where it ends: see `CENTRE`. A last row
leaves values as they are: NaN, infinities and `nodata`. What would become `nodata` becomes `beside`. Images
without nodata have kernels of their own: they would take up to a third longer.
"""

import numpy as np

from histeq_kernels.cpu.core.kernel import flat, inline, inline_per_pixel, kernel, plane, plane_out
from histeq_kernels.cpu.core.views import row
from histeq_kernels.cpu.histogram import intervals

CENTRE, SLOPE, LEVEL, END = 0, 1, 2, 3
"""The columns of `curve`: the level of a value is ``SLOPE * (value - CENTRE) + LEVEL``."""
_NODATA, _FOUND = "float64, float64", "int32[::1]"
_ROWS = "Array(float64, 2, 'C', readonly=True)"
_CURVE = {element: f"{flat(element)}, {flat('float64')}, {_ROWS}" for element in ("float32", "float64")}


@kernel(
    f32=f"void({plane('float32')}, {_CURVE['float32']}, {plane_out('float32')})",
    f64=f"void({plane('float64')}, {_CURVE['float64']}, {plane_out('float64')})",
)
def apply_interpolated(image, edges, centres, curve, out):
    """Map a floating image of any strides."""
    map_pixels(image, np.nan, np.nan, edges, centres, curve, out, False)


@kernel(
    f32=f"void({plane('float32')}, {_NODATA}, {_CURVE['float32']}, {plane_out('float32')})",
    f64=f"void({plane('float64')}, {_NODATA}, {_CURVE['float64']}, {plane_out('float64')})",
)
def apply_interpolated_nodata(image, nodata, beside, edges, centres, curve, out):
    """Map a floating image of any strides that has nodata."""
    map_pixels(image, nodata, beside, edges, centres, curve, out, True)


@kernel(
    f32=f"void({plane('float32')}, {_CURVE['float32']}, {_FOUND}, {plane_out('float32')})",
    f64=f"void({plane('float64')}, {_CURVE['float64']}, {_FOUND}, {plane_out('float64')})",
)
def apply_interpolated_rows(image, edges, centres, curve, found, out):
    """Map a floating image with contiguous rows."""
    map_rows(image, np.nan, np.nan, edges, centres, curve, found, out, False)


@kernel(
    f32=f"void({plane('float32')}, {_NODATA}, {_CURVE['float32']}, {_FOUND}, {plane_out('float32')})",
    f64=f"void({plane('float64')}, {_NODATA}, {_CURVE['float64']}, {_FOUND}, {plane_out('float64')})",
)
def apply_interpolated_rows_nodata(image, nodata, beside, edges, centres, curve, found, out):
    """Map a floating image with contiguous rows that has nodata."""
    map_rows(image, nodata, beside, edges, centres, curve, found, out, True)


@inline
def map_pixels(image, nodata, beside, edges, centres, curve, out, has_nodata):
    """Map an image of any strides, pixel by pixel."""
    scale = intervals.scale_of(edges)
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            for x in range(np.uint64(image.shape[2])):
                raw = image[z, y, x]
                level = level_of(raw, row_of(raw, nodata, edges, scale, curve), curve)
                out[z, y, x] = apart(level, raw, nodata, beside) if has_nodata else type(raw)(level)


@inline
def map_rows(image, nodata, beside, edges, centres, curve, found, out, has_nodata):
    """Map contiguous rows: the rows of the curve for a block of pixels are found at once."""
    kind, scale, line = image.dtype.type, intervals.scale_of(edges), intervals.line_of(centres, 1, image)
    ends, most = (kind(0.5), kind(centres.size + 0.5)), np.nextafter(kind(np.inf), kind(0))
    none = kind(nodata) if np.float64(kind(nodata)) == nodata else kind(np.nan)
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            values, new = row(image, z, y), row(out, z, y)
            for start in range(np.uint64(0), np.uint64(values.size), np.uint64(intervals.BLOCK)):
                size = min(np.uint64(intervals.BLOCK), np.uint64(values.size) - start)
                if not intervals.guess(values, start, size, line, ends, (-most, most), none, found):
                    for i in range(size):
                        if found[i] < 0:
                            found[i] = row_of(values[start + i], nodata, edges, scale, curve)
                for i in range(size):
                    raw = values[start + i]
                    level = level_of(raw, np.uint64(found[i]), curve)
                    new[start + i] = apart(level, raw, nodata, beside) if has_nodata else kind(level)


@inline_per_pixel
def row_of(raw, nodata, edges, scale, curve):
    """Return which row of the curve holds for a value."""
    value, last = np.float64(raw), np.uint64(curve.shape[0] - 1)
    if not np.isfinite(value) or value == nodata:
        return last
    if value < curve[0, END]:
        return np.uint64(0)
    if value >= curve[last - np.uint64(2), END]:
        return last - np.uint64(1)
    index = intervals.bin_of(raw, edges, scale)
    return index + np.uint64(
        value >= curve[index, END]
    )  # a branch would be guessed wrong: either half of a bin


@inline_per_pixel
def level_of(raw, i, curve):
    """Return the level of a value by a row of the curve."""
    return curve[i, SLOPE] * (np.float64(raw) - curve[i, CENTRE]) + curve[i, LEVEL]


@inline_per_pixel
def apart(level, raw, nodata, beside):
    """Return the level of one value in its dtype, `beside` where another value would become `nodata`."""
    rounded = type(raw)(level)
    return type(raw)(beside) if rounded == nodata and raw != nodata else rounded
