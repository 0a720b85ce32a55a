"""TIFF, through tifffile. Every page keeps its tags, its compression and its tiles."""

import contextlib
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histeq._files.picture import (
    ORIENTATION,
    TEXT_TAGS,
    Picture,
    Unfit,
    check_size,
    exif_block,
    exif_tags,
)

_GREY_WHITE, _GREY_BLACK, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6  # photometric interpretations
_RAW, _JPEG, _DEFLATE, _PACKBITS = 1, 7, 8, 32773
_LOSSLESS = frozenset((_RAW, 5, _DEFLATE, _PACKBITS, 32946, 34925, 50000))  # 5 LZW, 34925 LZMA, 50000 ZSTD
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_GDAL_METADATA, _GDAL_NODATA, _ICC, _XMP = 42112, 42113, 34675, 700

# Tags that remain valid when the pixels change: texts, page names, colour, XMP, IPTC, Photoshop, GeoTIFF,
# GDAL, RPC. tifffile itself writes the tags that describe the pixels.
_KEPT = frozenset(
    (
        *(*TEXT_TAGS, 269, ORIENTATION, 285, 286, 287, 297, 316, 318, 319, _XMP, 33723, 34377, _ICC),
        *(33550, 33920, 33922, 34264, 34735, 34736, 34737, _GDAL_METADATA, _GDAL_NODATA, 50844),
    )
)


def read(path: Path, limit: int) -> Picture:
    """Decode a TIFF file."""
    import tifffile

    with _logged_errors() as errors, tifffile.TiffFile(path) as file:
        file.pages.useframes = False  # tifffile's frames lack some of the tags
        every: Iterator[Any] = iter(file.pages)
        pages = [page for page in every if not page.is_reduced]  # overviews would be out of date
        if errors:
            raise ValueError(errors[0])
        _check(pages, file, limit)
        stored = [_pixels(page) for page in pages]
        pixels = stored[0] if len(stored) == 1 else np.stack(stored)
        first = pages[0]
        keep: dict[str, Any] = {
            "byteorder": file.byteorder,
            "bigtiff": file.is_bigtiff,
            "pages": [_settings(page) for page in pages],
            "invert": first.photometric == _GREY_WHITE and pixels.dtype.kind in "ui",
        }
        tags = {tag.code: tag.value for tag in first.tags}
    nodata = _nodata(tags.get(_GDAL_NODATA), pixels.dtype)
    inverted = keep["invert"] and nodata is not None
    kept = keep["pages"][0]
    shared = {code: tags[code] for code in (ORIENTATION, *TEXT_TAGS) if code in kept["tags"]}
    return Picture(
        pixels,
        ("N" if len(pages) > 1 else "") + ("HWC" if stored[0].ndim == 3 else "HW"),
        "TIFF",
        alpha=kept["extrasamples"][-1:] in ([1], [2]),  # associated or unassociated; 0: unspecified
        nodata=int(np.invert(pixels.dtype.type(nodata))) if inverted else nodata,
        icc=tags.get(_ICC),
        exif=exif_block(shared),
        xmp=tags.get(_XMP) if isinstance(tags.get(_XMP), bytes) else None,
        dpi=_dpi(first),
        keep=keep,
    )


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


def _check(pages: list[Any], file: Any, limit: int) -> None:
    """Raise an error, before decoding, unless a file is a valid stack of supported pages of one shape."""
    if not pages:
        raise ValueError("it has no pages")
    first = pages[0]
    for page in pages:
        if page.is_mask:
            raise Unfit("TIFF files with an internal mask are not handled; make it a nodata value or alpha")
        if (page.shape, page.dtype) != (first.shape, first.dtype):
            raise Unfit("TIFF files whose pages differ in size or type are not handled; split it")
    kind = int(first.photometric)
    in_jpeg = (kind, int(first.compression)) == (_YCBCR, _JPEG)
    if kind not in (_GREY_WHITE, _GREY_BLACK, _RGB, _PALETTE) and not in_jpeg:
        name = getattr(first.photometric, "name", kind)
        raise Unfit(f"{name} pictures are not handled; convert it to grey or RGB")
    few = first.samplesperpixel < 3 and kind in (_RGB, _YCBCR)
    if first.dtype is None or few or first.axes not in ("YX", "YXS", "SYX"):
        raise Unfit("TIFF files with this kind of pixels are not handled")
    # Every four channels count as one picture, since the header announces the number of channels, too.
    size = sum(page.imagelength * page.imagewidth * -(-page.samplesperpixel // 4) for page in pages)
    check_size(size, limit)
    if file.series and sum(series.size for series in file.series) > sum(page.size for page in file.pages):
        raise Unfit("TIFF stacks with a single directory (ImageJ's above 4 GB) are not handled")
    for page in pages:
        for start, size in zip(page.dataoffsets, page.databytecounts, strict=False):
            if start + size > file.filehandle.size:
                raise EOFError("the file is truncated")


def _pixels(page: Any) -> NDArray[Any]:
    """Decode a page as (H, W) or (H, W, C), also where the file stores the channels as separate planes."""
    pixels: NDArray[Any] = page.asarray()
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if page.photometric == _PALETTE:
        colours = page.colormap
        if colours.max() > 255:  # 16 bits by the standard; some writers leave the upper 8 empty
            colours = colours >> 8
        return np.moveaxis(colours.astype(np.uint8)[:, pixels], 0, -1)
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    elif page.bitspersample in (2, 4) and page.axes == "YX":
        pixels = pixels * np.uint8(255 // (2**page.bitspersample - 1))
    if page.photometric == _GREY_WHITE and pixels.dtype.kind in "ui":
        pixels = np.invert(pixels)
    return np.moveaxis(pixels, 0, -1) if page.axes == "SYX" else pixels


def _settings(page: Any) -> dict[str, Any]:
    """Return the settings with which a page is written in its original form."""
    tags = {tag.code: tag.astuple() for tag in page.tags if tag.code in _KEPT}
    if page.is_shaped:  # the description is tifffile's record of the array's shape
        tags.pop(270, None)
    if _GDAL_METADATA in tags:
        tags[_GDAL_METADATA] = _without_statistics(tags[_GDAL_METADATA])
    resolution = [page.tags[code].value for code in (_X_RESOLUTION, _Y_RESOLUTION) if code in page.tags]
    unit = int(page.tags.valueof(_RESOLUTION_UNIT, 2))
    return {
        "photometric": int(page.photometric),
        "compression": int(page.compression),
        "predictor": page.predictor != 1,
        "planar": page.axes == "SYX",
        "extrasamples": [int(kind) if kind in (1, 2) else 0 for kind in page.extrasamples],
        "tile": page.tile if page.is_tiled and all(side % 16 == 0 for side in page.tile) else None,
        "rowsperstrip": None if page.is_tiled else min(page.rowsperstrip, page.imagelength),
        "resolution": resolution if len(resolution) == 2 else None,
        "resolutionunit": unit if unit in (1, 2, 3) else 1,
        "subfiletype": int(page.subfiletype),
        "tags": tags,
    }


def _without_statistics(tag: tuple[Any, ...]) -> tuple[Any, ...]:
    """Remove the statistics (minimum, maximum, mean, ...) from GDAL's tag, which no longer apply."""
    text = tag[3] if isinstance(tag[3], bytes) else str(tag[3]).encode()
    text = re.sub(rb'\s*<Item name="STATISTICS_[^>]*>.*?</Item>', b"", text, flags=re.DOTALL)
    return _tag(_GDAL_METADATA, 2, text)


def _tag(code: int, kind: int, data: bytes) -> tuple[Any, ...]:
    return (code, kind, len(data), data, True)


def _nodata(text: Any, dtype: np.dtype[Any]) -> float | None:
    """Return the value of GDAL's nodata tag; None, as in GDAL, if the dtype cannot represent it."""
    try:
        value = float(str(text).strip("\0 ").replace(",", "."))
    except ValueError:
        return None
    if dtype.kind == "f":
        return value
    limits = np.iinfo(dtype) if dtype.kind in "ui" else None
    return int(value) if limits and value.is_integer() and limits.min <= value <= limits.max else None


def _dpi(page: Any) -> tuple[float, float] | None:
    unit = {2: 1.0, 3: 2.54}.get(int(page.tags.valueof(_RESOLUTION_UNIT, 2)))
    if unit is None or _X_RESOLUTION not in page.tags or _Y_RESOLUTION not in page.tags:
        return None
    (x, xd), (y, yd) = page.tags[_X_RESOLUTION].value, page.tags[_Y_RESOLUTION].value
    return (x / xd * unit, y / yd * unit) if x and xd and y and yd else None


def write(picture: Picture, path: Path, quality: int | None) -> None:
    """Encode a TIFF file; the pages of a picture from a TIFF file keep their settings."""
    import tifffile

    keep = picture.keep if picture.format == "TIFF" else {}
    pixels = picture.pixels if "N" in picture.layout else picture.pixels[None]
    # Classic TIFF is limited to 4 GiB; the margin is for tags and for data that compression enlarges.
    big = keep.get("bigtiff", False) or pixels.nbytes * 1.01 > 2**32 - 2**25
    with tifffile.TiffWriter(path, bigtiff=big, byteorder=keep.get("byteorder")) as file:
        for index, plane in enumerate(pixels):
            settings = keep["pages"][index] if keep else _new_settings(picture)
            page = np.invert(plane) if keep.get("invert") else plane
            page = np.moveaxis(page, -1, 0) if settings.get("planar") else page
            options = _options(settings, plane)
            file.write(np.ascontiguousarray(page), metadata=None, software=False, **options)


def _new_settings(picture: Picture) -> dict[str, Any]:
    """Return the settings of the page for a picture that comes from another format."""
    exif = exif_tags(picture.exif)
    texts = [(code, exif[code]) for code in TEXT_TAGS if isinstance(exif.get(code), str)]
    tags = [_tag(code, 2, text.encode() + b"\0") for code, text in texts]
    if ORIENTATION in exif:
        tags.append((ORIENTATION, 3, 1, picture.orientation, True))
    if picture.icc:
        tags.append(_tag(_ICC, 7, picture.icc))
    if picture.xmp:
        tags.append(_tag(_XMP, 1, picture.xmp))
    return {
        "photometric": _RGB if picture.channels >= 3 else _GREY_BLACK,
        "compression": _DEFLATE,
        "predictor": True,
        "extrasamples": [2] if picture.alpha else [],  # 2: unassociated alpha
        "resolution": picture.dpi,
        "resolutionunit": 2,
        "tags": {tag[0]: tag for tag in tags},
    }


def _options(settings: dict[str, Any], page: NDArray[Any]) -> dict[str, Any]:
    """Return the keyword arguments of `TiffWriter.write` for a page."""
    compression, photometric = settings["compression"], settings["photometric"]
    options: dict[str, Any] = {"extratags": list(settings["tags"].values())}
    if compression == _JPEG and page.dtype == np.uint8:
        options["compressionargs"] = {"level": 95}
    elif compression not in _LOSSLESS:
        compression, settings = _DEFLATE, settings | {"predictor": True}
    if compression not in (_RAW, _JPEG, _PACKBITS):
        options["predictor"] = settings["predictor"]
    if page.ndim == 3:
        options["planarconfig"] = 2 if settings.get("planar") else 1
        options["extrasamples"] = settings["extrasamples"] or None
    for name in ("tile", "rowsperstrip", "resolution", "subfiletype"):
        if settings.get(name):
            options[name] = settings[name]
    if "resolution" in options:
        options["resolutionunit"] = settings["resolutionunit"]
    options["photometric"] = photometric if photometric in (_GREY_WHITE, _GREY_BLACK) else _RGB
    options["compression"] = compression
    return options
