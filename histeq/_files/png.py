"""PNG, through imagecodecs. The metadata chunks, which it ignores, are read and written here."""

import contextlib
import itertools
import struct
import time
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from histeq._files.blocks import Damage, Header, Item, Whole
from histeq._files.picture import Picture, Unfit, check_size

_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
"""Of each colour type, once decoded; a tRNS chunk adds one. 3 is a palette."""
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of interlaced pixels: the first column and row, and the steps between columns and rows."""
_LAST_FILTER = 4
_MAX_PROFILE = 2**26  # bytes: an ICC profile beyond 64 MiB is a decompression bomb

# Chunks that remain valid when the pixels change; so do, by the standard, those whose fourth letter is small.
# Left out are tRNS, which becomes alpha, and what refers to the old values: sBIT, bKGD, hIST, sPLT.
_KEPT = frozenset(b"iCCP sRGB gAMA cHRM cICP mDCV cLLI eXIf pHYs oFFs sCAL pCAL tEXt zTXt iTXt tIME".split())
_STALE = frozenset(b"IHDR PLTE IDAT IEND tRNS sBIT hIST sPLT".split())
_COMMON = frozenset(b"iCCP eXIf".split())
"""Chunks of what other formats know, too: they are written anew."""
_XMP = b"XML:com.adobe.xmp\0"
"""What an iTXt chunk with XMP begins with."""
_NAMES = {
    b"sRGB": "the colour space sRGB",
    b"gAMA": "the gamma",
    b"cHRM": "the chromaticities",
    b"cICP": "the colour space (CICP)",
    b"pHYs": "the aspect ratio of the pixels",
    b"tIME": "the time of the last change",
    b"bKGD": "the background colour",
    b"caBX": "the content credentials (C2PA)",
}
_TEXTS = frozenset(b"tEXt zTXt iTXt".split())


def open(file: BinaryIO, limit: int, damage: Damage) -> Whole:
    """Return the source that a PNG file is."""
    data = file.read()
    chunks = list(_chunks(data, damage))
    width, height, bits, kind = struct.unpack_from(">IIBB", data, 16)
    check_size(width * height, limit)
    names = {name for name, _, _ in chunks}
    if b"acTL" in names:
        raise Unfit("animated PNG files are not handled")
    if kind not in _CHANNELS:
        raise ValueError(f"its colour type is {kind}")
    channels = _CHANNELS[kind] + (b"tRNS" in names and kind in (0, 2, 3))
    kept = [(name, body) for name, body, intact in chunks if _is_kept(name) and intact]
    first = dict(reversed(kept))
    icc, dpi = _profile(first.get(b"iCCP")), _dpi(first.get(b"pHYs"))
    header = Header(
        format="PNG",
        pages=1,
        height=height,
        width=width,
        channels=channels,
        dtype=np.dtype(np.uint16 if bits == 16 else np.uint8),
        layout="HW" if channels == 1 else "HWC",
        alpha=channels in (2, 4),
        icc=icc,
        exif=first.get(b"eXIf"),
        xmp=next((xmp for xmp in map(_xmp_of, kept) if xmp), None),
        dpi=dpi,
        own=_own(chunks, has_dpi=dpi is not None, has_icc=icc is not None),
        keep={"chunks": [chunk for chunk in kept if chunk[0] not in _COMMON and not _is_xmp(*chunk)]},
    )

    def decode() -> NDArray[Any]:
        import imagecodecs

        pixels: NDArray[Any]
        try:
            pixels = imagecodecs.png_decode(_bare(data))
        except (RuntimeError, ValueError) as error:
            damage.found(error)
            pixels = imagecodecs.png_decode(_mended(data, damage))
        return pixels

    return Whole(header, decode, damage)


def _bare(data: bytes) -> bytes:
    """Return a file of nothing but pixels: of other chunks libpng prints warnings of its own."""
    parts, position = [data[:8]], 8
    while position + 12 <= len(data):
        size, name = struct.unpack_from(">I4s", data, position)
        if name[:1].isupper() or name == b"tRNS":
            parts.append(data[position : position + 12 + size])
        position += 12 + size
    return b"".join(parts)


def _chunks(data: bytes, damage: Damage) -> Iterator[tuple[bytes, bytes, bool]]:
    """Yield the name and the content of every chunk, and whether its checksum is right."""
    position, name = 8, b""
    while name != b"IEND":
        if position + 12 > len(data):
            damage.found("the file is truncated")
            return
        size, name = struct.unpack_from(">I4s", data, position)
        body = data[position + 8 : position + 8 + size]
        if position == 8 and (name != b"IHDR" or size != 13):
            raise ValueError("it has no header")
        if position + 12 + size > len(data):
            damage.found("the file is truncated")
            if name in (b"IHDR", b"PLTE"):
                raise EOFError("the file is truncated")
            checksum = -1
        else:
            (checksum,) = struct.unpack_from(">I", data, position + 8 + size)
        intact = checksum == zlib.crc32(body, zlib.crc32(name))
        if not intact and name[:1].isupper():  # critical; libpng does not check the last IDAT
            if name == b"IHDR":
                raise ValueError("the checksum of its header is wrong")
            damage.found(f"the checksum of its {name.decode('latin1')} chunk is wrong")
        yield name, body if damage.lenient or _is_kept(name) else b"", intact
        position += 12 + size


def _mended(data: bytes, damage: Damage) -> bytes:
    """Return a file that decodes: the pixels that are missing are black."""
    header = data[16:29]
    width, height, bits, kind, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    chunks = list(_chunks(data, Damage(lenient=True)))
    sizes = list(_row_sizes(width, height, bits * (1 if kind == 3 else _CHANNELS[kind]), bool(interlaced)))
    need, rows = sum(sizes), bytearray()
    unpacker = zlib.decompressobj()
    packed = b"".join(body for name, body, _ in chunks if name == b"IDAT")
    with contextlib.suppress(zlib.error):
        for start in range(0, len(packed), 256):  # all that comes before an error is kept
            rows += unpacker.decompress(packed[start : start + 256], need - len(rows) or 1)
    if len(rows) < need:
        damage.found(f"{1 - len(rows) / need:.1%} of its pixels are missing")
    rows = rows[:need].ljust(need, b"\0")
    position = 0
    for size in sizes:
        if rows[position] > _LAST_FILTER:
            rows[position] = 0
        position += size
    before = [(name, body) for name, body, _ in chunks if name in (b"PLTE", b"tRNS")]
    parts = [(b"IHDR", header), *before, (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b"")]
    return data[:8] + b"".join(_chunk(name, body) for name, body in parts)


def _row_sizes(width: int, height: int, bits: int, interlaced: bool) -> Iterator[int]:
    """Yield the bytes of each row, of each pass: a row begins with the number of its filter."""
    for left, top, across, down in _PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0:
            yield from itertools.repeat(1 + -(-columns * bits // 8), max(rows, 0))


def _chunk(name: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(body, zlib.crc32(name))
    return struct.pack(">I4s", len(body), name) + body + struct.pack(">I", checksum)


def _is_kept(name: bytes) -> bool:
    """Tell whether a chunk holds for new pixels."""
    return name in _KEPT or (name not in _STALE and name[:1].islower() and name[3:].islower())


def _is_xmp(name: bytes, body: bytes) -> bool:
    return name == b"iTXt" and body.startswith(_XMP)


def _xmp_of(chunk: tuple[bytes, bytes]) -> bytes | None:
    """Return the XMP of an iTXt chunk: its keyword, two bytes on compression, two texts that end in zero."""
    name, body = chunk
    if not _is_xmp(name, body):
        return None
    rest = body[len(_XMP) :]
    xmp = rest[2:].split(b"\0", 2)[-1]
    return _inflated(xmp) if rest[:1] == b"\1" else xmp


def _own(chunks: list[tuple[bytes, bytes, bool]], *, has_dpi: bool, has_icc: bool) -> tuple[Item, ...]:
    """Return what only PNG files have, and what is left out."""
    items = []
    texts = []
    for name, body, intact in chunks:
        word = name.decode("latin1")
        if name in _STALE or (name == b"pHYs" and (has_dpi or body[:4] == body[4:8])):
            continue
        if not intact:
            items.append(Item(f"the chunk {word}, which is broken"))
        elif name in _COMMON:
            items += [Item("the ICC profile, which is broken")] if name == b"iCCP" and not has_icc else []
        elif name in _TEXTS:
            texts += [] if _is_xmp(name, body) else [body.split(b"\0")[0].decode("latin1")]
        else:
            items.append(Item(_NAMES.get(name, f"the chunk {word}"), ("PNG",) if _is_kept(name) else ()))
    if texts:
        items.append(Item(f"the text {', '.join(dict.fromkeys(texts))}", ("PNG",)))
    return tuple(dict.fromkeys(items))


def _profile(body: bytes | None) -> bytes | None:
    if body is None:
        return None
    _, _, rest = body.partition(b"\0")
    return _inflated(rest[1:])


def _inflated(data: bytes) -> bytes | None:
    try:
        return zlib.decompressobj().decompress(data, _MAX_PROFILE)
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
    kept = [*_common_chunks(picture), *_own_chunks(picture)]
    after_header = 33  # all kept chunks are valid there: before any palette and the pixels
    file.write(data[:after_header])
    for name, body in kept:
        file.write(_chunk(name, body))
    file.write(memoryview(data)[after_header:])


def _own_chunks(picture: Picture) -> Iterator[tuple[bytes, bytes]]:
    """Yield the chunks of a picture from PNG; of another its resolution."""
    if picture.format == "PNG":
        for name, body in picture.keep["chunks"]:
            now = struct.pack(">H5B", *time.gmtime()[:6])
            yield name, now if name == b"tIME" else body
    elif picture.dpi:
        yield b"pHYs", struct.pack(">IIB", *(round(dpi / 0.0254) for dpi in picture.dpi), 1)


def _common_chunks(picture: Picture) -> Iterator[tuple[bytes, bytes]]:
    """Yield the chunks of what other formats know, too."""
    if picture.icc:
        yield b"iCCP", b"ICC profile\0\0" + zlib.compress(picture.icc)
    if picture.exif:
        yield b"eXIf", picture.exif
    if picture.xmp:
        yield b"iTXt", _XMP + b"\0\0\0\0" + picture.xmp
