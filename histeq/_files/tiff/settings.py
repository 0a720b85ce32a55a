"""The settings of a TIFF page: those read from a file, and those that tifffile writes."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from histeq._files import exif
from histeq._files.blocks import Header, Options
from histeq._files.picture import Unfit
from histeq._files.tiff import tags
from histeq._files.tiff.codecs import DEFLATE, JPEG, LZMA, LZW, NAMES, OLD_DEFLATE, PACKBITS, RAW, ZSTD

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, MASK, YCBCR = 0, 1, 2, 3, 4, 6  # photometric interpretations
ASSOCIATED, UNASSOCIATED = 1, 2  # kinds of alpha among the extra samples; 0: unspecified
_LOSSLESS = frozenset((RAW, LZW, DEFLATE, PACKBITS, OLD_DEFLATE, LZMA, ZSTD))
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_SUBSAMPLING = 530

LARGE = 2**24
"""The bytes from which images are tiled, if their own settings do not say how they are stored."""
TILE = (512, 512)
_STRIP = 2**20
QUALITY = 95
"""Of JPEG compression, 1 to 100."""


def settings_of(page: Any, first: Any) -> dict[str, Any]:
    """Return the settings with which a page is written in its original form; `first` is the first page."""
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
        "subsampling": _subsampling(page),
        **tags.kept(page, first),
    }


def _subsampling(page: Any) -> tuple[int, int] | None:
    """Return how many columns and rows share a colour in JPEG compression: one each if colours are RGB."""
    if page.compression != JPEG or page.samplesperpixel < 3:
        return None
    found = page.tags.valueof(_SUBSAMPLING, (2, 2)) if page.photometric == YCBCR else (1, 1)
    return found if found in ((1, 1), (2, 1), (2, 2)) else (2, 2)


def nodata_of(text: Any, dtype: np.dtype[Any], bits: int = 0) -> float | None:
    """Return the value of GDAL's nodata tag; None, as in GDAL, if the pixels cannot have it."""
    text = text.decode("latin1") if isinstance(text, bytes) else str(text)
    try:
        value = float(text.strip("\0 ").replace(",", "."))
    except ValueError:
        return None
    if dtype.kind == "f":
        return value
    if dtype.kind not in "bui" or not value.is_integer():
        return None
    lowest = np.iinfo(dtype).min if dtype.kind == "i" else 0
    highest = np.iinfo(dtype).max if dtype.kind == "i" else 2 ** (bits or 8 * dtype.itemsize) - 1
    return int(value) if lowest <= value <= highest else None


def _with_nodata(written: list[Any], header: Header, inverted: bool) -> list[Any]:
    """Return tags of which GDAL's nodata tag names the header's value, or is not there."""
    nodata, dtype = header.nodata, header.dtype
    if nodata is not None and inverted:
        nodata = int(np.invert(dtype.type(nodata)))
    others = [tag for tag in written if tag[0] != tags.GDAL_NODATA]
    own = [tag for tag in written if tag[0] == tags.GDAL_NODATA]
    before = nodata_of(own[0][3], dtype) if own else None
    if before == nodata or (before != before and nodata != nodata):  # NaN
        return written
    if nodata is None:
        return others
    return [*others, tags.tag_of(tags.GDAL_NODATA, 2, f"{nodata:.17g}".encode() + b"\0")]


def is_color(page: Any) -> bool | None:
    """Tell whether three bands are red, green and blue; None: nothing is said of it."""
    text = str(page.tags.valueof(tags.GDAL_METADATA))
    found = re.findall(r'sample="(\d)" role="colorinterp">(\w+)<', text)
    roles = [role.lower() for _, role in sorted(found)][:3]
    if roles:  # of samples for which TIFF has no word
        return roles == ["red", "green", "blue"] or False
    grey = int(page.photometric) in (WHITE_IS_ZERO, BLACK_IS_ZERO)
    return False if grey and page.samplesperpixel > 2 else None


def dpi_of(page: Any) -> tuple[float, float] | None:
    """Return the dots per inch."""
    unit = {2: 1.0, 3: 2.54}.get(int(page.tags.valueof(_RESOLUTION_UNIT, 2)))
    if unit is None or _X_RESOLUTION not in page.tags or _Y_RESOLUTION not in page.tags:
        return None
    (x, xd), (y, yd) = page.tags[_X_RESOLUTION].value, page.tags[_Y_RESOLUTION].value
    return (x / xd * unit, y / yd * unit) if x and xd and y and yd else None


def new_settings(header: Header) -> dict[str, Any]:
    """Return the settings of the pages of an image that comes from another format."""
    own = list(exif.tiff_tags(exif.for_tiff(header.exif)))
    if header.nodata is not None:
        own.append(tags.tag_of(tags.GDAL_NODATA, 2, f"{header.nodata:.17g}".encode() + b"\0"))
    return {
        "photometric": RGB if header.channels >= 3 else BLACK_IS_ZERO,
        "compression": DEFLATE,
        "predictor": True,
        "extrasamples": [UNASSOCIATED] if header.alpha else [],
        "tile": TILE if header.height * header.width * header.bytes_per_pixel > LARGE else None,
        "resolution": header.dpi,
        "resolutionunit": 2,
        "tags": {tag[0]: tag for tag in own},
    }


def placeholder(code: int) -> int:
    """Return the tag that tifffile writes instead of one that it refuses, at the same place in the order."""
    return code - 1


def reduced(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a new reduced copy of a page: the same, but for the tags."""
    nodata = {code: tag for code, tag in settings["tags"].items() if code == tags.GDAL_NODATA}
    return {**settings, "subfiletype": 1, "tags": nodata, "common": (), "resolution": None}


def of_mask(settings: Mapping[str, Any] | None, page: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of `TiffWriter.write` for the mask of a page: a bit a pixel."""
    own = settings or page
    compression = own["compression"] if own["compression"] in _LOSSLESS - {RAW} else DEFLATE
    arguments = {"photometric": MASK, "subfiletype": 4, "compression": compression}
    return arguments | {name: own[name] for name in ("tile", "rowsperstrip") if own.get(name)}


def writing(
    settings: Mapping[str, Any], header: Header, options: Options, *, first: bool = False
) -> dict[str, Any]:
    """Return the keyword arguments of `TiffWriter.write` for a page or a reduced copy."""
    several = header.channels > 1
    planar = several and settings.get("planar", False)
    compression, predictor = _compression(settings, header, options, planar)
    photometric = _photometric(settings, header)
    inverted = photometric == WHITE_IS_ZERO and header.dtype.kind in "ui"
    arguments: dict[str, Any] = {
        "compression": compression,
        "extratags": _with_nodata(tags.written(settings, header, first=first), header, inverted),
        "photometric": photometric,
    }
    if compression == JPEG:
        arguments["subsampling"] = (
            settings.get("subsampling") if header.channels == 3 and not planar else None
        )
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
    return photometric if photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO, MASK) else RGB


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
