"""Plain arrays at the least cost of a call: contiguous uint8 and uint16, one kernel call, no views.

The general way costs 15 to 40 microseconds in checks and views, more than a small image takes. Functions
return None for what needs a second look: the caller then goes the general way, and that raises what is wrong.
"""

from __future__ import annotations  # as in numba.py

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

from histeq._backends.numba import parallel as _shared
from histeq._backends.numba.views import PIECE, workspace
from histeq._core import threads as _threads

Array = NDArray[Any]

_UINT8, _UINT16 = np.dtype(np.uint8), np.dtype(np.uint16)
MOST = 1 << 31
"""From this many pixels on the counters of the kernels of whole images could overflow."""
_SMALL_COLOR = {"luma": COEFFICIENTS["rgb"], "luma-bgr": COEFFICIENTS["bgr"], "channels": None}


def equalize(image: Array, rule: str, layout: Any, color: str, out: Array | None) -> Array | None:
    """Equalize an image by an integer rule."""
    size = image.size
    if not image.flags.c_contiguous or size >= MOST:
        return None
    if image.ndim == 3:
        return _equalize_small_color(image, rule, layout, color, out)
    if image.ndim != 2 or layout is not None or color != "luma":
        return None
    kernel = kernel_of_rule(image.dtype, rule)
    threads = 1 if size < _shared.WORTH_IT else _threads.num_threads()
    if kernel is None or (threads > 1 and image.dtype != _UINT8):
        return None
    if out is None:
        out = np.empty_like(image)
    elif not _is_plain_output(out, image):
        return None
    if threads == 1:
        kernel(image, workspace().memory, out)
    else:
        shape = _shape(image)
        _shared.equalize(image.reshape(shape), _table_opencv, out.reshape(shape), threads, default_rule=True)
    return out


def _equalize_small_color(
    image: Array, rule: str, layout: Any, color: str, out: Array | None
) -> Array | None:
    """Do the same with few pixels of interleaved channels."""
    if image.dtype != _UINT8 or rule != "opencv" or type(layout) is not str or layout != "HWC":
        return None
    height, width, channels = image.shape
    if (
        channels not in (3, 4)
        or not 0 < height * width < _fused_color.MAX_PIXELS
        or color not in _SMALL_COLOR
    ):
        return None
    if out is None:
        out = np.empty_like(image)
    elif not _is_plain_output(out, image):
        return None
    space, k = workspace(), _SMALL_COLOR[color]
    pixels, new = (array.reshape(height, width * channels) for array in (image, out))
    if k is None:
        _fused_color.equalize_channels.u8(pixels, 3, channels, space.memory, space.pixels, new)
    else:
        _fused_color.equalize_luma.u8(pixels, channels, k, space.memory, space.pixels, new)
    return out


def _table_opencv(counts: NDArray[np.int64]) -> Array:
    """Return the table of the default rule for 8 bits."""
    table = np.empty(256, np.uint8)
    _rules.table_opencv.u8(counts, 0, 0, 255, workspace().sums, table)
    return table


def histogram(image: Array) -> Array | None:
    """Count the pixels of a grey image that one thread counts."""
    if not _is_small_plane(image):
        return None
    kernel = _histogram.histogram.u8 if image.itemsize == 1 else _histogram.histogram_16.u16
    counts = np.zeros(_levels(image), np.int64)
    kernel(image.reshape(_shape(image)), workspace().counters, counts)
    return counts


def apply(image: Array, table: Array, out: Array | None) -> Array | None:
    """Map the pixels of a grey image that one thread maps."""
    if not _is_small_plane(image) or table.dtype != image.dtype:
        return None
    if table.shape != (_levels(image),) or not table.flags.c_contiguous or not table.flags.aligned:
        return None
    if out is None:
        out = np.empty_like(image)
    elif not _is_plain_output(out, image) or np.may_share_memory(out, table):
        return None
    shape = _shape(image)
    if image.itemsize == 1:
        _lut.apply.u8(image.reshape(shape), table, workspace().lookup, out.reshape(shape))
    else:
        _lut.apply_16.u16(image.reshape(shape), table, out.reshape(shape))
    return out


def _is_small_plane(image: Array) -> bool:
    """Tell whether it is a plain image of two axes that is not worth a second thread."""
    flags = image.flags
    if image.ndim != 2 or not flags.c_contiguous or not flags.aligned or not 0 < image.size < 2 * PIECE:
        return False
    return image.dtype == _UINT8 or image.dtype == _UINT16


def _levels(image: Array) -> int:
    """Return how many values a pixel can have."""
    return 256 if image.itemsize == 1 else 65536


def _shape(image: Array) -> tuple[int, ...]:
    """Return the shape in which the fastest kernels take a contiguous image."""
    return (1, 1, image.size) if _tiers.in_use().joins_rows else (1, *image.shape)


def _is_plain_output(out: Any, image: Array) -> bool:
    """Tell whether the result of a contiguous image may go straight into `out`."""
    if type(out) is not np.ndarray or out.dtype != image.dtype or out.shape != image.shape:
        return False
    if not out.flags.carray:  # contiguous, aligned and writeable
        return False
    apart = image.base is None and out.base is None  # each has memory of its own
    return out is image or apart or not np.may_share_memory(image, out)
