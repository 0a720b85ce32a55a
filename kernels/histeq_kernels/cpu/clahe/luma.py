"""CLAHE of the luma of 8-bit colour images: Y is computed, and counted or mapped, one band at a time.

Images have the form of those in `ycrcb/luma.py`. Tables and interpolation are those of `tile_tables.py` and
`blend.py`.
"""

from typing import Any, NamedTuple

import numpy as np

from histeq_kernels.cpu.clahe.clip import clip_counts, clipped_at, fill_levels
from histeq_kernels.cpu.clahe.parameters import DEPTH, HEIGHT, PARAMETERS, SPAN, WIDTH
from histeq_kernels.cpu.clahe.runs import AXIS
from histeq_kernels.cpu.clahe.tile_tables import POSITIONS, make_tables
from histeq_kernels.cpu.core.kernel import inline
from histeq_kernels.cpu.core.operations import blend_plane, count_tile
from histeq_kernels.cpu.core.views import part_8, part_i32, row
from histeq_kernels.cpu.tiers import tiered_kernel
from histeq_kernels.cpu.ycrcb.luma import COLORS, COLORS_OUT
from histeq_kernels.cpu.ycrcb.rows import Colors, luma_of_chunk, replace_luma_of_chunk, row_of
from histeq_kernels.cpu.ycrcb.scalar import luma_of
from histeq_kernels.cpu.ycrcb.vectors import pixel

BAND = 1 << 17
"""Pixels in a band: their Y, together with the mapped Y, fits into the second-level cache."""


class Tiles(NamedTuple):
    """A colour image and its grid of tiles."""

    image: Any
    """The image, a `Colors`."""
    positions: Any
    """The pixel at each position along the three axes."""
    size: Any
    """The size of a tile: see `parameters.py`."""


class Workspace(NamedTuple):
    """The memory in which tables are made."""

    scratch: Any
    sums: Any
    band: Any
    """Y of `BAND` pixels."""
    indices: Any
    """0, 1, 2, ..., BAND - 1: the positions of the band's pixels within it."""


@tiered_kernel(
    u8=f"void({COLORS}, {POSITIONS}, {PARAMETERS}, int64, int64, float64, {PARAMETERS}, "
    f"uint32[::1], int32[::1], uint8[::1], {PARAMETERS}, uint8[:, ::1])"
)
def tile_tables_of_luma(
    first, second, third, stride, k, zs, ys, xs, tile, start, stop, clip_limit, levels,
    scratch, sums, band, indices, tables,
):  # fmt: skip
    """Write the tables of tiles `start` to `stop`: see `tile_tables.tile_tables`.

    Parameters
    ----------
    first, second, third, stride, k : see `ycrcb/luma.py`
    band, indices : see `Workspace`

    A band holds as many tiles side by side as fit into it, or a part of a tile that is larger than a band.
    """
    tiles = Tiles(Colors((first, second, third), stride, k), (zs, ys, xs), tile)
    workspace = Workspace(scratch, sums, band, indices)
    area, wide = tile[DEPTH] * tile[HEIGHT] * tile[WIDTH], np.int64(xs.size) // tile[WIDTH]
    i = start
    while i < stop:
        together = min(min(stop - i, wide - i % wide), BAND // area)
        if together:
            make_tables_of_band(tiles, i, together, clip_limit, levels, workspace, tables[i : i + together])
            i += together
        else:
            counts = part_i32(sums, 0, 256)
            counts[:] = 0
            count_in_bands(tiles, i, workspace, counts)
            clip_counts(counts, clipped_at(clip_limit, area, 256))
            fill_levels(counts, np.float32(levels[SPAN]) / np.float32(area), levels, tables[np.uint64(i)])
            i += 1


@tiered_kernel(
    u8=f"void({COLORS}, {AXIS}, {AXIS}, Array(uint8, 3, 'C', readonly=True), uint64[::1], "
    f"uint32[:, ::1], uint8[::1], {COLORS_OUT})"
)
def blend_tiles_of_luma(
    first, second, third, stride, k, ys, y_weights, xs, x_weights, tables, packed, found, band,
    new_first, new_second, new_third,
):  # fmt: skip
    """Map the luma of an image of one slice: see `blend.blend_tiles`.

    Parameters
    ----------
    first, second, third, stride, k : see `ycrcb/luma.py`
    band : a workspace for twice `BAND` pixels, or for two rows if those have more
    """
    image, new = (
        Colors((first, second, third), stride, k),
        Colors((new_first, new_second, new_third), stride, k),
    )
    height, width = np.int64(first.shape[1]), np.int64(first.shape[2]) // np.int64(stride)
    zero, size, rows = np.uint64(0), np.uint64(width), max(BAND // width, 1)
    for top in range(0, height, rows):
        stop = min(height, top + rows)
        here = stop - top
        y = part_8(band, 0, here * width).reshape((1, here, width))
        mapped = part_8(band, here * width, here * width).reshape((1, here, width))
        for i in range(here):
            old = row_of(image, zero, np.uint64(top + i))
            luma_of_chunk(old, zero, size, row(y, zero, np.uint64(i)))
        part = (ys[:, top:stop], y_weights[:, top:stop])
        blend_plane(y, part, (xs, x_weights), tables, packed, found, mapped)
        for i in range(here):
            before, after = row(y, zero, np.uint64(i)), row(mapped, zero, np.uint64(i))
            old, target = row_of(image, zero, np.uint64(top + i)), row_of(new, zero, np.uint64(top + i))
            replace_luma_of_chunk(old, zero, size, before, after, target.channels)


@inline
def make_tables_of_band(tiles, i, number, clip_limit, levels, workspace, tables):
    """Write the tables of `number` tiles side by side, from the i-th on, from one band."""
    tall, wide = tiles.size[DEPTH] * tiles.size[HEIGHT], tiles.size[WIDTH]
    shape, size = (tall, number * wide), (np.int64(1), tall, wide)
    y = fill_band(tiles, i, (0, 0), shape, workspace.band)
    positions, memory = within(workspace.indices, shape), (workspace.scratch, workspace.sums)
    make_tables(y, positions, size, 0, number, clip_limit, levels, memory, tables)


@inline
def count_in_bands(tiles, i, workspace, counts):
    """Count Y of the i-th tile, band by band."""
    height, width = tiles.size[DEPTH] * tiles.size[HEIGHT], tiles.size[WIDTH]
    columns = min(width, BAND)
    rows = BAND // columns
    for y in range(0, height, rows):
        for x in range(0, width, columns):
            shape = (min(rows, height - y), min(columns, width - x))
            band = fill_band(tiles, i, (y, x), shape, workspace.band)
            positions, size = within(workspace.indices, shape), (np.int64(1), shape[0], shape[1])
            count_tile(band, positions, size, 0, workspace.sums, workspace.scratch, counts)


@inline
def within(indices, shape):
    """Return the positions of a band's pixels within it."""
    return indices[:1], indices[: shape[0]], indices[: shape[1]]


@inline
def fill_band(tiles, i, at, shape, band):
    """Write Y of a part of the i-th tile to the band; return it as (1, rows, columns).

    The part has the shape (rows, columns) and begins at `at`, a (row, column) of the tile. The rows of a tile
    with depth are those of its slices, one after the other.
    """
    (zs, ys, xs), (height, width), tile = tiles.positions, shape, tiles.size
    tall, wide = np.int64(ys.size) // tile[HEIGHT], np.int64(xs.size) // tile[WIDTH]
    front, top = i // (tall * wide) * tile[DEPTH], i // wide % tall * tile[HEIGHT]
    left = np.uint64(i % wide * tile[WIDTH] + at[1])
    for h in range(height):
        z, y = (
            np.uint64(zs[front + (at[0] + h) // tile[HEIGHT]]),
            np.uint64(ys[top + (at[0] + h) % tile[HEIGHT]]),
        )
        gather_luma(row_of(tiles.image, z, y), xs, left, np.uint64(width), part_8(band, h * width, width))
    return part_8(band, 0, height * width).reshape((1, height, width))


@inline
def gather_luma(old, xs, x, size, y):
    """Write Y of the pixels at `size` positions from the x-th on; positions beyond the row are reflected."""
    width = np.uint64(old.channels[0].size) // old.stride
    inside = min(size, width - min(width, x))
    luma_of_chunk(old, x, inside, y)
    for i in range(inside, size):
        p, q, r = pixel(old.channels, np.uint64(xs[x + i]), old.stride)
        y[i] = luma_of(p, q, r, old.k)
