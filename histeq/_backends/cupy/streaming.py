"""NumPy arrays on the GPU: uploaded, equalized and brought back, piece by piece.

Pieces take turns on two streams, each with pinned memory of its own: while one is on the bus, the kernels
work on the other or the host copies it. A batch goes in groups of whole images. An image larger than a
piece takes two passes, one that counts and one that maps; as much of it as half of the device's free memory
holds stays there in between, and the rest is uploaded again: an image may be larger than the device's memory.

The functions are those of `Backend`, for canonical arrays in host memory; what they do on the device is
`cupy.py`'s. Nothing is shared by the two streams: counts and tables meet in host memory.
"""

import dataclasses
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cupy
import numpy as np

from histeq._backends.cupy import backend as gpu
from histeq._backends.numpy.backend import copy_alpha, empty_like, overlap
from histeq._core.backend import Pixels
from histeq._core.tile_grid import Grid, Levels

__all__ = [
    "apply", "apply_tiles", "bin_edges", "clahe", "copy_alpha", "device", "empty_like", "equalize",
    "fast_path", "histogram", "lookup_table", "match_table", "match_values", "name", "overlap", "tile_tables",
]  # fmt: skip

Array = Any
Box = tuple[slice, ...]

name = "cupy"
fast_path = None
device = gpu.device

_PIECE = 1 << 23
"""Bytes of an image in one piece. 8 MiB are 0.3 ms on a bus of 25 GB/s, many times what its launches take,
and little of the images that are worth cutting: nothing overlaps the first upload and the last download. By
that reckoning, not by measurement."""
_SHARE = 64
"""A piece has one part in so many of the free memory at most: two pieces with their masks, workspaces and
results, of 8 bytes for 1 at the most, stay within half of it. The other half is for what stays."""


@dataclasses.dataclass(slots=True)
class _Bins:
    """What stands for the edges of a floating image's bins, until the image is on the device."""

    count: int
    value_range: tuple[float, float] | None
    known: np.ndarray | None = None
    """The edges, (N, P, bins + 1), where CLAHE has had to find them: its tables serve other images, too."""

    def copy(self) -> "_Bins":
        """Return itself: it is no memory that is used again."""
        return self


def bin_edges(pixels: Pixels, bins: int, value_range: tuple[float, float] | None) -> _Bins:
    """Return what `histogram`, `apply` and `equalize` make the edges of."""
    return _Bins(bins, value_range)


def histogram(pixels: Pixels, edges: _Bins | None) -> np.ndarray:
    """Count the pixels: (N, P, levels or bins), int64."""
    if edges is None or _piece_of(pixels.image) is not None:
        return _count(pixels, edges, _Kept(0))
    parts = []
    for one in _single(pixels):
        kept = _Kept(_free() // 2)
        parts.append(_count(one, _edges(one, edges, kept), kept))
    return np.concatenate(parts)


def lookup_table(counts: Array, rule: str, dtype: Any, out_range: tuple[Any, Any] | None) -> np.ndarray:
    """Return the table of a rule for each histogram: (..., levels)."""
    return cupy.asnumpy(gpu.lookup_table(cupy.asarray(counts), rule, dtype.newbyteorder("="), out_range))


def match_table(counts: Array, reference: Array, dtype: Any) -> np.ndarray:
    """Return the table that gives `counts` the distribution of the counts `reference`."""
    return cupy.asnumpy(gpu.match_table(cupy.asarray(counts), cupy.asarray(reference), dtype))


def match_values(pixels: Pixels, reference: Pixels, out: Array) -> None:
    """Match a floating image to a floating reference; both are sorted, and must fit into device memory."""
    lent, model = (
        dataclasses.replace(one, image=_whole(one.image), mask=None if one.mask is None else _whole(one.mask))
        for one in (pixels, reference)
    )
    result = cupy.empty_like(lent.image)
    gpu.match_values(lent, model, result)
    out[...] = cupy.asnumpy(result)


def apply(pixels: Pixels, table: Array, edges: _Bins | None, out: Array) -> None:
    """Map every pixel through its table into `out`; masks play no part."""
    _map(dataclasses.replace(pixels, mask=None), table, edges, out, _Kept(0))


def equalize(
    pixels: Pixels, rule: str, out_range: tuple[Any, Any] | None, edges: _Bins | None, out: Array
) -> None:
    """Do histogram, lookup_table and apply at once."""
    if (images := _piece_of(pixels.image)) is None:
        for n, one in enumerate(_single(pixels)):
            _equalize_in_two_passes(one, rule, out_range, edges, out[n : n + 1])
        return

    def work(lane: "_Lane", box: Box, _: int) -> None:
        lent = _lend(lane, pixels, box)
        result = lane.empty_like(out[box])
        bounds = None if edges is None else gpu.bin_edges(lent, edges.count, edges.value_range)
        gpu.equalize(lent, rule, out_range, bounds, result)
        lane.download(result, out[box])

    _take_turns([_images(n, images) for n in range(0, len(pixels.image), images)], work)


def _equalize_in_two_passes(
    pixels: Pixels, rule: str, out_range: tuple[Any, Any] | None, edges: _Bins | None, out: Array
) -> None:
    """Equalize one image that is larger than a piece."""
    kept = _Kept(_free() // 2)
    bounds = None if edges is None else _edges(pixels, edges, kept)
    table = lookup_table(_count(pixels, bounds, kept), rule, pixels.image.dtype, out_range)
    _map(pixels, table, bounds, out, kept)


def tile_tables(
    pixels: Pixels, grid: Grid, clip_limit: float, levels: Levels, edges: _Bins | None
) -> np.ndarray:
    """Return the table of every tile: (N, P, D, H, W, bins). An image must fit into device memory."""
    tables = np.empty((*pixels.histograms, *grid.tiles, levels.bins), levels.table_dtype)
    if edges is not None and edges.known is None:
        edges.known = np.concatenate([_edges(one, edges, _Kept(0)) for one in _single(pixels)])

    def work(lane: "_Lane", box: Box, _: int) -> None:
        lent = _lend(lane, pixels, box)
        bounds = None if edges is None else _bounds(lane, lent, edges.known, box)
        lane.download(gpu.tile_tables(lent, grid, clip_limit, levels, bounds), tables[box[0]])

    _take_turns([_images(n, 1) for n in range(len(pixels.image))], work)
    return tables


def apply_tiles(
    pixels: Pixels,
    tables: Array,
    grid: Grid,
    origin: tuple[int, ...],
    levels: Levels,
    edges: _Bins | None,
    out: Array,
) -> None:
    """Blend a window of the image, which begins at `origin` (D, H, W), into `out`."""
    pixels = dataclasses.replace(pixels, mask=None)
    known = None if edges is None else edges.known
    lent_tables: dict[tuple[int, ...], Array] = {}  # by stream, and by what they are for

    def work(lane: "_Lane", box: Box, _: int) -> None:
        at = _planes(pixels, box)
        first = (*(one.start or 0 for one in box),)
        key = (id(lane), *first[:2])
        if key not in lent_tables:
            lent_tables[key] = lane.upload(tables[at if len(tables) > 1 else (slice(None), at[1])])
        lent = _lend(lane, pixels, box)
        result = lane.empty_like(out[box])
        bounds = (
            None if known is None else lane.upload(known[box[0] if len(known) > 1 else slice(None), box[1]])
        )
        start = tuple(a + b for a, b in zip(origin, first[2:], strict=True))
        gpu.apply_tiles(lent, lent_tables[key], grid, start, levels, bounds, result)
        lane.download(result, out[box])

    _take_turns(_Kept(0).boxes(pixels), work)


def clahe(
    pixels: Pixels, grid: Grid, clip_limit: float, levels: Levels, edges: _Bins | None, out: Array
) -> None:
    """Do tile_tables and apply_tiles at once."""
    tables = tile_tables(pixels, grid, clip_limit, levels, edges)
    apply_tiles(pixels, tables, grid, (0, 0, 0), levels, edges, out)


# The passes ----------------------------------------------------------------------------------------


class _Kept:
    """The pieces of an image that stay on the device from one pass to the next, by their numbers."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._limit = _limit()
        self._pieces: dict[int, Pixels] = {}

    def boxes(self, pixels: Pixels) -> list[Box]:
        """Return the pieces, the same in every pass."""
        return list(_cut(pixels.image, (slice(None),) * 5, self._limit, pixels.luma is not None))

    def lend(self, lane: "_Lane", pixels: Pixels, box: Box, number: int) -> Pixels:
        """Return a piece on the device."""
        lent = self._pieces.get(number)
        if lent is None:
            lent = _lend(lane, pixels, box)
            size = lent.image.nbytes + (0 if lent.mask is None else lent.mask.nbytes)
            if size <= self._budget:
                self._budget -= size
                self._pieces[number] = lent
        return lent


def _edges(pixels: Pixels, bins: _Bins, kept: _Kept) -> np.ndarray:
    """Return the edges of one image's bins: (1, P, bins + 1)."""
    limits = np.zeros((*pixels.image.shape[:2], 1, 1, 2), pixels.image.dtype.newbyteorder("="))
    if bins.value_range is None:
        limits[..., 0], limits[..., 1] = np.inf, -np.inf
        boxes = kept.boxes(pixels)
        found = np.empty((len(boxes), 2, pixels.image.shape[1]), limits.dtype)

        def work(lane: "_Lane", box: Box, number: int) -> None:
            lane.download(_extremes(kept.lend(lane, pixels, box, number)), found[number][:, box[1]])

        _take_turns(boxes, work)
        for (lows, highs), box in zip(found, boxes, strict=True):
            some = limits[0, box[1], 0, 0]
            some[:, 0] = np.minimum(some[:, 0], lows[box[1]])
            some[:, 1] = np.maximum(some[:, 1], highs[box[1]])
    # An image of the extremes alone has the edges of the whole: rounding is the kernel's affair.
    extremes = Pixels(cupy.asarray(limits))
    return cupy.asnumpy(gpu.bin_edges(extremes, bins.count, bins.value_range))


def _extremes(pixels: Pixels) -> Array:
    """Return the smallest and the largest counted value of each plane of one image on the device: (2, P)."""
    image = pixels.image
    counts = cupy.isfinite(image)
    if pixels.nodata is not None:
        counts &= image != pixels.nodata
    if pixels.mask is not None:
        counts &= pixels.mask
    infinite = image.dtype.type(np.inf)
    lows = cupy.where(counts, image, infinite).min(axis=(0, 2, 3, 4))
    return cupy.stack([lows, cupy.where(counts, image, -infinite).max(axis=(0, 2, 3, 4))])


def _count(pixels: Pixels, edges: "_Bins | np.ndarray | None", kept: _Kept) -> np.ndarray:
    """Count the pixels of all pieces."""
    bins = edges.count if isinstance(edges, _Bins) else pixels.bins(edges)
    counts = np.zeros((*pixels.histograms, bins), np.int64)

    def work(lane: "_Lane", box: Box, number: int) -> None:
        lent = kept.lend(lane, pixels, box, number)
        lane.download(
            gpu.histogram(lent, _bounds(lane, lent, edges, box)), counts[_planes(pixels, box)], add=True
        )

    _take_turns(kept.boxes(pixels), work)
    return counts


def _map(pixels: Pixels, table: Array, edges: "_Bins | np.ndarray | None", out: Array, kept: _Kept) -> None:
    """Map all pieces."""

    def work(lane: "_Lane", box: Box, number: int) -> None:
        lent = kept.lend(lane, pixels, box, number)
        result = lane.empty_like(out[box])
        levels = lane.upload(table[_planes(pixels, box)])
        gpu.apply(lent, levels, _bounds(lane, lent, edges, box), result)
        lane.download(result, out[box])

    _take_turns(kept.boxes(pixels), work)


def _bounds(lane: "_Lane", lent: Pixels, edges: "_Bins | np.ndarray | None", box: Box) -> Array | None:
    """Return the edges of a piece's bins on the device."""
    if isinstance(edges, _Bins):
        return gpu.bin_edges(lent, edges.count, edges.value_range)
    return None if edges is None else lane.upload(edges[box[:2]])


# Pieces --------------------------------------------------------------------------------------------


def _free() -> int:
    """Return the bytes of device memory that a call may take: what is free, and what CuPy's pool holds."""
    return int(cupy.cuda.runtime.memGetInfo()[0] + cupy.get_default_memory_pool().free_bytes())


def _limit() -> int:
    """Return the bytes of the largest piece."""
    return min(_PIECE, _free() // _SHARE)


def _piece_of(image: Array) -> int | None:
    """Return how many whole images make a piece; None where one is larger than a piece."""
    size = math.prod(image.shape[1:]) * image.itemsize
    limit = _limit()
    return None if size > limit else max(1, limit // max(size, 1))


def _images(first: int, count: int) -> Box:
    return (slice(first, first + count), *[slice(None)] * 4)


def _single(pixels: Pixels) -> Iterator[Pixels]:
    """Yield the images of a batch one by one."""
    for n in range(len(pixels.image)):
        yield pixels.part(slice(n, n + 1))


def _cut(image: Array, box: Box, limit: int, luma: bool) -> Iterator[Box]:
    """Cut an array in halves, along the axis of the longest stride, until a piece is within the limit."""
    shape = tuple(len(range(*one.indices(n))) for one, n in zip(box, image.shape, strict=True))
    axes = [axis for axis in range(5) if shape[axis] > 1 and not (luma and axis == 1)]
    if not axes or math.prod(shape) * image.itemsize <= limit:
        yield box
        return
    axis = 0 if shape[0] > 1 else max(axes, key=lambda a: abs(image.strides[a]))
    start, stop, _ = box[axis].indices(image.shape[axis])
    middle = (start + stop) // 2
    for half in (slice(start, middle), slice(middle, stop)):
        yield from _cut(image, (*box[:axis], half, *box[axis + 1 :]), limit, luma)


def _planes(pixels: Pixels, box: Box) -> Box:
    """Return where a piece's counts and tables are."""
    return (box[0], slice(None) if pixels.luma else box[1])


def _lend(lane: "_Lane", pixels: Pixels, box: Box) -> Pixels:
    """Upload a piece."""
    mask = pixels.mask
    if mask is not None:
        mask = lane.upload(mask[(slice(None) if len(mask) == 1 else box[0], slice(None), *box[2:])])
    return dataclasses.replace(pixels, image=lane.upload(pixels.image[box]), mask=mask, alpha=False)


def _whole(array: Array) -> Array:
    return cupy.asarray(array.astype(array.dtype.newbyteorder("="), copy=False))


# Streams -------------------------------------------------------------------------------------------


class _Lane:
    """A stream, and pinned memory for what is under way on it."""

    def __init__(self) -> None:
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self._held: list[Any] = []
        self._landing: list[tuple[np.ndarray, np.ndarray, bool]] = []

    def upload(self, array: Array) -> Array:
        """Return a copy on the device: native byte order, contiguous, in the order of axes it has here."""
        order = _order(array.strides)
        source = array.transpose(order)
        staging = self._pinned(source.shape, array.dtype.newbyteorder("="))
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
        """Copy, or add, a contiguous array into `target`; it is there after the next `wait`."""
        order = _order(array.strides)
        source = array.transpose(order)
        staging = self._pinned(source.shape, array.dtype)
        if array.size:
            source.data.copy_to_host_async(staging.ctypes.data, staging.nbytes, self.stream)
        self._landing.append((staging, target.transpose(order), add))

    def wait(self) -> None:
        """Wait for all that is under way here, and put the results where they belong."""
        self.stream.synchronize()
        for staging, target, add in self._landing:
            if add:
                target += staging
            else:
                target[...] = staging
        self.forget()

    def forget(self) -> None:
        """Give the pinned memory back; the stream must be idle."""
        self._landing.clear()
        self._held.clear()

    def _pinned(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        count = math.prod(shape)
        memory = cupy.cuda.alloc_pinned_memory(max(count, 1) * dtype.itemsize)
        self._held.append(memory)
        return np.frombuffer(memory, dtype, count).reshape(shape)


_FARTHEST = 1 << 62


def _order(strides: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes from the longest stride to the shortest; those of a broadcast array, 0, come first."""
    return tuple(sorted(range(len(strides)), key=lambda axis: -abs(strides[axis] or _FARTHEST)))


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(order.index(axis) for axis in range(len(order)))


class _Local(threading.local):
    """The streams of a thread, kept because their workspaces are: two for each device."""

    def __init__(self) -> None:
        self.lanes: dict[int, tuple[_Lane, _Lane]] = {}


_local = _Local()


@contextmanager
def _lanes() -> Iterator[tuple[_Lane, _Lane]]:
    index = cupy.cuda.runtime.getDevice()
    if index not in _local.lanes:
        _local.lanes[index] = (_Lane(), _Lane())
    lanes = _local.lanes[index]
    try:
        yield lanes
    finally:
        for lane in lanes:  # after an error too: pinned memory is given back when nothing uses it any more
            lane.stream.synchronize()
            lane.forget()


def _take_turns(boxes: list[Box], work: Callable[[_Lane, Box, int], None]) -> None:
    """Call work(lane, box, number) for every piece, on two streams in turn."""
    with _lanes() as lanes:
        for number, box in enumerate(boxes):
            lane = lanes[number % 2]
            lane.wait()  # for the piece before the last
            with lane.stream:
                work(lane, box, number)
        for lane in lanes:
            lane.wait()
