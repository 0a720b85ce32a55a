"""The public functions for Dask arrays: each takes all arguments of its namesake, by name."""

import math
from dataclasses import replace
from functools import partial
from typing import Any

from dask._task_spec import Task, TaskRef
from dask.array.core import Array as DaskArray

from histeq._api.histogram import check_entries, check_table
from histeq._api.match import first_value, refuse_range, request_of_reference
from histeq._api.request import Request, check_bins, check_levels, check_rule, native, same_kind
from histeq._core import rules
from histeq._dask import chunk as _chunk
from histeq._dask.graph import array_of, chunks_of, small_name
from histeq._dask.image import (
    Chunk,
    Image,
    axis_of,
    image_of,
    image_of_request,
    key_of,
    lazy,
    mask_of,
    stand_in,
)


def equalize(
    image: DaskArray,
    *,
    rule: str,
    layout: str | None,
    color: str,
    alpha: bool | None,
    mask: Any,
    nodata: Any,
    bins: Any,
    value_range: Any,
    out_range: Any,
    out_dtype: Any,
    out: Any,
    backend: str | None,
) -> DaskArray:
    """Do what `histeq.equalize` does."""
    refuse_out(out)
    of = image_of(
        image, backend, layout=layout, color=color, alpha=alpha, mask=mask, nodata=nodata,
        value_range=value_range,
    )  # fmt: skip
    call = of.call
    name = check_rule(rule, call.dtype, call.pixels.luma)
    number, bounds = check_bins(bins, value_range, call.dtype)
    call.check_number_of(number)
    levels = check_levels(out_range, out_dtype, call.pixels.value_range, name, call.dtype, call.pixels.luma)
    dtype = rules.result_dtype(name, call.dtype, levels)
    lowest = None if levels is None else levels.low
    call.for_result(dtype, lowest)
    if of.whole:
        options = {
            "rule": rule, "bins": bins, "value_range": value_range, "out_range": out_range,
            "out_dtype": out_dtype,
        }  # fmt: skip
        return of_whole_images(of, "equalize", options, dtype)
    counts, edges = of.counts(number, bounds)
    table = partial(_chunk.table, backend, name, call.dtype, levels)
    kind = rules.table_dtype(name, call.dtype, levels)
    tables = of.of_groups("table", table, [counts], counts.shape[-1], kind)
    return _mapped(of, "equalize", tables, dtype, lowest, edges, bounds)


def histogram(
    image: DaskArray,
    *,
    layout: str | None,
    color: str,
    alpha: bool | None,
    mask: Any,
    nodata: Any,
    bins: Any,
    value_range: Any,
    backend: str | None,
) -> DaskArray:
    """Do what `histeq.histogram` does."""
    of = image_of(
        image, backend, layout=layout, color=color, alpha=alpha, mask=mask, nodata=nodata,
        value_range=value_range,
    )  # fmt: skip
    number, bounds = check_bins(bins, value_range, of.call.dtype)
    of.call.check_number_of(number)
    counts, _ = of.counts(number, bounds)
    return of.call.public(counts)


def lookup_table(
    counts: DaskArray,
    *,
    rule: str,
    dtype: Any,
    value_range: Any,
    out_range: Any,
    out_dtype: Any,
    backend: str | None,
) -> DaskArray:
    """Do what `histeq.lookup_table` does."""
    _, array = native(stand_in("counts", counts), backend, "counts")
    name, kind, levels = check_table(array, rule, dtype, value_range, out_range, out_dtype)
    counts = counts.rechunk({-1: -1})
    options = {
        "rule": rule, "dtype": kind, "value_range": value_range, "out_range": out_range,
        "out_dtype": out_dtype, "backend": backend,
    }  # fmt: skip
    function = partial(_chunk.table_of, options)
    of_table = small_name("table", function, counts.name)
    tasks = {}
    for index, key in chunks_of(counts):
        tasks[of_table, *index] = Task((of_table, *index), function, index, TaskRef(key))
    meta = counts._meta.astype(rules.table_dtype(name, kind, levels))
    return array_of(of_table, tasks, counts.chunks, meta, [counts])


def apply(
    image: DaskArray,
    *,
    table: Any,
    layout: str | None,
    color: str,
    alpha: bool | None,
    nodata: Any,
    value_range: Any,
    out: Any,
    backend: str | None,
) -> DaskArray:
    """Do what `histeq.apply` does. A lazy table may come from the image, which is read again for it."""
    refuse_out(out)
    of = image_of(
        image, backend, layout=layout, color=color, alpha=alpha, nodata=nodata, value_range=value_range
    )
    tables = lazy("table", table, chunks=-1)
    is_lazy = tables is table
    entries = same_kind("table", stand_in("table", tables), of.call.image)
    check_entries(of.call, entries, value_range)
    check_bins(None, value_range, of.call.dtype)
    of.call.check_number_of(entries.shape[-1], "table")
    of.call.for_result(entries.dtype)
    lead = [sizes for sizes, present in zip(of.groups, of.call.lead, strict=True) if present]
    one = tables.ndim == 1
    tables = tables.rechunk((tables.shape,) if one else (*lead, tables.shape[-1:]))

    def key_of_table(group: tuple[int, int]) -> Any:
        index = [] if one else [i for i, present in zip(group, of.call.lead, strict=True) if present]
        return (tables.name, *index, 0)

    function = partial(_chunk.whole, of.selection, "apply", {"value_range": value_range})
    return of.map(
        "apply", function, entries.dtype, lambda chunk: {"table": key_of_table(chunk.group)}, [tables],
        after=key_of_table if is_lazy else None,
    )  # fmt: skip


def match(
    image: DaskArray,
    *,
    reference: Any,
    layout: str | None,
    color: str,
    alpha: bool | None,
    mask: Any,
    nodata: Any,
    reference_mask: Any,
    reference_nodata: Any,
    value_range: Any,
    out: Any,
    backend: str | None,
) -> DaskArray:
    """Do what `histeq.match` does."""
    refuse_out(out)
    of = image_of(
        image, backend, layout=layout, color=color, alpha=alpha, mask=mask, nodata=nodata,
        value_range=value_range,
    )  # fmt: skip
    call, floating = of.call, of.call.dtype.kind == "f"
    refuse_range(call, value_range)
    model = lazy("reference", reference, -1 if floating else "auto")
    model_mask, of_mask = mask_of(model, reference_mask, "reference_mask")
    found = request_of_reference(
        call, stand_in("reference", model), backend, layout, color, alpha, of_mask, reference_nodata
    )
    found = replace(found, pixels=replace(found.pixels, value_range=call.pixels.value_range))
    call.for_result(call.dtype, -math.inf if floating else None)
    wanted = image_of_request(
        found, _in_groups(model, found, of), model_mask, backend, layout, color, "reference"
    )
    if floating:
        _check_whole(of)
        _check_whole(wanted)
        options = {"alpha": alpha, "reference_nodata": found.pixels.nodata}
        return of_whole_images(of, "match", options, call.dtype, wanted)
    dtype, bins = call.dtype.newbyteorder("="), call.pixels.bins(None)
    counts = [each.counts(bins, None)[0] for each in (of, wanted)]
    table = partial(_chunk.match_table, backend, dtype, first_value(call))
    return _mapped(of, "match", of.of_groups("match", table, counts, bins, dtype), call.dtype)


def refuse_out(out: Any) -> None:
    """Raise TypeError for an array to write to."""
    if out is not None:
        raise TypeError(
            "out must be None for Dask arrays, which are computed later; dask.array.store(result, out) "
            f"writes them, got {type(out).__name__}"
        )


def of_whole_images(
    of: Image, function: str, options: dict[str, Any], dtype: Any, reference: Image | None = None
) -> DaskArray:
    """Return what a public function gives for chunks that have all pixels of their images: it reads once."""
    others = {} if reference is None else {chunk.group: chunk for chunk in reference.chunks()}

    def inputs(chunk: Chunk) -> dict[str, Any]:
        keys = {"mask": chunk.mask}
        if reference is not None:
            other = others.get(chunk.group) or others[0, chunk.group[1]]  # one serves all images
            keys |= {"reference": other.value.key, "reference_mask": other.mask}
        return {name: key for name, key in keys.items() if key is not None}

    images = [of] if reference is None else [of, reference]
    sources = [of.mask, *(array for image in images[1:] for array in (image.array, image.mask))]
    whole = partial(_chunk.whole, of.selection, function, options)
    return of.map(function, whole, dtype, inputs, [array for array in sources if array is not None])


def _mapped(
    of: Image,
    what: str,
    tables: DaskArray,
    dtype: Any,
    lowest: float | None = None,
    edges: DaskArray | None = None,
    bounds: Any = None,
) -> DaskArray:
    """Return an image mapped through the tables of its groups; it is read again when they are there."""
    function = partial(_chunk.mapped, of.selection, dtype, lowest, bounds)
    small = {"entries": tables} if edges is None else {"entries": tables, "edges": edges}

    def inputs(chunk: Chunk) -> dict[str, Any]:
        return {name: key_of(array, chunk.group) for name, array in small.items()}

    return of.map(what, function, dtype, inputs, list(small.values()), after=partial(key_of, tables))


def _in_groups(model: DaskArray, found: Request, of: Image) -> DaskArray:
    """Return a reference in chunks of as many images and channels as the image's groups have."""
    chunks = {}
    for letter in "NC":
        axis = axis_of(found, letter)
        if axis is not None and model.shape[axis] == of.array.shape[axis]:
            chunks[axis] = of.array.chunks[axis]
    return model.rechunk(chunks)


def _check_whole(image: Image) -> None:
    """Raise unless every chunk of a floating image to be matched has all of its images' pixels."""
    if not image.whole:
        name, array = image.selection.name, image.array
        axes = {axis_of(image.call, letter): -1 for letter in image.call.axes.spatial}
        raise ValueError(
            f"{name} must have one chunk along {image.call.axes.spatial}: {image.call.dtype} is matched "
            f"value by value; got chunks of {array.chunksize}; {name}.rechunk({axes}) makes it so"
        )
