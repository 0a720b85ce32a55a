"""CLAHE on the CPU kernels: what to do with planes of every kind.

Integers whose rows are contiguous are counted and blended where they are. Everything else (luma, masks, nodata,
floating images, other strides) goes through the same kernels in small parts, each brought into the form of an
integer image of bins, and its levels back into pixels.
"""

from __future__ import annotations  # as in numba.py

import itertools
import threading
from typing import Any

import numpy as np
from histeq_kernels.cpu import blend as _blend
from histeq_kernels.cpu import histogram as _count
from histeq_kernels.cpu import tiles as _tables
from numpy.typing import NDArray

from histeq import _threads, _tiles
from histeq._backend import Pixels
from histeq._backends import _reference_tiles as _reference
from histeq._backends._planes import bits, served, tag, workspace
from histeq._tiles import Grid, Levels, Neighbours

Array = NDArray[Any]

_PART = 1 << 16  # pixels brought into another form at once
_PIECE = 1 << 18  # pixels worth a thread of their own


class _Space(threading.local):
    """What the kernels of one thread work in, besides the counters of every kernel."""

    def __init__(self) -> None:
        self.sums = np.empty(_tables.SUMS, np.int32)
        self.packed = np.empty(65536, np.uint64)
        self.found = np.empty((2, _blend.CHUNK), np.uint32)


_space = _Space()


def tile_tables(pixels: Pixels, grid: Grid, clip_limit: float, levels: Levels, edges: Array | None) -> Array:
    """Return the table of every tile: (N, P, D, H, W, bins)."""
    return _tile_tables(pixels, grid, clip_limit, levels, edges, 0, levels.bins)


def _tile_tables(
    pixels: Pixels, grid: Grid, clip_limit: float, levels: Levels, edges: Array | None, first: int, stop: int
) -> Array:
    """Return the part of the tables from bin `first` to `stop`."""
    images, planes = pixels.image.shape[:2]
    planes = 1 if pixels.luma else planes
    tables = np.empty((images, planes, *grid.tiles, stop - first), levels.table_dtype)
    many = images * planes >= _threads.num_threads() > 1

    def work(at: tuple[int, int]) -> None:
        plane = _plain(pixels, at, levels)
        if plane is None or np.prod(grid.tile) >= _tables.MAX_AREA:
            _tables_in_parts(pixels, at, grid, clip_limit, levels, edges, tables[at])
        else:
            _tables_of(plane, grid, clip_limit, levels, first, many, tables[at])

    each = list(itertools.product(range(images), range(planes)))
    if many:
        _threads.run(work, each)
    else:
        for at in each:
            work(at)
    return tables


def apply_tiles(
    pixels: Pixels,
    tables: Array,
    grid: Grid,
    origin: tuple[int, ...],
    levels: Levels,
    edges: Array | None,
    out: Array,
) -> None:
    """Blend a window of the image, which begins at `origin` (D, H, W), into `out`."""
    _apply_tiles(pixels, tables, grid, origin, levels, edges, 0, out)


def _apply_tiles(
    pixels: Pixels,
    tables: Array,
    grid: Grid,
    origin: tuple[int, ...],
    levels: Levels,
    edges: Array | None,
    first: int,
    out: Array,
) -> None:
    """Do the same with tables that begin at bin `first`."""
    images, planes, *shape = pixels.image.shape
    planes = 1 if pixels.luma else planes
    around = tuple(grid.neighbours(axis, origin[axis], shape[axis]) for axis in range(3))
    each = list(itertools.product(range(images), range(planes)))
    many = len(each) >= _threads.num_threads() > 1

    def work(at: tuple[int, int]) -> None:
        table = tables[min(at[0], len(tables) - 1), at[1]]
        plane, target = _plain(pixels, at, levels), _plain_output(out[at], levels)
        if plane is None or target is None:
            _blend_in_parts(pixels, at, table, around, levels, edges, first, out)
        else:
            _blend_plane(
                plane, table, around, _form(levels, first), target, 1 if many else _threads.num_threads()
            )

    if many:
        _threads.run(work, each)
    else:
        for at in each:
            work(at)


def clahe(
    pixels: Pixels, grid: Grid, clip_limit: float, levels: Levels, edges: Array | None, out: Array
) -> None:
    """Do tile_tables and apply_tiles at once."""
    first, stop = _bins_in_use(pixels, levels)
    tables = _tile_tables(pixels, grid, clip_limit, levels, edges, first, stop)
    _apply_tiles(pixels, tables, grid, (0, 0, 0), levels, edges, first, out)


def _bins_in_use(pixels: Pixels, levels: Levels) -> tuple[int, int]:
    """Return from which bin to which the tables of one image are needed: of 16 bits few images use all."""
    whole = (0, levels.bins)
    plane = _plain(pixels, (0, 0), levels)
    if pixels.image.shape[:2] != (1, 1) or plane is None or plane.itemsize == 1:
        return whole
    limits = np.empty(2, np.int64)
    _tables.occupied_bins.u16(plane, _numbers(levels, 0), limits)
    return int(limits[0]), int(limits[1]) + 1


def _numbers(levels: Levels, first: int) -> NDArray[np.int64]:
    """Return what the kernels that make tables need to know of the levels."""
    numbers = [levels.bins, levels.lowest, levels.span, levels.bin_shift, _turn(levels), first]
    return np.array(numbers, np.int64)


# Planes as they are --------------------------------------------------------------------------------


def _plain(pixels: Pixels, at: tuple[int, int], levels: Levels) -> Array | None:
    """Return a plane of integers that the kernels take as it is; None for any other."""
    image = pixels.image
    if pixels.luma or pixels.mask is not None or pixels.nodata is not None or image.dtype.kind == "f":
        return None
    if image.size == 0:
        return None
    return _plain_output(image[at], levels)


def _plain_output(plane: Array, levels: Levels) -> Array | None:
    """Return the same for a plane that is written."""
    if not served(plane) or (plane.strides[2] != plane.itemsize and plane.shape[2] > 1):
        return None
    if plane.itemsize == 1 and levels.bins != 256:
        return None
    return bits(plane) if plane.dtype.kind in "iu" else None


def _turn(levels: Levels) -> int:
    """Return the bits to turn in an integer so that the smallest value becomes 0."""
    return 1 << 15 if levels.dtype.kind == "i" else 0


def _form(levels: Levels, first: int = 0) -> NDArray[np.int64]:
    """Return what the kernels that blend need to know of the levels."""
    return np.array([_turn(levels), levels.bin_shift, first, levels.shift], np.int64)


def _tables_of(
    plane: Array, grid: Grid, clip_limit: float, levels: Levels, first: int, alone: bool, out: Array
) -> None:
    """Write the tables of a plane as it is."""
    positions = [grid.positions(axis) for axis in range(3)]
    tile = np.array(grid.tile, np.int64)
    form, tables = _numbers(levels, first), out.reshape(-1, out.shape[-1])
    kernel = _tables.tile_tables.u8 if plane.itemsize == 1 else _tables.tile_tables_direct.u16

    def work(part: tuple[int, int]) -> None:
        kernel(plane, *positions, tile, *part, clip_limit, form, workspace().counters, _space.sums, tables)

    parts = 1 if alone else min(_threads.num_threads(), max(1, plane.size // _PIECE))
    _threads.run(work, _ranges(len(tables), parts))


def _blend_plane(
    plane: Array, tables: Array, around: tuple[Neighbours, ...], form: Array, out: Array, threads: int
) -> None:
    """Blend a plane as it is."""
    sides = [(np.stack(n[:2]), np.stack(n[2:])) for n in around]
    deep = plane.shape[0] > 1 or len(tables) > 1
    threads = min(threads, max(1, plane.size // _PIECE))

    def work(part: tuple[int, int]) -> None:
        if deep:
            rows = slice(*part)
            (zs, ys, xs), kernel = sides, getattr(_blend.blend_volume, tag(plane))
            cut = (ys[0][:, rows].copy(), ys[1][:, rows].copy())
            kernel(plane[:, rows], *zs, *cut, *xs, tables, form, _space.packed, _space.found, out[:, rows])
            return
        kernel = _blend.blend_tiles.u8 if plane.itemsize == 1 else _blend.blend_tiles_direct.u16
        rows = slice(*part)
        ys, xs = sides[1:]
        cut = (ys[0][:, rows].copy(), ys[1][:, rows].copy())
        kernel(plane[:, rows], *cut, *xs, tables[0], form, _space.packed, _space.found, out[:, rows])

    _threads.run(work, _ranges(plane.shape[1], threads))


def _ranges(length: int, parts: int) -> list[tuple[int, int]]:
    bounds = [length * i // parts for i in range(parts + 1)]
    return list(itertools.pairwise(bounds))


# Planes in parts -----------------------------------------------------------------------------------


def _tables_in_parts(
    pixels: Pixels,
    at: tuple[int, int],
    grid: Grid,
    clip_limit: float,
    levels: Levels,
    edges: Array | None,
    out: Array,
) -> None:
    """Write the tables of any plane."""
    empty = np.zeros(grid.tiles, np.bool_)
    numbers = np.array([levels.bins, levels.lowest, levels.span], np.int64)
    kernel = getattr(_tables.tile_table, tag(out))

    def work(tile: tuple[int, ...]) -> None:
        zs, ys, xs = grid.box(tile)
        counts = np.zeros(levels.bins, np.int64)
        rows = max(1, _PART // max(1, len(xs)))
        for z in range(len(zs)):
            for start in range(0, len(ys), rows):
                box = np.ix_(zs[z : z + 1], ys[start : start + rows], xs)
                index, maps = _reference.indices(pixels, *at, box, levels, edges)
                if pixels.mask is not None:
                    maps = maps & pixels.mask[min(at[0], len(pixels.mask) - 1), 0][box]
                counts += np.bincount(index[maps], minlength=levels.bins)
        empty[tile] = not counts.any()
        if not empty[tile]:
            kernel(counts, clip_limit, numbers, np.empty_like(counts), out[tile])

    _threads.run(work, itertools.product(*map(range, grid.tiles)))
    _tiles.fill_empty(out, empty, levels)


def _blend_in_parts(
    pixels: Pixels,
    at: tuple[int, int],
    tables: Array,
    around: tuple[Neighbours, ...],
    levels: Levels,
    edges: Array | None,
    first: int,
    out: Array,
) -> None:
    """Blend any plane."""
    _, depth, height, width = pixels.image[at[0]].shape
    rows = max(1, _PART // max(1, width))
    form = np.array([0, 0, first, 0], np.int64)

    def work(part: tuple[int, int]) -> None:
        z, y = part
        block = (slice(z, z + 1), slice(y, y + rows), slice(None))
        index, maps = _reference.indices(pixels, *at, block, levels, edges)
        plane = index.astype(levels.table_dtype, order="C")
        cut = [Neighbours(*(each[s] for each in n)) for n, s in zip(around, block, strict=True)]
        level = np.empty_like(plane)
        _blend_plane(plane, tables, tuple(cut), form, level, 1)
        _reference._put(pixels, *at, block, level, maps, levels, out)

    _threads.run(work, itertools.product(range(depth), range(0, height, rows)))
