"""Images in host memory cut into pieces that the device has memory for."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import cupy

from histeq._backends.cupy.transfer import TransferStream
from histeq._core.backend import Pixels

Array = Any
Box = tuple[slice, ...]
"""Where a piece lies in its image: a slice of each of the axes N C D H W."""

PIECE = 1 << 23
"""Bytes of an image in one piece. 8 MiB are 0.3 ms on a bus of 25 GB/s, many times what its launches take,
and little of the images that are worth cutting: nothing overlaps the first upload and the last download. By
that reckoning, not by measurement."""
SHARE = 64
"""A piece has one part in so many of the free memory at most: two pieces with their masks, workspaces and
results, of 8 bytes for 1 at the most, stay within half of it. The other half is for pieces that stay."""


def free_memory() -> int:
    """Return the bytes of device memory that a call may take: what is free, and what CuPy's pool holds."""
    return int(cupy.cuda.runtime.memGetInfo()[0] + cupy.get_default_memory_pool().free_bytes())


def cut(pixels: Pixels) -> list[Box]:
    """Return the pieces of all images."""
    return list(_halves(pixels, (slice(None),) * 5, _largest()))


def groups(image: Array) -> list[Box] | None:
    """Return groups of whole images, each a piece; None where one image is larger than a piece."""
    size = math.prod(image.shape[1:]) * image.itemsize
    if size > _largest():
        return None
    count = max(1, _largest() // max(size, 1))
    return [whole_images(first, count) for first in range(0, len(image), count)]


def whole_images(first: int, count: int = 1) -> Box:
    """Return the piece of `count` images from the first on."""
    return (slice(first, first + count), *[slice(None)] * 4)


def histograms_of(pixels: Pixels, box: Box) -> Box:
    """Return where the counts and tables (N, P, ...) of a piece are."""
    return (box[0], slice(None) if pixels.luma else box[1])


def upload(stream: TransferStream, pixels: Pixels, box: Box) -> Pixels:
    """Return a piece on the device."""
    mask = pixels.mask
    if mask is not None:
        mask = stream.upload(mask[(slice(None) if len(mask) == 1 else box[0], slice(None), *box[2:])])
    return dataclasses.replace(pixels, image=stream.upload(pixels.image[box]), mask=mask, alpha=False)


class PieceCache:
    """The pieces of an image that stay on the device from one pass to the next, by their numbers.

    Parameters
    ----------
    budget : int
        The most bytes that stay there.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._pieces: dict[int, Pixels] = {}

    def upload(self, stream: TransferStream, pixels: Pixels, box: Box, number: int) -> Pixels:
        """Return a piece on the device, uploaded where it is not there yet."""
        piece = self._pieces.get(number)
        if piece is None:
            piece = upload(stream, pixels, box)
            size = piece.image.nbytes + (0 if piece.mask is None else piece.mask.nbytes)
            if size <= self._budget:
                self._budget -= size
                self._pieces[number] = piece
        return piece


def _largest() -> int:
    """Return the bytes of the largest piece."""
    return min(PIECE, free_memory() // SHARE)


def _halves(pixels: Pixels, box: Box, limit: int) -> Iterator[Box]:
    """Cut a box in halves, along the axis of the longest stride, until a piece is within the limit.

    Images come first; the three channels of a luma stay together.
    """
    image = pixels.image
    shape = tuple(len(range(*part.indices(n))) for part, n in zip(box, image.shape, strict=True))
    axes = [axis for axis in range(5) if shape[axis] > 1 and not (pixels.luma and axis == 1)]
    if not axes or math.prod(shape) * image.itemsize <= limit:
        yield box
        return
    axis = 0 if shape[0] > 1 else max(axes, key=lambda a: abs(image.strides[a]))
    start, stop, _ = box[axis].indices(image.shape[axis])
    middle = (start + stop) // 2
    for half in (slice(start, middle), slice(middle, stop)):
        yield from _halves(pixels, (*box[:axis], half, *box[axis + 1 :]), limit)
