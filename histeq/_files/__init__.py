"""Reading and writing of picture files, with the metadata that processing must preserve.

PNG is handled by imagecodecs, because Pillow silently reduces 16-bit colour to 8 bits; JPEG, WebP and BMP
are handled by Pillow, TIFF by tifffile. Each library is imported only when a file first needs it.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from histeq._files import pillow, png, tiff
from histeq._files.picture import FileError, Picture, Unfit

__all__ = ["MAX_PIXELS", "FileError", "Picture", "format_of", "read", "replacing", "write"]

MAX_PIXELS = 2**30

_SUFFIXES = {
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
}
_READERS: dict[str, Callable[[Path, int], Picture]] = {
    "PNG": png.read,
    "JPEG": pillow.read_jpeg,
    "WebP": pillow.read_webp,
    "BMP": pillow.read_bmp,
    "TIFF": tiff.read,
}
_WRITERS: dict[str, Callable[[Picture, Path, int | None], None]] = {
    "PNG": png.write,
    "JPEG": pillow.write_jpeg,
    "WebP": pillow.write_webp,
    "BMP": pillow.write_bmp,
    "TIFF": tiff.write,
}
# What each format can hold: dtypes, numbers of channels, the longest side, and a description of these for
# error messages. TIFF has no entry, since it can hold every picture.
_LIMITS = {
    "PNG": (
        ("uint8", "uint16"),
        (1, 2, 3, 4),
        2**31 - 1,
        "8- and 16-bit grey and RGB, with or without alpha",
    ),
    "JPEG": (("uint8",), (1, 3), 65500, "8-bit grey and RGB without alpha, up to 65500 pixels a side"),
    "WebP": (("uint8",), (1, 2, 3, 4), 16383, "8-bit pictures of up to 16383 pixels a side"),
    "BMP": (("uint8",), (1, 3), 2**31 - 1, "8-bit grey and RGB without alpha"),
}


def read(path: Path, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode a picture file.

    Parameters
    ----------
    path : Path
        The file to read. Its format is recognized by its content, not by its name.
    max_pixels : int
        The most pixels that a picture may have; a larger one is refused before it is decoded.

    Returns
    -------
    Picture
        The decoded picture. Palette images become RGB (RGBA if they have transparency), and 1-bit images
        become 8-bit grey.

    Raises
    ------
    FileError
        If the file is missing, broken, too large or of an unsupported kind.
    """
    kind = "picture"
    try:
        with path.open("rb") as file:
            kind = _recognize(file.read(16))
        return _READERS[kind](path, max_pixels)
    except ImportError:
        raise  # a missing library is not an error in the file
    except Unfit as error:
        raise FileError(f"{path}: {error}") from error
    except MemoryError as error:
        raise FileError(f"{path}: not enough memory to decode it") from error
    except Exception as error:  # decoders raise all kinds of exceptions for broken files
        if isinstance(error, OSError) and error.errno is not None:
            raise FileError(f"{path}: {error.strerror}") from error
        raise FileError(f"{path}: broken {kind} file: {_one_line(error)}") from error


def write(picture: Picture, path: Path, *, quality: int | None = None) -> None:
    """Encode a picture into a file; a failure leaves no incomplete file behind.

    Parameters
    ----------
    picture : Picture
        The picture to write. The settings of its source file (`Picture.keep`) are used if the format is
        the same.
    path : Path
        The file to write; its suffix determines the format.
    quality : int, optional
        1 to 100, for JPEG and lossy WebP. By default a picture from a JPEG file keeps its quantization
        tables, and others are written with 95; WebP is lossless unless the picture came from a lossy file.

    Raises
    ------
    FileError
        If the format cannot hold the picture or the file cannot be written.
    """
    kind = format_of(path)
    try:
        _check_fits(picture, kind)
        with replacing(path) as temporary:
            _WRITERS[kind](picture, temporary, quality)
    except ImportError:
        raise
    except Unfit as error:
        raise FileError(f"{path}: {error}") from error
    except Exception as error:  # encoders also raise all kinds of exceptions
        reason = error.strerror if isinstance(error, OSError) else None
        raise FileError(f"{path}: cannot write it: {reason or _one_line(error)}") from error


def format_of(path: Path) -> str:
    """Return the format that the suffix of a file name stands for."""
    try:
        return _SUFFIXES[path.suffix.lower()]
    except KeyError:
        raise FileError(f"{path}: the name must end in one of {' '.join(_SUFFIXES)}") from None


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which replaces `path` on success and is removed on failure."""
    target = Path(os.path.realpath(path))  # follow a symbolic link instead of replacing it
    temporary = target.with_name(f".histeq-{secrets.token_hex(8)}{target.suffix}")
    try:
        # Create the file here, exclusively, so that the encoder cannot overwrite an existing file.
        temporary.open("xb").close()
        yield temporary
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _recognize(magic: bytes) -> str:
    """Return the format of a file, recognized by its first bytes."""
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
    if not magic:
        raise Unfit("the file is empty")
    raise Unfit("not a picture of a known format (PNG, JPEG, WebP, BMP, TIFF), or broken at its start")


def _check_fits(picture: Picture, kind: str) -> None:
    """Raise `Unfit` if a format cannot hold the picture."""
    if kind not in _LIMITS:
        return
    dtypes, channels, side, holds = _LIMITS[kind]
    pages, height, width, depth = picture.batch.shape
    if pages > 1:
        raise Unfit(f"{kind} holds one picture a file, and there are {pages} pages; write TIFF")
    fits = str(picture.pixels.dtype) in dtypes and depth in channels and max(height, width) <= side
    if not fits or (depth in (2, 4)) != picture.alpha:
        what = f"{width} x {height} {picture.pixels.dtype}, {depth} channel{'s' if depth > 1 else ''}"
        alpha = " with alpha" if picture.alpha else ""
        raise Unfit(f"{kind} holds {holds}, not this picture ({what}{alpha})")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
