"""What CLAHE knows of the tiles of an image: their counts, which add up, and their lookup tables."""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from histeq._api.layout import SPACE
from histeq._api.types import AnyArray
from histeq._core import tile_grid
from histeq._core.arguments import integers, shown
from histeq._core.backend import Array, Order
from histeq._core.tile_grid import Grid, Levels

Box = tuple[tuple[int, ...], tuple[int, ...]]
"""Some of the tiles of a grid: the first one's place and the place after the last one's, (D, H, W) each."""


class Kind(NamedTuple):
    """What counts and tables must have in common to be those of one image."""

    grid: Grid
    levels: Levels
    """For counts those that `tile_tables` makes by default."""
    luma: Order | None
    lead: tuple[bool, bool]
    """Whether the public arrays have the axes N and C."""
    spatial: str
    """The spatial axes, in the image's order."""

    def public(self, array: Array) -> Array:
        """Return counts or tables (N, P, D, H, W, bins) with the axes that the layout has, in its order."""
        letters, (has_images, has_planes) = self.spatial, self.lead
        leading = slice(None) if has_images else 0, slice(None) if has_planes else 0
        kept = array[(*leading, *(slice(None) if s in letters else 0 for s in SPACE))]
        before = sum(self.lead)
        order = [before + sorted(letters).index(letter) for letter in letters]
        return kept.transpose(*range(before), *order, kept.ndim - 1)

    def in_order(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Return one number for each of the image's axes, of those for D, H and W."""
        return tuple(sizes[SPACE.index(letter)] for letter in self.spatial)

    def box(self, first: Any, stop: Any) -> Box:
        """Check the corners of a box of tiles, which are given in the order of the image's axes."""
        corners: list[tuple[int, ...]] = []
        for name, value, default in (("first", first, 0), ("stop", stop, 1)):
            need = f"one int for each of the axes {self.spatial}"
            places = integers(name, need, value, len(self.spatial))
            given = dict(zip(self.spatial, places, strict=True))
            corners.append(tuple(given.get(letter, default) for letter in SPACE))
        tiles = self.grid.tiles
        if not all(0 <= a <= b <= n for a, b, n in zip(*corners, tiles, strict=True)):
            raise ValueError(
                f"first and stop must be a box of the {self.in_order(tiles)} tiles, got {shown(first)} and "
                f"{shown(stop)}"
            )
        return corners[0], corners[1]


@dataclass(frozen=True, eq=False)
class _Tiles:
    """What is known of some of the tiles of an image: one row of bins each."""

    _canonical: Any  # (N, P, D, H, W, bins)
    _first: tuple[int, ...]  # (D, H, W)
    _kind: Kind
    _edges: Any

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The spatial axes of the image, to which an `origin` refers."""
        return self._kind.in_order(self._kind.grid.shape)

    @property
    def tiles(self) -> tuple[int, ...]:
        """The number of the image's tiles along each axis."""
        return self._kind.in_order(self._kind.grid.tiles)

    @property
    def tile_size(self) -> tuple[int, ...]:
        """The size of a tile in pixels along each axis."""
        return self._kind.in_order(self._kind.grid.tile)

    @property
    def bins(self) -> int:
        """The number of bins of a tile."""
        return int(self._canonical.shape[-1])

    @property
    def first(self) -> tuple[int, ...]:
        """The place in the grid of the first tile that is held."""
        return self._kind.in_order(self._first)

    @property
    def stop(self) -> tuple[int, ...]:
        """The place in the grid after that of the last tile that is held."""
        return self._kind.in_order(self._box[1])

    @property
    def _box(self) -> Box:
        held = self._canonical.shape[2:5]
        return self._first, tuple(a + n for a, n in zip(self._first, held, strict=True))

    def _zeros(self, box: Box) -> Array:
        (images, planes, *_, bins), size = self._canonical.shape, (b - a for a, b in zip(*box, strict=True))
        return zeros(self._canonical, (images, planes, *size, bins), self._canonical.dtype)

    @property
    def _is_whole(self) -> bool:
        return bool(self._canonical.shape[2:5] == self._kind.grid.tiles)

    def __repr__(self) -> str:
        kind, tiles = type(self).__name__, " x ".join(map(str, self.tiles))
        size = " x ".join(map(str, self.tile_size))
        part = "" if self._is_whole else f", those from {self.first} to {self.stop}"
        return f"{kind}({tiles} tiles of {size} pixels, {self.bins} bins, {self._kind.levels.dtype}{part})"


@dataclass(frozen=True, eq=False, repr=False)
class TileHistograms(_Tiles):
    """The counts of some of the tiles of an image, as `tile_histograms` returns them.

    Those of windows that partition the image add up, ``a + b``, to those of the image; tiles that are not
    held have counts of 0. ``a += b`` adds in place where `a` holds the tiles of `b`.

    Attributes
    ----------
    counts : array of int64
        The counts of each tile that is held: the axes N and C where the image has them (C only for
        ``color="channels"``), one axis of tiles for each spatial axis, the bins last.
    first : tuple of int
        The place in the grid of the first tile that is held.
    stop : tuple of int
        The place in the grid after that of the last tile that is held.
    image_shape : tuple of int
        The spatial axes of the whole image, to which an `origin` refers.
    tiles : tuple of int
        The number of the image's tiles along each axis.
    tile_size : tuple of int
        The size of a tile in pixels along each axis.
    bins : int
        The number of counts of a tile.
    """

    # The nearest tiles with counted pixels, (N, P, D, H, W), once somebody asked for them.
    _nearest: list[NDArray[np.int64]] = field(default_factory=list)

    @property
    def counts(self) -> AnyArray:
        """The counts of each tile that is held."""
        counts: AnyArray = self._kind.public(self._canonical)
        return counts

    def __add__(self, other: "TileHistograms") -> "TileHistograms":
        if not isinstance(other, TileHistograms):
            return NotImplemented
        _check_same(self, other)
        boxes = [each._box for each in (self, other) if each._canonical.size] or [self._box]
        starts, stops = zip(*boxes, strict=True)
        hull = tuple(map(min, *starts, *starts[:1])), tuple(map(max, *stops, *stops[:1]))
        return self._in(hull)._add(other)

    def __radd__(self, other: int) -> "TileHistograms":
        """Serve ``sum(parts)``, which begins with 0."""
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def __iadd__(self, other: "TileHistograms") -> "TileHistograms":
        if not isinstance(other, TileHistograms):
            return NotImplemented
        _check_same(self, other)
        return self._add(other) if holds(self._box, other._box) else self + other

    def part(self, first: Any, stop: Any) -> "TileHistograms":
        """Return the counts of the tiles from `first` to `stop`, a copy.

        Parameters
        ----------
        first, stop : sequence of int
            The place in the grid of the first tile, and that after the last one, in the order of the image's
            spatial axes. Tiles that are not held have counts of 0: memory for more counts to come.

        Raises
        ------
        TypeError, ValueError
            For what is no box of the grid.

        Examples
        --------
        >>> import numpy as np
        >>> import histeq
        >>> window = np.zeros((20, 80), np.uint8)
        >>> upper = histeq.tile_histograms(window, shape=(60, 80), tiles=(6, 8))
        >>> part = upper.part((2, 0), (6, 8))
        >>> part.counts.shape, part.first, part.stop
        ((4, 8, 256), (2, 0), (6, 8))
        """
        return self._in(self._kind.box(first, stop))

    def totals(self) -> "TileHistograms":
        """Return the number of counted pixels of each tile, as counts of one bin.

        They take little memory, add up like other counts, and tell `TileTables.part` which tiles are empty.
        Who needs nothing else of an image of 16 bits counts it with ``bins=2``, which has the same totals.

        Examples
        --------
        >>> import numpy as np
        >>> import histeq
        >>> counts = histeq.tile_histograms(np.zeros((4, 6), np.uint8), tiles=2)
        >>> counts.totals().counts[..., 0]
        array([[6, 6],
               [6, 6]])
        """
        kind = self._kind._replace(levels=replace(self._kind.levels, bins=1))
        return TileHistograms(self._canonical.sum(axis=-1)[..., None], self._first, kind, None)

    def _in(self, box: Box) -> "TileHistograms":
        counts = self._zeros(box)
        here, there = overlap(box, self._box)
        counts[here] = self._canonical[there]
        return TileHistograms(counts, box[0], self._kind, self._edges)

    def _add(self, other: "TileHistograms") -> "TileHistograms":
        here, there = overlap(self._box, other._box)
        self._canonical[here] += other._canonical[there]
        self._nearest.clear()
        return self

    def nearest(self) -> NDArray[np.int64]:
        """Return, for each of the image's tiles, the number of the nearest one with counted pixels.

        (N, P, D, H, W); -1 for images without any counted pixel. A caller who holds the tables of some tiles
        learns which others it needs: those of the nearest tiles stand in for those of empty ones.

        Examples
        --------
        >>> import numpy as np
        >>> import histeq
        >>> window = np.zeros((2, 6), np.uint8)
        >>> counts = histeq.tile_histograms(window, shape=(4, 6), tiles=2)
        >>> counts.nearest()[0, 0, 0]
        array([[0, 1],
               [0, 1]])
        """
        if not self._nearest:
            grid = self._kind.grid
            whole = self._in(((0, 0, 0), grid.tiles))._canonical
            empty = on_host(whole.sum(axis=-1)) == 0
            self._nearest.append(_nearest_full(empty))
        return self._nearest[0]


@dataclass(frozen=True, eq=False, repr=False)
class TileTables(_Tiles):
    """The lookup tables of some of the tiles of an image, as `tile_tables` returns them.

    Attributes
    ----------
    tables : array, read-only
        One table for each tile that is held: the axes N and C where the image has them (C only for
        ``color="channels"``), one axis of tiles for each spatial axis, the bins last. uint8 for images of 8
        bits, else uint16. Entries are levels above the dtype's smallest value, in units of ``2**16 / bins``
        for fewer bins without `out_range`; with `value_range` or `out_dtype` they are levels above the
        lowest.
    first : tuple of int
        The place in the grid of the first tile that is held. All tiles are, unless the tables were made of
        counts of some tiles.
    stop : tuple of int
        The place in the grid after that of the last tile that is held.
    image_shape : tuple of int
        The spatial axes of the image that was counted, to which an `origin` refers.
    tiles : tuple of int
        The number of the image's tiles along each axis.
    tile_size : tuple of int
        The size of a tile in pixels along each axis.
    bins : int
        The number of entries of a table.
    """

    _missing: NDArray[np.bool_] | None = None  # (N, P, D, H, W): which of the tiles have none; None: all have

    @property
    def tables(self) -> AnyArray:
        """One table for each tile that is held."""
        tables: Array = self._kind.public(self._canonical)
        if isinstance(tables, np.ndarray):
            tables.flags.writeable = False
        public: AnyArray = tables
        return public

    def part(
        self, first: Any, stop: Any, *others: "TileTables", counted: TileHistograms | None = None
    ) -> "TileTables":
        """Return the tables of the tiles from `first` to `stop`, a copy, taken from these and from `others`.

        So a caller who goes through a large image needs to hold the tables of few rows of tiles only.

        Parameters
        ----------
        first, stop : sequence of int
            The place in the grid of the first tile, and that after the last one, in the order of the image's
            spatial axes.
        *others : TileTables
            More tables of the same image.
        counted : TileHistograms, optional
            How many pixels were counted in the tiles of the whole image: its counts, or their `totals`. With
            it, tiles without a counted pixel get the table of the nearest tile that has one, as they have
            in the whole image; without, they have none.

        Returns
        -------
        TileTables
            Tiles whose table, or whose nearest tile's table, nobody holds have none. `apply_tiles` raises if
            it needs one of these.

        Raises
        ------
        TypeError, ValueError
            For what is no box of the grid, and for tables or counts of another image.

        Examples
        --------
        >>> import numpy as np
        >>> import histeq
        >>> image = np.arange(4800, dtype=np.uint16).reshape(60, 80)
        >>> counts = histeq.tile_histograms(image)
        >>> row_2 = histeq.tile_tables(counts.part((2, 0), (3, 8)))
        >>> row_3 = histeq.tile_tables(counts.part((3, 0), (4, 8)))
        >>> between = row_2.part((2, 0), (4, 8), row_3)    # of 8 rows of pixels each
        >>> window = histeq.apply_tiles(image[20:28], between, origin=(20, 0))
        >>> bool((window == histeq.clahe(image)[20:28]).all())
        True
        """
        box, sources = self._kind.box(first, stop), (self, *others)
        for other in others:
            if not isinstance(other, TileTables):
                raise TypeError(f"others must be TileTables, got {type(other).__name__}")
            _check_same(self, other)
        if counted is not None:
            _check_counted(self, counted)
        tables = self._zeros(box)
        missing = np.ones(tables.shape[:-1], np.bool_)
        for source in sources:
            here, there = overlap(box, source._box)
            if source._missing is None:
                tables[here], missing[here] = source._canonical[there], False
                continue
            for at in zip(*np.nonzero(missing[here] & ~source._missing[there]), strict=True):
                tables[here][at], missing[here][at] = source._canonical[there][at], False
        if counted is not None and missing.any():
            self._fill(tables, box, missing, sources, counted.nearest())
        return replace(self, _canonical=tables, _first=box[0], _missing=missing if missing.any() else None)

    def _in(self, box: Box) -> "TileTables":
        tables = self._zeros(box)
        missing = np.ones(tables.shape[:-1], np.bool_)
        here, there = overlap(box, self._box)
        tables[here] = self._canonical[there]
        missing[here] = False if self._missing is None else self._missing[there]
        return replace(self, _canonical=tables, _first=box[0], _missing=missing if missing.any() else None)

    def _fill(
        self,
        tables: Array,
        box: Box,
        missing: NDArray[np.bool_],
        sources: "tuple[TileTables, ...]",
        nearest: NDArray[np.int64],
    ) -> None:
        """Write the tables of empty tiles, where their nearest tile is in one of the sources."""
        for n, p, *place in zip(*map(np.ndarray.tolist, np.nonzero(missing)), strict=True):
            tile = tuple(a + b for a, b in zip(place, box[0], strict=True))
            of = int(nearest[(min(n, len(nearest) - 1), p, *tile)])
            if of < 0:
                put(tables, (n, p, *place), tile_grid.unchanged(self._kind.levels))
                missing[(n, p, *place)] = False
                continue
            near = tuple(int(i) for i in np.unravel_index(of, self._kind.grid.tiles))
            for source in sources:
                table = source._table(n, p, near)
                if table is not None:
                    tables[(n, p, *place)] = table
                    missing[(n, p, *place)] = False
                    break

    def _table(self, n: int, p: int, tile: tuple[int, ...]) -> Array | None:
        """Return the table of a tile, if it is held."""
        at = (n, p, *(a - b for a, b in zip(tile, self._first, strict=True)))
        if not holds(self._box, (tile, tuple(a + 1 for a in tile))):
            return None
        return None if self._missing is not None and self._missing[at] else self._canonical[at]


def filled(tables: TileTables, empty: NDArray[np.bool_]) -> TileTables:
    """Return tables of all tiles where those of `empty` ones are the nearest others'; changed in place."""
    missing = empty.copy()
    source = replace(tables, _missing=empty)
    tables._fill(tables._canonical, tables._box, missing, (source,), _nearest_full(empty))
    return tables


def _nearest_full(empty: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the number of each tile's nearest one that is not empty, (N, P, D, H, W); -1: all are."""
    nearest = np.full(empty.shape, -1, np.int64)
    for at in np.ndindex(empty.shape[:2]):
        if not empty[at].all():
            nearest[at] = tile_grid.nearest_full(empty[at])
    return nearest


def zeros(like: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Return an array of 0 of the library and on the device of another one."""
    if isinstance(like, np.ndarray):
        return np.zeros(shape, dtype)
    with like.device:
        array = type(like)(shape, dtype)
        array[...] = 0
    return array


def on_host(array: Array) -> NDArray[Any]:
    """Return an array as NumPy's."""
    host: NDArray[Any] = array if isinstance(array, np.ndarray) else array.get()
    return host


def put(array: Array, at: tuple[int, ...], values: NDArray[Any]) -> None:
    """Write NumPy's values into a part of an array of any backend."""
    if isinstance(array, np.ndarray):
        array[at] = values
    else:
        array[at].set(values)


def holds(box: Box, other: Box) -> bool:
    """Tell whether a box of tiles holds all of another."""
    if any(a >= b for a, b in zip(*other, strict=True)):
        return True
    starts = all(a <= b for a, b in zip(box[0], other[0], strict=True))
    return starts and all(a >= b for a, b in zip(box[1], other[1], strict=True))


def overlap(box: Box, other: Box) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return where the tiles that two boxes share are in the arrays of either."""
    first = [max(a, b) for a, b in zip(box[0], other[0], strict=True)]
    stop = [max(a, min(b, c)) for a, b, c in zip(first, box[1], other[1], strict=True)]
    all_planes = (slice(None), slice(None))
    here, there = (
        (*all_planes, *(slice(a - s, b - s) for a, b, s in zip(first, stop, start, strict=True)))
        for start in (box[0], other[0])
    )
    return here, there


def _check_same(a: _Tiles, b: _Tiles) -> None:
    """Raise ValueError unless counts, or tables, are those of one image."""
    same_axes = a._canonical.shape[:2] == b._canonical.shape[:2] and a.bins == b.bins
    if a._kind != b._kind or not same_axes or type(a._canonical) is not type(b._canonical):
        raise ValueError(
            "counts and tables must be of the same image, dtype, axes, tiles and bins, got "
            f"{_described(a)} and {_described(b)}"
        )
    if not isinstance(a._canonical, np.ndarray) and a._canonical.device != b._canonical.device:
        raise ValueError(
            f"counts and tables must be on one device, got {a._canonical.device} and {b._canonical.device}"
        )
    if a._edges is not None and not bool((a._edges == b._edges).all()):
        raise ValueError("counts and tables must have the same edges of bins: give value_range")


def _check_counted(tables: TileTables, counted: Any) -> None:
    """Raise unless counts are those of the tables' tiles."""
    if not isinstance(counted, TileHistograms):
        raise TypeError(f"counted must be TileHistograms, got {type(counted).__name__}")
    same_axes = tables._canonical.shape[:2] == counted._canonical.shape[:2]
    if tables._kind.grid != counted._kind.grid or not same_axes:
        raise ValueError(
            f"counted must be counts of the tables' image and tiles, got {_described(counted)} for "
            f"{_described(tables)}"
        )


def _described(tiles: _Tiles) -> str:
    """Say, for an error, what counts and tables are of."""
    images, planes = tiles._canonical.shape[:2]
    value_range = tiles._kind.levels.value_range
    limits = "" if value_range is None else f", value_range={value_range}"
    return f"{tiles!r} of {images} x {planes} planes of shape {tiles.image_shape}{limits}"
