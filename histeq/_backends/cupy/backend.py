"""The CuPy backend: CUDA kernels on the current device and stream, without a synchronisation.

`equalize` of grey images is one launch, but for batches of 16 bits. That of other integers is two: the
histogram, whose last block makes the table, and the lookup; or three with 16 bits, since many blocks make
that table. Floating images take two more before: the range with the edges of the bins, and the slopes between
their centres.
Only `match` of floating images, which sorts, waits for the device.
"""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from histeq_kernels.cuda.interface import (
    CHUNK,
    COUNTERS_U8,
    POINT,
    RESULTS,
    SCRATCH,
    TABLE_U8,
    TABLE_U16,
    THREADS,
    WARP,
    WIDE_COUNTS,
)

from histeq._backends.numpy.backend import edges_between
from histeq._backends.numpy.backend import overlap as overlap_on_cpu
from histeq._backends.numpy.clahe import count_by_parts
from histeq._core import rules as _rules
from histeq._core.backend import Pixels
from histeq._core.rules import OutRange
from histeq._core.tile_grid import Grid, Levels

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
from histeq._backends.cupy import device as _device
from histeq._backends.cupy import fused as _fused
from histeq._backends.cupy import fused_u16 as _fused_u16
from histeq._backends.cupy import plans as _plans  # noqa: F401  interop.py looks for it
from histeq._backends.cupy.clahe import apply_tiles, clahe, count_whole, tables_of_tiles, tile_tables
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
    merged_region_of,
    red_first,
    tables_of,
    tag_of,
    with_contiguous_levels,
)
from histeq._backends.cupy.match import match_table, match_values
from histeq._backends.cupy.rules import lookup_table, nodata_bin, rule_of
from histeq._backends.cupy.window import Window

__all__ = [
    "ClipWindow", "PlainFrames", "Window", "apply", "apply_tiles", "as_mask", "bin_edges", "clahe",
    "copy_alpha", "count_into", "device", "empty_like", "equalize", "fast_path", "histogram", "lookup_table",
    "match_table", "match_values", "name", "overlap", "tables_of_tiles", "tile_histograms", "tile_tables",
]  # fmt: skip

Array = Any

name = "cupy"
fast_path = None  # the checks of a call are hidden behind the device's work
ClipWindow = None
PlainFrames = None


def device() -> str:
    """Return the name of the processor that does the work."""
    index = cupy.cuda.runtime.getDevice()
    properties = cupy.cuda.runtime.getDeviceProperties(index)
    return f"GPU {index}, {properties['name'].decode()}, sm_{properties['major']}{properties['minor']}"


def empty_like(image: Array, dtype: Any) -> Array:
    """Return a new array: the shape, device and memory order of `image`, with `dtype`."""
    with on(image):
        return _made(cupy.empty_like(image, dtype))


def _made(array: Array) -> Array:
    """Return a new array, which may be the result of a call that is recorded."""
    if (record := _device.recording()) is not None:
        record.made(array)
    return array


def overlap(a: Array, b: Array) -> bool:
    """Tell whether two arrays share any memory, by their addresses.

    CuPy's own function says no to two arrays that were imported from another library, one after the other.
    """
    return overlap_on_cpu(_addresses_of(a), _addresses_of(b))


def _addresses_of(array: Array) -> np.ndarray:
    """Return an array of NumPy's with the addresses of one on the device: nobody may read it."""
    where = {"data": (address(array), True), "shape": array.shape, "strides": array.strides}
    return np.asarray(
        SimpleNamespace(__array_interface__={**where, "typestr": array.dtype.str, "version": 3})
    )


def as_mask(mask: Array) -> Array:
    """Return a mask as booleans."""
    if mask.dtype != np.bool_:
        with on(mask):
            refuse_capture(f"a mask of {mask.dtype}", "pass a mask of bool")
            return mask != 0
    return mask


def copy_alpha(source: Array, target: Array) -> None:
    """Copy an alpha channel into that of a result."""
    _device.give_up_recording()
    with on(target), aligned_target(target) as aligned_alpha:
        source = aligned(source)
        if target.dtype.kind == "f" and source.dtype.kind != "f":
            cupy.true_divide(source, np.iinfo(source.dtype).max, out=aligned_alpha)
        else:
            aligned_alpha[...] = source


def bin_edges(pixels: Pixels, bins: int, value_range: tuple[float, float] | None) -> Array:
    """Return the edges of the bins of a floating image, (N, P, bins + 1), in its dtype."""
    image = aligned(pixels.image)
    with on(image):
        planes, tag = image.shape[0] * image.shape[1], tag_of(image.dtype)
        gpu = _device.device(image.device.id)
        workspace = gpu.workspace()
        edges = workspace.empty("edges", (*image.shape[:2], bins + 1), image.dtype)
        if planes == 0:
            return edges
        if value_range is not None and not all(type(limit) is float for limit in value_range):
            refuse_capture("a value_range of NumPy's numbers", "pass Python's float")
            edges[...] = cupy.asarray(edges_between(*value_range, bins, image.dtype))
            return edges
        if value_range is not None:
            low, high = (np.float64(value) for value in value_range)
            of_range = (low, high, np.int64(planes), np.int64(bins), edges)
            gpu.launch("float_bins", f"edges_of_range_{tag}", grid_of(planes), of_range, SCRATCH)
            return edges
        region = merged_region_of(image, pixels.mask)
        of_image = (
            region.layout, region.image, region.mask, _nodata(pixels),
            workspace.zeros("counts", 2 * planes, np.uint64), workspace.zeros("tickets", planes, np.uint32),
            np.int64(bins), edges,
        )  # fmt: skip
        grid = region.grid(gpu, image.itemsize)
        gpu.launch("float_bins", f"edges_of_image_{tag}", grid, of_image, SCRATCH)
    return edges


def histogram(pixels: Pixels, edges: Array | None) -> Array:
    """Count the pixels: (N, P, levels or bins), int64."""
    with on(pixels.image):
        bins = _rules.levels_of(pixels.image.dtype) if edges is None else pixels.bins(edges)
        if pixels.value_range is not None:
            _refuse_capture()
        counts = _made(cupy.empty((*pixels.histograms, bins), np.int64))
        count_into(pixels, edges, counts)
        if pixels.value_range is not None:
            counts = cupy.ascontiguousarray(counts[..., pixels.bins_in_range])
    return counts


def count_into(pixels: Pixels, edges: Array | None, counts: Array) -> None:
    """Count the pixels of all values of integers, those of the bins of floats, into (N, P, bins) int64."""
    _count(pixels, edges, rule_of("none", counts.shape[-1], pixels.image.dtype, None, pixels), None, counts)


def tile_histograms(
    pixels: Pixels,
    grid: Grid,
    origin: tuple[int, ...],
    first: tuple[int, ...],
    levels: Levels,
    edges: Array | None,
    counts: Array,
) -> None:
    """Add the counts of a window, which begins at `origin`, to `counts`: those of tiles from `first` on.

    A whole image takes one launch, a window one for each of its parts.
    """
    with on(pixels.image):
        whole = pixels.image.shape[2:] == grid.shape and counts.shape[2:5] == grid.tiles
        if whole and counts.flags.c_contiguous:
            count_whole(pixels, grid, levels, edges, counts)
        else:
            count_by_parts(histogram, pixels, grid, origin, first, levels, edges, counts)


def apply(pixels: Pixels, table: Array, edges: Array | None, out: Array) -> None:
    """Map every pixel through its table into `out`; masks play no part."""
    if pixels.image.size == 0:
        return
    if pixels.value_range is not None:
        _apply_within_range(pixels, table, out)
        return
    with on(pixels.image), aligned_target(out) as target:
        if pixels.luma:
            _apply_luma(pixels, table, target)
        elif edges is None:
            _apply_lut(pixels, table, target)
        else:
            _apply_interpolated(pixels, edges, table, target)


def equalize(pixels: Pixels, rule: str, out_range: OutRange | None, edges: Array | None, out: Array) -> None:
    """Count, make tables and map at once: the last block of the histogram makes the table."""
    image = pixels.image
    if pixels.value_range is not None:
        _equalize_within_range(pixels, rule, out_range, out)
        return
    with on(image):
        if _fused.equalize(pixels, rule, out_range, out) or _fused_u16.equalize(pixels, rule, out_range, out):
            return
        bins, (images, planes) = pixels.bins(edges), pixels.histograms
        workspace = _device.device(image.device.id).workspace()
        dtype = _rules.table_dtype(rule, image.dtype, out_range)
        of_rule = rule_of(rule, bins, image.dtype, out_range, pixels)
        for part in image_groups(images, 8 * bins * planes):
            group, bounds = pixels.part(part), None if edges is None else edges[part]
            table = workspace.empty("table", (*group.histograms, bins), dtype)
            _count(group, bounds, of_rule, table, None)
            apply(group, table, bounds, out[part])


# Within a range of values ----------------------------------------------------------------------------
#
# All values are counted and mapped, by the same kernels; only tables are made of those within the range.


def _refuse_capture() -> None:
    """Refuse what makes counts and tables of all values that nobody holds."""
    refuse_capture("a call with value_range", "make it before the capture, or on another stream")


def _equalize_within_range(pixels: Pixels, rule: str, out_range: OutRange | None, out: Array) -> None:
    """Equalize integers, groups of images one after the other."""
    images, planes = pixels.histograms
    for part in image_groups(images, 8 * _rules.levels_of(pixels.image.dtype) * planes):
        group = pixels.part(part)
        table = lookup_table(histogram(group, None), rule, pixels.image.dtype, out_range)
        apply(group, table, None, out[part])


def _apply_within_range(pixels: Pixels, table: Array, out: Array) -> None:
    """Map integers through tables of the range, groups of images one after the other."""
    images, planes = pixels.histograms
    levels, first = _rules.levels_of(pixels.image.dtype), pixels.bins_in_range.start
    for part in image_groups(images, table.itemsize * levels * planes):
        with on(pixels.image):
            _refuse_capture()
            some = table[part]
            full = _rules.extend(some, first, cupy.empty((*some.shape[:-1], levels), table.dtype))
        apply(replace(pixels.part(part), value_range=None), full, None, out[part])


# Counting ------------------------------------------------------------------------------------------


def _count(
    pixels: Pixels, edges: Array | None, rule: np.ndarray, table: Array | None, counts: Array | None
) -> None:
    """Launch the histogram, in groups of images whose counts the workspace holds."""
    bins = int(rule["bins"])
    images, planes = pixels.histograms
    if images * planes == 0:
        return
    gpu = _device.device(pixels.image.device.id)
    workspace = gpu.workspace()
    pixels = replace(pixels, image=aligned(pixels.image))
    is_wide = edges is None and pixels.image.itemsize == 2
    numbers = WIDE_COUNTS if is_wide else bins
    for part in image_groups(images, 8 * numbers * planes):
        group = pixels.part(part)
        histograms = len(group.image) * planes
        results = structure(
            RESULTS,
            address(workspace.zeros("counts", histograms * numbers, np.uint64)),
            address(workspace.zeros("tickets", histograms, np.uint32)),
            address(None if table is None else table[part]),
            address(None if counts is None else counts[part]),
        )
        if edges is not None:
            _count_floats(gpu, group, edges[part], rule, results)
        elif pixels.luma:
            _count_luma(gpu, group, rule, results)
        else:
            _count_integers(gpu, group, rule, results)
        if is_wide:  # a warp makes the table of a chunk
            grid = (WIDE_COUNTS // CHUNK * WARP // THREADS, min(histograms, _device.GRID_Y))
            gpu.launch("histogram", "finish_u16", grid, (np.int64(histograms), rule, results), SCRATCH)


def _count_floats(gpu: Device, pixels: Pixels, edges: Array, rule: np.ndarray, results: np.ndarray) -> None:
    image, bins = pixels.image, int(rule["bins"])
    region = merged_region_of(image, pixels.mask)
    copies, slices, shared = gpu.counters_of(bins)
    arguments = (
        region.layout, region.image, region.mask, _nodata(pixels), edges, np.int64(copies), rule, results
    )  # fmt: skip
    grid = region.grid(gpu, image.itemsize, slices)
    gpu.launch("float_bins", f"histogram_bins_{tag_of(image.dtype)}", grid, arguments, shared)


def _count_luma(gpu: Device, pixels: Pixels, rule: np.ndarray, results: np.ndarray) -> None:
    image = pixels.image
    region = merged_region_of(red_first(pixels, image), pixels.mask, luma=True)
    grid, shared = _grid_of_counters(gpu, region, image.dtype, 3)
    last = (rule, results) if image.itemsize == 1 else (results,)
    arguments = (region.layout, region.image, region.mask, np.int64(nodata_bin(pixels)), *last)
    gpu.launch("luma", f"histogram_luma_{tag_of(image.dtype)}", grid, arguments, shared)


def _count_integers(gpu: Device, pixels: Pixels, rule: np.ndarray, results: np.ndarray) -> None:
    image = pixels.image
    region = merged_region_of(image, pixels.mask)
    grid, shared = _grid_of_counters(gpu, region, image.dtype, 1)
    name = f"histogram_{tag_of(image.dtype)}" + ("" if region.is_contiguous else "_strided")
    mask = () if region.is_contiguous else (region.mask,)
    last = (rule, results) if image.itemsize == 1 else (results,)
    arguments = (region.layout, region.image, *mask, flip_of(image.dtype), *last)
    gpu.launch("histogram", name, grid, arguments, shared)


def _grid_of_counters(
    gpu: Device, region: Region, dtype: Any, channels: int
) -> tuple[tuple[int, int, int], int]:
    """Return the grid and the shared memory of a launch that counts integers."""
    if dtype.itemsize == 1:
        return region.grid(gpu, channels), SCRATCH + COUNTERS_U8
    slices = gpu.slices()
    # The counters of a block fill the shared memory of a multiprocessor.
    grid = region.grid(gpu, 2 * channels, slices, resident_blocks=1)
    return grid, gpu.shared_of_slices()


def _nodata(pixels: Pixels) -> np.float64:
    """Return nodata for the kernels of floating images, NaN where there is none."""
    return np.float64(np.nan if pixels.nodata is None else pixels.nodata)


# Mapping -------------------------------------------------------------------------------------------


def _apply_lut(pixels: Pixels, table: Array, out: Array) -> None:
    """Map integers."""
    image = aligned(pixels.image)
    gpu = _device.device(image.device.id)
    table = with_contiguous_levels(table)
    region = merged_region_of(image, None, out)
    name = f"apply_lut_{tag_of(image.dtype)}"
    name += f"_{tag_of(table.dtype)}" if table.itemsize != image.itemsize else ""
    name += "" if region.is_contiguous else "_strided"
    arguments = (region.layout, region.image, tables_of(table, pixels), region.out)
    grid, shared = region.grid(gpu, image.itemsize), SCRATCH + TABLE_U8
    if image.itemsize == 2:
        shared = 0
        whole = region.grid(gpu, 2, resident_blocks=1)
        if region.is_contiguous and gpu.holds_wide_table(2 * region.plane_size // whole[0]):
            name, grid, shared = f"{name}_shared", whole, SCRATCH + TABLE_U16
    gpu.launch("lut", name, grid, arguments, shared)


def _apply_luma(pixels: Pixels, table: Array, out: Array) -> None:
    """Map the luma of coloured images."""
    image = aligned(pixels.image)
    gpu = _device.device(image.device.id)
    table = with_contiguous_levels(table)
    region = merged_region_of(red_first(pixels, image), None, red_first(pixels, out), luma=True)
    arguments = (region.layout, region.image, tables_of(table, pixels), region.out)
    grid = region.grid(gpu, 3 * image.itemsize)
    gpu.launch("luma", f"apply_luma_{tag_of(image.dtype)}", grid, arguments)


def _apply_interpolated(pixels: Pixels, edges: Array, table: Array, out: Array) -> None:
    """Map floating images."""
    image = aligned(pixels.image)
    gpu = _device.device(image.device.id)
    tag = tag_of(image.dtype)
    table = with_contiguous_levels(table)
    bins = table.shape[-1]
    region = merged_region_of(image, None, out)
    points = gpu.workspace().empty("points", (region.planes, bins, POINT.itemsize // 8), np.float64)
    counts = (np.int64(bins), np.int64(region.planes), np.int64(image.shape[1]))
    of_tables = (edges, *counts, tables_of(table), points)
    gpu.launch("interpolate", f"points_{tag}", grid_of_elements(region.planes * bins), of_tables)
    nodata = map(np.float64, pixels.nodata_and_beside(np.nan))
    arguments = (region.layout, region.image, *nodata, edges, np.int64(bins), points, region.out)
    gpu.launch("interpolate", f"apply_interpolated_{tag}", region.grid(gpu, image.itemsize), arguments)
