"""The rules in NumPy: how a histogram becomes a lookup table. Every backend reproduces these functions.

A rule determines the level that each value is mapped to. An integer rule takes the counts of one image (1-D,
one per value) and `span`, the highest output level (255 for uint8). It returns levels in 0..span, or None if
every pixel keeps its value. The rule "skimage" returns fractions in 0..1 instead.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import DTypeLike, NDArray

Counts = NDArray[np.int64]


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
    counts: Counts, rule: str, dtype: np.dtype, out_range: tuple[float, float] | None
) -> NDArray[np.generic]:
    """Return the table of one histogram, of `table_dtype(rule, dtype)`."""
    if rule == "skimage":
        return cdf_table(counts, dtype, out_range)
    limits = np.iinfo(dtype)
    low, high = (limits.min, limits.max) if out_range is None else (int(out_range[0]), int(out_range[1]))
    span = top(counts, high - low, out_range) if rule == "vips" else high - low
    levels = INTEGER_RULES[rule](counts, span)
    if levels is None:
        return np.arange(limits.min, limits.max + 1).astype(dtype)
    return (levels + low).astype(dtype)


def cdf_table(counts: Counts, dtype: np.dtype, out_range: tuple[float, float] | None) -> NDArray[np.generic]:
    """scikit-image's equalize_hist: the cumulative distribution itself.

    Where nothing was counted every pixel keeps its value, as by the other rules: an integer table holds the
    values, and a floating one NaN, which `apply` takes for that.
    """
    cumulative = np.cumsum(counts)
    if len(counts) == 0 or cumulative[-1] == 0:
        if dtype.kind == "f":
            return np.full(len(counts), np.nan, table_dtype("skimage", dtype))
        limits = np.iinfo(dtype)
        return np.arange(limits.min, limits.max + 1).astype(np.float64)
    cdf = cumulative / float(cumulative[-1])
    if dtype.kind != "f":
        cdf[: _first(counts)] = cdf[_first(counts)]  # np.interp holds the first value below the data
    if out_range is not None:
        cdf = out_range[0] + cdf * (out_range[1] - out_range[0])
    return cdf.astype(table_dtype("skimage", dtype))


def match_table(counts: Counts, reference: Counts, dtype: np.dtype) -> NDArray[np.generic]:
    """scikit-image's match_histograms for one channel of integers: values truncated to `dtype`."""
    values = np.arange(np.iinfo(dtype).min, np.iinfo(dtype).max + 1)
    occupied = np.flatnonzero(reference)
    if counts.sum() == 0 or len(occupied) == 0:
        return values.astype(dtype)
    quantiles = np.cumsum(counts) / int(counts.sum())
    reference_quantiles = np.cumsum(reference[occupied]) / int(reference.sum())
    return np.interp(quantiles, reference_quantiles, values[occupied]).astype(dtype)


def table_dtype(rule: str, dtype: np.dtype) -> np.dtype:
    """Return the dtype of a rule's table, for images of `dtype`."""
    if rule != "skimage":
        return dtype.newbyteorder("=")
    return np.dtype(np.float32 if dtype.kind == "f" and dtype.itemsize <= 4 else np.float64)


def result_dtype(rule: str, dtype: np.dtype) -> np.dtype:
    """Return the dtype of the result: the image's own, byte order included, where the rule keeps it."""
    return table_dtype(rule, dtype) if rule == "skimage" else dtype


def levels_of(dtype: DTypeLike) -> int:
    """Return how many values an integer dtype has, which is its number of bins."""
    return 1 << (8 * np.dtype(dtype).itemsize)


def _first(counts: Counts) -> int:
    """Return the first non-empty bin, or 0 if all are empty."""
    return int(np.argmax(counts > 0))


def top(counts: Counts, span: int, out_range: tuple[float, float] | None) -> int:
    """Return the level that libvips sends the brightest pixel to.

    Its histogram of an 8-bit image has 256 bins; that of a 16-bit image ends at the brightest pixel, and
    so does its output, unless `out_range` says otherwise.
    """
    if out_range is not None or len(counts) == 256:
        return span
    return int(np.flatnonzero(counts)[-1]) if counts.any() else 0
