"""An image in a file with the arguments that say which of its pixels are meant."""

import contextlib
import dataclasses
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from histeq import _files
from histeq._api.request import Request, request
from histeq._api.types import BackendName
from histeq._files import FileError, Source, Window, urls
from histeq._files.blocks import Header


@dataclasses.dataclass(frozen=True, slots=True)
class Selection:
    """The arguments that say which pixels are meant; each is that of `histeq.equalize`."""

    color: str | None = None
    """None: the luma, of bands that are said to be colours."""
    nodata: Any = "file"
    """A number; None: there is none; "file": the file's own."""
    value_range: Any = None
    backend: BackendName | None = None
    alpha: bool | None = None
    """Whether the last channel is alpha; None: as the file says."""
    count_transparent: bool = False

    def of(self, header: Header) -> dict[str, Any]:
        """Return the arguments for a window of an image."""
        return {
            "layout": header.layout.replace("N", ""),
            "color": self.color or "luma",
            "alpha": self.alpha_of(header),
            "nodata": self.nodata_of(header),
            "backend": self.backend,
        }

    def alpha_of(self, header: Header) -> bool:
        """Return whether the last channel is alpha."""
        return header.alpha if self.alpha is None else self.alpha

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
        check_bands(header, self.color, self.alpha_of(header))
        return self.request(header, np.zeros(header.shape(1, 1), header.dtype))


@runtime_checkable
class PartlyCounted(Protocol):
    """A source that knows which of its pixels are not counted, whatever the mask says."""

    def counted(self, window: Window) -> NDArray[np.bool_]:
        """Return which pixels of a window are counted, (H, W)."""


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

    @property
    def in_part(self) -> bool:
        """Whether pixels may be left out for another reason than their values."""
        return self.mask is not None or self.source.mask is not None or self._leaves_transparent

    @property
    def _leaves_transparent(self) -> bool:
        """Whether pixels are not counted whose alpha is 0."""
        return self.selection.alpha_of(self.header) and not self.selection.count_transparent

    def read_counted(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Return the pixels of a window, and which of them are counted; None: all.

        Those that the caller's mask names and that are valid: by the file's own mask, and not transparent.
        """
        pixels = self.read(window)
        counted = self.read_valid(window)
        if isinstance(self.source, PartlyCounted):
            counted = both(counted, self.source.counted(window))
        if self._leaves_transparent:
            counted = both(counted, opaque(pixels))
        if self.mask is not None:
            several = self.mask.header.pages > 1
            mask = self.mask.read(window if several else window._replace(page=0))
            counted = both(counted, nonzero(self.mask.header, mask))
        return pixels, counted

    def read_valid(self, window: Window) -> NDArray[np.bool_] | None:
        """Return which pixels of a window are valid by the file's own mask; None: all."""
        mask = self.source.mask
        if mask is None:
            return None
        with _files.reading(self.file, mask.header.format):
            several = mask.header.pages > 1
            valid = nonzero(mask.header, mask.read(window if several else window._replace(page=0)))
        return None if valid.all() else valid

    def counted(self, window: Window) -> Request:
        """Return the request that counts the pixels of a window."""
        return self.selection.request(self.header, *self.read_counted(window))

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


def check_bands(header: Header, color: str | None, alpha: bool) -> None:
    """Raise ValueError for the luma of bands that have none; of three that may have one, unless asked for."""
    bands = header.channels - alpha
    if color == "channels" or bands == 1 or (bands == 3 and header.keep.get("color") is not False):
        return
    if bands != 3:
        what = "beside alpha" if alpha else "none of them alpha"
        number = {2: "two", 4: "four"}.get(bands, bands)
        raise ValueError(
            f"the picture has {number} bands, {what}: use --color channels (documentation: layouts)"
        )
    if color is None:
        raise ValueError(
            "the picture has three bands that are not said to be red, green and blue: use --color channels, "
            "or --color luma if they are (documentation: layouts)"
        )


def opaque(pixels: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Return where alpha, the last channel, is not 0; None: everywhere."""
    counted = pixels[..., -1] != 0
    return None if counted.all() else np.asarray(counted)


def both(a: NDArray[np.bool_] | None, b: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    """Return where both masks are; None is everywhere."""
    return b if a is None else a if b is None else a & b


def nonzero(header: Header, pixels: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where any colour of a picture is not zero."""
    if "C" in header.layout:
        return np.asarray((pixels[..., : header.channels - header.alpha] != 0).any(axis=-1))
    return np.asarray(pixels != 0)


def as_target(pixels: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """Return pixels as the place for their result, of `dtype`; None where they cannot be it."""
    return pixels if pixels.dtype == dtype and pixels.flags.writeable else None


def identity_of(file: Any) -> Any:
    """Return what changes when a file does, or any file in a Zarr store's folder; None where nothing tells.

    Nothing tells of open files, and of stores elsewhere than in files.
    """
    url = urls.address(file)
    if url is not None:
        return urls.state(url)
    file = urls.local(file)
    store = getattr(file, "store", None)
    root = getattr(store, "root", None) or getattr(store, "path", None)  # a folder or a ZIP file
    if isinstance(root, Path):
        file = root / file.path if root.is_dir() else root
    if not isinstance(file, str | os.PathLike):
        return None
    with contextlib.suppress(OSError):
        path = Path(file)
        return _state(path.stat()), sum(map(hash, _within(file))) if path.is_dir() else 0
    return None


def lasting_identity(file: str | os.PathLike[str], *, shallow: bool = False) -> str | None:
    """Return the same as text that means the same in other processes, and on other machines.

    Of a store it is, if `shallow`, that of its metadata alone: quick, however many chunks there are.
    """
    url = urls.address(file)
    if url is not None:
        return None if shallow else urls.state(url)
    path = Path(file)
    if not path.is_dir():
        return _lasting([("", *_state(path.stat()))])
    if not shallow:
        return _lasting((Path(name).relative_to(path), *state) for name, *state in _within(path))
    return _lasting((p.name, *_state(p.stat())) for p in path.iterdir() if p.is_file())


def _lasting(entries: Iterable[tuple[Any, ...]]) -> str:
    """Return a sum of names, sizes and times; numbers of devices and files differ from machine to machine."""
    lines = (f"{os.fspath(name)} {size} {time}" for name, _, _, size, time in entries)
    return f"{sum(zlib.crc32(line.encode('utf-8', 'replace')) for line in lines):x}"


def _within(folder: str | os.PathLike[str]) -> Iterator[tuple[Any, ...]]:
    """Yield the path and the state of all that is in a folder: of a million chunks in some seconds."""
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry.path, *_state(entry.stat(follow_symlinks=False))
            if entry.is_dir(follow_symlinks=False):
                yield from _within(entry.path)


def _state(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
