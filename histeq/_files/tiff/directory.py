"""How the pixels of a TIFF directory (of a page or a reduced copy) are stored: its blocks and codec."""

import contextlib
import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histeq._files.blocks import Damage
from histeq._files.picture import Unfit
from histeq._files.tiff import codecs
from histeq._files.tiff.codecs import FLOATING, HORIZONTAL, RAW
from histeq._files.tiff.settings import ASSOCIATED, PALETTE, RGB, WHITE_IS_ZERO, nodata_of
from histeq._files.tiff.tags import GDAL_NODATA

_COLUMNS = 64
"""Of what is read and written of raw strips, at least: windows have as many as are worth a task."""
_NOWHERE = 2**60
_SMALL = 2**26
"""The bytes up to which a block may be, however small the image is."""


@dataclasses.dataclass(eq=False, slots=True, kw_only=True)
class Directory:
    """The pixels of a page: strips or tiles, both called blocks here, numbered by plane, row and column.

    Raw strips that follow each other in the file are one block.
    """

    place: int
    """Where it is in the file."""
    height: int
    width: int
    samples: int
    planes: int
    """As many as samples where each of them is stored apart, else 1."""
    rows: int
    columns: int
    """Of a block."""
    tiled: bool
    dtype: np.dtype[Any]
    """As stored, but in native byte order; bool for bilevel pixels."""
    swapped: bool
    compression: int
    predictor: int
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    fill: float
    """The value of blocks that are absent."""
    inverted: bool
    stretch: NDArray[Any] | None
    """What the values of few bits become, so that they fill the dtype."""
    palette: NDArray[np.uint8] | None
    """Colours (number, 3), or (number, 4) with alpha: 0 for the index that is nodata."""
    associated: bool
    """Whether the colours are stored multiplied with alpha."""
    decoder: Callable[..., Any] | None
    """That of tifffile, for all that is not common."""

    @classmethod
    def of(cls, page: Any, offsets: NDArray[np.int64], counts: NDArray[np.int64]) -> "Directory":
        """Return the directory of one of tifffile's pages, whose blocks are at some places in the file."""
        dtype = np.dtype(page.dtype)
        kinds = {"u": (1, HORIZONTAL), "i": (1, HORIZONTAL), "f": (1, FLOATING)}
        common = page.fillorder == 1 and page.bitspersample == 8 * dtype.itemsize
        common = (
            common and page.compression in codecs.DECODERS and page.predictor in kinds.get(dtype.kind, ())
        )
        nodata = nodata_of(page.tags.valueof(GDAL_NODATA), dtype, page.bitspersample)
        directory = cls(
            place=page.offset,
            height=page.imagelength,
            width=page.imagewidth,
            samples=page.samplesperpixel,
            planes=page.samplesperpixel if page.axes == "SYX" else 1,
            rows=page.tilelength if page.is_tiled else page.rowsperstrip,
            columns=page.tilewidth if page.is_tiled else page.imagewidth,
            tiled=page.is_tiled,
            dtype=dtype,
            swapped=page.parent.byteorder != {"little": "<", "big": ">"}[sys.byteorder],
            compression=int(page.compression),
            predictor=int(page.predictor),
            offsets=offsets,
            counts=counts,
            fill=0 if nodata is None else nodata,
            inverted=page.photometric == WHITE_IS_ZERO and dtype.kind in "uib",
            stretch=_stretch(page, dtype),
            palette=_palette(page, nodata) if page.photometric == PALETTE else None,
            associated=tuple(page.extrasamples[-1:]) == (ASSOCIATED,) and dtype.kind in "uf",
            decoder=None if common else codecs.by_tifffile(page),
        )
        directory._join_strips()
        return directory

    @property
    def raw(self) -> bool:
        """Whether the pixels are in the file as in memory, so that parts of a block can be read."""
        return self.compression == RAW and self.predictor == 1 and self.decoder is None

    @property
    def block_samples(self) -> int:
        """The samples of a pixel in a block."""
        return self.samples if self.planes == 1 else 1

    @property
    def row_bytes(self) -> int:
        """The bytes of a row of a block, decoded."""
        return self.columns * self.block_samples * self.dtype.itemsize

    @property
    def down(self) -> int:
        """The number of rows of blocks."""
        return -(-self.height // self.rows)

    @property
    def across(self) -> int:
        """The number of blocks in a row."""
        return -(-self.width // self.columns)

    @property
    def unit(self) -> tuple[int, int]:
        """The rows and columns of what can be read or written at no loss: a block, or some of raw strips."""
        anywhere = self.raw and not self.tiled
        return (1, min(_COLUMNS, self.columns)) if anywhere else (self.rows, self.columns)

    def number(self, plane: int, row: int, column: int) -> int:
        """Return the number of a block."""
        return (plane * self.down + row) * self.across + column

    def extent(self, number: int) -> tuple[int, int]:
        """Return the rows and columns of a block that are within the image."""
        row, column = divmod(number % (self.down * self.across), self.across)
        return min(self.rows, self.height - row * self.rows), min(
            self.columns, self.width - column * self.columns
        )

    def decode(self, data: Any, number: int) -> NDArray[Any]:
        """Return the pixels (rows, columns, samples) of an encoded block, without those beyond the image."""
        rows, columns = self.extent(number)
        # The last strip may have all its rows, and a tile at the edge may lack what is beyond the image.
        shapes = [(self.rows, self.columns), (rows, self.columns), (rows, columns)]
        if self.decoder is not None:
            return self.decoder(data, number, shapes)[:rows, :columns]
        out = np.empty(self.rows * self.row_bytes, np.uint8)
        size = len(codecs.DECODERS[self.compression](data, out))
        return self._as_pixels(out, size, shapes)[:rows, :columns]

    def rescued(self, data: Any, number: int) -> NDArray[Any]:
        """Return what can be decoded of a damaged block; the rest is zero, or the fill value."""
        rows, columns = self.extent(number)
        shape = (self.rows, self.columns)
        with contextlib.suppress(Exception):  # codecs raise all kinds of exceptions
            if self.decoder is not None:
                pixels = self.decoder(data, number, [shape, (rows, columns)], strict=False)[:rows, :columns]
                if pixels.shape[:2] == (rows, columns):
                    return pixels
        if self.decoder is not None:
            return np.full((rows, columns, self.block_samples), self.fill, self.dtype)
        out = np.zeros(self.rows * self.row_bytes, np.uint8)
        with contextlib.suppress(Exception):  # what comes before the damage is in the array by then
            codecs.DECODERS[self.compression](data, out)
        return self._as_pixels(out, out.size, [shape])[:rows, :columns]

    def _as_pixels(self, out: NDArray[np.uint8], size: int, shapes: list[tuple[int, int]]) -> NDArray[Any]:
        """Return decoded bytes, of which so many count, as pixels of one of several sizes."""
        pixel = self.block_samples * self.dtype.itemsize
        shape = next((shape for shape in shapes if size >= shape[0] * shape[1] * pixel), shapes[-1])
        need = shape[0] * shape[1] * pixel
        if size < need or (size > need and shape not in shapes[:2]):
            raise ValueError(f"a block holds {size} bytes instead of {self.rows * self.row_bytes}")
        pixels = out[:need].view(self.dtype).reshape(*shape, self.block_samples)
        if self.swapped and self.predictor != FLOATING:  # which has a byte order of its own
            pixels.byteswap(inplace=True)
        if self.predictor != 1:
            pixels = codecs.unpredict(pixels, self.predictor)
        return pixels

    def encode(self, pixels: NDArray[Any], encoder: Callable[[NDArray[Any]], Any]) -> Any:
        """Return a whole block as bytes, or as an array whose memory they are."""
        pixels = np.ascontiguousarray(pixels)
        if self.dtype == np.bool_:  # eight to a byte, row by row
            return encoder(np.packbits(pixels[..., 0], axis=1)[..., None])
        if self.predictor != 1:
            pixels = codecs.predict(pixels, self.predictor)
        if self.swapped and self.predictor != FLOATING:
            pixels = pixels.byteswap()
        return encoder(pixels)

    @property
    def channels(self) -> int:
        """The channels of the pixels that stored ones stand for."""
        return self.samples if self.palette is None else self.palette.shape[1]

    def shown_value(self, value: float | None) -> float | None:
        """Return what a value of the nodata tag becomes; None where it is no value of the pixels shown."""
        if value is None or self.palette is not None:
            return None
        value = value if self.stretch is None else int(self.stretch[int(value)])
        return int(np.invert(self.shown_dtype.type(value))) if self.inverted else value

    @property
    def shown_dtype(self) -> np.dtype[Any]:
        """The dtype of the pixels that stored ones stand for."""
        return np.dtype(np.uint8) if self.palette is not None or self.dtype == np.bool_ else self.dtype

    def stored(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return what stands for the pixels shown in a file that is written here."""
        if self.dtype == np.bool_:
            return pixels != 0
        if self.associated:
            pixels = associate(pixels)
        return np.invert(pixels) if self.inverted else pixels

    def shown(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return the pixels that stored ones (H, W, samples) stand for; these may be overwritten."""
        if pixels.dtype == np.bool_:
            pixels = pixels.view(np.uint8)
        if self.palette is not None:
            return self.palette[pixels[..., 0]]
        if self.stretch is not None:
            pixels = self.stretch[pixels]
        if self.inverted:
            np.invert(pixels, out=pixels)
        if self.associated:
            separate(pixels)
        return pixels if self.samples > 1 else pixels[..., 0]

    def _join_strips(self) -> None:
        """Make one block of the strips of each plane if they are raw and adjacent."""
        if not self.raw or self.tiled or self.down == 1:
            return
        offsets, counts = self.offsets.reshape(self.planes, -1), self.counts.reshape(self.planes, -1)
        full = self.rows * self.row_bytes
        if (counts[:, :-1] == full).all() and (np.diff(offsets) == full).all():
            self.rows, self.offsets, self.counts = self.height, offsets[:, 0].copy(), counts.sum(1)


def places(page: Any, size: int, damage: Damage) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the offsets and byte counts of a page's blocks; it is damage where these are not in the file."""
    rows, columns = (
        (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    )
    if rows < 1 or columns < 1:
        raise ValueError("its blocks have no pixels")
    pixel = page.samplesperpixel * np.dtype(page.dtype).itemsize
    block = rows * columns * pixel
    if block > max(_SMALL, 4 * page.imagelength * page.imagewidth * pixel):
        raise ValueError(f"its tiles of {columns} x {rows} pixels are far larger than the image")
    expected = -(-page.imagelength // rows) * -(-page.imagewidth // columns)
    expected *= page.samplesperpixel if page.axes == "SYX" else 1
    if (len(page.dataoffsets), len(page.databytecounts)) != (expected, expected):
        found = f"{len(page.dataoffsets)} offsets and {len(page.databytecounts)} byte counts"
        raise ValueError(f"{expected} blocks, but {found}")
    # Clipped to what is no place in any file, and fits.
    offsets = np.array([min(offset, _NOWHERE) for offset in page.dataoffsets], np.int64)
    counts = np.array([min(count, _NOWHERE) for count in page.databytecounts], np.int64)
    absent = (offsets == 0) & (counts == 0)
    lost = ((offsets < 8) | (counts < 1) | (offsets >= size)) & ~absent
    cut = (offsets + counts > size) & ~lost
    for number in np.flatnonzero(lost | cut):
        without = offsets[number] < size and lost[number]
        damage.found("a block without data" if without else "the file is truncated", (page.offset, number))
    offsets[lost] = counts[lost] = 0
    counts[cut] = size - offsets[cut]
    if page.compression != RAW and counts.max() > 2 * block + 2**20:
        raise ValueError(f"a block of {block} bytes takes {counts.max()} bytes in the file")
    return offsets, counts


def _stretch(page: Any, dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """Return what the values of few bits become: below 8 all, and of up to 16 those of colours.

    Grey values of 9 to 15 bits are levels of a camera or a scanner, which are asked for by these numbers.
    """
    bits = page.bitspersample
    few = bits < 8 or (8 < bits < 16 and page.photometric == RGB)
    if dtype.kind not in "ub" or not few or page.photometric == PALETTE:
        return None
    kind = np.dtype(np.uint8) if dtype.kind == "b" else dtype
    top, full = 2**bits - 1, np.iinfo(kind).max
    return ((np.arange(top + 1) * full + top // 2) // top).astype(kind)


def separate(pixels: NDArray[Any]) -> None:
    """Divide colours by alpha, the last channel, in place; where it is 0 they are 0."""
    alpha = pixels[..., -1:]
    if pixels.dtype.kind == "f":
        pixels[..., :-1] /= np.where(alpha > 0, alpha, 1)
        return
    top = np.iinfo(pixels.dtype).max
    if (alpha == top).all():
        return
    wide = np.maximum(alpha, 1).astype(np.uint64)
    colours = (pixels[..., :-1] * np.uint64(top) + wide // 2) // wide
    pixels[..., :-1] = np.where(alpha > 0, np.minimum(colours, top), 0)


def associate(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return pixels whose colours are multiplied with alpha, the last channel."""
    alpha, result = pixels[..., -1:], pixels.copy()
    if pixels.dtype.kind == "f":
        result[..., :-1] *= alpha
        return result
    top = np.iinfo(pixels.dtype).max
    if not (alpha == top).all():
        result[..., :-1] = (pixels[..., :-1] * alpha.astype(np.uint64) + top // 2) // top
    return result


def _palette(page: Any, nodata: float | None) -> NDArray[np.uint8]:
    """Return the colours (number, 3), or (number, 4) with alpha where an index is nodata."""
    colours = page.colormap
    if colours is None or np.dtype(page.dtype).kind not in "ub" or page.samplesperpixel != 1:
        raise Unfit("TIFF files with this kind of palette are not handled")
    if colours.shape != (3, 2**page.bitspersample):
        raise ValueError(f"a palette of {colours.size // 3} colours for {page.bitspersample} bits")
    if colours.max() > 255:  # 16 bits by the standard; some writers leave the upper 8 empty
        colours = colours >> 8
    colours = colours.astype(np.uint8)
    if nodata is not None and nodata < colours.shape[1]:
        alpha = np.full((1, colours.shape[1]), 255, np.uint8)
        alpha[0, int(nodata)] = 0
        colours = np.concatenate([colours, alpha])
    return np.ascontiguousarray(colours.T)
