"""JPEG, WebP and BMP, through Pillow.

Pillow's readers are called directly, not through `Image.open`, which warns about or rejects large pictures
by a limit of its own, whatever --max-pixels allows.
"""

import struct
from collections.abc import Mapping
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from histeq._files.blocks import Header, Whole
from histeq._files.picture import Picture, Unfit, check_size


def open_jpeg(file: BinaryIO, limit: int) -> Whole:
    """Return the source that a JPEG file is."""
    from PIL import JpegImagePlugin

    image = JpegImagePlugin.JpegImageFile(BytesIO(file.read()))
    check_size(image.width * image.height, limit)
    keep = {
        "qtables": image.quantization,
        "subsampling": JpegImagePlugin.get_sampling(image),
        "progressive": "progressive" in image.info,
        "comment": image.info.get("comment"),
    }
    return _source(image, "JPEG", keep)


def open_webp(file: BinaryIO, limit: int) -> Whole:
    """Return the source that a WebP file is."""
    from PIL import WebPImagePlugin

    data = file.read()
    width, height, lossless = _webp_header(data)
    check_size(width * height, limit)
    return _source(WebPImagePlugin.WebPImageFile(BytesIO(data)), "WebP", {"lossless": lossless})


def _webp_header(data: bytes) -> tuple[int, int, bool]:
    """Return (width, height, lossless). Pillow reports the size only after it has allocated the canvas."""
    size, position, lossless = None, 12, False
    while position + 18 <= len(data):
        name, length = struct.unpack_from("<4sI", data, position)
        body = data[position + 8 : position + 18]
        if name == b"VP8X":
            if body[0] & 2:
                raise Unfit("animated WebP files are not handled")
            size = (int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1)
        elif name == b"VP8L":
            bits = int.from_bytes(body[1:5], "little")
            size = size or ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
            lossless = True
        elif name == b"VP8 ":
            width, height = struct.unpack_from("<HH", body, 6)
            size = size or (width & 0x3FFF, height & 0x3FFF)
        position += 8 + length + length % 2
    if size is None:
        raise EOFError("the file is truncated")
    return *size, lossless


def open_bmp(file: BinaryIO, limit: int) -> Whole:
    """Return the source that a BMP file is."""
    from PIL import BmpImagePlugin

    image = BmpImagePlugin.BmpImageFile(BytesIO(file.read()))
    check_size(image.width * image.height, limit)
    return _source(image, "BMP", {})


def _source(image: Any, kind: str, keep: Mapping[str, Any]) -> Whole:
    mode = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB", "RGBA": "RGBA"}.get(image.mode)
    if mode is None:
        raise Unfit(f"{image.mode} pictures are not handled; convert it to grey or RGB")
    exif = image.info.get("exif")
    dpi = image.info.get("dpi")
    header = Header(
        format=kind,
        pages=1,
        height=image.height,
        width=image.width,
        channels=len(mode),
        dtype=np.dtype(np.uint8),
        layout="HW" if mode == "L" else "HWC",
        alpha=mode == "RGBA",
        icc=image.info.get("icc_profile"),
        exif=exif.removeprefix(b"Exif\0\0") if exif else None,
        xmp=image.info.get("xmp"),
        dpi=(float(dpi[0]), float(dpi[1])) if dpi else None,
        keep=keep,
    )

    def decode() -> NDArray[Any]:
        with image:
            return np.array(image.convert(mode))  # a copy: Pillow's own memory is read-only

    return Whole(header, decode)


def write_jpeg(picture: Picture, file: BinaryIO, quality: int | None) -> None:
    """Encode a JPEG file; by default a picture from a JPEG file keeps its quantization tables."""
    options: dict[str, Any] = {"quality": quality or 95}
    if picture.format == "JPEG":
        options = {name: value for name, value in picture.keep.items() if value is not None}
        if quality is not None:
            del options["qtables"]
            options["quality"] = quality
    _save(picture, picture.first, file, "JPEG", options)


def write_webp(picture: Picture, file: BinaryIO, quality: int | None) -> None:
    """Encode a WebP file, lossy if the picture came from a lossy one."""
    lossy = picture.format == "JPEG" or picture.keep.get("lossless") is False
    # exact: keep the colour of transparent pixels.
    options = {"lossless": quality is None and not lossy, "quality": quality or 95, "exact": True}
    pixels = picture.batch[0]
    if picture.channels < 3:  # WebP has no grey format
        pixels = np.concatenate([pixels[..., :1]] * 3 + [pixels[..., 1:]], axis=-1)
    _save(picture, np.ascontiguousarray(pixels), file, "WEBP", options)


def write_bmp(picture: Picture, file: BinaryIO, quality: int | None) -> None:
    """Encode a BMP file."""
    _save(picture, picture.first, file, "BMP", {})


def _save(picture: Picture, pixels: NDArray[Any], file: BinaryIO, kind: str, options: dict[str, Any]) -> None:
    from PIL import Image

    carried = {"icc_profile": picture.icc, "xmp": picture.xmp, "dpi": picture.dpi}
    if picture.exif:
        carried["exif"] = b"Exif\0\0" + picture.exif
    options |= {name: value for name, value in carried.items() if value}
    Image.fromarray(pixels).save(file, kind, **options)
