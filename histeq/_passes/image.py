"""An image in a file with the arguments that say which of its pixels are meant."""

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histeq import _files
from histeq._api.request import Request, request
from histeq._api.types import BackendName
from histeq._files import FileError, Source, Window
from histeq._files.blocks import Header


@dataclasses.dataclass(frozen=True, slots=True)
class Selection:
    """The arguments that say which pixels are meant; each is that of `histeq.equalize`."""

    color: str = "luma"
    nodata: Any = "file"
    """A number; None: there is none; "file": the file's own."""
    value_range: Any = None
    backend: BackendName | None = None

    def of(self, header: Header) -> dict[str, Any]:
        """Return the arguments for a window of an image."""
        return {
            "layout": header.layout.replace("N", ""),
            "color": self.color,
            "alpha": header.alpha,
            "nodata": self.nodata_of(header),
            "backend": self.backend,
        }

    def nodata_of(self, header: Header) -> Any:
        """Return the value that is not counted."""
        return header.nodata if isinstance(self.nodata, str) and self.nodata == "file" else self.nodata

    def planes(self, header: Header) -> int:
        """Return how many histograms an image has, at most."""
        return header.channels if self.color == "channels" else 1

    def request(self, header: Header, pixels: NDArray[Any], mask: NDArray[Any] | None = None) -> Request:
        """Return the request for a window of an image."""
        return request(pixels, mask=mask, value_range=self.value_range, **self.of(header))

    def check(self, header: Header) -> Request:
        """Return the request for an image of the header's kind without pixels to speak of."""
        check_bands(header, self.color)
        if self.color != "channels" and header.channels == 3 and header.keep.get("color") is False:
            raise ValueError("the picture has three channels that are no colours: use --color channels")
        return self.request(header, np.zeros(header.shape(1, 1), header.dtype))


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """A source with its mask and its selection."""

    file: Any
    source: Source
    selection: Selection
    mask: "Image | None" = None
    identity: Any = None
    """Of the file when it was opened: see `identity_of`."""

    @property
    def header(self) -> Header:
        """The source's header."""
        return self.source.header

    def read(self, window: Window) -> NDArray[Any]:
        """Return the pixels of a window."""
        with _files.reading(self.file, self.header.format):
            return self.source.read(window)

    def read_mask(self, window: Window) -> NDArray[np.bool_] | None:
        """Return which pixels of a window are counted; None: all."""
        if self.mask is None:
            return None
        several = self.mask.header.pages > 1
        return nonzero(self.mask.header, self.mask.read(window if several else window._replace(page=0)))

    def counted(self, window: Window) -> Request:
        """Return the request that counts the pixels of a window."""
        return self.selection.request(self.header, self.read(window), self.read_mask(window))

    def check_mask(self) -> None:
        """Raise unless the mask has the image's size."""
        if self.mask is None:
            return
        mask, header = self.mask.header, self.header
        same = (mask.height, mask.width) == (header.height, header.width)
        if not same or mask.pages not in (1, header.pages):
            raise FileError(
                f"{_files.name_of(self.file)}: mask must have the image's shape, {header.width} x "
                f"{header.height} pixels, and one page or {header.pages}, got {mask.width} x {mask.height} "
                f"pixels and {mask.pages} pages"
            )


def check_bands(header: Header, color: str) -> None:
    """Raise ValueError for the luma of four bands, none of which is alpha."""
    if color != "channels" and header.channels == 4 and not header.alpha:
        raise ValueError("the picture has four bands, none of them alpha: use --color channels")


def nonzero(header: Header, pixels: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where any colour of a picture is not zero."""
    if "C" in header.layout:
        return np.asarray((pixels[..., : header.channels - header.alpha] != 0).any(axis=-1))
    return np.asarray(pixels != 0)


def as_target(pixels: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """Return pixels as the place for their result, of `dtype`; None where they cannot be it."""
    return pixels if pixels.dtype == dtype and pixels.flags.writeable else None


def identity_of(file: Any) -> Any:
    """Return what changes when a file does; None where nothing tells."""
    if not isinstance(file, str | os.PathLike):
        return None
    with contextlib.suppress(OSError):
        found = Path(file).stat()
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
    return None
