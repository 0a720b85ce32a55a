"""The rules in NumPy: how a histogram becomes a lookup table. Every backend reproduces these functions.

A rule determines the level that each value is mapped to. An integer rule takes the counts of one image (1-D,
one per value) and `span`, the highest output level (255 for uint8). It returns levels in 0..span, or None if
every pixel keeps its value. The rule "skimage" returns fractions in 0..1 instead.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

Counts = NDArray[np.int64]


class OutRange(NamedTuple):
    """What levels a table has; None in its stead: all those of the image's dtype, or the fractions 0..1."""

    low: float
    high: float
    """The lowest and the highest level, or fraction."""
    first: int
    last: int
    """What the first and the last bin of an integer image become where every pixel keeps its value."""
    dtype: np.dtype
    """The dtype of integer levels."""


def opencv(counts: Counts, span: int) -> NDArray[np.int64] | None:
    """Reproduce OpenCV's cv2.equalizeHist: float32 throughout; the darkest value is mapped to 0."""
    first = _first(counts)
    total = int(counts.sum())
    if total == counts[first]:
        return None
    scale = np.float32(span) / np.float32(total - counts[first])
    above = np.cumsum(counts) - counts[first]
    above[:first] = 0
    levels = np.rint(above.astype(np.float32) * scale).astype(np.int64)
    return np.clip(levels, 0, span)


def numpy(counts: Counts, span: int) -> NDArray[np.int64] | None:
    """Apply the textbook recipe: (cdf - cdf_min) * span / (cdf_max - cdf_min), float64, truncated."""
    first = _first(counts)
    total = int(counts.sum())
    if total == counts[first]:
        return None
    above = np.cumsum(counts) - counts[first]
    above[:first] = 0
    return np.trunc(above * float(span) / float(total - counts[first])).astype(np.int64)


def pillow(counts: Counts, span: int) -> NDArray[np.int64] | None:
    """Reproduce the equalize of Pillow's ImageOps, torchvision and kornia: integer arithmetic throughout."""
    occupied = np.flatnonzero(counts)
    if len(occupied) < 2:
        return None
    step = int(counts.sum() - counts[occupied[-1]]) // span
    if step == 0:
        return None
    below = np.cumsum(counts) - counts
    return np.minimum((step // 2 + below) // step, span)


def vips(counts: Counts, span: int) -> NDArray[np.int64] | None:
    """Scale the cumulative count by span / pixels in float32, truncated (libvips' hist_equal)."""
    total = int(counts.sum())
    if total == 0:
        return None
    scale = np.float32(span / total)
    levels = np.floor(np.cumsum(counts).astype(np.float32) * scale).astype(np.int64)
    return np.clip(levels, 0, span)


INTEGER_RULES: dict[str, Callable[[Counts, int], NDArray[np.int64] | None]] = {
    "opencv": opencv,
    "numpy": numpy,
    "pillow": pillow,
    "vips": vips,
}
NAMES = (*INTEGER_RULES, "skimage")


def lookup_table(
    counts: Counts, rule: str, dtype: np.dtype, out_range: OutRange | None
) -> NDArray[np.generic]:
    """Return the table of one histogram, of `table_dtype(rule, dtype, out_range)`."""
    if rule == "skimage":
        return cdf_table(counts, dtype, out_range)
    levels = out_range or whole_range(dtype)
    span = int(levels.high) - int(levels.low)
    entries = INTEGER_RULES[rule](counts, top(counts, span, out_range) if rule == "vips" else span)
    entries = unchanged(len(counts), levels) if entries is None else entries + int(levels.low)
    return entries.astype(levels.dtype)


def bins_in_range(dtype: np.dtype, value_range: tuple[int, int] | None) -> slice:
    """Return which of the bins of all integers are those of a range of values; None: all."""
    if value_range is None:
        return slice(0, levels_of(dtype))
    smallest = -(levels_of(dtype) // 2) if dtype.kind == "i" else 0
    return slice(value_range[0] - smallest, value_range[1] - smallest + 1)


def whole_range(dtype: np.dtype) -> OutRange:
    """Return all levels of an integer dtype."""
    limits = np.iinfo(dtype)
    low, high = int(limits.min), int(limits.max)
    return OutRange(low, high, low, high, dtype.newbyteorder("="))


def unchanged(bins: int, levels: OutRange) -> NDArray[np.int64]:
    """Return the table where every pixel keeps its value: from the first to the last, evenly."""
    step = (levels.last - levels.first) / (bins - 1)
    return levels.first + np.rint(np.arange(bins) * step).astype(np.int64)


def cdf_table(counts: Counts, dtype: np.dtype, out_range: OutRange | None) -> NDArray[np.generic]:
    """scikit-image's equalize_hist: the cumulative distribution itself.

    Where nothing was counted every pixel keeps its value, as by the other rules: an integer table holds the
    values, and a floating one NaN, which `apply` takes for that.
    """
    cumulative = np.cumsum(counts)
    if len(counts) == 0 or cumulative[-1] == 0:
        if dtype.kind == "f":
            return np.full(len(counts), np.nan, table_dtype("skimage", dtype))
        return unchanged(len(counts), out_range or whole_range(dtype)).astype(np.float64)
    cdf = cumulative / float(cumulative[-1])
    if dtype.kind != "f":
        cdf[: _first(counts)] = cdf[_first(counts)]  # np.interp holds the first value below the data
    if out_range is not None:
        cdf = out_range.low + cdf * (out_range.high - out_range.low)
    return cdf.astype(table_dtype("skimage", dtype))


def match_table(counts: Counts, reference: Counts, dtype: np.dtype, first: int) -> NDArray[np.generic]:
    """scikit-image's match_histograms for one channel of integers: values truncated to `dtype`.

    `first` is the value of the first bin.
    """
    values = first + np.arange(len(counts))
    occupied = np.flatnonzero(reference)
    if counts.sum() == 0 or len(occupied) == 0:
        return values.astype(dtype)
    quantiles = np.cumsum(counts) / int(counts.sum())
    reference_quantiles = np.cumsum(reference[occupied]) / int(reference.sum())
    return np.interp(quantiles, reference_quantiles, values[occupied]).astype(dtype)


def extend(table: Any, first: int, full: Any) -> Any:
    """Write a table of the bins from `first` on into one of all values: those outside go where the limits go.

    Arrays are NumPy's or CuPy's; the levels are on the last axis.
    """
    stop = first + table.shape[-1]
    full[..., :first] = table[..., :1]
    full[..., first:stop] = table
    full[..., stop:] = table[..., -1:]
    return full


def table_dtype(rule: str, dtype: np.dtype, out_range: OutRange | None = None) -> np.dtype:
    """Return the dtype of a rule's table, for images of `dtype`."""
    if rule != "skimage":
        return dtype.newbyteorder("=") if out_range is None else out_range.dtype
    return np.dtype(np.float32 if dtype.kind == "f" and dtype.itemsize <= 4 else np.float64)


def result_dtype(rule: str, dtype: np.dtype, out_range: OutRange | None = None) -> np.dtype:
    """Return the dtype of the result: the image's own, byte order included, where the rule keeps it."""
    table = table_dtype(rule, dtype, out_range)
    return dtype if rule != "skimage" and table == dtype.newbyteorder("=") else table


def levels_of(dtype: DTypeLike) -> int:
    """Return how many values an integer dtype has, which is its number of bins."""
    return 1 << (8 * np.dtype(dtype).itemsize)


def _first(counts: Counts) -> int:
    """Return the first non-empty bin, or 0 if all are empty."""
    return int(np.argmax(counts > 0))


def top(counts: Counts, span: int, out_range: OutRange | None) -> int:
    """Return the level that libvips sends the brightest pixel to.

    Its histogram of an 8-bit image has 256 bins; that of a 16-bit image ends at the brightest pixel, and
    so does its output, unless `out_range` says otherwise.
    """
    if out_range is not None or len(counts) == 256:
        return span
    return int(np.flatnonzero(counts)[-1]) if counts.any() else 0
