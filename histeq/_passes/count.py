"""The first pass: what is counted of an image, window by window."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histeq._core.backend import Array, Pixels
from histeq._files import Window, name_of
from histeq._files.blocks import Header, windows
from histeq._passes.image import Image, Selection
from histeq._passes.run import Run


def histogram(run: Run, image: Image, pages: Sequence[int], edges: Array | None) -> NDArray[np.int64]:
    """Return the counts of some pages together, (1, P, bins); `edges` are those of a floating image."""
    total: list[NDArray[np.int64]] = []
    lock = threading.Lock()

    def work(window: Window) -> None:
        with run.step("read"):
            request = image.counted(window)
        with run.step("compute"):
            counts = request.backend.histogram(request.pixels, edges)
            with lock:
                if total:
                    total[0] += counts
                else:
                    total.append(counts)

    over_source(run, work, image, pages)
    return total[0]


def extremes(run: Run, image: Image, pages: Sequence[int]) -> NDArray[Any]:
    """Return the smallest and the largest counted value of each channel, (2, C); inf, -inf: none."""
    found = np.full((2, image.header.channels), np.inf, image.header.dtype)
    lock = threading.Lock()

    def work(window: Window) -> None:
        with run.step("read"):
            request = image.counted(window)
        with run.step("compute"):
            of_window = _extremes_of(request.pixels)
            with lock:
                channels = found[:, : of_window.shape[1]]
                np.minimum(channels, of_window, out=channels)

    over_source(run, work, image, pages)
    found[1] = -found[1]
    return found


def _extremes_of(pixels: Pixels) -> NDArray[Any]:
    """Return the smallest value of each channel, and the negative of the largest."""
    channels = pixels.image[0]
    counted = np.isfinite(channels)
    if pixels.nodata is not None:
        counted &= channels != pixels.nodata
    if pixels.mask is not None:
        counted &= pixels.mask[0]
    axes = tuple(range(1, channels.ndim))
    least = channels.min(axes, initial=np.inf, where=counted)
    return np.stack([least, -channels.max(axes, initial=-np.inf, where=counted)])


def edges_of(selection: Selection, header: Header, limits: NDArray[Any], bins: int) -> Array:
    """Return the edges of the bins between the limits of each channel: those of an image of two pixels."""
    values = np.where(np.isfinite(limits), limits, np.nan).astype(header.dtype)
    pair = values[:, None, :] if "C" in header.layout else values
    return selection.request(header, np.ascontiguousarray(pair)).edges(bins, None)


def over_source(run: Run, work: Callable[[Window], object], image: Image, pages: Sequence[int]) -> None:
    """Call `work` for windows that cover some pages of a source."""
    size, per_pixel = image.header.size, image.header.bytes_per_pixel
    wanted, blocks = run.window_size(), image.source.blocks
    pieces = [w for page in pages for w in windows(size, blocks(page), page, wanted, per_pixel)]
    run.over(work, pieces, bytes_read(image, pieces), name_of(image.file))


def bytes_read(image: Image, pieces: Sequence[Window]) -> int:
    """Return the bytes of the largest window of a source, 0 where the image is in memory anyway."""
    return bytes_of(pieces, image.header.bytes_per_pixel) if image.source.in_blocks else 0


def bytes_of(pieces: Sequence[Window], bytes_per_pixel: int) -> int:
    """Return the bytes of the largest window."""
    return max(window.height * window.width for window in pieces) * bytes_per_pixel
