"""The CuPy backend for NumPy arrays: uploaded, equalized on the GPU and brought back, piece by piece.

A batch goes in groups of whole images. An image larger than a piece takes two passes, one that counts and one
that maps; as much of it as half of the device's free memory holds stays there in between, and the rest is
uploaded again: an image may be larger than the device's memory.

The functions are those of `Backend`, for canonical arrays in host memory; their work on the device is done by
the functions of `backend.py`. Pieces share nothing on the device: counts and tables meet in host memory.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import cupy
import numpy as np

from histeq._backends.cupy import backend as gpu
from histeq._backends.cupy import pieces as _pieces
from histeq._backends.cupy.frames import ClipWindow
from histeq._backends.cupy.pieces import Box, PieceCache
from histeq._backends.cupy.transfer import TransferStream, for_each_piece, refuse_host_arrays
from histeq._backends.numpy.backend import as_mask, copy_alpha, empty_like, overlap
from histeq._backends.numpy.clahe import count_by_parts
from histeq._core import dispatch
from histeq._core.backend import Pixels
from histeq._core.rules import OutRange
from histeq._core.shots import distance as histogram_distance
from histeq._core.tile_grid import Grid, Levels, fill_empty
from histeq._core.window import Window

__all__ = [
    "ClipWindow", "PlainFrames", "Window", "apply", "apply_tiles", "as_mask", "bin_edges", "clahe",
    "copy_alpha", "device", "empty_like", "equalize", "equalize_by", "fast_path", "histogram",
    "histogram_distance", "lookup_table", "match_table", "match_values", "name", "overlap", "tables_of_tiles",
    "tile_histograms", "tile_tables",
]  # fmt: skip

Array = Any

name = "cupy"
fast_path = None
PlainFrames = None
device = gpu.device


def bin_edges(pixels: Pixels, bins: int, value_range: tuple[float, float] | None) -> Array:
    """Return the edges of the bins of a floating image, (N, P, bins + 1), in its dtype.

    They come from the host's fastest backend: to find the range of the values on the device would take
    another upload of the image, which lasts longer.
    """
    return dispatch.fastest_on_cpu().bin_edges(pixels, bins, value_range)


def histogram(pixels: Pixels, edges: Array | None) -> np.ndarray:
    """Count the pixels: (N, P, levels or bins), int64."""
    return _count(pixels, edges, _pieces.cut(pixels), PieceCache(0))


def lookup_table(counts: Array, rule: str, dtype: Any, out_range: OutRange | None) -> np.ndarray:
    """Return the table of a rule for each histogram: (..., levels)."""
    refuse_host_arrays()
    return cupy.asnumpy(gpu.lookup_table(cupy.asarray(counts), rule, dtype.newbyteorder("="), out_range))


def match_table(counts: Array, reference: Array, dtype: Any, first: int) -> np.ndarray:
    """Return the table that gives `counts`, from value `first` up, the distribution of `reference`."""
    refuse_host_arrays()
    return cupy.asnumpy(gpu.match_table(cupy.asarray(counts), cupy.asarray(reference), dtype, first))


def match_values(pixels: Pixels, reference: Pixels, out: Array) -> None:
    """Match a floating image to a floating reference; both are sorted, and must fit into device memory."""
    refuse_host_arrays()
    uploaded = _upload_all(pixels)
    result = cupy.empty_like(uploaded.image)
    gpu.match_values(uploaded, _upload_all(reference), result)
    out[...] = cupy.asnumpy(result)


def apply(pixels: Pixels, table: Array, edges: Array | None, out: Array) -> None:
    """Map every pixel through its table into `out`; masks play no part."""
    pixels = dataclasses.replace(pixels, mask=None)
    _map(pixels, table, edges, out, _pieces.cut(pixels), PieceCache(0))


def equalize(pixels: Pixels, rule: str, out_range: OutRange | None, edges: Array | None, out: Array) -> None:
    """Count, make tables and map: at once where whole images make a piece, else in two passes."""
    boxes = _pieces.groups(pixels.image)
    if boxes is None:
        for n in range(len(pixels.image)):
            image = slice(n, n + 1)
            bounds = None if edges is None else edges[image]
            _equalize_in_two_passes(pixels.part(image), rule, out_range, bounds, out[image])
        return

    def work(stream: TransferStream, box: Box, _: int) -> None:
        piece = _pieces.upload(stream, pixels, box)
        result = stream.empty_like(out[box])
        gpu.equalize(piece, rule, out_range, _edges_of(stream, edges, box), result)
        stream.download(result, out[box])

    for_each_piece(boxes, work)


def _equalize_in_two_passes(
    pixels: Pixels, rule: str, out_range: OutRange | None, edges: Array | None, out: Array
) -> None:
    """Equalize one image that is larger than a piece."""
    equalize_by(pixels, edges, lambda counts: lookup_table(counts, rule, pixels.image.dtype, out_range), out)


def equalize_by(
    pixels: Pixels, edges: Array | None, table_of: Callable[[np.ndarray], np.ndarray], out: Array
) -> None:
    """Count one image, map it through the table that `table_of` makes of the counts, (1, P, bins)."""
    boxes, cache = _pieces.cut(pixels), PieceCache(_pieces.free_memory() // 2)
    table = table_of(_count(pixels, edges, boxes, cache))
    _map(dataclasses.replace(pixels, mask=None), table, edges, out, boxes, cache)


def tile_tables(
    pixels: Pixels, grid: Grid, clip_limit: float, levels: Levels, edges: Array | None
) -> np.ndarray:
    """Return the table of every tile: (N, P, D, H, W, bins).

    Images that the device has room for are counted there at once, others tile by tile.
    """
    tables = np.empty((*pixels.histograms, *grid.tiles, levels.bins), levels.table_dtype)
    if not _fits(pixels, tables):
        for n in range(len(tables)):
            image = slice(n, n + 1)
            bounds = None if edges is None else edges[image]
            _tables_by_tiles(pixels.part(image), grid, clip_limit, levels, bounds, tables[image])
        return tables

    def work(stream: TransferStream, box: Box, _: int) -> None:
        piece = _pieces.upload(stream, pixels, box)
        bounds = _edges_of(stream, edges, box)
        stream.download(gpu.tile_tables(piece, grid, clip_limit, levels, bounds), tables[box[0]])

    for_each_piece([_pieces.whole_images(n) for n in range(len(pixels.image))], work)
    return tables


def _fits(pixels: Pixels, tables: np.ndarray) -> bool:
    """Tell whether the device has room for two images, with their masks, their counts and their tables."""
    image = math.prod(pixels.image.shape[1:]) * pixels.image.itemsize
    mask = 0 if pixels.mask is None else math.prod(pixels.mask.shape[1:])
    of_tiles = math.prod(tables.shape[1:]) * (8 + tables.itemsize)
    return 2 * (image + mask + of_tiles) <= _pieces.free_memory()


def _tables_by_tiles(
    pixels: Pixels, grid: Grid, clip_limit: float, levels: Levels, edges: Array | None, tables: np.ndarray
) -> None:
    """Make the tables of one image of counts that come from the device tile by tile."""
    counts = np.zeros(tables.shape, np.int64)
    tile_histograms(pixels, grid, (0, 0, 0), (0, 0, 0), levels, edges, counts)
    rows, of_row = counts.reshape(-1, levels.bins), tables.reshape(-1, levels.bins)
    empty = np.zeros(len(rows), np.bool_)
    most = max(1, _pieces.free_memory() // (_pieces.SHARE * 8 * levels.bins))
    for start in range(0, len(rows), most):
        some = slice(start, start + most)
        of_row[some], empty[some] = tables_of_tiles(rows[some], clip_limit, levels)
    for n, p in np.ndindex(pixels.histograms):
        fill_empty(tables[n, p], empty.reshape(tables.shape[:-1])[n, p], levels)


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
    count_by_parts(histogram, pixels, grid, origin, first, levels, edges, counts)


def tables_of_tiles(counts: Array, clip_limit: float, levels: Levels) -> tuple[np.ndarray, np.ndarray]:
    """Return the tables of tiles with these counts, and which tiles are empty."""
    refuse_host_arrays()
    tables, empty = gpu.tables_of_tiles(cupy.asarray(counts), clip_limit, levels)
    return cupy.asnumpy(tables), empty


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
    pixels = dataclasses.replace(pixels, mask=None)
    uploaded: dict[tuple[int, ...], Array] = {}  # tables, by stream, image and plane

    def work(stream: TransferStream, box: Box, _: int) -> None:
        begin = tuple(part.start or 0 for part in box)
        key = (id(stream), *begin[:2])
        if key not in uploaded:
            images, planes = _pieces.histograms_of(pixels, box)
            uploaded[key] = stream.upload(tables[images if len(tables) > 1 else slice(None), planes])
        piece = _pieces.upload(stream, pixels, box)
        result = stream.empty_like(out[box])
        start = tuple(a + b for a, b in zip(origin, begin[2:], strict=True))
        bounds = _edges_of(stream, edges, box)
        gpu.apply_tiles(piece, uploaded[key], grid, start, first, levels, bounds, result)
        stream.download(result, out[box])

    for_each_piece(_pieces.cut(pixels), work)


def clahe(
    pixels: Pixels, grid: Grid, clip_limit: float, levels: Levels, edges: Array | None, out: Array
) -> None:
    """Make the tables of all tiles and interpolate between them, image by image: their tables are large."""
    for n in range(len(pixels.image)):
        part = slice(n, n + 1)
        image, bounds = pixels.part(part), None if edges is None else edges[part]
        tables = tile_tables(image, grid, clip_limit, levels, bounds)
        apply_tiles(image, tables, grid, (0, 0, 0), (0, 0, 0), levels, bounds, out[part])


# The passes ----------------------------------------------------------------------------------------


def _count(pixels: Pixels, edges: Array | None, boxes: list[Box], cache: PieceCache) -> np.ndarray:
    """Count the pixels of all pieces."""
    counts = np.zeros((*pixels.histograms, pixels.bins(edges)), np.int64)

    def work(stream: TransferStream, box: Box, number: int) -> None:
        piece = cache.upload(stream, pixels, box, number)
        counted = gpu.histogram(piece, _edges_of(stream, edges, box))
        stream.download(counted, counts[_pieces.histograms_of(pixels, box)], add=True)

    for_each_piece(boxes, work)
    return counts


def _map(
    pixels: Pixels, table: Array, edges: Array | None, out: Array, boxes: list[Box], cache: PieceCache
) -> None:
    """Map all pieces."""

    def work(stream: TransferStream, box: Box, number: int) -> None:
        piece = cache.upload(stream, pixels, box, number)
        result = stream.empty_like(out[box])
        levels = stream.upload(table[_pieces.histograms_of(pixels, box)])
        gpu.apply(piece, levels, _edges_of(stream, edges, box), result)
        stream.download(result, out[box])

    for_each_piece(boxes, work)


def _edges_of(stream: TransferStream, edges: Array | None, box: Box) -> Array | None:
    """Return the edges of a piece's bins on the device; those of a single image may serve all."""
    if edges is None:
        return None
    return stream.upload(edges[slice(None) if len(edges) == 1 else box[0], box[1]])


def _upload_all(pixels: Pixels) -> Pixels:
    """Return all images on the device, at once."""
    image = pixels.image.astype(pixels.image.dtype.newbyteorder("="), copy=False)
    mask = None if pixels.mask is None else cupy.asarray(pixels.mask)
    return dataclasses.replace(pixels, image=cupy.asarray(image), mask=mask, alpha=False)
