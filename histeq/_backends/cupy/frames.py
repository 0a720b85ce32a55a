"""The frames of a clip in host memory on their way through the device, each uploaded once.

While a frame is counted, and one is mapped and brought back, the next one is uploaded on a second stream.
What is known of the frames stays on the device, as in `window.py`. So do counted frames until they are
mapped, as far as half of the free memory holds them.
"""

import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any

import cupy
import numpy as np

from histeq._backends.cupy import backend as gpu
from histeq._backends.cupy import pieces as _pieces
from histeq._backends.cupy.transfer import TransferStream, two_streams
from histeq._backends.cupy.window import Window
from histeq._core.backend import Pixels
from histeq._core.window import Smoothing

Array = Any


class ClipWindow:
    """A `Window` for frames in host memory, whose results come late while it is `overlapped`.

    `send` uploads a frame ahead of its `count`; what `map` writes is there after the next `wait`, as is
    everything else that was asked for: nothing is under way then but the frame that was sent.
    """

    def __init__(self, smoothing: Smoothing) -> None:
        self._window = Window(smoothing)
        self._streams: list[TransferStream] = []
        """The one that counts and maps now, and the one that uploads the next frame; none: not overlapped."""
        self._device: Any = None
        self._mask: Array | None = None
        self._sent: Pixels | None = None
        self._kept: deque[Pixels | None] = deque()
        """The frames that were counted and not mapped; None for those that are uploaded once more."""
        self._free: int | None = None
        """The bytes that may still be kept; None: half of what is free when all else is allocated."""
        self._mapped: Pixels | None = None
        """The frame that is being mapped: if the other stream lent its memory, it would lend it anew."""

    @staticmethod
    def fits(pixels: Pixels, smoothing: Smoothing, bins: int) -> bool:
        """Tell whether the device has room for frames like this, what is made of them, and their counts."""
        tiles = 1 if smoothing.tiling is None else math.prod(smoothing.tiling.grid.tiles)
        counts = 8 * bins * pixels.histograms[1] * tiles * Window(smoothing).slots
        free = _pieces.free_memory()
        return pixels.image.nbytes <= free // _pieces.SHARE and counts <= free // 4

    @property
    def cuts(self) -> tuple[int, ...]:
        """The frames that are known to begin a shot."""
        return self._window.cuts

    @property
    def histogram(self) -> np.ndarray | None:
        """The counts of the latest frame, (1, P, bins)."""
        return _on_host(self._window.histogram)

    @property
    def table(self) -> np.ndarray | None:
        """The table that mapped the last frame, (1, P, bins) or (1, P, D, H, W, bins)."""
        return _on_host(self._window.table)

    @contextmanager
    def overlapped(self) -> Iterator[None]:
        """Let copies and kernels of several frames overlap inside the block."""
        try:
            with two_streams() as streams:
                self._streams, self._device = list(streams), cupy.cuda.Device()
                yield
        finally:
            self._streams, self._mask, self._sent, self._mapped, self._free = [], None, None, None, None
            self._kept.clear()

    def send(self, pixels: Pixels) -> None:
        """Upload a frame that will be counted next."""
        stream = self._streams[1]
        with self._device, stream.stream:
            if self._mask is None and pixels.mask is not None:
                self._mask = stream.upload(pixels.mask)
            self._sent = replace(_upload(stream, replace(pixels, mask=None)), mask=self._mask)

    def wait(self) -> None:
        """Wait for all work but the upload of the frame that was sent, whose stream takes over."""
        self._streams[0].wait()
        self._streams.reverse()
        self._mapped = None

    def count(
        self, backend: ModuleType, pixels: Pixels, origin: tuple[int, ...], edges: Array | None
    ) -> None:
        """Count the pixels of a frame, or those of a part of it, which begins at `origin` (D, H, W)."""
        with self._stream() as stream:
            bounds = None if edges is None else stream.upload(edges)
            frame, self._sent = self._sent, None
            if frame is None:
                self._window.count(gpu, _upload(stream, pixels), origin, bounds)
                return
            sizes = pixels.image.shape[2:]
            part = frame.window(tuple(slice(o, o + n) for o, n in zip(origin, sizes, strict=True)))
            self._window.count(gpu, part, origin, bounds)
            self._keep(frame)

    def map(self, backend: ModuleType, pixels: Pixels, edges: Array | None, out: Array) -> None:
        """Map the first of the counted frames that was not mapped yet."""
        with self._stream() as stream:
            frame = self._kept.popleft() if self._kept else None
            if frame is None:
                frame = _upload(stream, pixels)
            elif self._free is not None:
                self._free += frame.image.nbytes
            result = stream.empty_like(out)
            bounds = None if edges is None else stream.upload(edges)
            self._window.map(gpu, replace(frame, mask=None), bounds, result)
            stream.download(result, out)
            self._mapped = frame

    def count_and_map(self, backend: ModuleType, pixels: Pixels, edges: Array | None, out: Array) -> None:
        """Count a whole frame, and map it by the window that ends with it."""
        self.count(backend, pixels, (0, 0, 0), edges)
        self.map(backend, replace(pixels, mask=None), edges, out)

    def finish(self) -> None:
        """Say that there are no more frames."""
        with self._stream():
            self._window.finish()

    @contextmanager
    def _stream(self) -> Iterator[TransferStream]:
        """Make the stream that counts and maps the current one; wait for it where nothing overlaps."""
        if self._streams:
            with self._device, self._streams[0].stream:
                yield self._streams[0]
            return
        with two_streams() as (stream, _), stream.stream:
            yield stream
            stream.wait()

    def _keep(self, frame: Pixels) -> None:
        """Keep a frame on the device where there is room for it."""
        if self._free is None:
            self._free = _pieces.free_memory() // 2
        fits = frame.image.nbytes <= self._free
        self._free -= frame.image.nbytes if fits else 0
        self._kept.append(frame if fits else None)

    def __getstate__(self) -> Window:
        return self._window

    def __setstate__(self, window: Window) -> None:
        self.__init__(window.smoothing)  # type: ignore[misc]
        self._window = window


def _upload(stream: TransferStream, pixels: Pixels) -> Pixels:
    return _pieces.upload(stream, pixels, _pieces.whole_images(0))


def _on_host(array: Array | None) -> np.ndarray | None:
    return None if array is None else cupy.asnumpy(array)
