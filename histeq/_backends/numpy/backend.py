"""The NumPy backend: the readable reference, the oracle of the tests, and the fallback without Numba.

It goes through an image row block by row block, so that its memory stays small on any size.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histeq._backends.numpy.clahe import apply_tiles, clahe, count_by_parts, tables_of_tiles, tile_tables
from histeq._core import nodata as _nodata
from histeq._core import rules as _rules
from histeq._core import ycrcb as _color
from histeq._core.backend import Pixels
from histeq._core.rules import OutRange
from histeq._core.shots import distance as histogram_distance
from histeq._core.tile_grid import Grid, Levels
from histeq._core.window import Window

__all__ = [
    "ClipWindow", "PlainFrames", "Window", "apply", "apply_tiles", "as_mask", "bin_edges", "clahe",
    "copy_alpha", "device", "empty_like", "equalize", "equalize_by", "fast_path", "histogram",
    "histogram_distance", "lookup_table", "match_table", "match_values", "name", "overlap", "tables_of_tiles",
    "tile_histograms", "tile_tables",
]  # fmt: skip

Array = NDArray[Any]

name = "numpy"
ClipWindow = None
PlainFrames = None
fast_path = None
_BLOCK = 1 << 20  # pixels handled at once: their int64 temporaries stay within 8 MB each


def device() -> str:
    """Return the name of the processor that does the work."""
    return "CPU, 1 thread"


def empty_like(image: Array, dtype: np.dtype) -> Array:
    """Return a new array: the shape and memory order of `image`, with `dtype`."""
    return np.empty_like(image, dtype, subok=False)


def overlap(a: Array, b: Array) -> bool:
    """Tell whether two arrays share any memory (exactly, unless that would take long: then maybe)."""
    if not np.may_share_memory(a, b):
        return False
    try:
        return np.shares_memory(a, b, max_work=10_000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def as_mask(mask: Array) -> Array:
    """Return a mask as booleans."""
    return mask if mask.dtype == np.bool_ else mask != 0


def copy_alpha(source: Array, target: Array) -> None:
    """Copy an alpha channel into that of a result."""
    np.copyto(target, _color.alpha_for(target.dtype, source))


def bin_edges(pixels: Pixels, bins: int, value_range: tuple[float, float] | None) -> Array:
    """Return the edges of the bins of a floating image, (N, P, bins + 1), in its dtype."""
    images, planes = pixels.image.shape[:2]
    dtype = pixels.image.dtype.newbyteorder("=")
    edges = np.empty((images, planes, bins + 1), dtype)
    for n, p in np.ndindex(images, planes):
        low, high = value_range or _extremes(pixels, n, p)
        edges[n, p] = edges_between(low, high, bins, dtype)
    return edges


def edges_between(low: Any, high: Any, bins: int, dtype: np.dtype) -> Array:
    """Return the edges of `bins` bins of equal width in `dtype`, as np.histogram makes them.

    Python's floats give edges of `dtype`. Limits of a wider dtype give edges of theirs, with which
    np.histogram compares the pixels; these are rounded inwards, which puts every pixel into the same bin.
    """
    if low == high:
        low, high = low - 0.5, high + 0.5
    wide = np.result_type(low, high, dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        edges = np.linspace(low, high, bins + 1, dtype=wide)
        if not np.isfinite(edges).all():  # high - low overflows
            edges = (2 * np.linspace(low / 2, high / 2, bins + 1)).astype(wide)
    if wide == dtype:
        return edges
    rounded = edges.astype(dtype)
    rounded = np.where(rounded < edges, np.nextafter(rounded, dtype.type(np.inf)), rounded)
    if rounded[-1] > high:
        rounded[-1] = np.nextafter(rounded[-1], dtype.type(-np.inf))
    return rounded


def histogram(pixels: Pixels, edges: Array | None) -> NDArray[np.int64]:
    """Count the pixels: (N, P, levels or bins), int64."""
    length = pixels.bins(edges)
    counts = np.zeros((*pixels.histograms, length), np.int64)
    for n, p in np.ndindex(pixels.histograms):
        for values in _counted(pixels, n, p):
            if edges is not None:
                index, inside = bin_index(values, edges[n, p])
                index = index[inside]
            else:
                index = values.astype(np.int64) - np.iinfo(pixels.image.dtype).min
                index = index - pixels.bins_in_range.start
                index = index[(index >= 0) & (index < length)]
            counts[n, p] += np.bincount(index, minlength=length)
    return counts


def bin_index(values: Array, edges: Array) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return each value's bin, as np.histogram has it, and whether it lies in any (NaN does not).

    The last bin includes its right edge.
    """
    inside = (values >= edges[0]) & (values <= edges[-1])
    index = np.searchsorted(edges, values, side="right") - 1
    return np.minimum(index, len(edges) - 2), inside


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


def lookup_table(counts: NDArray[np.int64], rule: str, dtype: np.dtype, out_range: OutRange | None) -> Array:
    """Return the table of a rule for each histogram: (..., levels)."""
    table = np.empty(counts.shape, _rules.table_dtype(rule, dtype, out_range))
    for at in np.ndindex(counts.shape[:-1]):
        table[at] = _rules.lookup_table(counts[at], rule, dtype, out_range)
    return table


def match_table(
    counts: NDArray[np.int64], reference: NDArray[np.int64], dtype: np.dtype, first: int
) -> Array:
    """Return the table that gives `counts`, from value `first` up, the distribution of `reference`."""
    table = np.empty(counts.shape, dtype.newbyteorder("="))
    reference = np.broadcast_to(reference, counts.shape)
    for at in np.ndindex(counts.shape[:-1]):
        table[at] = _rules.match_table(counts[at], reference[at], dtype, first)
    return table


def match_values(pixels: Pixels, reference: Pixels, out: Array) -> None:
    """Match a floating image to a floating reference, value by value (scikit-image's match_histograms).

    Pixels that are not counted go where the closest counted value below them goes.
    """
    for n, p in np.ndindex(pixels.image.shape[:2]):
        plane = pixels.image[n, p]
        counted = _finite(pixels, n, p)
        target = _finite(reference, min(n, len(reference.image) - 1), p)
        np.copyto(out[n, p], plane)
        if len(counted) == 0 or len(target) == 0:
            continue
        values, counts = np.unique(counted, return_counts=True)
        target_values, target_counts = np.unique(target, return_counts=True)
        quantiles = np.cumsum(counts) / len(counted)
        target_quantiles = np.cumsum(target_counts) / len(target)
        matched = np.interp(quantiles, target_quantiles, target_values).astype(target_values.dtype)
        (matched,) = _nodata.apart([matched], pixels)
        for block, result in zip(_blocks(plane), _blocks(out[n, p]), strict=True):
            at = np.searchsorted(values, block, side="right") - 1
            mapped = matched[np.maximum(at, 0)]
            np.copyto(result, mapped, where=_maps(block, pixels))


def apply(pixels: Pixels, table: Array, edges: Array | None, out: Array) -> None:
    """Map every pixel through its table into `out`; masks play no part."""
    for n in range(len(pixels.image)):
        if pixels.luma:
            _apply_luma(pixels, n, over_all_values(pixels, table[n, 0]), out[n])
            continue
        for p in range(pixels.image.shape[1]):
            levels = over_all_values(pixels, table[n, p])
            for block, result in zip(_blocks(pixels.image[n, p]), _blocks(out[n, p]), strict=True):
                if edges is None:
                    mapped = levels[block.astype(np.int64) - np.iinfo(block.dtype).min]
                elif np.isnan(levels[0]):  # nothing was counted
                    mapped = block
                else:
                    mapped = interpolate(block, edges[n, p], levels)
                (mapped,) = _nodata.apart([mapped], pixels)
                passed = block.astype(mapped.dtype)  # its nodata, which the result holds
                np.copyto(result, np.where(_maps(block, pixels), mapped, passed), casting="same_kind")


def over_all_values(pixels: Pixels, table: Array) -> Array:
    """Return a table (..., levels) of the value range as one of all values of an integer image."""
    if pixels.value_range is None:
        return table
    full = np.empty((*table.shape[:-1], _rules.levels_of(pixels.image.dtype)), table.dtype)
    return _rules.extend(table, pixels.bins_in_range.start, full)


def interpolate(values: Array, edges: Array, table: Array) -> Array:
    """Return `table`, given at the bins' centres, linearly interpolated at `values`, in its dtype."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return np.interp(values, centres_of(edges), table).astype(table.dtype)


def centres_of(edges: Array) -> Array:
    """Return the bins' centres, as skimage.exposure.histogram computes them."""
    with np.errstate(over="ignore"):
        centres = (edges[:-1] + edges[1:]) / 2.0
    return np.where(np.isfinite(centres), centres, edges[:-1] / 2.0 + edges[1:] / 2.0)


def equalize(pixels: Pixels, rule: str, out_range: OutRange | None, edges: Array | None, out: Array) -> None:
    """Do histogram, lookup_table and apply at once, image by image: the tables of one are held at a time."""
    for n in range(len(pixels.image)):
        part = slice(n, n + 1)
        image, bounds = pixels.part(part), None if edges is None else edges[part]
        table = lookup_table(histogram(image, bounds), rule, pixels.image.dtype, out_range)
        apply(image, table, bounds, out[part])


def equalize_by(
    pixels: Pixels, edges: Array | None, table_of: Callable[[NDArray[np.int64]], Array], out: Array
) -> None:
    """Count one image, map it through the table that `table_of` makes of the counts, (1, P, bins)."""
    apply(pixels, table_of(histogram(pixels, edges)), edges, out)


def _apply_luma(pixels: Pixels, n: int, table: Array, out: Array) -> None:
    rgb = pixels.channels_of(0)
    planes = [list(_blocks(pixels.image[n, c])) for c in rgb]
    results = [list(_blocks(out[c])) for c in rgb]
    for block, result in zip(zip(*planes, strict=True), zip(*results, strict=True), strict=True):
        maps = ~_nodata.is_nodata(block, pixels)
        new = _nodata.apart(_color.replace_luma(block[0], block[1], block[2], table), pixels)
        for before, after, target in zip(block, new, result, strict=True):
            np.copyto(target, np.where(maps, after, before))


def _blocks(plane: Array) -> Iterator[Array]:
    """Split a (D, H, W) plane into views of few pixels, one slice of depth each."""
    rows = max(1, _BLOCK // max(1, plane.shape[2]))
    for layer in plane:
        for start in range(0, len(layer), rows):
            yield layer[start : start + rows]


def _counted(pixels: Pixels, n: int, p: int) -> Iterator[Array]:
    """Yield the values that are counted, 1-D, block by block."""
    planes = zip(*(_blocks(pixels.image[n, c]) for c in pixels.channels_of(p)), strict=True)
    mask = pixels.mask_of(n)
    masks = None if mask is None else _blocks(mask)
    for block in planes:
        counts = ~_nodata.is_nodata(block, pixels)
        if masks is not None:
            counts &= next(masks)
        yield (_color.luma(*block) if pixels.luma else block[0])[counts]


def _finite(pixels: Pixels, n: int, p: int) -> Array:
    """Return all finite counted values of a plane, 1-D."""
    values = np.concatenate([*_counted(pixels, n, p), np.empty(0, pixels.image.dtype)])
    return values[np.isfinite(values)]


def _extremes(pixels: Pixels, n: int, p: int) -> tuple[Any, Any]:
    """Return the smallest and largest finite counted value; 0 and 1 where there is none."""
    finite = (values[np.isfinite(values)] for values in _counted(pixels, n, p))
    extremes = [(values.min(), values.max()) for values in finite if len(values)]
    if not extremes:
        return 0.0, 1.0
    return min(low for low, _ in extremes), max(high for _, high in extremes)


def _maps(block: Array, pixels: Pixels) -> NDArray[np.bool_]:
    """Tell which pixels go through the table: not nodata, not NaN, not infinite."""
    maps = ~_nodata.is_nodata([block], pixels)
    return maps & np.isfinite(block) if block.dtype.kind == "f" else maps
