"""Copies between host and device that overlap with kernels: two streams, each with pinned memory of its own.

While one stream copies a piece over the bus, kernels work on the other or the host fills its pinned memory.
"""

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import cupy
import numpy as np

from histeq._backends.cupy.device import refuse_capture

Array = Any
Piece = TypeVar("Piece")


class TransferStream:
    """A stream, and pinned memory for the copies under way on it."""

    def __init__(self) -> None:
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self._pinned: list[Any] = []
        self._downloads: list[tuple[np.ndarray, np.ndarray, bool]] = []

    def upload(self, array: Array) -> Array:
        """Return a copy on the device: contiguous, in native byte order, of the same memory order."""
        order = _order(array.strides)
        source = array.transpose(order)
        staging = self._allocate(source.shape, array.dtype.newbyteorder("="))
        staging[...] = source
        copied = cupy.empty(source.shape, staging.dtype)
        if copied.size:
            copied.data.copy_from_host_async(staging.ctypes.data, staging.nbytes, self.stream)
        return copied.transpose(_inverse(order))

    def empty_like(self, target: np.ndarray) -> Array:
        """Return an array on the device for what goes to `target`."""
        order = _order(target.strides)
        shape = tuple(target.shape[axis] for axis in order)
        return cupy.empty(shape, target.dtype.newbyteorder("=")).transpose(_inverse(order))

    def download(self, array: Array, target: np.ndarray, *, add: bool = False) -> None:
        """Copy a contiguous array into `target`, or add it to `target`; it is there after the next `wait`."""
        order = _order(array.strides)
        source = array.transpose(order)
        staging = self._allocate(source.shape, array.dtype)
        if array.size:
            source.data.copy_to_host_async(staging.ctypes.data, staging.nbytes, self.stream)
        self._downloads.append((staging, target.transpose(order), add))

    def wait(self) -> None:
        """Wait for all work of this stream, and put the downloads where they belong."""
        self.stream.synchronize()
        for staging, target, add in self._downloads:
            if add:
                target += staging
            else:
                target[...] = staging
        self.release()

    def release(self) -> None:
        """Give the pinned memory back; the stream must be idle."""
        self._downloads.clear()
        self._pinned.clear()

    def _allocate(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return an array in pinned memory."""
        count = math.prod(shape)
        memory = cupy.cuda.alloc_pinned_memory(max(count, 1) * dtype.itemsize)
        self._pinned.append(memory)
        return np.frombuffer(memory, dtype, count).reshape(shape)


_FARTHEST = 1 << 62


def _order(strides: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes from the longest stride to the shortest; those of a broadcast array, 0, come first."""
    return tuple(sorted(range(len(strides)), key=lambda axis: -abs(strides[axis] or _FARTHEST)))


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(order.index(axis) for axis in range(len(order)))


class _Local(threading.local):
    """The streams of a thread that nobody uses, in pairs: they are kept because their workspaces are."""

    def __init__(self) -> None:
        self.unused: dict[int, list[tuple[TransferStream, TransferStream]]] = {}  # by device


_local = _Local()


def refuse_host_arrays() -> None:
    """Refuse NumPy arrays while the current stream captures a graph, which would not bring them there."""
    refuse_capture("a call with NumPy arrays", "pass arrays on the device")


@contextmanager
def two_streams() -> Iterator[tuple[TransferStream, TransferStream]]:
    """Lend two streams of the current device, which are idle in the end."""
    refuse_host_arrays()
    unused = _local.unused.setdefault(cupy.cuda.runtime.getDevice(), [])
    streams = unused.pop() if unused else (TransferStream(), TransferStream())
    try:
        yield streams
    except MemoryError as error:
        error.__notes__ = [
            "histeq: free device memory (cupy.get_default_memory_pool().free_all_blocks(), "
            "torch.cuda.empty_cache()), or pass backend='numba'. NumPy arrays go through the device in "
            "pieces; what must be there at once grows with the tiles and the bins: take fewer"
        ]
        raise
    finally:
        for stream in streams:  # after an error too: nothing may use pinned memory that is given back
            stream.stream.synchronize()
            stream.release()
        unused.append(streams)


def for_each_piece(pieces: list[Piece], work: Callable[[TransferStream, Piece, int], None]) -> None:
    """Call work(stream, piece, number) for every piece, on two streams alternately; wait for all results."""
    with two_streams() as streams:
        for number, piece in enumerate(pieces):
            stream = streams[number % 2]
            stream.wait()  # for the piece before the last
            with stream.stream:
                work(stream, piece, number)
        for stream in streams:
            stream.wait()
