"""TIFF files as sources of windows: everything is held against its limits here, before it is decoded."""

import contextlib
import itertools
import logging
import operator
import pickle
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from histeq._files import exif
from histeq._files.blocks import Damage, Header, Item, Source, Window
from histeq._files.picture import Unfit, check_size
from histeq._files.tiff import settings, tags
from histeq._files.tiff.codecs import JPEG, quality_of
from histeq._files.tiff.directory import Directory, places
from histeq._files.tiff.reader import Reader
from histeq._files.tiff.storage import Storage, for_tifffile

_MOST_LEVELS = 64
_LAYOUT = b"LAYOUT=IFDS_BEFORE_DATA"  # in a comment that GDAL writes behind the file's header
_COG = Item("the order of a cloud-optimized GeoTIFF (rio cogeo create makes one of it)")
_COLOURS = {5: "CMYK (SEPARATED)", 6: "YCbCr", 8: "CIELAB", 9: "ICCLAB", 10: "ITULAB"}
_MASK = Item("the mask of valid pixels", ("TIFF",))
_JPEG_HEADER = 1 << 16
"""Bytes of a JPEG block that are looked at for its tables."""
_SINGLE = (
    "a TIFF stack of {} planes in a single directory, as ImageJ and tifffile write above 4 GB: save it with "
    "a directory for each plane (BigTIFF)"
)
_SLIDE = (
    "a whole slide ({}), whose levels, label and macro are pictures of different sizes: extract one first, "
)
_SLIDE += "for example with vips tiffsave SLIDE OUT.tif --tile --pyramid"
_DNG_VERSION = 50706
_CFA, _LINEAR_RAW = 32803, 34892  # photometric interpretations


class TiffSource:
    """The full pages of a TIFF file; its reduced copies are known by their sizes and settings alone."""

    header: Header
    in_blocks: bool
    mask: Source | None

    def __init__(self, file: Path | BinaryIO, limit: int, damage: Damage) -> None:
        self.damage = damage
        self._owned = isinstance(file, Path)
        self._file: BinaryIO = file.open("rb") if isinstance(file, Path) else file
        try:
            self._storage = Storage(self._file)
            self._directories: list[Directory] = []
            self._masks: dict[int, Directory] = {}
            self._parse(limit)
        except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
            # Numbers where tifffile, or this module, needs one, or one where it needs several.
            self.close()
            raise ValueError("a tag has a wrong kind of value") from error
        except BaseException:
            self.close()
            raise
        self._reader = Reader(self._storage, damage)
        damage.parts = sum(len(directory.counts) for directory in self._directories)
        first = self._directories[0]
        self.in_blocks = self.header.pages > 1 or first.unit != (first.height, first.width)
        self.mask = _Masks(self.header, self._masks, self._reader, damage) if self._masks else None

    def blocks(self, page: int) -> tuple[int, int]:
        """Return the rows and columns of a page's blocks. Windows of whole blocks are read at no loss."""
        return self._directories[page].unit

    def read(self, window: Window) -> NDArray[Any]:
        """Return the pixels of a window, an array of their own; from any thread."""
        return self._reader.read(self._directories[window.page], window)

    def close(self) -> None:
        """Close the file, if it was opened here."""
        if self._owned:
            self._file.close()

    def _add_mask(self, page: Any, first: Any, masks: dict[int, Any]) -> None:
        """Take a mask for that of the page before it. Those of reduced copies are made anew."""
        number = len(self._directories) - 1
        if number < 0:
            raise Unfit("TIFF files that begin with a mask are not handled")
        full = self._directories[number]
        if page.is_reduced or page.imagelength < full.height or page.imagewidth < full.width:
            return
        if (
            _size(page) != (full.height, full.width)
            or page.axes != "YX"
            or page.dtype not in (bool, np.uint8)
        ):
            raise Unfit("TIFF files with this kind of mask are not handled")
        if number in masks:
            raise Unfit("TIFF files with several masks for one page are not handled")
        masks[number] = settings.settings_of(page, first)
        self._masks[number] = Directory.of(page, *places(page, self._storage.size, self.damage))

    def _parse(self, limit: int) -> None:
        """Go through the directories, and make a header of them."""
        import tifffile

        with _logged_errors() as errors, tifffile.TiffFile(for_tifffile(self._file)) as tiff:
            tiff.pages.useframes = False  # tifffile's frames lack some of the tags
            shared: dict[Any, Any] = {}  # pages' settings are mostly the same: equal ones are held once
            pages: list[dict[str, Any]] = []
            copies: list[list[Any]] = []  # of each page: sizes and settings
            in_subifds = False
            masks: dict[int, Any] = {}  # settings by number of page
            first: Any = None
            beneath: list[Any] = []
            own: dict[Item, None] = {}  # a set in order
            room = self._storage.size
            for page in _chain(tiff.pages):
                if errors:
                    raise ValueError(errors[0])
                if page.is_mask:
                    self._add_mask(page, first, masks)
                    continue
                if page.is_reduced:
                    if not _is_level(page, first or page):
                        own[Item("a page that is a thumbnail")] = None
                    elif pages:
                        copies[-1].append((_size(page), _shared(settings.settings_of(page, first), shared)))
                    continue
                if first is None:
                    first = page
                    beneath = [copy for copy in _subifds(page) if copy.is_mask]
                if page is first:
                    _check_raw([page])
                _check(page, first)
                # Every four channels count as one image, since the header announces their number, too.
                pixels = page.imagelength * page.imagewidth * -(-page.samplesperpixel // 4)
                check_size((len(pages) + 1) * pixels, limit)
                under = [copy for copy in _subifds(page) if _is_level(copy, page)]
                in_subifds |= bool(under)
                room -= 4 * sum(len(each.dataoffsets) for each in (page, *under))
                if room < 0:
                    raise ValueError("its pages share their tables of offsets")
                self._directories.append(Directory.of(page, *places(page, self._storage.size, self.damage)))
                pages.append(_shared(settings.settings_of(page, first), shared))
                own |= dict.fromkeys(pages[-1]["own"])
                copies.append([(_size(c), _shared(settings.settings_of(c, first), shared)) for c in under])
                for mask in beneath:
                    self._add_mask(mask, first, masks)
                beneath = []
            if errors:
                raise ValueError(errors[0])
            if first is None:
                _check_raw(tiff.pages)
                raise ValueError("it has no pages")
            _check_planes(tiff, first, len(pages))
            for each in copies:
                each.sort(key=operator.itemgetter(0), reverse=True)
            sizes = [tuple(size for size, _ in each) for each in copies]
            start = self._storage.read(0, min(256, self._storage.size))
            keep = {
                "byteorder": tiff.byteorder,
                "bigtiff": tiff.is_bigtiff,
                "pages": pages,
                "levels": [[its for _, its in each] for each in copies],
                "uneven": next((n for n, found in enumerate(sizes) if found != sizes[0]), None),
                "quality": _quality(first),
                "subifds": in_subifds,
                "invert": self._directories[0].inverted,
                "masks": masks,
                "color": settings.is_color(first),
            }
            own |= {_MASK: None} if masks else {}
            own |= {_COG: None} if _LAYOUT in bytes(start) else {}
            block, left = self._exif(first)
            own |= dict.fromkeys(left)
            self.header = _header(first, self._directories[0], keep, sizes[0], block, own)

    def _exif(self, first: Any) -> tuple[bytes | None, list[Item]]:
        """Return the first page's EXIF and texts as a block, and what is left of them."""
        head = bytes(self._storage.read(0, 16 if first.parent.is_bigtiff else 8))
        try:
            found, left = exif.of_tiff(self._file, head, first.offset)
        except Exception:  # Pillow raises all kinds of them
            return None, [Item("EXIF, which is broken")]
        if first.is_shaped or first.is_imagej or first.is_ome:
            found.tags.pop(270, None)  # no text for people
        return exif.block_of(found), [Item(name) for name in left]


def _quality(page: Any) -> int | None:
    """Return the quality of a page in JPEG compression."""
    if page.compression != JPEG:
        return None
    with contextlib.suppress(Exception):  # of what is broken: it will be found when it is decoded
        file = page.parent.filehandle
        file.seek(page.dataoffsets[0])
        data = file.read(min(page.databytecounts[0], _JPEG_HEADER))
        tables = page.jpegtables
        return quality_of(tables[:-2] + data[2:] if tables else data)
    return None


class _Masks:
    """The masks of the pages of a TIFF file, as a source; where a page has none, all is valid."""

    mask: Source | None = None

    def __init__(
        self, header: Header, masks: Mapping[int, Directory], reader: Reader, damage: Damage
    ) -> None:
        self.damage = damage
        self.header = Header(
            format="TIFF", pages=header.pages, height=header.height, width=header.width, channels=1,
            dtype=np.dtype(np.uint8), layout=header.layout.replace("C", ""),
        )  # fmt: skip
        self._masks, self._reader = masks, reader
        self.in_blocks = any(mask.unit != header.size for mask in masks.values())

    def blocks(self, page: int) -> tuple[int, int]:
        """Return the rows and columns of a mask's blocks."""
        return self._masks[page].unit if page in self._masks else self.header.size

    def read(self, window: Window) -> NDArray[Any]:
        """Return what is not zero where pixels are valid."""
        if window.page not in self._masks:
            return np.ones((window.height, window.width), np.uint8)
        return self._reader.read(self._masks[window.page], window)

    def close(self) -> None:
        """Leave the file open, which is the image's."""


def _chain(pages: Any) -> Iterator[Any]:
    """Yield pages; raise an error when one comes again."""
    seen = set()
    for page in pages:
        if page.offset in seen:
            raise ValueError("its pages point back at each other")
        seen.add(page.offset)
        yield page


def _subifds(page: Any) -> list[Any]:
    offsets = page.subifds or ()
    if len(offsets) > _MOST_LEVELS or len(set(offsets)) < len(offsets) or page.offset in offsets:
        raise ValueError("its directories point back at each other")
    return list(page.pages) if offsets else []


def _is_level(page: Any, full: Any) -> bool:
    """Tell whether a page is a smaller copy of another, and no thumbnail in other colours or mask."""
    same = (page.dtype, page.samplesperpixel) == (full.dtype, full.samplesperpixel)
    smaller = 0 < page.imagelength < full.imagelength and 0 < page.imagewidth < full.imagewidth
    return same and smaller and page.is_reduced and not page.is_mask


def _size(page: Any) -> tuple[int, int]:
    return page.imagelength, page.imagewidth


def _shared(value: dict[str, Any], known: dict[Any, Any]) -> dict[str, Any]:
    """Return settings, or equal ones that are known; so too for each of the tags."""
    value["tags"] = {code: known.setdefault(pickle.dumps(tag), tag) for code, tag in value["tags"].items()}
    return known.setdefault(pickle.dumps(value), value)


@contextlib.contextmanager
def _logged_errors() -> Iterator[list[str]]:
    """Collect the errors that tifffile logs in this thread, where it skips a broken part without raising."""
    found: list[str] = []
    thread = threading.get_ident()

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread:
                found.append(record.getMessage())

    handler = Collect(logging.ERROR)
    logger = logging.getLogger("tifffile")
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


def _check_raw(pages: Any) -> None:
    """Raise `Unfit` for a raw photograph, of which the pages are previews, if any."""
    for page in itertools.islice(pages, _MOST_LEVELS):
        within = list(page.pages) if page.subifds else []
        if _DNG_VERSION in page.tags or any(
            each.photometric in (_CFA, _LINEAR_RAW) for each in (page, *within)
        ):
            kind = "DNG" if _DNG_VERSION in page.tags else page.tags.valueof(271, "TIFF/EP")
            raise Unfit(
                f"a raw photograph ({str(kind).strip()}): develop it first, with darktable, RawTherapee or "
                "dcraw, into TIFF"
            )


def _check(page: Any, first: Any) -> None:
    """Raise an error unless a page is of a supported kind, and like the first."""
    kinds = [
        (one.shape, one.dtype, one.bitspersample, one.photometric == settings.PALETTE)
        for one in (page, first)
    ]
    if kinds[0] != kinds[1]:
        for scanner in ("svs", "ndpi", "scn", "philips", "bif", "qpi"):
            if getattr(page.parent, f"is_{scanner}", False):
                raise Unfit(_SLIDE.format(scanner.upper()))
        raise Unfit("TIFF files whose pages differ in size or type are not handled; split it")
    if page.is_shaped and re.search(r'"truncated":\s*true', page.description):  # tifffile's own stacks
        raise Unfit(_SINGLE.format("several"))
    kind = int(page.photometric)
    if kind != page.photometric or page.tags.valueof(284, 1) not in (1, 2):
        raise ValueError("what its pixels mean, or how they are stored, has no known value")
    if kind == settings.YCBCR and not {1, 2, 4}.issuperset(page.tags.valueof(530, (2, 2))):
        raise ValueError("its colours are stored in no known proportion")
    in_jpeg = (kind, int(page.compression)) == (settings.YCBCR, JPEG)
    known = (settings.WHITE_IS_ZERO, settings.BLACK_IS_ZERO, settings.RGB, settings.PALETTE)
    if kind not in known and not in_jpeg:
        name = _COLOURS.get(kind, getattr(page.photometric, "name", kind))
        raise Unfit(f"{name} pictures are not handled; convert it to grey or RGB")
    if any(kind in (settings.ASSOCIATED, settings.UNASSOCIATED) for kind in page.extrasamples[:-1]):
        raise Unfit("TIFF files whose alpha is not the last band are not handled: reorder its bands")
    few = page.samplesperpixel < 3 and kind in (settings.RGB, settings.YCBCR)
    deep = page.imagedepth != 1 or page.tiledepth != 1
    if page.dtype is None or few or deep or page.axes not in ("YX", "YXS", "SYX"):
        raise Unfit("TIFF files with this kind of pixels are not handled")


def _check_planes(tiff: Any, first: Any, pages: int) -> None:
    """Raise an error if the file announces more planes than it has pages.

    tifffile's series would tell, but take memory for whatever is announced.
    """
    planes = 0
    if tiff.is_imagej:
        planes = int((tiff.imagej_metadata or {}).get("images", 0))
    elif tiff.is_stk and 33629 in first.tags:
        planes = first.tags[33629].count
    elif tiff.is_ome:
        for text in re.findall(r"<(?:\w+:)?Pixels\b[^>]*>", str(first.description)):
            sizes = dict(re.findall(r'\bSize([CZT])="(\d{1,9})"', text))
            samples = first.samplesperpixel
            planes += int(sizes.get("Z", 1)) * int(sizes.get("T", 1)) * -(-int(sizes.get("C", 1)) // samples)
        if planes > pages:
            names = sorted(set(re.findall(r'FileName="([^"]+)"', str(first.description))))
            others = f" ({', '.join(names[:4])}{', ...' if len(names) > 4 else ''})" if names else ""
            raise Unfit(
                f"one file of an OME-TIFF set: {pages} of its {planes} planes are here, the others in other "
                f"files{others}: put them into one file first, for example with bfconvert"
            )
    if planes > pages:
        raise Unfit(_SINGLE.format(planes))


def _header(
    first: Any,
    directory: Directory,
    keep: dict[str, Any],
    levels: tuple[tuple[int, int], ...],
    block: bytes | None,
    own: dict[Item, None],
) -> Header:
    nodata = settings.nodata_of(first.tags.valueof(tags.GDAL_NODATA), directory.dtype, first.bitspersample)
    pages = keep["pages"]
    alpha = pages[0]["extrasamples"][-1:] in ([settings.ASSOCIATED], [settings.UNASSOCIATED])
    return Header(
        format="TIFF",
        pages=len(pages),
        height=directory.height,
        width=directory.width,
        channels=directory.channels,
        dtype=directory.shown_dtype,
        layout=("N" if len(pages) > 1 else "") + ("HWC" if directory.channels > 1 else "HW"),
        alpha=alpha or (directory.palette is not None and directory.channels == 4),
        nodata=directory.shown_value(nodata),
        exif=block,
        **cast("dict[str, Any]", tags.common_of(first)),
        dpi=settings.dpi_of(first),
        own=tuple(own),
        levels=levels,
        keep=keep,
    )
