"""CLAHE on the CPU kernels.

Integers with contiguous rows, and the luma of 8-bit colours, are counted and blended where they are.
Everything else (masks, nodata, floating images, other strides) goes through the same kernels in small parts:
each is converted to an integer image of bins, and its levels back to pixels.
"""

from __future__ import annotations  # as in backend.py

import functools
import itertools
import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from histeq_kernels.cpu import tiers as _tiers
from histeq_kernels.cpu.clahe import blend as _blend
from histeq_kernels.cpu.clahe import blend_packed as _blend_packed
from histeq_kernels.cpu.clahe import luma as _luma
from histeq_kernels.cpu.clahe import parameters as _parameters
from histeq_kernels.cpu.clahe import ranks as _ranks
from histeq_kernels.cpu.clahe import small_ranks as _small_ranks
from histeq_kernels.cpu.clahe import tile_counts as _counted
from histeq_kernels.cpu.clahe import tile_tables as _tables
from histeq_kernels.cpu.clahe import tile_tables_16 as _tables_16
from histeq_kernels.cpu.histogram import grey as _histogram
from histeq_kernels.cpu.ycrcb import strided as _strided
from numpy.typing import NDArray

from histeq._backends.numba import color as _colors
from histeq._backends.numba.views import bits, served, tag, workspace
from histeq._backends.numba.views import rows as contiguous_rows
from histeq._backends.numpy import clahe as _reference
from histeq._core import nodata as _nodata
from histeq._core import rules as _rules
from histeq._core import threads as _threads
from histeq._core import tile_grid as _tiles
from histeq._core.backend import Pixels
from histeq._core.tile_grid import Grid, Levels, Neighbours
from histeq._core.tuning import threshold

Array = NDArray[Any]
At = tuple[int, int]  # which histogram of which image: (n, p)

_PART = 1 << 16  # pixels converted at once
_PIECE = threshold("clahe piece", 1 << 18)
"""Pixels worth a thread of their own: they take 100 microseconds, and handing them over 25 to 150."""
_NARROW, _WIDE = 0.5, 24
"""Bins in use for each pixel of a tile of 16 bits: from where on ranks are faster than tables, and from where
on it is faster to compute the ranks of pixels than those of all bins."""
_KEPT = 1 << 23  # bytes of tables kept by a thread: those of 64 tiles of 16 bits


class _Space(threading.local):
    """What the kernels of one thread work in, besides the counters of every kernel."""

    def __init__(self) -> None:
        self.sums = np.empty(_tables.SUMS, np.int32)
        self.packed = np.empty(65536, np.uint64)
        self.found = np.empty(_blend_packed.FOUND, np.uint32)
        self.values = np.empty(256, np.int64)
        self._tables = self._band = np.empty(0, np.uint8)

    def band(self, size: int) -> Array:
        """Return a workspace of some bytes."""
        if size > self._band.size:
            self._band = np.empty(size, np.uint8)
        return self._band

    def tables(self, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        """Return memory for tables, kept unless it is large: fresh memory takes as long as filling it."""
        size = math.prod(shape) * dtype.itemsize
        if size > _KEPT:
            return np.empty(shape, dtype)
        if size > self._tables.size:
            self._tables = np.empty(size, np.uint8)
        return self._tables[:size].view(dtype).reshape(shape)


_space = _Space()


def tile_tables(pixels: Pixels, grid: Grid, clip_limit: float, levels: Levels, edges: Array | None) -> Array:
    """Return the table of every tile: (N, P, D, H, W, bins)."""
    tables = np.empty((*pixels.histograms, *grid.tiles, levels.bins), levels.table_dtype)

    def work(at: At, threads: int) -> None:
        _make_tables(pixels, at, grid, clip_limit, levels, edges, threads, tables[at])

    _over_planes(work, pixels.histograms)
    return tables


def tables_of_tiles(counts: Array, clip_limit: float, levels: Levels) -> tuple[Array, NDArray[np.bool_]]:
    """Return the tables of tiles with these counts, and which tiles are empty."""
    tables, empty = np.empty(counts.shape, levels.table_dtype), np.empty(counts.shape[:-1], np.bool_)
    histograms, flat = np.ascontiguousarray(counts).reshape(-1, levels.bins), tables.reshape(-1, levels.bins)
    parameters, flags = _table_parameters(levels), empty.reshape(-1).view(np.uint8)
    kernel = getattr(_counted.tables_of_tiles, tag(tables))

    def work(part: tuple[int, int]) -> None:
        memory = workspace().counters, _space.sums, np.empty(levels.bins, np.int64)
        kernel(histograms, *part, clip_limit, parameters, *memory, flat, flags)

    _over_ranges(work, len(flat), min(_threads.num_threads(), flat.size // _PIECE))
    return tables, empty


def tile_histograms(
    pixels: Pixels,
    grid: Grid,
    origin: tuple[int, ...],
    first: tuple[int, ...],
    levels: Levels,
    edges: Array | None,
    counts: Array,
) -> bool:
    """Add the counts of a window of integers in contiguous rows to those of its tiles.

    Return False, having done nothing, for any other window.
    """
    image, threads = pixels.image, _threads.num_threads()
    if edges is not None or pixels.luma or pixels.mask is not None or not counts.flags.c_contiguous:
        return False
    if not served(image) or (image.strides[4] != image.itemsize and image.shape[4] > 1):
        return False
    parts, begins = _parts_of_tiles(grid, origin, image.shape[2:], first, counts.shape[3:5])
    threads = min(threads, image[0, 0].size // _PIECE)
    if len(begins) - 1 < threads or image[0, 0].size >= _tables.MAX_AREA:
        return False  # the pixels of a tile shall be shared by threads
    whole = len(parts) == 1 and image[0, 0].flags.c_contiguous and _tiers.in_use().joins_rows
    if whole:
        parts = _int64(parts[0, 0], 0, 1, 0, 1, 0, image[0, 0].size)[None]
    parameters, nodata = _level_parameters(levels, levels.first_bin), -1
    if pixels.nodata is not None:
        nodata = int(pixels.nodata) & ((1 << 8 * image.itemsize) - 1)

    def count(at: At, threads: int) -> None:
        plane, rows = bits(image[at]), counts[at].reshape(-1, levels.bins)
        plane = plane.reshape(1, 1, -1) if whole else plane

        def work(tiles: tuple[int, int]) -> None:
            some = parts[begins[tiles[0]] : begins[tiles[1]]]
            if plane.itemsize == 1:
                memory = workspace().counters, _space.values
                _counted.count_parts.u8(plane, some, parameters, nodata, *memory, rows)
            else:
                _counted.count_parts_16.u16(plane, some, parameters, nodata, workspace().counters, rows)

        _over_ranges(work, len(begins) - 1, min(threads, plane.size // _PIECE))

    _over_planes(count, pixels.histograms)
    return True


def apply_tiles(
    pixels: Pixels,
    tables: Array,
    grid: Grid,
    origin: tuple[int, ...],
    first: tuple[int, ...],
    levels: Levels,
    edges: Array | None,
    out: Array,
) -> None:
    """Blend a window, which begins at `origin`, into `out` by the tables of tiles from `first` on."""
    around = _around(grid, origin, pixels.image.shape[2:], first)

    def work(at: At, threads: int) -> None:
        table = tables[min(at[0], len(tables) - 1), at[1]]
        _blend_tables(pixels, at, table, around, levels, edges, threads, out)

    _over_planes(work, pixels.histograms)


def clahe(
    pixels: Pixels, grid: Grid, clip_limit: float, levels: Levels, edges: Array | None, out: Array
) -> None:
    """Make the tables and blend them plane by plane: few tables are held at a time."""
    around = _around(grid, (0, 0, 0), grid.shape, (0, 0, 0))

    def work(at: At, threads: int) -> None:
        plane, target = _plain(pixels, at, levels), None if pixels.luma else _plain_output(out[at], levels)
        if plane is not None and target is not None and math.prod(grid.tile) < _tables.MAX_AREA:
            first, stop = _bins_in_use(plane, levels)
            if _ranks_serve(plane, stop - first, grid, clip_limit, levels):
                _by_ranks(plane, (first, stop - 1), grid, around, levels, target, threads)
                return
            table = _space.tables((*grid.tiles, stop - first), levels.table_dtype)
            _tables_of(plane, grid, clip_limit, levels, first, threads, table)
            _blend_plane(plane, table, around, _level_parameters(levels, first), target, threads)
            return
        table = np.empty((*grid.tiles, levels.bins), levels.table_dtype)
        _make_tables(pixels, at, grid, clip_limit, levels, edges, threads, table)
        _blend_tables(pixels, at, table, around, levels, edges, threads, out)

    _over_planes(work, pixels.histograms)


def _over_planes(work: Callable[[At, int], None], shape: At) -> None:
    """Call work(plane, threads): many planes at once on one thread each, or one by one on all."""
    threads = _threads.num_threads()
    if shape == (1, 1):
        work((0, 0), threads)
        return
    planes = list(itertools.product(range(shape[0]), range(shape[1])))
    if len(planes) >= threads > 1:
        _threads.run(lambda at: work(at, 1), planes)
    else:
        for at in planes:
            work(at, threads)


def _make_tables(
    pixels: Pixels,
    at: At,
    grid: Grid,
    clip_limit: float,
    levels: Levels,
    edges: Array | None,
    threads: int,
    out: Array,
) -> None:
    """Write the tables of one plane."""
    plane = _plain(pixels, at, levels)
    in_rows = _luma_rows(pixels, levels, pixels.image[at[0]]) if pixels.mask is None else None
    if (plane is None and in_rows is None) or math.prod(grid.tile) >= _tables.MAX_AREA:
        _tables_in_parts(pixels, at, grid, clip_limit, levels, edges, out)
    elif in_rows is not None:
        _tables_of_luma(pixels, in_rows, grid, clip_limit, levels, threads, out)
    elif plane is not None:
        _tables_of(plane, grid, clip_limit, levels, 0, threads, out)


def _blend_tables(
    pixels: Pixels,
    at: At,
    tables: Array,
    around: tuple[Neighbours, ...],
    levels: Levels,
    edges: Array | None,
    threads: int,
    out: Array,
) -> None:
    """Blend one plane."""
    flat = _is_flat(around[0])
    in_rows = _luma_rows(pixels, levels, pixels.image[at[0]], out[at[0]]) if flat else None
    plane, target = _plain(pixels, at, levels), None if pixels.luma else _plain_output(out[at], levels)
    if in_rows is not None:
        _blend_luma(pixels, in_rows, tables[around[0].tiles[0, 0]], around, threads)
    elif plane is not None and target is not None:
        _blend_plane(plane, tables, around, _level_parameters(levels), target, threads)
    elif _are_bytes_in_range(pixels, at, levels, out):
        _blend_bytes_in_range(pixels.image[at], tables, around, levels, threads, out[at])
    else:
        _blend_in_parts(pixels, at, tables, around, levels, edges, out)


def _bins_in_use(plane: Array, levels: Levels) -> tuple[int, int]:
    """Return from which bin to which the tables of an image are needed: of 16 bits few images use all."""
    if plane.itemsize == 1:
        return 0, levels.bins
    limits = np.empty(2, np.int64)
    _tables_16.occupied_bins.u16(plane, _level_parameters(levels), limits)
    return int(limits[0]), int(limits[1]) + 1


# What follows from the grid and the levels is kept: of a small image it would be a third of the time.


@functools.lru_cache(maxsize=16)
def _positions(grid: Grid) -> tuple[Array, ...]:
    """Return the pixel at each position along the three axes, and the size of a tile."""
    return *(grid.positions(axis) for axis in range(3)), _int64(*grid.tile)


@functools.cache
def _indices() -> NDArray[np.int64]:
    """Return 0, 1, 2, ...: the positions within a band."""
    return np.arange(_luma.BAND)


@functools.lru_cache(maxsize=16)
def _around(
    grid: Grid, origin: tuple[int, ...], shape: tuple[int, ...], first: tuple[int, ...]
) -> tuple[Neighbours, ...]:
    """Return the tiles around each pixel of a window, counted from `first`."""
    return tuple(grid.neighbours(axis, origin[axis], shape[axis], first[axis]) for axis in range(3))


@functools.lru_cache(maxsize=16)
def _parts_of_tiles(
    grid: Grid,
    origin: tuple[int, ...],
    shape: tuple[int, ...],
    first: tuple[int, ...],
    tiles: tuple[int, ...],
) -> tuple[NDArray[np.int64], list[int]]:
    """Return the parts of a window that tiles count, by tile, and where the parts of each tile begin.

    `tiles` are how many rows and columns of tiles there are from `first` on.
    """
    high, wide = tiles
    stretches = [grid.stretches(axis, origin[axis], shape[axis]) for axis in range(3)]
    listed = sorted(
        (((z.tile - first[0]) * high + y.tile - first[1]) * wide + x.tile - first[2], *z[1:], *y[1:], *x[1:])
        for z, y, x in itertools.product(*stretches)
    )
    begins = [i for i in range(len(listed)) if i == 0 or listed[i][0] != listed[i - 1][0]] + [len(listed)]
    return np.array(listed, np.int64).reshape(-1, 7), begins


@functools.lru_cache(maxsize=16)
def _level_parameters(levels: Levels, first_bin: int = 0) -> NDArray[np.int64]:
    """Return what the kernels need to know of the levels: see `histeq_kernels/cpu/clahe/parameters.py`."""
    return _parameters_of(levels, _sign_bit(levels), levels.bin_shift, first_bin)


@functools.lru_cache(maxsize=16)
def _table_parameters(levels: Levels) -> NDArray[np.int64]:
    """Return what the kernels need to know that make tables of the counts of bins."""
    return _parameters_of(levels, 0, 0, 0)


def _parameters_of(levels: Levels, sign: int, bin_shift: int, first_bin: int) -> NDArray[np.int64]:
    entries = {
        _parameters.BINS: levels.bins,
        _parameters.LOWEST: levels.lowest,
        _parameters.SPAN: levels.span,
        _parameters.SIGN: sign,
        _parameters.BIN_SHIFT: bin_shift,
        _parameters.FIRST_BIN: first_bin,
        _parameters.LEVEL_SHIFT: levels.shift,
    }
    return _int64(*(entries[i] for i in range(len(entries))))


def _int64(*numbers: int) -> NDArray[np.int64]:
    """Return numbers as an array that nobody changes."""
    array = np.array(numbers, np.int64)
    array.flags.writeable = False
    return array


def _sign_bit(levels: Levels) -> int:
    """Return the bit to flip in an integer so that the smallest value becomes 0."""
    return 1 << (8 * levels.dtype.itemsize - 1) if levels.dtype.kind == "i" else 0


# Planes as they are --------------------------------------------------------------------------------


def _plain(pixels: Pixels, at: At, levels: Levels) -> Array | None:
    """Return a plane of integers that the kernels take as it is; None: any other, and luma."""
    image = pixels.image
    if image.size == 0 or pixels.mask is not None or pixels.nodata is not None or image.dtype.kind == "f":
        return None
    plane = None if pixels.luma else _plain_output(image[at], levels)
    if plane is None or levels.value_range is None or _is_within_range(plane, levels):
        return plane
    return None


def _is_within_range(plane: Array, levels: Levels) -> bool:
    """Tell whether the bins of a plane are its values, none beyond the last, and its levels the pixels."""
    return levels.first_bin == levels.offset == 0 and _bins_in_use(plane, levels)[1] <= levels.bins


def _plain_output(plane: Array, levels: Levels) -> Array | None:
    """Return a plane of integers that the kernels write as it is; None: any other."""
    if not served(plane) or (plane.strides[2] != plane.itemsize and plane.shape[2] > 1):
        return None
    if plane.itemsize == 1 and (levels.bins != 256 or plane.dtype.kind == "i"):
        return None
    return bits(plane) if plane.dtype == levels.dtype and plane.dtype.kind in "iu" else None


def _tables_of(
    plane: Array, grid: Grid, clip_limit: float, levels: Levels, first: int, threads: int, out: Array
) -> None:
    """Write the tables of a plane as it is."""
    positions, tables = _positions(grid), out.reshape(-1, out.shape[-1])
    parameters = _level_parameters(levels, first)
    kernel = _tables.tile_tables.u8 if plane.itemsize == 1 else _tables_16.tile_tables_16.u16

    def work(part: tuple[int, int]) -> None:
        kernel(plane, *positions, *part, clip_limit, parameters, workspace().counters, _space.sums, tables)

    pixels = plane.size + (tables.size // 4 if plane.itemsize > 1 else 0)
    _over_ranges(work, len(tables), min(threads, pixels // _PIECE))


def _blend_plane(
    plane: Array, tables: Array, around: tuple[Neighbours, ...], parameters: Array, out: Array, threads: int
) -> None:
    """Blend a plane as it is."""
    z, y, x = around
    flat = _is_flat(z)

    def work(part: tuple[int, int]) -> None:
        rows = slice(*part)
        cut = y if part == (0, plane.shape[1]) else y.cut(rows)
        memory = (parameters, _space.packed, _space.found)
        if flat and (plane.itemsize == 1 or plane.shape[2] >= _blend.LEAST_WIDTH):
            kernel = _blend.blend_tiles.u8 if plane.itemsize == 1 else _blend.blend_tiles_16.u16
            kernel(plane[:, rows], *cut, *x, tables[z.tiles[0, 0]], *memory, out[:, rows])
        else:
            kernel = getattr(_blend.blend_volume, tag(plane))
            kernel(plane[:, rows], *z, *cut, *x, tables, *memory, out[:, rows])

    _over_rows(work, y, min(threads, plane.size // _PIECE))


def _are_bytes_in_range(pixels: Pixels, at: At, levels: Levels, out: Array) -> bool:
    """Tell whether a plane is one of bytes, in contiguous rows like its output, of which a range has bins."""
    if pixels.luma or pixels.nodata is not None or levels.bin_shift or pixels.image.size == 0:
        return False
    planes = pixels.image[at], out[at]
    return all(p.dtype == np.uint8 and (p.strides[2] == 1 or p.shape[2] == 1) for p in planes)


def _blend_bytes_in_range(
    plane: Array, tables: Array, around: tuple[Neighbours, ...], levels: Levels, threads: int, out: Array
) -> None:
    """Blend bytes by the tables of a range of values, and so as if the tables had all values."""
    whole = _rules.extend(tables, levels.first_bin, np.empty((*tables.shape[:-1], 256), np.uint8))
    parameters = np.zeros_like(_level_parameters(levels))  # levels are not yet pixels
    _blend_plane(plane, whole, around, parameters, out, threads)
    if levels.offset:
        np.add(out, np.uint8(levels.offset), out=out)


def _is_flat(z: Neighbours) -> bool:
    """Tell whether pixels are one slice between equal layers of tables, of which each weighs 1/2."""
    return z.tiles.shape[1] == 1 and z.tiles[0, 0] == z.tiles[1, 0] and z.weights[0, 0] == 0.5


def _by_ranks(
    plane: Array,
    limits: tuple[int, int],
    grid: Grid,
    around: tuple[Neighbours, ...],
    levels: Levels,
    out: Array,
    threads: int,
) -> None:
    """Equalize a plane of 16 bits by ranks instead of tables."""
    _, *positions = _positions(grid)
    (_, y, x), (_, high, wide), area = around, grid.tiles, math.prod(grid.tile)
    parameters, small = _level_parameters(levels), limits[1] - limits[0] > _WIDE * area
    entries = _small_ranks.ENTRIES if small else _ranks.ENTRIES
    ranks, bins = _space.tables((high, wide, entries), np.dtype(np.uint32)), _int64(*limits)
    spreads = np.empty((high, wide, 2), np.int32)

    def rank(part: tuple[int, int]) -> None:
        tiles = ranks.reshape(-1, entries)
        if small:
            results = bins, tiles, spreads.reshape(-1, 2)
            _small_ranks.small_tile_ranks.u16(plane, *positions, *part, parameters, *results)
        else:
            memory = bins, _space.packed
            _ranks.tile_ranks.u16(plane, *positions, *part, parameters, *memory, tiles)

    def blend(part: tuple[int, int]) -> None:
        rows = slice(*part)
        cut = y if part == (0, plane.shape[1]) else y.cut(rows)
        if small:
            tiles = ranks, spreads, parameters, area
            _small_ranks.blend_small_ranks.u16(plane[:, rows], *cut, *x, *tiles, out[:, rows])
        else:
            memory = ranks, parameters, area, _space.packed
            _ranks.blend_ranks.u16(plane[:, rows], *cut, *x, *memory, out[:, rows])

    threads = min(threads, 2 * plane.size // _PIECE)  # a pixel takes three times as long as one of 8 bits
    _over_ranges(rank, high * wide, threads)
    _over_rows(blend, y, threads)


def _ranks_serve(plane: Array, used: int, grid: Grid, clip_limit: float, levels: Levels) -> bool:
    """Tell whether ranks serve a plane better than tables: many bins in use, each clipped to a pixel."""
    area, flat = math.prod(grid.tile), len(plane) == grid.tiles[0] == 1
    if not flat or levels.bins != 65536 or area > 65535 or plane.shape[2] < _blend.LEAST_WIDTH:
        return False
    if used <= _NARROW * area and not _sign_bit(levels):  # tables of signed integers take far longer
        return False
    return _tiles.clip_count(clip_limit, area, levels.bins) == 1


def _luma_rows(pixels: Pixels, levels: Levels, *images: Array) -> _colors.LumaRows | None:
    """Return 8-bit colour images whose luma the kernels take where it is; None: any others."""
    if not pixels.luma or pixels.nodata is not None or levels.bins != 256:
        return None
    return _colors.luma_rows_in_place(pixels.alpha, *images)


def _tables_of_luma(
    pixels: Pixels,
    in_rows: _colors.LumaRows,
    grid: Grid,
    clip_limit: float,
    levels: Levels,
    threads: int,
    out: Array,
) -> None:
    """Write the tables of the luma of a colour image."""
    stride, k, channels = in_rows.stride, _colors.coefficients(pixels), in_rows.channels
    positions, parameters, tables = _positions(grid), _level_parameters(levels), out.reshape(-1, 256)
    kernel = _luma.tile_tables_of_luma.u8

    def work(part: tuple[int, int]) -> None:
        memory = workspace().counters, _space.sums, _space.band(_luma.BAND), _indices()
        kernel(*channels, stride, k, *positions, *part, clip_limit, parameters, *memory, tables)

    _over_ranges(work, len(tables), min(threads, math.prod(grid.shape) // _PIECE))


def _blend_luma(
    pixels: Pixels,
    in_rows: _colors.LumaRows,
    tables: Array,
    around: tuple[Neighbours, ...],
    threads: int,
) -> None:
    """Blend the luma of a colour image of one slice."""
    stride, k, channels = in_rows.stride, _colors.coefficients(pixels), in_rows.channels
    _, y, x = around
    height, width = channels[0].shape[1], x.tiles.shape[1]
    kernel = _luma.blend_tiles_of_luma.u8

    def work(part: tuple[int, int]) -> None:
        cut = y if part == (0, height) else y.cut(slice(*part))
        rows = [channel[:, slice(*part)] for channel in channels]
        memory = _space.packed, _space.found, _space.band(2 * max(_luma.BAND, width))
        kernel(*rows[:3], stride, k, *cut, *x, tables, *memory, *rows[3:])

    _over_ranges(work, height, min(threads, height * width // _PIECE))


def _over_rows(work: Callable[[tuple[int, int]], None], y: Neighbours, threads: int) -> None:
    """Call work((start, stop)) for parts of the rows: whole cells, for each of which tables are prepared."""
    height = y.tiles.shape[1]
    if threads < 2:
        work((0, height))
        return
    ends = np.flatnonzero((y.tiles[:, 1:] != y.tiles[:, :-1]).any(axis=0)) + 1
    cells, parts = len(ends) + 1, 4 * threads
    bounds = [0, *ends[:: max(1, cells // parts)].tolist(), height]
    pieces = -(-parts // cells)  # of a cell, where there are fewer cells than parts
    cut = {a + (b - a) * i // pieces for a, b in itertools.pairwise(bounds) for i in range(pieces)}
    _threads.run(work, itertools.pairwise(sorted(cut | {height})))


def _over_ranges(work: Callable[[tuple[int, int]], None], length: int, threads: int) -> None:
    """Call work((start, stop)) for parts of a length: four a thread, so that one that is late takes fewer."""
    if threads < 2:
        work((0, length))
        return
    parts = min(4 * threads, length)
    bounds = [length * i // parts for i in range(parts + 1)]
    _threads.run(work, itertools.pairwise(bounds))


# Planes in parts -----------------------------------------------------------------------------------


def _tables_in_parts(
    pixels: Pixels,
    at: At,
    grid: Grid,
    clip_limit: float,
    levels: Levels,
    edges: Array | None,
    out: Array,
) -> None:
    """Write the tables of any plane."""
    empty, by_value = np.zeros(grid.tiles, np.bool_), not pixels.luma and levels.dtype.kind != "f"
    kernel, parameters = getattr(_tables.tile_table, tag(out)), _level_parameters(levels)

    def work(tile: tuple[int, ...]) -> None:
        zs, ys, xs = grid.box(tile)
        counts = np.zeros(_rules.levels_of(levels.dtype) if by_value else levels.bins, np.int64)
        rows = max(1, _PART // max(1, len(xs)))
        for z in range(len(zs)):
            for start in range(0, len(ys), rows):
                box = _slices(zs[z : z + 1], ys[start : start + rows], xs)
                if by_value:
                    _count_values(pixels, at, box, counts)
                else:
                    mask = _mask(pixels, at, box, levels, edges)
                    _count(*_bins(pixels, at, box, levels, edges), mask, counts)
        if by_value:
            counts = _counts_of_bins(counts, pixels, levels)
        empty[tile] = not counts.any()
        if not empty[tile]:
            kernel(counts, clip_limit, parameters, np.empty_like(counts), out[tile])

    _threads.run(work, itertools.product(*map(range, grid.tiles)))
    _tiles.fill_empty(out, empty, levels)


def _count_values(pixels: Pixels, at: At, box: Any, counts: NDArray[np.int64]) -> None:
    """Add the counts of some integers, one for each bit pattern, to `counts`."""
    values, mask = bits(pixels.image[at][box]), pixels.mask_of(at[0])
    in_rows = contiguous_rows(values) if mask is None else None
    if in_rows is not None:
        kernel = _histogram.histogram.u8 if values.itemsize == 1 else _histogram.histogram_16.u16
        kernel(in_rows[0], workspace().counters, counts)
        return
    counted = np.ones(values.shape, np.uint8) if mask is None else mask[box].view(np.uint8)
    getattr(_histogram.histogram_strided, tag(values))(values, counted, counts)


def _counts_of_bins(counts: NDArray[np.int64], pixels: Pixels, levels: Levels) -> NDArray[np.int64]:
    """Return the counts of the bins from those of all integers by their bit patterns; nodata has none."""
    if levels.dtype.kind == "i":
        counts = np.roll(counts, len(counts) // 2)
    if pixels.nodata is not None:
        counts[int(pixels.nodata) + _sign_bit(levels)] = 0
    if levels.bin_shift:
        return counts.reshape(levels.bins, -1).sum(axis=1)
    return counts[levels.first_bin : levels.first_bin + levels.bins]


def _slices(*positions: NDArray[np.int64]) -> Any:
    """Return the index that selects these positions from an array: slices where they are consecutive."""
    if all(len(p) and p[-1] - p[0] == len(p) - 1 for p in positions):
        return tuple(slice(int(p[0]), int(p[-1]) + 1) for p in positions)
    return np.ix_(*positions)


def _mask(pixels: Pixels, at: At, box: Any, levels: Levels, edges: Array | None) -> Array | None:
    """Return which of some pixels count, by the mask and the range of values; None: all."""
    mask = pixels.mask_of(at[0])
    mask = None if mask is None else mask[box]
    if levels.value_range is None:
        return mask
    inside = _reference.inside(pixels, *at, box, levels, edges)
    return inside if mask is None else mask & inside


def _count(index: Array, maps: Array | None, mask: Array | None, counts: NDArray[np.int64]) -> None:
    """Add the counts of some bins to `counts`."""
    counted = maps if mask is None else mask if maps is None else maps & mask
    if counted is None:
        flat = index.reshape(1, 1, -1)
        if index.itemsize == 1 and len(counts) == 256:
            _histogram.histogram.u8(flat, workspace().counters, counts)
            return
        if index.itemsize == 2 and len(counts) == 65536:
            _histogram.histogram_16.u16(flat, workspace().counters, counts)
            return
    index = index.reshape(-1) if counted is None else index[counted]
    counts += np.bincount(index, minlength=len(counts))


def _bins(
    pixels: Pixels, at: At, box: Any, levels: Levels, edges: Array | None
) -> tuple[Array, Array | None]:
    """Return the bins of some pixels, contiguous, in the tables' dtype; and which are mapped, None: all."""
    image = pixels.image[at[0]]
    special = levels.bin_shift or levels.value_range is not None or pixels.nodata is not None
    if image.dtype.kind == "f" or (pixels.luma and special):
        index, mapped = _reference.indices(pixels, *at, box, levels, edges)
        return index.astype(levels.table_dtype, order="C"), mapped
    if pixels.luma:
        channels = [bits(image[c][box]) for c in pixels.channels_of(0)]
        luma = np.empty(channels[0].shape, levels.table_dtype)
        getattr(_strided.extract_luma, tag(luma))(*channels, luma)
        return luma, None
    values = bits(image[at[1]][box])
    maps = None if pixels.nodata is None else image[at[1]][box] != pixels.nodata
    return np.ascontiguousarray(levels.bins_of(values ^ values.dtype.type(_sign_bit(levels)))), maps


def _blend_in_parts(
    pixels: Pixels,
    at: At,
    tables: Array,
    around: tuple[Neighbours, ...],
    levels: Levels,
    edges: Array | None,
    out: Array,
) -> None:
    """Blend any plane."""
    if tables.itemsize == 1 and tables.shape[-1] < 256:  # the kernels for 8 bits take whole tables
        tables = np.pad(tables, [(0, 0)] * 3 + [(0, 256 - tables.shape[-1])])
    _, depth, height, width = pixels.image[at[0]].shape
    rows = max(1, _PART // max(1, width))
    parameters = np.zeros_like(_level_parameters(levels))  # an image of bins: nothing to convert

    def work(part: tuple[int, int]) -> None:
        z, y = part
        box = (slice(z, z + 1), slice(y, y + rows), slice(None))
        index, maps = _bins(pixels, at, box, levels, edges)
        cut = [axis.cut(part) for axis, part in zip(around, box, strict=True)]
        level = np.empty_like(index)
        _blend_plane(index, tables, tuple(cut), parameters, level, 1)
        _put(pixels, at, box, index, level, maps, levels, out)

    _threads.run(work, itertools.product(range(depth), range(0, height, rows)))


def _put(
    pixels: Pixels,
    at: At,
    box: Any,
    index: Array,
    level: Array,
    maps: Array | None,
    levels: Levels,
    out: Array,
) -> None:
    """Write the levels of some pixels, whose bins are in `index`, as pixels."""
    image, target = pixels.image[at[0]], out[at[0]]
    if image.dtype.kind == "f" or (pixels.luma and (maps is not None or not served(out))):
        mapped = np.ones(level.shape, np.bool_) if maps is None else maps
        _reference.put(pixels, *at, box, level, mapped, levels, out)
        return
    if pixels.luma:
        rgb = pixels.channels_of(0)
        new = (level << levels.shift) + levels.offset
        old = [bits(image[c][box]) for c in rgb]
        top = np.iinfo(levels.dtype).max
        getattr(_strided.replace_luma, tag(level))(*old, new, top, *(target[c][box] for c in rgb))
        return
    if levels.out_dtype is not None:
        new = (level + levels.offset).astype(levels.out_dtype)
    else:
        new = ((level << levels.shift) + levels.offset) ^ level.dtype.type(_sign_bit(levels))
        new = new.view(levels.dtype)
    if maps is not None and pixels.nodata is not None:
        new = np.where(maps, _nodata.apart([new], pixels)[0], new.dtype.type(pixels.nodata))
    target[at[1]][box] = new
