"""EXIF: a small TIFF file within JPEG, PNG and WebP, and directories of their own within TIFF.

As a block it is copied byte for byte, since cameras keep offsets in it that nobody can adjust; only its
thumbnail is made anew, in its place. Into and out of TIFF its directories are moved by Pillow, tag by tag;
what cameras keep of their own (the maker's notes) would break and is left.
"""

import contextlib
import dataclasses
import struct
import warnings
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np

ORIENTATION = 274
TEXTS = (269, 270, 271, 272, 285, 305, 306, 315, 316, 33432)
"""Names, description, maker, software, date, artist, ..., copyright: tags of EXIF and of TIFF alike."""
PORTABLE = frozenset((*TEXTS, ORIENTATION, 18246, 18249, 40091, 40092, 40093, 40094, 40095))
"""Tags of the first directory that mean the same in EXIF and TIFF: also the ratings and texts of Windows."""
DIRECTORIES = (34665, 34853)
"""Tags that are offsets of directories: EXIF's own, GPS."""

MOST = 65000
"""Bytes of a block in JPEG, whose segments have at most 65533."""

_INTEROPERABILITY, _MAKER_NOTE = 40965, 37500
_SOFTWARE = 305
_X_RESOLUTION, _Y_RESOLUTION, _UNIT = 282, 283, 296
_THUMBNAIL = 513
"""Where it is; the next tag says how many bytes it has."""
_PLACES = frozenset((273, 279, 324, 325))
_ASCII, _LONG, _RATIONAL, _LONG8 = 2, 4, 5, 16


def _order(head: bytes) -> str:
    return "<" if head[:1] == b"I" else ">"


def _is_big(head: bytes) -> bool:
    """Tell whether this is the head of a BigTIFF file."""
    return b"+" in head[2:4]


def _empty(head: bytes) -> Any:
    """Return Pillow's directory for the file with this head."""
    from PIL import TiffImagePlugin

    if not _is_big(head) or _order(head) == "<":
        return TiffImagePlugin.ImageFileDirectory_v2(head)
    ifd = TiffImagePlugin.ImageFileDirectory_v2(b"II+\0" + head[4:])
    ifd._endian = ">"  # of BigTIFF, Pillow knows the little-endian kind only
    return ifd


@dataclasses.dataclass(slots=True)
class Directory:
    """The tags of a directory, and the directories that some of them lead to."""

    tags: dict[int, tuple[int, Any]] = dataclasses.field(default_factory=dict)
    """Their types and values, as Pillow has them; texts as bytes."""
    children: dict[int, "Directory"] = dataclasses.field(default_factory=dict)
    next: int = 0
    """The offset of the next directory; 0: there is none."""
    broken: bool = False
    """Whether some of its tags cannot be read."""

    @property
    def left(self) -> dict[str, bool]:
        """What does not move between an EXIF block and TIFF, by name, and whether it is there."""
        own = self.children.get(DIRECTORIES[0], Directory())
        return {
            "what is broken in EXIF": self.broken or any(child.broken for child in self.children.values()),
            "the thumbnail in EXIF": self.next > 0,
            "the maker's notes in EXIF": _MAKER_NOTE in own.tags,
        }

    @property
    def portable(self) -> "Directory":
        """What does."""
        tags = {tag: value for tag, value in self.tags.items() if tag in PORTABLE}
        children = {}
        for tag, child in self.children.items():
            own = {code: value for code, value in child.tags.items() if code != _MAKER_NOTE}
            children[tag] = Directory(own, child.children)
        return Directory(tags, children)

    @classmethod
    def read(
        cls, file: BinaryIO, head: bytes, offset: int, pointers: Sequence[int] = DIRECTORIES
    ) -> "Directory":
        """Read from a TIFF file or an EXIF block, whose first bytes are `head`, with EXIF's directories."""
        ifd = _empty(head)
        file.seek(offset)
        number = struct.Struct(_order(head) + ("Q" if _is_big(head) else "H"))
        (count,) = number.unpack(file.read(number.size))
        file.seek(offset)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow says of broken tags
            ifd.load(file)
            # Of a page that has pixels, the places of its blocks may be many.
            values = {tag: (ifd.tagtype[tag], ifd[tag]) for tag in ifd if tag not in _PLACES}
        values = {
            tag: (kind, value.encode("latin1") if isinstance(value, str) else value)
            for tag, (kind, value) in values.items()
        }
        broken = len(ifd) < count
        children = {}
        for tag in pointers:
            if tag in values:
                _, place = values.pop(tag)
                try:
                    children[tag] = cls.read(
                        file, head, place, (_INTEROPERABILITY,) if tag == DIRECTORIES[0] else ()
                    )
                except (struct.error, TypeError, ValueError, OSError):
                    broken = True
        return cls(values, children, 0 if broken else int(ifd.next), broken)

    def encoded(self, head: bytes, offset: int) -> bytes:
        """Return the directory and those it leads to as bytes that begin at an offset."""
        ifd = _empty(head)
        for tag, (kind, value) in self.tags.items():
            ifd.tagtype[tag] = kind
            ifd[tag] = value
        for tag in self.children:
            ifd.tagtype[tag] = _LONG8 if _is_big(head) else _LONG
            ifd[tag] = 0
        after = b""
        start = offset + len(ifd.tobytes(offset))
        for tag, child in self.children.items():
            ifd[tag] = start + len(after)
            after += child.encoded(head, start + len(after))
        return ifd.tobytes(offset) + after


def parsed(block: bytes | None) -> Directory | None:
    """Return the first directory of an EXIF block; None if there is no block or it is broken."""
    if block:
        with contextlib.suppress(Exception):  # Pillow raises all kinds of them
            (offset,) = struct.unpack_from(_order(block) + "I", block, 4)
            return Directory.read(BytesIO(block), block[:8], offset)
    return None


def block_of(directory: Directory) -> bytes | None:
    """Return a directory as an EXIF block; None if it is empty."""
    if not directory.tags and not directory.children:
        return None
    head = b"MM\0*\0\0\0\x08"
    return head + directory.encoded(head, len(head))


def of_tiff(file: BinaryIO, head: bytes, offset: int) -> tuple[Directory, list[str]]:
    """Return what the directory of a TIFF page has of EXIF, and the names of what cannot be moved."""
    found = Directory.read(file, head, offset)
    found.next, found.broken = 0, False  # the next page, and tags of kinds that Pillow does not know
    return found.portable, [name for name, there in found.left.items() if there]


def for_tiff(block: bytes | None) -> Directory:
    """Return what of EXIF goes into the directory of a TIFF page."""
    return (parsed(block) or Directory()).portable


def not_in_tiff(block: bytes | None) -> dict[str, bool]:
    """Return what of EXIF does not go into TIFF, by name, and whether it is there."""
    found = parsed(block)
    if found is None:
        return {"EXIF, which is broken": bool(block)}
    return found.left


def is_of_the_program(block: bytes | None) -> bool:
    """Return whether a block tells only which program wrote the file, as another one does now."""
    found = parsed(block)
    return found is not None and not found.children and found.tags.keys() <= {_SOFTWARE}


def orientation(block: bytes | None) -> int:
    """Return the orientation, 1 to 8; 1 is upright."""
    _, value = (parsed(block) or Directory()).tags.get(ORIENTATION, (0, 1))
    return value if value in range(1, 9) else 1


def dpi(block: bytes | None) -> tuple[float, float] | None:
    """Return the dots per inch."""
    tags = (parsed(block) or Directory()).tags
    unit = {2: 1.0, 3: 2.54}.get(tags.get(_UNIT, (0, 2))[1])
    with contextlib.suppress(KeyError, TypeError, ValueError, ZeroDivisionError):
        x, y = (float(tags[tag][1]) for tag in (_X_RESOLUTION, _Y_RESOLUTION))
        if unit and 0 < x < np.inf and 0 < y < np.inf:
            return x * unit, y * unit
    return None


def of_dpi(resolution: Sequence[float]) -> bytes | None:
    """Return a block of nothing but the resolution."""
    tags: dict[int, tuple[int, Any]] = {
        tag: (_RATIONAL, value) for tag, value in zip((_X_RESOLUTION, _Y_RESOLUTION), resolution, strict=True)
    }
    return block_of(Directory(tags | {_UNIT: (3, 2)}))


def tiff_tags(directory: Directory) -> Iterator[tuple[int, int, int, Any, bool]]:
    """Yield the tags of a directory as tifffile takes them."""
    for tag, (kind, value) in directory.tags.items():
        if isinstance(value, bytes):
            value = value + b"\0" * (kind == _ASCII)
            yield tag, kind, len(value), value, True
        elif not isinstance(value, tuple):
            yield tag, kind, 1, value, True


def without_other_thumbnail(block: bytes | None) -> tuple[bytes | None, bool]:
    """Return a block without a thumbnail that is no JPEG, and whether there was one."""
    link, entries = _second_directory(block)
    if not block or not link or entries.get(_THUMBNAIL):
        return block, False
    return block[:link] + b"\0\0\0\0" + block[link + 4 :], True


def with_new_thumbnail(block: bytes | None, pixels: Any) -> bytes | None:
    """Return a block whose thumbnail shows new pixels, (H, W) or (H, W, 3 or more).

    It takes the place of the old one, so that nothing else moves; at the end of the block it may have more
    bytes. One that is broken is cut off.
    """
    link, entries = _second_directory(block)
    if not block or not link:
        return block
    changed, order = bytearray(block), _order(block)
    try:
        start, size = (
            struct.unpack_from(order + "I", block, entries[tag])[0] for tag in (_THUMBNAIL, _THUMBNAIL + 1)
        )
        is_last = start + size >= len(block)
        room = max(size, MOST - start) if is_last else size
        new = _thumbnail(block[start : start + size], pixels, room)
        changed[start : start + size] = new if is_last else new.ljust(size, b"\0")
        struct.pack_into(order + "I", changed, entries[_THUMBNAIL + 1], len(new))
    except Exception:  # Pillow raises all kinds of them
        changed[link : link + 4] = b"\0\0\0\0"
    return bytes(changed)


def _second_directory(block: bytes | None) -> tuple[int, dict[int, int]]:
    """Return where a block leads to its second directory, the thumbnail's, and where that has its values."""
    if not block or not (parsed(block) or Directory()).next:
        return 0, {}
    order, entries = _order(block), {}
    (first,) = struct.unpack_from(order + "I", block, 4)
    (count,) = struct.unpack_from(order + "H", block, first)
    link = first + 2 + 12 * count
    (second,) = struct.unpack_from(order + "I", block, link)
    with contextlib.suppress(struct.error):
        (count,) = struct.unpack_from(order + "H", block, second)
        for place in range(second + 2, second + 2 + 12 * count, 12):
            (tag,) = struct.unpack_from(order + "H", block, place)
            entries[tag] = place + 8
    return link, entries


def _thumbnail(old: bytes, pixels: Any, room: int) -> bytes:
    """Return the pixels as a JPEG picture of the old one's size, or smaller if that takes too many bytes."""
    from PIL import Image, JpegImagePlugin

    width, height = JpegImagePlugin.JpegImageFile(BytesIO(old)).size
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    colours = pixels[..., :3] if pixels.ndim == 3 and pixels.shape[-1] > 2 else pixels
    colours = colours[..., 0] if colours.ndim == 3 and colours.shape[-1] == 2 else colours
    step = max(1, min(colours.shape[0] // (4 * height), colours.shape[1] // (4 * width)))
    image = Image.fromarray(np.ascontiguousarray(colours[::step, ::step]))
    image.thumbnail((width, height))
    while True:
        for quality in (85, 60, 30):
            data = BytesIO()
            image.save(data, "JPEG", quality=quality)
            if data.tell() <= room:
                return data.getvalue()
        if image.size == (1, 1):
            raise ValueError("the old one is too small")
        image.thumbnail((max(1, image.width // 2), max(1, image.height // 2)))
