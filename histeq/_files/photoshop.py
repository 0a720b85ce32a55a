"""Photoshop's image resources, as JPEG (APP13) and TIFF (tag 34377) hold them; IPTC is one of them.

A block is "8BIM", a number, a name (its length first, padded to an even number of bytes), the length of its
content, the content (padded likewise).
"""

import struct
from collections.abc import Iterator

PREFIX = b"Photoshop 3.0\0"
"""Of the segment in a JPEG file."""

_IPTC, _THUMBNAILS = 0x0404, (0x0409, 0x040C)


def _blocks(resources: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield the number, the content and all bytes of every block, up to the first that is broken."""
    position = 0
    while resources[position : position + 4] == b"8BIM" and position + 12 <= len(resources):
        (number,) = struct.unpack_from(">H", resources, position + 4)
        start = position + 6 + (resources[position + 6] // 2 + 1) * 2
        if start + 4 > len(resources):
            return
        (size,) = struct.unpack_from(">I", resources, start)
        end = start + 4 + size
        if end > len(resources):
            return
        end += size % 2
        yield number, resources[start + 4 : start + 4 + size], resources[position:end]
        position = end


def without_old(resources: bytes) -> tuple[bytes | None, bytes | None, bool]:
    """Return resources without thumbnails and IPTC; IPTC; and whether there was a thumbnail."""
    blocks = list(_blocks(resources))
    kept = b"".join(block for number, _, block in blocks if number not in (_IPTC, *_THUMBNAILS))
    iptc = next((content for number, content, _ in blocks if number == _IPTC), None)
    return kept or None, iptc, any(number in _THUMBNAILS for number, _, _ in blocks)


def joined(resources: bytes | None, iptc: bytes | None) -> bytes:
    """Return resources with IPTC among them."""
    if iptc:
        block = struct.pack(">4sHHI", b"8BIM", _IPTC, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
        return block + (resources or b"")
    return resources or b""
