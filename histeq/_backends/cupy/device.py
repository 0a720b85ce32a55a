"""CUDA devices through CuPy: compiled kernels, workspaces, and how a launch is cut into blocks.

All that the backend asks of CuPy besides plain array functions is in this file.
"""

import functools
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import cupy
import numpy as np
from histeq_kernels import cuda

Array = Any

THREADS = 512
"""Of every block: THREADS in common.cuh."""
SCRATCH = 1024
"""Bytes at the start of shared memory: SCRATCH in common.cuh."""
COUNTERS_U8 = 256 * 32 * 4
"""32 copies of 256 counters: counters_u8() in counters.cuh."""
COUNTERS_U16 = 65536 * 2
"""65,536 packed counters of 16 bits, before they are cut into slices."""
TABLE_U8 = 8192
"""BankedTable in lut.cu."""
WORKPLACE = 45312
"""Workplace in clusters.cu, without `kept`."""
_COPIES = 32 * 256
"""Counters that a block has in shared memory for floating images: copies times bins, up to 32 copies."""
_SHARED_WITHOUT_ASKING = 48 * 1024
"""What a kernel may use without the function attribute."""

STRETCH = THREADS * 4 * 16
"""Bytes that a block reads in one turn: VECTORS loads of 16 bytes by each thread."""
MOST_COUNTED = 1 << 31
"""Pixels that one block may count in 32 bits, with room to spare."""
BLOCKS_PER_MULTIPROCESSOR = 2
"""All kernels keep within 64 registers a thread, so that two blocks of 512 fit 65,536 registers."""

_STRIDES = [(name, np.int64) for name in ("image", "plane", "layer", "row", "column")]
LAYOUT = np.dtype(
    [(name, np.int64) for name in ("images", "planes", "layers", "rows", "columns")]
    + [(name, _STRIDES) for name in ("image", "mask", "out")]
)
"""struct Layout in common.cuh."""
RULE = np.dtype(
    [
        (name, np.int64)
        for name in ("name", "bins", "width", "nodata", "bottom", "low", "span", "to_brightest", "floating")
    ]
    + [("fraction_low", np.float64), ("fraction_span", np.float64)]
)
"""struct Rule in table.cuh."""
RESULTS = np.dtype([(name, np.uint64) for name in ("counts", "tickets", "tables", "counts_out")])
"""struct Results in counters.cuh."""
TABLES = np.dtype(
    [
        ("entries", np.uint64),
        ("image", np.int64),
        ("plane", np.int64),
        ("nodata", np.int64),
        ("flip", np.uint32),
    ],
    align=True,
)
"""struct Tables in lut.cu."""


TILES = np.dtype([(name, np.int64, 3) for name in ("count", "size", "shape", "origin")])
"""struct Tiles in clahe.cu."""
LEVELS = np.dtype(
    [(name, np.int64) for name in ("bins", "width", "bin_shift", "flip", "lowest", "span", "shift", "nodata")]
    + [(name, np.float64) for name in ("nodata_value", "low", "range", "clip_limit")]
)
"""struct Levels in clahe.cu."""


class Device:
    """One CUDA device: what it offers, its compiled kernels, and its workspaces."""

    def __init__(self, index: int) -> None:
        self.index = index
        with cupy.cuda.Device(index) as device:
            attributes = device.attributes
            self.multiprocessors: int = attributes["MultiProcessorCount"]
            self.shared: int = attributes["MaxSharedMemoryPerBlockOptin"]
            self.cache: int = attributes["L2CacheSize"]
            self.cooperates = bool(attributes["CooperativeLaunch"])
            self.has_clusters = int(device.compute_capability) >= cuda.NEEDS["clusters"]
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
        together: bool = False,
    ) -> None:
        """Launch a kernel on the current stream. Structures go by value.

        `together`: all blocks run at the same time, and are fewer where the device does not hold so many.
        """
        kernel = self._kernels.get(name)
        if kernel is None:
            kernel = self._kernels[name] = _module(module, self.index).get_function(name)
        if shared > _SHARED_WITHOUT_ASKING and kernel.max_dynamic_shared_size_bytes < shared:
            kernel.max_dynamic_shared_size_bytes = shared
        if together:  # RawModule's option of this name also links CUDA's library of cooperative groups
            kernel.kernel(
                grid, (THREADS,), tuple(arguments), shared_mem=shared, enable_cooperative_groups=True
            )
        else:
            kernel(grid, (THREADS,), tuple(arguments), shared_mem=shared)

    def workspace(self) -> "Workspace":
        """Return the workspace of this thread on the current stream."""
        key = (cupy.cuda.get_current_stream().ptr, threading.get_ident())
        space = self._workspaces.get(key)
        if space is None:
            space = self._workspaces[key] = Workspace()
        return space

    def parts(self, size: int, planes: int, pixels: int, per_multiprocessor: int) -> int:
        """Return how many blocks share a plane of `size` bytes and `pixels` pixels.

        As many as fill the device together with the other planes, but none for less than a stretch.
        """
        fill = self.multiprocessors * per_multiprocessor
        parts = min(-(-size // STRETCH), -(-fill // max(planes, 1)))
        return max(parts, -(-pixels // MOST_COUNTED), 1)

    def one_turn(self) -> int:
        """Return the bytes of an image for which every block that the device holds has one turn."""
        return self.multiprocessors * BLOCKS_PER_MULTIPROCESSOR * STRETCH

    def kept_turns(self) -> int:
        """Return how many stretches a block of a cluster keeps in shared memory."""
        return (self.shared - SCRATCH - WORKPLACE) // STRETCH

    def fits_clusters(self, planes: int, size: int) -> bool:
        """Tell whether a batch of planes of `size` bytes goes by clusters, a frame each.

        Where two launches would read it from memory twice, since it exceeds the L2 cache, and clusters
        would not: what they do not keep of the frames under way must fit into half of that cache.
        """
        if not self.has_clusters or planes * size <= self.cache or self.kept_turns() < 1:
            return False
        clusters = min(planes, self.multiprocessors // cuda.CLUSTER)
        again = size - cuda.CLUSTER * self.kept_turns() * STRETCH
        return 2 * clusters >= self.multiprocessors // cuda.CLUSTER and 2 * clusters * again <= self.cache

    def slices(self) -> int:
        """Return into how many slices 65,536 packed counters are cut to fit shared memory."""
        return next(n for n in (1, 2, 4, 8) if SCRATCH + COUNTERS_U16 // n <= self.shared)


class Workspace:
    """Device memory that the calls of one thread on one stream share, since they follow one another.

    Counts and tickets are zero before and after every launch: no launch needs a memset. Memory that was too
    small is kept, not freed, because a captured graph may still use it; sizes double, so that this is little.
    """

    def __init__(self) -> None:
        self._memory: dict[str, Array] = {}
        self._outgrown: list[Array] = []

    def zeros(self, name: str, size: int, dtype: Any) -> Array:
        """Return `size` zeros, or more, to be left zero."""
        return self._at_least(name, size, dtype)

    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return an array, uninitialised, that the next one of this name overwrites."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        memory = self._at_least(name, -(-size // 8), np.uint64)
        return cupy.ndarray(shape, dtype, memptr=memory.data)

    def _at_least(self, name: str, size: int, dtype: Any) -> Array:
        memory = self._memory.get(name)
        if memory is None or memory.size < size:
            if memory is not None:
                self._outgrown.append(memory)
                size = max(size, 2 * memory.size)
            memory = self._memory[name] = cupy.zeros(max(size, 1), dtype)
        return memory


def copies(bins: int) -> int:
    """Return how many copies of each counter a block has; 0 where shared memory does not hold one."""
    return next((n for n in (32, 16, 8, 4, 2, 1) if n * bins <= _COPIES), 0)


@functools.cache
def device(index: int) -> Device:
    """Return a device by its number."""
    return Device(index)


@functools.cache
def _module(name: str, index: int) -> Any:
    """Compile a unit; CuPy keeps the result on disk, by source and device."""
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
    except MemoryError as error:  # CuPy's is one
        if not getattr(error, "__notes__", None):
            error.add_note(
                "histeq: free device memory, pass out=image, or pass the image as a NumPy array with "
                "backend='cupy', which takes it through the device in pieces"
            )
        raise


def address(array: Array | None) -> int:
    """Return where an array begins in device memory; 0 for none."""
    return 0 if array is None else array.data.ptr


def structure(dtype: np.dtype, *values: Any) -> np.ndarray:
    """Return a structure that goes to a kernel by value."""
    return np.array(values, dtype)
