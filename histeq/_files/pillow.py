"""JPEG, WebP and BMP, through Pillow.

Pillow's readers are called directly, not through `Image.open`, which warns about or rejects large pictures
by a limit of its own, whatever --max-pixels allows.
"""

import struct
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histeq._files.picture import Picture, Unfit, check_size


def read_jpeg(path: Path, limit: int) -> Picture:
    """Decode a JPEG file."""
    from PIL import JpegImagePlugin

    with JpegImagePlugin.JpegImageFile(path) as image:
        check_size(image.width * image.height, limit)
        keep = {
            "qtables": image.quantization,
            "subsampling": JpegImagePlugin.get_sampling(image),
            "progressive": "progressive" in image.info,
            "comment": image.info.get("comment"),
        }
        return _picture(image, "JPEG", keep)


def read_webp(path: Path, limit: int) -> Picture:
    """Decode a WebP file."""
    from PIL import WebPImagePlugin

    data = path.read_bytes()
    width, height, lossless = _webp_header(data)
    check_size(width * height, limit)
    with WebPImagePlugin.WebPImageFile(BytesIO(data)) as image:
        return _picture(image, "WebP", {"lossless": lossless})


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


def read_bmp(path: Path, limit: int) -> Picture:
    """Decode a BMP file."""
    from PIL import BmpImagePlugin

    with BmpImagePlugin.BmpImageFile(path) as image:
        check_size(image.width * image.height, limit)
        return _picture(image, "BMP", {})


def _picture(image: Any, kind: str, keep: Mapping[str, Any]) -> Picture:
    mode = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB", "RGBA": "RGBA"}.get(image.mode)
    if mode is None:
        raise Unfit(f"{image.mode} pictures are not handled; convert it to grey or RGB")
    exif = image.info.get("exif")
    dpi = image.info.get("dpi")
    return Picture(
        np.array(image.convert(mode)),  # a copy: Pillow's own memory is read-only
        "HW" if mode == "L" else "HWC",
        kind,
        alpha=mode == "RGBA",
        icc=image.info.get("icc_profile"),
        exif=exif.removeprefix(b"Exif\0\0") if exif else None,
        xmp=image.info.get("xmp"),
        dpi=(float(dpi[0]), float(dpi[1])) if dpi else None,
        keep=keep,
    )


def write_jpeg(picture: Picture, path: Path, quality: int | None) -> None:
    """Encode a JPEG file; by default a picture from a JPEG file keeps its quantization tables."""
    options: dict[str, Any] = {"quality": quality or 95}
    if picture.format == "JPEG":
        options = {name: value for name, value in picture.keep.items() if value is not None}
        if quality is not None:
            del options["qtables"]
            options["quality"] = quality
    _save(picture, picture.first, path, "JPEG", options)


def write_webp(picture: Picture, path: Path, quality: int | None) -> None:
    """Encode a WebP file, lossy if the picture came from a lossy one."""
    lossy = picture.format == "JPEG" or picture.keep.get("lossless") is False
    # exact: keep the colour of transparent pixels.
    options = {"lossless": quality is None and not lossy, "quality": quality or 95, "exact": True}
    pixels = picture.batch[0]
    if picture.channels < 3:  # WebP has no grey format
        pixels = np.concatenate([pixels[..., :1]] * 3 + [pixels[..., 1:]], axis=-1)
    _save(picture, np.ascontiguousarray(pixels), path, "WEBP", options)


def write_bmp(picture: Picture, path: Path, quality: int | None) -> None:
    """Encode a BMP file."""
    _save(picture, picture.first, path, "BMP", {})


def _save(picture: Picture, pixels: NDArray[Any], path: Path, kind: str, options: dict[str, Any]) -> None:
    from PIL import Image

    carried = {"icc_profile": picture.icc, "xmp": picture.xmp, "dpi": picture.dpi}
    if picture.exif:
        carried["exif"] = b"Exif\0\0" + picture.exif
    options |= {name: value for name, value in carried.items() if value}
    Image.fromarray(pixels).save(path, kind, **options)
