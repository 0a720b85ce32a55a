"""CLAHE on Dask arrays: which tasks there are, and what each of them waits for.

A pixel is mapped by the tables of the tiles around it, so that a chunk waits for its neighbourhood only:

    source ──► share: tables of tiles in the chunk, counts of others ──► tables of a cell ─┐
    source's copy, waiting for the tables around the chunk ────────────────────────────────┴──► result

Tiles that begin in the same chunk are a *cell*: one task makes their tables, from the shares of all chunks
that count pixels for them. A tile that is larger than the chunks is a cell of its own.

By windows, what leaves a chunk are strips of its pixels:

    source ──► strips ───────────────────────────────────┐
    source's copy, waiting for the strips around the chunk ┴──► result

An empty tile takes the table of the nearest one that is not. Where pixels are mapped that do not count (those
of a mask, or beyond `value_range`), it may be any: then the cells say which of their tiles are empty, and of
their tables only those travel that stand in for tiles of other cells.
"""

import functools
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dask._task_spec import DataNode, Task, TaskRef

from histeq._api.clahe import levels_for
from histeq._api.tiles import Box
from histeq._dask import tile_tasks
from histeq._dask.graph import Key, Source, Tasks, small_name, tree
from histeq._dask.image import Chunk, Group, key_of, reads
from histeq._dask.tile_plan import Plan, Spot
from histeq._dask.tile_tasks import Job

_MOST_AT_ONCE = 16
"""Shares that a task takes: as many are alive at once."""


class Builder:
    """Makes the tasks of a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.tasks = plan, Tasks()
        image = plan.image
        self.edges = image.edges(plan.job.kind.levels.bins) if self._finds_range() else None
        self.sources = [each for each in (image.array, image.mask, self.edges) if each is not None]
        self.names = [array.name for array in self.sources]
        self._jobs: dict[int, tuple[Job, TaskRef]] = {}

    def _finds_range(self) -> bool:
        """Tell whether the edges of the bins follow from the values of the whole image."""
        return self.plan.job.selection.dtype.kind == "f" and self.plan.job.bounds is None

    def name(self, what: str, job: Job) -> str:
        """Return the name of what follows from the sources and from a job."""
        return small_name(f"clahe-{what}", job, *self.names)

    def job(self, job: Job) -> TaskRef:
        """Return a reference to what tasks have to know."""
        if id(job) not in self._jobs:
            key = small_name("clahe-arguments", job)
            self.tasks[key] = DataNode(key, job)
            self._jobs[id(job)] = job, TaskRef(key)
        return self._jobs[id(job)][1]

    def add(self, key: Key, function: Callable[..., Any], *arguments: Any) -> Key:
        """Add a task, and return its key."""
        self.tasks[key] = Task(key, function, *arguments)
        return key

    def add_reading(self, key: Key, function: Callable[..., Any], chunk: Chunk, *arguments: Any) -> Key:
        """Add a task that takes a chunk, its mask, the edges of bins and more, and return its key."""
        edges = None if self.edges is None else TaskRef(key_of(self.edges, chunk.group))
        mask = None if chunk.mask is None else TaskRef(chunk.mask)
        given = chunk.value, mask, edges, *arguments
        self.tasks[key] = Task(key, function, chunk.place, *given, _data_producer=reads(chunk))
        return key

    def chunks(self, with_mask: bool) -> list[Chunk]:
        """Return the chunks to be counted: read again, where all of them told the edges of the bins."""
        if self.edges is None:
            return list(self.plan.image.chunks())
        tasks, chunks = self.plan.image.again(functools.partial(key_of, self.edges), with_mask)
        self.tasks |= tasks
        return chunks

    def again(
        self, waits: list[list[Key]], name: str, tables: dict[tuple[Group, Spot], Key] | None = None
    ) -> list[Chunk]:
        """Return the chunks as they are read again: each waits for some keys.

        Chunks that share what they read, as those of a rechunked source, wait for all `tables` of their
        images: parts of what is read for one would be held until another one has its tables, too.
        """
        chunks, source = list(self.plan.image.chunks()), Source(self.plan.image.array)
        wanted = {chunk.value.key: keys for chunk, keys in zip(chunks, waits, strict=True)}
        if tables and source.shares(wanted):
            every = self.name("every-table", self.plan.job)
            for group in self.plan.groups():
                keys = [key for (of, _), key in tables.items() if of == group]
                self.tasks |= tree(keys, (every, *group), tile_tasks.nothing)
            wanted = {chunk.value.key: [(every, *chunk.group)] for chunk in chunks}
        copy = source.reread(wanted, name)
        again = [chunk._replace(value=copy.take(chunk.value.key), mask=None) for chunk in chunks]
        self.tasks |= copy.tasks
        return again

    @functools.cached_property
    def plain_job(self) -> Job:
        """What those have to know who count pixels, and make no tables."""
        kind = self.plan.job.kind
        old = kind.levels
        levels = levels_for(old.dtype, old.bins, old.value_range, kind.luma)
        return replace(self.plan.job, kind=kind._replace(levels=levels), limit=None)

    # By counts --------------------------------------------------------------------------------------

    def shares(self) -> dict[tuple[Group, Spot], Key]:
        """Add tasks that count the chunks."""
        plan = self.plan
        # Without tables if no chunk has a tile for itself: then they serve other clip limits, too.
        job = plan.job if all(axis.has_complete for axis in plan.axes) else self.plain_job
        name, keys = self.name("counts", job), {}
        for chunk in self.chunks(with_mask=True):
            spot = plan.spot(chunk)
            arguments = self.job(job), plan.origin(spot)
            key = (name, *chunk.group, *spot)
            keys[chunk.group, spot] = self.add_reading(key, tile_tasks.counted, chunk, *arguments)
        return keys

    def own_tables(self) -> dict[tuple[Group, Spot], Key]:
        """Add tasks that make the tables of the cells; empty tiles have none."""
        plan, shares, keys = self.plan, self.shares(), {}
        name, sums = self.name("tables", plan.job), self.name("sums", plan.job)
        for group, cell in itertools.product(plan.groups(), plan.cells()):
            box = plan.box(cell)
            spots = itertools.product(*(axis.counted[i] for axis, i in zip(plan.axes, cell, strict=True)))
            found = [shares[group, spot] for spot in spots] or [shares[group, (0, 0, 0)]]
            if len(found) > _MOST_AT_ONCE:
                total = (sums, *group, *cell)
                self.tasks |= tree(found, total, functools.partial(tile_tasks.merged, box))
                found = [total]
            arguments = self.job(plan.job), box, *map(TaskRef, found)
            keys[group, cell] = self.add((name, *group, *cell), tile_tasks.tables_in, *arguments)
        return keys

    def full_tables(self) -> dict[tuple[Group, Spot], Key]:
        """Add tasks that make the tables of the cells; empty tiles have those of the nearest others."""
        plan, cells, tables, keys = self.plan, list(self.plan.cells()), self.own_tables(), {}
        empty, nearest, given, gathered, full = (
            self.name(what, plan.job) for what in ("empty", "nearest", "given", "gathered", "full")
        )
        boxes = tuple(map(plan.box, cells))
        for group in plan.groups():
            own = {cell: TaskRef(tables[group, cell]) for cell in cells}
            empties = [self.add((empty, *group, *cell), tile_tasks.empty_tiles, own[cell]) for cell in cells]
            arguments = plan.job.kind.grid.tiles, boxes, *map(TaskRef, empties)
            rows = TaskRef(self.add((nearest, *group), tile_tasks.stand_ins, *arguments))
            exports = [
                self.add((given, *group, *cell), tile_tasks.exports, own[cell], rows) for cell in cells
            ]
            self.tasks |= tree(exports, (gathered, *group), tile_tasks.together)
            for cell in cells:
                arguments = own[cell], rows, TaskRef((gathered, *group))
                keys[group, cell] = self.add((full, *group, *cell), tile_tasks.completed, *arguments)
        return keys

    def map_by_counts(self, name: str) -> None:
        """Add tasks that map the chunks by the tables around them."""
        plan, around = self.plan, list[list[Key]]()
        tables = self.full_tables() if plan.far else self.own_tables()
        for chunk in plan.image.chunks():
            tiles = plan.around(plan.spot(chunk))
            if 0 in chunk.place.shape:
                around.append([])
                continue
            found = (axis.cells_of(*ends) for axis, *ends in zip(plan.axes, *tiles, strict=True))
            around.append([tables[chunk.group, cell] for cell in itertools.product(*found)])
        far = tables if any(axis.has_large for axis in plan.axes) else None
        for chunk, keys in zip(self.again(around, name, far), around, strict=True):
            spot = plan.spot(chunk)
            arguments = self.job(plan.job), plan.origin(spot), plan.needed(spot), *map(TaskRef, keys)
            self.add_reading((name, *chunk.place.number), tile_tasks.mapped, chunk, *arguments)

    # By windows -------------------------------------------------------------------------------------

    def map_by_windows(self, name: str) -> None:
        """Add tasks that map the chunks by tables that they make of windows around them."""
        plan, job, around = self.plan, self.job(self.plan.job), list[list[Key]]()
        wanted: dict[Spot, list[tuple[Spot, Box]]] = {}  # by the chunk that has the pixels
        givers: dict[Spot, list[Spot]] = {}
        for spot in plan.spots():
            givers[spot] = [other for other in plan.chunks_in_window(spot) if other != spot]
            for other in givers[spot]:
                wanted.setdefault(other, []).append((spot, plan.pixels_for(spot, other)))
        strips = self.name("strips", self.plain_job)
        for chunk in self.chunks(with_mask=False):
            spot = plan.spot(chunk)
            if spot in wanted:
                arguments = self.job(self.plain_job), plan.origin(spot), tuple(wanted[spot])
                self.add_reading((strips, *chunk.group, *spot), tile_tasks.strips_of, chunk, *arguments)
        for chunk in plan.image.chunks():
            around.append([(strips, *chunk.group, *spot) for spot in givers[plan.spot(chunk)]])
        waits = [[*keys, *self.edges_of(c)] for c, keys in zip(plan.image.chunks(), around, strict=True)]
        for chunk, keys in zip(self.again(waits, name), around, strict=True):
            spot, key = plan.spot(chunk), (name, *chunk.place.number)
            if 0 in chunk.place.shape:
                self.add_reading(key, tile_tasks.mapped, chunk, job, plan.origin(spot), plan.needed(spot))
                continue
            arguments = job, plan.origin(spot), spot, plan.window(spot), *map(TaskRef, keys)
            self.add_reading(key, tile_tasks.mapped_in_window, chunk, *arguments)

    def edges_of(self, chunk: Chunk) -> list[Key]:
        """Return the key of the edges of the bins, where they are found."""
        return [] if self.edges is None else [key_of(self.edges, chunk.group)]
