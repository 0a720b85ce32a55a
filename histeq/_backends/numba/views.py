"""Views of canonical arrays as the CPU kernels take them, without copies; and the kernels' workspace."""

import functools
import itertools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from histeq_kernels.cpu import rules as _rules
from histeq_kernels.cpu.fused import workspace as _fused
from histeq_kernels.cpu.histogram import intervals as _intervals
from histeq_kernels.cpu.histogram import workspace as _counters
from histeq_kernels.cpu.lut import lookup as _lookup
from histeq_kernels.cpu.ycrcb import blocks as _blocks
from histeq_kernels.cpu.ycrcb import channels as _channels
from numpy.typing import NDArray

from histeq._core import threads as _threads
from histeq._core.backend import Pixels
from histeq._core.tuning import threshold

Array = NDArray[Any]

PIECE = threshold("piece", 1 << 18)
"""The fewest pixels worth a thread of their own: handing work to a thread costs 25 to 150 microseconds."""
_ALL = np.ones((1, 1, 1), np.uint8)
_SHORT = 256  # pixels of a row that is always better joined with the next


def _aligned(size: int, dtype: type) -> Array:
    """Return zeros that begin on a cache line: a wide vector across two takes twice the time."""
    memory: Array = np.zeros(size + 64, dtype)
    start = -memory.ctypes.data % 64 // memory.itemsize
    return memory[start : start + size]


class _Workspace:
    """What the kernels of one thread work in. They leave zeros in `counters`."""

    def __init__(self) -> None:
        self.memory = _aligned(_fused.MEMORY, np.uint32)
        """What the fused kernels work in: see `histeq_kernels/cpu/fused/workspace.py`."""
        self.counters = self.memory[: _counters.SCRATCH]
        self.lookup = _aligned(_lookup.WORKSPACE, np.uint16)
        self.sums = np.zeros(_rules.SUMS)
        self.found = _aligned(_intervals.BLOCK, np.int32)
        self.pixels = _aligned(_blocks.WORKSPACE, np.uint8)
        """Parts of colour images: see `histeq_kernels/cpu/ycrcb/blocks.py`."""

    @functools.cached_property
    def channel_counters(self) -> Array:
        """Counters for each channel; only interleaved channels need them."""
        return _aligned(_channels.COUNTERS, np.uint32)


_local = threading.local()


def workspace() -> _Workspace:
    """Return this thread's workspace."""
    try:
        space: _Workspace = _local.space
    except AttributeError:
        space = _local.space = _Workspace()
    return space


def rows(*planes: Array, join: bool = True) -> list[Array] | None:
    """Return (D, H, W) planes of one shape as planes of the same pixels with contiguous rows.

    Axes are reordered and flipped, in all planes alike. With `join`, and where they are short, rows that
    follow each other in memory become one. None where rows cannot be had without a copy.
    """
    join = join or planes[0].shape[2] < _SHORT
    if all(plane.flags.c_contiguous for plane in planes):
        return [plane.reshape(1, 1, -1) for plane in planes] if join else list(planes)
    shape, strides = planes[0].shape, planes[0].strides
    flip = tuple(slice(None, None, -1 if stride < 0 else 1) for stride in strides)
    order = sorted(range(3), key=lambda axis: (shape[axis] != 1, -abs(strides[axis])))
    views = [plane[flip].transpose(order) for plane in planes]
    if join and all(plane.flags.c_contiguous for plane in views):
        return [plane.reshape(1, 1, -1) for plane in views]
    if all(plane.strides[2] == plane.itemsize or plane.shape[2] == 1 for plane in views):
        return views
    return None


def pixel_rows(alpha: bool, *images: Array, join: bool = True) -> tuple[int, list[Array]] | None:
    """Return (C, D, H, W) images of 3 or 4 interleaved bytes, of one shape, as (bytes a pixel, rows).

    None unless all are such images. With `join`, rows that follow each other in memory become one.
    """
    views = interleaved(alpha, *images)
    return None if views is None else (len(images[0]) + alpha, rows(*views, join=join) or views)


def interleaved(alpha: bool, *images: Array) -> list[Array] | None:
    """Return (C, D, H, W) images of 3 or 4 interleaved bytes as (D, H, bytes of a row).

    With `alpha` one more channel follows in memory. None unless all are such images.
    """
    channels, depth, height, width = images[0].shape
    stride = channels + alpha
    if stride not in (3, 4):
        return None
    if any(
        image.dtype != np.uint8 or (image.strides[0], image.strides[3]) != (1, stride) for image in images
    ):
        return None
    shape = (depth, height, width * stride)
    if not alpha:  # strides of 1 and 3, or 4, merge: no copy
        return [image.transpose(1, 2, 3, 0).reshape(shape) for image in images]
    return [np.lib.stride_tricks.as_strided(image[0], shape, (*image.strides[1:3], 1)) for image in images]


def split(parts: int, *planes: Array, stride: int = 1) -> list[tuple[Array, ...]]:
    """Split planes of one shape alike, into up to `parts` views of `PIECE` elements or more.

    No pixel of `stride` elements is cut.
    """
    plane = planes[0]
    parts = min(parts, plane.size // PIECE)
    parts = max(parts, -(-plane.size // (_counters.MAX_PIXELS // 2)), 1)
    if parts == 1:
        return [planes]
    lengths = (*plane.shape[:2], plane.shape[2] // stride)
    axis = next((i for i in range(3) if lengths[i] >= 64 * parts), int(np.argmax(lengths)))
    unit = stride if axis == 2 else 1
    length = plane.shape[axis] // unit
    bounds = [length * i // parts * unit for i in range(parts + 1)]
    before = (slice(None),) * axis
    return [tuple(plane[(*before, slice(a, b))] for plane in planes) for a, b in itertools.pairwise(bounds)]


def contiguous(*batches: Array, stride: int = 1) -> list[tuple[Array, ...]]:
    """Cut batches of N contiguous images alike, along the first axis, into pieces of contiguous memory.

    A piece has `PIECE` elements or less, or is one image. Where a pixel has `stride` elements a piece has up
    to that many pixels, but all threads have one.
    """
    together = all(batch.flags.c_contiguous for batch in batches)
    size, for_all = batches[0][0].size, -(-len(batches[0]) // _threads.num_threads())
    step = max(1, PIECE // size, min(for_all, stride * PIECE // size)) if together else 1
    return [tuple(batch[n : n + step] for batch in batches) for n in range(0, len(batches[0]), step)]


def served(array: Array) -> bool:
    """Tell whether kernels take this array: native byte order, aligned."""
    return bool(array.dtype.isnative and array.flags.aligned)


def native(array: Array) -> Array:
    """Return an array that kernels take, copied only where it is not aligned or not of native byte order."""
    return array if served(array) else array.astype(array.dtype.newbyteorder("="))


def bits(array: Array) -> Array:
    """Return 8- or 16-bit elements as unsigned integers."""
    array = native(array)
    return array if array.dtype.kind == "u" else array.view(f"u{array.itemsize}")


def mask_of(pixels: Pixels, n: int, plane: Array) -> Array:
    """Return the mask of image n as bytes; without a mask one that counts every pixel of a plane."""
    mask = pixels.mask_of(n)
    valid = _ALL if mask is None else mask.view(np.uint8)
    return valid if valid.shape == plane.shape else np.broadcast_to(valid, plane.shape)  # 10 microseconds


def tag(*arrays: Array) -> str:
    """Name a kernel's variant after its arrays' dtypes: u8, u16_f64."""
    tags = [f"{array.dtype.kind}{8 * array.dtype.itemsize}" for array in arrays]
    return "_".join(dict.fromkeys(tags))


def add_up(kernel: Callable[..., None], pieces: list[tuple[Any, ...]], shape: tuple[int, ...]) -> Array:
    """Run a counting kernel on every piece; return the sum of their counts, int64 of this shape."""
    counts = np.zeros((len(pieces), *shape), np.int64)
    if len(pieces) == 1:
        kernel(*pieces[0], counts[0])
        return counts[0]
    _threads.run(lambda i: kernel(*pieces[i], counts[i]), range(len(pieces)))
    return counts.sum(axis=0)
