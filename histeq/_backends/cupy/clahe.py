"""CLAHE on a CUDA device: which kernels a call launches.

Two launches make the tables, a third gives some to tiles without a counted pixel where there may be such,
and one more blends. Nothing waits for the device.
"""

from typing import Any

import cupy
import numpy as np

from histeq._backends.cupy import device as _device
from histeq._backends.cupy.device import address, on, structure
from histeq._backends.cupy.layout import (
    Lines,
    aligned,
    copy_bytes,
    flip_of,
    is_aligned,
    red_first,
    rows_of,
    tag_of,
)
from histeq._core.backend import Pixels
from histeq._core.tile_grid import Grid, Levels

Array = Any

_WORKSPACE = 1 << 28
"""Bytes of counts at once: images with many tiles of 65,536 bins go in groups, one at the least."""
_ROWS = 64
"""Rows of a tile that a block counts at the least: they pay for clearing and folding its counters."""
_GRID_X, _GRID_Y = 1 << 16, 65535


def tile_tables(pixels: Pixels, grid: Grid, clip_limit: float, levels: Levels, edges: Array | None) -> Array:
    """Return the table of every tile: (N, P, D, H, W, bins)."""
    with on(pixels.image):
        images, planes = pixels.histograms
        tables = cupy.empty((images, planes, *grid.tiles, levels.bins), levels.table_dtype)
        tiles = int(np.prod(grid.tiles))
        group = max(1, _WORKSPACE // max(8 * levels.bins * tiles * planes, 1))
        for start in range(0, images if planes else 0, group):
            part = slice(start, start + group)
            bounds = None if edges is None else edges[part]
            _make_tables(pixels.part(part), grid, clip_limit, levels, bounds, tables[part])
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
    with on(pixels.image):
        image = aligned(pixels.image)
        target = out if is_aligned(out) else cupy.empty(out.shape, out.dtype)
        tables = cupy.ascontiguousarray(tables)
        walk = rows_of(
            red_first(pixels, image), None, red_first(pixels, target), luma=pixels.luma is not None
        )
        planes = walk.planes // max(len(image), 1)
        arguments = (
            walk.layout, _tiles(grid, origin), _levels(levels, pixels, 0.0), walk.image,
            np.uint64(address(edges)), np.int64(0 if edges is None or len(edges) == 1 else planes),
            tables, np.int64(0 if len(tables) == 1 else planes), walk.out,
        )  # fmt: skip
        if walk.pixels and walk.planes:
            gpu = _device.device(image.device.id)
            parts = gpu.parts(walk.pixels * image.itemsize, walk.planes, walk.pixels, 2)
            gpu.launch("clahe", f"apply_tiles_{_kind(pixels)}", (parts, min(walk.planes, _GRID_Y)), arguments)
        if target is not out:
            copy_bytes(target, out)


def clahe(
    pixels: Pixels, grid: Grid, clip_limit: float, levels: Levels, edges: Array | None, out: Array
) -> None:
    """Do tile_tables and apply_tiles at once."""
    tables = tile_tables(pixels, grid, clip_limit, levels, edges)
    apply_tiles(pixels, tables, grid, (0, 0, 0), levels, edges, out)


def _make_tables(
    pixels: Pixels, grid: Grid, clip_limit: float, levels: Levels, edges: Array | None, tables: Array
) -> None:
    image = aligned(pixels.image)
    gpu = _device.device(image.device.id)
    space = gpu.workspace()
    walk = rows_of(red_first(pixels, image), pixels.mask, luma=pixels.luma is not None)
    geometry, how = _tiles(grid, (0, 0, 0)), _levels(levels, pixels, clip_limit)
    histograms = walk.planes * int(np.prod(grid.tiles))
    counts = space.zeros("counts", histograms * levels.bins, np.uint64)
    empty = space.array("empty", (histograms,), np.uint8)
    copies = _device.copies(levels.bins)
    arguments = (
        walk.layout, geometry, how, walk.image, walk.mask, np.uint64(address(edges)), np.int64(copies), counts
    )  # fmt: skip
    shared = _device.SCRATCH + 4 * copies * levels.bins
    launch = (_parts(gpu, walk, grid, histograms), min(histograms, _GRID_Y))
    gpu.launch("clahe", f"tile_histogram_{_kind(pixels)}", launch, arguments, shared)
    blocks = (min(histograms, _GRID_X),)
    gpu.launch(
        "clahe", "tile_table", blocks, (counts, np.int64(histograms), how, tables, empty), _device.SCRATCH
    )
    if pixels.mask is not None or pixels.nodata is not None or edges is not None:
        some = (empty, np.int64(walk.planes), geometry, how, tables)
        gpu.launch("clahe", "fill_empty", blocks, some, _device.SCRATCH)


def _parts(gpu: _device.Device, walk: Lines, grid: Grid, histograms: int) -> int:
    """Return how many blocks share a tile: as many as fill the device, none for less than some rows."""
    rows = grid.tile[0] * grid.tile[1]
    area = rows * grid.tile[2]
    fill = -(-gpu.multiprocessors * _device.BLOCKS_PER_MULTIPROCESSOR // histograms)
    return max(min(fill, rows // _ROWS), -(-area // _device.MOST_COUNTED), 1)


def _kind(pixels: Pixels) -> str:
    return ("luma_" if pixels.luma else "") + tag_of(pixels.image.dtype)


def _tiles(grid: Grid, origin: tuple[int, ...]) -> np.ndarray:
    return structure(_device.TILES, grid.tiles, grid.tile, grid.shape, origin)


def _levels(levels: Levels, pixels: Pixels, clip_limit: float) -> np.ndarray:
    floating = levels.fractions is not None
    low, high = levels.fractions or (0.0, 0.0)
    nodata = -1 if pixels.nodata is None or floating else int(pixels.nodata) & 0xFFFF
    value = float(pixels.nodata) if floating and pixels.nodata is not None else np.nan
    return structure(
        _device.LEVELS, levels.bins, levels.table_dtype.itemsize, 0 if floating else levels.bin_shift,
        int(flip_of(levels.dtype)), levels.lowest, levels.span, levels.shift, nodata, value, low, high - low,
        clip_limit,
    )  # fmt: skip
