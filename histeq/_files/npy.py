"""NPY: NumPy's format of one array. Windows are read and written where they lie in the file."""

import contextlib
import io
import math
import os
from collections.abc import Sequence
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from histeq._files.axes import Axes, axes_for, axes_of, check_array
from histeq._files.blocks import Damage, Header, Level, Options, Source, Window
from histeq._files.picture import Unfit

_ROWS = 16
_COLUMNS = 64
"""The rows and columns of a block: an array has none, and windows have as many as are worth a task."""


class NpySource:
    """An array in a file."""

    mask: Source | None = None

    def __init__(self, file: BinaryIO, limit: int, layout: str | None, damage: Damage | None) -> None:
        shape, fortran, dtype = _header(file)
        axes = axes_of(shape, None, layout)
        check_array(axes, dtype, limit)
        self.damage = damage or Damage()
        self._pixels = _Pixels(file, "r", axes, dtype, fortran, self.damage)
        self.in_blocks = self._pixels.mapped
        self.header = Header(
            format="NPY",
            pages=axes.pages,
            height=axes.height,
            width=axes.width,
            channels=axes.channels,
            dtype=dtype.newbyteorder("="),
            layout=axes.layout,
            alpha=axes.alpha,
            keep={"axes": axes, "color": axes.color},
        )

    def blocks(self, page: int) -> tuple[int, int]:
        """Return a small size: any window is read."""
        return min(_ROWS, self.header.height), min(_COLUMNS, self.header.width)

    def read(self, window: Window) -> NDArray[Any]:
        """Return the pixels of a window."""
        return self._pixels.read(window)

    def close(self) -> None:
        """Do nothing: the file is the caller's."""


class NpySink:
    """An array in a file that is being written, itself the only level."""

    def __init__(self, file: BinaryIO, header: Header) -> None:
        axes = axes_for(header)
        self.header, self.height, self.width = header, header.height, header.width
        self.levels: Sequence[Level] = (self,)
        self.masks: Sequence[Level] = ()
        self.notes: list[str] = []
        dtype = header.dtype.newbyteorder("=")
        fields = {"shape": axes.shape, "fortran_order": False, "descr": npy_format.dtype_to_descr(dtype)}
        npy_format.write_array_header_1_0(file, fields)
        self._pixels = _Pixels(file, "r+", axes, dtype, fortran=False)

    def blocks(self, page: int) -> tuple[int, int]:
        """Return a small size: any window is written."""
        return min(_ROWS, self.height), min(_COLUMNS, self.width)

    def write(self, window: Window, pixels: NDArray[Any]) -> None:
        """Write the pixels of a window."""
        self._pixels.write(window, pixels)

    def read(self, window: Window) -> NDArray[Any]:
        """Return the pixels of a window."""
        return self._pixels.read(window)

    def finish(self) -> None:
        """Complete the file."""
        self._pixels.finish()


def open(file: BinaryIO, limit: int, layout: str | None = None, damage: Damage | None = None) -> NpySource:
    """Open an array, whose axes the letters of `layout` name: N or T, C, D, H, W."""
    return NpySource(file, limit, layout, damage)


def create(file: BinaryIO, header: Header, options: Options) -> NpySink:
    """Create a file of an array in C order; it has the axes of the array that the image comes from."""
    return NpySink(file, header)


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return the shape, whether the order is Fortran's, and the dtype; go to the first pixel."""
    try:
        version = npy_format.read_magic(file)
        # Version 3 is version 2 in UTF-8, which only the names of a structured dtype's fields need.
        read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except ValueError as error:
        if str(error).startswith("EOF"):  # NumPy speaks of its own reading
            raise EOFError("the file is truncated within its header") from None
        raise
    if dtype.hasobject:
        raise Unfit("arrays of Python objects are not handled")
    if any(size < 0 for size in shape):
        raise ValueError(f"its shape is {shape}")
    return shape, fortran, dtype


class _Pixels:
    """The array behind a header."""

    def __init__(
        self,
        file: BinaryIO,
        mode: Literal["r", "r+"],
        axes: Axes,
        dtype: np.dtype[Any],
        fortran: bool,
        damage: Damage | None = None,
    ) -> None:
        self._file: Any = file
        self._mode, self._axes, self._dtype = mode, axes, dtype
        self._order: Literal["C", "F"] = "F" if fortran else "C"
        self._start = file.tell()
        size = math.prod(axes.shape) * dtype.itemsize
        self.mapped = in_memory = isinstance(file, io.BytesIO)
        with contextlib.suppress(AttributeError, io.UnsupportedOperation):
            number = file.fileno()
            self.mapped = True
        if mode == "r":
            there = file.seek(0, os.SEEK_END) - self._start
            if there < size:
                (damage or Damage()).found(f"the file is truncated: it has {there} of {size} bytes of pixels")
                self.mapped = False
        elif in_memory:
            file.truncate()
            file.seek(self._start + size - 1)
            file.write(b"\0")
        elif self.mapped:
            file.truncate(self._start + size)
            if hasattr(os, "posix_fallocate"):  # else a full disk would end the process at a write
                os.posix_fallocate(number, 0, self._start + size)
        if not self.mapped:
            data = bytearray(size)
            if mode == "r":
                file.seek(self._start)
                part = file.read(size)
                data[: len(part)] = part
            self._whole = np.ndarray(axes.shape, dtype, data, order=self._order)

    def _map(self) -> NDArray[Any]:
        """Return the array. What is touched of a map counts as memory, so each window has one of its own."""
        if not self.mapped:
            return self._whole
        shape, order = self._axes.shape, self._order
        if isinstance(self._file, io.BytesIO):  # which cannot be closed while its memory is in use
            return np.ndarray(shape, self._dtype, self._file.getbuffer(), self._start, order=order)
        return np.memmap(self._file, self._dtype, self._mode, self._start, shape, order)

    def read(self, window: Window) -> NDArray[Any]:
        """Return the pixels of a window."""
        pixels = self._axes.pixels(self._map()[self._axes.index(window)])
        return np.array(pixels, order="C", subok=False)

    def write(self, window: Window, pixels: NDArray[Any]) -> None:
        """Write the pixels of a window."""
        self._map()[self._axes.index(window)] = self._axes.stored(pixels)

    def finish(self) -> None:
        """Write what could not be mapped."""
        if not self.mapped:
            self._file.seek(self._start)
            self._file.write(self._whole)
