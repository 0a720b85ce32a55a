"""CUDA devices through CuPy: compiled kernels, workspaces, and how a launch is cut into blocks.

All that the backend asks of CuPy besides plain array functions is in this file.
"""

import functools
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import cupy
import numpy as np
from histeq_kernels import cuda
from histeq_kernels.cuda.interface import (
    COUNTERS_U8,
    COUNTERS_U16,
    RESIDENT_BLOCKS,
    SCRATCH,
    STRETCH,
    TABLE_U16,
    THREADS,
    VECTOR,
)

from histeq._core.backend import groups_of_images

if TYPE_CHECKING:
    from histeq._backends.cupy.plans import Plan, Recording

Array = Any

GRID_X, GRID_Y = 1 << 16, 65535
"""The most blocks along x and y of a grid: kernels loop over the rest. CUDA allows more along x."""
COUNTS = 1 << 28
"""Bytes of counts that a workspace holds: batches with more histograms go in groups of images."""
MOST_COUNTED = 1 << 31
"""The most pixels that one block counts: its counters have 32 bits."""
_COUNTERS = COUNTERS_U8 // 4
"""Counters of 32 bits that a block has in shared memory where the number of bins varies."""
_SHARED_WITHOUT_ASKING = 48 * 1024
"""Bytes of shared memory that a kernel may use without the function attribute."""


class Device:
    """One CUDA device: what it offers, its compiled kernels, and its workspaces."""

    def __init__(self, index: int) -> None:
        self.index = index
        with cupy.cuda.Device(index) as device:
            attributes = device.attributes
            self.multiprocessors: int = attributes["MultiProcessorCount"]
            self.shared: int = attributes["MaxSharedMemoryPerBlockOptin"]
            self.cache: int = attributes["L2CacheSize"]
        self._kernels: dict[str, Any] = {}
        self._workspaces: dict[tuple[int, int], Workspace] = {}

    def launch(
        self,
        module: str,
        name: str,
        grid: tuple[int, ...],
        arguments: Sequence[Any],
        shared: int = 0,
        *,
        threads: int = THREADS,
    ) -> None:
        """Launch a kernel on the current stream.

        Parameters
        ----------
        module, name : str
            The compilation unit and the kernel.
        grid : tuple of int
            Blocks along x, y and z.
        arguments : sequence
            Arrays go by address, NumPy scalars and structures by value.
        shared : int
            Bytes of dynamic shared memory.
        threads : int
            Threads of a block.
        """
        kernel = self._kernels.get(name)
        if kernel is None:
            kernel = self._kernels[name] = _module(module, self.index).get_function(name)
        if shared > _SHARED_WITHOUT_ASKING and kernel.max_dynamic_shared_size_bytes < shared:
            kernel.max_dynamic_shared_size_bytes = shared
        function, block, arguments = kernel.kernel, (threads,), tuple(arguments)

        def start(values: tuple[Any, ...]) -> None:
            function(grid, block, values, shared_mem=shared)

        if (record := recording()) is not None:
            record.add(start, arguments)
        start(arguments)

    def workspace(self) -> "Workspace":
        """Return the workspace of this thread on the current stream."""
        key = (cupy.cuda.get_current_stream().ptr, threading.get_ident())
        workspace = self._workspaces.get(key)
        if workspace is None:
            workspace = self._workspaces[key] = Workspace()
        return workspace

    def blocks_per_plane(
        self, size: int, planes: int, pixels: int, resident_blocks: int = RESIDENT_BLOCKS
    ) -> int:
        """Return how many blocks share a plane of `size` bytes and `pixels` pixels.

        Together with the other planes they fill the device, which holds `resident_blocks` on each
        multiprocessor, but none has less than a stretch to read. A few more would run after all others.
        """
        fill = self.multiprocessors * resident_blocks
        blocks = min(-(-size // STRETCH), fill // max(planes, 1))
        return max(blocks, -(-pixels // MOST_COUNTED), 1)

    def slices(self) -> int:
        """Return into how many slices 65,536 counters are cut to fit shared memory, with one more a slice."""
        return next(n for n in (2, 4, 8, 16) if SCRATCH + COUNTERS_U16 // n + VECTOR <= self.shared)

    def shared_of_slices(self) -> int:
        """Return the bytes of shared memory of a block that counts one of these slices."""
        return SCRATCH + COUNTERS_U16 // self.slices() + VECTOR

    def counters_of(self, bins: int) -> tuple[int, int, int]:
        """Return how `bins` are counted: copies of each counter, slices of the bins, bytes of shared memory.

        Few bins have several copies, and many are cut into slices, each of them for blocks of its own.
        There is one counter more, for what is in no bin of the slice.
        """
        copies = next((n for n in (32, 16, 8, 4, 2) if n * bins <= _COUNTERS), 1)
        slices = 1 if bins <= _COUNTERS else -(-bins // ((self.shared - SCRATCH) // 4 - 1))
        return copies, slices, SCRATCH + 4 * copies * (-(-bins // slices) + 1)

    def holds_wide_table(self, size: int) -> bool:
        """Tell whether blocks that map `size` bytes each load a table of 16 bits into their shared memory.

        That takes about as long as to look up half a stretch through the L1 cache.
        """
        return 2 * size >= STRETCH and self.shared >= SCRATCH + TABLE_U16


class Workspace:
    """Device memory that the calls of one thread on one stream share, since they follow one another.

    Counts and tickets are zero before and after every launch: no launch needs a memset. Memory that was too
    small is kept, not freed, because a captured graph may still use it; sizes double, so that this is little.
    It does not grow while a graph is captured: the zeros would be a part of the graph, and missing before it.
    """

    def __init__(self) -> None:
        self._memory: dict[str, Array] = {}
        self._outgrown: list[Array] = []
        self.plans: dict[tuple[Any, ...], Plan | None] = {}
        """What is known of calls by what decides them: see plans.py. None: they came once."""

    def zeros(self, name: str, size: int, dtype: Any) -> Array:
        """Return at least `size` zeros; the kernels that use them leave them zero."""
        return self._at_least(name, size, dtype)

    def empty(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return an uninitialised array; the next one of this name overwrites it."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        memory = self._at_least(name, -(-size // 8), np.uint64)
        return cupy.ndarray(shape, dtype, memptr=memory.data)

    def holds(self, pointer: int) -> bool:
        """Tell whether an address is in memory of this workspace that is in use."""
        return any(0 <= pointer - memory.data.ptr < memory.nbytes for memory in self._memory.values())

    def _at_least(self, name: str, size: int, dtype: Any) -> Array:
        memory = self._memory.get(name)
        if memory is None or memory.size < size:
            refuse_capture(
                "a call that needs more workspace than the calls before it on this stream",
                "make the same call once on this stream, in this thread, before the capture",
            )
            if memory is not None:
                size = max(size, 2 * memory.size)
            larger = cupy.zeros(max(size, 1), dtype)
            if memory is not None:
                self._outgrown.append(memory)
            memory = self._memory[name] = larger
        return memory


def refuse_capture(what: str, remedy: str) -> None:
    """Raise RuntimeError while the current stream captures a graph, which `what` cannot be a part of.

    A graph keeps no array alive: what a call allocates and lets go of, CuPy lends to later calls, and every
    launch of the graph would overwrite it. For the same reason a call that does this has no plan.
    """
    give_up_recording()
    if cupy.cuda.get_current_stream().is_capturing():
        raise RuntimeError(f"{what} cannot be captured into a graph: {remedy}")


class _Recording(threading.local):
    """What a thread's launches are recorded by."""

    current: Any = None


_recording = _Recording()


def recording() -> "Recording | None":
    """Return what records the launches of this thread: see plans.py."""
    record: Recording | None = _recording.current
    return record


@contextmanager
def recorded(record: "Recording") -> Iterator["Recording"]:
    """Record the launches of this thread."""
    _recording.current = record
    try:
        yield record
    finally:
        _recording.current = None


def give_up_recording() -> None:
    """Say that a call does more on the device than to launch kernels on arrays that a plan knows."""
    if (record := recording()) is not None:
        record.give_up()


def image_groups(images: int, size: int) -> Iterator[slice]:
    """Return groups of images whose counts, `size` bytes an image, a workspace holds; at least one image."""
    return groups_of_images(images, size, COUNTS)


def grid_of(blocks: int) -> tuple[int]:
    """Return the grid of a launch over `blocks` independent pieces of work, a block for each."""
    return (min(blocks, GRID_X),)


def grid_of_elements(count: int) -> tuple[int]:
    """Return the grid of a launch over `count` independent elements, a thread for each."""
    return grid_of(-(-count // THREADS))


@functools.cache
def device(index: int) -> Device:
    """Return a device by its number."""
    return Device(index)


@functools.cache
def _module(name: str, index: int) -> Any:
    """Compile a unit; CuPy keeps the result on disk, by source, options and device."""
    return cupy.RawModule(code=cuda.source(name), options=cuda.OPTIONS)


@contextmanager
def on(array: Array) -> Iterator[None]:
    """Make the array's device the current one; say what to do where its memory does not suffice."""
    try:
        if array.device.id == cupy.cuda.runtime.getDevice():
            yield
        else:
            with array.device:
                yield
    except Exception as error:
        if is_out_of_memory(error) and not getattr(error, "__notes__", None):
            error.add_note(
                "histeq: free device memory (cupy.get_default_memory_pool().free_all_blocks(), "
                "torch.cuda.empty_cache()), pass out=image, take fewer tiles or bins, or pass the image as a "
                "NumPy array with backend='cupy', which takes it through the device in pieces"
            )
        raise


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error says that device memory does not suffice: CuPy's does, and PyTorch's."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def address(array: Array | None) -> int:
    """Return where an array begins in device memory; 0 for none."""
    return 0 if array is None else array.data.ptr


def ready(structure: np.ndarray) -> Any:
    """Return a structure as CuPy hands it to a kernel: to make that of it takes CuPy some microseconds."""
    make = getattr(cupy.cuda.function, "CNumpyArray", None)
    return structure if make is None else make(structure)


def structure(dtype: np.dtype, *values: Any) -> np.ndarray:
    """Return a structure that goes to a kernel by value."""
    return np.array(values, dtype)
