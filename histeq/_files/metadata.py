"""Metadata: what files have beside their pixels, what each format holds of it, and hence what gets lost.

A source enters what it finds into its `Header`: items that several formats know, each a field of its own,
and under `own` the names of what only some format holds, or none. `carried` compares this with what the
format of the target holds. A sink writes what is left in the header, and the user is told the rest by name.

What described the old pixels alone is left out without a word, since readers make it anew from the new ones:
statistics, the smallest and the largest value, display ranges. Thumbnails are made anew or named.
"""

import dataclasses
import re
from typing import Any

from histeq._files import exif, photoshop
from histeq._files.blocks import Header, Item

HOLDS = {
    "PNG": frozenset(("icc", "exif", "xmp", "dpi")),
    "JPEG": frozenset(("icc", "exif", "xmp", "dpi", "iptc", "resources")),
    "WebP": frozenset(("icc", "exif", "xmp")),
    "BMP": frozenset(("dpi",)),
    "TIFF": frozenset(("icc", "exif", "xmp", "dpi", "iptc", "resources", "nodata", "levels")),
    "Zarr": frozenset(("nodata", "levels")),
    "NPY": frozenset(()),
    "AVIF": frozenset(("icc", "exif", "xmp")),
    "DICOM": frozenset(("nodata",)),
}
"""The fields of `Header` that a format holds; one without an entry holds none."""

_NAMES = {
    "icc": "the ICC profile",
    "exif": "EXIF",
    "xmp": "XMP",
    "iptc": "IPTC",
    "resources": "Photoshop's resources",
    "dpi": "the resolution",
    "nodata": "the nodata value",
    "levels": "the reduced copies",
}
_NOTHING = {"levels": ()}
_LONGEST = {"exif": exif.MOST, "xmp": 65000, "iptc": 32000, "resources": 32000}
"""Bytes in JPEG, whose segments have at most 65533: the last two share one."""

# What is stale in XMP once the pixels have changed, or speaks of what is not carried.
_STALE_XMP = (
    ("the thumbnail in XMP", rb"<(xmp|xap):Thumbnails\b.*?</\1:Thumbnails>"),
    (
        "what is appended (a gain map, a film)",
        rb"<Container:Directory\b.*?</Container:Directory>",
    ),
    ("the HDR gain map", rb"""\s+hdrgm:\w+=("[^"]*"|'[^']*')|<hdrgm:(\w+)\b[^>]*>.*?</hdrgm:\2>"""),
    ("extended XMP", rb"""\s+xmpNote:HasExtendedXMP=("[^"]*"|'[^']*')"""),
)


def found(header: Header) -> Header:
    """Return the header of a source without what does not hold for new pixels; that is named instead."""
    own = list(header.own)
    xmp, resources, iptc, dpi = header.xmp, header.resources, header.iptc, header.dpi
    block = header.exif.removeprefix(b"Exif\0\0") if header.exif else None  # as some PNG files have it
    block, other_thumbnail = exif.without_other_thumbnail(block)
    own += [Item("the thumbnail in EXIF")] if other_thumbnail else []
    for name, pattern in _STALE_XMP if xmp else ():
        xmp, times = re.subn(pattern, b"", xmp or b"", flags=re.DOTALL)
        own += [Item(name)] if times else []
    if resources:
        resources, within, thumbnail = photoshop.without_old(resources)
        iptc = iptc or within
        own += [Item("Photoshop's thumbnail")] if thumbnail else []
    if dpi is None:
        dpi = exif.dpi(block)
    return dataclasses.replace(
        header, exif=block, xmp=xmp, resources=resources, iptc=iptc, dpi=dpi, own=tuple(dict.fromkeys(own))
    )


def carried(header: Header, kind: str, overviews: bool | None = None) -> tuple[Header, list[str]]:
    """Return the header of a source without what a format does not hold, and the names of that.

    Parameters
    ----------
    overviews : bool, optional
        Whether reduced copies are wanted: those that are not are no loss.
    """
    lost: list[str] = []
    without: dict[str, Any] = {}
    holds = HOLDS.get(kind, frozenset())
    if kind == "WebP" and header.dpi and "dpi" not in holds:
        header, holds = _resolution_in_exif(header, holds)
    for field, name in _NAMES.items():
        value = getattr(header, field)
        if (
            value is None
            or (isinstance(value, tuple) and not value)
            or (field == "levels" and overviews is False)
        ):
            continue
        if field not in holds:
            if field != "exif" or not exif.is_of_the_program(header.exif):
                lost.append(_described(field, name, header))
        elif field == "icc" and not _suits(value, header, kind):
            lost.append(f"{name}, which is for other colours")
        elif kind == "JPEG" and len(value) > _LONGEST.get(field, len(value)):
            lost.append(f"{name}, which is too long for JPEG")
        else:
            continue
        without[field] = _NOTHING.get(field)
    if kind == "TIFF":
        lost += [name for name, there in exif.not_in_tiff(header.exif).items() if there]
    lost += [item.name for item in header.own if kind not in item.formats]
    return dataclasses.replace(header, **without), lost


def _described(field: str, name: str, header: Header) -> str:
    if field == "nodata":
        return f"{name} {header.nodata:.17g}"
    orientation = exif.orientation(header.exif) if field == "exif" else 1
    return f"{name} (its orientation is {orientation}: pixels are not turned)" if orientation != 1 else name


def _resolution_in_exif(header: Header, holds: frozenset[str]) -> tuple[Header, frozenset[str]]:
    """Return the header with the resolution in EXIF, for a format that has no other place for it.

    EXIF that is there already is not changed.
    """
    if header.exif is None and header.dpi is not None:
        header = dataclasses.replace(header, exif=exif.of_dpi(header.dpi))
    return header, holds | {"dpi"} if exif.dpi(header.exif) else holds


def _suits(icc: bytes, header: Header, kind: str) -> bool:
    """Tell whether a profile is for the colours that are written; what is no profile is left alone."""
    colours = header.channels - header.alpha
    if icc[36:40] != b"acsp" or colours not in (1, 3):
        return True
    wanted = b"RGB " if colours == 3 or kind == "WebP" else b"GRAY"  # WebP has no grey pixels
    return icc[16:20] == wanted
