"""Arrays of any number of axes as pages of (H, W) or (H, W, C): which axis is which."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histeq._api.layout import axes_named
from histeq._files.blocks import Header, Window
from histeq._files.picture import Unfit, check_size

DTYPES = ("uint8", "uint16", "int8", "int16", "float16", "float32", "float64")

_NAMES = {
    "H": ("y", "lat", "latitude", "rlat", "northing", "row", "rows", "line", "lines", "height"),
    "W": ("x", "lon", "longitude", "rlon", "easting", "column", "columns", "col", "cols", "width"),
    "C": ("c", "ch", "channel", "channels", "band", "bands", "s", "rgb", "rgba"),
    "D": ("z", "depth", "plane"),
    "T": ("t", "time", "frame"),
    "N": ("n", "scene", "image", "batch"),
}
LETTERS = {name: letter for letter, names in _NAMES.items() for name in names}
"""Which letter of a layout the name of an axis stands for."""
COLOR = ("s", "rgb", "rgba")
"""What axes are called whose channels are colours; "s": the samples of a pixel, as tifffile calls them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Axes:
    """The axes of a stored array."""

    letters: str
    """A letter an axis: H, W, C, and for the axes that make pages N, T or D."""
    shape: tuple[int, ...]
    color: bool | None
    """Whether the channels are known to be those of a colour image; None: nothing says so."""

    def __post_init__(self) -> None:
        if self.letters.count("H") != 1 or self.letters.count("W") != 1 or self.letters.count("C") > 1:
            raise Unfit(f"an array of shape {self.shape} has no rows and columns to speak of")

    @property
    def height(self) -> int:
        """The number of rows."""
        return self.shape[self.letters.index("H")]

    @property
    def width(self) -> int:
        """The number of columns."""
        return self.shape[self.letters.index("W")]

    @property
    def channels(self) -> int:
        """The number of channels."""
        return self.shape[self.letters.index("C")] if "C" in self.letters else 1

    @property
    def pages(self) -> int:
        """The number of pages."""
        return math.prod(self.of_pages(self.shape))

    @property
    def layout(self) -> str:
        """The layout as `Header` has it."""
        return ("N" if self.pages > 1 else "") + ("HWC" if self.channels > 1 else "HW")

    @property
    def alpha(self) -> bool:
        """Whether the last channel is alpha."""
        return bool(self.color) and self.channels in (2, 4)

    def of_pages(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Return the sizes along the axes that make pages."""
        return tuple(size for size, letter in zip(sizes, self.letters, strict=True) if letter not in "HWC")

    def of_rows(self, sizes: Sequence[int]) -> tuple[int, int]:
        """Return the sizes along the rows and the columns."""
        return sizes[self.letters.index("H")], sizes[self.letters.index("W")]

    def depth(self, chunks: Sequence[int]) -> tuple[int, int]:
        """Return how many successive pages a chunk holds, and the axis along which they are."""
        pages = [axis for axis, letter in enumerate(self.letters) if letter not in "HWC"]
        return (min(chunks[pages[-1]], self.shape[pages[-1]]), pages[-1]) if pages else (1, 0)

    def resized(self, height: int, width: int) -> "Axes":
        """Return the axes of an array with other numbers of rows and columns."""
        sizes = {"H": height, "W": width}
        shape = (sizes.get(letter, size) for letter, size in zip(self.letters, self.shape, strict=True))
        return dataclasses.replace(self, shape=tuple(shape))

    def index(self, window: Window) -> tuple[int | slice, ...]:
        """Return the index of a window in the stored array."""
        pages = iter(np.unravel_index(window.page, self.of_pages(self.shape)) if self.pages > 1 else ())
        rows, columns = window.slices
        every = slice(None) if self.channels > 1 else 0
        fixed: dict[str, int | slice] = {"H": rows, "W": columns, "C": every}
        return tuple(fixed[letter] if letter in fixed else int(next(pages, 0)) for letter in self.letters)

    def pixels(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Return what `index` gave as (H, W) or (H, W, C), in native byte order."""
        pixels = stored.transpose([self._kept.index(letter) for letter in "HWC" if letter in self._kept])
        return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)

    def stored(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return pixels, (H, W) or (H, W, C), as `index` takes them."""
        return pixels.reshape(*pixels.shape[:2], -1)[
            (..., slice(None) if self.channels > 1 else 0)
        ].transpose(["HWC".index(letter) for letter in self._kept])

    @property
    def _kept(self) -> str:
        """The letters of the axes that a window has, in stored order."""
        return "".join(letter for letter in self.letters if letter in ("HWC" if self.channels > 1 else "HW"))


def axes_of(shape: tuple[int, ...], names: Sequence[Any] | None = None, layout: str | None = None) -> Axes:
    """Find out which axis is which: by the caller's layout, else by the axes' names, else by the shape.

    Without layout and names, a last axis of three or four is that of the channels, and all axes before the
    rows are those of pages.
    """
    if layout is not None:
        try:
            axes_named(layout, len(shape))
        except ValueError as error:  # of the argument, not of the file
            raise Unfit(str(error)) from None
        return Axes(layout, shape, None if "C" in layout else False)
    named = _by_names(list(names)) if names is not None and len(names) == len(shape) else None
    if named is not None:
        return Axes(named[0], shape, named[1])
    if len(shape) < 2:
        raise Unfit(f"an array of {len(shape)} axes is no image")
    channels = len(shape) > 2 and shape[-1] in (3, 4)
    letters = "N" * (len(shape) - 2 - channels) + ("HWC" if channels else "HW")
    return Axes(letters, shape, None if channels else False)


def _by_names(names: list[Any]) -> tuple[str, bool] | None:
    """Return the letters that axes' names stand for, and whether the channels are colour."""
    lower = [name.lower() if isinstance(name, str) else "" for name in names]
    letters = "".join(LETTERS.get(name, "N") for name in lower)
    if letters.count("H") != 1 or letters.count("W") != 1 or letters.count("C") > 1:
        return None
    return letters, any(name in COLOR for name in lower)


def axes_for(header: Header) -> Axes:
    """Return the axes of an array for an image: those of the array that it comes from, else its layout's."""
    axes = header.keep.get("axes")
    if isinstance(axes, Axes):
        return axes
    sizes = {"N": header.pages, "H": header.height, "W": header.width, "C": header.channels}
    return Axes(header.layout, tuple(sizes[letter] for letter in header.layout), header.keep.get("color"))


_WIDE = ("int32", "uint32", "int64", "uint64")
"""Integers of which a range is served, if one is asked for."""


def check_array(axes: Axes, dtype: np.dtype[Any], limit: int) -> None:
    """Raise `Unfit` for an array of a dtype or a size that is not handled."""
    if dtype.name not in (*DTYPES, *_WIDE):
        raise Unfit(f"arrays of dtype {dtype} are not handled; convert it to one of {', '.join(DTYPES)}")
    check_size(axes.pages * axes.height * axes.width if axes.channels else 0, limit)
