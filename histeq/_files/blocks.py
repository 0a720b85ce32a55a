"""Images as blocks: what formats offer to be read from (`Source`) and written to (`Sink`).

An image in a file is never held as a whole. A source reads any window of it, a sink takes windows made of
whole blocks, in any order and from any thread; between them are the passes of `histeq/_passes`.
"""

import dataclasses
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from histeq._files.reasons import reason as reason_of


class Window(NamedTuple):
    """A rectangle of pixels of one page."""

    page: int
    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """The rows and the columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


class Item(NamedTuple):
    """Something that a file has beside its pixels."""

    name: str
    """In words: "<name> not carried" is what the user reads."""
    formats: tuple[str, ...] = ()
    """Those that hold it: mostly the source's own, or none."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a file says of its image, the pixels apart."""

    format: str
    """PNG, JPEG, WebP, BMP, TIFF, Zarr, NPY, DICOM, JPEG 2000, JPEG XL, AVIF or GIF."""
    pages: int
    height: int
    width: int
    channels: int
    """Alpha included."""
    dtype: np.dtype[Any]
    """In native byte order."""
    layout: str
    """"HW", "HWC", "NHW" or "NHWC": the axes of all pages as one array. Windows have them without N."""
    alpha: bool = False
    """Whether the last channel is alpha."""
    nodata: float | None = None
    """The value of GDAL's nodata tag or of a fill value that says so, if the dtype can represent it. None
    where a mask says which pixels are valid: it comes first, as in GDAL."""
    value_range: tuple[int, int] | None = None
    """The values that pixels can have, where the file uses fewer bits than the dtype has."""
    icc: bytes | None = None
    exif: bytes | None = None
    """The EXIF data as a TIFF block, without the prefix "Exif" that JPEG files have."""
    xmp: bytes | None = None
    iptc: bytes | None = None
    resources: bytes | None = None
    """Photoshop's image resources, without IPTC."""
    dpi: tuple[float, float] | None = None
    own: tuple[Item, ...] = ()
    """What else is there, and cannot be exchanged between formats: its content is in `keep`."""
    levels: tuple[tuple[int, int], ...] = ()
    """The heights and widths of the image's reduced copies (overviews, a pyramid), the largest first."""
    keep: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What only this format can store: PNG chunks, JPEG tables, TIFF tags, Zarr attributes."""

    @property
    def pixels(self) -> int:
        """The number of pixels of all pages."""
        return self.pages * self.height * self.width

    @property
    def bytes_per_pixel(self) -> int:
        """The bytes of a pixel in memory."""
        return self.channels * self.dtype.itemsize

    @property
    def size(self) -> tuple[int, int]:
        """The rows and columns of a page."""
        return self.height, self.width

    def shape(self, height: int, width: int) -> tuple[int, ...]:
        """Return the shape of a window's array."""
        return (height, width, self.channels) if "C" in self.layout else (height, width)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How an image is to be written."""

    quality: int | None = None
    """1 to 100, for JPEG and lossy WebP."""
    compression: str | None = None
    """none, deflate, lzw, zstd, packbits, jpeg, ...: of TIFF and Zarr. None: as the source's, else deflate
    (TIFF) or the library's default (Zarr)."""
    overviews: bool | None = None
    """Whether reduced copies are written; None: as many and as large as the source has."""
    strict: bool = False
    """Whether it is an error that something of the source is not carried."""
    overwrite: bool = False
    """Whether a file that exists is replaced."""


class Damage:
    """What of a file cannot be decoded: an error, or, where the file is read leniently, something to tell."""

    def __init__(self, lenient: bool = False) -> None:
        self.lenient = lenient
        self.parts = 1
        """How many parts the file has that may be damaged, each by itself."""
        self._found: dict[Any, str] = {}
        self._lock = threading.Lock()

    def found(self, what: object, part: Hashable = None) -> None:
        """Raise ValueError, or note what is wrong with a part of the file, however often it is read."""
        reason = reason_of(what).rstrip(".")
        if not self.lenient:
            raise ValueError(f"{reason}; --lenient keeps what can be decoded")
        with self._lock:
            self._found.setdefault(reason if part is None else part, reason)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found, as a sentence."""
        with self._lock:
            reasons = list(self._found.values())
        if not reasons:
            return ()
        if self.parts == 1:
            return ("; ".join(reasons),)
        return (f"{len(reasons)} of its {self.parts} blocks are damaged, the first one found: {reasons[0]}",)


class Source(Protocol):
    """An image in a file that can be read."""

    header: Header
    damage: Damage
    in_blocks: bool
    """Whether a window can be read without decoding the whole image."""
    mask: "Source | None"
    """Which pixels are valid: those where it is not zero. None: the file has no mask."""

    def blocks(self, page: int) -> tuple[int, int]:
        """Return the rows and columns of a page's blocks. Windows of whole blocks are read at no loss."""

    def read(self, window: Window) -> NDArray[Any]:
        """Return the pixels of a window, (H, W) or (H, W, C), in native byte order; from any thread.

        Arrays that can be written to may be: whatever a source keeps for other windows is read-only.
        """

    def close(self) -> None:
        """Close the file."""


class Level(Protocol):
    """One resolution of an image that is being written: level 0 is the image itself."""

    height: int
    width: int

    def blocks(self, page: int) -> tuple[int, int]:
        """Return the rows and columns of a page's blocks."""

    def write(self, window: Window, pixels: NDArray[Any]) -> None:
        """Write the pixels of a window made of whole blocks; from any thread, each block once."""

    def read(self, window: Window) -> NDArray[Any]:
        """Return the pixels of any window, all of which have been written."""


class Sink(Protocol):
    """An image in a file that is being written."""

    header: Header
    """Of the image that is written: its dtype may differ from the source's."""
    levels: Sequence[Level]
    """The image and its reduced copies, the largest first. They are all written, in this order."""
    masks: Sequence[Level]
    """The masks of all levels, which are written in uint8; empty where none are kept in this file."""
    notes: list[str]
    """What the source has and this file has not, each in words: "XMP not carried"."""

    def finish(self) -> None:
        """Complete the file, all levels being written."""


_SIDE = 64


class Whole:
    """A source of a format that cannot be read in blocks: the image is one, decoded when it is first read."""

    in_blocks = False
    mask: Source | None = None

    def __init__(
        self, header: Header, decode: Callable[[], NDArray[Any]], damage: Damage | None = None
    ) -> None:
        self.header, self.damage = header, damage or Damage()
        self._decode: Callable[[], NDArray[Any]] | None = decode
        self._lock = threading.Lock()
        self._pixels: NDArray[Any]

    def blocks(self, page: int) -> tuple[int, int]:
        """Return a size that is worth a task: the image is in memory."""
        return min(_SIDE, self.header.height), min(_SIDE, self.header.width)

    def read(self, window: Window) -> NDArray[Any]:
        """Return a view of the pixels, which may be written to."""
        with self._lock:
            if self._decode is not None:
                self._pixels, self._decode = self._decode(), None
        pages = self._pixels if "N" in self.header.layout else self._pixels[None]
        return np.asarray(pages[window.page][window.slices])

    def close(self) -> None:
        """Let go of the pixels."""
        self._pixels = np.empty(0)


def windows(
    shape: tuple[int, int], blocks: tuple[int, int], page: int, size: int, bytes_per_pixel: int
) -> Iterator[Window]:
    """Yield the windows of a page, from the top left on, each of whole blocks and of about `size` bytes.

    They have the width of the page before they have several rows of blocks.

    Parameters
    ----------
    shape, blocks : (rows, columns)
        The size of the page, and of its blocks.
    """
    rows, columns = (min(n, of) for n, of in zip(blocks, shape, strict=True))
    many = max(1, size // (rows * columns * bytes_per_pixel))
    across = min(many, -(-shape[1] // columns))
    down = max(1, many // across) if across * columns >= shape[1] else 1
    for top in range(0, shape[0], rows * down):
        height = min(rows * down, shape[0] - top)
        for left in range(0, shape[1], columns * across):
            yield Window(page, top, left, height, min(columns * across, shape[1] - left))
