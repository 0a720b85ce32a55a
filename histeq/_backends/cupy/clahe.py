"""CLAHE on a CUDA device: which kernels a call launches.

Two launches make the tables, two more give some to tiles without a counted pixel where there may be such, and
the last one interpolates. Nothing waits for the device.
"""

import math
from collections.abc import Iterator
from typing import Any

import cupy
import numpy as np
from histeq_kernels.cuda.interface import LEVELS, RESIDENT_BLOCKS, SCRATCH, TILES

from histeq._backends.cupy import device as _device
from histeq._backends.cupy.device import (
    Device,
    address,
    grid_of,
    grid_of_elements,
    image_groups,
    on,
    refuse_capture,
    structure,
)
from histeq._backends.cupy.layout import (
    Region,
    aligned,
    aligned_target,
    flip_of,
    red_first,
    region_of,
    tables_of,
    tag_of,
)
from histeq._core.backend import Pixels
from histeq._core.tile_grid import Grid, Levels

Array = Any

_CELL = 2048
"""Pixels of a tile from which on blocks take cells of pixels: it pays to load their tables. An estimate."""
_CELL_ROWS = 16
"""Rows of a cell that a block takes at the least."""
_CELL_TABLES = 32 * 1024
"""Bytes of the four tables of a cell that go to shared memory at the most."""
_BLOCKS = 16
"""Blocks for each multiprocessor, where cells have that many parts: they are not alike."""
_ROWS = 64
"""Rows of a tile that a block counts at the least: they pay for clearing and folding its counters."""


def tile_tables(pixels: Pixels, grid: Grid, clip_limit: float, levels: Levels, edges: Array | None) -> Array:
    """Return the table of every tile: (N, P, D, H, W, bins)."""
    with on(pixels.image):
        tables = cupy.empty((*pixels.histograms, *grid.tiles, levels.bins), levels.table_dtype)
        for part in _groups(pixels, grid, levels):
            bounds = None if edges is None else edges[part]
            _make_tables(pixels.part(part), grid, clip_limit, levels, bounds, tables[part])
    return tables


def tables_of_tiles(counts: Array, clip_limit: float, levels: Levels) -> tuple[Array, np.ndarray]:
    """Return the tables of tiles with these counts, and, waiting for the device, which tiles are empty."""
    refuse_capture("the tables of counts", "pass the image to tile_tables")
    with on(counts):
        gpu = _device.device(counts.device.id)
        own = cupy.ascontiguousarray(counts).astype(np.uint64)  # the kernel clears them
        tables, empty = cupy.zeros(counts.shape, levels.table_dtype), cupy.empty(counts.shape[:-1], np.uint8)
        if empty.size:
            _tables_of(gpu, own, _levels(levels, None, clip_limit), tables, empty)
        return tables, cupy.asnumpy(empty).astype(np.bool_)


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
    """Interpolate a window, which begins at `origin`, into `out` by the tables of tiles from `first` on."""
    if pixels.image.size == 0:
        return
    with on(pixels.image), aligned_target(out) as target:
        image = aligned(pixels.image)
        if not tables.flags.c_contiguous:
            refuse_capture("tables that are not contiguous", "pass those of tile_tables")
            tables = cupy.ascontiguousarray(tables)
        region = region_of(
            red_first(pixels, image), None, red_first(pixels, target), luma=pixels.luma is not None
        )
        tiles, mapping = _tiles(grid, origin, first, tables.shape[2:5]), _levels(levels, pixels, 0.0)
        gpu = _device.device(image.device.id)
        if edges is None and not pixels.luma and grid.shape[0] == 1 and math.prod(grid.tile) >= _CELL:
            _apply_cells(gpu, region, tiles, mapping, tables)
            return
        edges_planes = 0 if edges is None or len(edges) == 1 else pixels.histograms[1]
        arguments = (
            region.layout, tiles, mapping, region.image,
            np.uint64(address(edges)), np.int64(edges_planes), tables_of(tables), region.out,
        )  # fmt: skip
        gpu.launch("clahe", f"apply_tiles_{_tag(pixels)}", region.grid(gpu, image.itemsize), arguments)


def _apply_cells(gpu: Device, region: Region, tiles: np.ndarray, mapping: np.ndarray, tables: Array) -> None:
    """Interpolate the pixels of grey integers by cells, the pixels between the same four tiles."""
    size = 4 * tables.itemsize * tables.shape[-1]
    in_shared = size <= _CELL_TABLES
    cells = region.planes * (tables.shape[3] + 1) * (tables.shape[4] + 1)
    parts = min(-(-gpu.multiprocessors * _BLOCKS // cells), int(tiles["size"][1]) // _CELL_ROWS)
    arguments = (
        region.layout, tiles, mapping, region.image, tables_of(tables), np.int64(in_shared), region.out
    )  # fmt: skip
    shared = SCRATCH + (256 * 4 if tables.itemsize == 1 else size if in_shared else 0)
    launch = (max(parts, 1), min(cells, _device.GRID_Y))
    gpu.launch("clahe", f"apply_cells_u{8 * tables.itemsize}", launch, arguments, shared)


def clahe(
    pixels: Pixels, grid: Grid, clip_limit: float, levels: Levels, edges: Array | None, out: Array
) -> None:
    """Make the tables of all tiles and interpolate the image between them, a group of images at a time.

    The tables are in the workspace: a graph that captures this call keeps no other array alive.
    """
    with on(pixels.image):
        workspace = _device.device(pixels.image.device.id).workspace()
        for part in _groups(pixels, grid, levels):
            group, bounds = pixels.part(part), None if edges is None else edges[part]
            shape = (*group.histograms, *grid.tiles, levels.bins)
            tables = workspace.empty("tile_tables", shape, levels.table_dtype)
            _make_tables(group, grid, clip_limit, levels, bounds, tables)
            apply_tiles(group, tables, grid, (0, 0, 0), (0, 0, 0), levels, bounds, out[part])


def _groups(pixels: Pixels, grid: Grid, levels: Levels) -> Iterator[slice]:
    """Yield groups of images whose counts the workspace holds."""
    images, planes = pixels.histograms
    return image_groups(images if planes else 0, 8 * levels.bins * math.prod(grid.tiles) * planes)


def _make_tables(
    pixels: Pixels, grid: Grid, clip_limit: float, levels: Levels, edges: Array | None, tables: Array
) -> None:
    """Launch the kernels that count the tiles and make their tables."""
    gpu = _device.device(pixels.image.device.id)
    workspace = gpu.workspace()
    histograms = math.prod(pixels.histograms) * math.prod(grid.tiles)
    counts = workspace.zeros("counts", histograms * levels.bins, np.uint64)
    memory = {"empty": workspace.empty("empty", (histograms,), np.uint8)}
    count_whole(pixels, grid, levels, edges, counts)
    counts_all = pixels.mask is None and pixels.nodata is None and levels.value_range is None
    if edges is not None or not counts_all:  # a tile may be empty
        memory["in_row"] = workspace.empty("nearest", (histograms,), np.int32)
    tables_of_counts(gpu, counts, grid, levels, clip_limit, tables, memory)


def tables_of_counts(
    gpu: Device,
    counts: Array,
    grid: Grid,
    levels: Levels,
    clip_limit: float,
    tables: Array,
    memory: dict[str, Array],
) -> None:
    """Make the tables of all tiles of their counts, which are cleared.

    Where `memory` has an "in_row" beside "empty", of one entry a tile each, empty tiles get the table of the
    nearest one that is not.
    """
    mapping, empty = _levels(levels, None, clip_limit), memory["empty"]
    _tables_of(gpu, counts, mapping, tables, empty)
    if "in_row" in memory:
        rows, planes = empty.size // grid.tiles[2], empty.size // math.prod(grid.tiles)
        look = (empty, np.int64(rows), np.int64(grid.tiles[2]), memory["in_row"])
        gpu.launch("clahe", "nearest_in_row", grid_of_elements(rows), look)
        fill = (empty, memory["in_row"], np.int64(planes), _tiles(grid), mapping, tables)
        gpu.launch("clahe", "fill_empty", grid_of(empty.size), fill, SCRATCH)


def count_whole(pixels: Pixels, grid: Grid, levels: Levels, edges: Array | None, counts: Array) -> None:
    """Add the counts of whole images to those of all of their tiles."""
    image = aligned(pixels.image)
    gpu = _device.device(image.device.id)
    region = region_of(red_first(pixels, image), pixels.mask, luma=pixels.luma is not None)
    histograms = region.planes * math.prod(grid.tiles)
    tiles, mapping = _tiles(grid), _levels(levels, pixels, 0.0)
    copies, slices, shared = gpu.counters_of(256 if image.itemsize == 1 else levels.bins)
    count = (
        region.layout, tiles, mapping, region.image, region.mask, np.uint64(address(edges)),
        np.int64(copies), counts,
    )  # fmt: skip
    launch = (_blocks_per_tile(gpu, grid, histograms * slices), min(histograms, _device.GRID_Y), slices)
    gpu.launch("clahe", f"tile_histogram_{_tag(pixels)}", launch, count, shared)


def _tables_of(gpu: Device, counts: Array, mapping: np.ndarray, tables: Array, empty: Array) -> None:
    """Launch the kernel that makes tables of counts, clears these, and tells of tiles without any."""
    make = (counts, np.int64(empty.size), mapping, tables, empty)
    gpu.launch("clahe", "tile_table", grid_of(empty.size), make, SCRATCH)


def _blocks_per_tile(gpu: Device, grid: Grid, histograms: int) -> int:
    """Return how many blocks share a tile, or a slice of its bins.

    They fill the device, but there is none for less than some rows. A few more would run after all others.
    """
    rows = grid.tile[0] * grid.tile[1]
    area = rows * grid.tile[2]
    fill = gpu.multiprocessors * RESIDENT_BLOCKS // histograms
    return max(min(fill, rows // _ROWS), -(-area // _device.MOST_COUNTED), 1)


def _tag(pixels: Pixels) -> str:
    return ("luma_" if pixels.luma else "") + tag_of(pixels.image.dtype)


def _tiles(
    grid: Grid,
    origin: tuple[int, ...] = (0, 0, 0),
    first: tuple[int, ...] = (0, 0, 0),
    held: tuple[int, ...] | None = None,
) -> np.ndarray:
    """Return struct Tiles of clahe.cu."""
    return structure(TILES, grid.tiles, grid.tile, grid.shape, origin, first, held or grid.tiles)


def _levels(levels: Levels, pixels: Pixels | None, clip_limit: float) -> np.ndarray:
    """Return struct Levels of clahe.cu; `pixels` say what nodata is."""
    floating = levels.fractions is not None
    low, high = levels.fractions or (0.0, 0.0)
    bits, values = (-1, -1), (np.nan, np.nan)
    if pixels is None:
        pass
    elif floating:
        values = pixels.nodata_and_beside(np.nan)
    elif pixels.nodata is not None:
        nodata, beside = pixels.nodata_and_beside(-1)
        all_bits = (1 << 8 * levels.dtype.itemsize) - 1
        bits = int(nodata) & all_bits, int(beside) & all_bits
    return structure(
        LEVELS, levels.bins, levels.table_dtype.itemsize, 0 if floating else levels.bin_shift,
        int(flip_of(levels.dtype)), levels.first_bin, levels.lowest, levels.span, levels.shift,
        levels.offset, int(levels.out_dtype is not None), *bits, *values, low, high - low, clip_limit,
    )  # fmt: skip
