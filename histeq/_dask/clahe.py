"""`clahe` and its steps for Dask arrays: each function takes all arguments of its namesake, by name."""

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
from dask._task_spec import DataNode, Task, TaskRef
from dask.array.core import Array as DaskArray
from dask.base import tokenize
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from histeq._api.clahe import check_mapping, plan_counts
from histeq._api.layout import SPACE
from histeq._api.tiles import TileTables
from histeq._dask import tile_tasks
from histeq._dask.graph import Key, Source, Tasks, array_of, small_name, tree
from histeq._dask.image import Chunk, Group, Image, axis_of, image_of
from histeq._dask.operations import of_whole_images, refuse_out
from histeq._dask.tile_graph import Builder
from histeq._dask.tile_plan import Plan, check_sizes, plan_of, way
from histeq._dask.tile_tasks import Job


def clahe(
    image: DaskArray,
    *,
    clip_limit: Any,
    tiles: Any,
    tile_size: Any,
    bins: Any,
    layout: str | None,
    color: str,
    alpha: bool | None,
    mask: Any,
    nodata: Any,
    value_range: Any,
    out_range: Any,
    out_dtype: Any,
    out: Any,
    backend: str | None,
) -> DaskArray:
    """Do what `histeq.clahe` does."""
    refuse_out(out)
    of = image_of(
        image, backend, layout=layout, color=color, alpha=alpha, mask=mask, nodata=nodata,
        value_range=value_range,
    )  # fmt: skip
    options = {
        "clip_limit": clip_limit, "tiles": tiles, "tile_size": tile_size, "bins": bins,
        "value_range": value_range, "out_range": out_range, "out_dtype": out_dtype,
    }  # fmt: skip
    plan = plan_of(of, of.call.pixels.histograms[1], **options)
    dtype = plan.job.kind.levels.result_dtype_for(of.call.dtype)
    of.call.for_result(dtype, plan.job.kind.levels.lowest_pixel)
    how = way(plan)
    if how == "whole":
        return of_whole_images(of, "clahe", options, dtype)
    build = Builder(plan)
    name = f"clahe-{tokenize(plan.job, *build.names)}"
    getattr(build, f"map_by_{how}")(name)
    return array_of(name, build.tasks, of.array.chunks, _meta(of, dtype), build.sources)


class LazyTables(Delayed):  # type: ignore[misc]  # Dask has no types
    """`TileTables` that are computed later, and what `apply_tiles` has to know of them before."""

    __slots__ = ("_about",)

    def __init__(self, key: Key, graph: Any, about: TileTables, layer: Any = None) -> None:
        super().__init__(key, graph, layer=layer)
        self._about = about

    def _rebuild(self, graph: Any, *, rename: Any = None) -> "LazyTables":
        new = super()._rebuild(graph, rename=rename)
        return LazyTables(new.key, graph, self._about, *new.__dask_layers__())

    def __reduce__(self) -> Any:
        return LazyTables, (self.key, self.dask, self._about, *self.__dask_layers__())


def tile_histograms(
    image: DaskArray,
    *,
    shape: Any,
    origin: Any,
    tiles: Any,
    tile_size: Any,
    bins: Any,
    layout: str | None,
    color: str,
    alpha: bool | None,
    mask: Any,
    nodata: Any,
    value_range: Any,
    add_to: Any,
    backend: str | None,
) -> Delayed:
    """Do what `histeq.tile_histograms` does, later."""
    if add_to is not None:
        raise TypeError(
            "add_to must be None for Dask arrays, which are counted later; the computed counts add up by +=, "
            f"got {type(add_to).__name__}"
        )
    of = image_of(
        image, backend, layout=layout, color=color, alpha=alpha, mask=mask, nodata=nodata,
        value_range=value_range,
    )  # fmt: skip
    check_sizes(of)
    start, kind, bounds = plan_counts(of.call, shape, origin, tiles, tile_size, bins, value_range)
    of.call.check_number_of(kind.levels.bins)
    plan = Plan(of, Job(of.selection, of.call.axes, kind, None, bounds), (), True)
    build = Builder(plan)
    name, parts = build.name(f"counts-{start}", plan.job), dict[Group, list[Key]]()
    for chunk in build.chunks(with_mask=True):
        arguments = build.job(plan.job), _origin(of, chunk, start)
        key = build.add_reading((name, *chunk.place.number), tile_tasks.counted, chunk, *arguments)
        parts.setdefault(chunk.group, []).append(key)
    total = build.name(f"sum-{start}", plan.job)
    for group, keys in parts.items():
        build.tasks |= tree(keys, (total, *group), tile_tasks.sum_of)
    return _together(build, total)


def tile_tables(
    image: DaskArray,
    *,
    clip_limit: Any,
    tiles: Any,
    tile_size: Any,
    bins: Any,
    layout: str | None,
    color: str,
    alpha: bool | None,
    mask: Any,
    nodata: Any,
    value_range: Any,
    out_range: Any,
    out_dtype: Any,
    backend: str | None,
) -> LazyTables:
    """Do what `histeq.tile_tables` does, later."""
    of = image_of(
        image, backend, layout=layout, color=color, alpha=alpha, mask=mask, nodata=nodata,
        value_range=value_range,
    )  # fmt: skip
    histograms = math.prod(of.call.pixels.histograms)
    plan = plan_of(
        of, histograms, clip_limit=clip_limit, tiles=tiles, tile_size=tile_size, bins=bins,
        value_range=value_range, out_range=out_range, out_dtype=out_dtype,
    )  # fmt: skip
    kind = plan.job.kind
    shape = (*of.call.pixels.histograms, *kind.grid.tiles, kind.levels.bins)
    nothing = np.zeros((1,) * len(shape), kind.levels.table_dtype, like=of.call.image)
    about = TileTables(np.broadcast_to(nothing, shape), (0, 0, 0), kind, None)
    build = Builder(plan)
    tables, name = build.own_tables(), build.name("all-tables", plan.job)
    for group in plan.groups():
        refs = [TaskRef(tables[group, cell]) for cell in plan.cells()]
        build.add((name, *group), tile_tasks.all_tables, build.job(plan.job), *refs)
    lazy = _together(build, name)
    return LazyTables(lazy.key, lazy.dask, about)


def apply_tiles(
    image: DaskArray,
    *,
    tables: Any,
    origin: Any,
    layout: str | None,
    color: str,
    alpha: bool | None,
    nodata: Any,
    out: Any,
    backend: str | None,
) -> DaskArray:
    """Do what `histeq.apply_tiles` does. Lazy tables may come from the image, which is then read again."""
    refuse_out(out)
    lazy = isinstance(tables, LazyTables)
    about = tables._about if lazy else tables
    if not isinstance(about, TileTables):
        raise TypeError(
            "tables must be TileTables, or what tile_tables returns for a Dask array, "
            f"got {type(tables).__name__}"
        )
    of = image_of(image, backend, layout=layout, color=color, alpha=alpha, nodata=nodata)
    check_sizes(of)
    call = of.call
    # Tables that are missing may not be needed: pixels tell, later.
    start = check_mapping(call, replace(about, _missing=None), origin)
    levels = about._kind.levels
    dtype = levels.result_dtype_for(call.dtype)
    if nodata is not None:
        call.for_result(dtype, levels.lowest_pixel)
    key = tables.key if lazy else small_name("tables", tables)
    name = f"apply-tiles-{tokenize(of.selection, of.array.name, key, start)}"
    tasks: Tasks = {} if lazy else {key: DataNode(key, tables)}
    chunks = list(of.chunks())
    values = [chunk.value for chunk in chunks]
    if lazy:
        copy = Source(of.array).reread({value.key: [key] for value in values}, name)
        values = [copy.take(value.key) for value in values]
        tasks |= copy.tasks
    ends = [[0, *itertools.accumulate(sizes)] for sizes in of.groups]
    for chunk, value in zip(chunks, values, strict=True):
        planes = tuple(slice(end[i], end[i + 1]) for end, i in zip(ends, chunk.group, strict=True))
        own = (name, *chunk.place.number)
        arguments = of.selection, chunk.place, _origin(of, chunk, start), planes, value, TaskRef(key)
        tasks[own] = Task(own, tile_tasks.mapped_by, *arguments)
    sources = [of.array, tables] if lazy else [of.array]
    return array_of(name, tasks, of.array.chunks, _meta(of, dtype), sources)


def _meta(of: Image, dtype: Any) -> Any:
    """Return what stands for a result of `dtype`."""
    return np.empty((0,) * of.array.ndim, dtype, like=of.call.image)


def _origin(of: Image, chunk: Chunk, start: tuple[int, ...]) -> tuple[int, ...]:
    """Return where a chunk of a window begins that itself begins at `start`, (D, H, W)."""
    at = list(start)
    for i, letter in enumerate(SPACE):
        axis = axis_of(of.call, letter)
        if axis is not None:
            at[i] += sum(of.array.chunks[axis][: chunk.place.number[axis]])
    return tuple(at)


def _together(build: Builder, name: str) -> Delayed:
    """Return what is known of all groups, by the tasks of a name, as one value."""
    refs = [TaskRef((name, *group)) for group in build.plan.groups()]
    key = build.add(f"{name}-all", tile_tasks.side_by_side, len(build.plan.image.groups[1]), *refs)
    return Delayed(key, HighLevelGraph.from_collections(key, build.tasks, build.sources))
