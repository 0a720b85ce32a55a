"""TIFF files as sources of windows: everything is held against its limits here, before it is decoded."""

import contextlib
import logging
import pickle
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from histeq._files.blocks import Header, Window
from histeq._files.picture import ORIENTATION, TEXT_TAGS, Unfit, check_size, exif_block
from histeq._files.tiff import settings
from histeq._files.tiff.codecs import JPEG
from histeq._files.tiff.directory import Directory, places
from histeq._files.tiff.reader import Reader
from histeq._files.tiff.storage import Storage, for_tifffile

_MOST_LEVELS = 64
_SINGLE = "TIFF stacks with a single directory (ImageJ's above 4 GB) are not handled"


class TiffSource:
    """The full pages of a TIFF file; its reduced copies are known by their sizes and settings alone."""

    header: Header
    in_blocks: bool

    def __init__(self, file: Path | BinaryIO, limit: int) -> None:
        self._owned = isinstance(file, Path)
        self._file: BinaryIO = file.open("rb") if isinstance(file, Path) else file
        try:
            self._storage = Storage(self._file)
            self._directories: list[Directory] = []
            self._parse(limit)
        except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
            # Numbers where tifffile, or this module, needs one, or one where it needs several.
            self.close()
            raise ValueError(f"a tag has a wrong kind of value ({error})") from error
        except BaseException:
            self.close()
            raise
        self._reader = Reader(self._storage)
        first = self._directories[0]
        self.in_blocks = self.header.pages > 1 or first.unit != (first.height, first.width)

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

    def _parse(self, limit: int) -> None:
        """Go through the directories, and make a header of them."""
        import tifffile

        with _logged_errors() as errors, tifffile.TiffFile(for_tifffile(self._file)) as tiff:
            tiff.pages.useframes = False  # tifffile's frames lack some of the tags
            shared: dict[Any, Any] = {}  # pages' settings are mostly the same: equal ones are held once
            pages: list[dict[str, Any]] = []
            copies: list[Any] = []  # of the first page: those of the others are taken for alike
            in_subifds = False
            first: Any = None
            room = self._storage.size
            for page in _chain(tiff.pages):
                if errors:
                    raise ValueError(errors[0])
                if page.is_reduced:
                    if len(pages) == 1 and _is_level(page, first):
                        copies.append(page)
                    continue
                if first is None:
                    first = page
                    copies = [copy for copy in _subifds(page) if _is_level(copy, page)]
                    in_subifds = bool(copies)
                _check(page, first)
                # Every four channels count as one image, since the header announces their number, too.
                pixels = page.imagelength * page.imagewidth * -(-page.samplesperpixel // 4)
                check_size((len(pages) + 1) * pixels, limit)
                room -= 4 * len(page.dataoffsets)
                if room < 0:
                    raise ValueError("its pages share their tables of offsets")
                self._directories.append(Directory.of(page, *places(page, self._storage.size)))
                pages.append(_shared(settings.settings_of(page), shared))
            if errors:
                raise ValueError(errors[0])
            if first is None:
                raise ValueError("it has no pages")
            _check_planes(tiff, first, len(pages))
            copies.sort(key=_size, reverse=True)
            keep = {
                "byteorder": tiff.byteorder,
                "bigtiff": tiff.is_bigtiff,
                "pages": pages,
                "levels": [settings.settings_of(copy) for copy in copies],
                "subifds": in_subifds,
                "invert": self._directories[0].inverted,
            }
            self.header = _header(first, self._directories[0], keep, tuple(map(_size, copies)))


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


def _check(page: Any, first: Any) -> None:
    """Raise an error unless a page is of a supported kind, and like the first."""
    if page.is_mask:
        raise Unfit("TIFF files with an internal mask are not handled; make it a nodata value or alpha")
    kinds = [
        (one.shape, one.dtype, one.bitspersample, one.photometric == settings.PALETTE)
        for one in (page, first)
    ]
    if kinds[0] != kinds[1]:
        raise Unfit("TIFF files whose pages differ in size or type are not handled; split it")
    if page.is_shaped and re.search(r'"truncated":\s*true', page.description):  # tifffile's own stacks
        raise Unfit(_SINGLE)
    kind = int(page.photometric)
    in_jpeg = (kind, int(page.compression)) == (settings.YCBCR, JPEG)
    known = (settings.WHITE_IS_ZERO, settings.BLACK_IS_ZERO, settings.RGB, settings.PALETTE)
    if kind not in known and not in_jpeg:
        name = getattr(page.photometric, "name", kind)
        raise Unfit(f"{name} pictures are not handled; convert it to grey or RGB")
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
            raise Unfit(
                f"OME-TIFF files with planes in other files are not handled: {pages} of {planes} are here"
            )
    if planes > pages:
        raise Unfit(_SINGLE)


def _header(
    first: Any, directory: Directory, keep: dict[str, Any], levels: tuple[tuple[int, int], ...]
) -> Header:
    tags = {tag.code: tag.value for tag in first.tags}
    dtype = (
        np.dtype(np.uint8) if directory.palette is not None or first.dtype == np.bool_ else directory.dtype
    )
    several = directory.samples > 1 or directory.palette is not None
    nodata = settings.nodata_of(tags.get(settings.GDAL_NODATA), dtype)
    if nodata is not None and directory.inverted:
        nodata = int(np.invert(dtype.type(nodata)))
    pages = keep["pages"]
    shared = {code: tags[code] for code in (ORIENTATION, *TEXT_TAGS) if code in pages[0]["tags"]}
    return Header(
        format="TIFF",
        pages=len(pages),
        height=directory.height,
        width=directory.width,
        channels=3 if directory.palette is not None else directory.samples,
        dtype=dtype,
        layout=("N" if len(pages) > 1 else "") + ("HWC" if several else "HW"),
        alpha=pages[0]["extrasamples"][-1:] in ([1], [2]),  # associated or unassociated; 0: unspecified
        nodata=nodata,
        icc=tags.get(settings.ICC),
        exif=exif_block(shared),
        xmp=tags.get(settings.XMP) if isinstance(tags.get(settings.XMP), bytes) else None,
        dpi=settings.dpi_of(first),
        levels=levels,
        keep=keep,
    )
