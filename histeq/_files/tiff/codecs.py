"""Compression and predictors of TIFF's blocks.

Every decoder writes into memory of a known size, and what has a size in a header of its own is held against
the block's before it is decoded.
"""

import contextlib
import functools
import random
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histeq._files import jpeg
from histeq._files.blocks import Damage
from histeq._files.picture import Unfit

RAW, LZW, JPEG, DEFLATE, OLD_DEFLATE, PACKBITS, LZMA, ZSTD = 1, 5, 7, 8, 32946, 32773, 34925, 50000
NAMES = {
    "none": RAW,
    "deflate": DEFLATE,
    "lzw": LZW,
    "zstd": ZSTD,
    "packbits": PACKBITS,
    "lzma": LZMA,
    "jpeg": JPEG,
}
"""What can be written."""
HORIZONTAL, FLOATING = 2, 3  # predictors

_CCITT = (2, 3, 4)
_ENDS = {2: 1, 3: 12, 4: 5}
"""Bytes at the end of a fax, at most: codes that say that it ends."""
_TAILS = tuple(random.Random(seed).randbytes(64) for seed in range(16))
_JPEGS = (6, JPEG, 33007, 34892)
_JPEG_2000 = (33003, 33004, 33005, 34712)
_WEBP = (34927, 50001)
_PICTURES = (*_WEBP, 34933, 50002, 52546, 22610, 34934, 34887)  # PNG, JPEG XL, JPEG XR, LERC


def _copy(data: Any, out: NDArray[np.uint8]) -> NDArray[np.uint8]:
    data = np.frombuffer(data, np.uint8)[: out.size]
    out[: data.size] = data
    return out[: data.size]


def _imagecodecs() -> Any:
    import imagecodecs  # only when a block needs it

    return imagecodecs


def _decoder(name: str) -> Callable[[Any, NDArray[np.uint8]], Any]:
    def decode(data: Any, out: NDArray[np.uint8]) -> Any:
        try:
            return getattr(_imagecodecs(), name)(data, out=out)
        except RuntimeError as error:
            raise ValueError(f"a block cannot be decoded, or holds too much: {error}") from error

    return decode


_deflate = _decoder("deflate_decode")
DECODERS: dict[int, Callable[[Any, NDArray[np.uint8]], Any]] = {
    RAW: _copy,
    LZW: _decoder("lzw_decode"),
    DEFLATE: _deflate,
    OLD_DEFLATE: _deflate,
    50013: _deflate,
    PACKBITS: _decoder("packbits_decode"),
    LZMA: _decoder("lzma_decode"),
    ZSTD: _decoder("zstd_decode"),
    34926: _decoder("zstd_decode"),
}
"""They fill the beginning of an array and return it: a longer block is an error or cut, never more memory."""


def by_tifffile(page: Any) -> Callable[..., NDArray[Any]]:
    """Return a decoder of what is less common: of data, a block's number and the sizes it may have.

    With `strict=False` it returns what it can of damaged data.
    """
    import tifffile

    compression = int(page.compression)
    known = (*DECODERS, *_CCITT, *_JPEGS, *_JPEG_2000, *_PICTURES)
    if compression not in known or compression not in tifffile.TIFF.DECOMPRESSORS:
        name = getattr(page.compression, "name", None) or f"number {compression}"
        raise Unfit(f"TIFF files with this compression are not handled: {name}")
    few = compression in (*_JPEGS, *_JPEG_2000, *_PICTURES) and page.bitspersample < 8
    if few or (compression in _CCITT and (page.bitspersample, page.samplesperpixel) != (1, 1)):
        raise ValueError(f"{page.bitspersample} bits do not go with its compression")
    if compression in _PICTURES:
        return _pictures(page, tifffile.TIFF.DECOMPRESSORS[compression])
    tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader} if compression in _JPEGS else {}
    decoder = page.decode

    def decode(data: Any, number: int, sizes: list[tuple[int, int]], strict: bool = True) -> NDArray[Any]:
        if compression in _JPEGS:
            _check_size(_jpeg_size(tables["jpegheader"] or bytes(data)), sizes[0])
            if strict:
                _check_jpeg(bytes(data), tables)
        elif compression in _CCITT and strict:
            _check_fax(data, lambda other: decoder(other, number)[0], _ENDS[compression])
        elif compression in _JPEG_2000:
            _check_size(_jpeg_2000_size(bytes(data)), sizes[0])
        pixels = decoder(data, number, **tables)[0]
        return pixels.reshape(pixels.shape[-3:])

    return decode


def _pictures(page: Any, decoder: Callable[..., Any]) -> Callable[..., NDArray[Any]]:
    """Return a decoder of blocks that are whole pictures; it raises ValueError if their size is another."""
    samples = page.samplesperpixel if page.axes == "YXS" else 1
    dtype = np.dtype(page.dtype)
    options = {"hasalpha": True} if page.compression in _WEBP and samples == 4 else {}

    def decode(data: Any, number: int, sizes: list[tuple[int, int]], strict: bool = True) -> NDArray[Any]:
        for size in dict.fromkeys(sizes):
            out = np.empty(size if samples == 1 else (*size, samples), dtype)
            try:
                return decoder(data, out=out, **options).reshape(*size, samples)
            except ValueError as error:  # before anything is decoded
                found = error
        raise ValueError(f"a block of {sizes[0][1]} x {sizes[0][0]} pixels holds others: {found}")

    return decode


def quality_of(data: bytes) -> int | None:
    """Return the quality, 1 to 100, whose tables come nearest to those of a JPEG picture."""
    from PIL import JpegImagePlugin

    wanted = np.array(JpegImagePlugin.JpegImageFile(BytesIO(data)).quantization[0], float)
    return min(_tables(), key=lambda each: float(np.abs(each[1] - wanted).sum()))[0]


@functools.cache
def _tables() -> tuple[tuple[int, NDArray[np.float64]], ...]:
    """Return the table that the library makes of each quality."""
    from PIL import Image, JpegImagePlugin

    tables = []
    for quality in range(1, 101):
        data = BytesIO()
        Image.new("L", (8, 8)).save(data, "JPEG", quality=quality)
        data.seek(0)
        tables.append((quality, np.array(JpegImagePlugin.JpegImageFile(data).quantization[0], float)))
    return tuple(tables)


def _check_jpeg(data: bytes, tables: dict[str, bytes | None]) -> None:
    if not data[-64:].rstrip(b"\0").endswith(b"\xff\xd9"):
        raise EOFError("a JPEG block is cut short")
    for name in ("jpegtables", "jpegheader"):
        first = tables[name]
        if first:  # ends with a marker of the end, as the block begins with one of the start
            data = first.removesuffix(b"\xff\xd9") + data.removeprefix(b"\xff\xd8")
    jpeg.check(data, Damage())


def _check_fax(data: Any, decode: Callable[[bytes], NDArray[Any]], end: int) -> None:
    """Raise unless the rows come from the data, and the data is read to its end.

    A decoder takes rows for white when the data ends, and when it meets a code that does not exist.
    """
    data = bytes(data)
    pixels = decode(data)
    for tail in _TAILS[:3]:
        if not np.array_equal(decode(data + tail), pixels):
            raise EOFError("the data of a block ends early")
    stop = len(data.rstrip(b"\0")) - end
    start = stop - 6
    with contextlib.suppress(RuntimeError):  # which is to read that far
        if start > 0 and all(
            np.array_equal(decode(data[:start] + tail[:6] + data[stop:]), pixels) for tail in _TAILS
        ):
            raise ValueError("a block has a code that does not exist")


def _check_size(size: tuple[int, int], most: tuple[int, int]) -> None:
    if size[0] > most[0] or size[1] > most[1]:
        raise ValueError(f"a block of {most[1]} x {most[0]} pixels holds {size[1]} x {size[0]}")


def _jpeg_2000_size(data: bytes) -> tuple[int, int]:
    """Return the largest height and width that a codestream within the data announces."""
    sizes = [data[start + 8 : start + 16] for start in _every(data, b"\xff\x4f\xff\x51")]
    if not sizes:
        raise ValueError("a JPEG 2000 block without a size")
    return max(int.from_bytes(size[4:]) for size in sizes), max(int.from_bytes(size[:4]) for size in sizes)


def _every(data: bytes, marker: bytes) -> list[int]:
    found, start = [], data.find(marker)
    while start >= 0:
        found.append(start)
        start = data.find(marker, start + 1)
    return found


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Return the height and width that the first frame header announces."""
    position = 0
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in (0xFF, 0x01, *range(0xD0, 0xD9)):  # filling, and markers without content
            position += 1 if marker == 0xFF else 2
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            size = data[position + 5 : position + 9]
            return int.from_bytes(size[:2]), int.from_bytes(size[2:])
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4])
    raise ValueError("a JPEG block without a size")


def name_of(compression: int) -> str:
    """Return what a compression is called."""
    import tifffile

    known = compression in set(tifffile.COMPRESSION)
    return tifffile.COMPRESSION(compression).name if known else f"number {compression}"


def encoder(
    compression: int, samples: int = 1, quality: int = 0, subsampling: tuple[int, int] = (2, 2)
) -> Callable[[NDArray[Any]], Any]:
    """Return a function that encodes blocks (rows, columns, samples); what follows `samples` is JPEG's."""
    library = _imagecodecs()
    if compression == RAW:
        return lambda pixels: pixels
    if compression in (DEFLATE, OLD_DEFLATE):
        return lambda pixels: library.deflate_encode(pixels, 6)
    if compression == PACKBITS:  # row by row, by the standard
        return lambda pixels: library.packbits_encode(pixels.reshape(len(pixels), -1), axis=-1)
    if compression == JPEG and samples == 1:
        return lambda pixels: library.jpeg_encode(pixels[..., 0], level=quality)
    if compression == JPEG:  # as the tags say that tifffile writes
        colours = {"colorspace": "RGB", "outcolorspace": "YCBCR", "subsampling": subsampling}
        return lambda pixels: library.jpeg_encode(pixels, level=quality, **colours)
    return {LZW: library.lzw_encode, ZSTD: library.zstd_encode, LZMA: library.lzma_encode}[compression]


def predict(pixels: NDArray[Any], predictor: int) -> NDArray[Any]:
    """Return the differences of neighbours in a row."""
    library = _imagecodecs()
    return (library.floatpred_encode if predictor == FLOATING else library.delta_encode)(pixels, axis=-2)


def unpredict(pixels: NDArray[Any], predictor: int) -> NDArray[Any]:
    """Return the pixels whose differences these are; their memory may be used."""
    library = _imagecodecs()
    decode = library.floatpred_decode if predictor == FLOATING else library.delta_decode
    return decode(pixels, axis=-2, out=pixels)  # the former returns another array
