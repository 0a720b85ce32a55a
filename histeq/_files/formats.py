"""The formats of image files: how each is recognized, what it can hold, which module reads and writes it."""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from histeq._files import coded, dicom, foreign, pillow, png, tiff
from histeq._files.blocks import Damage, Header, Source
from histeq._files.picture import FileError, Picture, Unfit

SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WebP",
    ".bmp": "BMP",
    ".dib": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".zarr": "Zarr",
    ".zip": "Zarr",
    ".npy": "NPY",
    ".jp2": "JPEG 2000",
    ".j2k": "JPEG 2000",
    ".j2c": "JPEG 2000",
    ".jxl": "JPEG XL",
    ".avif": "AVIF",
    ".gif": "GIF",
    ".dcm": "DICOM",
    ".dicom": "DICOM",
}
OPENERS: dict[str, Callable[[BinaryIO, int, Damage], Source]] = {
    "PNG": png.open,
    "JPEG": pillow.open_jpeg,
    "WebP": pillow.open_webp,
    "BMP": pillow.open_bmp,
    "GIF": pillow.open_gif,
    "JPEG 2000": coded.open_jpeg_2000,
    "JPEG XL": coded.open_jpeg_xl,
    "AVIF": coded.open_avif,
    "TIFF": tiff.open,
    "DICOM": dicom.open,
}
ENCODERS: dict[str, Callable[[Picture, BinaryIO, int | None], None]] = {
    "PNG": png.write,
    "JPEG": pillow.write_jpeg,
    "WebP": pillow.write_webp,
    "BMP": pillow.write_bmp,
    "GIF": pillow.write_gif,
    "JPEG 2000": coded.write_jpeg_2000,
    "JPEG XL": coded.write_jpeg_xl,
    "AVIF": coded.write_avif,
}
IN_BLOCKS = ("TIFF", "Zarr", "NPY")
"""Those that are read and written by blocks; a file of another format is decoded as a whole."""
_AVIF_VALUES = 4096
_INTEGERS, _DEEP = ("uint8", "uint16"), "8- and 16-bit grey and RGB, with or without alpha"
# What each format can hold: dtypes, numbers of channels, the longest side, and a description of these for
# error messages. TIFF, Zarr and NPY have no entry, since they can hold every picture.
_LIMITS = {
    "PNG": (_INTEGERS, (1, 2, 3, 4), 2**31 - 1, _DEEP),
    "JPEG": (("uint8",), (1, 3), 65500, "8-bit grey and RGB without alpha, up to 65500 pixels a side"),
    "WebP": (("uint8",), (1, 2, 3, 4), 16383, "8-bit pictures of up to 16383 pixels a side"),
    "BMP": (("uint8",), (1, 3), 2**31 - 1, "8-bit grey and RGB without alpha"),
    "GIF": (("uint8",), (1, 3, 4), 65535, "8-bit pictures of up to 256 colours"),
    "JPEG 2000": (_INTEGERS, (1, 2, 3, 4), 2**31 - 1, _DEEP),
    "JPEG XL": (_INTEGERS, (1, 2, 3, 4), 2**30 - 1, _DEEP),
    "AVIF": (_INTEGERS, (1, 2, 3, 4), 65535, "8- to 12-bit grey and RGB, with or without alpha"),
}


def format_of(path: Path) -> str:
    """Return the format that the suffix of a file name stands for."""
    try:
        return SUFFIXES[path.suffix.lower()]
    except KeyError:
        raise FileError(f"{path}: the name must end in one of {' '.join(SUFFIXES)}") from None


def is_known(path: Path) -> bool:
    """Tell whether a file's name says that it is a picture."""
    return path.suffix.lower() in SUFFIXES and path.suffix.lower() != ".zip"


def recognize(magic: bytes) -> str:
    """Return the format of a file, recognized by its first bytes."""
    if magic[128:132] == b"DICM":  # may begin as a TIFF file does
        return "DICOM"
    if coded.is_avif(magic):
        return "AVIF"
    says = foreign.described(magic)
    if says:
        raise Unfit(says)
    if magic.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if magic.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if magic[:4] == b"RIFF" and magic[8:12] == b"WEBP":
        return "WebP"
    if magic.startswith(b"BM"):
        return "BMP"
    if magic[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if magic[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if coded.is_jpeg_2000(magic):
        return "JPEG 2000"
    if coded.is_jpeg_xl(magic):
        return "JPEG XL"
    if magic.startswith(b"\x93NUMPY"):
        return "NPY"
    if magic.startswith(b"PK\x03\x04"):
        return "Zarr"
    if not magic:
        raise Unfit("the file is empty")
    raise Unfit(
        "not a picture of a known format (PNG, JPEG, WebP, BMP, GIF, JPEG 2000, JPEG XL, AVIF, TIFF, NPY, "
        "Zarr, DICOM), or broken at its start"
    )


def check_fits(header: Header, kind: str) -> None:
    """Raise `Unfit` if a format cannot hold the image."""
    if kind not in _LIMITS:
        return
    dtypes, channels, side, holds = _LIMITS[kind]
    pages, height, width, depth = header.pages, header.height, header.width, header.channels
    if pages > 1:
        raise Unfit(f"{kind} holds one picture a file, and there are {pages} pages; write TIFF")
    fits = str(header.dtype) in dtypes and depth in channels and max(height, width) <= side
    if kind == "AVIF" and header.dtype == np.uint16:
        fits = fits and header.value_range is not None and header.value_range[1] < _AVIF_VALUES
    if not fits or (depth in (2, 4)) != header.alpha:
        what = f"{width} x {height} {header.dtype}, {depth} channel{'s' if depth > 1 else ''}"
        alpha = " with alpha" if header.alpha else ""
        raise Unfit(f"{kind} holds {holds}, not this picture ({what}{alpha})")
