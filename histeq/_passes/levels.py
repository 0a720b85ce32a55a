"""The reduced levels of an image (overviews, a pyramid), each made of the level before as it was written.

The masks of all levels are written here, too. A pixel of a reduced one is valid where any that it covers is.
"""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histeq import _files
from histeq._core.nodata import beside
from histeq._files import File, Sink, Window, name_of
from histeq._files.blocks import Level, windows
from histeq._passes.count import bytes_of
from histeq._passes.image import Image, opaque
from histeq._passes.run import Run

_STRIP = 1 << 20
"""Pixels of a mask that are read at a time."""


def build(run: Run, image: Image, sink: Sink, target: File, nodata: float | None, by_pixel: bool) -> None:
    """Write all levels but the first, and all masks.

    What is nodata in the result is not averaged, and no average becomes it. Nor are pixels averaged that the
    image's mask excludes, or transparent ones.

    Parameters
    ----------
    nodata : number, optional
        The value that means no data in the result.
    by_pixel : bool
        Whether a pixel is nodata where all its channels are; else each channel is by itself.
    """
    if nodata is not None:
        nodata = sink.header.dtype.type(nodata)  # as it stands in the result
    pages = range(sink.header.pages)
    by = 1, 1
    for number, upper in enumerate(sink.levels):
        for page in pages:
            if sink.masks:
                _write_mask(run, image, sink.masks[number], page, target, by)
        if number + 1 == len(sink.levels):
            return
        lower = sink.levels[number + 1]
        for page in pages:
            _build(run, image, sink, (upper, lower), page, target, by, nodata, by_pixel)
        by = by[0] * _factor(upper.height, lower.height), by[1] * _factor(upper.width, lower.width)


def _write_mask(run: Run, image: Image, level: Level, page: int, target: File, by: tuple[int, int]) -> None:
    one = partial(_mask_window, image=image, level=level, target=target, by=by)
    size = max(1, run.window_size() // (by[0] * by[1]))
    pieces = list(windows((level.height, level.width), level.blocks(page), page, size, 1))
    run.over(one, pieces, bytes_of(pieces, 1), name_of(target))


def _mask_window(
    run: Run, window: Window, image: Image, level: Level, target: File, by: tuple[int, int]
) -> None:
    with run.step("read"):
        valid = _valid(image, window, by)
    with run.step("write"), _files.writing(target):
        if valid is None:
            valid = np.ones((window.height, window.width), np.bool_)
        level.write(window, valid.view(np.uint8))


def _valid(image: Image, window: Window, by: tuple[int, int]) -> NDArray[np.bool_] | None:
    """Return which pixels are valid of a window of a level that is reduced by factors; None: all."""
    if image.source.mask is None:
        return None
    if by == (1, 1):
        return image.read_valid(window)
    height, width = image.header.size
    left = window.left * by[1]
    across = min(window.width * by[1], width - left)
    rows = max(1, _STRIP // max(1, across * by[0]))
    result = np.zeros((window.height, window.width), np.bool_)
    for first in range(0, window.height, rows):
        top = (window.top + first) * by[0]
        strip = result[first : first + rows]
        down = min(len(strip) * by[0], height - top)
        valid = image.read_valid(Window(window.page, top, left, down, across))
        if valid is None:
            strip[...] = True
            continue
        missing = len(strip) * by[0] - len(valid), window.width * by[1] - across
        valid = np.pad(valid, ((0, max(0, missing[0])), (0, max(0, missing[1]))))
        strip[...] = valid.reshape(len(strip), by[0], window.width, by[1]).any((1, 3))
    return result


def _build(
    run: Run,
    image: Image,
    sink: Sink,
    pair: tuple[Level, Level],
    page: int,
    target: File,
    by: tuple[int, int],
    nodata: Any,
    by_pixel: bool,
) -> None:
    upper, lower = pair
    header = sink.header
    factors = _factor(upper.height, lower.height), _factor(upper.width, lower.width)
    one = partial(
        _reduced_window, image=image, pair=pair, target=target, by=by, factors=factors, nodata=nodata,
        by_pixel=by_pixel,
    )  # fmt: skip
    size = max(1, run.window_size() // (factors[0] * factors[1]))
    shape = (lower.height, lower.width)
    pieces = list(windows(shape, lower.blocks(page), page, size, header.bytes_per_pixel))
    run.over(one, pieces, bytes_of(pieces, header.bytes_per_pixel) * factors[0] * factors[1], name_of(target))


def _reduced_window(
    run: Run,
    window: Window,
    image: Image,
    pair: tuple[Level, Level],
    target: File,
    by: tuple[int, int],
    factors: tuple[int, int],
    nodata: Any,
    by_pixel: bool,
) -> None:
    upper, lower = pair
    top, left = window.top * factors[0], window.left * factors[1]
    height = min(window.height * factors[0], upper.height - top)
    width = min(window.width * factors[1], upper.width - left)
    alpha = image.selection.alpha_of(image.header)
    with run.step("write"), _files.writing(target):
        above = Window(window.page, top, left, height, width)
        pixels, valid = upper.read(above), _valid(image, above, by)
        shape = window.height, window.width
        lower.write(window, reduced(pixels, shape, factors, nodata, by_pixel, alpha, valid))


def _factor(upper: int, lower: int) -> int:
    """Return by what a side is divided: sizes are rounded up by some writers, down by others."""
    return max(1, round(upper / lower))


def reduced(
    pixels: NDArray[Any],
    shape: tuple[int, int],
    factors: tuple[int, int],
    nodata: float | None = None,
    by_pixel: bool = False,
    alpha: bool = False,
    valid: NDArray[np.bool_] | None = None,
) -> NDArray[Any]:
    """Return the means of blocks of pixels, rounded half up for integers.

    Parameters
    ----------
    pixels : (H, W) or (H, W, C)
        Where they do not fill the blocks, the last row and column are repeated.
    shape : (rows, columns)
        Of the result.
    factors : (rows, columns)
        Of a block.
    nodata : number, optional
        A value that is not averaged. Blocks of nothing else become it; other blocks do not. So does NaN.
    by_pixel : bool
        Whether a pixel is nodata where all channels are; else each channel is by itself.
    alpha : bool
        Whether the last channel is alpha, which is always averaged; where it is 0, the others are not.
    valid : (H, W) of bool, optional
        Where pixels are averaged. Blocks without any are averaged as if all were.
    """
    if alpha:
        seen = opaque(pixels)
        valid = seen if valid is None else valid if seen is None else valid & seen
    channels = pixels if pixels.ndim == 3 else pixels[..., None]
    missing = [max(0, n * f - have) for n, f, have in zip(shape, factors, channels.shape, strict=False)]
    if any(missing):
        channels = np.pad(channels, ((0, missing[0]), (0, missing[1]), (0, 0)), "edge")
        valid = None if valid is None else np.pad(valid, ((0, missing[0]), (0, missing[1])), "edge")
    channels = channels[: shape[0] * factors[0], : shape[1] * factors[1]]
    if nodata is None and valid is None and channels.dtype.kind != "f":
        result = _means(_sums(channels, factors), factors[0] * factors[1], channels.dtype)
    else:
        excluded = None if valid is None else ~valid[: channels.shape[0], : channels.shape[1], None]
        result = _means_of_valid(channels, factors, nodata, by_pixel, alpha, excluded)
    return result if pixels.ndim == 3 else result[..., 0]


def _sums(channels: NDArray[Any], factors: tuple[int, int]) -> NDArray[Any]:
    """Return the sums of blocks: rows are added before columns, which is faster than both at once."""
    dtype = np.dtype(np.float64)
    if channels.dtype.kind != "f":
        limits = np.iinfo(channels.dtype)
        extreme = limits.min if channels.dtype.kind == "i" else limits.max
        dtype = np.min_scalar_type(int(extreme) * 2 * factors[0] * factors[1])  # 2: with half of the divisor
    rows = channels[:: factors[0]].astype(dtype)
    for i in range(1, factors[0]):
        rows += channels[i :: factors[0]]
    sums = rows[:, :: factors[1]].copy()
    for i in range(1, factors[1]):
        sums += rows[:, i :: factors[1]]
    return sums


def _means(sums: NDArray[Any], number: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return sums divided by numbers, which are at least 1."""
    if dtype.kind == "f":
        return (sums / number).astype(dtype)
    return ((sums + number // 2) // number).astype(dtype)


def _means_of_valid(
    channels: NDArray[Any],
    factors: tuple[int, int],
    nodata: Any,
    by_pixel: bool,
    alpha: bool,
    excluded: NDArray[np.bool_] | None,
) -> NDArray[Any]:
    dtype = channels.dtype
    absent = np.isnan(channels) if dtype.kind == "f" else np.zeros(channels.shape, bool)
    if nodata is not None:
        absent |= channels == nodata
    colours = channels.shape[-1] - alpha
    if by_pixel:
        absent[..., :colours] = absent[..., :colours].all(axis=-1, keepdims=True)
    if excluded is not None:
        absent |= excluded
    absent[..., colours:] = False
    number = _sums((~absent).view(np.uint8), factors)
    means = _means(_sums(np.where(absent, dtype.type(0), channels), factors), np.maximum(number, 1), dtype)
    if nodata is None:
        of_all = _means(_sums(channels, factors), factors[0] * factors[1], dtype)
        return np.where(number > 0, means, of_all)
    moved = np.where(means == nodata, dtype.type(beside(nodata, dtype, None)), means)
    if by_pixel:  # a pixel is nodata where all its channels are
        at = (means[..., :colours] == nodata).all(axis=-1, keepdims=True)
        moved = np.where(at, moved, means)
    moved[..., colours:] = means[..., colours:]
    return np.where(number > 0, moved, dtype.type(nodata))
