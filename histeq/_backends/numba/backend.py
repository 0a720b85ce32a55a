"""The Numba backend: compiled CPU kernels on as many threads as `histeq.set_num_threads` allows.

A batch goes image by image over the threads; a single large image is split into pieces. 16-bit signed
integers are served by the kernels for unsigned ones: the same bits, with counts and tables rotated by half.
float16 is served by them too: it has 65,536 values, so that its table has one entry a value.

This file serves grey planes and `color.py` colour; `views.py` makes the views that kernels take. Plain arrays
need neither and go through `fast_path.py`.
"""

from __future__ import annotations  # closures are made in every call: their annotations shall cost nothing

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from histeq_kernels.cpu import match as _match
from histeq_kernels.cpu import rules as _tables
from histeq_kernels.cpu import shots as _distances
from histeq_kernels.cpu import tiers as _tiers
from histeq_kernels.cpu.core import waiting as _waiting
from histeq_kernels.cpu.fused.grey import kernel_of_rule
from histeq_kernels.cpu.histogram import extremes as _extremes
from histeq_kernels.cpu.histogram import float_bins as _float_bins
from histeq_kernels.cpu.histogram import grey as _histogram
from histeq_kernels.cpu.lut import grey as _lut
from histeq_kernels.cpu.lut import interpolate as _interpolate
from numpy.typing import NDArray

from histeq._backends.numba import clahe as _clahe
from histeq._backends.numba import color as _colors
from histeq._backends.numba import fast_path
from histeq._backends.numba import parallel as _parallel
from histeq._backends.numba import part as _part
from histeq._backends.numba.clahe import apply_tiles, clahe, tables_of_tiles, tile_tables
from histeq._backends.numba.frames import PlainFrames
from histeq._backends.numba.views import (
    add_up,
    bits,
    contiguous,
    mask_of,
    native,
    rows,
    served,
    split,
    tag,
    workspace,
)
from histeq._backends.numpy import backend as _reference
from histeq._backends.numpy.backend import (
    as_mask,
    copy_alpha,
    edges_between,
    empty_like,
    match_values,
    overlap,
)
from histeq._backends.numpy.clahe import count_by_parts
from histeq._core import nodata as _nodata
from histeq._core import rules as _rules
from histeq._core import shots as _shots
from histeq._core import threads as _threads
from histeq._core.backend import Pixels
from histeq._core.rules import OutRange
from histeq._core.tile_grid import Grid, Levels
from histeq._core.window import Window

__all__ = [
    "ClipWindow", "PlainFrames", "Window", "apply", "apply_tiles", "as_mask", "bin_edges", "clahe",
    "copy_alpha", "device", "empty_like", "equalize", "equalize_by", "fast_path", "histogram",
    "histogram_distance", "lookup_table", "match_table", "match_values", "name", "overlap", "tables_of_tiles",
    "tile_histograms", "tile_tables",
]  # fmt: skip

Array = NDArray[Any]
At = tuple[int, ...]  # which plane: (n, p); or image: (n,)

name = "numba"
ClipWindow = None
_ = _waiting.raise_by.i64  # a Numba that cannot compile fails here, where another backend can replace it
_UINT8 = np.dtype(np.uint8)


def device() -> str:
    """Return the name of the processor that does the work."""
    threads = _threads.num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}, instructions: {_tiers.tier()}"


def bin_edges(pixels: Pixels, bins: int, value_range: tuple[float, float] | None) -> Array:
    """Return the edges of the bins of a floating image, (N, P, bins + 1), in its dtype."""
    if value_range is not None:
        return _reference.bin_edges(pixels, bins, value_range)
    dtype = pixels.image.dtype.newbyteorder("=")
    edges = np.empty((*pixels.image.shape[:2], bins + 1), dtype)
    extremes_of = _extremes_of_halves if dtype.itemsize == 2 else _extremes_of

    def work(at: At, parts: int) -> None:
        low, high = extremes_of(pixels, at, parts)
        edges[at] = edges_between(low, high, bins, dtype)

    _over(work, [(n, p) for n in range(edges.shape[0]) for p in range(edges.shape[1])])
    return edges


def histogram(pixels: Pixels, edges: Array | None) -> NDArray[np.int64]:
    """Count the pixels: (N, P, levels or bins), int64."""
    counts = np.empty((*pixels.histograms, pixels.bins(edges)), np.int64)
    interleaved = pixels.mask is None and _colors.has_channel_rows(pixels)

    def work(at: At, parts: int) -> None:
        counts[at] = _count_unit(pixels, edges, at, parts)

    _over(work, _units(pixels, interleaved))
    return counts


def _count_unit(pixels: Pixels, edges: Array | None, at: At, parts: int) -> NDArray[np.int64]:
    """Count an image's interleaved channels, its luma, or one plane."""
    if edges is None:
        return _count_all_values(pixels, at, parts)[..., pixels.bins_in_range]
    if pixels.image.dtype.itemsize == 2:
        return _count_halves(pixels, at, edges[at], parts)
    return _count_bins(pixels, at, edges[at], parts)


def _count_all_values(pixels: Pixels, at: At, parts: int) -> NDArray[np.int64]:
    """Count an image's interleaved channels, its luma, or one plane, of integers."""
    if len(at) == 1:
        return _colors.count_channels(pixels, at[0], parts)
    if pixels.luma:
        return _colors.count_luma(pixels, at[0], parts)
    return _count_values(pixels, at, parts)


def tile_histograms(
    pixels: Pixels,
    grid: Grid,
    origin: tuple[int, ...],
    first: tuple[int, ...],
    levels: Levels,
    edges: Array | None,
    counts: Array,
) -> None:
    """Add the counts of a window, which begins at `origin`, to `counts`: those of tiles from `first` on."""
    window = (pixels, grid, origin, first, levels, edges, counts)
    if not _clahe.tile_histograms(*window):
        count_by_parts(histogram, *window)


def lookup_table(counts: NDArray[np.int64], rule: str, dtype: np.dtype, out_range: OutRange | None) -> Array:
    """Return the table of a rule for each histogram: (..., levels)."""
    if rule == "skimage":
        return _reference.lookup_table(counts, rule, dtype, out_range)
    low, high, first, last, _ = out_range or _whole_range(dtype)
    table = np.empty(counts.shape, _rules.table_dtype(rule, dtype, out_range))
    kernel, sums = _kernel_of_rule(rule, table.dtype), workspace().sums
    histograms = np.ascontiguousarray(counts).reshape(-1, counts.shape[-1])
    for histogram, levels in zip(histograms, table.reshape(histograms.shape), strict=True):
        span = int(high - low)
        span = _rules.top(histogram, span, out_range) if rule == "vips" else span
        kernel(histogram, first, last, int(low), span, sums, levels)
    return table


@functools.cache
def _kernel_of_rule(rule: str, dtype: np.dtype) -> Callable[..., None]:
    """Return the kernel that makes tables of integers by a rule."""
    kernel: Callable[..., None] = getattr(getattr(_tables, f"table_{rule}"), tag(np.empty(0, dtype)))
    return kernel


_whole_range = functools.cache(_rules.whole_range)  # np.iinfo takes as long as a small table


def match_table(
    counts: NDArray[np.int64], reference: NDArray[np.int64], dtype: np.dtype, first: int
) -> Array:
    """Return the table that gives `counts`, from value `first` up, the distribution of `reference`."""
    table = np.empty(counts.shape, dtype)
    kernel = getattr(_match.match_table, tag(table))
    counts, reference = np.ascontiguousarray(counts), np.ascontiguousarray(reference)
    reference = np.broadcast_to(reference, counts.shape)
    _threads.run(
        lambda at: kernel(counts[at], reference[at], first, table[at]), np.ndindex(counts.shape[:-1])
    )
    return table


@functools.cache
def _limits(dtype: np.dtype) -> tuple[int, int]:
    """Return the smallest and the largest value of an integer dtype."""
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def apply(pixels: Pixels, table: Array, edges: Array | None, out: Array) -> None:
    """Map every pixel through its table into `out`; masks play no part."""
    interleaved = table.dtype == _UINT8 and _colors.has_channel_rows(pixels, out)

    def work(at: At, parts: int) -> None:
        _apply_unit(pixels, table[at], edges, at, out, parts)

    _over(work, _units(pixels, interleaved))


def _apply_unit(pixels: Pixels, table: Array, edges: Array | None, at: At, out: Array, parts: int) -> None:
    """Map an image's interleaved channels, its luma, or one plane."""
    target = out[at[:1] if pixels.luma else at]
    new = target if served(target) else np.empty_like(target, target.dtype.newbyteorder("="))
    table = _reference.over_all_values(pixels, table)
    if len(at) == 1:
        _colors.apply_channels(pixels, at[0], table, new, parts)
    elif pixels.luma:
        _colors.apply_luma(pixels, at[0], np.ascontiguousarray(table), new, parts)
    elif pixels.image.dtype.itemsize > 2:
        assert edges is not None
        _apply_interpolated(pixels, at, edges[at], table, new, parts)
    else:
        _apply_values(pixels, at, _value_table(pixels, edges, table, at), new, parts)
    if new is not target:
        np.copyto(target, new)


def equalize(pixels: Pixels, rule: str, out_range: OutRange | None, edges: Array | None, out: Array) -> None:
    """Count, make the tables and map, image by image while it is in the cache."""
    default = rule == "opencv" and out_range is None
    if rule != "skimage" and (together := _rows_for_all_threads(pixels, out)) is not None:
        table_of = functools.partial(_table_of_bytes, pixels, rule, out_range)
        all_values = pixels.nodata is None and pixels.value_range is None
        _parallel.equalize(*together, table_of, _threads.num_threads(), default and all_values)
        return
    if default and (small := _colors.small_images(pixels, out)) is not None:
        _threads.run(small.equalize, contiguous(small.old, small.new, stride=small.stride))
        return
    kernel = _fused_kernel(pixels, rule, out_range, out)
    if kernel is not None:
        planes = _planes(pixels.image, out)
        if len(planes) == 2 and len(planes[0]) >= _threads.num_threads():
            _threads.run(functools.partial(_equalize_planes, kernel), contiguous(*planes))
            return
    in_one_call = rule == "opencv" and pixels.luma is None and pixels.image.dtype == out.dtype == _UINT8
    interleaved = pixels.mask is None and rule != "skimage" and _colors.has_channel_rows(pixels, out)

    def work(at: At, parts: int) -> None:
        if in_one_call and not interleaved and _equalize_in_one_call(pixels, out_range, at, out, parts):
            return
        table = lookup_table(_count_unit(pixels, edges, at, parts), rule, pixels.image.dtype, out_range)
        _apply_unit(pixels, table, edges, at, out, parts)

    _over(work, _units(pixels, interleaved))


def _equalize_in_one_call(pixels: Pixels, out_range: OutRange | None, at: At, out: Array, parts: int) -> bool:
    """Equalize a plane of 8 bits on this thread by the default rule; return False if it is better shared."""
    if not 0 < pixels.image[at].size < (_parallel.WORTH_IT if parts > 1 else fast_path.MOST):
        return False
    if (plane := _rows_of(pixels, at, out)) is None:
        return False
    levels = None if out_range is None else (int(out_range.low), int(out_range.high))
    nodata, beside = pixels.nodata_and_beside(-1)
    _part.equalize(*plane, _part.use_of(pixels.value_range, levels, int(nodata), int(beside)))
    return True


def _table_of_bytes(
    pixels: Pixels, rule: str, out_range: OutRange | None, counts: NDArray[np.int64]
) -> Array:
    """Return the table of 256 levels, from the counts of all values."""
    if pixels.nodata is not None:
        counts[int(pixels.nodata)] = 0
    table = lookup_table(counts[pixels.bins_in_range], rule, _UINT8, out_range)
    return _nodata.table_apart(_reference.over_all_values(pixels, table), pixels)


def equalize_by(
    pixels: Pixels, edges: Array | None, table_of: Callable[[NDArray[np.int64]], Array], out: Array
) -> None:
    """Count one image, map it through the table that `table_of` makes of the counts, (1, P, bins)."""
    together = _rows_together(pixels, out)
    if together is None:
        apply(pixels, table_of(histogram(pixels, edges)), edges, out)
        return

    def full_table_of(counts: NDArray[np.int64]) -> Array:
        table = table_of(counts[pixels.bins_in_range][None, None])
        return _reference.over_all_values(pixels, table)[0, 0]

    image, mask, new = together
    if image.size >= _parallel.WORTH_IT and (threads := _threads.num_threads()) > 1:
        _parallel.equalize(image, mask, new, full_table_of, threads)
        return
    counts, space = np.zeros(256, np.int64), workspace()  # every line costs: the pixels evict Python
    _histogram.histogram.u8(image, space.counters, counts)
    _lut.apply.u8(image, full_table_of(counts), space.lookup, new)


def histogram_distance(histogram: NDArray[np.int64], shares: NDArray[np.int64]) -> float:
    """Return half the L1 distance of two normalised histograms: see `shots.distance`."""
    result = np.empty(1)
    _distances.distance.f64(np.ravel(histogram), _UNIT, shares.reshape(-1), result)
    return float(result[0])


_UNIT = float(_shots.UNIT)


def _equalize_planes(kernel: Callable[..., None], piece: tuple[Array, ...]) -> None:
    """Equalize (N, D, H, W) contiguous planes, of image and output, in one call."""
    planes, out = piece
    new = out if served(out) else np.empty(out.shape, out.dtype.newbyteorder("="))
    rows = (-1, planes.shape[-1])
    kernel(native(planes).reshape(rows), len(planes), workspace().memory, new.reshape(rows))
    if new is not out:
        np.copyto(out, new)


def _planes(*images: Array) -> list[Array]:
    """Return (N, C, D, H, W) images as (N * C, D, H, W) views, as many as can be."""
    if all(image.flags.c_contiguous for image in images):
        return [image.reshape(-1, *image.shape[2:]) for image in images]
    return [image[:, 0] for image in images if image.shape[1] == 1]


def _fused_kernel(
    pixels: Pixels, rule: str, out_range: OutRange | None, out: Array
) -> Callable[..., None] | None:
    """Return the kernel that equalizes a plane in one call, where there is one for these."""
    image = pixels.image
    special = pixels.luma or pixels.mask is not None or pixels.nodata is not None or out_range is not None
    if special or image.size == 0 or image[0, 0].size >= fast_path.MOST:
        return None
    if not (image[0, 0].flags.c_contiguous and out[0, 0].flags.c_contiguous):
        return None
    return kernel_of_rule(image.dtype.newbyteorder("="), image[0, 0].size, rule, image.size)


def _rows_for_all_threads(pixels: Pixels, out: Array) -> _Rows | None:
    """Return the rows of one 8-bit plane that all threads equalize in one call."""
    if pixels.image.size < _parallel.WORTH_IT or _threads.num_threads() == 1:
        return None
    if not _is_plane_of_bytes(pixels, out):
        return None
    return _rows_of(pixels, (0, 0), out)


def _rows_together(pixels: Pixels, out: Array) -> _Rows | None:
    """Return the rows of one 8-bit plane all of whose pixels are counted."""
    if pixels.mask is not None or pixels.nodata is not None or not _is_plane_of_bytes(pixels, out):
        return None
    return _rows_of(pixels, (0, 0), out)


def _is_plane_of_bytes(pixels: Pixels, out: Array) -> bool:
    """Tell whether an image and its output are one plane of 8 bits, neither empty nor too large."""
    image = pixels.image
    if image.dtype != _UINT8 or out.dtype != _UINT8 or image.shape[:2] != (1, 1):
        return False
    return 0 < image.size < fast_path.MOST


class _Rows(NamedTuple):
    """The rows of a plane, of its mask if it has one, and of its output."""

    image: Array
    mask: Array | None
    out: Array


def _rows_of(pixels: Pixels, at: At, out: Array) -> _Rows | None:
    """Return the rows of a plane of 8 bits as they are counted best; None where that would take a copy."""
    image = pixels.image[at]
    if pixels.mask is None:
        found = _rows_to_count(image, out[at])
        return None if found is None else _Rows(found[0], None, found[1])
    found = _rows_to_count(image, mask_of(pixels, at[0], image), out[at])
    return None if found is None else _Rows(*found)


def _rows_to_count(*planes: Array) -> list[Array] | None:
    """Return the rows of planes, joined where they are counted best so; None if they are not contiguous."""
    return rows(*planes, join=_tiers.in_use().joins_rows)


# Counting ------------------------------------------------------------------------------------------


def _count_values(pixels: Pixels, at: At, parts: int) -> NDArray[np.int64]:
    """Count an integer plane, from the smallest value up."""
    counts = _count_bits(pixels, at, parts)
    dtype = pixels.image.dtype
    if dtype.kind == "i":
        counts = np.roll(counts, len(counts) // 2)
    if pixels.nodata is not None:
        counts[int(pixels.nodata) - _limits(dtype)[0]] = 0
    return counts


def _count_bits(pixels: Pixels, at: At, parts: int) -> NDArray[np.int64]:
    """Count a plane of 8- or 16-bit elements by their bit pattern."""
    plane = bits(pixels.image[at])
    in_rows = _rows_to_count(plane) if pixels.mask is None else None
    if in_rows is None:
        return _count_masked(plane, mask_of(pixels, at[0], plane), parts)
    kernel = _histogram.histogram.u8 if plane.dtype == _UINT8 else _histogram.histogram_16.u16

    def count(piece: Array, counts: NDArray[np.int64]) -> None:
        kernel(piece, workspace().counters, counts)

    return add_up(count, split(parts, in_rows[0]), (_rules.levels_of(plane.dtype),))


def _count_masked(plane: Array, mask: Array, parts: int) -> NDArray[np.int64]:
    """Count the pixels of a plane of unsigned integers whose mask is not zero."""
    levels = (_rules.levels_of(plane.dtype),)
    in_rows = _rows_to_count(plane, mask) if plane.dtype == _UINT8 else None
    if in_rows is None:
        kernel = getattr(_histogram.histogram_strided, tag(plane))
        return add_up(kernel, split(parts, plane, mask), levels)
    by_rows = _histogram.histogram_masked.u8

    def count(pixels: Array, valid: Array, counts: NDArray[np.int64]) -> None:
        space = workspace()
        by_rows(pixels, valid, space.pixels, space.counters, counts)

    return add_up(count, split(parts, *in_rows), levels)


def _count_bins(pixels: Pixels, at: At, edges: Array, parts: int) -> NDArray[np.int64]:
    """Count a float32 or float64 plane by bin."""
    plane = native(pixels.image[at])
    plain_rows = pixels.mask is None and pixels.nodata is None and len(edges) <= 1 << 15
    in_rows = rows(plane) if plain_rows else None
    if in_rows is not None and len(edges) <= 257:
        few_bins = getattr(_float_bins.histogram_few_bins_rows, tag(plane))

        def count_few(piece: Array, counts: NDArray[np.int64]) -> None:
            space = workspace()
            few_bins(piece, edges, space.found, space.pixels, space.counters, counts)

        return add_up(count_few, split(parts, in_rows[0]), (256,))[: len(edges) - 1]
    if in_rows is not None:
        by_rows = getattr(_float_bins.histogram_bins_rows, tag(plane))

        def count(piece: Array, counts: NDArray[np.int64]) -> None:
            by_rows(piece, edges, workspace().found, workspace().counters, counts)

        return add_up(count, split(parts, in_rows[0]), (len(edges) - 1,))
    kernel = getattr(_float_bins.histogram_bins, tag(plane))
    pieces = split(parts, plane, mask_of(pixels, at[0], plane))
    return add_up(kernel, [(*piece, _nan(pixels), edges) for piece in pieces], (len(edges) - 1,))


def _count_halves(pixels: Pixels, at: At, edges: Array, parts: int) -> NDArray[np.int64]:
    """Count a float16 plane by bin: first by value, of which there are 65,536."""
    values = _halves()
    index, inside = _reference.bin_index(values, edges)
    if pixels.nodata is not None:
        inside &= values != pixels.nodata
    counts = np.zeros(len(edges) - 1, np.int64)
    np.add.at(counts, index[inside], _count_bits(pixels, at, parts)[inside])
    return counts


def _extremes_of(pixels: Pixels, at: At, parts: int) -> tuple[Any, Any]:
    """Return the smallest and largest finite counted value; 0 and 1 where there is none."""
    plane = native(pixels.image[at])
    in_rows = rows(plane) if pixels.mask is None and pixels.nodata is None else None
    if in_rows is not None:
        return _extremes_of_rows(in_rows[0], parts)
    kernel, nodata = getattr(_extremes.extremes, tag(plane)), _nan(pixels)
    pieces = [(*piece, nodata) for piece in split(parts, plane, mask_of(pixels, at[0], plane))]
    limits = np.tile(np.array([np.inf, -np.inf], plane.dtype), (len(pieces), 1))
    _threads.run(lambda i: kernel(*pieces[i], limits[i]), range(len(pieces)))
    low, high = limits[:, 0].min(), limits[:, 1].max()
    return (low, high) if low <= high else (0.0, 1.0)


def _extremes_of_rows(plane: Array, parts: int) -> tuple[Any, Any]:
    """Return the smallest and largest finite value of contiguous rows; 0 and 1 where there is none."""
    ranks = np.dtype(f"i{plane.itemsize}")
    least, most = _limits(ranks)
    pieces = split(parts, plane.view(ranks))
    limits = np.tile(np.array([most, least], ranks), (len(pieces), 1))
    kernel = getattr(_extremes.extremes_rows, tag(limits))
    _threads.run(lambda i: kernel(*pieces[i], limits[i]), range(len(pieces)))
    ends = np.array([limits[:, 0].min(), limits[:, 1].max()])
    if ends[0] > ends[1]:
        return 0.0, 1.0
    low, high = (ends ^ (ends >> (8 * ranks.itemsize - 1) & most)).view(plane.dtype) + 0  # no -0
    return low, high


def _extremes_of_halves(pixels: Pixels, at: At, parts: int) -> tuple[Any, Any]:
    """Return the smallest and largest finite counted value of a float16 plane; 0 and 1 where there is none.

    Its values are counted first: there are only 65,536.
    """
    values = _halves()
    found = np.isfinite(values) & (_count_bits(pixels, at, parts) > 0)
    if pixels.nodata is not None:
        found &= values != pixels.nodata
    counted = values[found]
    return (counted.min(), counted.max()) if counted.size else (0.0, 1.0)


# Mapping -------------------------------------------------------------------------------------------


def _value_table(pixels: Pixels, edges: Array | None, table: Array, at: At) -> Array:
    """Return the table with one entry a bit pattern, contiguous, that maps nodata to itself."""
    dtype = pixels.image.dtype
    if edges is not None:  # float16
        values = _halves()
        if np.isnan(table[0]):  # nothing was counted
            return values.astype(table.dtype)
        full = _reference.interpolate(values, edges[at], table)
        (full,) = _nodata.apart([full], pixels)
        passes = ~np.isfinite(values) | _nodata.is_nodata([values], pixels)
        return np.where(passes, values, full)
    table = _nodata.table_apart(table, pixels)
    return np.roll(table, len(table) // 2) if dtype.kind == "i" else np.ascontiguousarray(table)


def _apply_values(pixels: Pixels, at: At, table: Array, out: Array, parts: int) -> None:
    """Map a plane of 8- or 16-bit elements through a table with one entry a bit pattern."""
    plane = bits(pixels.image[at])
    if out.dtype.kind == "i":
        table, out = bits(table), bits(out)
    in_rows = rows(plane, out)
    if in_rows is not None and plane.dtype == table.dtype == _UINT8:
        kernel = _lut.apply.u8

        def work(piece: tuple[Array, ...]) -> None:
            kernel(piece[0], table, workspace().lookup, piece[1])
    else:
        by_rows = _lut.apply_to_float if plane.dtype == _UINT8 else _lut.apply_16
        kernel = getattr(by_rows if in_rows else _lut.apply_strided, tag(plane, table))

        def work(piece: tuple[Array, ...]) -> None:
            kernel(piece[0], table, piece[1])

    _threads.run(work, split(parts, *(in_rows or [plane, out])))


def _apply_interpolated(pixels: Pixels, at: At, edges: Array, table: Array, out: Array, parts: int) -> None:
    """Map a float32 or float64 plane."""
    plane = native(pixels.image[at])
    if np.isnan(table[0]):  # nothing was counted
        np.copyto(out, plane)
        return
    if not np.isfinite(table).all():  # between such levels np.interp has rules of its own
        only = replace(pixels, image=plane[None, None], mask=None)
        _reference.apply(only, table[None, None], edges[None, None], out[None, None])
        return
    in_rows = rows(plane, out)
    centres = _reference.centres_of(edges).astype(np.float64)
    curve: tuple[Any, ...] = (edges, centres, _curve_of(centres, table.astype(np.float64)))
    if pixels.nodata is not None:
        curve = (*pixels.nodata_and_beside(np.nan), *curve)
    variant = "" if pixels.nodata is None else "_nodata"
    if in_rows is not None:
        by_rows = getattr(getattr(_interpolate, f"apply_interpolated_rows{variant}"), tag(plane))
        _threads.run(
            lambda piece: by_rows(piece[0], *curve, workspace().found, piece[1]), split(parts, *in_rows)
        )
        return
    kernel = getattr(getattr(_interpolate, f"apply_interpolated{variant}"), tag(plane))
    _threads.run(lambda piece: kernel(piece[0], *curve, piece[1]), split(parts, plane, out))


def _curve_of(centres: Array, levels: Array) -> NDArray[np.float64]:
    """Return the lines between levels at the bins' centres: see `histeq_kernels/cpu/lut/interpolate.py`."""
    curve = np.zeros((len(centres) + 2, 4))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        curve[1:-2, _interpolate.SLOPE] = np.diff(levels) / np.diff(centres)
    curve[1:-2, _interpolate.CENTRE] = centres[:-1]
    curve[0, _interpolate.LEVEL], curve[1:-1, _interpolate.LEVEL] = levels[0], levels
    curve[:-2, _interpolate.END] = centres
    curve[-1, [_interpolate.SLOPE, _interpolate.LEVEL]] = 1, -0.0  # which adds nothing, also to -0
    return curve


# Shared --------------------------------------------------------------------------------------------


def _units(pixels: Pixels, interleaved: bool) -> list[At]:
    """List what is worked on at once: images with interleaved channels, (n,), or planes, (n, p)."""
    images, histograms = pixels.histograms
    if interleaved:
        return [(n,) for n in range(images)]
    return [(n, p) for n in range(images) for p in range(histograms)]


def _over(work: Callable[[At, int], None], units: list[At]) -> None:
    """Call work(unit, parts): many units at once in one part each, or one by one split into parts."""
    threads = _threads.num_threads()
    if len(units) >= threads > 1:
        _threads.run(lambda at: work(at, 1), units)
    else:
        for at in units:
            work(at, threads)


def _nan(pixels: Pixels) -> float:
    """Return nodata as the kernels of floating images take it: NaN where there is none."""
    return np.nan if pixels.nodata is None else float(pixels.nodata)


@functools.cache
def _halves() -> NDArray[np.float16]:
    """Return every float16 by its bit pattern."""
    return np.arange(_rules.levels_of(np.float16), dtype=np.uint16).view(np.float16)
