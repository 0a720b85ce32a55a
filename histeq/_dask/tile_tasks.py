"""What the tasks of CLAHE on Dask arrays do: count a chunk, make tables of the counts, map the chunk by them.

What leaves a chunk is a *share*: the tables of the tiles that lie in it, which are small, and the counts of
those of which it has some pixels. The geometry and the graph are in `histeq/_dask/tile_graph.py`.
"""

import functools
import itertools
import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import histeq
from histeq._api.clahe import count_window
from histeq._api.layout import SPACE, Axes
from histeq._api.request import Request, request
from histeq._api.tiles import Box, Kind, TileHistograms, TileTables, filled, overlap, put, zeros
from histeq._core import dispatch, tile_grid
from histeq._core.backend import Array
from histeq._core.threads import threads
from histeq._dask.chunk import Place, Selection

Share = list[TileHistograms | TileTables]
"""What is known of some tiles, each of them as part of one or more boxes."""
StandIns = NDArray[np.int64]
"""A row for each empty tile: image, histogram, its number, that of the tile whose table it takes or -1."""
Exports = dict[tuple[int, int, int], Array]
"""Tables by image, histogram and number of the tile."""
Strips = dict[tuple[int, ...], tuple[tuple[int, ...], Array]]
"""By the chunk that needs it: where a part of another chunk begins, and its pixels."""

_BYTES = 64 << 20
"""What the counts or the tables that a task makes at once may take, as far as it can go by rows of tiles."""


@dataclass(frozen=True, slots=True)
class Job:
    """What every task of a call knows."""

    selection: Selection
    axes: Axes
    kind: Kind
    limit: float | None
    """The clip limit; None: tables are not made where pixels are counted."""
    bounds: tuple[float, float] | None
    """The range of a floating image's bins, where it is given."""

    def request(self, pixels: Array) -> Request:
        """Return the request for a window of several chunks, all of whose pixels count."""
        return request(pixels, value_range=self.selection.value_range, **self.selection.of())

    @property
    def may_be_empty(self) -> bool:
        """Whether a tile may have no pixel that counts, without a mask or a range."""
        return self.selection.nodata is not None or self.selection.dtype.kind == "f"


# Counting -------------------------------------------------------------------------------------------


def counted(
    place: Place, chunk: Array, mask: Array | None, edges: Array | None, job: Job, origin: tuple[int, ...]
) -> Share:
    """Count a chunk, which begins at `origin`, (D, H, W)."""
    call = job.selection.request(chunk, place, mask)
    with threads(1):
        return share_of(job, call, origin, edges)


def share_of(job: Job, call: Request, origin: tuple[int, ...], edges: Array | None) -> Share:
    """Count a window, which begins at `origin`. The counts of tiles that lie in it become tables."""
    if edges is None:
        edges = call.edges(job.kind.levels.bins, job.bounds)
        edges = None if edges is None else edges.copy()  # a backend may use that memory again
    share: Share = []
    for where in _bands(job, call, origin):
        start = tuple(a + part.start for a, part in zip(origin, where, strict=True))
        part = replace(call, pixels=call.pixels.window(where))
        counts = _counts(job, part, start, edges)
        inner = complete(job.kind.grid, start, part.pixels.image.shape[2:])
        if job.limit is None or is_empty(inner):
            share.append(counts)
            continue
        share.append(_tables_of(job, counts._in(inner)))
        share += [counts._in(box) for box in _shell(counts._box, inner)]
    return share


def _bands(job: Job, call: Request, origin: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Yield parts of a window, whole rows of tiles, the counts of whose tiles take little memory."""
    grid, size = job.kind.grid, tuple(call.pixels.image.shape[2:])
    held = [b - a for a, b in zip(*grid.touched(origin, size), strict=True)]
    axis = held.index(max(held))
    row = 8 * job.kind.levels.bins * math.prod(call.pixels.histograms) * math.prod(held) // max(1, held[axis])
    rows = max(1, _BYTES // max(1, row))
    if job.limit is None:  # all counts leave the chunk
        rows = max(1, *held)
    return cut(size, axis, origin[axis], grid.tile[axis], rows)


def cut(size: tuple[int, ...], axis: int, start: int, tile: int, rows: int) -> Iterator[tuple[slice, ...]]:
    """Yield the parts of a window, `start` along an axis, of `rows` rows of tiles each."""
    whole = [slice(0, n) for n in size]
    end, step = start + size[axis], rows * tile
    for begin, after in itertools.pairwise([start, *range(start // tile * tile + step, end, step), end]):
        whole[axis] = slice(begin - start, after - start)
        yield tuple(whole)


def _counts(job: Job, call: Request, start: tuple[int, ...], edges: Array | None) -> TileHistograms:
    """Return the counts of the tiles that a window touches."""
    kind, size = job.kind, tuple(call.pixels.image.shape[2:])
    first, stop = kind.grid.touched(start, size)
    held = (b - a for a, b in zip(first, stop, strict=True))
    shape = (*call.pixels.histograms, *held, kind.levels.bins)
    counts = TileHistograms(zeros(call.image, shape, np.int64), first, kind, edges)
    count_window(call, start, counts)
    return counts


def complete(grid: tile_grid.Grid, start: Sequence[int], size: Sequence[int]) -> Box:
    """Return a box of tiles all of whose pixels lie in a window."""
    found = [complete_along(grid, axis, start[axis], size[axis]) for axis in range(3)]
    return tuple(run.start for run in found), tuple(run.stop for run in found)


@functools.lru_cache(maxsize=256)
def complete_along(grid: tile_grid.Grid, axis: int, start: int, count: int) -> range:
    """Return tiles that follow each other along an axis, all of whose pixels there lie in a window."""
    pixels: dict[int, int] = {}
    for stretch in grid.stretches(axis, start, count):
        pixels[stretch.tile] = pixels.get(stretch.tile, 0) + stretch.stop - stretch.start
    tiles = sorted(tile for tile, number in pixels.items() if number == grid.tile[axis])
    if not tiles:
        return range(0)
    length = next((i for i, tile in enumerate(tiles) if tile != tiles[0] + i), len(tiles))
    return range(tiles[0], tiles[0] + length)


def is_empty(box: Box) -> bool:
    """Tell whether a box holds nothing."""
    return any(a >= b for a, b in zip(*box, strict=True))


def _shell(box: Box, inner: Box) -> Iterator[Box]:
    """Yield boxes that make up a box without an inner one."""
    first, stop = list(box[0]), list(box[1])
    for axis in range(3):
        low, high = inner[0][axis], inner[1][axis]
        for begin, after in ((first[axis], low), (high, stop[axis])):
            if begin < after:
                corners = [*first], [*stop]
                corners[0][axis], corners[1][axis] = begin, after
                yield tuple(corners[0]), tuple(corners[1])
        first[axis], stop[axis] = low, high


# Tables ---------------------------------------------------------------------------------------------


def _tables_of(job: Job, counts: TileHistograms) -> TileTables:
    """Return the tables of tiles whose counts are complete; empty tiles have none."""
    backend = dispatch.choose(counts._canonical, job.selection.backend)
    assert job.limit is not None
    tables, empty = backend.tables_of_tiles(counts._canonical, job.limit, job.kind.levels)
    return TileTables(tables, counts._first, job.kind, counts._edges, empty if empty.any() else None)


def merged(box: Box, *shares: Share) -> Share:
    """Return what several shares know of the tiles of a box, their counts added up."""
    pieces = [piece for share in shares for piece in share if not is_empty(_common(piece._box, box))]
    counts = [p._in(_common(p._box, box)) for p in pieces if isinstance(p, TileHistograms)]
    tables: Share = [piece for piece in pieces if isinstance(piece, TileTables)]
    return [*tables, *([functools.reduce(operator.add, counts)] if counts else [])]


def tables_in(job: Job, box: Box, *shares: Share) -> TileTables:
    """Return the tables of the tiles of a box, of which the shares hold all counts. Empty tiles have none."""
    pieces = [piece for share in shares for piece in share if not is_empty(_common(piece._box, box))]
    like = shares[0][0]._canonical
    lead, size = like.shape[:2], tuple(b - a for a, b in zip(*box, strict=True))
    tables = zeros(like, (*lead, *size, job.kind.levels.bins), job.kind.levels.table_dtype)
    missing = np.ones((*lead, *size), np.bool_)
    result = TileTables(tables, box[0], job.kind, shares[0][0]._edges, missing)
    _add_up(job, result, [piece for piece in pieces if isinstance(piece, TileHistograms)])
    for piece in pieces:
        if isinstance(piece, TileTables):
            here, there = overlap(box, piece._box)
            tables[here] = piece._canonical[there]
            missing[here] = False if piece._missing is None else piece._missing[there]
    return result if missing.any() else replace(result, _missing=None)


def _add_up(job: Job, tables: TileTables, pieces: list[TileHistograms]) -> None:
    """Write the tables of tiles whose counts add up from several pieces."""
    box, places = tables._box, dict[tuple[int, ...], int]()
    for piece in pieces:
        for tile in _places(_common(piece._box, box)):
            places.setdefault(tile, len(places))
    if not places:
        return
    images, planes, *_, bins = pieces[0]._canonical.shape
    total = zeros(pieces[0]._canonical, (images, planes, 1, 1, len(places), bins), np.int64)
    for piece in pieces:
        for tile in _places(_common(piece._box, box)):
            z, y, x = (a - b for a, b in zip(tile, piece._first, strict=True))
            total[:, :, 0, 0, places[tile]] += piece._canonical[:, :, z, y, x]
    made = _tables_of(job, TileHistograms(total, (0, 0, 0), job.kind, None))
    assert tables._missing is not None
    for tile, number in places.items():
        z, y, x = (a - b for a, b in zip(tile, box[0], strict=True))
        tables._canonical[:, :, z, y, x] = made._canonical[:, :, 0, 0, number]
        tables._missing[:, :, z, y, x] = False if made._missing is None else made._missing[:, :, 0, 0, number]


def _common(box: Box, other: Box) -> Box:
    """Return what two boxes share."""
    return tuple(map(max, box[0], other[0])), tuple(map(min, box[1], other[1]))


def _places(box: Box) -> Iterator[tuple[int, ...]]:
    return itertools.product(*(range(a, b) for a, b in zip(*box, strict=True)))


def sum_of(*shares: Share | TileHistograms) -> TileHistograms:
    """Return the sum of what chunks have counted, for a tree."""
    counts = [piece for share in shares for piece in (share if isinstance(share, list) else [share])]
    return functools.reduce(operator.add, [each for each in counts if isinstance(each, TileHistograms)])


def all_tables(job: Job, *tables: TileTables) -> TileTables:
    """Return the tables of all tiles, of which others hold parts; empty tiles have those of the nearest."""
    whole = tables_in(job, ((0, 0, 0), job.kind.grid.tiles), list(tables))
    missing = whole._missing
    return whole if missing is None else filled(replace(whole, _missing=None), missing)


def side_by_side(columns: int, *found: Any) -> Any:
    """Return counts, or tables, of all images and histograms, of which others hold a part each."""
    if len(found) == 1:
        return found[0]

    def joined(parts: Any) -> Any:
        return np.concatenate(
            [np.concatenate(parts[i : i + columns], axis=1) for i in range(0, len(parts), columns)]
        )

    edges = None if found[0]._edges is None else joined([each._edges for each in found])
    return replace(found[0], _canonical=joined([each._canonical for each in found]), _edges=edges)


def nothing(*tables: object) -> None:
    """Do nothing, after all tables were made."""


# Empty tiles ----------------------------------------------------------------------------------------
#
# A tile without a counted pixel takes the table of the nearest one that has some. Where all pixels that are
# mapped are counted, a table that is used is beside the tile of such a pixel, and its nearest one beside it.
# Masked pixels are mapped, too: the tile may then be anywhere.


def empty_tiles(tables: TileTables) -> NDArray[np.bool_]:
    """Return which tiles have no table, (N, P, D, H, W)."""
    return np.zeros(tables._canonical.shape[:-1], np.bool_) if tables._missing is None else tables._missing


def stand_ins(tiles: tuple[int, ...], boxes: Sequence[Box], *empties: NDArray[np.bool_]) -> StandIns:
    """Return which tiles stand in for the empty ones of the whole image."""
    whole = np.empty((*empties[0].shape[:2], *tiles), np.bool_)
    for box, empty in zip(boxes, empties, strict=True):
        z, y, x = map(slice, *box)
        whole[:, :, z, y, x] = empty
    rows: list[NDArray[np.int64]] = [np.zeros((0, 4), np.int64)]
    for n, p in np.ndindex(whole.shape[:2]):
        empty = whole[n, p]
        if not empty.any():
            continue
        numbers = np.flatnonzero(empty)
        nearest = np.full_like(numbers, -1) if empty.all() else tile_grid.nearest_full(empty).ravel()[numbers]
        rows.append(np.stack([np.full_like(numbers, n), np.full_like(numbers, p), numbers, nearest], axis=1))
    return np.concatenate(rows)


def exports(tables: TileTables, rows: StandIns) -> Exports:
    """Return those of the tables that stand in for tiles of other boxes."""
    wanted = rows[_inside(tables, rows[:, 3]) & ~_inside(tables, rows[:, 2])]
    # A copy: a view would keep all of the tables.
    return {(n, p, of): tables._canonical[_at(tables, n, p, of)].copy() for n, p, _, of in wanted.tolist()}


def together(*found: Exports) -> Exports:
    """Return several dictionaries as one."""
    return {key: value for each in found for key, value in each.items()}


def completed(tables: TileTables, rows: StandIns, elsewhere: Exports) -> TileTables:
    """Return tables with those of the empty tiles."""
    if tables._missing is None:
        return tables
    array = tables._canonical.copy()
    for n, p, number, of in rows[_inside(tables, rows[:, 2])].tolist():
        at = _at(tables, n, p, number)
        if of < 0:
            put(array, at, tile_grid.unchanged(tables._kind.levels))
        else:
            table = elsewhere.get((n, p, of))
            array[at] = tables._canonical[_at(tables, n, p, of)] if table is None else table
    return replace(tables, _canonical=array, _missing=None)


def _inside(tables: TileTables, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which tiles, given by their numbers, are among those of some tables."""
    inside = numbers >= 0
    places = np.unravel_index(np.maximum(numbers, 0), tables._kind.grid.tiles)
    for place, first, stop in zip(places, *tables._box, strict=True):
        inside &= (place >= first) & (place < stop)
    return inside


def _at(tables: TileTables, n: int, p: int, number: int) -> tuple[int, ...]:
    """Return where a tile's table is."""
    places = np.unravel_index(number, tables._kind.grid.tiles)
    return (n, p, *(int(a) - b for a, b in zip(places, tables._box[0], strict=True)))


def _from_beside(tables: TileTables, box: Box) -> TileTables:
    """Return the tables of a box, those of empty tiles from beside them; held are those around it, too."""
    missing = tables._missing
    if missing is None or not missing.any():
        return tables._in(box)
    array, missing = tables._canonical.copy(), missing.copy()
    offset = tables._box[0]
    for n, p in np.ndindex(missing.shape[:2]):
        empty = missing[n, p].copy()
        if not empty.any() or empty.all():
            continue
        nearest = tile_grid.nearest_full(empty)
        for tile in _places(box):
            at = tuple(a - b for a, b in zip(tile, offset, strict=True))
            of = tuple(map(int, np.unravel_index(nearest[at], empty.shape)))
            if empty[at] and all(abs(a - b) <= 1 for a, b in zip(at, of, strict=True)):
                array[(n, p, *at)] = array[(n, p, *of)]
                missing[(n, p, *at)] = False
    return replace(tables, _canonical=array, _missing=missing)._in(box)


# Mapping --------------------------------------------------------------------------------------------


def mapped(
    place: Place,
    chunk: Array,
    mask: None,
    edges: Array | None,
    job: Job,
    origin: tuple[int, ...],
    needed: Box,
    *tables: TileTables,
) -> Array:
    """Map a chunk, which begins at `origin`, by the tables of the tiles around its pixels."""
    if not tables:  # there are no pixels
        planes = job.selection.request(chunk, place).pixels.histograms[1]
        nothing = zeros(chunk, (1, planes, 0, 0, 0, job.kind.levels.bins), job.kind.levels.table_dtype)
        few = TileTables(nothing, (0, 0, 0), job.kind, None)
    else:
        hull = _hull([each._box for each in tables])
        few = _from_beside(tables_in(job, _common(hull, beside(job.kind.grid, needed)), list(tables)), needed)
    options = {"origin": job.kind.in_order(origin), **job.selection.of()}
    return job.selection.checked(place, histeq.apply_tiles, chunk, tables=few, **options)


def _hull(boxes: Sequence[Box]) -> Box:
    firsts, stops = zip(*boxes, strict=True)
    return tuple(map(min, zip(*firsts, strict=True))), tuple(map(max, zip(*stops, strict=True)))


def mapped_by(
    selection: Selection,
    place: Place,
    origin: tuple[int, ...],
    planes: tuple[slice, slice],
    chunk: Array,
    tables: TileTables,
) -> Array:
    """Map a chunk by tables of all images and histograms, of which it has some."""
    n, p = planes
    n = n if len(tables._canonical) > 1 else slice(None)
    edges, missing = tables._edges, tables._missing
    own = replace(
        tables,
        _canonical=tables._canonical[n, p],
        _edges=edges if edges is None else edges[n if len(edges) > 1 else slice(None), p],
        _missing=missing if missing is None else missing[n, p],
    )
    options = {"origin": tables._kind.in_order(origin), **selection.of()}
    return selection.checked(place, histeq.apply_tiles, chunk, tables=own, **options)


# Windows --------------------------------------------------------------------------------------------
#
# Tables of many bins take more memory than the pixels of small tiles. Then pixels leave a chunk, in *strips*,
# and who maps a chunk makes the tables that it needs, some rows of tiles at a time.


def strips_of(
    place: Place,
    chunk: Array,
    mask: None,
    edges: Array | None,
    job: Job,
    origin: tuple[int, ...],
    wanted: Sequence[tuple[tuple[int, ...], Box]],
) -> Strips:
    """Return copies of parts of a chunk; `wanted` are boxes of pixels and who needs them."""
    job.selection.request(chunk, place)
    return {who: (box[0], chunk[_index(job, box, origin)].copy()) for who, box in wanted}


def mapped_in_window(
    place: Place,
    chunk: Array,
    mask: None,
    edges: Array | None,
    job: Job,
    origin: tuple[int, ...],
    who: tuple[int, ...],
    window: Box,
    *strips: Strips,
) -> Array:
    """Map a chunk by tables that are made of a window of the image around it."""
    call = job.selection.request(chunk, place)
    with threads(1):
        pixels = _assembled(job, window, [(origin, chunk), *(each[who] for each in strips)])
        return _map_by_rows(job, call, origin, window, pixels, edges)


def _map_by_rows(
    job: Job, call: Request, origin: tuple[int, ...], window: Box, pixels: Array, edges: Array | None
) -> Array:
    """Map a chunk by the tables of some rows of tiles at a time."""
    grid, levels, chunk = job.kind.grid, job.kind.levels, call.image
    size = tuple(call.pixels.image.shape[2:])
    held = [b - a for a, b in zip(*beside(grid, needed_tiles(grid, origin, size)), strict=True)]
    axis = held.index(max(held))
    row = levels.bins * levels.table_dtype.itemsize * math.prod(call.pixels.histograms)
    rows = max(4, _BYTES // max(1, row * (math.prod(held) // held[axis])))
    out = call.result(None, levels.result_dtype_for(call.dtype))
    for where in cut(size, axis, origin[axis], grid.tile[axis], rows):
        start = tuple(a + part.start for a, part in zip(origin, where, strict=True))
        stop = tuple(a + part.stop for a, part in zip(origin, where, strict=True))
        needed = needed_tiles(grid, start, [part.stop - part.start for part in where])
        around = beside(grid, needed) if job.may_be_empty else needed
        box = pixels_of(grid, around)
        share = share_of(job, job.request(pixels[_index(job, box, window[0])]), box[0], edges)
        tables = _from_beside(tables_in(job, around, share), needed)
        at = _index(job, (start, stop), origin)
        options = {"origin": job.kind.in_order(start), **job.selection.of()}
        histeq.apply_tiles(chunk[at], tables, out=out[at], **options)
    return out


def _assembled(job: Job, window: Box, pieces: Sequence[tuple[tuple[int, ...], Array]]) -> Array:
    """Return a window of the image of its parts."""
    chunk = pieces[0][1]
    shape = list(chunk.shape)
    for axis, letter in _spatial_axes(job.axes):
        shape[axis] = window[1][letter] - window[0][letter]
    pixels = zeros(chunk, tuple(shape), chunk.dtype)
    for start, piece in pieces:
        size = [1, 1, 1]
        for axis, letter in _spatial_axes(job.axes):
            size[letter] = piece.shape[axis]
        box = _common((start, tuple(map(operator.add, start, size))), window)
        if not is_empty(box):
            pixels[_index(job, box, window[0])] = piece[_index(job, box, start)]
    return pixels


def _spatial_axes(axes: Axes) -> list[tuple[int, int]]:
    """Return each spatial axis of an array, and which of D, H and W it is."""
    return [
        (i, SPACE.index(letter))
        for i, letter in zip(axes.order, axes.letters, strict=True)
        if letter in SPACE
    ]


def _index(job: Job, box: Any, origin: Sequence[int]) -> tuple[slice, ...]:
    """Return what indexes a box of pixels in an array that begins at `origin`."""
    index = [slice(None)] * len(job.axes.order)
    for axis, at in _spatial_axes(job.axes):
        index[axis] = slice(box[0][at] - origin[at], box[1][at] - origin[at])
    return tuple(index)


def needed_tiles(grid: tile_grid.Grid, start: Sequence[int], size: Sequence[int]) -> Box:
    """Return the box of the tiles whose tables a window needs."""
    found = [grid.needed(axis, start[axis], size[axis]) for axis in range(3)]
    return tuple(each.start for each in found), tuple(each.stop for each in found)


def beside(grid: tile_grid.Grid, box: Box) -> Box:
    """Return a box with the tiles beside it."""
    stop = (min(b + 1, n) for b, n in zip(box[1], grid.tiles, strict=True))
    return tuple(max(a - 1, 0) for a in box[0]), tuple(stop)


def pixels_of(grid: tile_grid.Grid, box: Box) -> Box:
    """Return the box of the pixels that some tiles count."""
    found = [counted_along(grid, axis, *ends) for axis, ends in enumerate(zip(*box, strict=True))]
    return tuple(a for a, _ in found), tuple(b for _, b in found)


def counted_along(grid: tile_grid.Grid, axis: int, first: int, stop: int) -> tuple[int, int]:
    """Return where the pixels begin and end that the tiles from `first` to `stop` count along an axis."""
    positions = grid.positions(axis)[first * grid.tile[axis] : stop * grid.tile[axis]]
    return int(positions.min()), int(positions.max()) + 1
