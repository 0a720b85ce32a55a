"""TIFF files as sinks: the directories first, blocks in any order after them, and their places at the end."""

import dataclasses
import itertools
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from histeq._files import exif
from histeq._files.blocks import Damage, Header, Options, Window
from histeq._files.picture import Unfit
from histeq._files.tiff import codecs, settings
from histeq._files.tiff.directory import Directory, places
from histeq._files.tiff.reader import Reader
from histeq._files.tiff.storage import Storage, for_tifffile

_CLASSIC = 2**32
"""Where files end whose offsets have four bytes."""


def check(header: Header, options: Options) -> list[str]:
    """Raise if the image cannot be written like this; return notes of what would not be carried."""
    return _Plan(header, options).notes


class TiffSink:
    """A TIFF file that is being written: its pages and their reduced copies."""

    header: Header
    levels: Sequence["TiffLevel"]
    masks: Sequence["TiffLevel"]
    notes: list[str]

    def __init__(self, file: Path | BinaryIO, header: Header, options: Options) -> None:
        self.header, self.notes = header, []
        plan = _Plan(header, options)
        self._owned = isinstance(file, Path)
        self._file: BinaryIO = file.open("w+b") if isinstance(file, Path) else file
        try:
            plan.write(self._file)
            self._file.flush()
            self.storage = Storage(self._file)
            self._end = self.storage.size
            self._most = 2**63 if plan.big else _CLASSIC
            self._lock = threading.Lock()
            reader = Reader(self.storage, Damage())
            parts: list[_Part] = []
            for page in plan.directories(self._file):
                if not parts:
                    self._write_exif(page, plan.exif)
                parts.append(_Part.of(page, self))
            self.notes += plan.notes
        except BaseException:
            self.close()
            raise
        every = [
            TiffLevel(self, reader, parts[number :: plan.several], options.quality or plan.quality)
            for number in range(plan.several)
        ]
        levels = 1 + len(plan.sizes)
        self.levels, self.masks = every[:levels], every[levels:]

    def reserve(self, size: int) -> int:
        """Return the position of new bytes at the end of the file."""
        with self._lock:
            position, self._end = self._end, self._end + size
            if self._end > self._most:
                raise Unfit("it grows beyond the 4 GB of a classic TIFF file")
        return position

    def _write_exif(self, page: Any, directories: Mapping[int, exif.Directory]) -> None:
        """Write directories that are no pages, which tifffile does not: it left a tag for each."""
        head = bytes(self.storage.read(0, 16 if page.parent.is_bigtiff else 8))
        order = page.parent.byteorder
        for code, directory in directories.items():
            tag = page.tags[settings.placeholder(code)]
            self.reserve(self._end % 2)
            data = directory.encoded(head, self._end)
            position = self.reserve(len(data))
            self.storage.write(position, data)
            self.storage.write(tag.offset, struct.pack(order + "H", code))
            kind = "Q" if page.parent.is_bigtiff else "I"
            self.storage.write(tag.valueoffset, struct.pack(order + kind, position))

    def finish(self) -> None:
        """Write where the blocks are, and close the file if it was opened here."""
        for level in (*self.levels, *self.masks):
            level.finish()
        self.close()

    def close(self) -> None:
        """Close the file, complete or not, if it was opened here."""
        if self._owned:
            self._file.close()


class TiffLevel:
    """The image, or a reduced copy, on all pages."""

    def __init__(self, sink: TiffSink, reader: Reader, parts: list["_Part"], quality: int) -> None:
        self.height = parts[0].directory.height
        self.width = parts[0].directory.width
        self._sink = sink
        self._reader = reader
        self._parts = parts
        self._quality = quality

    def blocks(self, page: int) -> tuple[int, int]:
        """Return the rows and columns of a page's blocks."""
        return self._parts[page].directory.unit

    def write(self, window: Window, pixels: NDArray[Any]) -> None:
        """Write the pixels of a window made of whole blocks; from any thread, each block once."""
        part = self._parts[window.page]
        directory = part.directory
        _check_blocks(window, directory)
        if pixels.dtype != directory.shown_dtype:
            raise TypeError(f"{pixels.dtype} pixels for a file of {directory.shown_dtype}")
        pixels = directory.stored(pixels.reshape(window.height, window.width, directory.samples))
        for plane in range(directory.planes):
            samples = pixels if directory.planes == 1 else pixels[..., plane : plane + 1]
            if directory.raw and not directory.tiled:
                self._write_rows(directory, plane, window, samples)
            else:
                self._write_blocks(directory, plane, window, samples)
        part.count(window.height * window.width)

    def read(self, window: Window) -> NDArray[Any]:
        """Return the pixels of any window, all of which have been written."""
        return self._reader.read(self._parts[window.page].directory, window)

    def finish(self) -> None:
        """Write where the blocks are."""
        for part in self._parts:
            part.finish(self._sink.storage)

    def _write_rows(self, directory: Directory, plane: int, window: Window, pixels: NDArray[Any]) -> None:
        data = directory.encode(pixels, codecs.encoder(codecs.RAW))
        pixel = directory.row_bytes // directory.columns
        start = int(directory.offsets[plane]) + window.left * pixel
        at_once = window.height if window.width == directory.width else 1
        for row in range(0, window.height, at_once):
            position = start + (window.top + row) * directory.row_bytes
            self._sink.storage.write(position, data[row : row + at_once])

    def _write_blocks(self, directory: Directory, plane: int, window: Window, pixels: NDArray[Any]) -> None:
        sampling = self._parts[window.page].subsampling
        encode = codecs.encoder(directory.compression, directory.block_samples, self._quality, sampling)
        for top in range(0, window.height, directory.rows):
            for left in range(0, window.width, directory.columns):
                row, column = (window.top + top) // directory.rows, (window.left + left) // directory.columns
                block = pixels[top : top + directory.rows, left : left + directory.columns]
                if directory.tiled:
                    block = _padded(block, directory.rows, directory.columns)
                number = directory.number(plane, row, column)
                data = directory.encode(block, encode)
                size = memoryview(data).nbytes
                if not directory.raw:
                    directory.offsets[number] = self._sink.reserve(size)
                directory.counts[number] = size
                self._sink.storage.write(int(directory.offsets[number]), data)


def _check_blocks(window: Window, directory: Directory) -> None:
    """Raise ValueError unless a window is made of whole blocks."""
    rows, columns = directory.unit
    bottom, right = window.top + window.height, window.left + window.width
    ends = (bottom % rows and bottom != directory.height) or (right % columns and right != directory.width)
    if window.top % rows or window.left % columns or ends:
        raise ValueError(f"{window} does not consist of blocks of {columns} x {rows} pixels")


def _padded(block: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    """Return a tile, its last row and column repeated beyond the image: this compresses best."""
    if block.shape[:2] == (rows, columns):
        return block
    width = ((0, rows - block.shape[0]), (0, columns - block.shape[1]), (0, 0))
    return np.pad(block, width, mode="edge")


class _Plan:
    """The directories of a file that is to be written."""

    def __init__(self, header: Header, options: Options) -> None:
        self._header = header
        self._options = options
        keep = header.keep if header.format in ("TIFF", "GDAL") else {}
        self._pages = keep.get("pages") or [settings.new_settings(header)]
        self._copies = keep.get("levels") or [[]]
        if keep.get("uneven") and options.overviews is not False:
            raise Unfit(
                f"page {keep['uneven'] + 1} has other reduced copies than the first page, in number or size, "
                "which is not handled: --no-overviews leaves them out"
            )
        self._subifds = keep.get("subifds", False)
        self._masks = keep.get("masks", {})
        self._order = keep.get("byteorder")
        self.quality = keep.get("quality") or settings.QUALITY
        self.exif = exif.for_tiff(header.exif).children
        self.sizes = _sizes(header, options, self._pages[0].get("tile") or settings.TILE)
        self.several = (1 + len(self.sizes)) * (2 if self._masks else 1)
        """How many directories a page has: itself, its reduced copies, and their masks."""
        pixels = header.pages * sum(h * w for h, w in [(header.height, header.width), *self.sizes])
        # The margin is for tags and for data that compression enlarges.
        # What cannot be written is found out at once.
        compression = settings.writing(self._pages[0], header, options)["compression"]
        self.big = keep.get("bigtiff", False) or pixels * header.bytes_per_pixel * 1.01 > _CLASSIC - 2**25
        self.notes: list[str] = []
        if options.compression is None and compression != self._pages[0]["compression"]:
            self.notes.append(f"the compression {codecs.name_of(self._pages[0]['compression'])} not carried")

    def write(self, file: BinaryIO) -> None:
        """Write the directories, without data."""
        import tifffile

        handle = for_tifffile(file)
        file.truncate()
        with tifffile.TiffWriter(handle, bigtiff=self.big, byteorder=self._order, ome=False) as writer:
            for height, width, arguments in self._images():
                whole, dtype, shape = (height, width), self._header.dtype, self._header.shape(height, width)
                if arguments["photometric"] == settings.MASK:
                    dtype, shape = np.dtype(np.bool_), whole
                elif arguments.get("planarconfig") == 2:
                    shape = (self._header.channels, *whole)
                # Raw strips (and a tile that is all) have their places now; other blocks are empty for now.
                placed = arguments["compression"] == codecs.RAW and arguments.get("tile", whole) == whole
                data = None if placed else itertools.repeat(b"")
                writer.write(data, shape=shape, dtype=dtype, metadata=None, software=False, **arguments)

    def _images(self) -> Iterator[tuple[int, int, dict[str, Any]]]:
        """Yield the height, the width and tifffile's arguments, each page followed by its reduced copies."""
        header, options = self._header, self._options
        for page in range(header.pages):
            own = self._pages[min(page, len(self._pages) - 1)]
            arguments = settings.writing(own, header, options, first=page == 0)
            if page == 0:
                kind = 16 if self.big else 4
                places = [(settings.placeholder(code), kind, 1, 0, True) for code in self.exif]
                arguments["extratags"] = [*arguments["extratags"], *places]
            if self._subifds and self.sizes:
                arguments["subifds"] = len(self.sizes)
            yield header.height, header.width, arguments
            copies = self._copies[min(page, len(self._copies) - 1)]
            for number, (height, width) in enumerate(self.sizes):
                copy = copies[number] if number < len(copies) else settings.reduced(own)
                yield height, width, settings.writing(copy, header, options)
            if self._masks:
                mask = settings.of_mask(self._masks.get(page), own)
                for height, width in [header.size, *self.sizes]:
                    yield height, width, mask
                    mask = {**mask, "subfiletype": mask["subfiletype"] | 1}

    def directories(self, file: BinaryIO) -> Iterator[Any]:
        """Yield tifffile's pages of what was written, in the same order."""
        import tifffile

        with tifffile.TiffFile(for_tifffile(file)) as tiff:
            tiff.pages.useframes = False
            for page in tiff.pages:
                yield page
                yield from page.pages or ()


def _sizes(header: Header, options: Options, block: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the heights and widths of the reduced copies."""
    if options.overviews is False:
        return []
    if header.levels or options.overviews is None:
        return list(header.levels)
    height, width = header.height, header.width
    sizes = []
    while height > block[0] or width > block[1]:
        height, width = -(-height // 2), -(-width // 2)
        sizes.append((height, width))
    return sizes


@dataclasses.dataclass(slots=True)
class _Part:
    """The directory of a page or of a reduced copy, and where the file says where its blocks are."""

    directory: Directory
    tables: list[tuple[int, str]]
    """Positions and dtypes in the file: of the offsets, of the byte counts."""
    lock: threading.Lock
    subsampling: tuple[int, int] = (2, 2)
    """Of colours in JPEG compression: how many columns and rows share one."""
    written: int = 0
    """The number of pixels."""

    @classmethod
    def of(cls, page: Any, sink: TiffSink) -> "_Part":
        if page.compression == codecs.RAW and all(page.databytecounts):  # these have their places
            directory = Directory.of(page, *places(page, sink.storage.size, Damage()))
        else:
            directory = Directory.of(page, *np.zeros((2, len(page.dataoffsets)), np.int64))
        tags = [page.tags[code] for code in ((324, 325) if page.is_tiled else (273, 279))]
        kinds = {3: "u2", 4: "u4", 16: "u8"}
        tables = [(tag.valueoffset, page.parent.byteorder + kinds[int(tag.dtype)]) for tag in tags]
        if directory.raw and not directory.offsets.any():
            size = directory.rows * directory.row_bytes
            position = sink.reserve(size * directory.offsets.size)
            directory.offsets[:] = position + size * np.arange(directory.offsets.size)
        return cls(directory, tables, threading.Lock(), page.subsampling or (2, 2))

    def count(self, pixels: int) -> None:
        with self.lock:
            self.written += pixels

    def finish(self, storage: Storage) -> None:
        directory = self.directory
        if self.written != directory.height * directory.width:
            raise ValueError("not all of its blocks were written")
        if directory.raw and not directory.tiled:
            return
        for (position, kind), values in zip(self.tables, (directory.offsets, directory.counts), strict=True):
            if values.max() > np.iinfo(kind).max:
                raise Unfit("a block is too large for this TIFF file")
            storage.write(position, values.astype(kind))
