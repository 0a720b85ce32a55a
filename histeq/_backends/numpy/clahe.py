"""CLAHE in NumPy: the readable reference. Its arithmetic is in `histeq/_core/tile_grid.py`."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histeq._core import nodata as _nodata
from histeq._core import tile_grid as _tiles
from histeq._core import ycrcb as _color
from histeq._core.backend import Pixels
from histeq._core.tile_grid import Grid, Levels, Stretch

Array = NDArray[Any]

_BLOCK = 1 << 18  # pixels blended at once: each of some fifteen temporaries stays within 2 MB


def tile_tables(pixels: Pixels, grid: Grid, clip_limit: float, levels: Levels, edges: Array | None) -> Array:
    """Return the table of every tile: (N, P, D, H, W, bins)."""
    tables = np.empty((*pixels.histograms, *grid.tiles, levels.bins), levels.table_dtype)
    for n, p in np.ndindex(pixels.histograms):
        empty, mask = np.zeros(grid.tiles, np.bool_), pixels.mask_of(n)
        for at in np.ndindex(grid.tiles):
            z, y, x = np.ix_(*grid.box(at))
            index, maps = indices(pixels, n, p, (z, y, x), levels, edges)
            if mask is not None:
                maps = maps & mask[z, y, x]
            if levels.value_range is not None:
                maps = maps & inside(pixels, n, p, (z, y, x), levels, edges)
            counts = np.bincount(index[maps], minlength=levels.bins)
            empty[at] = not counts.any()
            if not empty[at]:
                tables[n, p][at] = _tiles.table(counts, clip_limit, levels)
        _tiles.fill_empty(tables[n, p], empty, levels)
    return tables


def count_by_parts(
    histogram: Callable[[Pixels, Array | None], Array],
    pixels: Pixels,
    grid: Grid,
    origin: tuple[int, ...],
    first: tuple[int, ...],
    levels: Levels,
    edges: Array | None,
    counts: Array,
) -> None:
    """Add to the counts of tiles from `first` on what `histogram` counts in the parts of a window.

    Arrays are NumPy's or CuPy's.
    """
    for stretches in itertools.product(*parts_of(pixels, grid, origin)):
        counted = histogram(pixels.window(tuple(slice(s.start, s.stop) for s in stretches)), edges)
        if levels.bin_shift:
            counted = counted.reshape(*counted.shape[:2], levels.bins, -1).sum(axis=-1)
        z, y, x = (s.tile - start for s, start in zip(stretches, first, strict=True))
        counts[:, :, z, y, x] += counted


def parts_of(pixels: Pixels, grid: Grid, origin: tuple[int, ...]) -> list[tuple[Stretch, ...]]:
    """Return where the tiles count the pixels of a window along each axis."""
    return [grid.stretches(axis, origin[axis], pixels.image.shape[2 + axis]) for axis in range(3)]


def tables_of_tiles(counts: Array, clip_limit: float, levels: Levels) -> tuple[Array, NDArray[np.bool_]]:
    """Return the tables of tiles with these counts, and which tiles are empty."""
    tables, empty = np.zeros(counts.shape, levels.table_dtype), np.asarray(~counts.any(axis=-1))
    for at in zip(*np.nonzero(~empty), strict=True):
        tables[at] = _tiles.table(counts[at], clip_limit, levels)
    return tables, empty


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
    depth, height, width = pixels.image.shape[2:]
    rows = max(1, _BLOCK // max(1, width))
    for n, p in np.ndindex(pixels.histograms):
        for z in range(depth):
            for y in range(0, height, rows):
                block = (slice(z, z + 1), slice(y, y + rows), slice(None))
                index, maps = indices(pixels, n, p, block, levels, edges)
                starts = (origin[0] + z, origin[1] + y, origin[2])
                around = [
                    grid.neighbours(axis, start, count, first[axis])
                    for axis, (start, count) in enumerate(zip(starts, index.shape, strict=True))
                ]
                table = tables[min(n, len(tables) - 1), p]
                put(pixels, n, p, block, _tiles.blend(index, table, tuple(around)), maps, levels, out)


def clahe(
    pixels: Pixels, grid: Grid, clip_limit: float, levels: Levels, edges: Array | None, out: Array
) -> None:
    """Do tile_tables and apply_tiles at once, image by image: the tables of one are held at a time."""
    for n in range(len(pixels.image)):
        part = slice(n, n + 1)
        image, bounds = pixels.part(part), None if edges is None else edges[part]
        tables = tile_tables(image, grid, clip_limit, levels, bounds)
        apply_tiles(image, tables, grid, (0, 0, 0), (0, 0, 0), levels, bounds, out[part])


def indices(
    pixels: Pixels, n: int, p: int, at: Any, levels: Levels, edges: Array | None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the bins of some pixels, and which of them are mapped: not nodata, NaN or infinite."""
    values = [pixels.image[n, c][at] for c in pixels.channels_of(p)]
    maps = ~_nodata.is_nodata(values, pixels)
    if pixels.luma:
        return levels.bins_of(_color.luma(*values)), maps
    if edges is None:
        return levels.index(values[0]), maps
    maps &= np.isfinite(values[0])
    index = np.searchsorted(edges[min(n, len(edges) - 1), p], values[0], side="right") - 1
    return np.clip(index, 0, levels.bins - 1), maps


def inside(pixels: Pixels, n: int, p: int, at: Any, levels: Levels, edges: Array | None) -> NDArray[np.bool_]:
    """Tell which of some pixels lie within the range of values."""
    values = [pixels.image[n, c][at] for c in pixels.channels_of(p)]
    luma = _color.luma(*values) if pixels.luma else values[0]
    return levels.inside(luma, None if edges is None else edges[min(n, len(edges) - 1), p])


def put(
    pixels: Pixels,
    n: int,
    p: int,
    at: Any,
    blended: NDArray[np.int64],
    maps: NDArray[np.bool_],
    levels: Levels,
    out: Array,
) -> None:
    """Write the pixels of some levels; those not mapped keep their value."""
    new = [levels.pixels(blended)]
    channels = pixels.channels_of(p)
    old = [pixels.image[n, c][at] for c in channels]
    if pixels.luma:
        new = list(_color.with_luma(old[0], old[1], old[2], new[0]))
    for c, before, after in zip(channels, old, _nodata.apart(new, pixels), strict=True):
        out[n, c][at] = np.where(maps, after, before)
