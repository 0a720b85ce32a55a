"""The settings and tags of a TIFF page: those read from a file, and those that tifffile writes."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from histeq._files.blocks import Header, Options
from histeq._files.picture import ORIENTATION, TEXT_TAGS, Unfit, exif_tags
from histeq._files.tiff.codecs import DEFLATE, JPEG, LZMA, LZW, NAMES, OLD_DEFLATE, PACKBITS, RAW, ZSTD

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6  # photometric interpretations
ICC, GDAL_NODATA, XMP = 34675, 42113, 700
_LOSSLESS = frozenset((RAW, LZW, DEFLATE, PACKBITS, OLD_DEFLATE, LZMA, ZSTD))
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_GDAL_METADATA = 42112

# Tags that remain valid when the pixels change: texts, page names, colour, XMP, IPTC, Photoshop, GeoTIFF,
# GDAL, RPC. tifffile itself writes the tags that describe the pixels.
_KEPT = frozenset(
    (
        *(*TEXT_TAGS, 269, ORIENTATION, 285, 286, 287, 297, 316, 318, 319, XMP, 33723, 34377, ICC),
        *(33550, 33920, 33922, 34264, 34735, 34736, 34737, _GDAL_METADATA, GDAL_NODATA, 50844),
    )
)

LARGE = 2**24
"""The bytes from which images are tiled, if their own settings do not say how they are stored."""
TILE = (512, 512)
_STRIP = 2**20
QUALITY = 95
"""Of JPEG compression, 1 to 100."""


def settings_of(page: Any) -> dict[str, Any]:
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


def nodata_of(text: Any, dtype: np.dtype[Any]) -> float | None:
    """Return the value of GDAL's nodata tag; None, as in GDAL, if the dtype cannot represent it."""
    try:
        value = float(str(text).strip("\0 ").replace(",", "."))
    except ValueError:
        return None
    if dtype.kind == "f":
        return value
    limits = np.iinfo(dtype) if dtype.kind in "ui" else None
    return int(value) if limits and value.is_integer() and limits.min <= value <= limits.max else None


def dpi_of(page: Any) -> tuple[float, float] | None:
    """Return the dots per inch."""
    unit = {2: 1.0, 3: 2.54}.get(int(page.tags.valueof(_RESOLUTION_UNIT, 2)))
    if unit is None or _X_RESOLUTION not in page.tags or _Y_RESOLUTION not in page.tags:
        return None
    (x, xd), (y, yd) = page.tags[_X_RESOLUTION].value, page.tags[_Y_RESOLUTION].value
    return (x / xd * unit, y / yd * unit) if x and xd and y and yd else None


def new_settings(header: Header) -> dict[str, Any]:
    """Return the settings of the pages of an image that comes from another format."""
    exif = exif_tags(header.exif)
    texts = [(code, exif[code]) for code in TEXT_TAGS if isinstance(exif.get(code), str)]
    tags = [_tag(code, 2, text.encode() + b"\0") for code, text in texts]
    if exif.get(ORIENTATION) in range(1, 9):
        tags.append((ORIENTATION, 3, 1, exif[ORIENTATION], True))
    if header.icc:
        tags.append(_tag(ICC, 7, header.icc))
    if header.xmp:
        tags.append(_tag(XMP, 1, header.xmp))
    return {
        "photometric": RGB if header.channels >= 3 else BLACK_IS_ZERO,
        "compression": DEFLATE,
        "predictor": True,
        "extrasamples": [2] if header.alpha else [],  # 2: unassociated alpha
        "tile": TILE if header.height * header.width * header.bytes_per_pixel > LARGE else None,
        "resolution": header.dpi,
        "resolutionunit": 2,
        "tags": {tag[0]: tag for tag in tags},
    }


def reduced(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a new reduced copy of a page: the same, but for the tags."""
    nodata = {code: tag for code, tag in settings["tags"].items() if code == GDAL_NODATA}
    return {**settings, "subfiletype": 1, "tags": nodata, "resolution": None}


def writing(settings: Mapping[str, Any], header: Header, options: Options) -> dict[str, Any]:
    """Return the keyword arguments of `TiffWriter.write` for a page or a reduced copy."""
    several = header.channels > 1
    planar = several and settings.get("planar", False)
    compression, predictor = _compression(settings, header, options, planar)
    arguments: dict[str, Any] = {
        "compression": compression,
        "extratags": list(settings["tags"].values()),
        "photometric": _photometric(settings, header),
    }
    if compression == JPEG:
        arguments["compressionargs"] = {"level": options.quality or QUALITY}
    elif predictor:
        arguments["predictor"] = True
    if several:
        arguments["planarconfig"] = 2 if planar else 1
        arguments["extrasamples"] = settings["extrasamples"] or None
    for name in ("tile", "rowsperstrip", "resolution", "subfiletype"):
        if settings.get(name):
            arguments[name] = settings[name]
    # A compressed strip is held as a whole, and by one thread: large ones, and those that are raw in the
    # source, where their size says nothing, are divided.
    strip = (settings.get("rowsperstrip") or 0) * header.width * header.bytes_per_pixel
    if compression != RAW and strip > (_STRIP if settings["compression"] == RAW else LARGE):
        del arguments["rowsperstrip"]
    if "resolution" in arguments:
        arguments["resolutionunit"] = settings["resolutionunit"]
    return arguments


def _photometric(settings: Mapping[str, Any], header: Header) -> int:
    photometric = settings["photometric"]
    if photometric == WHITE_IS_ZERO and header.keep.get("invert") and header.dtype.kind not in "ui":
        return BLACK_IS_ZERO  # only integers are inverted
    return photometric if photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO) else RGB


def _compression(
    settings: Mapping[str, Any], header: Header, options: Options, planar: bool
) -> tuple[int, bool]:
    """Return the compression, and whether there is a predictor."""
    jpeg = header.dtype == np.uint8 and (planar or header.channels in (1, 3))
    predictable = header.dtype.kind == "f" or (header.dtype.kind in "ui" and header.dtype.itemsize <= 4)
    compression, predictor = settings["compression"], settings["predictor"]
    if options.compression is not None:
        if options.compression not in NAMES:
            raise Unfit(f"TIFF has no compression {options.compression!r}; there are {', '.join(NAMES)}")
        compression, predictor = NAMES[options.compression], True
        if compression == JPEG and not jpeg:
            raise Unfit("JPEG compression in TIFF is for uint8 pixels, grey or RGB")
    elif compression not in _LOSSLESS and not (compression == JPEG and jpeg):
        compression, predictor = DEFLATE, True
    return compression, predictor and predictable and compression not in (RAW, JPEG, PACKBITS)
