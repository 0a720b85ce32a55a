"""The tags of a TIFF page beside those that describe how its pixels are stored: which hold for new pixels.

tifffile itself writes the tags that describe the pixels.
"""

import re
import struct
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np

from histeq._files import exif
from histeq._files.blocks import Header, Item

ICC, XMP, GDAL_NODATA = 34675, 700, 42113
_IPTC, _RESOURCES, GDAL_METADATA = 33723, 34377, 42112
_DESCRIPTION, _IMAGEJ_SIZES, _IMAGEJ = 270, 50838, 50839
_GEO = (33550, 33920, 33922, 34264, 34735, 34736, 34737, 50844)

COMMON = {"icc": ICC, "xmp": XMP, "iptc": _IPTC, "resources": _RESOURCES}
"""The tags of fields of `Header`."""

# Tags that remain valid: texts, page names and numbers, colour, GeoTIFF, RPC, GDAL.
_KEPT = frozenset((*exif.PORTABLE, 286, 287, 297, 318, 319, *_GEO, GDAL_METADATA, GDAL_NODATA))
# How pixels are stored, and what the old ones were: the sink makes them anew, or readers do.
_OF_PIXELS = frozenset(
    (
        *(*range(254, 269), 273, *range(277, 285), *range(288, 294), 296, 317, *range(320, 327), 330),
        *(*range(332, 348), *range(512, 533), 32995, 32996, 32997, 32998, 50674, 50973, 34664, 34852),
    )
)
_NAMED = {37724: "Photoshop's layers", 34412: "the tag of Zeiss (LSM)", 301: "the transfer function"}
_SELF_CONTAINED = frozenset((1, 2, 3, 5, 6, 7, 8, 10, 11, 12))
"""Types of values that are no offsets: integers of 32 bits and more may be some."""

_OF_VALUES = rb'\s*<Item\b[^>]*\brole="(?:scale|offset|unittype)"[^>]*>.*?</Item>'
_STATISTICS = rb'\s*<Item name="STATISTICS_[^>]*>.*?</Item>'
_OME_TYPES = {"float32": "float", "float64": "double"}


def kept(page: Any, first: Any) -> dict[str, Any]:
    """Return the tags of a page that hold for new pixels, as settings of the page.

    "tags": by code, as tifffile takes them; "common": the fields of `Header` that the page shares with the
    first one; "own": what else there is, as items.
    """
    tags: dict[int, tuple[Any, ...]] = {}
    common: list[str] = []
    own: list[Item] = []
    fields = {code: field for field, code in COMMON.items()}
    for tag in page.tags:
        code = tag.code
        if code in fields:
            same = code in first.tags and _equal(first.tags[code].value, tag.value)
            common += [fields[code]] if same else []
            own += [] if same else [Item(f"what differs between pages in tag {code}")]
        elif code in exif.DIRECTORIES:
            own += [] if page is first else [Item("EXIF of the pages after the first")]
        elif code == _IMAGEJ:
            tags |= _imagej(tag, page.parent.byteorder)
        elif code in _NAMED:
            own.append(Item(_NAMED[code]))
        elif code in _KEPT:
            tags[code] = tag.astuple()
        elif code in _OF_PIXELS or code in (_IMAGEJ_SIZES, 282, 283):
            continue
        elif int(tag.dtype) in _SELF_CONTAINED and isinstance(tag.astuple()[3], bytes):
            tags[code] = tag.astuple()
            own.append(Item(f"the tag {code}", ("TIFF",)))
        else:
            own.append(Item(f"the tag {code}"))
    _describe(page, tags, own)
    if any(code in tags for code in _GEO):
        own.append(Item("GeoTIFF's tags", ("TIFF",)))
    if GDAL_METADATA in tags:
        own += _gdal(tags)
    return {"tags": tags, "common": tuple(common), "own": tuple(dict.fromkeys(own))}


def _equal(one: Any, other: Any) -> bool:
    return bool(one is other or np.array_equal(one, other))


def _describe(page: Any, tags: dict[int, tuple[Any, ...]], own: list[Item]) -> None:
    """Remove from the description what does not hold, and name what others than TIFF do not hold."""
    if page.is_shaped:  # the description is tifffile's record of the array's shape
        tags.pop(_DESCRIPTION, None)
    if page.is_imagej and _DESCRIPTION in tags:
        text = re.sub(rb"(?m)^(min|max)=.*\n?", b"", tags[_DESCRIPTION][3])
        tags[_DESCRIPTION] = tag_of(_DESCRIPTION, 2, text)
        own.append(Item("ImageJ's metadata", ("TIFF",)))
    elif page.is_ome:
        own.append(Item("OME metadata", ("TIFF",)))


def _imagej(tag: Any, order: Any) -> dict[int, tuple[Any, ...]]:
    """Return ImageJ's tags (labels, lookup tables, overlays, ...) without the ranges that were displayed."""
    import tifffile

    if not isinstance(tag.value, dict):
        return {}
    left = {name: value for name, value in tag.value.items() if name != "Ranges"}
    return {new[0]: new for new in tifffile.imagej_metadata_tag(left, order)} if left else {}


def _gdal(tags: dict[int, tuple[Any, ...]]) -> list[Item]:
    """Remove what no longer applies from GDAL's metadata: statistics, and what made values physical."""
    text = re.sub(_STATISTICS, b"", tags[GDAL_METADATA][3], flags=re.DOTALL)
    text, physical = re.subn(_OF_VALUES, b"", text, flags=re.DOTALL)
    if b"<Item" in text:
        tags[GDAL_METADATA] = tag_of(GDAL_METADATA, 2, text)
    else:
        del tags[GDAL_METADATA]
    items = [Item("GDAL's metadata", ("TIFF",))] if GDAL_METADATA in tags else []
    return items + ([Item("GDAL's scale, offset and unit")] if physical else [])


def tag_of(code: int, kind: int, data: bytes) -> tuple[Any, ...]:
    """Return a tag of bytes as tifffile takes it."""
    return (code, kind, len(data), data, True)


def common_of(page: Any) -> dict[str, bytes | None]:
    """Return the fields of `Header` that are tags of a page."""
    found: dict[str, bytes | None] = {}
    for field, code in COMMON.items():
        value = page.tags.valueof(code)
        if isinstance(value, tuple) and field == "iptc":  # once written as 32-bit integers
            value = struct.pack(f"{page.parent.byteorder}{len(value)}I", *value)
        found[field] = value if isinstance(value, bytes) and value else None
    return found


def written(settings: Mapping[str, Any], header: Header, *, first: bool) -> list[tuple[Any, ...]]:
    """Return the tags of a page as they are written. The first page has all that the header has."""
    tags = dict(settings["tags"])
    for field, code in COMMON.items():
        value = getattr(header, field)
        if value and (first or field in settings.get("common", ())):
            tags[code] = tag_of(code, 7 if field == "icc" else 1, value)
    if header.nodata is None:
        tags.pop(GDAL_NODATA, None)
    if _DESCRIPTION in tags and b"<OME" in tags[_DESCRIPTION][3]:
        tags[_DESCRIPTION] = tag_of(_DESCRIPTION, 2, _ome(tags[_DESCRIPTION][3], header.dtype))
    return list(tags.values())


def _ome(text: bytes, dtype: np.dtype[Any]) -> bytes:
    """Return OME-XML with the dtype of the new pixels; the file has a UUID of its own, whatever its name."""

    def retyped(found: re.Match[bytes]) -> bytes:
        pixels = found[0]
        name = _OME_TYPES.get(dtype.name, dtype.name).encode()
        if re.search(rb'\bType="' + name + rb'"', pixels) is None:
            pixels = re.sub(rb'\bType="[^"]*"', b'Type="' + name + b'"', pixels)
            pixels = re.sub(rb'\s+SignificantBits="[^"]*"', b"", pixels)
        return pixels

    text = re.sub(rb"<(?:\w+:)?Pixels\b[^>]*>", retyped, text)
    own = re.search(rb'<(?:\w+:)?OME\b[^>]*\bUUID="urn:uuid:([^"]*)"', text)
    if own is None:
        return text
    new = str(uuid.uuid5(uuid.NAMESPACE_OID, own[1].decode("latin1"))).encode()
    return re.sub(rb'\s+FileName="[^"]*"(?=[^>]*>urn:uuid:' + new + rb")", b"", text.replace(own[1], new))
