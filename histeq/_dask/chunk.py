"""What the tasks of a graph do to one chunk, an array of NumPy or CuPy."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

import histeq
from histeq._api.request import Request, request
from histeq._core import dispatch, ranges
from histeq._core.array_types import library_of
from histeq._core.backend import Array
from histeq._core.rules import OutRange
from histeq._core.threads import threads


class Place(NamedTuple):
    """Which chunk of a Dask array it is, and what shape it must have; NaN: any."""

    number: tuple[int, ...]
    shape: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """What a Dask array says of its chunks, and the arguments that say which of their pixels are meant."""

    name: str
    """The array's in errors."""
    dtype: np.dtype
    library: str
    layout: str | None
    color: str
    alpha: bool
    nodata: Any
    value_range: Any
    backend: str | None

    def of(self) -> dict[str, Any]:
        """Return the arguments for a public function."""
        return {
            "layout": self.layout, "color": self.color, "alpha": self.alpha, "nodata": self.nodata,
            "backend": self.backend,
        }  # fmt: skip

    def request(self, chunk: Any, place: Place, mask: Any = None) -> Request:
        """Check a chunk, whose Dask array may have said what is not so; its pixels are those that count."""
        return self.checked(place, request, chunk, mask=mask, value_range=self.value_range, **self.of())

    def checked(self, place: Place, function: Callable[..., Any], chunk: Any, **options: Any) -> Any:
        """Call a function with a chunk, on one thread: others have other chunks. Errors name the chunk."""
        try:
            self._check(chunk, place)
            with threads(1):
                return function(chunk, **options)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"chunk {place.number} of a Dask array: {error}") from error

    def _check(self, chunk: Any, place: Place) -> None:
        """Raise unless a chunk is what its Dask array said."""
        kind: Any = type(chunk)
        dispatch.refuse_masked(kind, self.name)
        if library_of(kind) != self.library:
            raise TypeError(
                f"{self.name} must be an array of {self.library}, as the Dask array says, "
                f"got {kind.__name__} of {kind.__module__.partition('.')[0]}"
            )
        if chunk.dtype.newbyteorder("=") != self.dtype.newbyteorder("="):
            raise TypeError(
                f"{self.name} must have dtype {self.dtype}, as the Dask array says, got {chunk.dtype}"
            )
        same = len(chunk.shape) == len(place.shape) and all(
            math.isnan(said) or said == found for said, found in zip(place.shape, chunk.shape, strict=True)
        )
        if not same:
            raise ValueError(
                f"{self.name} must have shape {place.shape}, as the Dask array says, got {chunk.shape}"
            )


def count(
    selection: Selection,
    bins: int,
    bounds: Any,
    place: Place,
    chunk: Any,
    mask: Any = None,
    edges: Any = None,
) -> Array:
    """Return the counts of a chunk, (N, P, bins); without `edges` those of a floating image are its own."""
    call = selection.request(chunk, place, mask)
    with threads(1):
        return call.backend.histogram(call.pixels, call.edges(bins, bounds) if edges is None else edges)


def extremes(selection: Selection, place: Place, chunk: Any, mask: Any = None) -> Array:
    """Return the smallest and the largest value of a chunk as `ranges.extremes` does."""
    return ranges.extremes(selection.request(chunk, place, mask).pixels)


def least(*found: Array) -> Array:
    """Combine the extremes of chunks, for a tree."""
    return functools.reduce(np.minimum, found)


def edges(backend: str | None, bins: int, found: Array) -> Array:
    """Return the edges of bins between extremes."""
    made = ranges.edges_of(dispatch.choose(found, backend), found, bins)
    return made.copy()  # the memory of CuPy's is used again


def table(backend: str | None, rule: str, dtype: np.dtype, levels: OutRange | None, counts: Array) -> Array:
    """Return the tables for counts."""
    return dispatch.choose(counts, backend).lookup_table(counts, rule, dtype, levels)


def match_table(backend: str | None, dtype: np.dtype, first: int, counts: Array, wanted: Array) -> Array:
    """Return the tables that give counts the distribution of others."""
    return dispatch.choose(counts, backend).match_table(counts, wanted, dtype, first)


def mapped(
    selection: Selection,
    dtype: np.dtype,
    lowest: float | None,
    bounds: Any,
    place: Place,
    chunk: Any,
    entries: Array,
    edges: Array | None = None,
) -> Array:
    """Return a chunk mapped through tables, (N, P, levels), as an array of `dtype`."""
    call = selection.request(chunk, place)
    result = call.result(None, dtype)
    call = call.for_result(dtype, lowest)
    target = call.target(result)
    with threads(1):
        bins = call.edges(entries.shape[-1], bounds) if edges is None else edges
        call.backend.apply(call.pixels, entries, bins, target)
    return result


def whole(
    selection: Selection, function: str, options: dict[str, Any], place: Place, chunk: Any, **arrays: Any
) -> Array:
    """Return what a public function gives for whole images."""
    given = {name: value for name, value in arrays.items() if value is not None}
    return selection.checked(
        place, getattr(histeq, function), chunk, **{**selection.of(), **options, **given}
    )


def table_of(options: dict[str, Any], index: tuple[int, ...], counts: Array) -> Array:
    """Return `histeq.lookup_table` of a chunk of counts."""
    try:
        return histeq.lookup_table(counts, **options)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"chunk {index} of a Dask array: {error}") from error
