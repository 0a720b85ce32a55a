"""The first pass: what is counted of an image, window by window."""

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histeq._core import ranges
from histeq._core.backend import Array
from histeq._files import Window, name_of
from histeq._files.blocks import Header, windows
from histeq._passes.image import Image, Selection
from histeq._passes.run import Run, Work


def histogram(run: Run, image: Image, pages: Sequence[int], edges: Array | None) -> NDArray[np.int64]:
    """Return the counts of some pages together, (1, P, bins); `edges` are those of a floating image."""
    counts: NDArray[np.int64] = total_of(
        run, partial(_counts, image=image, edges=edges), operator.iadd, image, pages
    )
    return counts


def _counts(run: Run, window: Window, image: Image, edges: Array | None) -> NDArray[np.int64]:
    with run.step("read"):
        request = image.counted(window)
    with run.step("compute"):
        return request.backend.histogram(request.pixels, edges)


def extremes(run: Run, image: Image, pages: Sequence[int]) -> NDArray[Any]:
    """Return the smallest and the largest counted value of each channel, (2, C); inf, -inf: none."""
    found = np.full((2, image.header.channels), np.inf, image.header.dtype)
    of_pages = total_of(run, partial(_extremes, image=image), np.minimum, image, pages)
    found[:, : of_pages.shape[1]] = of_pages
    found[1] = -found[1]
    return found


def _extremes(run: Run, window: Window, image: Image) -> NDArray[Any]:
    with run.step("read"):
        request = image.counted(window)
    with run.step("compute"):
        return ranges.extremes(request.pixels)[:, 0]


def edges_of(selection: Selection, header: Header, limits: NDArray[Any], bins: int) -> Array:
    """Return the edges of the bins between the limits of each channel, (2, C)."""
    call = selection.check(header)
    found = np.stack([limits[0], -limits[1]])[:, None, : call.pixels.image.shape[1]]  # without alpha
    return ranges.edges_of(call.backend, found, bins)


def total_of(run: Run, work: Work, add: Callable[[Any, Any], Any], image: Image, pages: Sequence[int]) -> Any:
    """Return the sum of what `work` returns for windows that cover some pages of a source."""
    size, per_pixel = image.header.size, image.header.bytes_per_pixel
    wanted, blocks = run.window_size(), image.source.blocks
    pieces = [w for page in pages for w in windows(size, blocks(page), page, wanted, per_pixel)]
    return run.summed(work, add, pieces, bytes_read(image, pieces), name_of(image.file))


def bytes_read(image: Image, pieces: Sequence[Window]) -> int:
    """Return the bytes of the largest window of a source, 0 where the image is in memory anyway."""
    return bytes_of(pieces, image.header.bytes_per_pixel) if image.source.in_blocks else 0


def bytes_of(pieces: Sequence[Window], bytes_per_pixel: int) -> int:
    """Return the bytes of the largest window."""
    return max(window.height * window.width for window in pieces) * bytes_per_pixel
