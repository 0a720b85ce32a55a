"""Colour images on the CPU kernels: their luma, or interleaved channels each by itself."""

from __future__ import annotations  # closures are made in every call: their annotations shall cost nothing

from typing import Any, NamedTuple

import numpy as np
from histeq_kernels.cpu import tiers as _tiers
from histeq_kernels.cpu.fused import color as _fused
from histeq_kernels.cpu.ycrcb import channels as _channels
from histeq_kernels.cpu.ycrcb import luma as _luma
from histeq_kernels.cpu.ycrcb import scalar as _scalar
from histeq_kernels.cpu.ycrcb import strided as _strided
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
from histeq._core import nodata as _nodata
from histeq._core import threads as _threads
from histeq._core.backend import Pixels
from histeq._core.rules import levels_of

Array = NDArray[Any]


class LumaRows(NamedTuple):
    """8-bit colour images as the luma kernels take them."""

    stride: int
    """Bytes from one pixel to the next."""
    channels: tuple[Array, ...]
    """Three of the first image, then of the next; where they are interleaved, the same rows three times."""


def count_luma(pixels: Pixels, n: int, parts: int) -> NDArray[np.int64]:
    """Count the luma of one image."""
    image = pixels.image[n]
    in_rows = luma_rows(pixels.alpha, image, join=_tiers.in_use().joins_rows)
    if in_rows is not None and pixels.mask is None and pixels.nodata is None:
        k, by_rows = coefficients(pixels), _luma.histogram_luma.u8

        def count(piece: tuple[Array, ...], counts: NDArray[np.int64]) -> None:
            space = workspace()
            by_rows(*piece, in_rows.stride, k, space.pixels, space.counters, counts)

        pieces = split(parts, *in_rows.channels, stride=in_rows.stride)
        return add_up(count, [(piece,) for piece in pieces], (256,))
    channels = _red_green_blue(pixels, image)
    kernel = getattr(_strided.histogram_luma_strided, tag(channels[0]))
    nodata = -1 if pixels.nodata is None else pixels.nodata
    pieces = split(parts, *channels, mask_of(pixels, n, channels[0]))
    return add_up(kernel, [(*piece, nodata) for piece in pieces], (levels_of(channels[0].dtype),))


def apply_luma(pixels: Pixels, n: int, table: Array, out: Array, parts: int) -> None:
    """Map the luma of one image."""
    image = pixels.image[n]
    in_rows = luma_rows(pixels.alpha, image, out)
    if in_rows is not None and pixels.nodata is None:
        stride, k, by_rows = in_rows.stride, coefficients(pixels), _luma.apply_luma.u8

        def work(piece: tuple[Array, ...]) -> None:
            by_rows(*piece[:3], stride, k, table, workspace().pixels, *piece[3:])

        _threads.run(work, split(parts, *in_rows.channels, stride=stride))
        return
    channels = _red_green_blue(pixels, image)
    kernel = getattr(_strided.apply_luma_strided, tag(channels[0]))
    nodata = pixels.nodata_and_beside(-1)
    pieces = split(parts, *channels, *(out[c] for c in pixels.channels_of(0)))
    _threads.run(lambda piece: kernel(*piece[:3], table, *nodata, *piece[3:]), pieces)


class SmallImages(NamedTuple):
    """A batch of small images of interleaved channels, which one call of a kernel equalizes."""

    old: Array
    """(N, rows, bytes of a row)"""
    new: Array
    stride: int
    """Bytes from one pixel to the next."""
    k: NDArray[np.int16] | None
    """The coefficients of the luma; None: each channel is an image."""
    channels: int

    def equalize(self, piece: tuple[Array, ...]) -> None:
        """Equalize contiguous images, of `old` and of `new`, by the default rule."""
        old, new = (images.reshape(-1, images.shape[-1]) for images in piece)
        equalize_small(old, len(piece[0]), self.channels, self.stride, self.k, new)


def equalize_small(
    old: Array, count: int, channels: int, stride: int, k: NDArray[np.int16] | None, new: Array
) -> None:
    """Equalize images of few pixels by the default rule: rows of bytes, the parameters of `SmallImages`."""
    space = workspace()
    if k is None:
        _fused.equalize_channels.u8(old, count, channels, stride, space.memory, space.pixels, new)
    else:
        _fused.equalize_luma.u8(old, count, stride, k, space.memory, space.pixels, new)


def small_images(pixels: Pixels, out: Array) -> SmallImages | None:
    """Return a batch as `SmallImages`; None where it is none."""
    channels, depth, height, width = pixels.image.shape[1:]
    if depth != 1 or not 0 < height * width < _fused.MAX_PIXELS or channels not in (3, 4):
        return None
    if pixels.mask is not None or pixels.nodata is not None or len(out) == 0:
        return None
    stride = channels + pixels.alpha
    if any(interleaved(pixels.alpha, image[0]) is None for image in (pixels.image, out)):
        return None
    if any(height > 1 and image.strides[3] != width * stride for image in (pixels.image, out)):
        return None
    shape = (len(out), height, width * stride)
    old, new = (
        np.lib.stride_tricks.as_strided(image[:, 0, 0, :, 0], shape, (image.strides[0], width * stride, 1))
        for image in (pixels.image, out)
    )
    return SmallImages(old, new, stride, coefficients(pixels) if pixels.luma else None, channels)


def has_channel_rows(pixels: Pixels, out: Array | None = None) -> bool:
    """Tell whether 3 or 4 channels are to be equalized, each by itself, and lie interleaved in memory."""
    if pixels.luma or pixels.image.shape[1] not in (3, 4) or 0 in pixels.image.shape:
        return False
    images = (pixels.image[0],) if out is None else (pixels.image[0], out[0])
    return interleaved(pixels.alpha, *images) is not None


def count_channels(pixels: Pixels, n: int, parts: int) -> NDArray[np.int64]:
    """Count the channels of one image of interleaved channels."""
    image = pixels.image[n]
    stride, [plane] = _rows_of_channels(pixels.alpha, image, join=_tiers.in_use().joins_rows)
    channels, kernel = len(image), _channels.histogram_channels.u8

    def count(piece: Array, counts: NDArray[np.int64]) -> None:
        space = workspace()
        kernel(piece, channels, stride, space.pixels, space.channel_counters, counts)

    counts = add_up(count, split(parts, plane, stride=stride), (channels, 256))
    if pixels.nodata is not None:
        counts[:, int(pixels.nodata)] = 0
    return counts


def apply_channels(pixels: Pixels, n: int, tables: Array, out: Array, parts: int) -> None:
    """Map the channels of one image of interleaved channels, each through its table."""
    stride, [plane, new] = _rows_of_channels(pixels.alpha, pixels.image[n], out)
    channels, kernel = len(out), _channels.apply_channels.u8
    tables = np.ascontiguousarray(_nodata.table_apart(tables, pixels))

    def work(piece: tuple[Array, ...]) -> None:
        kernel(piece[0], channels, stride, tables, workspace().pixels, piece[1])

    _threads.run(work, split(parts, plane, new, stride=stride))


def _rows_of_channels(alpha: bool, *images: Array, join: bool = True) -> tuple[int, list[Array]]:
    """Return images for which `has_channel_rows` holds as (bytes a pixel, their rows)."""
    in_rows = pixel_rows(alpha, *images, join=join)
    assert in_rows is not None
    return in_rows


def luma_rows(alpha: bool, *images: Array, join: bool = True) -> LumaRows | None:
    """Return (3, D, H, W) images for the kernels of rows, None where they do not take them."""
    if images[0].dtype != np.uint8:
        return None
    in_rows = pixel_rows(alpha, *images, join=join)
    if in_rows is not None:
        return LumaRows(in_rows[0], tuple(view for view in in_rows[1] for _ in range(3)))
    planes = rows(*(image[c] for image in images for c in range(3)), join=join)
    return None if planes is None else LumaRows(1, tuple(planes))


def luma_rows_in_place(alpha: bool, *images: Array) -> LumaRows | None:
    """Return (3, D, H, W) images row by row, none of them joined, reordered or flipped."""
    if any(image.dtype != np.uint8 or image.size == 0 for image in images):
        return None
    if all(image.strides[3] == 1 for image in images):
        return LumaRows(1, tuple(image[c] for image in images for c in range(3)))
    views = interleaved(alpha, *images)
    return None if views is None else LumaRows(3 + alpha, tuple(view for view in views for _ in range(3)))


def coefficients(pixels: Pixels) -> NDArray[np.int16]:
    """Return the coefficients of YCrCb for the channels in their order in memory."""
    return _scalar.COEFFICIENTS[str(pixels.luma)]


def _red_green_blue(pixels: Pixels, image: Array) -> list[Array]:
    """Return the red, green and blue planes of a (3, D, H, W) image, as unsigned integers."""
    return [bits(image[c]) for c in pixels.channels_of(0)]
