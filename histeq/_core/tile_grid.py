"""The geometry and the arithmetic of CLAHE, in NumPy: the grid of tiles, their tables and the interpolation.

All of it follows OpenCV's `cv::CLAHE` (imgproc/src/clahe.cpp), after Zuiderveld, "Contrast Limited Adaptive
Histogram Equalization", Graphics Gems IV, 1994; with a third axis where the image has depth. Every backend
reproduces these functions.
"""

import functools
import math
import numbers
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from histeq._core import rules as _rules
from histeq._core.arguments import as_float, integers, is_integer, shown

Array = NDArray[Any]
Box = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]

TILES = (8, 8)
"""The default: eight along every axis, however many there are."""
MOST_ENTRIES = 1 << 30
"""The most entries that tables may have in all, unless there are pixels for more: 2 GiB of 16 bits, more than
a mistake is worth."""
ENTRIES_PER_PIXEL = 256
"""How many entries a pixel allows for: tiles of 16 x 16 pixels with a bin for each value of 16 bits."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The grid of tiles; tuples are (D, H, W). An axis that the layout lacks has one tile of one pixel."""

    shape: tuple[int, ...]
    """The image's size."""
    tiles: tuple[int, ...]
    """The number of tiles along each axis."""
    tile: tuple[int, ...]
    """The size of a tile. The last tiles may extend beyond the image, where pixels are reflected."""

    def positions(self, axis: int) -> NDArray[np.int64]:
        """Return the pixel at each position along an axis, up to the end of the last tile."""
        return reflected(self.shape[axis], self.tiles[axis] * self.tile[axis])

    def box(self, at: tuple[int, ...]) -> Box:
        """Return the positions of the pixels of one tile along each axis."""
        z, y, x = (
            self.positions(axis)[i * self.tile[axis] : (i + 1) * self.tile[axis]] for axis, i in enumerate(at)
        )
        return z, y, x

    def neighbours(self, axis: int, start: int, count: int, first: int = 0) -> "Neighbours":
        """Return the tiles, and their weights, around `count` pixels from `start` on along an axis.

        Tiles are numbered from `first` on.
        """
        return window_neighbours(self.shape[axis], self.tile[axis], self.tiles[axis], start, count, first)

    def served(self, axis: int, tile: int, start: int, count: int) -> slice:
        """Return which of `count` pixels from `start` on the table of a tile serves along an axis."""
        around = neighbours(self.shape[axis], self.tile[axis], self.tiles[axis]).tiles
        at = np.flatnonzero((around[:, start : start + count] == tile).any(axis=0))
        return slice(int(at[0]), int(at[-1]) + 1) if len(at) else slice(0)

    def touched(
        self, start: tuple[int, ...], shape: tuple[int, ...]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the box of the tiles that count pixels of a window: the first one, and after the last."""
        if 0 in shape:
            return (0, 0, 0), (0, 0, 0)
        found = [[s.tile for s in self.stretches(axis, start[axis], shape[axis])] for axis in range(3)]
        return tuple(map(min, found)), tuple(max(tiles) + 1 for tiles in found)

    def needed(self, axis: int, start: int, count: int) -> range:
        """Return the tiles whose tables `count` pixels from `start` on need along an axis."""
        if count == 0:
            return range(0)
        around = neighbours(self.shape[axis], self.tile[axis], self.tiles[axis]).tiles
        return range(int(around[0, start]), int(around[1, start + count - 1]) + 1)

    def stretches(self, axis: int, start: int, count: int) -> "tuple[Stretch, ...]":
        """Return where the tiles count the pixels of a window along an axis: `count` from `start` on.

        A pixel that is reflected into a tile beyond the border is in one more stretch for each time.
        """
        return stretches(self.shape[axis], self.tile[axis], self.tiles[axis], start, count)


class Stretch(NamedTuple):
    """Pixels of a window, `start` to `stop` along an axis, that a tile counts."""

    tile: int
    start: int
    stop: int


class Neighbours(NamedTuple):
    """The two tiles between whose centres each pixel lies along an axis, and their weights: (2, pixels) each.

    At the image's border both are the same tile.
    """

    tiles: NDArray[np.int64]
    weights: NDArray[np.float32]

    def cut(self, part: slice) -> "Neighbours":
        """Return the tiles and weights of some of the pixels, as contiguous arrays."""
        return Neighbours(self.tiles[:, part].copy(), self.weights[:, part].copy())


@dataclass(frozen=True, slots=True)
class Levels:
    """How pixels become bins, and the levels of a table become pixels."""

    dtype: np.dtype
    """The dtype of the image, in native byte order."""
    bins: int
    lowest: int
    """The level that the darkest pixels go to at the least."""
    span: int
    """The number of levels above `lowest`."""
    shift: int
    """The number of bits by which a level is shifted left to give a pixel."""
    fractions: tuple[float, float] | None
    """For floating images: what level 0 and level 65535 become."""
    value_range: tuple[float, float] | None = None
    """Values outside are not counted, and are mapped as the limits are. Integers within have a bin each."""
    out_dtype: np.dtype | None = None
    """The dtype of the result where it is another integer dtype than the image's."""
    offset: int = 0
    """By how much the pixel of level 0 lies above the smallest value of the result's dtype."""

    @property
    def table_dtype(self) -> np.dtype:
        """The dtype of the tables."""
        return np.dtype(np.uint8 if self.dtype.itemsize == 1 else np.uint16)

    @property
    def first_bin(self) -> int:
        """Which of the bins of all integers is the first that a table has."""
        return _rules.bins_in_range(self.dtype, self._integer_range).start

    @property
    def bin_shift(self) -> int:
        """By how much an integer is shifted right to give a bin."""
        if self._integer_range is not None:
            return 0
        return (_rules.levels_of(self.dtype) // self.bins).bit_length() - 1

    @property
    def _integer_range(self) -> tuple[int, int] | None:
        if self.value_range is None or self.fractions is not None:
            return None
        return int(self.value_range[0]), int(self.value_range[1])

    @property
    def result_dtype(self) -> np.dtype:
        """The dtype of the result, but for its byte order."""
        if self.fractions is not None:
            return _rules.table_dtype("skimage", self.dtype)
        return self.out_dtype or self.dtype

    @property
    def lowest_pixel(self) -> float:
        """The lowest value that the result may have."""
        if self.fractions is not None:
            return self.fractions[0]
        return self.lowest + self.offset + int(np.iinfo(self.result_dtype).min)

    def result_dtype_for(self, dtype: np.dtype) -> np.dtype:
        """Return the dtype of the result for an image's dtype, which integers keep with its byte order."""
        return dtype if self.fractions is None and self.out_dtype is None else self.result_dtype

    def index(self, values: Array) -> NDArray[np.int64]:
        """Return the bins of integers."""
        return self.bins_of(values.astype(np.int64) - int(np.iinfo(self.dtype).min))

    def bins_of(self, above: Array) -> Array:
        """Return the bins of integers, given by how much they lie above the dtype's smallest value."""
        if self._integer_range is None:
            return above >> self.bin_shift
        first = self.first_bin
        return np.clip(above, first, first + self.bins - 1) - first

    def inside(self, values: Array, edges: Array | None) -> NDArray[np.bool_]:
        """Tell which values lie within the range; `edges` are those of floating images."""
        low, high = (edges[0], edges[-1]) if edges is not None else self._integer_range or (-np.inf, np.inf)
        return (values >= low) & (values <= high)

    def pixels(self, levels: Array) -> Array:
        """Return the pixels that levels stand for."""
        if self.fractions is not None:
            return self.fraction_table()[levels]
        smallest = int(np.iinfo(self.result_dtype).min)
        return ((levels.astype(np.int64) << self.shift) + self.offset + smallest).astype(self.result_dtype)

    def fraction_table(self) -> Array:
        """Return what each level of a floating image becomes."""
        assert self.fractions is not None
        low, high = self.fractions
        return _fractions(low, high, self.result_dtype)


@functools.lru_cache(maxsize=8)
def _fractions(low: float, high: float, dtype: np.dtype) -> Array:
    return (low + np.arange(65536) / 65535 * (high - low)).astype(dtype)


# Arguments ------------------------------------------------------------------------------------------


def grid_of(shape: tuple[int, ...], letters: str, spatial: str, tiles: Any, tile_size: Any) -> Grid:
    """Check `tiles` and `tile_size`, and return the grid.

    Parameters
    ----------
    shape : (D, H, W)
        The shape of the canonical image.
    letters : str
        The spatial axes that the layout has, in the order of the image's axes.
    spatial : str
        "DHW".
    """
    if tile_size is not None:
        if not is_default(tiles):
            raise ValueError(
                f"tile_size replaces tiles: give one of them, got {shown(tile_size)} and {shown(tiles)}"
            )
        sizes = _by_axis("tile_size", tile_size, letters)
        tile = tuple(max(1, min(sizes.get(axis, 1), n)) for axis, n in zip(spatial, shape, strict=True))
        return Grid(shape, tuple(max(1, -(-n // t)) for n, t in zip(shape, tile, strict=True)), tile)
    counts = dict.fromkeys(letters, 8) if is_default(tiles) else _by_axis("tiles", tiles, letters)
    many = tuple(counts.get(axis, 1) for axis in spatial)
    extended = _extended(shape, many, letters, spatial)
    return Grid(shape, many, tuple(max(1, n // t) for n, t in zip(extended, many, strict=True)))


def _extended(shape: tuple[int, ...], tiles: tuple[int, ...], letters: str, spatial: str) -> list[int]:
    """Return the size along each axis to which the image is extended: one that its tiles divide.

    OpenCV's quirk: as soon as one of H and W does not divide, the other is extended by a pixel per tile, too.
    Depth, which OpenCV does not have, goes by itself: a volume of one slice comes out as the image.
    """
    divides = {axis: n % t == 0 for axis, n, t in zip(spatial, shape, tiles, strict=True)}
    fits = {"D": divides["D"], "H": divides["H"] and divides["W"], "W": divides["H"] and divides["W"]}
    return [
        n if fits[axis] or axis not in letters else n + t - n % t
        for axis, n, t in zip(spatial, shape, tiles, strict=True)
    ]


def check_size(
    name: str, shape: tuple[int, ...], tiles: tuple[int, ...], bins: int, histograms: int = 1
) -> None:
    """Raise ValueError if the tables of so many images would have more than `MOST_ENTRIES` entries.

    `name` is the argument that says how many tiles there are.
    """
    most = max(MOST_ENTRIES, ENTRIES_PER_PIXEL * histograms * math.prod(shape))
    if histograms * math.prod(tiles) * bins > most:
        raise ValueError(
            f"{name} must not give more than {most} table entries in all, got {histograms} x "
            f"{' x '.join(map(str, tiles))} tiles of {bins} bins"
        )


@functools.lru_cache(maxsize=64)
def plan_of_grey(shape: tuple[int, ...], dtype: np.dtype, tiles: tuple[int, ...]) -> tuple[Grid, Levels]:
    """Return the grid and the levels of a grey integer image with all its bins; ValueError as `grid_of`.

    They are kept: for a small image making them takes longer than the rest.
    """
    bins = _rules.levels_of(dtype)
    grid = grid_of((1, *shape), "HW", "DHW", tiles, None)
    check_size("tiles", grid.shape, grid.tiles, bins)
    return grid, levels_of(dtype, bins, None)


def is_default(tiles: Any) -> bool:
    """Tell whether `tiles` is the default, which fits images of any number of axes."""
    return isinstance(tiles, tuple) and all(isinstance(n, int) for n in tiles[:3]) and tiles == TILES


def _by_axis(name: str, value: Any, letters: str) -> dict[str, int]:
    """Return one number an axis, of one for all or one for each."""
    need = f"an int, or one for each of the axes {letters}"
    counts = integers(name, need, [value] * len(letters) if is_integer(value) else value, len(letters))
    if any(not 1 <= number < 1 << 31 for number in counts):
        raise ValueError(f"{name} must be from 1 to {(1 << 31) - 1} along every axis, got {shown(value)}")
    return dict(zip(letters, counts, strict=True))


def check_places(name: str, value: Any, letters: str) -> dict[str, int]:
    """Return where something is along each axis, or how long it is: integers of at least 0."""
    places = integers(name, f"one int for each of the axes {letters}", value, len(letters))
    if any(place < 0 for place in places):
        raise ValueError(f"{name} must be at least 0 along every axis, got {shown(value)}")
    return dict(zip(letters, places, strict=True))


def check_clip_limit(clip_limit: Any) -> float:
    """Return the clip limit; NaN, 0 and below mean no clipping, and so does infinity."""
    if not isinstance(clip_limit, numbers.Real) or isinstance(clip_limit, bool):
        raise TypeError(f"clip_limit must be a number, got {type(clip_limit).__name__}")
    return as_float(clip_limit)


def check_bins(bins: Any, dtype: np.dtype, value_range: tuple[int, int] | None = None) -> int:
    """Return how many bins a tile's histogram has; `value_range` is that of integers."""
    if value_range is not None:
        if bins is not None:
            raise ValueError(
                f"bins must be None beside value_range: {dtype} has one bin a value; got {shown(bins)}"
            )
        return value_range[1] - value_range[0] + 1
    most = _rules.levels_of(dtype) if dtype.kind != "f" else 65536
    if bins is None:
        return 256 if dtype.kind == "f" else most
    if not is_integer(bins):
        raise TypeError(f"bins must be an int, got {type(bins).__name__}")
    bins = int(bins)
    if not 2 <= bins <= most or (dtype.kind != "f" and bins & (bins - 1)):
        what = "" if dtype.kind == "f" else "a power of two "
        raise ValueError(f"bins must be {what}from 2 to {most} for {dtype}, got {shown(bins)}")
    return bins


def levels_of(
    dtype: np.dtype,
    bins: int,
    out_range: _rules.OutRange | None,
    value_range: tuple[float, float] | None = None,
) -> Levels:
    """Return what pixels of `dtype` become."""
    dtype = dtype.newbyteorder("=")
    if dtype.kind == "f":
        fractions = (0.0, 1.0) if out_range is None else (out_range.low, out_range.high)
        return Levels(dtype, bins, 0, 65535, 0, fractions, value_range)
    if out_range is not None:
        low, span = int(out_range.low), int(out_range.high) - int(out_range.low)
        above = low - int(np.iinfo(out_range.dtype).min)
        if value_range is None and out_range.dtype == dtype:
            return Levels(dtype, bins, above, span, 0, None)
        # Blended from 0 up, a range gives the same pixels wherever it lies: an offset counts in float32.
        result = None if out_range.dtype == dtype else out_range.dtype
        return Levels(dtype, bins, 0, span, 0, None, value_range, result, above)
    return Levels(dtype, bins, 0, bins - 1, (_rules.levels_of(dtype) // bins).bit_length() - 1, None)


# Arithmetic -----------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=8)
def reflected(size: int, length: int) -> NDArray[np.int64]:
    """Return 0..length - 1, reflected about the border pixels into 0..size - 1 (BORDER_REFLECT_101)."""
    if size < 2:
        return np.zeros(length * size, np.int64)
    period = 2 * (size - 1)
    at = np.arange(length, dtype=np.int64) % period
    folded = np.minimum(at, period - at)
    folded.flags.writeable = False
    return folded


@functools.lru_cache(maxsize=64)
def stretches(size: int, tile: int, tiles: int, start: int, count: int) -> tuple[Stretch, ...]:
    """Return where the tiles of an axis of `size` pixels count those of a window: see `Grid.stretches`."""
    if count == 0:
        return ()
    stop, length = start + count, tiles * tile
    found = [
        Stretch(i, max(i * tile, start) - start, min((i + 1) * tile, stop) - start)
        for i in range(start // tile, -(-stop // tile))
    ]
    # Beyond the border pixels follow each other towards the first one, back to the last one, and so on.
    run, backwards = max(size - 1, 1), True
    for begin in range(size, length, run):
        end = min(begin + run, length)
        for i in range(begin // tile, -(-end // tile)):
            first, after = max(i * tile, begin) - begin, min((i + 1) * tile, end) - begin
            low, high = (size - 1 - after, size - 1 - first) if backwards else (first + 1, after + 1)
            low, high = (0, 1) if size == 1 else (max(low, start), min(high, stop))
            if low < high:
                found.append(Stretch(i, low - start, high - start))
        backwards = not backwards
    return tuple(found)


@functools.lru_cache(maxsize=64)
def window_neighbours(size: int, tile: int, tiles: int, start: int, count: int, first: int) -> "Neighbours":
    """Return the tiles around the pixels of a window of an axis: see `Grid.neighbours`."""
    around, weights = neighbours(size, tile, tiles)
    if (start, count) != (0, size):
        around, weights = Neighbours(around, weights).cut(slice(start, start + count))
    around = around - first if first else around
    around.flags.writeable = weights.flags.writeable = False
    return Neighbours(around, weights)


@functools.lru_cache(maxsize=16)
def neighbours(count: int, tile: int, tiles: int) -> Neighbours:
    """Return the tiles around each pixel, in float32 as OpenCV does: it multiplies by the reciprocal.

    Those of a whole axis are kept: windows cut theirs out.
    """
    at = np.arange(count).astype(np.float32)
    at = at * (np.float32(1) / np.float32(tile)) - np.float32(0.5)
    below = np.floor(at)
    weight = at - below  # before `below` is clamped
    before = below.astype(np.int64)
    around = np.stack([np.maximum(before, 0), np.minimum(before + 1, tiles - 1)])
    weights = np.stack([np.float32(1) - weight, weight])
    around.flags.writeable = weights.flags.writeable = False
    return Neighbours(around, weights)


def clip_count(clip_limit: float, area: int, bins: int) -> int:
    """Return the most pixels that a bin may keep, or 0 if there is no limit."""
    if not clip_limit > 0:  # NaN, too
        return 0
    limit = clip_limit * area / bins
    if limit >= area:  # no bin can exceed it. OpenCV's int overflows far above, and clips hardest there
        return 0
    return max(int(limit), 1)


def table(counts: NDArray[np.int64], clip_limit: float, levels: Levels) -> Array:
    """Return the lookup table of a tile from its histogram."""
    area, bins = int(counts.sum()), len(counts)
    clip = clip_count(clip_limit, area, bins)
    if clip:
        excess = int(np.maximum(counts - clip, 0).sum())
        counts = np.minimum(counts, clip) + excess // bins
        rest = excess % bins
        if rest:
            step = max(bins // rest, 1)
            counts[: rest * step : step] += 1
    scale = np.float32(levels.span) / np.float32(area)
    entries = np.rint(np.cumsum(counts).astype(np.float32) * scale)
    return (np.minimum(entries, levels.span).astype(np.int64) + levels.lowest).astype(levels.table_dtype)


def fill_empty(tables: Array, empty: NDArray[np.bool_], levels: Levels) -> None:
    """Write the tables of tiles without a counted pixel.

    Each gets a copy of the table of the nearest tile with counted pixels, so that the result does not fade
    towards areas that are not counted. An image without any counted pixel keeps its values.

    Parameters
    ----------
    tables : (D, H, W, bins)
        The tables of one image, changed in place.
    empty : (D, H, W)
        Which tiles have no counted pixel.
    """
    if not empty.any():
        return
    if empty.all():
        tables[:] = unchanged(levels)
        return
    flat, nearest = tables.reshape(-1, tables.shape[-1]), nearest_full(empty).ravel()
    for at in np.flatnonzero(empty):
        flat[at] = flat[nearest[at]]


def unchanged(levels: Levels) -> Array:
    """Return the table of an image without any counted pixel, which keeps its values."""
    ramp = np.rint(np.arange(levels.bins) * (levels.span / (levels.bins - 1))) + levels.lowest
    return ramp.astype(levels.table_dtype)


def nearest_full(empty: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the number of the nearest tile that is not empty; of two equally near ones the lower number.

    Squared distances add up, so that axes can be taken one by one: the nearest tile of the row, of the layer,
    of the grid. The time is in proportion to the number of tiles.
    """
    nearest = np.where(empty, -1, np.arange(empty.size).reshape(empty.shape))
    distance = np.zeros(empty.shape, np.int64)
    for axis in (2, 1, 0):
        nearest, distance = np.moveaxis(nearest, axis, 0), np.moveaxis(distance, axis, 0)
        shape = nearest.shape
        lines = nearest.reshape(len(nearest), -1), distance.reshape(len(nearest), -1)
        chosen = _lower_envelope(lines[0] < 0, lines[1])
        steps = np.arange(len(chosen))[:, None] - chosen
        nearest = np.moveaxis(np.take_along_axis(lines[0], chosen, 0).reshape(shape), 0, axis)
        distance = np.take_along_axis(lines[1], chosen, 0) + steps**2
        distance = np.moveaxis(distance.reshape(shape), 0, axis)
    return nearest


def _lower_envelope(absent: NDArray[np.bool_], height: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return, for each place on each line, that q of the line for which height[q] + (place - q)**2 is least.

    These are parabolas. Each is the lowest on one stretch of the line or nowhere (Felzenszwalb, Huttenlocher,
    "Distance Transforms of Sampled Functions", 2012). Of two equally low ones the former counts.

    Parameters
    ----------
    absent, height : (places, lines)
        Where there is no parabola, and the heights of the others.
    """
    length, lines = height.shape
    kept = np.zeros((length, lines), np.int64)  # on each line, the places of those that are lowest somewhere,
    start = np.zeros((length, lines), np.int64)  # and from where on
    last = np.full(lines, -1)
    for q in range(length):
        there = np.flatnonzero(~absent[q])
        first = np.zeros(lines, np.int64)  # from where on q is lower than those before
        at = there[last[there] >= 0]
        while at.size:
            p = kept[last[at], at]
            rise = q * q + height[q, at] - p * p - height[p, at]
            first[at] = np.maximum(rise // (2 * (q - p)) + 1, 0)
            at = at[first[at] <= start[last[at], at]]
            last[at] -= 1
            first[at] = 0
            at = at[last[at] >= 0]
        last[there] += 1
        kept[last[there], there], start[last[there], there] = q, first[there]
    chosen = np.zeros((length, lines), np.int64)
    current, line = np.zeros(lines, np.int64), np.arange(lines)
    for place in range(length):
        at = line
        while at.size:
            at = at[current[at] < last[at]]
            at = at[start[current[at] + 1, at] <= place]
            current[at] += 1
        chosen[place] = kept[current, line]
    return chosen


def blend(index: NDArray[np.int64], tables: Array, around: tuple[Neighbours, ...]) -> NDArray[np.int64]:
    """Return the levels of pixels: the weighted sums of eight entries, in float32 and in OpenCV's order.

    Parameters
    ----------
    index : (D, H, W)
        The pixels' bins.
    tables : (D, H, W, bins)
        The grid of tables.
    around : three Neighbours
        The tiles around each pixel, along D, H and W.
    """
    z, y, x = (each.tiles for each in around)
    wz, wy, wx = (each.weights for each in around)

    def entries(iz: Array, iy: Array, ix: Array) -> NDArray[np.float32]:
        return tables[iz[:, None, None], iy[:, None], ix, index].astype(np.float32)

    def layer(iz: Array) -> NDArray[np.float32]:
        upper = entries(iz, y[0], x[0]) * wx[0] + entries(iz, y[0], x[1]) * wx[1]
        lower = entries(iz, y[1], x[0]) * wx[0] + entries(iz, y[1], x[1]) * wx[1]
        return upper * wy[0][:, None] + lower * wy[1][:, None]

    # In an image without depth both layers are equal and both weights 1/2: the sum is exactly that layer.
    result = layer(z[0]) * wz[0][:, None, None] + layer(z[1]) * wz[1][:, None, None]
    return np.rint(result).astype(np.int64)
