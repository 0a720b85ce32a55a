"""The commonest calls at the least cost: grey uint8 and uint16 arrays, one kernel call.

The general path costs 15 to 40 microseconds in checks and views, more than a small image takes. Functions
return None for whatever needs a second look, wrong arguments among it: the general path then takes the call.
"""

from __future__ import annotations  # as in backend.py

from typing import Any

import numpy as np
from histeq_kernels.cpu import rules as _rules
from histeq_kernels.cpu import tiers as _tiers
from histeq_kernels.cpu.fused import color as _fused_color
from histeq_kernels.cpu.fused.grey import kernel_of_rule
from histeq_kernels.cpu.histogram import grey as _histogram
from histeq_kernels.cpu.lut import grey as _lut
from histeq_kernels.cpu.ycrcb.scalar import COEFFICIENTS
from numpy.typing import NDArray

from histeq._backends.numba import clahe as _clahe
from histeq._backends.numba import color as _colors
from histeq._backends.numba import parallel as _parallel
from histeq._backends.numba import part as _part
from histeq._backends.numba.views import PIECE, workspace
from histeq._core import nodata as _nodata
from histeq._core import threads as _threads
from histeq._core import tile_grid, ycrcb
from histeq._core.backend import Pixels

Array = NDArray[Any]

_BOOL, _UINT8, _UINT16 = np.dtype(np.bool_), np.dtype(np.uint8), np.dtype(np.uint16)
MOST = 1 << 31
"""From this many pixels on the counters of the kernels of whole images could overflow."""
_ONE_THREAD = 2 * PIECE
"""Below this many pixels counting or mapping is not worth a second thread."""
_COEFFICIENTS = {"luma": COEFFICIENTS["rgb"], "luma-bgr": COEFFICIENTS["bgr"], "channels": None}


def equalize(image: Array, rule: Any, layout: Any, color: Any, alpha: Any, out: Any) -> Array | None:
    """Equalize a contiguous image: uint8 by the default rule, uint16 by most; small ones in colour, too."""
    size = image.size
    if type(rule) is not str or size >= MOST:
        return None
    if not image.flags.c_contiguous:
        return equalize_part(image, rule, layout, color, alpha, out)
    if image.ndim == 3:
        return _equalize_small_color(image, rule, layout, color, alpha, out)
    if not _is_grey(image, layout, color, alpha):
        return None
    if size >= _parallel.WORTH_IT and (threads := _threads.num_threads()) > 1:
        return _equalize_together(image, rule, out, threads)
    kernel = kernel_of_rule(image.dtype, size, rule)
    if kernel is None:
        return None
    if out is None:
        out = np.empty_like(image)
    elif not is_output(out, image):
        return None
    kernel(image, 1, workspace().memory, out)
    return out


def _equalize_together(image: Array, rule: str, out: Any, threads: int) -> Array | None:
    """Equalize a large contiguous image on several threads; the kernel for one is not even compiled."""
    if image.dtype != _UINT8 or rule != "opencv":
        return None
    if out is None:
        out = np.empty_like(image)
    elif not is_output(out, image):
        return None
    pixels, new = image.reshape(_shape(image)), out.reshape(_shape(image))
    _parallel.equalize(pixels, None, new, _table_opencv, threads, default_rule=True)
    return out


def equalize_part(
    image: Array,
    rule: Any,
    layout: Any,
    color: Any,
    alpha: Any,
    out: Any,
    *,
    mask: Any = None,
    nodata: Any = None,
    value_range: Any = None,
    out_range: Any = None,
) -> Array | None:
    """Equalize a uint8 image with contiguous rows by the default rule, on one thread."""
    if image.dtype != _UINT8 or type(rule) is not str or rule != "opencv" or not 0 < image.size < MOST:
        return None
    if not _is_grey(image, layout, color, alpha) or not _has_rows(image):
        return None
    if image.size >= _parallel.WORTH_IT and _threads.num_threads() > 1:
        return None
    if mask is not None:
        if type(mask) is not np.ndarray or mask.shape != image.shape or not _has_rows(mask):
            return None
        if mask.dtype != _BOOL and mask.dtype != _UINT8:
            return None
        mask = mask.view(_UINT8)
    if nodata is not None and (type(nodata) is not int or not 0 <= nodata <= 255):
        return None
    for limits in (value_range, out_range):
        if limits is not None and not _are_limits(limits):
            return None
    if out is None:
        out = np.empty_like(image)
    elif not is_output(out, image) or (mask is not None and np.may_share_memory(out, mask)):
        return None
    lowest = (out_range or value_range or (0, 255))[0]
    beside = -1 if nodata is None else int(_nodata.beside(nodata, _UINT8, lowest))
    use = _part.use_of(value_range, out_range, -1 if nodata is None else nodata, beside)
    if image.flags.c_contiguous and (mask is None or mask.flags.c_contiguous):
        shape = _shape(image)
        image, new = image.reshape(shape), out.reshape(shape)
        mask = None if mask is None else mask.reshape(shape)
    else:
        image, new = image[None], out[None]
        mask = None if mask is None else mask[None]
    _part.equalize(image, mask, new, use)
    return out


def _equalize_small_color(
    image: Array, rule: str, layout: Any, color: Any, alpha: Any, out: Any
) -> Array | None:
    """Equalize an image of few pixels with interleaved channels."""
    if image.dtype != _UINT8 or rule != "opencv" or type(layout) is not str or layout != "HWC":
        return None
    height, width, channels = image.shape
    if not 0 < height * width < _fused_color.MAX_PIXELS or type(color) is not str:
        return None
    if color not in _COEFFICIENTS:
        return None
    k = _COEFFICIENTS[color]
    has_alpha = ycrcb.has_alpha_by_default(color, channels) if alpha is None else alpha
    if type(has_alpha) is not bool or channels > 4:
        return None
    colors = channels - has_alpha
    if colors != 3 and (colors != 4 or k is not None):
        return None
    if out is None:
        out = np.empty_like(image)
    elif not is_output(out, image):
        return None
    pixels, new = (array.reshape(height, width * channels) for array in (image, out))
    _colors.equalize_small(pixels, 1, colors, channels, k, new)
    return out


def histogram(image: Array, layout: Any, color: Any, alpha: Any) -> Array | None:
    """Count a contiguous grey image that one thread counts."""
    if not _is_grey(image, layout, color, alpha) or not _is_plain(image) or image.size >= _ONE_THREAD:
        return None
    kernel = _histogram.histogram.u8 if image.itemsize == 1 else _histogram.histogram_16.u16
    counts = np.zeros(_levels(image), np.int64)
    kernel(image.reshape(_shape(image)), workspace().counters, counts)
    return counts


def apply(image: Array, table: Array, layout: Any, color: Any, alpha: Any, out: Any) -> Array | None:
    """Map a contiguous grey image that one thread maps."""
    if not _is_grey(image, layout, color, alpha) or not _is_plain(image) or image.size >= _ONE_THREAD:
        return None
    if table.dtype != image.dtype:
        return None
    if table.shape != (_levels(image),) or not table.flags.c_contiguous or not table.flags.aligned:
        return None
    if out is None:
        out = np.empty_like(image)
    elif not is_output(out, image) or np.may_share_memory(out, table):
        return None
    shape = _shape(image)
    if image.itemsize == 1:
        _lut.apply.u8(image.reshape(shape), table, workspace().lookup, out.reshape(shape))
    else:
        _lut.apply_16.u16(image.reshape(shape), table, out.reshape(shape))
    return out


def clahe(
    image: Array, clip_limit: Any, tiles: Any, layout: Any, color: Any, alpha: Any, out: Any
) -> Array | None:
    """Equalize a contiguous grey image locally."""
    if not _is_grey(image, layout, color, alpha) or not _is_plain(image):
        return None
    if type(clip_limit) not in (float, int) or type(tiles) is not tuple or {*map(type, tiles)} != {int}:
        return None
    if out is not None and not is_output(out, image):
        return None
    try:
        grid, levels = tile_grid.plan_of_grey(image.shape, image.dtype, tiles)
        limit = float(clip_limit)
    except (ValueError, OverflowError):
        return None
    if out is None:
        out = np.empty_like(image)
    _clahe.clahe(Pixels(image[None, None, None]), grid, limit, levels, None, out[None, None, None])
    return out


def _table_opencv(counts: NDArray[np.int64]) -> Array:
    """Return the table of the default rule for 8 bits."""
    table = np.empty(256, np.uint8)
    _rules.table_opencv.u8(counts, 0, 255, 0, 255, workspace().sums, table)
    return table


def _is_grey(image: Array, layout: Any, color: Any, alpha: Any) -> bool:
    """Tell whether the arguments say that an array is one grey image."""
    if image.ndim != 2 or (layout is not None and (type(layout) is not str or layout != "HW")):
        return False
    return (alpha is None or alpha is False) and type(color) is str and color in _COEFFICIENTS


def _is_plain(image: Array) -> bool:
    """Tell whether the kernels take an image as it is: contiguous uint8 or uint16, not empty."""
    flags = image.flags
    if not flags.c_contiguous or not flags.aligned or image.size == 0:
        return False
    return image.dtype == _UINT8 or image.dtype == _UINT16


def _has_rows(image: Array) -> bool:
    """Tell whether the rows of a 2-D array of bytes are contiguous and follow each other."""
    step, size = image.strides
    return size == 1 and step >= image.shape[1]


def _are_limits(limits: Any) -> bool:
    """Tell whether an argument is a range of bytes."""
    if type(limits) is not tuple or len(limits) != 2:
        return False
    low, high = limits
    return type(low) is int and type(high) is int and 0 <= low < high <= 255


def _levels(image: Array) -> int:
    """Return how many values a pixel can have."""
    return 256 if image.itemsize == 1 else 65536


def _shape(image: Array) -> tuple[int, ...]:
    """Return the shape in which the fastest kernels take a contiguous image."""
    return (1, 1, image.size) if _tiers.in_use().joins_rows else (1, *image.shape)


def is_output(out: Any, image: Array) -> bool:
    """Tell whether the result of a contiguous image may go straight into `out`."""
    if type(out) is not np.ndarray or out.dtype != image.dtype or out.shape != image.shape:
        return False
    if not out.flags.carray:  # contiguous, aligned and writeable
        return False
    apart = image.base is None and out.base is None  # each has memory of its own
    return out is image or apart or not np.may_share_memory(image, out)
