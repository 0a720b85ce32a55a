"""Planes, strided (D, H, W) arrays, in the form that the CPU kernels take; and their workspace."""

import functools
import itertools
import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from histeq_kernels.cpu import equalize as _whole
from histeq_kernels.cpu import histogram as _count
from histeq_kernels.cpu import intervals as _intervals
from histeq_kernels.cpu import luma as _luma
from histeq_kernels.cpu import lut as _lut
from histeq_kernels.cpu import table as _table
from numpy.typing import NDArray

from histeq._core import threads as _threads
from histeq._core.backend import Pixels

Array = NDArray[Any]

PIECE = 1 << 18
"""The fewest pixels worth a thread of their own: handing work to a thread costs 25-150 microseconds."""
_ALL = np.ones((1, 1, 1), np.uint8)
_SHORT = 256  # pixels of a row


def _aligned(size: int, dtype: type) -> Array:
    """Return zeros that begin on a cache line: a wide vector across two takes twice the time."""
    memory: Array = np.zeros(size + 64, dtype)
    start = -memory.ctypes.data % 64 // memory.itemsize
    return memory[start : start + size]


class _Workspace:
    """What the kernels of one thread work in. They leave zeros in `counters`."""

    def __init__(self) -> None:
        self.memory = _aligned(_whole.MEMORY, np.uint32)
        """All of what `histeq_kernels.cpu.equalize` works in; parts of it serve the other kernels."""
        self.counters = self.memory[: _count.SCRATCH]
        self.pairs = _aligned(_lut.SCRATCH, np.uint16)
        self.sums = np.zeros(_table.SUMS)
        self.found = _aligned(_intervals.BLOCK, np.int32)
        self.chunks = _aligned(math.prod(_luma.CHUNKS), np.uint8).reshape(_luma.CHUNKS)

    @functools.cached_property
    def channel_counters(self) -> Array:
        """One row of counters a channel; only colour images need it."""
        return _aligned(3 * _count.SCRATCH, np.uint32).reshape(3, -1)


_local = threading.local()


def workspace() -> _Workspace:
    """Return this thread's workspace."""
    try:
        space: _Workspace = _local.space
    except AttributeError:
        space = _local.space = _Workspace()
    return space


def rows(*planes: Array, join: bool = True) -> list[Array] | None:
    """Return planes of one shape as planes of the same pixels with contiguous rows.

    Axes are reordered and turned, in all planes alike; rows that follow each other in memory become one,
    unless they shall not be joined and are not short. None where rows cannot be had without a copy.
    """
    join = join or planes[0].shape[2] < _SHORT
    if all(plane.flags.c_contiguous for plane in planes):
        return [plane.reshape(1, 1, -1) for plane in planes] if join else list(planes)
    shape, strides = planes[0].shape, planes[0].strides
    turn = tuple(slice(None, None, -1 if stride < 0 else 1) for stride in strides)
    order = sorted(range(3), key=lambda axis: (shape[axis] != 1, -abs(strides[axis])))
    turned = [plane[turn].transpose(order) for plane in planes]
    if join and all(plane.flags.c_contiguous for plane in turned):
        return [plane.reshape(1, 1, -1) for plane in turned]
    if all(plane.strides[2] == plane.itemsize or plane.shape[2] == 1 for plane in turned):
        return turned
    return None


def pixel_rows(alpha: bool, *images: Array, join: bool = True) -> tuple[int, list[Array]] | None:
    """Return (C, D, H, W) images of interleaved bytes, all of one shape, as (bytes a pixel, their rows).

    None unless all are such images. Rows that follow each other in memory become one if they may be joined.
    """
    lines = interleaved(alpha, *images)
    return None if lines is None else (4 if alpha else 3, rows(*lines, join=join) or lines)


def interleaved(alpha: bool, *images: Array) -> list[Array] | None:
    """Return (C, D, H, W) images of interleaved bytes as (D, H, bytes of a row); None unless all are such."""
    step = 4 if alpha else 3
    if any(one.dtype != np.uint8 or (one.strides[0], one.strides[3]) != (1, step) for one in images):
        return None
    _, depth, height, width = images[0].shape
    if not alpha:  # strides of 1 and 3 merge: no copy
        return [one.transpose(1, 2, 3, 0).reshape(depth, height, width * step) for one in images]
    shape = (depth, height, width * step)
    return [np.lib.stride_tricks.as_strided(one[0], shape, (*one.strides[1:3], 1)) for one in images]


def split(parts: int, *planes: Array, step: int = 1) -> list[tuple[Array, ...]]:
    """Split planes of one shape alike, into up to `parts` views of `PIECE` elements or more.

    No pixel of `step` elements is cut.
    """
    plane = planes[0]
    parts = min(parts, plane.size // PIECE)
    parts = max(parts, -(-plane.size // (_count.MAX_PIXELS // 2)), 1)
    if parts == 1:
        return [planes]
    lengths = (*plane.shape[:2], plane.shape[2] // step)
    axis = next((i for i in range(3) if lengths[i] >= 64 * parts), int(np.argmax(lengths)))
    unit = step if axis == 2 else 1
    length = plane.shape[axis] // unit
    bounds = [length * i // parts * unit for i in range(parts + 1)]
    before = (slice(None),) * axis
    return [tuple(one[(*before, slice(a, b))] for one in planes) for a, b in itertools.pairwise(bounds)]


def served(array: Array) -> bool:
    """Tell whether kernels take this array: native byte order, aligned."""
    return bool(array.dtype.isnative and array.flags.aligned)


def native(array: Array) -> Array:
    """Return an array that kernels take, copied only for a foreign byte order or odd alignment."""
    return array if served(array) else array.astype(array.dtype.newbyteorder("="))


def bits(array: Array) -> Array:
    """Return 8- or 16-bit elements as unsigned integers."""
    array = native(array)
    return array if array.dtype.kind == "u" else array.view(np.uint16)


def mask_of(pixels: Pixels, n: int, plane: Array) -> Array:
    """Return the mask of image n as bytes, or one that counts all."""
    if pixels.mask is None:
        return np.broadcast_to(_ALL, plane.shape)
    return np.broadcast_to(pixels.mask[min(n, len(pixels.mask) - 1), 0].view(np.uint8), plane.shape)


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
