"""Sinks of formats that are encoded as a whole."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from histeq._files import exif
from histeq._files.blocks import Header, Level, Window
from histeq._files.picture import Picture

_ROWS = 256


class WholeSink:
    """A sink that keeps the image until all of it is there."""

    def __init__(
        self,
        header: Header,
        file: BinaryIO,
        encode: Callable[[Picture, BinaryIO, int | None], None],
        quality: int | None,
    ) -> None:
        self.header = header
        self.height, self.width = header.height, header.width
        self.levels: Sequence[Level] = (self,)
        self.masks: Sequence[Level] = ()
        self.notes: list[str] = []
        self._file, self._encode, self._quality = file, encode, quality
        shape = header.shape(header.height, header.width)
        self._pixels: NDArray[Any] = np.empty(shape, header.dtype)  # takes memory where it is written to

    def blocks(self, page: int) -> tuple[int, int]:
        """Return a size that is worth a task."""
        return min(_ROWS, self.height), self.width

    def write(self, window: Window, pixels: NDArray[Any]) -> None:
        """Keep the pixels of a window."""
        if (window.height, window.width) == (self.height, self.width):
            self._pixels = pixels  # instead of a copy
            return
        self._pixels[window.slices] = pixels

    def read(self, window: Window) -> NDArray[Any]:
        """Return a view of what was written."""
        return self._pixels[window.slices]

    def finish(self) -> None:
        """Encode the image."""
        picture = Picture.of(self.header, self._pixels)
        picture = dataclasses.replace(picture, exif=exif.with_new_thumbnail(picture.exif, picture.first))
        self._encode(picture, self._file, self._quality)
