"""The CuPy backend: CUDA kernels on the current device and stream, without a synchronisation.

`equalize` of integer images is two launches: the histogram, whose last block makes the table, and the
lookup. A small image of uint8 takes one, and so does a batch of them on devices with clusters. Floating
images take two more before: the range with the edges of the bins, and the slopes between their centres.
Only `match` of floating images, which sorts, waits for the device.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from histeq_kernels import cuda

from histeq._core import rules as _rules
from histeq._core import ycrcb as _color
from histeq._core.backend import Pixels

_ADVICE = "pip install cupy-cuda12x (for a CUDA 12 driver) or cupy-cuda13x (for CUDA 13)"

try:
    import cupy
except ImportError as error:
    raise ImportError(f"CuPy is not installed ({error})") from error

try:
    if not cupy.cuda.runtime.getDeviceCount():
        raise ImportError("there is no CUDA device")
except cupy.cuda.runtime.CUDARuntimeError as error:
    raise ImportError(f"CuPy finds no usable CUDA device or driver ({error})") from error

# These need CuPy: they come after the check.
from histeq._backends.cupy import device as _device  # noqa: E402
from histeq._backends.cupy.clahe import apply_tiles, clahe, tile_tables  # noqa: E402
from histeq._backends.cupy.device import Device, address, on, structure  # noqa: E402
from histeq._backends.cupy.layout import (  # noqa: E402
    Lines,
    aligned,
    copy_bytes,
    flip_of,
    is_aligned,
    lines_of,
    red_first,
    tag_of,
)  # fmt: skip

__all__ = [
    "apply", "apply_tiles", "bin_edges", "clahe", "copy_alpha", "device", "empty_like", "equalize",
    "fast_path", "histogram", "lookup_table", "match_table", "match_values", "name", "overlap", "tile_tables",
]  # fmt: skip

Array = Any

name = "cupy"
fast_path = None  # its checks are hidden behind the device's work

_RULES = {"none": 0, "opencv": 1, "numpy": 2, "pillow": 3, "vips": 4, "skimage": 5}
"""enum RuleName of table.cuh."""
_WORKSPACE = 1 << 28
"""Bytes of counts at once: a batch of 16-bit images goes in groups of 512 histograms."""
_GRID_Y = 65535
_U64 = np.uint64


def device() -> str:
    """Return the name of the processor that does the work."""
    index = cupy.cuda.runtime.getDevice()
    properties = cupy.cuda.runtime.getDeviceProperties(index)
    return f"GPU {index}, {properties['name'].decode()}, sm_{properties['major']}{properties['minor']}"


def empty_like(image: Array, dtype: Any) -> Array:
    """Return a new array: the shape, device and memory order of `image`, with `dtype`."""
    with on(image):
        return cupy.empty_like(image, dtype)


def overlap(a: Array, b: Array) -> bool:
    """Tell whether two arrays may share memory: whether the address ranges meet."""
    return bool(cupy.may_share_memory(a, b))


def copy_alpha(source: Array, target: Array) -> None:
    """Copy an alpha channel into that of a result."""
    with on(target):
        target[...] = _color.alpha_for(target.dtype, source)


def bin_edges(pixels: Pixels, bins: int, value_range: tuple[float, float] | None) -> Array:
    """Return the edges of the bins of a floating image, (N, P, bins + 1), in its dtype."""
    image = aligned(pixels.image)
    with on(image):
        planes, tag = image.shape[0] * image.shape[1], tag_of(image.dtype)
        gpu = _device.device(image.device.id)
        space = gpu.workspace()
        edges = space.array("edges", (*image.shape[:2], bins + 1), image.dtype)
        if planes == 0:
            return edges
        if value_range is not None:
            grid = (min(planes, 1 << 16),)
            low, high = (np.float64(value) for value in value_range)
            arguments = (low, high, np.int64(planes), np.int64(bins), edges)
            gpu.launch("bins", f"edges_{tag}", grid, arguments, _device.SCRATCH)
            return edges
        walk = lines_of(image, pixels.mask)
        search = (
            walk.layout, walk.image, walk.mask, _nodata(pixels), space.zeros("counts", 2 * planes, _U64),
            space.zeros("tickets", planes, np.uint32), np.int64(bins), edges,
        )  # fmt: skip
        gpu.launch("bins", f"extremes_{tag}", _grid(gpu, walk, image.itemsize), search, _device.SCRATCH)
    return edges


def histogram(pixels: Pixels, edges: Array | None) -> Array:
    """Count the pixels: (N, P, levels or bins), int64."""
    with on(pixels.image):
        bins = pixels.bins(edges)
        counts = cupy.empty((*pixels.histograms, bins), np.int64)
        rule = _rule("none", bins, pixels.image.dtype, None, pixels)
        _count(pixels, edges, rule, None, counts)
    return counts


def lookup_table(counts: Array, rule: str, dtype: Any, out_range: tuple[Any, Any] | None) -> Array:
    """Return the table of a rule for each histogram: (..., levels)."""
    with on(counts):
        counts = cupy.ascontiguousarray(counts)
        table = cupy.empty(counts.shape, _rules.table_dtype(rule, dtype))
        bins = counts.shape[-1]
        histograms = counts.size // bins if bins else 0
        if histograms:
            arguments = (counts, np.int64(histograms), _rule(rule, bins, dtype, out_range), table)
            gpu = _device.device(counts.device.id)
            gpu.launch("table", "table", (min(histograms, 1 << 16),), arguments, _device.SCRATCH)
    return table


def match_table(counts: Array, reference: Array, dtype: Any) -> Array:
    """Return the table that gives `counts` the distribution of the counts `reference`."""
    with on(counts):
        counts = cupy.ascontiguousarray(counts)
        reference = cupy.ascontiguousarray(cupy.broadcast_to(reference, counts.shape))
        table = cupy.empty(counts.shape, dtype)
        bins = counts.shape[-1]
        histograms = counts.size // bins
        if histograms:
            quantiles, values = (cupy.empty(counts.shape, np.float64) for _ in range(2))
            arguments = (
                counts, reference, np.int64(bins), np.int64(histograms), np.int64(bins), _bottom(dtype),
                np.int64(table.itemsize), quantiles, values, table,
            )  # fmt: skip
            gpu = _device.device(counts.device.id)
            gpu.launch("match", "match", (min(histograms, 1 << 16),), arguments, _device.SCRATCH)
    return table


def match_values(pixels: Pixels, reference: Pixels, out: Array) -> None:
    """Match a floating image to a floating reference, value by value (scikit-image's match_histograms).

    Sorting needs the number of distinct values on the host: this function waits for the device.
    """
    with on(pixels.image):
        images, planes = pixels.image.shape[:2]
        for n in range(images):
            for p in range(planes):
                _match_plane(pixels, reference, n, p, out[n, p])


def apply(pixels: Pixels, table: Array, edges: Array | None, out: Array) -> None:
    """Map every pixel through its table into `out`; masks play no part."""
    with on(pixels.image):
        target = out if is_aligned(out) else cupy.empty(out.shape, out.dtype)
        if pixels.image.size:
            if pixels.luma:
                _apply_luma(pixels, table, target)
            elif edges is None:
                _apply_lut(pixels, table, target)
            else:
                _apply_interpolated(pixels, edges, table, target)
        if target is not out:
            copy_bytes(target, out)


def equalize(
    pixels: Pixels, rule: str, out_range: tuple[Any, Any] | None, edges: Array | None, out: Array
) -> None:
    """Do histogram, lookup_table and apply at once: the last block of the histogram makes the table."""
    image = pixels.image
    with on(image):
        if _equalize_in_one_launch(pixels, rule, out_range, out):
            return
        bins = pixels.bins(edges)
        space = _device.device(image.device.id).workspace()
        table = space.array("table", (*pixels.histograms, bins), _rules.table_dtype(rule, image.dtype))
        _count(pixels, edges, _rule(rule, bins, image.dtype, out_range, pixels), table, None)
        apply(pixels, table, edges, out)


def _equalize_in_one_launch(pixels: Pixels, rule: str, out_range: tuple[Any, Any] | None, out: Array) -> bool:
    """Equalize uint8 images with contiguous lines, where one launch does it; tell whether it did."""
    image = pixels.image
    if image.dtype != np.uint8 or out.dtype != np.uint8 or pixels.mask is not None or pixels.luma:
        return False
    gpu = _device.device(image.device.id)
    planes = image.shape[0] * image.shape[1]
    small = planes == 1 and gpu.cooperates and 0 < image.size <= gpu.one_turn()
    if not small and not (planes and gpu.fits_clusters(planes, image.size // planes)):
        return False
    walk = lines_of(image, None, out)
    if not walk.dense:
        return False
    levels = _rule(rule, 256, image.dtype, out_range, pixels)
    if small:
        space = gpu.workspace()
        counts, tickets = space.zeros("counts", 256, _U64), space.zeros("tickets", 2, np.uint32)
        results = structure(_device.RESULTS, address(counts), address(tickets), 0, 0)
        arguments: tuple[Any, ...] = (walk.layout, walk.image, levels, results, walk.out)
        shared = _device.SCRATCH + _device.COUNTERS_U8
        grid = (_grid(gpu, walk, 1)[0],)
        gpu.launch("equalize", "equalize_u8", grid, arguments, shared, together=True)
        return True
    turns = gpu.kept_turns()
    shared = _device.SCRATCH + _device.WORKPLACE + turns * _device.STRETCH
    arguments = (walk.layout, walk.image, levels, np.int64(turns), walk.out)
    blocks = (cuda.CLUSTER, min(planes, _GRID_Y))
    gpu.launch("clusters", "equalize_u8_clusters", blocks, arguments, shared)
    return True


# Counting ------------------------------------------------------------------------------------------


def _count(
    pixels: Pixels, edges: Array | None, rule: np.ndarray, table: Array | None, counts: Array | None
) -> None:
    """Launch the histogram, in groups of images whose counts the workspace holds."""
    pixels = replace(pixels, image=aligned(pixels.image))
    gpu = _device.device(pixels.image.device.id)
    space = gpu.workspace()
    bins = int(rule["bins"])
    images, planes = pixels.histograms
    if images * planes == 0:
        return
    group = max(1, _WORKSPACE // (8 * bins * planes))
    for start in range(0, images, group):
        part = slice(start, start + group)
        some = pixels.part(part)
        histograms = len(some.image) * planes
        results = structure(
            _device.RESULTS,
            address(space.zeros("counts", histograms * bins, _U64)),
            address(space.zeros("tickets", histograms, np.uint32)),
            address(None if table is None else table[part]),
            address(None if counts is None else counts[part]),
        )
        _launch_histogram(gpu, some, None if edges is None else edges[part], rule, results)


def _launch_histogram(
    gpu: Device, pixels: Pixels, edges: Array | None, rule: np.ndarray, results: np.ndarray
) -> None:
    image, mask = pixels.image, pixels.mask
    tag = tag_of(image.dtype)
    if edges is not None:
        walk = lines_of(image, mask)
        copies = _device.copies(int(rule["bins"]))
        arguments: tuple[Any, ...] = (
            walk.layout, walk.image, walk.mask, _nodata(pixels), edges, np.int64(copies), rule, results
        )  # fmt: skip
        shared = _device.SCRATCH + 4 * copies * int(rule["bins"])
        gpu.launch("bins", f"histogram_bins_{tag}", _grid(gpu, walk, image.itemsize), arguments, shared)
        return
    slices = gpu.slices() if image.itemsize == 2 else 1
    shared = _device.SCRATCH + (
        _device.COUNTERS_U8 if image.itemsize == 1 else _device.COUNTERS_U16 // slices
    )
    if pixels.luma:
        walk = lines_of(red_first(pixels, image), mask, luma=True)
        nodata = np.int64(-1 if pixels.nodata is None else pixels.nodata)
        arguments = (walk.layout, walk.image, walk.mask, nodata, rule, results)
        grid = _grid(gpu, walk, 3 * image.itemsize, slices, image.itemsize == 2)
        gpu.launch("luma", f"histogram_luma_{tag}", grid, arguments, shared)
        return
    walk = lines_of(image, mask)
    flip = () if image.itemsize == 1 else (flip_of(image.dtype),)
    grid = _grid(gpu, walk, image.itemsize, slices, image.itemsize == 2)
    if walk.dense:
        arguments = (walk.layout, walk.image, *flip, rule, results)
        gpu.launch("histogram", f"histogram_{tag}", grid, arguments, shared)
    else:
        arguments = (walk.layout, walk.image, walk.mask, *flip, rule, results)
        gpu.launch("histogram", f"histogram_{tag}_strided", grid, arguments, shared)


def _rule(
    rule: str, bins: int, dtype: Any, out_range: tuple[Any, Any] | None, pixels: Pixels | None = None
) -> np.ndarray:
    """Return the kernels' structure of a rule. Of `pixels`, nodata does not count in integer images."""
    floating = dtype.kind == "f"
    bottom = 0 if floating else int(_bottom(dtype))
    low, span, fractions = bottom, bins - 1, (0.0, 1.0)
    nodata = -1
    if rule == "skimage":
        if out_range is not None:
            fractions = (float(out_range[0]), float(out_range[1]) - float(out_range[0]))
    elif out_range is not None:
        low, span = int(out_range[0]), int(out_range[1]) - int(out_range[0])
    if pixels is not None and pixels.nodata is not None and not floating and pixels.luma is None:
        nodata = int(pixels.nodata) - bottom
    to_brightest = rule == "vips" and out_range is None and bins != 256
    width = 0 if rule == "none" else _rules.table_dtype(rule, dtype).itemsize
    values = (_RULES[rule], bins, width, nodata, bottom, low, span, to_brightest, floating, *fractions)
    return structure(_device.RULE, *values)


# Mapping -------------------------------------------------------------------------------------------


def _apply_lut(pixels: Pixels, table: Array, out: Array) -> None:
    """Map integers."""
    image = aligned(pixels.image)
    gpu = _device.device(image.device.id)
    table = _dense_levels(table)
    walk = lines_of(image, None, out)
    bottom = int(_bottom(image.dtype))
    tables = structure(
        _device.TABLES,
        address(table),
        table.strides[0] // table.itemsize,
        table.strides[1] // table.itemsize,
        -1 if pixels.nodata is None else int(pixels.nodata) - bottom,
        flip_of(image.dtype),
    )
    tag = tag_of(image.dtype) + ("_f64" if table.dtype == np.float64 else "")
    dense = walk.dense and table.dtype != np.float64
    arguments = (walk.layout, walk.image, tables, walk.out)
    grid = _grid(gpu, walk, image.itemsize)
    shared = 0 if image.itemsize == 2 else _device.SCRATCH + _device.TABLE_U8
    gpu.launch("lut", f"apply_lut_{tag}" + ("" if dense else "_strided"), grid, arguments, shared)


def _apply_luma(pixels: Pixels, table: Array, out: Array) -> None:
    image = aligned(pixels.image)
    gpu = _device.device(image.device.id)
    table = _dense_levels(table)
    walk = lines_of(red_first(pixels, image), None, red_first(pixels, out), luma=True)
    nodata = np.int64(-1 if pixels.nodata is None else pixels.nodata)
    to_next = np.int64(table.strides[0] // table.itemsize)
    arguments = (walk.layout, walk.image, table, to_next, nodata, walk.out)
    gpu.launch("luma", f"apply_luma_{tag_of(image.dtype)}", _grid(gpu, walk, 3 * image.itemsize), arguments)


def _apply_interpolated(pixels: Pixels, edges: Array, table: Array, out: Array) -> None:
    image = aligned(pixels.image)
    gpu = _device.device(image.device.id)
    tag = tag_of(image.dtype)
    table = _dense_levels(table)
    bins = table.shape[-1]
    walk = lines_of(image, None, out)
    points = gpu.workspace().array("points", (walk.planes, bins, 3), np.float64)  # struct Point of bins.cu
    steps = (np.int64(stride // table.itemsize) for stride in table.strides[:2])
    counts = (np.int64(bins), np.int64(walk.planes), np.int64(image.shape[1]))
    grid = (min(-(-walk.planes * bins // 512), 1 << 16),)
    gpu.launch("bins", f"points_{tag}", grid, (edges, *counts, table, *steps, points))
    arguments = (walk.layout, walk.image, _nodata(pixels), edges, np.int64(bins), points, walk.out)
    gpu.launch("bins", f"apply_interpolated_{tag}", _grid(gpu, walk, image.itemsize), arguments)


def _match_plane(pixels: Pixels, reference: Pixels, n: int, p: int, out: Array) -> None:
    plane = pixels.image[n, p]
    counted = _finite(pixels, n, p)
    target = _finite(reference, min(n, len(reference.image) - 1), p)
    source = plane.copy()
    out[...] = source
    if counted.size == 0 or target.size == 0:
        return
    values, counts = cupy.unique(counted, return_counts=True)
    target_values, target_counts = cupy.unique(target, return_counts=True)
    quantiles = cupy.cumsum(counts) / float(counted.size)
    target_quantiles = cupy.cumsum(target_counts) / float(target.size)
    matched = cupy.empty(quantiles.shape, np.float64)
    arguments = (
        quantiles, np.int64(quantiles.size), target_quantiles, target_values.astype(np.float64),
        np.int64(target_quantiles.size), matched,
    )  # fmt: skip
    gpu = _device.device(plane.device.id)
    gpu.launch("match", "interpolate_f64", (min(-(-quantiles.size // 512), 1 << 16),), arguments)
    at = cupy.searchsorted(values, source.ravel(), side="right").reshape(source.shape) - 1
    maps = cupy.isfinite(source)
    if pixels.nodata is not None:
        maps &= source != pixels.nodata
    out[...] = cupy.where(maps, matched[cupy.maximum(at, 0)].astype(out.dtype), source)


def _finite(pixels: Pixels, n: int, p: int) -> Array:
    """Return all finite counted values of a plane, 1-D."""
    plane = pixels.image[n, p]
    counts = cupy.isfinite(plane)
    if pixels.nodata is not None:
        counts &= plane != pixels.nodata
    if (mask := pixels.mask_of(n)) is not None:
        counts &= mask
    return plane[counts]


# Shared --------------------------------------------------------------------------------------------


def _grid(
    gpu: Device, walk: Lines, itemsize: int, slices: int = 1, alone: bool = False
) -> tuple[int, int, int]:
    """Return the grid of a launch over planes; `alone`: a block's shared memory fills a multiprocessor."""
    blocks = 1 if alone else _device.BLOCKS_PER_MULTIPROCESSOR
    parts = gpu.parts(walk.pixels * itemsize, walk.planes * slices, walk.pixels, blocks)
    return parts, min(walk.planes, _GRID_Y), slices


def _bottom(dtype: Any) -> np.int64:
    return np.int64(np.iinfo(dtype).min)


def _nodata(pixels: Pixels) -> np.float64:
    """Return nodata for the kernels of floating images, NaN where there is none."""
    return np.float64(np.nan if pixels.nodata is None else pixels.nodata)


def _dense_levels(table: Array) -> Array:
    """Return tables whose levels are contiguous; leading axes may be broadcast."""
    if table.strides[2] == table.itemsize or table.shape[2] == 1:
        return table
    return cupy.ascontiguousarray(table)
