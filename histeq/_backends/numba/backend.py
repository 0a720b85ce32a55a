"""The Numba backend: compiled CPU kernels on as many threads as `histeq.set_num_threads` allows.

A batch goes image by image over the threads; a single large image is split into pieces. 16-bit signed
integers are served by the unsigned kernels: the same bits, with the counts and tables turned by half.
float16 is served by them too: it has 65,536 values, so that its table has one entry a value.

This file serves grey planes and `_colors.py` colour; `_planes.py` brings both into the form kernels take.
What needs neither goes through `fast_path.py`.
"""

from __future__ import annotations  # closures are made in every call: their annotations shall cost nothing

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from histeq_kernels.cpu import histogram as _count
from histeq_kernels.cpu import lut as _lut
from histeq_kernels.cpu import table as _table
from histeq_kernels.cpu.tiers import tier
from numpy.typing import NDArray

from histeq._backends.numba import color as _colors
from histeq._backends.numba import fast_path
from histeq._backends.numba import parallel as _shared
from histeq._backends.numba.clahe import apply_tiles, clahe, tile_tables
from histeq._backends.numba.views import add_up, bits, mask_of, native, rows, served, split, tag, workspace
from histeq._backends.numpy import backend as _reference
from histeq._backends.numpy.backend import (
    copy_alpha,
    edges_between,
    empty_like,
    match_table,
    match_values,
    overlap,
)
from histeq._core import rules as _rules
from histeq._core import threads as _threads
from histeq._core.backend import Pixels

__all__ = [
    "apply", "apply_tiles", "bin_edges", "clahe", "copy_alpha", "device", "empty_like", "equalize",
    "fast_path", "histogram", "lookup_table", "match_table", "match_values", "name", "overlap", "tile_tables",
]  # fmt: skip

Array = NDArray[Any]
At = tuple[int, ...]  # which plane: (n, p); or image: (n,)

name = "numba"
_UINT8 = np.dtype(np.uint8)


def device() -> str:
    """Return the name of the processor that does the work."""
    threads = _threads.num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}, instructions: {tier()}"


def bin_edges(pixels: Pixels, bins: int, value_range: tuple[float, float] | None) -> Array:
    """Return the edges of the bins of a floating image, (N, P, bins + 1), in its dtype."""
    if value_range is not None or pixels.image.dtype.itemsize == 2:
        return _reference.bin_edges(pixels, bins, value_range)
    dtype = pixels.image.dtype.newbyteorder("=")
    edges = np.empty((*pixels.image.shape[:2], bins + 1), dtype)

    def work(at: At, parts: int) -> None:
        low, high = _extremes(pixels, at, parts)
        edges[at] = edges_between(low, high, bins, dtype)

    _over(work, [(n, p) for n in range(edges.shape[0]) for p in range(edges.shape[1])])
    return edges


def histogram(pixels: Pixels, edges: Array | None) -> NDArray[np.int64]:
    """Count the pixels: (N, P, levels or bins), int64."""
    images, planes = pixels.image.shape[:2]
    planes = 1 if pixels.luma else planes
    length = _rules.levels_of(pixels.image.dtype) if edges is None else edges.shape[-1] - 1
    counts = np.empty((images, planes, length), np.int64)
    interleaved = pixels.mask is None and _colors.has_channel_rows(pixels)

    def work(at: At, parts: int) -> None:
        counts[at] = _count_unit(pixels, edges, at, parts)

    _over(work, _units(pixels, interleaved))
    return counts


def _count_unit(pixels: Pixels, edges: Array | None, at: At, parts: int) -> NDArray[np.int64]:
    """Count an image's interleaved channels, its luma, or one plane."""
    if len(at) == 1:
        return _colors.count_channels(pixels, at[0], parts)
    if pixels.luma:
        return _colors.count_luma(pixels, at[0], parts)
    if edges is None:
        return _count_values(pixels, at, parts)
    if pixels.image.dtype.itemsize == 2:
        return _count_halves(pixels, at, edges[at], parts)
    return _count_bins(pixels, at, edges[at], parts)


def lookup_table(
    counts: NDArray[np.int64], rule: str, dtype: np.dtype, out_range: tuple[float, float] | None
) -> Array:
    """Return the table of a rule for each histogram: (..., levels)."""
    if rule == "skimage":
        return _reference.lookup_table(counts, rule, dtype, out_range)
    bottom, top = _limits(dtype)
    low, high = (bottom, top) if out_range is None else (int(out_range[0]), int(out_range[1]))
    table = np.empty(counts.shape, _rules.table_dtype(rule, dtype))
    kernel, sums = getattr(getattr(_table, f"table_{rule}"), tag(table)), workspace().sums
    lines = np.ascontiguousarray(counts).reshape(-1, counts.shape[-1])
    for one, levels in zip(lines, table.reshape(lines.shape), strict=True):
        span = _rules.top(one, high - low, out_range) if rule == "vips" else high - low
        kernel(one, bottom, low, span, sums, levels)
    return table


@functools.cache
def _limits(dtype: np.dtype) -> tuple[int, int]:
    """Return the smallest and the largest value of an integer dtype."""
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def apply(pixels: Pixels, table: Array, edges: Array | None, out: Array) -> None:
    """Map every pixel through its table into `out`; masks play no part."""
    target = out if served(out) else np.empty_like(out, out.dtype.newbyteorder("="))
    interleaved = table.dtype == _UINT8 and _colors.has_channel_rows(pixels, out)

    def work(at: At, parts: int) -> None:
        _apply_unit(pixels, table[at], edges, at, target, parts)

    _over(work, _units(pixels, interleaved))
    if target is not out:
        np.copyto(out, target)


def _apply_unit(pixels: Pixels, table: Array, edges: Array | None, at: At, out: Array, parts: int) -> None:
    """Map an image's interleaved channels, its luma, or one plane."""
    if len(at) == 1:
        _colors.apply_channels(pixels, at[0], table, out[at], parts)
    elif pixels.luma:
        _colors.apply_luma(pixels, at[0], np.ascontiguousarray(table), out[at[0]], parts)
    elif pixels.image.dtype.itemsize > 2:
        assert edges is not None
        _apply_interpolated(pixels, at, edges[at], table, out[at], parts)
    else:
        _apply_values(pixels, at, _value_table(pixels, edges, table, at), out[at], parts)


def equalize(
    pixels: Pixels, rule: str, out_range: tuple[float, float] | None, edges: Array | None, out: Array
) -> None:
    """Do histogram, lookup_table and apply at once, image by image while it is in the cache."""
    dtype = pixels.image.dtype
    if not served(out):
        apply(pixels, lookup_table(histogram(pixels, edges), rule, dtype, out_range), edges, out)
        return
    lines = _shareable(pixels, rule, out)
    if lines is not None:

        def table_of(counts: NDArray[np.int64]) -> Array:
            return lookup_table(counts, rule, _UINT8, out_range)

        default = rule == "opencv" and out_range is None
        _shared.equalize(lines[0], table_of, lines[1], _threads.num_threads(), default)
        return
    kernel = _kernel_for_planes(pixels, rule, out_range, out)

    def work(at: At, parts: int) -> None:
        if kernel is not None and parts == 1 and len(at) == 2:
            old, new = (one[at].reshape(-1, one.shape[-1]) for one in (pixels.image, out))
            kernel(old, workspace().memory, new)
            return
        table = lookup_table(_count_unit(pixels, edges, at, parts), rule, dtype, out_range)
        _apply_unit(pixels, table, edges, at, out, parts)

    interleaved = pixels.mask is None and rule != "skimage" and _colors.has_channel_rows(pixels, out)
    _over(work, _units(pixels, interleaved))


def _kernel_for_planes(
    pixels: Pixels, rule: str, out_range: tuple[float, float] | None, out: Array
) -> Callable[..., None] | None:
    """Return the kernel that does everything at once with each plane, where there is one."""
    image = pixels.image
    special = pixels.luma or pixels.mask is not None or pixels.nodata is not None or out_range is not None
    if special or image.size == 0 or not served(image) or image[0, 0].size >= fast_path.MOST:
        return None
    if not (image[0, 0].flags.c_contiguous and out[0, 0].flags.c_contiguous):
        return None
    return fast_path.whole_kernel(image.dtype, image[0, 0].size, rule)


def _shareable(pixels: Pixels, rule: str, out: Array) -> list[Array] | None:
    """Return the rows of image and output where the threads can share both passes over one 8-bit image."""
    image = pixels.image
    if (
        image.dtype != _UINT8
        or image.shape[:2] != (1, 1)
        or not _shared.WORTH_IT <= image.size < fast_path.MOST
    ):
        return None
    if (
        rule == "skimage"
        or pixels.mask is not None
        or pixels.nodata is not None
        or _threads.num_threads() == 1
    ):
        return None
    return rows(image[0, 0], out[0, 0], join=_count.along_rows())


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
    length = _rules.levels_of(plane.dtype)
    lines = rows(plane, join=_count.along_rows()) if pixels.mask is None else None
    if lines is None:
        kernel = getattr(_count.histogram_strided, tag(plane))
        return add_up(kernel, split(parts, plane, mask_of(pixels, at[0], plane)), (length,))
    kernel = _count.counting(plane.size // parts) if plane.dtype == _UINT8 else _count.histogram_direct.u16

    def count(piece: Array, counts: NDArray[np.int64]) -> None:
        kernel(piece, workspace().counters, counts)

    return add_up(count, split(parts, lines[0]), (length,))


def _count_bins(pixels: Pixels, at: At, edges: Array, parts: int) -> NDArray[np.int64]:
    """Count a float32 or float64 plane by bin."""
    plane = native(pixels.image[at])
    lines = rows(plane) if pixels.mask is None and pixels.nodata is None and len(edges) <= 1 << 15 else None
    if lines is not None:
        by_rows = getattr(_count.histogram_bins_rows, tag(plane))

        def count(piece: Array, counts: NDArray[np.int64]) -> None:
            by_rows(piece, edges, workspace().found, workspace().counters, counts)

        return add_up(count, split(parts, lines[0]), (len(edges) - 1,))
    kernel = getattr(_count.histogram_bins, tag(plane))
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


def _extremes(pixels: Pixels, at: At, parts: int) -> tuple[Any, Any]:
    """Return the smallest and largest finite counted value; 0 and 1 where there is none."""
    plane = native(pixels.image[at])
    lines = rows(plane) if pixels.mask is None and pixels.nodata is None else None
    pieces: list[tuple[Any, ...]]
    if lines is not None:
        kernel = getattr(_count.extremes_rows, tag(plane))
        pieces = split(parts, lines[0])
    else:
        kernel, nodata = getattr(_count.extremes, tag(plane)), _nan(pixels)
        pieces = [(*piece, nodata) for piece in split(parts, plane, mask_of(pixels, at[0], plane))]
    limits = np.tile(np.array([np.inf, -np.inf], plane.dtype), (len(pieces), 1))
    _threads.run(lambda i: kernel(*pieces[i], limits[i]), range(len(pieces)))
    low, high = limits[:, 0].min(), limits[:, 1].max()
    return (low, high) if low <= high else (0.0, 1.0)


# Mapping -------------------------------------------------------------------------------------------


def _value_table(pixels: Pixels, edges: Array | None, table: Array, at: At) -> Array:
    """Return the table with one entry a bit pattern, contiguous, that maps nodata to itself."""
    dtype = pixels.image.dtype
    if edges is not None:  # float16
        values = _halves()
        if np.isnan(table[0]):  # nothing was counted
            return values.astype(table.dtype)
        full = _reference.interpolate(values, edges[at], table)
        passes = ~np.isfinite(values) | (values == _nan(pixels))
        full[passes] = values[passes]
        return full
    if pixels.nodata is not None:
        table = table.copy()
        table[int(pixels.nodata) - _limits(dtype)[0]] = pixels.nodata
    return np.roll(table, len(table) // 2) if dtype.kind == "i" else np.ascontiguousarray(table)


def _apply_values(pixels: Pixels, at: At, table: Array, out: Array, parts: int) -> None:
    """Map a plane of 8- or 16-bit elements through a table with one entry a bit pattern."""
    plane = bits(pixels.image[at])
    if out.dtype.kind == "i":
        table, out = table.view(np.uint16), out.view(np.uint16)
    lines = rows(plane, out)
    if lines is not None and plane.dtype == table.dtype == _UINT8:
        kernel = _lut.mapping(plane.size // parts)

        def work(piece: tuple[Array, ...]) -> None:
            kernel(piece[0], table, workspace().pairs, piece[1])
    else:
        in_rows = _lut.apply_lut if plane.dtype == _UINT8 else _lut.apply_direct
        kernel = getattr(in_rows if lines else _lut.apply_lut_strided, tag(plane, table))

        def work(piece: tuple[Array, ...]) -> None:
            kernel(piece[0], table, piece[1])

    _threads.run(work, split(parts, *(lines or [plane, out])))


def _apply_interpolated(pixels: Pixels, at: At, edges: Array, table: Array, out: Array, parts: int) -> None:
    """Map a float32 or float64 plane."""
    plane = native(pixels.image[at])
    if np.isnan(table[0]):  # nothing was counted
        np.copyto(out, plane)
        return
    lines = rows(plane, out)
    centres = _reference.centres_of(edges).astype(np.float64)
    levels = table.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        slopes = np.diff(levels) / np.diff(centres)
    curve = (_nan(pixels), edges, centres, levels, slopes)
    if lines is not None:
        by_rows = getattr(_lut.apply_interpolated_rows, tag(plane))
        _threads.run(
            lambda piece: by_rows(piece[0], *curve, workspace().found, piece[1]), split(parts, *lines)
        )
        return
    kernel = getattr(_lut.apply_interpolated, tag(plane))
    _threads.run(lambda piece: kernel(piece[0], *curve, piece[1]), split(parts, plane, out))


# Shared --------------------------------------------------------------------------------------------


def _units(pixels: Pixels, interleaved: bool) -> list[At]:
    """List what is worked on at once: images with interleaved channels, (n,), or planes, (n, p)."""
    images, planes = pixels.image.shape[:2]
    if interleaved:
        return [(n,) for n in range(images)]
    return [(n, p) for n in range(images) for p in range(1 if pixels.luma else planes)]


def _over(work: Callable[[At, int], None], units: list[At]) -> None:
    """Call work(unit, parts): many units at once in one part each, or one by one split into parts."""
    threads = _threads.num_threads()
    if len(units) >= threads > 1:
        _threads.run(lambda at: work(at, 1), units)
    else:
        for at in units:
            work(at, threads)


def _nan(pixels: Pixels) -> float:
    """Return nodata for the kernels of floating images, NaN where there is none."""
    return np.nan if pixels.nodata is None else float(pixels.nodata)


@functools.cache
def _halves() -> NDArray[np.float16]:
    """Return every float16 by its bit pattern."""
    return np.arange(_rules.levels_of(np.float16), dtype=np.uint16).view(np.float16)
