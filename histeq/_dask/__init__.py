"""Dask arrays in, lazy Dask arrays out: images that are larger than memory, on one machine or many.

`call` is what a public function does with a Dask array: it checks all arguments at once, computes nothing,
and returns a Dask array. `operations` and `clahe` have a function for each of them; `image` knows which
chunks there are and which are counted together; `chunk` is what tasks do to one chunk, mostly by calling the
same functions as for whole images; `graph` lets a source be read twice without being held. CLAHE takes
`tile_plan` (how chunks and tiles lie), `tile_graph` (which tasks there are), `tile_tasks` (what they do).
Dask is imported here alone.
"""

from collections.abc import Callable, Mapping
from typing import Any

from dask.array.core import Array as DaskArray

from histeq._core.array_types import library_of
from histeq._dask import clahe, operations
from histeq._dask.graph import lifted, lowered

_OPERATIONS: dict[str, Callable[..., Any]] = {
    "apply": operations.apply,
    "apply_tiles": clahe.apply_tiles,
    "clahe": clahe.clahe,
    "equalize": operations.equalize,
    "histogram": operations.histogram,
    "lookup_table": operations.lookup_table,
    "match": operations.match,
    "tile_histograms": clahe.tile_histograms,
    "tile_tables": clahe.tile_tables,
}


def call(function: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """Do what a public function does, given all of its arguments by name; the first is a Dask array."""
    operation = _OPERATIONS.get(function.__name__)
    if operation is None:
        return function(**options)  # which says that it takes arrays in memory only
    result = operation(
        **{name: lowered(value) if _is_array(value) else value for name, value in options.items()}
    )
    first = next(iter(options.values()))
    return result if isinstance(first, DaskArray) or not isinstance(result, DaskArray) else lifted(result)


def _is_array(value: Any) -> bool:
    kind: Any = type(value)
    return library_of(kind) == "dask"
