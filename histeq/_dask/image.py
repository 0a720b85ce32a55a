"""A Dask array as an image: what its chunks hold, and which of them are counted together."""

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from dask._task_spec import GraphNode, Task, TaskRef
from dask.array.core import Array as DaskArray
from dask.base import tokenize

from histeq._api.request import Request, request, without_subclass
from histeq._core import dispatch
from histeq._core.array_types import library_of
from histeq._dask import chunk as _chunk
from histeq._dask.chunk import Place, Selection
from histeq._dask.graph import Key, Source, Tasks, add, array_of, chunks_of, lowered, small_name, tree

Group = tuple[int, int]
"""The number of a chunk along N, and along C: chunks that have both in common are counted together."""


class Chunk(NamedTuple):
    """A chunk of an image."""

    place: Place
    group: Group
    value: TaskRef | GraphNode
    """What the one task that takes the chunk has in its place."""
    mask: Key | None


@dataclass(frozen=True, slots=True)
class Image:
    """A Dask array with the checked arguments that say which of its pixels are meant.

    What is known of each group, as its counts, is a Dask array (N, P, ...) with a chunk for each.
    """

    array: DaskArray
    """Its chunks have all channels of their pixels where these need each other."""
    mask: DaskArray | None
    """In the chunks of `array`."""
    call: Request
    """That of an array of the same kind and shape without pixels to speak of."""
    selection: Selection

    @property
    def whole(self) -> bool:
        """Whether each chunk has all pixels of its images."""
        return all(self.array.numblocks[axis_of(self.call, letter)] == 1 for letter in self.call.axes.spatial)

    def chunks(self) -> Iterator[Chunk]:
        """Yield all chunks."""
        axes = [axis_of(self.call, letter) for letter in "NC"]
        masks = {} if self.mask is None else dict(chunks_of(self.mask))
        of_mask = () if self.mask is None else _axes_of_mask(self.call, self.mask)
        for index, key in chunks_of(self.array):
            shape = tuple(sizes[i] for sizes, i in zip(self.array.chunks, index, strict=True))
            n, c = (0 if axis is None else index[axis] for axis in axes)
            mask = masks.get(tuple(index[axis] for axis in of_mask))
            yield Chunk(Place(index, shape), (n, c), TaskRef(key), mask)

    @property
    def groups(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """How many images, and histograms of an image, the groups have."""
        axes = (axis_of(self.call, letter) for letter in "NC")
        images, planes = ((1,) if axis is None else self.array.chunks[axis] for axis in axes)
        if self.call.pixels.luma:
            return images, (1,)
        return images, tuple(size - self.call.pixels.alpha for size in planes)

    def counts(self, bins: int, bounds: Any) -> tuple[DaskArray, DaskArray | None]:
        """Return the counts, (N, P, bins), and the edges of the bins, (N, P, bins + 1), if pixels tell them.

        `bins` and `bounds` are as `check_bins` returns them.
        """
        edges = None
        tasks: Tasks = {}
        chunks: Iterable[Chunk] = self.chunks()
        if self.call.dtype.kind == "f" and bounds is None and not self.whole:
            edges = self.edges(bins)
            tasks, chunks = self.again(partial(key_of, edges), with_mask=True)
        elif self.call.dtype.kind != "f":
            bins = self.call.pixels.bins(None)
        count = partial(_chunk.count, self.selection, bins, bounds)
        return self._combined("counts", count, add, tasks, chunks, edges, bins, np.int64), edges

    def edges(self, bins: int) -> DaskArray:
        """Return the edges of the bins between the smallest and the largest counted values."""
        dtype = self.call.dtype.newbyteorder("=")
        extremes = partial(_chunk.extremes, self.selection)
        range_ = self._combined("range", extremes, _chunk.least, {}, self.chunks(), None, 2, dtype)
        edges = partial(_chunk.edges, self.selection.backend, bins)
        return self.of_groups("edges", edges, [range_], bins + 1, dtype)

    def _combined(
        self,
        what: str,
        function: Callable[..., Any],
        combine: Callable[..., Any],
        tasks: Tasks,
        chunks: Iterable[Chunk],
        edges: DaskArray | None,
        last: int,
        dtype: Any,
    ) -> DaskArray:
        """Return what a function of chunks gives, combined in each group."""
        sources = [array for array in (self.array, self.mask, edges) if array is not None]
        name = small_name(what, function, *(array.name for array in sources))
        tasks, parts = dict(tasks), dict[Group, list[Key]]()
        for chunk in chunks:
            key = (f"{name}-chunk", *chunk.place.number)
            inputs: list[Any] = [chunk.value]
            if chunk.mask is not None or edges is not None:
                inputs.append(None if chunk.mask is None else TaskRef(chunk.mask))
            if edges is not None:
                inputs.append(TaskRef(key_of(edges, chunk.group)))
            tasks[key] = Task(key, function, chunk.place, *inputs, _data_producer=reads(chunk))
            parts.setdefault(chunk.group, []).append(key)
        for group, keys in parts.items():
            tasks |= tree(keys, (name, *group, 0), combine)
        return self._array_of_groups(name, tasks, last, dtype, sources)

    def of_groups(
        self, what: str, function: Callable[..., Any], inputs: Sequence[DaskArray], last: int, dtype: Any
    ) -> DaskArray:
        """Return what a function gives of what else is known of each group."""
        name = small_name(what, function, *(array.name for array in inputs))
        tasks: Tasks = {}
        for group in np.ndindex(*map(len, self.groups)):
            key = (name, *group, 0)
            tasks[key] = Task(key, function, *(TaskRef(key_of(array, group)) for array in inputs))
        return self._array_of_groups(name, tasks, last, dtype, inputs)

    def _array_of_groups(
        self, name: str, tasks: Tasks, last: int, dtype: Any, sources: Sequence[DaskArray]
    ) -> DaskArray:
        meta = np.empty((0, 0, 0), dtype, like=self.call.image)
        return array_of(name, tasks, (*self.groups, (last,)), meta, sources)

    def again(self, after: Callable[[Group], Key], with_mask: bool = False) -> tuple[Tasks, list[Chunk]]:
        """Return tasks that read the image again, each chunk after a key of its group, and the new chunks.

        A mask that several images share is read by each group anew: it must not wait for all of them.
        """
        mask = self.mask if with_mask else None
        source = Source(self.array) if mask is None else Source(self.array, mask)
        batches: dict[Group | None, list[Chunk]] = {}
        for chunk in self.chunks():
            batches.setdefault(None if mask is None else chunk.group, []).append(chunk)
        tasks: Tasks = {}
        again: list[Chunk] = []
        for batch, chunks in batches.items():
            wanted = {chunk.value.key: [after(chunk.group)] for chunk in chunks}
            if mask is not None:
                wanted |= {chunk.mask: [after(chunk.group)] for chunk in chunks}
            copy = source.reread(wanted, (after((0, 0)), batch))
            again += [
                chunk._replace(value=copy.take(chunk.value.key), mask=copy.keys.get(chunk.mask))
                for chunk in chunks
            ]
            tasks |= copy.tasks
        return tasks, again

    def map(
        self,
        what: str,
        function: Callable[..., Any],
        dtype: Any,
        inputs: Callable[[Chunk], dict[str, Key]],
        sources: Sequence[DaskArray],
        after: Callable[[Group], Key] | None = None,
    ) -> DaskArray:
        """Return the array of what a function makes of each chunk: ``function(place, chunk, **inputs)``.

        Parameters
        ----------
        inputs : callable
            Returns the keys of what else the function takes for a chunk.
        sources : sequence of arrays
            The arrays that have these keys.
        after : callable, optional
            Returns the key of a group for which its chunks wait: they are read again then.
        """
        name = f"{what}-{tokenize(function, self.array.name, *(array.name for array in sources))}"
        tasks, chunks = ({}, self.chunks()) if after is None else self.again(after)
        for chunk in chunks:
            key = (name, *chunk.place.number)
            refs = {argument: TaskRef(of) for argument, of in inputs(chunk).items()}
            tasks[key] = Task(key, function, chunk.place, chunk.value, **refs, _data_producer=reads(chunk))
        meta = np.empty((0,) * self.array.ndim, dtype, like=self.call.image)
        return array_of(name, tasks, self.array.chunks, meta, [self.array, *sources])


def reads(chunk: Chunk) -> bool:
    """Tell whether the task that takes a chunk reads it, too: schedulers start few of those at a time."""
    return isinstance(chunk.value, GraphNode) and chunk.value.data_producer


def key_of(array: DaskArray, group: Group) -> Key:
    """Return the key of what is known of a group; what is known of one image may serve all."""
    n, c = group
    return (array.name, n if array.numblocks[0] > 1 else 0, c, 0)


def image_of(
    array: DaskArray,
    backend: str | None,
    *,
    layout: str | None,
    color: str,
    alpha: bool | None,
    mask: Any = None,
    nodata: Any = None,
    value_range: Any = None,
) -> Image:
    """Check the arguments that say which pixels of a Dask array are meant."""
    mask, of_mask = mask_of(array, mask, "mask")
    call = request(
        stand_in("image", array), backend, layout=layout, color=color, alpha=alpha, mask=of_mask,
        nodata=nodata, value_range=value_range,
    )  # fmt: skip
    return image_of_request(call, array, mask, backend, layout, color, "image")


def image_of_request(
    call: Request,
    array: DaskArray,
    mask: DaskArray | None,
    backend: str | None,
    layout: str | None,
    color: str,
    name: str,
) -> Image:
    """Return a Dask array as the image of a request that was made of its stand-in."""
    pixels = call.pixels
    for letter in "NC":
        axis = axis_of(call, letter)
        if axis is not None and any(map(math.isnan, array.chunks[axis])):
            raise unknown_sizes(name, array, f"along {letter}")
    if pixels.luma or pixels.alpha:
        array = array.rechunk({axis_of(call, "C"): -1})
    if mask is not None:
        mask = mask.rechunk(tuple(array.chunks[axis] for axis in _axes_of_mask(call, mask)))
    selection = Selection(
        name, call.dtype, _library(call.image), layout, color, pixels.alpha, pixels.nodata,
        pixels.value_range, backend,
    )  # fmt: skip
    return Image(array, mask, call, selection)


def unknown_sizes(name: str, array: DaskArray, where: str) -> ValueError:
    """Return the error for an array the sizes of whose chunks must be known."""
    return ValueError(
        f"{name} must have chunks of known sizes {where}, got shape {array.shape}; "
        f"{name}.compute_chunk_sizes() finds them"
    )


def axis_of(call: Request, letter: str) -> Any:
    """Return which axis of the array a letter names; None: none."""
    axes = call.axes
    return axes.order[axes.letters.index(letter)] if letter in axes.letters else None


def _axes_of_mask(call: Request, mask: DaskArray) -> tuple[int, ...]:
    """Return which axes of the image those of its mask are: all but C, or those of space."""
    order = sorted(
        axis for axis, letter in zip(call.axes.order, call.axes.letters, strict=True) if letter != "C"
    )
    if len(order) > mask.ndim:
        order.remove(axis_of(call, "N"))
    return tuple(order)


def mask_of(array: DaskArray, mask: Any, name: str) -> tuple[DaskArray | None, Any]:
    """Return the mask of an array as a Dask array, and its stand-in."""
    if mask is None:
        return None, None
    image = "reference" if name == "reference_mask" else "image"
    mask = lazy(name, mask)
    for of, each in ((image, array), (name, mask)):
        if any(map(math.isnan, each.shape)):
            raise unknown_sizes(of, each, "with a mask" if each is array else "itself")
    dtype = np.bool_ if mask.dtype.kind == "u" else None  # which serves as well, and is not converted
    return mask, stand_in(name, mask, dtype)


def lazy(name: str, array: Any, chunks: Any = "auto") -> DaskArray:
    """Return an array that belongs to a Dask array as one: it may be in memory itself."""
    kind: Any = type(array)
    library = library_of(kind)
    if library == "dask":
        return array
    dispatch.refuse_masked(kind, name)
    if library not in ("numpy", "cupy"):
        raise TypeError(f"{name} must be an array of Dask, or of the kind of the chunks, got {kind.__name__}")
    return lowered(da.from_array(without_subclass(array), chunks=chunks, asarray=False))


def stand_in(name: str, array: DaskArray, dtype: Any = None) -> Any:
    """Return an array of the kind, dtype and shape of a Dask array's, whose pixels take no memory.

    What is checked of arrays in memory is checked of it. An axis of unknown length has one pixel.
    """
    meta = array._meta
    kind: Any = type(meta)
    library = library_of(kind)
    if library == "masked":
        raise TypeError(
            f"{name} must not have masked chunks: pass dask.array.ma.getdata({name}) with "
            f"mask=~dask.array.ma.getmaskarray({name})"
        )
    if library not in ("numpy", "cupy"):
        raise TypeError(f"{name} must have chunks of NumPy or CuPy, got {kind.__name__}")
    library_module: Any = sys.modules["cupy"] if library == "cupy" else np
    shape = tuple(1 if math.isnan(size) else size for size in array.shape)
    return library_module.broadcast_to(library_module.zeros((1,) * len(shape), dtype or array.dtype), shape)


def _library(array: Any) -> str:
    kind: Any = type(array)
    return library_of(kind)
