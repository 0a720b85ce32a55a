"""Image files: opened as sources of blocks, created as sinks of blocks, with the metadata that stays true.

PNG is handled by imagecodecs, because Pillow silently reduces 16-bit colour to 8 bits, and so are JPEG 2000,
JPEG XL and AVIF; JPEG, WebP, BMP and GIF are handled by Pillow, TIFF by tifffile, Zarr by zarr, DICOM by
pydicom, NPY by NumPy. Each library is imported only when a file first needs it.
"""

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from histeq._files import (
    coded,
    dicom,
    foreign,
    gdal,
    metadata,
    npy,
    pam,
    sidecars,
    tiff,
    urls,
    zarr,
    zarr_place,
)
from histeq._files.blocks import Damage, Header, Options, Sink, Source, Window
from histeq._files.errors import File, name_of, reading, writing
from histeq._files.formats import (
    ENCODERS,
    IN_BLOCKS,
    OPENERS,
    SUFFIXES,
    check_fits,
    format_of,
    is_known,
    recognize,
)
from histeq._files.naming import check_absent, check_target, replacing, seen
from histeq._files.picture import FileError, Picture, Unfit
from histeq._files.streams import can, opened_to_write, poured, seekable
from histeq._files.whole import WholeSink
from histeq._files.zarr_place import Shared, placed

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "File",
    "FileError",
    "Header",
    "Options",
    "Picture",
    "Shared",
    "Sink",
    "Source",
    "WholeSink",
    "Window",
    "check",
    "check_absent",
    "created",
    "format_of",
    "is_known",
    "is_store",
    "name_of",
    "opened",
    "read",
    "reading",
    "replacing",
    "seekable",
    "seen",
    "write",
    "writing",
]

FORMATS = tuple(dict.fromkeys(SUFFIXES.values()))
MAX_PIXELS = 2**30


@contextlib.contextmanager
def opened(
    file: File,
    *,
    max_pixels: int = MAX_PIXELS,
    layout: str | None = None,
    memory: int | None = None,
    lenient: bool = False,
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
    lenient : bool
        Whether what can be decoded of a damaged file is kept. The source's `damage` says what is lost.

    Raises
    ------
    FileError
        If the file is missing, broken, too large or of an unsupported kind.
    """
    with contextlib.ExitStack() as stack:
        with reading(file):
            source = _open(file, max_pixels, layout, memory, Damage(lenient), stack)
            stack.callback(source.close)
            if source.mask is None:
                source.mask = _mask_beside(file, source.header, max_pixels, memory, stack)
            pam.known_beside(file, source)
            source.header = metadata.found(source.header)
            if source.mask is not None:
                source.header = replace(source.header, nodata=None)
        yield source


def _mask_beside(
    file: File, header: Header, max_pixels: int, memory: int | None, stack: contextlib.ExitStack
) -> Source | None:
    """Return the mask in a file beside an image, as GDAL writes it; None: there is none."""
    if not isinstance(file, str | os.PathLike):
        return None
    path = Path(f"{os.fspath(file)}.msk")
    if not path.is_file():
        return None
    mask = stack.enter_context(opened(path, max_pixels=max_pixels, memory=memory))
    if mask.header.size != header.size or mask.header.pages != 1:
        size, found = (f"{each.width} x {each.height}" for each in (header, mask.header))
        pages = f"{mask.header.pages} page{'s' if mask.header.pages > 1 else ''}"
        raise FileError(f"{path}: the mask of a picture of {size} pixels has {found} and {pages}")
    return mask


def _open(
    file: File,
    max_pixels: int,
    layout: str | None,
    memory: int | None,
    damage: Damage,
    stack: contextlib.ExitStack,
) -> Source:
    file = urls.local(file)
    if urls.address(file) is not None:
        return zarr.open(file, max_pixels, layout, damage)
    virtual = gdal.address(file)
    if virtual is not None:
        return gdal.GdalSource(virtual, max_pixels, damage)
    file = seekable(file, stack)
    if isinstance(file, str | os.PathLike) and not Path(file).is_dir():
        if not stat.S_ISREG(Path(file).stat().st_mode):  # opening a pipe might wait for ever
            raise Unfit("a device or a pipe, no file")
        data: BinaryIO = stack.enter_context(Path(file).open("rb"))  # noqa: SIM115
    elif hasattr(file, "read"):
        data = file
        data.seek(0)  # it may have been read before: files that are counted together are opened again
    else:
        return zarr.open(file, max_pixels, layout, damage)
    try:
        kind = recognize(data.read(foreign.SIZE))
    except Unfit as unknown:
        if not isinstance(file, str | os.PathLike) or Path(file).suffix.lower() in SUFFIXES:
            raise
        if not gdal.available():
            raise Unfit(f"{unknown}; GDAL's formats are read with rasterio: histeq[geo]") from None
        try:
            return gdal.GdalSource(os.fspath(file), max_pixels, damage)
        except gdal.Unreadable:
            raise unknown from None
    data.seek(0)
    with reading(file, kind):
        if kind == "Zarr":
            if not isinstance(file, str | os.PathLike):
                raise Unfit("a Zarr store in a ZIP file is read by its name only")
            return zarr.open(file, max_pixels, layout, damage)
        if kind == "NPY":
            return npy.open(data, max_pixels, layout, damage)
        if layout is not None:
            raise Unfit(f"a layout is for arrays in Zarr and NPY, and this is {kind}")
        if memory is not None and kind not in IN_BLOCKS:
            size = data.seek(0, os.SEEK_END)
            data.seek(0)
            if size > memory:
                raise Unfit(
                    f"{kind} cannot be read in blocks: the file has {size / 2**20:.0f} MiB, and --memory "
                    f"allows {memory / 2**20:.0f} MiB"
                )
        return OPENERS[kind](data, max_pixels, damage)


@contextlib.contextmanager
def created(
    file: File,
    header: Header,
    options: Options,
    *,
    format: str | None = None,
    blocks: tuple[int, int] | None = None,
    source: File = None,
    shared: Shared | None = None,
) -> Iterator[Sink]:
    """Create an image file; a context that puts it in its place when the sink was finished.

    A failure leaves neither an incomplete file behind nor a file changed that was there before. Only what is
    `shared` stays, and can be gone on with.

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
    source : path, optional
        The file that the image comes from: what belongs to it may lie beside it.
    shared : Shared, optional
        How the store is begun where several processes write it; the sink has a journal then.

    Raises
    ------
    FileError
        If the format cannot hold the image, or with `Options.strict` all that belongs to it, or the file
        cannot be written.
    """
    kind, header, notes, beside = _held(file, header, options, format, source)
    with contextlib.ExitStack() as stack:
        with writing(file):
            if isinstance(file, str | os.PathLike) and kind == "Zarr" and Path(file).suffix.lower() != ".zip":
                place = stack.enter_context(placed(file, overwrite=options.overwrite, shared=shared))
                again = {"again": place.again, "journal": place.journal}
                sink: Sink = _zarr_sink(place.target, header, options, blocks, stack, **again)
            else:
                target = file
                if isinstance(file, str | os.PathLike):
                    target = stack.enter_context(replacing(Path(file), overwrite=options.overwrite))
                sink = _sink(target, kind, header, options, blocks, stack)
            sink.notes[:0] = notes
            _check_strict(options, sink.notes)
        yield sink
        with writing(file):
            stack.close()  # puts it in its place
            beside.copy()


def _held(
    file: File, header: Header, options: Options, format: str | None, source: File
) -> tuple[str, Header, list[str], sidecars.Beside]:
    """Return the format, the header without what it does not hold, that in words, and what lies beside."""
    with writing(file):
        kind = _format_for(file, header, format)
        held, lost = metadata.carried(header, kind, options.overviews)
        beside = sidecars.beside(source, file)
        notes = [*(f"{name} not carried" for name in lost), *beside.notes]
        _check_strict(options, notes)
        return kind, held, notes, beside


def _check_strict(options: Options, notes: Sequence[str]) -> None:
    """Raise `Unfit` if something is not carried that must be."""
    if options.strict and notes:
        raise Unfit(f"strict, and {'; '.join(notes)}")


def check(
    file: File,
    header: Header,
    options: Options,
    *,
    format: str | None = None,
    blocks: tuple[int, int] | None = None,
    source: File = None,
) -> tuple[bool, Sequence[str]]:
    """Check what `created` would, and write nothing. Parameters and errors are those of `created`.

    Returns
    -------
    bool
        Whether the format is written by blocks.
    sequence of str
        What would not be carried, as far as it is known.
    """
    kind, header, notes, _ = _held(file, header, options, format, source)
    with writing(file):
        if isinstance(file, str | os.PathLike) and urls.address(file) is None:
            check_target(Path(file), overwrite=options.overwrite)
        if kind == "TIFF":
            notes += tiff.check(header, options)
        if kind == "Zarr":
            notes += zarr.check(header, options, blocks)
        _check_strict(options, notes)
    return kind in IN_BLOCKS, notes


def _format_for(file: File, header: Header, asked: str | None) -> str:
    """Return the format that a file is to have; raise `Unfit` if it cannot hold the image."""
    is_path = isinstance(file, str | os.PathLike)
    kind = asked
    if gdal.address(file) is not None and urls.address(file) is None:
        raise Unfit("GDAL's virtual file systems are read here, and not written to")
    if kind is None:
        kind = format_of(Path(file)) if is_path else header.format if hasattr(file, "write") else "Zarr"
    if kind == "Zarr" and hasattr(file, "write"):
        raise Unfit("Zarr is written into a folder or a ZIP file with a name")
    check_fits(header, kind)
    return kind


def _sink(
    target: File,
    kind: str,
    header: Header,
    options: Options,
    blocks: tuple[int, int] | None,
    stack: contextlib.ExitStack,
) -> Sink:
    if kind == "Zarr":
        return _zarr_sink(target, header, options, blocks, stack)
    data: BinaryIO = target
    if isinstance(target, Path):
        data = stack.enter_context(opened_to_write(target))
    elif not (can(target, "seek") and can(target, "read")):
        data = stack.enter_context(poured(target))
    if kind in ENCODERS:
        whole = WholeSink(header, data, ENCODERS[kind], options.quality)
        if kind == "AVIF":
            whole.notes += [f"{name} not carried" for name in coded.not_carried(header, options.quality)]
        return whole
    return {"TIFF": tiff, "NPY": npy, "DICOM": dicom}[kind].create(data, header, options)


def _zarr_sink(
    target: File,
    header: Header,
    options: Options,
    blocks: tuple[int, int] | None,
    stack: contextlib.ExitStack,
    **again: Any,
) -> Sink:
    sink = zarr.create(target, header, options, blocks=blocks, **again)
    stack.callback(sink.close)
    return sink


def read(path: File, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode an image file as a whole.

    Palette images become RGB (RGBA if they have transparency), and 1-bit images become 8-bit grey. Parameters
    and errors are those of `opened`.
    """
    with opened(path, max_pixels=max_pixels) as source, reading(path, source.header.format):
        header = source.header
        every = [Window(page, 0, 0, header.height, header.width) for page in range(header.pages)]
        pages = [source.read(window) for window in every]
        pixels = np.stack(pages) if "N" in header.layout else pages[0]
        picture, mask = Picture.of(header, pixels), source.mask
        if mask is None:
            return picture
        valid = np.stack([mask.read(window) != 0 for window in every[: mask.header.pages]])
        return replace(picture, valid=valid if len(valid) > 1 else valid[0])


def write(picture: Picture, path: File, *, quality: int | None = None) -> None:
    """Encode a picture into a file. Parameters and errors are those of `created` and `Options`."""
    header = picture.header
    options = Options(quality=quality, overviews=False, overwrite=True)
    with created(path, header, options) as sink, writing(path):
        for page in range(header.pages):
            pixels = picture.pixels[page] if "N" in picture.layout else picture.pixels
            sink.levels[0].write(Window(page, 0, 0, header.height, header.width), pixels)
        sink.finish()


def is_store(path: Path) -> bool:
    """Tell whether a folder is, or is to be, one image."""
    return path.suffix.lower() == ".zarr" or zarr_place.is_store(path)
