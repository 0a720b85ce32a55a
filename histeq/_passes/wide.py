"""Integers of 32 and 64 bits, of which `value_range` means at most 65536 values: they are served as uint16.

What lies outside of the range is not counted, and goes where the limits go. nodata stays, wherever it lies.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histeq._core.arguments import shown
from histeq._core.nodata import beside
from histeq._files import Sink, Source, Window
from histeq._files.blocks import Header, Level
from histeq._passes.image import Image
from histeq._passes.methods import Match, Method

_MOST = 65536


class Narrow:
    """A source of uint16: how far its values lie above the lower limit."""

    def __init__(self, source: Source, low: int, high: int, nodata: Any, offset: int) -> None:
        self.wide, self.nodata, self.offset = source.header, nodata, offset
        self.header = dataclasses.replace(source.header, dtype=np.dtype(np.uint16), nodata=None)
        self.in_blocks, self.blocks, self.close = source.in_blocks, source.blocks, source.close
        self.damage, self.mask = source.damage, source.mask
        self._source, self._limits = source, np.array([low, high], source.header.dtype)

    def __reduce__(self) -> Any:
        """Travel to a worker of a cluster."""
        return Narrow, (self._source, *self._limits.tolist(), self.nodata, self.offset)

    def read(self, window: Window) -> NDArray[Any]:
        """Return the pixels of a window."""
        pixels = np.clip(self._source.read(window), *self._limits)
        return np.asarray((pixels - self._limits[0]).astype(np.uint16))

    def counted(self, window: Window) -> NDArray[np.bool_]:
        """Return which pixels of a window are in the range and not nodata, (H, W)."""
        pixels = self._colour(window)
        return (pixels >= self._limits[0]) & (pixels <= self._limits[1]) & ~self._missing(pixels)

    def restore(self, window: Window, result: NDArray[Any]) -> None:
        """Put nodata where it was into a window of the result, and nowhere else."""
        if self.nodata is None:
            return
        colour = result[..., 0] if result.ndim == 3 else result
        colour[colour == self.nodata] = beside(self.nodata, result.dtype, None)
        colour[self._missing(self._colour(window))] = self.nodata

    def _colour(self, window: Window) -> NDArray[Any]:
        pixels = self._source.read(window)
        return pixels[..., 0] if pixels.ndim == 3 else pixels

    def _missing(self, pixels: NDArray[Any]) -> NDArray[np.bool_]:
        return np.zeros(pixels.shape, bool) if self.nodata is None else np.asarray(pixels == self.nodata)


class Widening:
    """A sink of what is made of a narrow source: uint16 becomes what the file has."""

    def __init__(self, sink: Sink, source: Narrow, dtype: np.dtype[Any]) -> None:
        self.sink = sink
        self.header = dataclasses.replace(sink.header, dtype=dtype)
        offset = source.offset if dtype == np.uint16 else 0
        self.levels: Sequence[Level] = (_Level(sink, source, offset), *sink.levels[1:])
        self.masks, self.notes, self.finish = sink.masks, sink.notes, sink.finish


class _Level:
    def __init__(self, sink: Sink, source: Narrow, offset: int) -> None:
        level = sink.levels[0]
        self.height, self.width, self.blocks, self.read = level.height, level.width, level.blocks, level.read
        self._write, self._dtype = level.write, sink.header.dtype
        self._source, self._offset = source, offset

    def write(self, window: Window, pixels: NDArray[Any]) -> None:
        """Write the pixels of a window."""
        result = pixels.astype(self._dtype)
        if self._offset:
            result += self._dtype.type(self._offset)
        self._source.restore(window, result)
        self._write(window, result)


def narrowed(image: Image, method: Method | None = None) -> Image:
    """Return an image of at most 16 bits; raise where its integers are wider and no range is given."""
    header, selection = image.header, image.selection
    if header.dtype.kind not in "iu" or header.dtype.itemsize <= 2:
        return image
    dtype = header.dtype
    if selection.value_range is None:
        raise TypeError(
            f"value_range must name at most {_MOST} values of {dtype} that are meant (documentation: depth)"
        )
    try:
        low, high = (int(value) for value in selection.value_range)
        fits = np.iinfo(dtype).min <= low < high <= np.iinfo(dtype).max and high - low < _MOST
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise ValueError(
            f"value_range must have low < high and at most {_MOST} values of {dtype}, "
            f"got {shown(selection.value_range)}"
        )
    if header.channels - selection.alpha_of(header) != 1:
        raise ValueError(f"of {dtype} grey pictures are served, and this one has {header.channels} channels")
    nodata = selection.nodata_of(header)
    _check_holds(dtype, nodata)
    out_range = getattr(method, "out_range", None)
    offset = low if out_range is None else int(out_range[0])
    nodata = None if nodata is None else dtype.type(int(nodata))
    return dataclasses.replace(
        image,
        source=Narrow(image.source, low, high, nodata, offset),
        selection=dataclasses.replace(selection, nodata=None, value_range=(0, high - low)),
    )


def _check_holds(dtype: np.dtype[Any], nodata: Any) -> None:
    if nodata is not None and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if not limits.min <= nodata <= limits.max or int(nodata) != nodata:
            raise ValueError(f"nodata must be a value that {dtype} holds, got {shown(nodata)}")


def method_for(method: Method, image: Image) -> Method:
    """Return the method for an image that was narrowed, else the same."""
    if not isinstance(image.source, Narrow):
        return method
    changed: dict[str, Any] = {"selection": image.selection}
    if isinstance(method, Match):
        changed["reference"] = narrowed(method.reference)
    elif method.out_range is not None and method.out_dtype is None:
        low, high = method.out_range
        changed["out_range"] = 0, high - low
    return dataclasses.replace(method, **changed)


def of_target(image: Image, dtype: np.dtype[Any]) -> Header:
    """Return the header of what is to be written, `dtype` being that of the method's result."""
    if isinstance(image.source, Narrow):
        wide = image.source.wide
        _check_holds(dtype, image.source.nodata if dtype != np.uint16 else None)
        kind = wide.dtype if dtype == np.uint16 else dtype
        named = wide.nodata is not None and image.source.nodata is not None
        return dataclasses.replace(wide, dtype=kind, nodata=int(image.source.nodata) if named else None)
    # What the file names is named of the result as it holds there; a value of the caller's alone is not.
    nodata = None if image.header.nodata is None else image.selection.nodata_of(image.header)
    return dataclasses.replace(image.header, dtype=dtype, nodata=nodata)


def widened(sink: Sink, image: Image, dtype: np.dtype[Any]) -> Sink:
    """Return a sink for the method's result, which has `dtype`."""
    if isinstance(image.source, Narrow):
        return Widening(sink, image.source, dtype)
    return sink


def as_written(sink: Sink, image: Image) -> tuple[Sink, Any]:
    """Return the file's own sink, and its nodata value."""
    if isinstance(sink, Widening) and isinstance(image.source, Narrow):
        return sink.sink, image.source.nodata
    return sink, image.selection.nodata_of(image.header)
