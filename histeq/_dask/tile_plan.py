"""How the chunks of a Dask array and the tiles of CLAHE lie, and which way an image is equalized.

There are three ways (`way`):

- Whole: chunks that hold whole images, as those of a stack may, are equalized one by one.
- By windows: where tiles are much smaller than a chunk, and what would leave the chunk takes more memory
  than the pixels around it (a tile of 16 bits has a table of 128 KiB), these pixels leave their chunks
  instead, and the tables are made where the chunk is mapped.
- By counts, in all other cases: what leaves a chunk are the tables of the tiles in it, and the counts of
  those of which it has a part.
"""

import bisect
import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from histeq._api.clahe import plan_tiles
from histeq._api.layout import SPACE
from histeq._api.tiles import Box, Kind
from histeq._core import tile_grid
from histeq._core.tile_grid import Grid
from histeq._dask import tile_tasks
from histeq._dask.image import Chunk, Group, Image, axis_of, unknown_sizes
from histeq._dask.tile_tasks import Job

_MOST_TOUCHED = 3
"""How many times the pixels of a chunk its window may have."""

Spot = tuple[int, ...]
"""Which chunk, or which cell of tiles: its number along D, H and W."""


class Axis(NamedTuple):
    """How the chunks and the tiles of an image lie along one of D, H and W."""

    starts: tuple[int, ...]
    """Where each chunk begins."""
    sizes: tuple[int, ...]
    cells: tuple[tuple[int, int], ...]
    """The tiles of each cell: the first one, and after the last one."""
    counted: tuple[tuple[int, ...], ...]
    """By cell: the chunks that count pixels for it."""
    cell_of: tuple[int, ...]
    """By tile: its cell."""
    needed: tuple[tuple[int, int], ...]
    """By chunk: the tiles whose tables its pixels need."""
    around: tuple[tuple[int, int], ...]
    """By chunk: these tiles, and those beside them where some may be empty."""
    windows: tuple[tuple[int, int], ...]
    """By chunk: its own pixels, and those that the tiles around it count."""
    has_complete: bool
    """Whether a tile lies in one chunk."""
    has_large: bool
    """Whether there are several chunks, and tiles are as long as half a chunk or longer."""

    def cells_of(self, first: int, stop: int) -> range:
        """Return the cells that have some of the tiles from `first` to `stop`."""
        return range(self.cell_of[first], self.cell_of[stop - 1] + 1)

    def chunks_in(self, chunk: int) -> list[int]:
        """Return the chunks that have pixels of the window around a chunk."""
        (first, stop), found = self.windows[chunk], []
        at = bisect.bisect_right(self.starts, first) - 1
        while at < len(self.starts) and self.starts[at] < stop:
            if self.sizes[at]:
                found.append(at)
            at += 1
        return found


def axis_along(grid: Grid, axis: int, sizes: Sequence[int], beside: bool) -> Axis:
    """Return how chunks of these sizes and the tiles of a grid lie along an axis.

    `beside` tells whether a chunk depends on the tiles beside those whose tables it needs, too.
    """
    starts = tuple(itertools.accumulate(sizes[:-1], initial=0))
    tile, tiles = grid.tile[axis], grid.tiles[axis]
    # A chunk of no pixels begins where the next one does, which gets the tiles.
    owners = np.searchsorted(starts, np.arange(tiles) * tile, side="right") - 1
    borders = [0, *(np.flatnonzero(np.diff(owners)) + 1).tolist(), tiles]
    cells = tuple(itertools.pairwise(borders))
    cell_of = np.repeat(np.arange(len(cells)), np.diff(borders)).tolist()
    counted: list[dict[int, None]] = [{} for _ in cells]
    needed, around, windows = [], [], []
    for chunk, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        for stretch in grid.stretches(axis, start, size):
            counted[cell_of[stretch.tile]][chunk] = None
        need = grid.needed(axis, start, size)
        needed.append((need.start, need.stop))
        first, stop = max(need.start - beside, 0), min(need.stop + beside, tiles)
        around.append((first, stop))
        low, high = tile_tasks.counted_along(grid, axis, first, stop) if size else (start, start)
        windows.append((min(low, start), max(high, start + size)))
    return Axis(
        starts, tuple(sizes), cells, tuple(map(tuple, counted)), tuple(cell_of), tuple(needed), tuple(around),
        tuple(windows), any(map(functools.partial(tile_tasks.complete_along, grid, axis), starts, sizes)),
        len(sizes) > 1 and 2 * tile >= max(sizes),
    )  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """A checked call."""

    image: Image
    job: Job
    axes: tuple[Axis, ...]
    """Of D, H and W."""
    far: bool
    """Whether pixels may be mapped that do not count, far from those that do."""

    def spot(self, chunk: Chunk) -> Spot:
        """Return where in space a chunk is."""
        axes = (axis_of(self.image.call, letter) for letter in SPACE)
        return tuple(0 if axis is None else chunk.place.number[axis] for axis in axes)

    def spots(self) -> Iterator[Spot]:
        """Yield where in space there are chunks."""
        return itertools.product(*(range(len(axis.starts)) for axis in self.axes))

    def cells(self) -> Iterator[Spot]:
        """Yield all cells of tiles."""
        return itertools.product(*(range(len(axis.cells)) for axis in self.axes))

    def groups(self) -> Iterator[Group]:
        """Yield the chunks along N and C: those of different groups have nothing in common."""
        images, planes = self.image.groups
        return itertools.product(range(len(images)), range(len(planes)))

    def origin(self, spot: Spot) -> tuple[int, ...]:
        """Return where a chunk begins in space."""
        return tuple(axis.starts[i] for axis, i in zip(self.axes, spot, strict=True))

    def size(self, spot: Spot) -> tuple[int, ...]:
        """Return the size of a chunk in space."""
        return tuple(axis.sizes[i] for axis, i in zip(self.axes, spot, strict=True))

    def box(self, cell: Spot) -> Box:
        """Return the tiles of a cell."""
        return _corners(axis.cells[i] for axis, i in zip(self.axes, cell, strict=True))

    def needed(self, spot: Spot) -> Box:
        """Return the tiles whose tables a chunk needs."""
        return _corners(axis.needed[i] for axis, i in zip(self.axes, spot, strict=True))

    def around(self, spot: Spot) -> Box:
        """Return the tiles that tell what tables a chunk needs."""
        return _corners(axis.around[i] for axis, i in zip(self.axes, spot, strict=True))

    def window(self, spot: Spot) -> Box:
        """Return the pixels of which these tables are made, and those of the chunk."""
        return _corners(axis.windows[i] for axis, i in zip(self.axes, spot, strict=True))

    def chunks_in_window(self, spot: Spot) -> Iterator[Spot]:
        """Yield the chunks that have pixels of the window around a chunk; none for one of no pixels."""
        if 0 in self.size(spot):
            return iter(())
        return itertools.product(*(axis.chunks_in(i) for axis, i in zip(self.axes, spot, strict=True)))

    def pixels_for(self, spot: Spot, other: Spot) -> Box:
        """Return the pixels of another chunk in the window around a chunk."""
        start, size, window = self.origin(other), self.size(other), self.window(spot)
        stop = tuple(min(a + n, b) for a, n, b in zip(start, size, window[1], strict=True))
        return tuple(map(max, start, window[0])), stop


def _corners(ends: Iterable[tuple[int, int]]) -> Box:
    """Return a box, given its ends along each axis."""
    firsts, stops = zip(*ends, strict=True)
    return firsts, stops


def way(plan: Plan) -> Literal["whole", "windows", "counts"]:
    """Choose how an image is equalized: see above."""
    if plan.image.whole:
        return "whole"
    spot = tuple(axis.sizes.index(max(axis.sizes)) for axis in plan.axes)
    origin, size = plan.origin(spot), plan.size(spot)
    if plan.far or 0 in size:
        return "counts"
    grid, levels, pixels = plan.job.kind.grid, plan.job.kind.levels, plan.image.call.pixels
    own, touched = (
        math.prod(b - a for a, b in zip(*box, strict=True))
        for box in (tile_tasks.complete(grid, origin, size), grid.touched(origin, size))
    )
    planes, channels = pixels.histograms[1], pixels.image.shape[1]
    share = planes * levels.bins * (own * levels.table_dtype.itemsize + (touched - own) * 8)
    inside, window = math.prod(size), math.prod(b - a for a, b in zip(*plan.window(spot), strict=True))
    strips = (window - inside) * channels * levels.dtype.itemsize
    return "windows" if strips < share and window <= _MOST_TOUCHED * inside else "counts"


def check_sizes(of: Image) -> None:
    """Raise ValueError unless it is known where each chunk lies."""
    if any(map(math.isnan, of.array.shape)):
        raise unknown_sizes("image", of.array, "for tiles")


def plan_of(
    of: Image,
    histograms: int,
    *,
    clip_limit: Any,
    tiles: Any,
    tile_size: Any,
    bins: Any,
    value_range: Any,
    out_range: Any,
    out_dtype: Any,
) -> Plan:
    """Check what is said of tiles and levels; of so many histograms the tables are held at once."""
    call = of.call
    check_sizes(of)
    limit = tile_grid.check_clip_limit(clip_limit)
    grid, levels, bounds = plan_tiles(
        call, histograms, tiles, tile_size, bins, value_range, out_range, out_dtype
    )
    call.check_number_of(levels.bins)
    kind = Kind(grid, levels, call.pixels.luma, call.lead, call.axes.spatial)
    job = Job(of.selection, call.axes, kind, limit, bounds)
    far = of.mask is not None or levels.value_range is not None
    axes = []
    for i, letter in enumerate(SPACE):
        axis = axis_of(call, letter)
        sizes = (1,) if axis is None else of.array.chunks[axis]
        axes.append(axis_along(grid, i, sizes, job.may_be_empty and not far))
    return Plan(of, job, tuple(axes), far)
