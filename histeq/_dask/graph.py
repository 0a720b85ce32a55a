"""Graphs that read a source more than once and hold little of it.

Equalization reads every chunk at least twice: to count it, and to map it by a table that depends on all
counts. In one graph of the usual kind every chunk stays in memory from its counting to its mapping, which is
the whole image; Dask's own remedy, ``bind(clone(x), table)``, breaks on sources that are sliced, rechunked or
delayed. So `Source.reread` copies the source's tasks under new names, and lets those that begin the copy wait
for what it is mapped by. A copy costs a second reading and no memory:

    source ──► counts ──► sums of 16 ──► ... ──► table ─┐
    source's copy, waiting for the table ───────────────┴──► result

- What holds data is never copied: a persisted source is not read again. Nor are the counts, ranges and tables
  that this package made (`small_name`), so that equalizing an equalized array does not count the first twice.
- Names are made of the names that went in. The same call gives the same names: two results that are computed
  together share what they have in common, and nothing is hashed but names and arguments.
- A task of the copy waits for exactly what the chunks wait for that are made from it: a crop of the result
  needs no more than its own chunks, and the images of a batch do not wait for each other.

To use it: make a `Source` of the arrays, `reread` the chunks that are wanted, make tasks that take the chunks
of the copy, and `array_of` makes an array of all of them.

    >>> import dask.array as da, numpy as np
    >>> from dask._task_spec import Task, TaskRef
    >>> x = da.from_array(np.arange(6), chunks=2) * 10
    >>> total = tree([key for _, key in chunks_of(x)], "sum", lambda *chunks: sum(c.sum() for c in chunks))
    >>> again = Source(x).reread({key: ["sum"] for _, key in chunks_of(x)}, "for-example")
    >>> tasks = {("y", *at): Task(("y", *at), np.divide, again.take(key), TaskRef("sum"))
    ...          for at, key in chunks_of(x)}
    >>> array_of("y", {**total, **again.tasks, **tasks}, x.chunks, x._meta / 1, [x]).compute()
    array([0.        , 0.06666667, 0.13333333, 0.2       , 0.26666667,
           0.33333333])

It stands on `dask._task_spec`, in which Dask writes tasks since 2025.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask._task_spec import Alias, DataNode, GraphNode, Task, TaskRef, convert_legacy_graph
from dask.array.core import Array as DaskArray
from dask.base import tokenize
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.utils import ensure_dict

Key = Any
"""A task's name: of an array's chunk a tuple of the array's name and the chunk's index."""
Tasks = dict[Key, GraphNode]

_SMALL = "histeq-"
_WIDTH = 16
"""How many values one task of a tree combines: as many are alive at once a level of the tree."""


@dataclass(frozen=True, slots=True)
class Copy:
    """Tasks that read a source again.

    Attributes
    ----------
    tasks : dict
        Those of the copy.
    keys : dict
        What each chunk that was wanted is called there.
    """

    tasks: Tasks
    keys: dict[Key, Key]
    _inner: set[Key]

    def take(self, key: Key) -> TaskRef | GraphNode:
        """Return what stands for a chunk among the arguments of the one task that takes it.

        Where no other task of the copy needs the chunk, that is the task which makes it: then it is none of
        `tasks` any more, and Dask has one task less to look after.
        """
        own = self.keys[key]
        if own in self._inner or own not in self.tasks:
            return TaskRef(own)
        return self.tasks.pop(own)


def small_name(what: str, *parts: Any) -> str:
    """Return the name of something small that `parts` determine, which `reread` leaves as it is."""
    return f"{_SMALL}{what}-{tokenize(*parts)}"


def chunks_of(array: DaskArray) -> Iterator[tuple[tuple[int, ...], Key]]:
    """Yield the index of each chunk, and its key."""
    return zip(np.ndindex(array.numblocks), flatten(array.__dask_keys__()), strict=True)


class Source:
    """Arrays that are read more than once.

    Attributes
    ----------
    tasks : dict
        Their tasks as Dask would run them: no more than are needed, in few steps.
    """

    def __init__(self, *arrays: DaskArray) -> None:
        graph = HighLevelGraph.merge(*(array.__dask_graph__() for array in arrays))
        layers = [layer for layer in graph.layers.values() if isinstance(layer, MaterializedLayer)]
        self._small = {key for layer in layers for key in layer.mapping if _is_small(key)}
        # What is named here is not fused with other tasks, and keeps its name.
        keys = [*self._small, *(key for array in arrays for _, key in chunks_of(array))]
        self.tasks: Tasks = convert_legacy_graph(ensure_dict(arrays[0].__dask_optimize__(graph, keys)))

    def reread(self, wanted: Mapping[Key, Sequence[Key]], token: Any) -> Copy:
        """Copy the tasks that make some chunks.

        Parameters
        ----------
        wanted : mapping
            The keys of the chunks to make once more, and which keys each of them has to wait for.
        token : object
            What tells this copy from others of the source: whatever its waits depend on.
        """
        suffix = tokenize(token)
        order = self._copied(wanted)
        names = {key: _renamed(key, suffix) for key in order}
        waits = {key: frozenset(keys) for key, keys in wanted.items()}
        copies: Tasks = {}
        needed_by_copies: set[Key] = set()
        for key in reversed(order):  # what waits for more tells so to what it is made from
            task, own, needed = self.tasks[key], names[key], waits[key]
            inner = {name: names[name] for name in task.dependencies if name in names}
            for name in inner:
                known = waits.get(name, needed)
                waits[name] = needed if known is needed else known | needed
            needed_by_copies.update(inner.values())
            if inner:  # a whole dictionary of names would be looked through for each task
                copies[own] = task.substitute(inner, key=own)
            else:
                refs = map(TaskRef, sorted(needed, key=str))
                copies[own] = Task(own, _first, task, *refs, _data_producer=task.data_producer)
        return Copy(copies, {key: names.get(key, key) for key in wanted}, needed_by_copies)

    def shares(self, wanted: Iterable[Key]) -> bool:
        """Tell whether something that a copy reads or makes is for more than one of the chunks wanted."""
        whose = {key: key for key in wanted}
        order = self._copied(whose)
        copied = set(order)
        for key in reversed(order):
            for name in self.tasks[key].dependencies & copied:
                if whose.setdefault(name, whose[key]) != whose[key]:
                    return True
        return False

    def _copied(self, wanted: Iterable[Key]) -> list[Key]:
        """Return the keys of the tasks that are copied, each after those that it depends on."""
        stays: dict[Key, bool] = {}
        stack = list(wanted)
        while stack:
            key = stack[-1]
            task = self.tasks.get(key)  # None: held elsewhere, as by the workers of a cluster
            if key in stays:
                stack.pop()
            elif task is None or isinstance(task, DataNode) or key in self._small:
                stays[key] = True
            elif unknown := [name for name in task.dependencies if name not in stays]:
                stack += unknown
            else:
                stays[key] = isinstance(task, Alias) and stays[task.target]
        return [key for key, in_place in stays.items() if not in_place]


def _is_small(key: Key) -> bool:
    """Tell whether a key is that of something small that was named by `small_name`."""
    name = key[0] if isinstance(key, tuple) and key else key
    return isinstance(name, str) and name.startswith(_SMALL)


def _renamed(key: Key, suffix: str) -> Key:
    """Return the key of a task's copy. Its name begins as it did, since Dask shows what comes first."""
    if isinstance(key, tuple) and key:
        return (_renamed(key[0], suffix), *key[1:])
    return f"{key}-{suffix}"


def _first(value: Any, *waited_for: Any) -> Any:
    """Return a value, and take what had to be there before it was made."""
    return value


def tree(keys: Sequence[Key], key: Key, combine: Callable[..., Any]) -> Tasks:
    """Return tasks that combine the values of keys, some at a time: ``combine(value, ...)``.

    The result is that of `key`. A single value is combined with none.
    """
    tasks: Tasks = {}
    level = 0
    while len(keys) > _WIDTH:
        groups = [keys[start : start + _WIDTH] for start in range(0, len(keys), _WIDTH)]
        keys = [_part(key, level, number) for number in range(len(groups))]
        for part, group in zip(keys, groups, strict=True):
            tasks[part] = Task(part, combine, *map(TaskRef, group))
        level += 1
    tasks[key] = Task(key, combine, *map(TaskRef, keys))
    return tasks


def _part(key: Key, level: int, number: int) -> Key:
    name, *index = key if isinstance(key, tuple) else (key,)
    return (f"{name}-part", *index, level, number)


def add(*counts: Any) -> Any:
    """Return the sum of counts, for `tree`: arrays of NumPy or CuPy, which stay as they are."""
    total = counts[0]
    for number, more in enumerate(counts[1:]):
        if number == 0:
            total = total + more
        else:
            total += more
    return total


def array_of(
    name: str, tasks: Tasks, chunks: tuple[tuple[Any, ...], ...], meta: Any, sources: Sequence[DaskArray]
) -> DaskArray:
    """Return the array whose chunks are tasks named ``(name, *index)``; `sources` have all that they lack."""
    layer = MaterializedLayer(tasks, _annotations_of(sources))
    return DaskArray(HighLevelGraph.from_collections(name, layer, sources), name, chunks, meta=meta)


def _annotations_of(sources: Sequence[DaskArray]) -> dict[str, Any] | None:
    """Return what `dask.annotate` was told of the sources, where it was the same for all that it was told of.

    A copy must run where its source does, as on the workers that have a GPU.
    """
    graph = HighLevelGraph.merge(*(source.__dask_graph__() for source in sources))
    told = [layer.annotations for layer in graph.layers.values() if layer.annotations]
    return dict(told[0]) if told and all(each == told[0] for each in told) else None


def lowered(array: Any) -> DaskArray:
    """Return an array as one with a graph of tasks; those of Dask's query planning are expressions.

    Query planning is off by default ("array.query-planning").
    """
    if isinstance(array, DaskArray):
        return array
    planned = array.optimize()
    _, (name, *_) = next(chunks_of(planned))
    graph = HighLevelGraph.from_collections(name, dict(planned.__dask_graph__()))
    return DaskArray(graph, name, planned.chunks, meta=planned._meta)


def lifted(array: DaskArray) -> Any:
    """Return an array with a graph of tasks as an expression."""
    from dask.array._array_expr._collection import from_graph

    keys = [key for _, key in chunks_of(array)]
    return from_graph(dict(array.__dask_graph__()), array._meta, array.chunks, keys, array.name)
