"""Image files: opened as sources of blocks, created as sinks of blocks, with the metadata that stays true.

PNG is handled by imagecodecs, because Pillow silently reduces 16-bit colour to 8 bits; JPEG, WebP and BMP
are handled by Pillow, TIFF by tifffile, Zarr by zarr, NPY by NumPy. Each library is imported only when a file
first needs it.
"""

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from histeq._files import npy, pillow, png, tiff, zarr
from histeq._files.blocks import Header, Options, Sink, Source, Window
from histeq._files.picture import FileError, Picture, Unfit
from histeq._files.whole import WholeSink

__all__ = [
    "MAX_PIXELS",
    "File",
    "FileError",
    "Header",
    "Options",
    "Picture",
    "Sink",
    "Source",
    "WholeSink",
    "Window",
    "check_absent",
    "created",
    "format_of",
    "name_of",
    "opened",
    "read",
    "reading",
    "replacing",
    "write",
    "writing",
]

MAX_PIXELS = 2**30

File = Any
"""A path, an open binary file, or an array or group of zarr's."""

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
    ".zarr": "Zarr",
    ".zip": "Zarr",
    ".npy": "NPY",
}
_OPENERS: dict[str, Callable[[BinaryIO, int], Source]] = {
    "PNG": png.open,
    "JPEG": pillow.open_jpeg,
    "WebP": pillow.open_webp,
    "BMP": pillow.open_bmp,
    "TIFF": tiff.open,
}
_ENCODERS: dict[str, Callable[[Picture, BinaryIO, int | None], None]] = {
    "PNG": png.write,
    "JPEG": pillow.write_jpeg,
    "WebP": pillow.write_webp,
    "BMP": pillow.write_bmp,
}
# What each format can hold: dtypes, numbers of channels, the longest side, and a description of these for
# error messages. TIFF, Zarr and NPY have no entry, since they can hold every picture.
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


@contextlib.contextmanager
def opened(
    file: File, *, max_pixels: int = MAX_PIXELS, layout: str | None = None, memory: int | None = None
) -> Iterator[Source]:
    """Open an image file; a context that closes it.

    Parameters
    ----------
    file : path, binary file, or array or group of zarr's
        The file to read. Its format is recognized by its content, not by its name.
    max_pixels : int
        The most pixels that an image may have; a larger one is refused before it is decoded.
    layout : str, optional
        One letter for each axis of an array in Zarr or NPY. By default its metadata or its shape tells.
    memory : int, optional
        The most bytes that a file may have whose format is read as a whole.

    Raises
    ------
    FileError
        If the file is missing, broken, too large or of an unsupported kind.
    """
    with contextlib.ExitStack() as stack:
        with reading(file):
            source = _open(file, max_pixels, layout, memory, stack)
            stack.callback(source.close)
        yield source


def _open(
    file: File, max_pixels: int, layout: str | None, memory: int | None, stack: contextlib.ExitStack
) -> Source:
    is_path = isinstance(file, str | os.PathLike)
    if is_path and not Path(file).is_dir():
        if not stat.S_ISREG(Path(file).stat().st_mode):  # opening a pipe might wait for ever
            raise Unfit("a device or a pipe, no file")
        data: BinaryIO = stack.enter_context(Path(file).open("rb"))  # noqa: SIM115
    elif hasattr(file, "read"):
        data = file
        data.seek(0)  # it may have been read before: files that are counted together are opened again
    else:
        return zarr.open(file, max_pixels, layout)
    kind = _recognize(data.read(16))
    data.seek(0)
    with reading(file, kind):
        if kind == "Zarr":
            return zarr.open(file, max_pixels, layout)
        if kind == "NPY":
            return npy.open(data, max_pixels, layout)
        if layout is not None:
            raise Unfit(f"a layout is for arrays in Zarr and NPY, and this is {kind}")
        if memory is not None and kind in _ENCODERS:
            size = data.seek(0, os.SEEK_END)
            data.seek(0)
            if size > memory:
                raise Unfit(
                    f"{kind} cannot be read in blocks: the file has {size / 2**20:.0f} MiB, and --memory "
                    f"allows {memory / 2**20:.0f} MiB"
                )
        return _OPENERS[kind](data, max_pixels)


@contextlib.contextmanager
def reading(file: File, kind: str = "picture") -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into a `FileError` that names it."""
    name = name_of(file)
    try:
        yield
    except (ImportError, FileError):
        raise  # a missing library is not an error in the file
    except Unfit as error:
        raise FileError(f"{name}: {error}") from error
    except MemoryError as error:
        raise FileError(f"{name}: not enough memory to decode it") from error
    except Exception as error:  # decoders raise all kinds of exceptions for broken files
        if isinstance(error, OSError) and error.errno is not None:
            raise FileError(f"{name}: {error.strerror}") from error
        raise FileError(f"{name}: broken {kind} file: {_one_line(error)}") from error


@contextlib.contextmanager
def created(
    file: File,
    header: Header,
    options: Options,
    *,
    format: str | None = None,
    blocks: tuple[int, int] | None = None,
) -> Iterator[Sink]:
    """Create an image file; a context that puts it in its place when the sink was finished.

    A failure leaves neither an incomplete file behind nor a file changed that was there before.

    Parameters
    ----------
    file : path, binary file, or array or group of zarr's
        The file to write.
    header : Header
        Of the image: its format and all that it says to keep are those of the source, its dtype is that of
        the pixels to be written.
    options : Options
        How to write it.
    format : str, optional
        The format; by default the one that the path's suffix stands for, or the source's.
    blocks : tuple of two int, optional
        The rows and columns of the source's blocks: those of a new store are multiples of them.

    Raises
    ------
    FileError
        If the format cannot hold the image or the file cannot be written.
    """
    with writing(file):
        kind = format or _format_for(file, header)
        _check_fits(header, kind)
    with contextlib.ExitStack() as stack:
        with writing(file):
            target = file
            if isinstance(file, str | os.PathLike):
                replace = zarr.replacing if kind == "Zarr" else replacing
                target = stack.enter_context(replace(Path(file)))
            sink = _sink(target, kind, header, options, blocks, stack)
        yield sink
        with writing(file):
            stack.close()  # puts it in its place


def _format_for(file: File, header: Header) -> str:
    if isinstance(file, str | os.PathLike):
        return format_of(Path(file))
    return header.format if hasattr(file, "write") else "Zarr"


def _sink(
    target: File,
    kind: str,
    header: Header,
    options: Options,
    blocks: tuple[int, int] | None,
    stack: contextlib.ExitStack,
) -> Sink:
    if kind == "Zarr":
        sink = zarr.create(target, header, options, blocks=blocks)
        stack.callback(sink.close)
        return sink
    data: BinaryIO = target
    if isinstance(target, Path):
        data = stack.enter_context(_open_to_write(target))
    if kind in _ENCODERS:
        return WholeSink(header, data, _ENCODERS[kind], options.quality)
    return (tiff if kind == "TIFF" else npy).create(data, header, options)


@contextlib.contextmanager
def _open_to_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file that is there. When something has failed, failing to close it is no news."""
    file = path.open("r+b")
    try:
        yield file
    except BaseException:
        with contextlib.suppress(OSError):
            file.close()
        raise
    file.close()


@contextlib.contextmanager
def writing(file: File) -> Iterator[None]:
    """Turn whatever goes wrong while a file is written into a `FileError` that names it."""
    name = name_of(file)
    try:
        yield
    except (ImportError, FileError):
        raise
    except Unfit as error:
        raise FileError(f"{name}: {error}") from error
    except MemoryError as error:
        raise FileError(f"{name}: not enough memory to encode it") from error
    except Exception as error:  # encoders also raise all kinds of exceptions
        reason = error.strerror if isinstance(error, OSError) else None
        raise FileError(f"{name}: cannot write it: {reason or _one_line(error)}") from error


def read(path: File, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode an image file as a whole.

    Palette images become RGB (RGBA if they have transparency), and 1-bit images become 8-bit grey. Parameters
    and errors are those of `opened`.
    """
    with opened(path, max_pixels=max_pixels) as source, reading(path, source.header.format):
        header = source.header
        every = [Window(page, 0, 0, header.height, header.width) for page in range(header.pages)]
        pages = [source.read(window) for window in every]
        return Picture.of(header, np.stack(pages) if "N" in header.layout else pages[0])


def write(picture: Picture, path: File, *, quality: int | None = None) -> None:
    """Encode a picture into a file. Parameters and errors are those of `created` and `Options`."""
    header = picture.header
    with created(path, header, Options(quality=quality, overviews=False)) as sink, writing(path):
        for page in range(header.pages):
            pixels = picture.pixels[page] if "N" in picture.layout else picture.pixels
            sink.levels[0].write(Window(page, 0, 0, header.height, header.width), pixels)
        sink.finish()


def name_of(file: File) -> str:
    """Return what a file is called in errors."""
    if isinstance(file, str | os.PathLike):
        return str(file)
    name = getattr(file, "name", None)
    return str(name) if isinstance(name, str) and name else f"<{type(file).__name__}>"


def format_of(path: Path) -> str:
    """Return the format that the suffix of a file name stands for."""
    try:
        return _SUFFIXES[path.suffix.lower()]
    except KeyError:
        raise FileError(f"{path}: the name must end in one of {' '.join(_SUFFIXES)}") from None


def check_absent(path: Path) -> None:
    """Raise FileError if something has this name already, even a link to nothing."""
    if path.exists() or path.is_symlink():
        raise FileError(f"{path}: exists already; --overwrite replaces it")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which replaces `path` on success and is removed on failure."""
    target = Path(os.path.realpath(path))  # follow a symbolic link instead of replacing it
    if target.exists() and not target.is_file():
        raise Unfit("it exists already and is no file")
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
    if magic.startswith(b"\x93NUMPY"):
        return "NPY"
    if magic.startswith(b"PK\x03\x04"):
        return "Zarr"
    if not magic:
        raise Unfit("the file is empty")
    raise Unfit(
        "not a picture of a known format (PNG, JPEG, WebP, BMP, TIFF, NPY, Zarr), or broken at its start"
    )


def _check_fits(header: Header, kind: str) -> None:
    """Raise `Unfit` if a format cannot hold the image."""
    if kind not in _LIMITS:
        return
    dtypes, channels, side, holds = _LIMITS[kind]
    pages, height, width, depth = header.pages, header.height, header.width, header.channels
    if pages > 1:
        raise Unfit(f"{kind} holds one picture a file, and there are {pages} pages; write TIFF")
    fits = str(header.dtype) in dtypes and depth in channels and max(height, width) <= side
    if not fits or (depth in (2, 4)) != header.alpha:
        what = f"{width} x {height} {header.dtype}, {depth} channel{'s' if depth > 1 else ''}"
        alpha = " with alpha" if header.alpha else ""
        raise Unfit(f"{kind} holds {holds}, not this picture ({what}{alpha})")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
