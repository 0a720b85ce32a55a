"""The commonest frames of a video at the least cost: grey ones of 8 bits, with contiguous rows.

The general path costs some 60 microseconds a call in checks and views, and more where pixels have evicted the
interpreter from the caches: a tenth of the time for a frame of 1080p.
"""

from __future__ import annotations  # as in backend.py

from typing import Any

import numpy as np
from histeq_kernels.cpu import tiers as _tiers
from histeq_kernels.cpu.fused.window import DISTANCE, THRESHOLD
from histeq_kernels.cpu.histogram import grey as _histogram
from histeq_kernels.cpu.lut import grey as _lut
from numpy.typing import NDArray

from histeq._backends.numba import fast_path
from histeq._backends.numba import parallel as _parallel
from histeq._backends.numba.views import add_up, split, workspace
from histeq._core import rules as _rules
from histeq._core import shots as _shots
from histeq._core import threads as _threads
from histeq._core.backend import Backend, Pixels
from histeq._core.window import Smoothing, Window

Array = NDArray[Any]

_UINT8 = np.dtype(np.uint8)


class PlainFrames:
    """Such frames of one clip, counted in a window of time and mapped by it.

    A method returns None, or False, for whatever needs a second look, wrong arguments among it: the general
    path then takes the call, as with `fast_path.py`.

    Parameters
    ----------
    backend : Backend
        This one.
    shape : tuple of int
        The frames', (rows, columns).
    pixels : Pixels
        Those of a frame, but for its image.
    """

    def __init__(
        self, backend: Backend, shape: tuple[int, ...], pixels: Pixels, smoothing: Smoothing, window: Window
    ) -> None:
        self._backend, self._shape, self._window = backend, shape, window
        self._joins = _tiers.in_use().joins_rows
        self._size = shape[0] * shape[1]
        self._bins = _rules.bins_in_range(_UINT8, pixels.value_range)
        low, high, *kept, dtype = smoothing.levels or _rules.whole_range(_UINT8)
        bins = self._bins.stop - self._bins.start
        self._is_default = smoothing.rule == "opencv" and smoothing.kept is None and dtype == _UINT8
        self._levels = np.array([self._bins.start, low, high - low, *kept], np.int64)
        self._judge = np.array([_shots.UNIT, 0, 0], np.float64)
        self._nothing, self._shares = np.zeros(bins, np.int64), np.zeros(bins, np.int64)

    @staticmethod
    def fits(dtype: np.dtype, shape: tuple[int, ...], pixels: Pixels, smoothing: Smoothing) -> bool:
        """Tell whether the frames of a clip are such, and counted whole."""
        special = pixels.luma or pixels.mask is not None or pixels.nodata is not None
        by_bytes = dtype == _UINT8 and smoothing.rule != "skimage" and smoothing.tiling is None
        return by_bytes and not special and len(shape) == 2 and 0 < shape[0] * shape[1] < fast_path.MOST

    def count(self, frame: Any) -> bool:
        """Count the next frame."""
        if not self._has_rows(frame):
            return False
        counts = self._counts(frame)[None, None, self._bins]
        self._window.add(self._backend, counts, counts)
        return True

    def map(self, frame: Any, out: Any) -> Array | None:
        """Map the first of the counted frames that was not mapped yet."""
        if not self._has_rows(frame) or (out := _output(frame, out)) is None:
            return None
        table = self._window.next_table(self._backend)[0, 0]
        if len(table) < 256:
            table = _rules.extend(table, self._bins.start, np.empty(256, np.uint8))

        def work(piece: Any) -> None:
            _lut.apply.u8(piece[0], table, workspace().lookup, piece[1])

        rows, threads = self._rows(frame, out), _threads.num_threads()
        if threads == 1:
            work(rows)
        else:
            _threads.run(work, split(threads, *rows))
        return out

    def count_and_map(self, frame: Any, out: Any) -> Array | None:
        """Count the next frame and map it by the window that ends with it, in one call of a kernel."""
        if not self._is_default or not self._has_rows(frame) or (out := _output(frame, out)) is None:
            return None
        threads = 1 if self._size < _parallel.WORTH_IT else _threads.num_threads()
        image, new = self._rows(frame, out)
        leaving, total, shares, self._judge[THRESHOLD] = self._window.step()
        counts, table = _parallel.equalize_frame(
            image,
            self._nothing if leaving is None else leaving.reshape(-1),
            self._levels,
            self._judge,
            self._shares if shares is None else shares.reshape(-1),
            total.reshape(-1),
            new,
            threads,
        )
        bins = self._bins
        self._window.take(counts[None, None, bins], float(self._judge[DISTANCE]), table[None, None, bins])
        return out

    def _counts(self, frame: Array) -> NDArray[np.int64]:
        (rows,), threads = self._rows(frame), _threads.num_threads()
        if threads > 1:
            return add_up(_count, split(threads, rows), (256,))
        counts = np.zeros(256, np.int64)
        _count(rows, counts)
        return counts

    def _has_rows(self, frame: Any) -> bool:
        """Tell whether an array is such a frame."""
        if type(frame) is not np.ndarray or frame.shape != self._shape or frame.dtype != _UINT8:
            return False
        step, size = frame.strides
        return size == 1 and step >= self._shape[1]

    def _rows(self, *frames: Array) -> list[Array]:
        """Return frames as the kernels take them, all in the same way."""
        if self._joins:
            for frame in frames:
                if not frame.flags.c_contiguous:
                    break
            else:
                return [frame.reshape(1, 1, -1) for frame in frames]
        return [frame[None] for frame in frames]


def _count(piece: Array, counts: NDArray[np.int64]) -> None:
    _histogram.histogram.u8(piece, workspace().counters, counts)


def _output(frame: Array, out: Any) -> Array | None:
    """Return where a frame's result goes; None if that is not plain to see."""
    if out is frame:
        return frame if frame.flags.writeable else None
    if not frame.flags.c_contiguous:
        return None
    if out is None:
        return np.empty_like(frame)
    return out if fast_path.is_output(out, frame) else None
