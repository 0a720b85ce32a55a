"""Frames of a video in host memory, mapped by counts that are summed over a window of time.

`Smoothing` says how. `Window` is what every backend has a class of: this one serves all backends whose counts
are NumPy's; on a device there is another one.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from histeq._core import tile_grid
from histeq._core.backend import Array, Backend, Pixels
from histeq._core.rules import OutRange
from histeq._core.shots import Shots
from histeq._core.tile_grid import Grid, Levels

Counts = NDArray[np.int64]


class Tiling(NamedTuple):
    """How frames are equalized locally."""

    grid: Grid
    levels: Levels
    clip_limit: float


@dataclass(frozen=True, slots=True)
class Smoothing:
    """Over which frames counts are summed, and what table is made of the sums."""

    before: int
    after: int
    """How many frames before and after a frame its window has."""
    ahead: int | None
    """With how many frames after it a frame is compared to tell whether it begins a shot; None: none is."""
    rule: str
    dtype: np.dtype
    """The frames'."""
    levels: OutRange | None
    tiling: Tiling | None
    """Where frames are equalized locally; it has the levels then."""
    kept: NDArray[np.int64] | None
    """The levels that keep every pixel; None: the table is the rule's."""
    strength: float

    @property
    def lag(self) -> int:
        """How many frames are counted after one before it is mapped: a cut is known `ahead` frames late."""
        return self.after + (self.ahead or 0) if self.after else 0

    def blended(self, table: NDArray[Any]) -> NDArray[Any]:
        """Return a table between the one that keeps every pixel and an equalizing one."""
        if self.kept is None:
            return table
        return np.rint(self.kept + self.strength * (table.astype(np.float64) - self.kept)).astype(table.dtype)


class Step(NamedTuple):
    """What a backend needs to count a frame and to map it by the window that ends with it."""

    leaving: Counts | None
    """The counts that leave the window unless the frame begins a shot; None: none do."""
    total: Counts
    """The sums over the window of the frame before."""
    shares: Counts | None
    """Those of the frame before: see `shots.distance`. None: no frame begins a shot."""
    threshold: float
    """The distance beyond which the frame begins a shot."""


class Window:
    """The counts of the latest frames, and their sums over the window of the frame that is mapped next."""

    def __init__(self, smoothing: Smoothing) -> None:
        self._smoothing = smoothing
        self._shots = None if smoothing.ahead is None else Shots(smoothing.ahead)
        self._frames = self._mapped = 0
        self._begin = 0  # the first frame of the shot of the frame that is mapped next
        self._cuts_ahead: deque[int] = deque()  # those after that frame
        self._kept: deque[Counts] = deque()  # the counts of the frames from self._first on
        self._first = 0
        self._total: Counts | None = None  # the sum over the frames from self._low to self._high - 1
        self._low = self._high = 0
        self.histogram: Counts | None = None
        """The counts of the latest frame, (1, P, bins)."""
        self.table: Array | None = None
        """The table that mapped the last frame, (1, P, bins) or (1, P, D, H, W, bins)."""

    @property
    def cuts(self) -> tuple[int, ...]:
        """The frames that are known to begin a shot."""
        return tuple(self._shots.cuts) if self._shots else ()

    def count(self, backend: Backend, pixels: Pixels, origin: tuple[int, ...], edges: Array | None) -> None:
        """Count the pixels of a frame, or those of a part of it, which begins at `origin` (D, H, W)."""
        tiling = self._smoothing.tiling
        if tiling is None:
            counts = backend.histogram(pixels, edges)
            self.add(backend, counts, counts)
            return
        grid, levels, _ = tiling
        counts = np.zeros((*pixels.histograms, *grid.tiles, levels.bins), np.int64)
        if pixels.image.size:
            backend.tile_histograms(pixels, grid, origin, (0, 0, 0), levels, edges, counts)
        self.add(backend, counts, counts.sum(axis=(2, 3, 4)))

    def map(self, backend: Backend, pixels: Pixels, edges: Array | None, out: Array) -> None:
        """Map the first of the counted frames that was not mapped yet."""
        table = self.next_table(backend)
        if self._smoothing.tiling is None:
            backend.apply(pixels, table, edges, out)
        elif pixels.image.size:
            grid, levels, _ = self._smoothing.tiling
            backend.apply_tiles(pixels, table, grid, (0, 0, 0), (0, 0, 0), levels, edges, out)

    def count_and_map(self, backend: Backend, pixels: Pixels, edges: Array | None, out: Array) -> None:
        """Count a whole frame, and map it by the window that ends with it."""
        if self._smoothing.tiling is not None:
            self.count(backend, pixels, (0, 0, 0), edges)
            self.map(backend, pixels, edges, out)
            return

        def table_of(counts: Counts) -> Array:
            self.add(backend, counts, counts)
            return self.next_table(backend)

        backend.equalize_by(pixels, edges, table_of, out)

    def finish(self) -> None:
        """Say that there are no more frames."""
        if self._shots:
            self._cuts_ahead.extend(self._shots.finish())

    def add(self, backend: Backend, counts: Counts, histogram: Counts) -> None:
        """Add the counts of the next frame."""
        self.histogram = histogram
        self._kept.append(counts)
        self._frames += 1
        if self._shots:
            self._cuts_ahead.extend(self._shots.add(histogram, backend.histogram_distance))

    def next_table(self, backend: Backend) -> Array:
        """Return the table of the first of the counted frames that was not mapped yet."""
        smoothing, total = self._smoothing, self._next_total()
        if smoothing.tiling is None:
            table = backend.lookup_table(total, smoothing.rule, smoothing.dtype, smoothing.levels)
        else:
            _, levels, clip_limit = smoothing.tiling
            table, empty = backend.tables_of_tiles(total, clip_limit, levels)
            for n, p in np.ndindex(empty.shape[:2]):
                tile_grid.fill_empty(table[n, p], empty[n, p], levels)
        self.table = smoothing.blended(table)
        return self.table

    def step(self) -> "Step":
        """Return what counting the next frame and mapping it at once begins with; no frame waits."""
        assert self._total is not None
        leaves, shots = self._frames - self._smoothing.before > self._first, self._shots
        return Step(
            self._kept[0] if leaves else None,
            self._total,
            None if shots is None else shots.shares,
            np.inf if shots is None else shots.next_threshold,
        )

    def take(self, counts: Counts, distance: float, table: Array) -> None:
        """Go on to the next frame; total and shares of the `step` have become those with it."""
        if self._shots is not None and self._shots.note(distance):
            self._kept.clear()
            self._begin = self._frames
        elif self._frames - self._smoothing.before > self._first:
            self._kept.popleft()
        self._kept.append(counts)
        self._frames += 1
        self._mapped = self._high = self._frames
        self._first = self._low = self._frames - len(self._kept)
        self.histogram, self.table = counts, table

    def _next_total(self) -> Counts:
        """Return the sum over the window of the next frame; the next call changes it."""
        frame = self._mapped
        self._mapped += 1
        while self._cuts_ahead and self._cuts_ahead[0] <= frame:
            self._begin = self._cuts_ahead.popleft()
        end = self._cuts_ahead[0] if self._cuts_ahead else self._frames
        low = max(frame - self._smoothing.before, self._begin)
        return self._sum(low, min(frame + self._smoothing.after + 1, end))

    def _sum(self, low: int, high: int) -> Counts:
        """Return the sum over the frames from `low` to `high` - 1, neither less than in the call before."""
        total = self._total
        if total is None or low >= self._high:
            self._low = self._high = low
            total = self._total = np.zeros_like(self._kept[0])
        for frame in range(self._high, high):
            total += self._kept[frame - self._first]
        for frame in range(self._low, low):
            total -= self._kept[frame - self._first]
        self._low, self._high = low, high
        while self._first < low:
            self._kept.popleft()
            self._first += 1
        return total
