"""Picture files: pixels with everything that a program must not lose on the way from file to file.

PNG goes through imagecodecs, because Pillow cuts 16-bit colour down to 8 bits without a word; JPEG,
WebP and BMP through Pillow; TIFF through tifffile. Each library is imported by the first file that
needs it.
"""

import contextlib
import dataclasses
import logging
import os
import re
import secrets
import shutil
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

MAX_PIXELS = 2**30
_MAX_PROFILE = 2**26  # bytes: an ICC profile beyond 64 MiB is a decompression bomb

FORMATS = {
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

ORIENTATION = 274
_TEXT_TAGS = (270, 271, 272, 305, 306, 315, 33432)  # description, maker, ..., copyright: EXIF has them too


class FileError(Exception):
    """A file that cannot be read or written. The message is one line that begins with the path."""


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """A decoded file."""

    pixels: NDArray[Any]
    """As stored, before any turn that the orientation asks for."""
    layout: str
    """"HW", "HWC", "NHW" or "NHWC"; N are the pages of a TIFF file."""
    format: str
    """PNG, JPEG, WebP, BMP or TIFF."""
    alpha: bool = False
    """Whether the last channel is alpha."""
    nodata: float | None = None
    """What GDAL's nodata tag says, where the dtype holds it."""
    icc: bytes | None = None
    exif: bytes | None = None
    """A bare TIFF block, without the "Exif" that JPEG puts in front."""
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    keep: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What only this format can hold: PNG chunks, JPEG tables, the TIFF tags of each page."""

    @property
    def batch(self) -> NDArray[Any]:
        """The pixels as (N, H, W, C), a view."""
        pixels = self.pixels if "N" in self.layout else self.pixels[None]
        return pixels if "C" in self.layout else pixels[..., None]

    @property
    def channels(self) -> int:
        """The number of channels, alpha included."""
        return self.batch.shape[-1]

    @property
    def orientation(self) -> int:
        """The EXIF orientation, 1 to 8; 1 is upright."""
        value = _exif(self.exif).get(ORIENTATION, 1)
        return value if value in range(1, 9) else 1


def read(path: Path, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode a file.

    Parameters
    ----------
    path : Path
        The file; its content says what format it has, not its name.
    max_pixels : int
        Refuse a file whose header announces more, before decoding it.

    Returns
    -------
    Picture
        Palettes become RGB (RGBA with transparency), 1-bit images 8-bit grey.

    Raises
    ------
    FileError
        If the file is missing, broken, too large or of a kind that cannot be handled.
    """
    kind = "picture"
    try:
        with path.open("rb") as file:
            kind, reader = _recognize(file.read(16))
        return reader(path, max_pixels)
    except ImportError:
        raise  # a missing library is no fault of the file's
    except _Unfit as error:
        raise FileError(f"{path}: {error}") from error
    except MemoryError as error:
        raise FileError(f"{path}: not enough memory to decode it") from error
    except Exception as error:  # decoders raise anything at all when a file is broken
        if isinstance(error, OSError) and error.errno is not None:
            raise FileError(f"{path}: {error.strerror}") from error
        raise FileError(f"{path}: broken {kind} file: {_one_line(error)}") from error


def write(picture: Picture, path: Path, *, quality: int | None = None) -> None:
    """Encode a picture into a file, whole or not at all.

    Parameters
    ----------
    picture : Picture
        What to write; what was carried along from its own format is used where the format is the same.
    path : Path
        The file; its suffix names the format.
    quality : int, optional
        1 to 100, for JPEG and lossy WebP. By default a JPEG file keeps its tables, others take 95; WebP
        is lossless unless it came from a lossy file.

    Raises
    ------
    FileError
        If the format cannot hold the picture or the file cannot be written.
    """
    try:
        kind = format_of(path)
        _check_fits(picture, kind)
        with replacing(path) as temporary:
            _WRITERS[kind](picture, temporary, quality)
    except (ImportError, FileError):
        raise
    except _Unfit as error:
        raise FileError(f"{path}: {error}") from error
    except Exception as error:  # encoders raise anything at all, too
        reason = error.strerror if isinstance(error, OSError) else None
        raise FileError(f"{path}: cannot write it: {reason or _one_line(error)}") from error


def format_of(path: Path) -> str:
    """Return the format that a file name asks for."""
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise FileError(f"{path}: the name must end in one of {' '.join(FORMATS)}") from None


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it there at the end, remove it if anything fails."""
    target = Path(os.path.realpath(path))  # writes through a link instead of replacing it
    temporary = target.with_name(f".histeq-{secrets.token_hex(8)}{target.suffix}")
    try:
        # Made here, and not by the encoder, so that nobody else's file of that name is ever touched.
        temporary.open("xb").close()
        yield temporary
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


class _Unfit(Exception):  # noqa: N818
    """A sound file that this package does not handle, or a picture that a format cannot hold."""


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _recognize(magic: bytes) -> tuple[str, Callable[[Path, int], Picture]]:
    """Return the format that the first bytes of a file show, and its reader."""
    if magic.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG", _read_png
    if magic.startswith(b"\xff\xd8\xff"):
        return "JPEG", _read_jpeg
    if magic[:4] == b"RIFF" and magic[8:12] == b"WEBP":
        return "WebP", _read_webp
    if magic.startswith(b"BM"):
        return "BMP", _read_bmp
    if magic[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF", _read_tiff
    if not magic:
        raise _Unfit("the file is empty")
    raise _Unfit("not a picture of a known format (PNG, JPEG, WebP, BMP, TIFF), or broken at its start")


def _check_size(pixels: int, limit: int) -> None:
    if pixels > limit:
        raise _Unfit(f"{pixels} pixels are more than --max-pixels {limit} allows")
    if pixels < 1:
        raise _Unfit("the picture has no pixels")


# What each format holds: dtypes, numbers of channels, whether alpha may be one of them, the longest side.
_LIMITS = {
    "PNG": (
        ("uint8", "uint16"),
        (1, 2, 3, 4),
        True,
        2**31 - 1,
        "8- and 16-bit grey and RGB, with or without alpha",
    ),
    "JPEG": (("uint8",), (1, 3), False, 65500, "8-bit grey and RGB without alpha, up to 65500 pixels a side"),
    "WebP": (("uint8",), (1, 2, 3, 4), True, 16383, "8-bit pictures of up to 16383 pixels a side"),
    "BMP": (("uint8",), (1, 3), False, 2**31 - 1, "8-bit grey and RGB without alpha"),
}


def _check_fits(picture: Picture, kind: str) -> None:
    """Refuse what a format cannot hold."""
    if kind == "TIFF":
        return
    dtypes, channels, alpha, side, holds = _LIMITS[kind]
    count, height, width, depth = picture.batch.shape
    if count > 1:
        raise _Unfit(f"{kind} holds one picture a file, and there are {count} pages; write TIFF")
    fits = str(picture.pixels.dtype) in dtypes and depth in channels and max(height, width) <= side
    if not fits or (picture.alpha and not alpha) or (depth in (2, 4) and not picture.alpha):
        what = f"{width} x {height} {picture.pixels.dtype}, {depth} channel{'s' if depth > 1 else ''}"
        raise _Unfit(
            f"{kind} holds {holds}, not this picture ({what}{' with alpha' if picture.alpha else ''})"
        )


def _still(picture: Picture) -> NDArray[Any]:
    """Return the pixels as C-ordered (H, W) or (H, W, C)."""
    pixels = picture.batch[0]
    return np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


# EXIF ---------------------------------------------------------------------------------------------


def _exif(block: bytes | None) -> Any:
    """Return the tags of an EXIF block; none if there is no block, or a broken one."""
    if block is None:
        return {}
    from PIL import Image

    exif = Image.Exif()
    with contextlib.suppress(Exception):  # a broken block is carried over all the same
        exif.load(b"Exif\0\0" + block)
    return exif


def _make_exif(tags: Mapping[int, Any]) -> bytes | None:
    if not tags:
        return None
    from PIL import Image

    exif = Image.Exif()
    exif.update(tags)
    return exif.tobytes().removeprefix(b"Exif\0\0")


# PNG ----------------------------------------------------------------------------------------------

# Chunks that stay true whatever the pixels become. Not sBIT, bKGD, hIST and tRNS (they speak of the old
# values), nor tIME (it has just changed).
_PNG_KEPT = frozenset(b"iCCP sRGB gAMA cHRM cICP mDCV cLLI eXIf pHYs oFFs sCAL pCAL tEXt zTXt iTXt".split())


def _read_png(path: Path, limit: int) -> Picture:
    import imagecodecs

    data = path.read_bytes()
    chunks = list(_png_chunks(data))
    names = {name for name, _, _ in chunks}
    width, height = struct.unpack_from(">II", data, 16)
    _check_size(width * height, limit)
    if b"acTL" in names:
        raise _Unfit("animated PNG files are not handled")
    pixels = imagecodecs.png_decode(data)
    kept = [(name, body) for name, body, intact in chunks if name in _PNG_KEPT and intact]
    first = dict(reversed(kept))
    return Picture(
        pixels,
        "HWC" if pixels.ndim == 3 else "HW",
        "PNG",
        alpha=pixels.ndim == 3 and pixels.shape[2] in (2, 4),
        icc=_png_profile(first.get(b"iCCP")),
        exif=first.get(b"eXIf"),
        dpi=_png_dpi(first.get(b"pHYs")),
        keep={"chunks": kept},
    )


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
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
        if not intact and name[:1].isupper():  # a critical chunk: libpng lets the last one of the pixels pass
            raise ValueError(f"the checksum of its {name.decode('latin1')} chunk is wrong")
        yield name, body if name in _PNG_KEPT else b"", intact
        position += 12 + size


def _png_profile(body: bytes | None) -> bytes | None:
    if body is None:
        return None
    _, _, rest = body.partition(b"\0")
    try:
        return zlib.decompressobj().decompress(rest[1:], _MAX_PROFILE)
    except zlib.error:
        return None


def _png_dpi(body: bytes | None) -> tuple[float, float] | None:
    if body is None or len(body) != 9 or body[8] != 1:
        return None
    x, y = struct.unpack_from(">II", body)
    return x * 0.0254, y * 0.0254


def _write_png(picture: Picture, path: Path, quality: int | None) -> None:
    import imagecodecs

    data = imagecodecs.png_encode(_still(picture))
    kept = picture.keep["chunks"] if picture.format == "PNG" else _new_png_chunks(picture)
    after_header = 33  # all kept chunks may stand there: before any palette, before the pixels
    with path.open("wb") as file:
        file.write(data[:after_header])
        for name, body in kept:
            file.write(struct.pack(">I4s", len(body), name) + body)
            file.write(struct.pack(">I", zlib.crc32(body, zlib.crc32(name))))
        file.write(data[after_header:])


def _new_png_chunks(picture: Picture) -> Iterator[tuple[bytes, bytes]]:
    if picture.icc:
        yield b"iCCP", b"ICC profile\0\0" + zlib.compress(picture.icc)
    if picture.exif:
        yield b"eXIf", picture.exif
    if picture.dpi:
        yield b"pHYs", struct.pack(">IIB", *(round(dpi / 0.0254) for dpi in picture.dpi), 1)


# JPEG, WebP, BMP ----------------------------------------------------------------------------------

# Pillow's readers are called by name and not through Image.open: that would answer a large picture with
# a warning, or an error of its own, whatever --max-pixels says.


def _read_jpeg(path: Path, limit: int) -> Picture:
    from PIL import JpegImagePlugin

    with JpegImagePlugin.JpegImageFile(path) as image:
        _check_size(image.width * image.height, limit)
        keep = {
            "qtables": image.quantization,
            "subsampling": JpegImagePlugin.get_sampling(image),
            "progressive": "progressive" in image.info,
            "comment": image.info.get("comment"),
        }
        return _from_pillow(image, "JPEG", keep)


def _read_webp(path: Path, limit: int) -> Picture:
    from PIL import WebPImagePlugin

    data = path.read_bytes()
    width, height, lossless = _webp_header(data)
    _check_size(width * height, limit)
    with WebPImagePlugin.WebPImageFile(BytesIO(data)) as image:
        return _from_pillow(image, "WebP", {"lossless": lossless})


def _webp_header(data: bytes) -> tuple[int, int, bool]:
    """Return (width, height, lossless): Pillow tells the first two only after allocating the canvas."""
    size, position, lossless = None, 12, False
    while position + 18 <= len(data):
        name, length = struct.unpack_from("<4sI", data, position)
        body = data[position + 8 : position + 18]
        if name == b"VP8X":
            if body[0] & 2:
                raise _Unfit("animated WebP files are not handled")
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


def _read_bmp(path: Path, limit: int) -> Picture:
    from PIL import BmpImagePlugin

    with BmpImagePlugin.BmpImageFile(path) as image:
        _check_size(image.width * image.height, limit)
        return _from_pillow(image, "BMP", {})


def _from_pillow(image: Any, kind: str, keep: Mapping[str, Any]) -> Picture:
    mode = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB", "RGBA": "RGBA"}.get(image.mode)
    if mode is None:
        raise _Unfit(f"{image.mode} pictures are not handled; convert it to grey or RGB")
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


def _write_jpeg(picture: Picture, path: Path, quality: int | None) -> None:
    options: dict[str, Any] = {"quality": quality or 95}
    if picture.format == "JPEG":
        options = {name: value for name, value in picture.keep.items() if value is not None}
        if quality is not None:
            del options["qtables"]
            options["quality"] = quality
    _save(picture, path, "JPEG", _still(picture), options)


def _write_webp(picture: Picture, path: Path, quality: int | None) -> None:
    lossy = picture.format == "JPEG" or picture.keep.get("lossless") is False
    # exact: keep the colour of transparent pixels.
    options = {"lossless": quality is None and not lossy, "quality": quality or 95, "exact": True}
    pixels = picture.batch[0]
    if picture.channels < 3:  # WebP has no grey
        pixels = np.concatenate([pixels[..., :1]] * 3 + [pixels[..., 1:]], axis=-1)
    _save(picture, path, "WEBP", np.ascontiguousarray(pixels), options)


def _write_bmp(picture: Picture, path: Path, quality: int | None) -> None:
    _save(picture, path, "BMP", _still(picture), {})


def _save(picture: Picture, path: Path, kind: str, pixels: NDArray[Any], options: dict[str, Any]) -> None:
    from PIL import Image

    carried = {"icc_profile": picture.icc, "xmp": picture.xmp, "dpi": picture.dpi}
    if picture.exif:
        carried["exif"] = b"Exif\0\0" + picture.exif
    options |= {name: value for name, value in carried.items() if value}
    Image.fromarray(pixels).save(path, kind, **options)


# TIFF ---------------------------------------------------------------------------------------------

_GREY_WHITE, _GREY_BLACK, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6  # photometric interpretations
_RAW, _JPEG, _DEFLATE = 1, 7, 8
_LOSSLESS = frozenset((_RAW, 5, _DEFLATE, 32773, 32946, 34925, 50000))  # 5 LZW ... 34925 LZMA, 50000 ZSTD
_GDAL_METADATA, _GDAL_NODATA, _ICC, _XMP = 42112, 42113, 34675, 700

# Tags that stay true whatever the pixels become: texts, page names, colour, XMP, IPTC, Photoshop, GeoTIFF,
# GDAL, RPC. tifffile writes the ones that describe the pixels.
_TIFF_KEPT = frozenset(
    (
        *(*_TEXT_TAGS, 269, ORIENTATION, 285, 286, 287, 297, 316, 318, 319, _XMP, 33723, 34377, _ICC),
        *(33550, 33920, 33922, 34264, 34735, 34736, 34737, _GDAL_METADATA, _GDAL_NODATA, 50844),
    )
)


def _read_tiff(path: Path, limit: int) -> Picture:
    import tifffile

    with _complaints() as complaints, tifffile.TiffFile(path) as file:
        file.pages.useframes = False  # frames know only part of their tags
        pages: list[Any] = [
            page for page in file.pages if not cast(Any, page).is_reduced
        ]  # overviews are stale
        if complaints:
            raise ValueError(complaints[0])
        _check_pages(pages, file, limit)
        stored = [_page_pixels(page) for page in pages]
        pixels = stored[0] if len(stored) == 1 else np.stack(stored)
        keep: dict[str, Any] = {
            "byteorder": file.byteorder,
            "bigtiff": file.is_bigtiff,
            "pages": [_page_settings(page) for page in pages],
            "invert": pages[0].photometric == _GREY_WHITE and pixels.dtype.kind in "ui",
        }
        tags = {tag.code: tag.value for tag in pages[0].tags}
    nodata = _nodata(tags.get(_GDAL_NODATA), pixels.dtype)
    inverted = keep["invert"] and nodata is not None
    extra = keep["pages"][0]["extrasamples"]
    shared = {code: tags[code] for code in (ORIENTATION, *_TEXT_TAGS) if code in keep["pages"][0]["tags"]}
    return Picture(
        pixels,
        ("N" if len(pages) > 1 else "") + ("HWC" if stored[0].ndim == 3 else "HW"),
        "TIFF",
        alpha=extra[-1:] in ([1], [2]),  # associated or not; 0 is a band of unknown meaning
        nodata=int(np.invert(pixels.dtype.type(nodata))) if inverted else nodata,
        icc=tags.get(_ICC),
        exif=_make_exif(shared),
        xmp=tags.get(_XMP) if isinstance(tags.get(_XMP), bytes) else None,
        dpi=_tiff_dpi(pages[0]),
        keep=keep,
    )


@contextlib.contextmanager
def _complaints() -> Iterator[list[str]]:
    """Collect what tifffile logs as an error in this thread: it reads on, without the broken part."""
    found: list[str] = []
    thread = threading.get_ident()

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread:
                found.append(record.getMessage())

    handler = Collect(logging.ERROR)
    logger = logging.getLogger("tifffile")
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


def _check_pages(pages: list[Any], file: Any, limit: int) -> None:
    """Refuse what is not a sound stack of pictures of one shape, before anything is decoded."""
    if not pages:
        raise ValueError("it has no pages")
    first = pages[0]
    for page in pages:
        if page.is_mask:
            raise _Unfit("TIFF files with an internal mask are not handled; make it a nodata value or alpha")
        if (page.shape, page.dtype) != (first.shape, first.dtype):
            raise _Unfit("TIFF files whose pages differ in size or type are not handled; split it")
    kind = int(first.photometric)
    if kind not in (_GREY_WHITE, _GREY_BLACK, _RGB, _PALETTE) and (kind, int(first.compression)) != (
        _YCBCR,
        _JPEG,
    ):
        raise _Unfit(
            f"{getattr(first.photometric, 'name', kind)} pictures are not handled; convert it to grey or RGB"
        )
    few = first.samplesperpixel < 3 and kind in (_RGB, _YCBCR)
    if first.dtype is None or few or first.axes not in ("YX", "YXS", "SYX"):
        raise _Unfit("TIFF files with this kind of pixels are not handled")
    # Beyond four channels, each four more count as a picture: their number comes from the header as well.
    _check_size(
        sum(page.imagelength * page.imagewidth * -(-page.samplesperpixel // 4) for page in pages), limit
    )
    if file.series and sum(series.size for series in file.series) > sum(page.size for page in file.pages):
        raise _Unfit("TIFF stacks with a single directory (ImageJ's above 4 GB) are not handled")
    for page in pages:
        for start, size in zip(page.dataoffsets, page.databytecounts, strict=False):
            if start + size > file.filehandle.size:
                raise EOFError("the file is truncated")


def _page_pixels(page: Any) -> NDArray[Any]:
    """Decode a page: (H, W), or (H, W, C) even where the file holds plane after plane."""
    pixels: NDArray[Any] = page.asarray()
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if page.photometric == _PALETTE:
        colours = page.colormap
        # 16 bits by the standard; some writers leave the upper 8 empty.
        return np.moveaxis(
            (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)[:, pixels], 0, -1
        )
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    elif page.bitspersample in (2, 4) and page.axes == "YX":
        pixels = pixels * np.uint8(255 // (2**page.bitspersample - 1))
    if page.photometric == _GREY_WHITE and pixels.dtype.kind in "ui":
        pixels = np.invert(pixels)
    return np.moveaxis(pixels, 0, -1) if page.axes == "SYX" else pixels


def _page_settings(page: Any) -> dict[str, Any]:
    """Return what must be said to write a page as it was."""
    tags = {tag.code: tag.astuple() for tag in page.tags if tag.code in _TIFF_KEPT}
    if page.is_shaped:  # tifffile's own note of the array's shape
        tags.pop(270, None)
    if _GDAL_METADATA in tags:
        tags[_GDAL_METADATA] = _without_statistics(tags[_GDAL_METADATA])
    resolution = [page.tags[code].value for code in (282, 283) if code in page.tags]
    return {
        "photometric": int(page.photometric),
        "compression": int(page.compression),
        "predictor": page.predictor != 1,
        "planar": page.axes == "SYX",
        "extrasamples": [int(kind) if kind in (1, 2) else 0 for kind in page.extrasamples],
        "tile": page.tile if page.is_tiled and all(side % 16 == 0 for side in page.tile) else None,
        "rowsperstrip": None if page.is_tiled else min(page.rowsperstrip, page.imagelength),
        "resolution": resolution if len(resolution) == 2 else None,
        "resolutionunit": unit if (unit := int(page.tags.valueof(296, 2))) in (1, 2, 3) else 1,
        "subfiletype": int(page.subfiletype),
        "tags": tags,
    }


def _without_statistics(tag: tuple[Any, ...]) -> tuple[Any, ...]:
    """Take the minimum, maximum and mean that GDAL noted out of its tag: GDAL would believe them."""
    text = tag[3] if isinstance(tag[3], bytes) else str(tag[3]).encode()
    text = re.sub(rb'\s*<Item name="STATISTICS_[^>]*>.*?</Item>', b"", text, flags=re.DOTALL)
    return (tag[0], 2, len(text), text, True)


def _nodata(text: Any, dtype: np.dtype[Any]) -> float | None:
    """Return the value of GDAL's tag; None, as GDAL has it, where the dtype cannot hold it."""
    try:
        value = float(str(text).strip("\0 ").replace(",", "."))
    except ValueError:
        return None
    if dtype.kind == "f":
        return value
    limits = np.iinfo(dtype) if dtype.kind in "ui" else None
    return int(value) if limits and value.is_integer() and limits.min <= value <= limits.max else None


def _tiff_dpi(page: Any) -> tuple[float, float] | None:
    unit = {2: 1.0, 3: 2.54}.get(int(page.tags.valueof(296, 2)))
    if unit is None or 282 not in page.tags or 283 not in page.tags:
        return None
    (x, xd), (y, yd) = page.tags[282].value, page.tags[283].value
    return (x / xd * unit, y / yd * unit) if x and xd and y and yd else None


def _write_tiff(picture: Picture, path: Path, quality: int | None) -> None:
    import tifffile

    keep = picture.keep if picture.format == "TIFF" else {}
    pixels = picture.pixels if "N" in picture.layout else picture.pixels[None]
    # Classic TIFF ends at 4 GiB; the allowance is for tags, and for data that compression makes larger.
    big = keep.get("bigtiff", False) or pixels.nbytes * 1.01 > 2**32 - 2**25
    with tifffile.TiffWriter(path, bigtiff=big, byteorder=keep.get("byteorder")) as file:
        for index, plane in enumerate(pixels):
            settings = keep["pages"][index] if keep else _new_page_settings(picture)
            options = _page_options(settings, plane)
            page = np.invert(plane) if keep.get("invert") else plane
            page = np.moveaxis(page, -1, 0) if settings.get("planar") else page
            file.write(np.ascontiguousarray(page), metadata=None, software=False, **options)


def _new_page_settings(picture: Picture) -> dict[str, Any]:
    """Return how to write a picture that comes from another format."""
    tags: dict[int, tuple[Any, ...]] = {}
    exif = _exif(picture.exif)
    for code in _TEXT_TAGS:
        if isinstance(exif.get(code), str):
            text = exif[code].encode() + b"\0"
            tags[code] = (code, 2, len(text), text, True)
    if ORIENTATION in exif:
        tags[ORIENTATION] = (ORIENTATION, 3, 1, picture.orientation, True)
    for code, kind, data in ((_ICC, 7, picture.icc), (_XMP, 1, picture.xmp)):
        if data:
            tags[code] = (code, kind, len(data), data, True)
    return {
        "photometric": _RGB if picture.channels >= 3 else _GREY_BLACK,
        "compression": _DEFLATE,
        "predictor": True,
        "extrasamples": [2] if picture.alpha else [],  # 2: alpha that the colours were not multiplied with
        "resolution": picture.dpi,
        "resolutionunit": 2,
        "tags": tags,
    }


def _page_options(settings: dict[str, Any], page: NDArray[Any]) -> dict[str, Any]:
    """Return the arguments of tifffile's write for a page."""
    compression, photometric = settings["compression"], settings["photometric"]
    options: dict[str, Any] = {"extratags": list(settings["tags"].values())}
    if compression == _JPEG and page.dtype == np.uint8:
        options["compressionargs"] = {"level": 95}
    elif compression not in _LOSSLESS:
        compression, settings = _DEFLATE, settings | {"predictor": True}
    if compression not in (_RAW, _JPEG, 32773):
        options["predictor"] = settings["predictor"]
    if page.ndim == 3:
        options["planarconfig"] = 2 if settings.get("planar") else 1
        options["extrasamples"] = settings["extrasamples"] or None
    for name in ("tile", "rowsperstrip", "resolution", "subfiletype"):
        if settings.get(name):
            options[name] = settings[name]
    if "resolution" in options:
        options["resolutionunit"] = settings["resolutionunit"]
    options["photometric"] = photometric if photometric in (_GREY_WHITE, _GREY_BLACK) else _RGB
    options["compression"] = compression
    return options


_WRITERS: dict[str, Callable[[Picture, Path, int | None], None]] = {
    "PNG": _write_png,
    "JPEG": _write_jpeg,
    "WebP": _write_webp,
    "BMP": _write_bmp,
    "TIFF": _write_tiff,
}
