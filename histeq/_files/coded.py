"""JPEG 2000, JPEG XL and AVIF, through imagecodecs; AVIF of 8 bits and in colour is written by Pillow.

imagecodecs gives the pixels alone. What must be known before memory is taken for them, the size, is looked up
here, and so is the metadata that can be.
"""

import struct
from collections.abc import Iterator
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from histeq._files.blocks import Damage, Header, Item, Whole
from histeq._files.picture import Picture, Unfit, check_size

AVIF_QUALITY = 90
"""Of what comes from an AVIF file, unless asked for otherwise; what comes from elsewhere stays lossless."""
_COLOURS = {16: "RGB", 17: "grey"}
_RATIOS = ((1, 1), (6, 5), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def is_jpeg_2000(magic: bytes) -> bool:
    """Tell whether a file begins as a JPEG 2000 file or codestream does."""
    return magic.startswith((b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"))


def is_jpeg_xl(magic: bytes) -> bool:
    """Tell whether a file begins as a JPEG XL codestream or file does."""
    return magic.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"))


def is_avif(magic: bytes) -> bool:
    """Tell whether a file begins as an AVIF file does."""
    size = int.from_bytes(magic[:4])
    return magic[4:8] == b"ftyp" and any(brand in magic[8 : min(size, 64)] for brand in (b"avif", b"avis"))


def open_jpeg_2000(file: BinaryIO, limit: int, damage: Damage) -> Whole:
    """Return the source that a JPEG 2000 file is."""
    data = file.read()
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0:
        raise EOFError("it has no pixels")
    x1, y1, x0, y0 = struct.unpack_from(">4I", data, start + 8)
    (channels,) = struct.unpack_from(">H", data, start + 40)
    check_size((x1 - x0) * (y1 - y0) if x1 > x0 and y1 > y0 else 0, limit)
    kinds = {bytes(data[start + 42 + 3 * i : start + 45 + 3 * i]) for i in range(channels)}
    boxes = dict(reversed(list(_boxes(data, (b"jp2h",))))) if start else {}
    colour = boxes.get(b"colr", b"")
    number = int.from_bytes(colour[3:7]) if colour[:1] == b"\1" else 16
    if len(kinds) != 1 or next(iter(kinds))[1:] != b"\1\1" or channels > 4 or number not in _COLOURS:
        raise Unfit("JPEG 2000 files with these channels or colours are not handled; convert it to RGB")
    if b"pclr" in boxes:
        raise Unfit("JPEG 2000 files with a palette are not handled; convert it to RGB")
    bits = next(iter(kinds))[0] + 1
    if not 1 <= bits <= 16:
        raise Unfit(f"JPEG 2000 files of {'signed pixels' if bits > 128 else f'{bits} bits'} are not handled")
    place = data.find(b"\xff\x52", start)
    return _source(
        "JPEG 2000", (y1 - y0, x1 - x0), channels, bits, lambda: _decoded("jpeg2k_decode", data), damage,
        icc=colour[3:] if colour[:1] == b"\2" else None,
        keep={"lossless": place > 0 and data[place + 13 : place + 14] == b"\1", "stream": not start},
    )  # fmt: skip


def open_jpeg_xl(file: BinaryIO, limit: int, damage: Damage) -> Whole:
    """Return the source that a JPEG XL file is."""
    data = file.read()
    boxes = {} if data.startswith(b"\xff\x0a") else dict(reversed(list(_boxes(data))))
    stream = boxes.get(b"jxlc") or boxes.get(b"jxlp", b"")[4:] if boxes else data
    size = _jpeg_xl_size(stream)
    check_size(size[0] * size[1], limit)
    pixels = _decoded("jpegxl_decode", data)
    several = pixels.ndim == 4 or (pixels.ndim == 3 and sorted(pixels.shape[1:]) == sorted(size))
    if several and sorted(pixels.shape[:2]) != sorted(size):
        raise Unfit("animated JPEG XL files are not handled")
    exif = boxes.get(b"Exif", b"")
    return _source(
        "JPEG XL", pixels.shape[:2], 1 if pixels.ndim == 2 else pixels.shape[2], 8 * pixels.itemsize,
        lambda: pixels, damage, exif=exif[4 + int.from_bytes(exif[:4]) :] or None, xmp=boxes.get(b"xml "),
        own=(Item("an ICC profile, if there is one"),),
    )  # fmt: skip


def _jpeg_xl_size(stream: bytes) -> tuple[int, int]:
    """Return the height and width at the head of a codestream."""
    if not stream.startswith(b"\xff\x0a") or len(stream) < 12:
        raise EOFError("the file is truncated")
    number, position = int.from_bytes(stream[2:12], "little"), 0

    def take(bits: int) -> int:
        nonlocal position
        position += bits
        return number >> position - bits & (1 << bits) - 1

    small = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if small else take((9, 13, 18, 30)[take(2)]) + 1

    height, ratio = side(), take(3)
    width = height * _RATIOS[ratio - 1][0] // _RATIOS[ratio - 1][1] if ratio else side()
    return height, width


def open_avif(file: BinaryIO, limit: int, damage: Damage) -> Whole:
    """Return the source that an AVIF file is."""
    from PIL import AvifImagePlugin

    data = file.read()
    if b"avis" in data[8 : int.from_bytes(data[:4])]:
        raise Unfit("animated AVIF files are not handled")
    boxes = list(_boxes(data, (b"meta", b"iprp", b"ipco")))
    sizes = [
        struct.unpack_from(">II", body, 4) for name, body in boxes if name == b"ispe" and len(body) >= 12
    ]
    if not sizes:
        raise EOFError("it has no size")
    check_size(max(width * height for width, height in sizes), limit)
    bits = max((max(body[5:], default=8) for name, body in boxes if name == b"pixi"), default=8)
    pixels = _decoded("avif_decode", data)
    info: Any = AvifImagePlugin.AvifImageFile(BytesIO(data)).info
    exif = info.get("exif")
    return _source(
        "AVIF", pixels.shape[:2], 1 if pixels.ndim == 2 else pixels.shape[2],
        bits if pixels.itemsize > 1 else 8, lambda: pixels, damage, icc=info.get("icc_profile"),
        exif=exif.removeprefix(b"Exif\0\0") if exif else None, xmp=info.get("xmp"),
    )  # fmt: skip


def _decoded(name: str, data: bytes) -> NDArray[Any]:
    import imagecodecs

    return np.asarray(getattr(imagecodecs, name)(data))


def _source(
    kind: str,
    size: tuple[int, ...],
    channels: int,
    bits: int,
    decode: Any,
    damage: Damage,
    **more: Any,
) -> Whole:
    if channels > 4:
        raise Unfit(f"{kind} files with {channels} channels are not handled")
    dtype = np.dtype(np.uint8 if bits <= 8 else np.uint16)
    header = Header(
        format=kind,
        pages=1,
        height=size[0],
        width=size[1],
        channels=channels,
        dtype=dtype,
        layout="HW" if channels == 1 else "HWC",
        alpha=channels in (2, 4),
        value_range=None if bits in (8, 16) else (0, (1 << bits) - 1),
        **more,
    )

    def checked() -> NDArray[Any]:
        pixels = decode()
        shape = header.shape(*header.size)
        if pixels.dtype != dtype or pixels.shape != shape:
            raise ValueError(f"it holds {pixels.dtype} of {pixels.shape} in place of {dtype} of {shape}")
        return np.array(pixels)

    return Whole(header, checked, damage)


def _boxes(data: bytes, into: tuple[bytes, ...] = ()) -> Iterator[tuple[bytes, bytes]]:
    """Yield the names and contents of the boxes of a file, and of those within some of them."""
    position = 0
    while position + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, position)
        start = position + 8
        if size == 1 and position + 16 <= len(data):
            size, start = int.from_bytes(data[position + 8 : position + 16]), position + 16
        end = position + size if size else len(data)
        if end < start or end > len(data):
            raise EOFError("the file is truncated")
        body = data[start:end]
        yield name, body
        if name in into:
            yield from _boxes(body[4:] if name == b"meta" else body, into)
        position = end


def _values(picture: Picture) -> tuple[NDArray[Any], int]:
    """Return the pixels, and how many bits their values have."""
    pixels = picture.first
    if pixels.dtype == np.uint8 or picture.value_range is None:
        return pixels, 8 * pixels.itemsize
    high = int(picture.value_range[1])
    if picture.channels > 2:  # colours of a new luma may lie beyond the range
        pixels = np.minimum(pixels, high)
    return pixels, max(high, int(pixels.max())).bit_length()


def write_jpeg_2000(picture: Picture, file: BinaryIO, quality: int | None) -> None:
    """Encode a JPEG 2000 file: lossless, unless a quality is asked for or the source was lossy."""
    import imagecodecs

    lossy = picture.format == "JPEG 2000" and not picture.keep["lossless"]
    level = quality or (95 if lossy else None)
    how: dict[str, Any] = (
        {"level": 0, "reversible": True} if level is None else {"level": 25 + level // 4, "reversible": False}
    )
    stream = picture.format == "JPEG 2000" and picture.keep["stream"]
    codec = "j2k" if stream or str(getattr(file, "name", "")).endswith((".j2k", ".j2c")) else "jp2"
    pixels, bits = _values(picture)
    file.write(imagecodecs.jpeg2k_encode(pixels, codecformat=codec, bitspersample=bits, **how))


def write_jpeg_xl(picture: Picture, file: BinaryIO, quality: int | None) -> None:
    """Encode a JPEG XL file: lossless, unless a quality is asked for."""
    import imagecodecs

    how = {"lossless": True} if quality is None else {"level": quality}
    file.write(imagecodecs.jpegxl_encode(picture.first, **how))


def write_avif(picture: Picture, file: BinaryIO, quality: int | None) -> None:
    """Encode an AVIF file: lossless, unless a quality is asked for or the source is an AVIF file."""
    import imagecodecs

    level = quality or (AVIF_QUALITY if picture.format == "AVIF" else None)
    pixels, bits = _values(picture)
    if not _by_pillow(picture.header) or level is None:
        how: dict[str, Any] = {"bitspersample": bits} if pixels.dtype != np.uint8 else {}
        file.write(imagecodecs.avif_encode(pixels, level=100 if level is None else level, **how))
        return
    from PIL import Image

    carried = {"icc_profile": picture.icc, "exif": picture.exif, "xmp": picture.xmp}
    options = {name: value for name, value in carried.items() if value}
    Image.fromarray(pixels).save(file, "AVIF", quality=level, **options)


def _by_pillow(header: Header) -> bool:
    return header.dtype == np.uint8 and header.channels > 2


def not_carried(header: Header, quality: int | None) -> list[str]:
    """Return what of an image an AVIF file loses that imagecodecs writes, in words."""
    if _by_pillow(header) and (quality is not None or header.format == "AVIF"):
        return []
    found = {"the ICC profile": header.icc, "EXIF": header.exif, "XMP": header.xmp}
    return [name for name, value in found.items() if value]
