"""Colour images on the CPU kernels: the luma, or interleaved channels each alone."""

from __future__ import annotations  # as in numba.py

from typing import Any

import numpy as np
from histeq_kernels.cpu import channels as _channels
from histeq_kernels.cpu import histogram as _count
from histeq_kernels.cpu import luma as _luma
from numpy.typing import NDArray

from histeq._backends.numba.views import (
    add_up,
    bits,
    interleaved,
    mask_of,
    pixel_rows,
    rows,
    split,
    tag,
    workspace,
)
from histeq._core import rules as _rules
from histeq._core import threads as _threads
from histeq._core.backend import Pixels

Array = NDArray[Any]


def count_luma(pixels: Pixels, n: int, parts: int) -> NDArray[np.int64]:
    """Count the luma of one image."""
    form = luma_rows(pixels.alpha, pixels.image[n], join=_count.along_rows())
    if form is not None and pixels.mask is None and pixels.nodata is None:
        step, *channels = form
        k, by_rows = _luma.COEFFICIENTS[str(pixels.luma)], _luma.counting()

        def count(piece: tuple[Array, ...], counts: NDArray[np.int64]) -> None:
            by_rows(*piece, step, k, workspace().chunks, workspace().counters, counts)

        return add_up(count, [(piece,) for piece in split(parts, *channels, step=step)], (256,))
    channels = [bits(plane) for plane in _rgb(pixels, pixels.image[n])]
    kernel = getattr(_luma.histogram_luma, tag(channels[0]))
    nodata = -1 if pixels.nodata is None else pixels.nodata
    pieces = split(parts, *channels, mask_of(pixels, n, channels[0]))
    return add_up(kernel, [(*piece, nodata) for piece in pieces], (_rules.levels_of(channels[0].dtype),))


def apply_luma(pixels: Pixels, n: int, table: Array, out: Array, parts: int) -> None:
    """Map the luma of one image."""
    form = luma_rows(pixels.alpha, pixels.image[n], out)
    if form is not None and pixels.nodata is None:
        step, *channels = form
        k, by_rows = _luma.COEFFICIENTS[str(pixels.luma)], _luma.mapping()

        def work(piece: tuple[Array, ...]) -> None:
            by_rows(*piece[:3], step, k, table, workspace().chunks, *piece[3:])

        _threads.run(work, split(parts, *channels, step=step))
        return
    channels = [bits(plane) for plane in _rgb(pixels, pixels.image[n])]
    kernel = getattr(_luma.apply_luma, tag(channels[0]))
    nodata = -1 if pixels.nodata is None else pixels.nodata
    pieces = split(parts, *channels, *_rgb(pixels, out))
    _threads.run(lambda piece: kernel(*piece[:3], table, nodata, *piece[3:]), pieces)


def has_channel_rows(pixels: Pixels, out: Array | None = None) -> bool:
    """Tell whether the channels are to be equalized each alone and lie interleaved in memory."""
    if pixels.luma or pixels.image.shape[1] != 3 or 0 in pixels.image.shape:
        return False
    return pixel_rows(pixels.alpha, *(one[0] for one in (pixels.image, out) if one is not None)) is not None


def count_channels(pixels: Pixels, n: int, parts: int) -> NDArray[np.int64]:
    """Count the channels of one image of interleaved channels."""
    step, [lines] = _form(pixels.alpha, pixels.image[n], join=_count.along_rows())
    kernel = _channels.counting()

    def count(piece: Array, counts: NDArray[np.int64]) -> None:
        kernel(piece, step, workspace().chunks, workspace().channel_counters, counts)

    counts = add_up(count, split(parts, lines, step=step), (3, 256))
    if pixels.nodata is not None:
        counts[:, int(pixels.nodata)] = 0
    return counts


def apply_channels(pixels: Pixels, n: int, table: Array, out: Array, parts: int) -> None:
    """Map the channels of one image of interleaved channels, each through its table."""
    step, [lines, new] = _form(pixels.alpha, pixels.image[n], out)
    kernel = _channels.mapping()
    table = np.array(table)
    if pixels.nodata is not None:
        table[:, int(pixels.nodata)] = pixels.nodata

    def work(piece: tuple[Array, ...]) -> None:
        kernel(piece[0], step, table, workspace().chunks, piece[1])

    _threads.run(work, split(parts, lines, new, step=step))


def _form(alpha: bool, *images: Array, join: bool = True) -> tuple[int, list[Array]]:
    form = pixel_rows(alpha, *images, join=join)
    assert form is not None
    return form


def luma_rows(alpha: bool, *images: Array, join: bool = True) -> tuple[Any, ...] | None:
    """Return colour images as the luma kernels take them: (step, rows, rows, rows of the first, ...)."""
    if images[0].dtype != np.uint8:
        return None
    form = pixel_rows(alpha, *images, join=join)
    if form is not None:
        return (form[0], *(lines for lines in form[1] for _ in range(3)))
    planes = rows(*(one[c] for one in images for c in range(3)), join=join)
    return None if planes is None else (1, *planes)


def luma_lines(alpha: bool, *images: Array) -> tuple[Any, ...] | None:
    """Return the same row by row of the images, none of them joined or turned."""
    if any(image.dtype != np.uint8 or image.size == 0 for image in images):
        return None
    if all(image.strides[3] == 1 for image in images):
        return (1, *(image[c] for image in images for c in range(3)))
    lines = interleaved(alpha, *images)
    return None if lines is None else (4 if alpha else 3, *(one for one in lines for _ in range(3)))


def _rgb(pixels: Pixels, image: Array) -> tuple[Array, Array, Array]:
    """Return the red, green and blue planes of a (C, D, H, W) image."""
    return (image[2], image[1], image[0]) if pixels.luma == "bgr" else (image[0], image[1], image[2])
