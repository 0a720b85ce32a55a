"""PNG, through imagecodecs. The metadata chunks, which it ignores, are read and written here."""

import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from histeq._files.blocks import Header, Whole
from histeq._files.picture import Picture, Unfit, check_size

_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
"""Of each colour type, once decoded; a tRNS chunk adds one. 3 is a palette."""
_MAX_PROFILE = 2**26  # bytes: an ICC profile beyond 64 MiB is a decompression bomb

# Chunks that remain valid when the pixels change. Left out are sBIT, bKGD, hIST and tRNS, which refer to the
# old values, and tIME, the time of the last change.
_KEPT = frozenset(b"iCCP sRGB gAMA cHRM cICP mDCV cLLI eXIf pHYs oFFs sCAL pCAL tEXt zTXt iTXt".split())


def open(file: BinaryIO, limit: int) -> Whole:
    """Return the source that a PNG file is."""
    data = file.read()
    chunks = list(_chunks(data))
    width, height, bits, kind = struct.unpack_from(">IIBB", data, 16)
    check_size(width * height, limit)
    names = {name for name, _, _ in chunks}
    if b"acTL" in names:
        raise Unfit("animated PNG files are not handled")
    if kind not in _CHANNELS:
        raise ValueError(f"its colour type is {kind}")
    channels = _CHANNELS[kind] + (b"tRNS" in names and kind in (0, 2, 3))
    kept = [(name, body) for name, body, intact in chunks if name in _KEPT and intact]
    first = dict(reversed(kept))
    header = Header(
        format="PNG",
        pages=1,
        height=height,
        width=width,
        channels=channels,
        dtype=np.dtype(np.uint16 if bits == 16 else np.uint8),
        layout="HW" if channels == 1 else "HWC",
        alpha=channels in (2, 4),
        icc=_profile(first.get(b"iCCP")),
        exif=first.get(b"eXIf"),
        dpi=_dpi(first.get(b"pHYs")),
        keep={"chunks": kept},
    )

    def decode() -> NDArray[Any]:
        import imagecodecs

        pixels: NDArray[Any] = imagecodecs.png_decode(data)
        return pixels

    return Whole(header, decode)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Yield the name and the content of every chunk, and whether its checksum is right."""
    position, name = 8, b""
    while name != b"IEND":
        if position + 12 > len(data):
            raise EOFError("the file is truncated")
        size, name = struct.unpack_from(">I4s", data, position)
        body = data[position + 8 : position + 8 + size]
        if position + 12 + size > len(data):
            raise EOFError("the file is truncated")
        (checksum,) = struct.unpack_from(">I", data, position + 8 + size)
        if position == 8 and (name != b"IHDR" or size != 13):
            raise ValueError("it has no header")
        intact = checksum == zlib.crc32(body, zlib.crc32(name))
        if not intact and name[:1].isupper():  # critical; libpng does not check the last IDAT
            raise ValueError(f"the checksum of its {name.decode('latin1')} chunk is wrong")
        yield name, body if name in _KEPT else b"", intact
        position += 12 + size


def _profile(body: bytes | None) -> bytes | None:
    if body is None:
        return None
    _, _, rest = body.partition(b"\0")
    try:
        return zlib.decompressobj().decompress(rest[1:], _MAX_PROFILE)
    except zlib.error:
        return None


def _dpi(body: bytes | None) -> tuple[float, float] | None:
    if body is None or len(body) != 9 or body[8] != 1:
        return None
    x, y = struct.unpack_from(">II", body)
    return x * 0.0254, y * 0.0254


def write(picture: Picture, file: BinaryIO, quality: int | None) -> None:
    """Encode a PNG file."""
    import imagecodecs

    pixels = picture.first
    size = pixels.nbytes + len(pixels)  # each row has a byte more; imagecodecs' own estimate lacks them
    data = imagecodecs.png_encode(pixels, out=size + size // 64 + (1 << 16))
    kept = picture.keep["chunks"] if picture.format == "PNG" else _new_chunks(picture)
    after_header = 33  # all kept chunks are valid there: before any palette and the pixels
    file.write(data[:after_header])
    for name, body in kept:
        file.write(struct.pack(">I4s", len(body), name) + body)
        file.write(struct.pack(">I", zlib.crc32(body, zlib.crc32(name))))
    file.write(memoryview(data)[after_header:])


def _new_chunks(picture: Picture) -> Iterator[tuple[bytes, bytes]]:
    if picture.icc:
        yield b"iCCP", b"ICC profile\0\0" + zlib.compress(picture.icc)
    if picture.exif:
        yield b"eXIf", picture.exif
    if picture.dpi:
        yield b"pHYs", struct.pack(">IIB", *(round(dpi / 0.0254) for dpi in picture.dpi), 1)
