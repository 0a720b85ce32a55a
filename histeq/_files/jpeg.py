"""What is wrong with JPEG data: libjpeg's warnings, which Pillow and imagecodecs keep to themselves.

A decoder of JPEG fills with grey, or goes on with other pixels, where data is missing or wrong.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from histeq._files.blocks import Damage

_DAMAGED = ("Corrupt JPEG data", "Premature end of JPEG", "Unsupported marker")
_METADATA = (b"\xfe", *(bytes([marker]) for marker in range(0xE0, 0xF0)))
"""Markers of comments and of what applications keep."""


def check(data: bytes, damage: Damage, part: Any = None) -> None:
    """Report what libjpeg warns of, in JPEG data of 8 bits that another library decodes."""
    try:
        import simplejpeg
    except ImportError:
        return  # imagecodecs and Pillow notice what is cut short
    try:
        colours = simplejpeg.decode_jpeg_header(data, strict=False)[2]
        space = colours if colours in ("Gray", "CMYK") else "RGB"
        # An eighth of the size is decoded: all of the data is read, most of the arithmetic left out.
        simplejpeg.decode_jpeg(clean(data), space, min_height=1, min_width=1, min_factor=8)
    except ValueError as error:
        if str(error).startswith(_DAMAGED):
            damage.found(error, part)


def decode(data: bytes, grey: bool, damage: Damage) -> NDArray[np.uint8] | None:
    """Return the pixels (H, W) or (H, W, 3) of JPEG data of 8 bits; None where simplejpeg is missing."""
    try:
        import simplejpeg
    except ImportError:
        return None
    space = "Gray" if grey else "RGB"
    try:
        pixels = simplejpeg.decode_jpeg(clean(data), space)
    except ValueError as error:
        damage.found(error)
        pixels = simplejpeg.decode_jpeg(data, space, strict=False)
    return pixels[..., 0] if grey else pixels


def clean(data: bytes) -> bytes:
    """Return JPEG data without stray bytes before metadata, which cameras leave there.

    They do no harm to the pixels, but would be libjpeg's first warning, and so the only one.
    """
    parts, position = [data[:2]], 2
    while (start := data.find(b"\xff", position)) >= 0:
        marker = data[start + 1 : start + 2]
        if marker not in _METADATA:
            break
        position = start + 2 + int.from_bytes(data[start + 2 : start + 4])
        parts.append(data[start:position])
    return b"".join([*parts, data[position:]])
