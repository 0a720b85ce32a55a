"""The Numba backend: compiled CPU kernels on as many threads as `histeq.set_num_threads` allows.

A batch goes image by image over the threads; a single large image is split into pieces. 16-bit signed
integers are served by the unsigned kernels: the same bits, with the counts and tables turned by half.
float16 is served by them too: it has 65,536 values, so that its table has one entry a value.
"""

import functools
import itertools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from histeq_kernels.cpu import histogram as _count
from histeq_kernels.cpu import luma as _luma
from histeq_kernels.cpu import lut as _lut
from histeq_kernels.cpu import table as _table
from numpy.typing import NDArray

from histeq import _rules, _threads
from histeq._backend import Pixels
from histeq._backends import numpy as _reference
from histeq._backends.numpy import copy, edges_between, empty_like, match_table, match_values, overlap

__all__ = [
    "apply", "bin_edges", "copy", "device", "empty_like", "equalize", "histogram", "lookup_table",
    "match_table", "match_values", "name", "overlap",
]  # fmt: skip

Array = NDArray[Any]

name = "numba"

# Below this many pixels the plain counter beats the pair counter, whose 65,536 entries must be folded,
# and a pair table is not worth building.
_PAIRS_FROM = 1 << 16
# An image is split over threads from twice this many pixels up: handing work to a thread costs 25-150 us.
_PIECE = 1 << 18
_MASK_ALL = np.ones((1, 1, 1), np.uint8)
_scratch = threading.local()


def device() -> str:
    """Return the name of the processor that does the work."""
    threads = _threads.num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


def bin_edges(pixels: Pixels, bins: int, value_range: tuple[float, float] | None) -> Array:
    """Return the edges of the bins of a floating image, (N, P, bins + 1), in its dtype."""
    if value_range is not None or pixels.image.dtype.itemsize == 2:
        return _reference.bin_edges(pixels, bins, value_range)
    images, planes = pixels.image.shape[:2]
    dtype = pixels.image.dtype.newbyteorder("=")
    edges = np.empty((images, planes, bins + 1), dtype)

    def work(at: tuple[int, int], parts: int) -> None:
        low, high = _extremes(pixels, at, parts)
        edges[at] = edges_between(low, high, bins, dtype)

    _over_planes(work, images, planes)
    return edges


def histogram(pixels: Pixels, edges: Array | None) -> NDArray[np.int64]:
    """Count the pixels: (N, P, levels or bins), int64."""
    images, planes = pixels.image.shape[:2]
    planes = 1 if pixels.luma else planes
    length = _rules.levels_of(pixels.image.dtype) if edges is None else edges.shape[-1] - 1
    counts = np.empty((images, planes, length), np.int64)

    def work(at: tuple[int, int], parts: int) -> None:
        if pixels.luma:
            counts[at] = _count_luma(pixels, at[0], parts)
        elif edges is None:
            counts[at] = _count_values(pixels, at, parts)
        elif pixels.image.dtype.itemsize == 2:
            counts[at] = _count_halves(pixels, at, edges[at], parts)
        else:
            counts[at] = _count_bins(pixels, at, edges[at], parts)

    _over_planes(work, images, planes)
    return counts


def lookup_table(
    counts: NDArray[np.int64], rule: str, dtype: np.dtype, out_range: tuple[float, float] | None
) -> Array:
    """Return the table of a rule for each histogram: (..., levels)."""
    if rule == "skimage":
        return _reference.lookup_table(counts, rule, dtype, out_range)
    kernel = getattr(_table, f"table_{rule}").i64
    limits = np.iinfo(dtype)
    low, high = (limits.min, limits.max) if out_range is None else (int(out_range[0]), int(out_range[1]))
    table = np.empty(counts.shape, np.int64)
    for at in np.ndindex(counts.shape[:-1]):
        one = np.ascontiguousarray(counts[at])
        span = _rules.top(one, high - low, out_range) if rule == "vips" else high - low
        kernel(one, limits.min, low, span, table[at])
    return table.astype(_rules.table_dtype(rule, dtype))


def apply(pixels: Pixels, table: Array, edges: Array | None, out: Array) -> None:
    """Map every pixel through its table into `out`; masks play no part."""
    target = out if _served(out) else np.empty_like(out, out.dtype.newbyteorder("="))

    def work(at: tuple[int, int], parts: int) -> None:
        if pixels.luma:
            _apply_luma(pixels, at[0], np.ascontiguousarray(table[at]), target[at[0]], parts)
        elif pixels.image.dtype.itemsize > 2:
            assert edges is not None
            _apply_interpolated(pixels, at, edges[at], table[at], target[at], parts)
        else:
            _apply_values(pixels, at, _value_table(pixels, edges, table, at), target[at], parts)

    _over_planes(work, len(pixels.image), 1 if pixels.luma else pixels.image.shape[1])
    if target is not out:
        copy(target, out)


def equalize(
    pixels: Pixels, rule: str, out_range: tuple[float, float] | None, edges: Array | None, out: Array
) -> None:
    """Do histogram, lookup_table and apply at once."""
    table = lookup_table(histogram(pixels, edges), rule, pixels.image.dtype, out_range)
    apply(pixels, table, edges, out)


# Counting ------------------------------------------------------------------------------------------


def _count_values(pixels: Pixels, at: tuple[int, int], parts: int) -> NDArray[np.int64]:
    """Count an integer plane, from the smallest value up."""
    bits = _count_bits(pixels, at, parts)
    dtype = pixels.image.dtype
    counts = np.roll(bits, len(bits) // 2) if dtype.kind == "i" else bits
    if pixels.nodata is not None:
        counts[int(pixels.nodata) - np.iinfo(dtype).min] = 0
    return counts


def _count_bits(pixels: Pixels, at: tuple[int, int], parts: int) -> NDArray[np.int64]:
    """Count a plane of 8- or 16-bit elements by their bit pattern."""
    plane = _bits(pixels.image[at])
    length = _rules.levels_of(plane.dtype)
    flat = _flat(plane)
    if pixels.mask is None and flat is not None:
        (pixels_1d,) = flat
        return _sum(_count_flat, [(piece,) for piece in _split(pixels_1d, parts)], length)
    mask = _mask(pixels, at[0], plane)
    masked = getattr(_count.histogram_masked, _tag(plane))
    return _sum(masked, list(zip(_split(plane, parts), _split(mask, parts), strict=True)), length)


def _count_flat(values: Array, counts: NDArray[np.int64]) -> None:
    """Count contiguous elements."""
    if values.dtype == np.uint16:
        _count.histogram_direct.u16(values, _workspace("counters", np.uint32), counts)
    elif values.size < _PAIRS_FROM:
        _count.histogram_small.u8(values, counts)
    else:
        _count.histogram.u8(values, _workspace("counters", np.uint32), counts)


def _count_luma(pixels: Pixels, n: int, parts: int) -> NDArray[np.int64]:
    """Count the luma of one image."""
    channels = [_bits(plane) for plane in _rgb(pixels, pixels.image[n])]
    kernel = getattr(_luma.histogram_luma, _tag(channels[0]))
    nodata = -1 if pixels.nodata is None else pixels.nodata
    planes = zip(*(_split(plane, parts) for plane in (*channels, _mask(pixels, n, channels[0]))), strict=True)
    return _sum(kernel, [(*piece, nodata) for piece in planes], _rules.levels_of(channels[0].dtype))


def _count_bins(pixels: Pixels, at: tuple[int, int], edges: Array, parts: int) -> NDArray[np.int64]:
    """Count a float32 or float64 plane by bin."""
    plane = _native(pixels.image[at])
    kernel = getattr(_count.histogram_bins, _tag(plane))
    masks = _split(_mask(pixels, at[0], plane), parts)
    pieces = [(*piece, _nan(pixels), edges) for piece in zip(_split(plane, parts), masks, strict=True)]
    return _sum(kernel, pieces, len(edges) - 1)


def _count_halves(pixels: Pixels, at: tuple[int, int], edges: Array, parts: int) -> NDArray[np.int64]:
    """Count a float16 plane by bin: first by value, of which there are 65,536."""
    values = _halves()
    index, inside = _reference.bin_index(values, edges)
    if pixels.nodata is not None:
        inside &= values != pixels.nodata
    counts = np.zeros(len(edges) - 1, np.int64)
    np.add.at(counts, index[inside], _count_bits(pixels, at, parts)[inside])
    return counts


def _extremes(pixels: Pixels, at: tuple[int, int], parts: int) -> tuple[Any, Any]:
    """Return the smallest and largest finite counted value; 0 and 1 where there is none."""
    plane = _native(pixels.image[at])
    kernel = getattr(_count.extremes, _tag(plane))
    pieces = list(zip(_split(plane, parts), _split(_mask(pixels, at[0], plane), parts), strict=True))
    limits = np.tile(np.array([np.inf, -np.inf], plane.dtype), (len(pieces), 1))
    _threads.run(lambda i: kernel(*pieces[i], _nan(pixels), limits[i]), range(len(pieces)))
    low, high = limits[:, 0].min(), limits[:, 1].max()
    return (low, high) if low <= high else (0.0, 1.0)


# Mapping -------------------------------------------------------------------------------------------


def _value_table(pixels: Pixels, edges: Array | None, table: Array, at: tuple[int, int]) -> Array:
    """Return the table with one entry a bit pattern, contiguous, that maps nodata to itself."""
    dtype = pixels.image.dtype
    if edges is not None:  # float16
        values = _halves()
        if np.isnan(table[*at, 0]):  # nothing was counted
            return values.astype(table.dtype)
        full = _reference.interpolate(values, edges[at], table[at])
        passes = ~np.isfinite(values) | (values == (np.nan if pixels.nodata is None else pixels.nodata))
        full[passes] = values[passes]
        return full
    one = table[at]
    if pixels.nodata is not None:
        one = one.copy()
        one[int(pixels.nodata) - np.iinfo(dtype).min] = pixels.nodata
    return np.roll(one, len(one) // 2) if dtype.kind == "i" else np.ascontiguousarray(one)


def _apply_values(pixels: Pixels, at: tuple[int, int], table: Array, out: Array, parts: int) -> None:
    """Map a plane of 8- or 16-bit elements through a table with one entry a bit pattern."""
    plane = _bits(pixels.image[at])
    if out.dtype.kind == "i":
        table, out = table.view(np.uint16), out.view(np.uint16)
    flat = _flat(plane, out)
    if flat is None:
        kernel = getattr(_lut.apply_lut_strided, _tag(plane, table))
        pieces = zip(_split(plane, parts), _split(out, parts), strict=True)
        _threads.run(lambda piece: kernel(piece[0], table, piece[1]), pieces)
        return
    kernel = getattr(_lut.apply_lut, _tag(plane, table))
    if table.dtype == np.uint8 and plane.size >= _PAIRS_FROM:
        pairs = _workspace("pairs", np.uint16)
        _lut.pair_table.u8(table, pairs)
        table, kernel = pairs, _lut.apply_pairs.u8
    pieces = zip(*(_split(one, parts) for one in flat), strict=True)
    _threads.run(lambda piece: kernel(piece[0], table, piece[1]), pieces)


def _apply_luma(pixels: Pixels, n: int, table: Array, out: Array, parts: int) -> None:
    """Map the luma of one image."""
    channels = [_bits(plane) for plane in _rgb(pixels, pixels.image[n])]
    kernel = getattr(_luma.apply_luma, _tag(channels[0]))
    nodata = -1 if pixels.nodata is None else pixels.nodata
    planes = (*channels, *_rgb(pixels, out))
    pieces = zip(*(_split(plane, parts) for plane in planes), strict=True)
    _threads.run(lambda piece: kernel(*piece[:3], table, nodata, *piece[3:]), pieces)


def _apply_interpolated(
    pixels: Pixels, at: tuple[int, int], edges: Array, table: Array, out: Array, parts: int
) -> None:
    """Map a float32 or float64 plane."""
    plane = _native(pixels.image[at])
    if np.isnan(table[0]):  # nothing was counted
        copy(plane, out)
        return
    kernel = getattr(_lut.apply_interpolated, _tag(plane))
    centres = _reference.centres_of(edges).astype(np.float64)
    levels = table.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        slopes = np.diff(levels) / np.diff(centres)
    pieces = zip(_split(plane, parts), _split(out, parts), strict=True)
    _threads.run(
        lambda piece: kernel(piece[0], _nan(pixels), edges, centres, levels, slopes, piece[1]), pieces
    )


# Pieces of work ------------------------------------------------------------------------------------


def _over_planes(work: Callable[[tuple[int, int], int], None], images: int, planes: int) -> None:
    """Call work(plane, parts): many planes at once in one part each, or one by one split into parts."""
    threads = _threads.num_threads()
    each = list(np.ndindex(images, planes))
    if len(each) >= threads > 1:
        _threads.run(lambda at: work(at, 1), each)
    else:
        for at in each:
            work(at, threads)


def _split(array: Array, parts: int) -> list[Array]:
    """Split a flat array or a (D, H, W) plane into views; arrays of one shape split alike."""
    parts = min(parts, array.size // _PIECE)
    parts = max(parts, -(-array.size // (_count.MAX_PIXELS // 2)), 1)
    if parts == 1:
        return [array]
    axis = int(np.argmax(array.shape))
    length = array.shape[axis]
    bounds = [length * i // parts for i in range(parts + 1)]
    before = (slice(None),) * axis
    return [array[(*before, slice(a, b))] for a, b in itertools.pairwise(bounds)]


def _sum(kernel: Callable[..., None], pieces: list[tuple[Any, ...]], length: int) -> NDArray[np.int64]:
    """Run a counting kernel on every piece; add up the counts."""
    counts = np.zeros((len(pieces), length), np.int64)
    _threads.run(lambda i: kernel(*pieces[i], counts[i]), range(len(pieces)))
    return counts[0] if len(pieces) == 1 else counts.sum(axis=0)


def _flat(*planes: Array) -> list[Array] | None:
    """Return planes of equal shape as 1-D views in memory order; None where that takes a copy."""
    first = planes[0]
    order = sorted(range(3), key=lambda axis: -abs(first.strides[axis]))
    turned = [plane.transpose(order) for plane in planes]
    if all(plane.flags.c_contiguous for plane in turned):
        return [plane.reshape(-1) for plane in turned]
    return None


def _workspace(key: str, dtype: type) -> Array:
    """Return this thread's 65,536 zero entries for counting, or for a pair table."""
    array: Array | None = getattr(_scratch, key, None)
    if array is None:
        array = np.zeros(_count.PAIRS, dtype)
        setattr(_scratch, key, array)
    return array


# The arrays that kernels take ----------------------------------------------------------------------


def _served(array: Array) -> bool:
    """Tell whether kernels take this array: native byte order, aligned."""
    return bool(array.dtype.isnative and array.flags.aligned)


def _native(array: Array) -> Array:
    """Return an array that kernels take, copied only for a foreign byte order or odd alignment."""
    return array if _served(array) else array.astype(array.dtype.newbyteorder("="))


def _bits(array: Array) -> Array:
    """Return 8- or 16-bit elements as unsigned integers."""
    array = _native(array)
    return array if array.dtype.kind == "u" else array.view(np.uint16)


def _mask(pixels: Pixels, n: int, plane: Array) -> Array:
    """Return the mask of image n, or one that counts all."""
    if pixels.mask is None:
        return np.broadcast_to(_MASK_ALL, plane.shape)
    return np.broadcast_to(pixels.mask[min(n, len(pixels.mask) - 1), 0].view(np.uint8), plane.shape)


def _rgb(pixels: Pixels, image: Array) -> tuple[Array, Array, Array]:
    """Return the red, green and blue planes of a (C, D, H, W) image."""
    return (image[2], image[1], image[0]) if pixels.luma == "bgr" else (image[0], image[1], image[2])


def _nan(pixels: Pixels) -> float:
    """Return nodata for the kernels of floating images, NaN where there is none."""
    return np.nan if pixels.nodata is None else float(pixels.nodata)


def _tag(*arrays: Array) -> str:
    """Name a kernel's variant after its arrays' dtypes: u8, u16_f64."""
    tags = [f"{array.dtype.kind}{8 * array.dtype.itemsize}" for array in arrays]
    return "_".join(dict.fromkeys(tags))


@functools.cache
def _halves() -> NDArray[np.float16]:
    """Return every float16 by its bit pattern."""
    return np.arange(_rules.levels_of(np.float16), dtype=np.uint16).view(np.float16)
