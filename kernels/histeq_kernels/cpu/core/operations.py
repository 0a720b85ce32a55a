"""The operations that every instruction tier implements, each in its own way.

A kernel calls them by these names. When it is compiled for a tier, `specialized` puts that tier's functions
in their place, in the kernel and in every function it calls. A tier's file in `tiers/` lists the function
that implements each operation. Some operations are numbers: the sizes from which one algorithm is the faster.
"""

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

from histeq_kernels.cpu.core.kernel import declaration_of


class Operation:
    """The placeholder for an operation in the source of a kernel."""

    def __init__(self, name: str) -> None:
        self.name = name


def _operation(function: Callable[..., Any]) -> Any:
    """Declare an operation by its signature and docstring."""
    return Operation(function.__name__)


def specialized(function: FunctionType, operations: dict[str, Any]) -> FunctionType:
    """Return a function with a tier's operations in place of the placeholders, also in all that it calls.

    The function itself is returned if it uses no operation.
    """
    replaced = {}
    for name in function.__code__.co_names:
        value: Any = function.__globals__.get(name)
        if isinstance(value, Operation):
            value = replaced[name] = operations[value.name]
        if declare := declaration_of(value):
            special = specialized(value, operations)
            if special is not value:
                replaced[name] = _declared(declare, special)
    return _with_globals(function, tuple(replaced.items())) if replaced else function


@functools.cache
def _declared(declare: Callable[..., Any], function: FunctionType) -> Any:
    """Declare a function for use in kernels, once, so that all kernels of a tier share its compiled code."""
    return declare(function)


@functools.cache
def _with_globals(function: FunctionType, replaced: tuple[tuple[str, Any], ...]) -> FunctionType:
    """Return a copy of a function in which some global names have other values."""
    copy = FunctionType(function.__code__, {**function.__globals__, **dict(replaced)}, function.__name__)
    copy.__qualname__, copy.__module__ = function.__qualname__, function.__module__
    return copy


# 8-bit grey pixels -----------------------------------------------------------------------------------


@_operation
def min_pixels_counted_by_rows():
    """Return the number of pixels from which `count_rows` is faster than four tables (`small.py`)."""


@_operation
def count_rows(image, scratch, counts):
    """Count the pixels of (depth, rows, columns) with contiguous rows; `fold_rows` completes `counts`."""


@_operation
def count_piece(image, scratch, counts):
    """Do what `count_rows` does for one of many pieces of an image; `fold_rows` follows the last."""


@_operation
def fold_rows(scratch, counts):
    """Add the counters that `count_rows` left in the scratch to `counts`, and reset them to zero."""


@_operation
def count_masked(image, mask, workspace, scratch, counts):
    """Add the counts of pixels in contiguous rows whose mask is not zero; `workspace` holds pixels."""


@_operation
def table_of_image(image, memory, table):
    """Count a contiguous 2-D image, and write the default rule's table; leave the counters zero."""


@_operation
def rows_to_count(image):
    """Return a contiguous 2-D image as (1, rows, columns), with rows that suit `count_rows` best."""


@_operation
def min_pixels_mapped_by_rows():
    """Return the number of pixels from which `prepare_table` and `map_rows` beat single lookups."""


@_operation
def prepare_table(table, workspace):
    """Write what `map_row` and `map_rows` need in addition to the table into 65,536 uint16."""


@_operation
def map_row(pixels, table, workspace, past_caches, new):
    """Map a row; `past_caches` is true if the whole image is too large to stay in a cache."""


@_operation
def map_rows(image, table, workspace, past_caches, out):
    """Map the pixels of (depth, rows, columns) with contiguous rows."""


# Parts of colour images, in the first-level cache ----------------------------------------------------


@_operation
def prepare_steps(table, steps):
    """Write what `map_chunk` needs in addition to the table into 256 bytes."""


@_operation
def map_chunk(pixels, table, steps, new):
    """Map up to a few thousand pixels."""


@_operation
def block_pixels():
    """Return the largest number of pixels of a colour image that are counted together."""


@_operation
def block_rows(height, width):
    """Return how many rows of an image of this height and width are counted together."""


@_operation
def count_block(block, rows, columns, pitch, c, few, scratch, counts):
    """Count rows of the c-th channel, `pitch` bytes apart; `few` is true if the image has few pixels.

    `fold_blocks` completes `counts`, 256 for each channel. If pixels are few, `table_of_blocks` may be called
    instead, and `counts` are not used.
    """


@_operation
def fold_blocks(c, few, scratch, counts):
    """Add the counters that `count_block` left for the c-th channel to `counts`, and reset them to zero."""


@_operation
def table_of_blocks(c, pixels, memory, table):
    """Write the default rule's table for the c-th channel of an image of few pixels; reset its counters."""


# `size` colour pixels, from pixel `start` of three rows on --------------------------------------------
#
# They return how many pixels are done. The caller does the others, which do not fill a vector.


@_operation
def luma_of_planes(channels, start, size, k, y):
    """Write Y of pixels in three planes; `k` has the coefficients."""


@_operation
def luma_of_rgb(channels, start, size, k, y):
    """Write Y of pixels of three interleaved channels; the three rows are the same."""


@_operation
def luma_of_rgba(channels, start, size, k, y):
    """Write Y of pixels of four interleaved channels; the three rows are the same."""


@_operation
def replace_luma_of_planes(channels, start, size, k, y, new, out):
    """Write pixels in three planes, with their Y, which is `y`, replaced by `new`."""


@_operation
def replace_luma_of_rgb(channels, start, size, k, y, new, out):
    """Write pixels of three interleaved channels, with their Y, which is `y`, replaced by `new`."""


@_operation
def replace_luma_of_rgba(channels, start, size, k, y, new, out):
    """Write pixels of four interleaved channels, with Y replaced; the fourth is copied."""


@_operation
def separate_rgb(rows, start, size, channels):
    """Write the channels of pixels of three interleaved channels to the first three of four buffers."""


@_operation
def separate_rgba(rows, start, size, channels):
    """Write the channels of pixels of four interleaved channels to four buffers."""


@_operation
def interleave_rgb(rows, start, size, channels):
    """Write pixels of three interleaved channels: the way back."""


@_operation
def interleave_rgba(rows, start, size, channels):
    """Write pixels of four interleaved channels: the way back."""


# CLAHE of 8 bits -------------------------------------------------------------------------------------


@_operation
def min_pixels_of_counted_tile():
    """Return the number of pixels of a tile from which `count_tile` is faster than four tables."""


@_operation
def count_tile(image, positions, tile, i, memory, scratch, counts):
    """Add the i-th tile's pixels to its int32 counts: see `tile_tables.make_tables`."""


@_operation
def blend_plane(image, down, across, tables, packed, found, out):
    """Map the pixels of (1, rows, columns) by blending the tables of tiles: see `blend.blend_tiles`."""
