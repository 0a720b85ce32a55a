"""How the pixels of a TIFF directory (of a page or a reduced copy) are stored: its blocks and codec."""

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histeq._files.picture import Unfit
from histeq._files.tiff import codecs
from histeq._files.tiff.codecs import FLOATING, HORIZONTAL, RAW
from histeq._files.tiff.settings import PALETTE, WHITE_IS_ZERO, nodata_of

_SMALL = 2**26
"""The bytes up to which a block may be, however small the image is."""


@dataclasses.dataclass(eq=False, slots=True, kw_only=True)
class Directory:
    """The pixels of a page: strips or tiles, both called blocks here, numbered by plane, row and column.

    Raw strips that follow each other in the file are one block.
    """

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
    scale: int
    """What the values are multiplied with, for few bits to fill eight."""
    palette: NDArray[np.uint8] | None
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
        few = page.bitspersample in (1, 2, 4) and page.axes == "YX" and page.photometric != PALETTE
        nodata = nodata_of(page.tags.valueof(42113), dtype)
        directory = cls(
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
            scale=255 // (2**page.bitspersample - 1) if few else 1,
            palette=_palette(page) if page.photometric == PALETTE else None,
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
        """The rows and columns of what can be read or written at no loss: a block, or a row of raw strips."""
        return (1 if self.raw and not self.tiled else self.rows), self.columns

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
        return pixels[:rows, :columns]

    def encode(self, pixels: NDArray[Any], encoder: Callable[[NDArray[Any]], Any]) -> Any:
        """Return a whole block as bytes, or as an array whose memory they are."""
        pixels = np.ascontiguousarray(pixels)
        if self.predictor != 1:
            pixels = codecs.predict(pixels, self.predictor)
        if self.swapped and self.predictor != FLOATING:
            pixels = pixels.byteswap()
        return encoder(pixels)

    def shown(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return the pixels that stored ones (H, W, samples) stand for; these may be overwritten."""
        if pixels.dtype == np.bool_:
            pixels = pixels.view(np.uint8)
        if self.palette is not None:
            return self.palette[pixels[..., 0]]
        if self.scale > 1:
            pixels *= np.uint8(self.scale)
        if self.inverted:
            np.invert(pixels, out=pixels)
        return pixels if self.samples > 1 else pixels[..., 0]

    def _join_strips(self) -> None:
        """Make one block of the strips of each plane if they are raw and adjacent."""
        if not self.raw or self.tiled or self.down == 1:
            return
        offsets, counts = self.offsets.reshape(self.planes, -1), self.counts.reshape(self.planes, -1)
        full = self.rows * self.row_bytes
        if (counts[:, :-1] == full).all() and (np.diff(offsets) == full).all():
            self.rows, self.offsets, self.counts = self.height, offsets[:, 0].copy(), counts.sum(1)


def places(page: Any, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the offsets and byte counts of a page's blocks; raise an error unless they are in the file."""
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
    if max(page.dataoffsets) > size or max(page.databytecounts) > size:
        raise EOFError("the file is truncated")
    offsets = np.array(page.dataoffsets, np.int64)
    counts = np.array(page.databytecounts, np.int64)
    if (offsets + counts > size).any():
        raise EOFError("the file is truncated")
    absent = (offsets == 0) & (counts == 0)
    if ((offsets < 8) | (counts < 1))[~absent].any():
        raise ValueError("a block without data")
    if page.compression != RAW and counts.max() > 2 * block + 2**20:
        raise ValueError(f"a block of {block} bytes takes {counts.max()} bytes in the file")
    return offsets, counts


def _palette(page: Any) -> NDArray[np.uint8]:
    """Return the colours (number, 3)."""
    colours = page.colormap
    if colours is None or np.dtype(page.dtype).kind not in "ub" or page.samplesperpixel != 1:
        raise Unfit("TIFF files with this kind of palette are not handled")
    if colours.shape != (3, 2**page.bitspersample):
        raise ValueError(f"a palette of {colours.size // 3} colours for {page.bitspersample} bits")
    if colours.max() > 255:  # 16 bits by the standard; some writers leave the upper 8 empty
        colours = colours >> 8
    return np.ascontiguousarray(colours.astype(np.uint8).T)
