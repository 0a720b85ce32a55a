"""CLAHE of a page of any size: counts of tiles run ahead of the pixels that are mapped by their tables.

The tables of 16-bit tiles may take as much memory as the image. So the page is gone through in bands of
columns (one, where memory allows), and a band from the top to the bottom: rows of tiles are counted as far
down as the next rows of pixels need their tables, and forgotten once no more pixels do.
"""

import itertools
import math
import operator
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

import histeq
from histeq import TileHistograms, TileTables, _files
from histeq._core import threads
from histeq._files import File, FileError, Sink, Window, name_of
from histeq._files.blocks import Level, windows
from histeq._passes import count
from histeq._passes.image import Image, as_target
from histeq._passes.methods import Clahe
from histeq._passes.run import COPIES, Run

_ALL_TILES = 1 << 26
"""Bytes of the counts and tables of all tiles of a page up to which workers of a cluster send them around."""
_TILES_ACROSS = 4
"""How many tiles lie along a side of what a worker maps by itself: it counts three more."""


def page(target: File, run: Run, method: Clahe, image: Image, sink: Sink, number: int) -> None:
    """Equalize a page of an image locally."""
    given = _range(run, method, image, number)
    work = _Page(target, run, method, image, sink.levels[0], sink.header.dtype, number, given)
    if run.spreads and math.prod(work.tiles) * work.bytes_per_tile <= _ALL_TILES:
        _by_all_tiles(work)
        return
    if work.may_be_empty:
        work.count_totals()
    if run.spreads:
        _by_regions(work)
    else:
        work.map(Window(number, 0, 0, *work.shape))


def _by_all_tiles(page: "_Page") -> None:
    """Count all tiles of a page, then map its pixels: few tiles are large, and each lies in many windows."""
    image, number, method = page.image, page.number, page.method
    work = partial(_tile_counts, method=method, image=image, value_range=page.value_range)
    counts = count.total_of(page.run, work, operator.iadd, image, [number])
    one = partial(
        _map_window, tables=method.tables(counts), image=image, target=page.target, level=page.level,
        dtype=page.dtype,
    )  # fmt: skip
    per_pixel = max(image.header.bytes_per_pixel, image.header.channels * page.dtype.itemsize)
    pieces = list(windows(page.shape, page.level.blocks(number), number, page.run.window_size(), per_pixel))
    page.run.over(one, pieces, count.bytes_of(pieces, per_pixel), name_of(image.file))


def _by_regions(page: "_Page") -> None:
    """Map a page region by region, each of which counts the tiles around its pixels: tiles are small."""
    blocks, tile = page.level.blocks(page.number), page.tile_size
    side = math.isqrt(page.run.window_size() // page.image.header.bytes_per_pixel)
    rows, columns = (
        -(-max(_TILES_ACROSS * size, side) // block) * block for size, block in zip(tile, blocks, strict=True)
    )
    height, width = page.shape
    regions = [
        Window(page.number, top, left, min(rows, height - top), min(columns, width - left))
        for top in range(0, height, rows)
        for left in range(0, width, columns)
    ]
    one = partial(
        _region, target=page.target, method=page.method, image=page.image, level=page.level, dtype=page.dtype,
        value_range=page.value_range, totals=page.totals,
    )  # fmt: skip
    page.run.over(one, regions, 1, name_of(page.image.file))


def _region(run: Run, window: Window, totals: TileHistograms | None, **of_page: Any) -> None:
    page = _Page(run=run, number=window.page, **of_page)
    page.totals = totals
    page.map(window)


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
        level: Level,
        dtype: np.dtype[Any],
        number: int,
        value_range: Any,
    ) -> None:
        self.target, self.run, self.method, self.image = target, run, method, image
        self.level, self.dtype = level, dtype
        self.number, self.value_range = number, value_range
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

    def counted(self, window: Window) -> TileHistograms:
        """Read a window, and return its counts."""
        return _tile_counts(self.run, window, self.method, self.image, self.value_range)

    def count_totals(self) -> None:
        """Count the pixels of all tiles, to know which are empty."""
        # Two bins have the same totals, and take no memory; with a range, integers have a bin a value.
        bins = None if self.value_range is not None and self.image.header.dtype.kind != "f" else 2
        nothing = self.method.counts_of_nothing(self.image.header, self.value_range, bins)
        totals = nothing.totals().part((0, 0), self.tiles)
        work = partial(
            _tile_totals, method=self.method, image=self.image, value_range=self.value_range, bins=bins
        )
        if bins is not None:
            totals += count.total_of(self.run, work, operator.iadd, self.image, [self.number])
        else:
            per_pixel = self.image.header.bytes_per_pixel
            for row in self.windows(Window(self.number, 0, 0, *self.shape), self.source_blocks(), per_pixel):
                totals += self.run.summed(
                    work, operator.iadd, row, self.bytes_to_count(row), name_of(self.image.file)
                )
        self.totals = totals

    def map(self, region: Window) -> None:
        """Map the pixels of a part of the page that is made of whole blocks."""
        for band in self.bands(region):
            _Band(self, band).map()

    def bands(self, region: Window) -> Iterator[Window]:
        """Yield columns of a region, whose counts and tables take at most half of the memory."""
        memory = self.run.memory
        height, block = map(min, self.level.blocks(self.number), self.shape)
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
        for left in range(0, region.width, step):
            yield region._replace(left=region.left + left, width=min(step, region.width - left))

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
        self, region: Window, blocks: tuple[int, int], bytes_per_pixel: int
    ) -> Iterator[list[Window]]:
        """Yield rows of windows of a region, whose counts take little of the memory."""
        shape = region.height, region.width
        size = max(1, min(self.run.window_size(), self.most_counted() * bytes_per_pixel))
        smallest = math.prod(map(min, blocks, shape)) * bytes_per_pixel
        while size > smallest:  # a low and wide window touches many tiles
            first = next(windows(shape, blocks, self.number, size, bytes_per_pixel))
            if 4 * self.bytes_of_counts([first]) <= self.run.memory:
                break
            size //= 2
        every = windows(shape, blocks, self.number, size, bytes_per_pixel)
        for _, row in itertools.groupby(every, key=lambda window: window.top):
            yield [w._replace(top=w.top + region.top, left=w.left + region.left) for w in row]

    def bytes_to_count(self, row: list[Window]) -> int:
        """Return the bytes of a window whose counts take at most half of the memory."""
        return count.bytes_read(self.image, row) + 2 * self.bytes_of_counts(row) // COPIES

    def bytes_of_counts(self, pieces: Sequence[Window]) -> int:
        """Return the bytes of the counts of the largest window."""
        height, width = self.tile_size
        return max((w.height // height + 2) * (w.width // width + 2) for w in pieces) * self.bytes_per_tile


def _tile_counts(
    run: Run, window: Window, method: Clahe, image: Image, value_range: Any, bins: int | None = None
) -> TileHistograms:
    with run.step("read"):
        pixels, mask = image.read_counted(window)
    with run.step("compute"):
        return method.counts(image.header, pixels, value_range, (window.top, window.left), mask, bins)


def _tile_totals(run: Run, window: Window, **of_page: Any) -> TileHistograms:
    return _tile_counts(run, window, **of_page).totals()


def _map_window(
    run: Run,
    window: Window,
    tables: TileTables,
    image: Image,
    target: File,
    level: Level,
    dtype: np.dtype[Any],
) -> None:
    with run.step("read"):
        pixels = image.read(window)
    with run.step("compute"):
        # A source that is in memory is still to be counted, in the next band.
        out = as_target(pixels, dtype) if image.source.in_blocks else None
        origin, what = (window.top, window.left), image.selection.of(image.header)
        result = histeq.apply_tiles(pixels, tables, origin=origin, out=out, **what)
    with run.step("write"), _files.writing(target):
        level.write(window, result)


@dataclass
class _Band:
    """A band of columns, from the top to the bottom of a region."""

    page: _Page
    region: Window
    counts: dict[int, TileHistograms] = field(default_factory=dict)
    """Of the rows of tiles that are not complete."""
    tables: dict[int, TileTables] = field(default_factory=dict)
    """Of the rows of tiles that are, and are still needed."""
    others: dict[tuple[int, int], TileTables] = field(default_factory=dict)
    """Of tiles elsewhere whose tables are those of empty tiles here."""

    def __post_init__(self) -> None:
        region = self.region
        self.first, self.stop = self._tiles_around(1, region.left, region.left + region.width)
        self.rows = range(*self._tiles_around(0, region.top, region.top + region.height))
        self.lock = threading.Lock()
        self.ahead = self._source_rows()

    def _tiles_around(self, axis: int, start: int, stop: int) -> tuple[int, int]:
        """Return the tiles between whose centres pixels lie along an axis: the first, and after the last."""
        tile, tiles = self.page.tile_size[axis], self.page.tiles[axis]
        reach = self.page.reach
        return max(0, start // tile - reach), min(tiles, (stop - 1) // tile + reach + 1)

    def _source_rows(self) -> Iterator[list[Window]]:
        """Return rows of windows of the source, from the top on, that hold the pixels of the band's tiles."""
        page, blocks = self.page, self.page.source_blocks()
        edges: list[tuple[int, int]] = []
        for axis, (first, stop) in enumerate(((self.rows.start, self.rows.stop), (self.first, self.stop))):
            tile, tiles, length = page.tile_size[axis], page.tiles[axis], page.shape[axis]
            start = min(first * tile, length - 1)
            if stop == tiles:  # beyond the border there are reflected pixels
                start = max(0, min(start, 2 * length - 2 - tiles * tile))
            edges.append((start - start % blocks[axis], min(stop * tile, length)))
        (top, bottom), (left, right) = edges
        region = Window(page.number, top, left, bottom - top, right - left)
        return page.windows(region, blocks, page.image.header.bytes_per_pixel)

    def map(self) -> None:
        """Map all pixels of the band."""
        page, image, level = self.page, self.page.image, self.page.level
        per_pixel = max(image.header.bytes_per_pixel, image.header.channels * page.dtype.itemsize)
        for pieces in page.windows(self.region, level.blocks(page.number), per_pixel):
            tables = self._tables_for(pieces[0].top, pieces[0].top + pieces[0].height)
            one = partial(
                _map_window, tables=tables, image=image, target=page.target, level=level, dtype=page.dtype
            )
            page.run.over(one, pieces, count.bytes_of(pieces, per_pixel), name_of(image.file))

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
            page.run.over(self._count, row, page.bytes_to_count(row), name_of(page.image.file))
            end = row[0].top + row[0].height
            complete = end // page.tile_size[0] if end < page.shape[0] else page.tiles[0]
        for i in range(complete):
            if i in self.counts:
                self.tables[i] = page.method.tables(self.counts.pop(i))

    def _count(self, run: Run, window: Window) -> None:
        counts = self.page.counted(window)
        for i in range(max(counts.first[0], self.rows.start), min(counts.stop[0], self.rows.stop)):
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
