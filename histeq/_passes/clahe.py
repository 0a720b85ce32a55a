"""CLAHE of a page of any size: counts of tiles run ahead of the pixels that are mapped by their tables.

The tables of 16-bit tiles may take as much memory as the image. So the page is gone through in bands of
columns (one, where memory allows), and a band from the top to the bottom: rows of tiles are counted as far
down as the next rows of pixels need their tables, and forgotten once no more pixels do.
"""

import itertools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import histeq
from histeq import TileHistograms, TileTables, _files
from histeq._core import threads
from histeq._files import File, FileError, Sink, Window, name_of
from histeq._files.blocks import windows
from histeq._passes import count
from histeq._passes.image import Image, as_target
from histeq._passes.methods import Clahe
from histeq._passes.run import COPIES, Run


def page(target: File, run: Run, method: Clahe, image: Image, sink: Sink, number: int) -> None:
    """Equalize a page of an image locally."""
    work = _Page(target, run, method, image, sink, number, _range(run, method, image, number))
    if work.may_be_empty:
        work.count_totals()
    for columns in work.bands():
        _Band(work, columns).map()


def _range(run: Run, method: Clahe, image: Image, number: int) -> Any:
    """Return the range of values that is counted; a floating image is read to find its own."""
    given = image.selection.value_range
    if given is not None or image.header.dtype.kind != "f":
        return given
    low, high = count.extremes(run, image, [number])[:, 0]
    if not low <= high:
        return 0.0, 1.0  # there is no pixel to count
    return (
        (low, high)
        if low < high
        else (low - image.header.dtype.type(0.5), high + image.header.dtype.type(0.5))
    )


class _Page:
    """What the bands of a page share."""

    def __init__(
        self,
        target: File,
        run: Run,
        method: Clahe,
        image: Image,
        sink: Sink,
        number: int,
        value_range: Any,
    ) -> None:
        self.target, self.run, self.method, self.image, self.sink = target, run, method, image, sink
        self.number, self.value_range = number, value_range
        self.what = image.selection.of(image.header)
        self.shape = image.header.size
        nothing = method.counts_of_nothing(image.header, value_range)
        self.tiles, self.tile_size = nothing.tiles, nothing.tile_size
        self.bytes_per_tile = nothing.bins * image.selection.planes(image.header) * (8 + 2)
        """Of its counts and its table."""
        self.totals: TileHistograms | None = None
        # Pixels without a table of their tile's own: all that are masked or beyond the range are mapped, too.
        self.far = image.in_part or image.selection.value_range is not None
        self.may_be_empty = image.in_part or method.may_be_empty(image.header)
        self.reach = 2 if self.may_be_empty else 1  # an empty tile has the table of a tile beside it

    def counted(self, window: Window, bins: int | None = None) -> TileHistograms:
        """Read a window, and return its counts."""
        with self.run.step("read"):
            pixels, mask = self.image.read_counted(window)
        with self.run.step("compute"):
            origin = window.top, window.left
            return self.method.counts(self.image.header, pixels, self.value_range, origin, mask, bins)

    def count_totals(self) -> None:
        """Count the pixels of all tiles, to know which are empty."""
        # Two bins have the same totals, and take no memory; with a range, integers have a bin a value.
        bins = None if self.value_range is not None and self.image.header.dtype.kind != "f" else 2
        nothing = self.method.counts_of_nothing(self.image.header, self.value_range, bins)
        totals = nothing.totals().part((0, 0), self.tiles)
        lock = threading.Lock()

        def work(window: Window) -> None:
            nonlocal totals
            counts = self.counted(window, bins).totals()
            with lock:
                totals += counts

        if bins is not None:
            count.over_source(self.run, work, self.image, [self.number])
        else:
            per_pixel = self.image.header.bytes_per_pixel
            for row in self.windows(self.shape, self.source_blocks(), 0, per_pixel):
                self.count_rows(work, row)
        self.totals = totals

    def bands(self) -> Iterator[tuple[int, int]]:
        """Yield the columns of bands, whose counts and tables take at most half of the memory."""
        width, memory = self.shape[1], self.run.memory
        height, block = map(min, self.sink.levels[0].blocks(self.number), self.shape)
        around = 2 * self.reach + 1
        rows = height // self.tile_size[0] + self.source_blocks()[0] // self.tile_size[0] + around + 1
        across = memory // 2 // (rows * self.bytes_per_tile) - around
        step = max(1, across * self.tile_size[1] // block) * block
        need = rows * (min(step // self.tile_size[1] + around, self.tiles[1])) * self.bytes_per_tile
        need += need // 4  # for the windows
        if need > memory:
            raise FileError(
                f"{name_of(self.target)}: blocks of {block} x {height} pixels, which are written at once, "
                f"need {need / 2**20:.0f} MiB of memory for tiles of {self.tile_size[1]} x "
                f"{self.tile_size[0]}, and --memory allows {memory / 2**20:.0f} MiB"
            )
        for left in range(0, width, step):
            yield left, min(left + step, width)

    def most_counted(self) -> int:
        """Return the pixels whose counts, of a window of each thread, take an eighth of the memory."""
        counts_per_pixel = max(1, self.bytes_per_tile // (self.tile_size[0] * self.tile_size[1]))
        return max(1, self.run.memory // (8 * threads.num_threads()) // counts_per_pixel)

    def source_blocks(self) -> tuple[int, int]:
        """Return the rows and columns that are counted at once: parts of blocks that lie in many tiles."""
        rows, columns = map(min, self.image.source.blocks(self.number), self.shape)
        most = self.most_counted()
        if rows * columns > most:
            rows = min(rows, max(math.isqrt(most), self.tile_size[0]))
            columns = min(columns, max(most // rows, self.tile_size[1]))
        return rows, columns

    def windows(
        self, shape: tuple[int, int], blocks: tuple[int, int], left: int, bytes_per_pixel: int
    ) -> Iterator[list[Window]]:
        """Yield rows of windows from a column on, whose counts take little of the memory."""
        size = max(1, min(self.run.window_size(), self.most_counted() * bytes_per_pixel))
        smallest = math.prod(map(min, blocks, shape)) * bytes_per_pixel
        while size > smallest:  # a low and wide window touches many tiles
            first = next(windows(shape, blocks, self.number, size, bytes_per_pixel))
            if 4 * self.bytes_of_counts([first]) <= self.run.memory:
                break
            size //= 2
        every = windows(shape, blocks, self.number, size, bytes_per_pixel)
        for _, row in itertools.groupby(every, key=lambda window: window.top):
            yield [window._replace(left=window.left + left) for window in row]

    def count_rows(self, work: Callable[[Window], object], row: list[Window]) -> None:
        """Call `work`, which counts, for a row of windows; the counts take at most half of the memory."""
        size = count.bytes_read(self.image, row) + 2 * self.bytes_of_counts(row) // COPIES
        self.run.over(work, row, size, name_of(self.image.file))

    def bytes_of_counts(self, pieces: Sequence[Window]) -> int:
        """Return the bytes of the counts of the largest window."""
        height, width = self.tile_size
        return max((w.height // height + 2) * (w.width // width + 2) for w in pieces) * self.bytes_per_tile


@dataclass
class _Band:
    """A band of columns."""

    page: _Page
    columns: tuple[int, int]
    counts: dict[int, TileHistograms] = field(default_factory=dict)
    """Of the rows of tiles that are not complete."""
    tables: dict[int, TileTables] = field(default_factory=dict)
    """Of the rows of tiles that are, and are still needed."""
    others: dict[tuple[int, int], TileTables] = field(default_factory=dict)
    """Of tiles elsewhere whose tables are those of empty tiles here."""

    def __post_init__(self) -> None:
        left, right = self.columns
        self.first, self.stop = self._tiles_around(1, left, right)
        self.lock = threading.Lock()
        self.ahead = self._source_rows()

    def _tiles_around(self, axis: int, start: int, stop: int) -> tuple[int, int]:
        """Return the tiles between whose centres pixels lie along an axis: the first, and after the last."""
        tile, tiles = self.page.tile_size[axis], self.page.tiles[axis]
        reach = self.page.reach
        return max(0, start // tile - reach), min(tiles, (stop - 1) // tile + reach + 1)

    def _source_rows(self) -> Iterator[list[Window]]:
        """Return rows of windows of the source, from the top on, that hold the pixels of the band's tiles."""
        page = self.page
        height, width = page.shape
        tile = page.tile_size[1]
        left, right = min(self.first * tile, width - 1), min(self.stop * tile, width)
        if self.stop == page.tiles[1]:  # beyond the border there are reflected pixels
            left = max(0, min(left, 2 * width - 2 - page.tiles[1] * tile))
        blocks = page.source_blocks()
        left -= left % blocks[1]
        return page.windows((height, right - left), blocks, left, page.image.header.bytes_per_pixel)

    def map(self) -> None:
        """Map all pixels of the band."""
        page, (left, right) = self.page, self.columns
        header, run, level = page.image.header, page.run, page.sink.levels[0]
        per_pixel = max(header.bytes_per_pixel, page.sink.header.bytes_per_pixel)
        shape = header.height, right - left
        for pieces in page.windows(shape, level.blocks(page.number), left, per_pixel):
            tables = self._tables_for(pieces[0].top, pieces[0].top + pieces[0].height)
            run.over(
                lambda window, tables=tables: self._map(window, tables),  # type: ignore[misc]
                pieces, count.bytes_of(pieces, per_pixel), name_of(page.image.file),
            )  # fmt: skip

    def _map(self, window: Window, tables: TileTables) -> None:
        page = self.page
        run, dtype = page.run, page.sink.header.dtype
        with run.step("read"):
            pixels = page.image.read(window)
        with run.step("compute"):
            # A source that is in memory is still to be counted, in the next band.
            out = as_target(pixels, dtype) if page.image.source.in_blocks else None
            result = histeq.apply_tiles(
                pixels, tables, origin=(window.top, window.left), out=out, **page.what
            )
        with run.step("write"), _files.writing(page.target):
            page.sink.levels[0].write(window, result)

    def _tables_for(self, top: int, bottom: int) -> TileTables:
        """Return the tables for rows of pixels; count as far as it takes, and forget the rows before."""
        first, stop = self._tiles_around(0, top, bottom)
        while not all(row in self.tables for row in range(first, stop)):
            self._count_row(next(self.ahead, None))
        for row in [row for row in self.tables if row < first]:
            del self.tables[row]
        held = [self.tables[row] for row in range(first, stop)]
        box = (first, self.first), (stop, self.stop)
        if self.page.totals is None:
            return held[0].part(*box, *held[1:])
        return held[0].part(*box, *held[1:], *self._elsewhere(box), counted=self.page.totals)

    def _count_row(self, row: list[Window] | None) -> None:
        """Count a row of windows; after the last one all rows of tiles are complete."""
        page = self.page
        if row is None:
            complete = page.tiles[0]
        else:
            page.count_rows(self._count, row)
            end = row[0].top + row[0].height
            complete = end // page.tile_size[0] if end < page.shape[0] else page.tiles[0]
        for i in range(complete):
            if i in self.counts:
                self.tables[i] = page.method.tables(self.counts.pop(i))

    def _count(self, window: Window) -> None:
        counts = self.page.counted(window)
        for i in range(counts.first[0], counts.stop[0]):
            first, stop = max(counts.first[1], self.first), min(counts.stop[1], self.stop)
            if first >= stop:
                continue
            part = counts.part((i, first), (i + 1, stop))
            with self.lock:
                if i not in self.counts:
                    self.counts[i] = part.part((i, self.first), (i + 1, self.stop))
                else:
                    self.counts[i] += part

    def _elsewhere(self, box: Sequence[tuple[int, int]]) -> list[TileTables]:
        """Return the tables of tiles outside a box that empty tiles inside need."""
        page = self.page
        if not page.far or page.totals is None:
            return []
        (top, left), (bottom, right) = box
        near = page.totals.nearest()[0][:, 0, top:bottom, left:right]
        needed = {divmod(int(i), page.tiles[1]) for i in np.unique(near) if i >= 0}
        inside = {(y, x) for y in range(top, bottom) for x in range(left, right)}
        for tile in list(self.others):
            if tile not in needed:
                del self.others[tile]
        for tile in sorted(needed - inside - set(self.others)):
            self.others[tile] = self._table_elsewhere(tile)
        return list(self.others.values())

    def _table_elsewhere(self, tile: tuple[int, int]) -> TileTables:
        """Count one tile, and return its table."""
        page = self.page
        edges: list[tuple[int, int]] = []
        for axis in range(2):
            size, length = page.tile_size[axis], page.shape[axis]
            start, stop = tile[axis] * size, (tile[axis] + 1) * size
            if stop > length:  # reflected
                start, stop = max(0, min(start, 2 * length - 2 - stop)), length
            edges.append((start, stop))
        (top, bottom), (left, right) = edges
        counts = page.counted(Window(page.number, top, left, bottom - top, right - left))
        return page.method.tables(counts.part(tile, (tile[0] + 1, tile[1] + 1)))
