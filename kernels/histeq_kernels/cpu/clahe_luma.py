"""CLAHE of the luma of 8-bit colour images: Y is computed a band at a time, counted or mapped, and not kept.

Pixels come in rows as for `luma.py`, row by row of the image. The rest is as in `tiles.py` and `blend.py`.
"""

from collections.abc import Callable

import numpy as np

from histeq_kernels.cpu import _ycrcb, blend, clahe_avx512, tiles
from histeq_kernels.cpu._kernel import flat, inline, kernel, plane, plane_out
from histeq_kernels.cpu._vector import part_8, part_i32, row
from histeq_kernels.cpu.histogram import FEW
from histeq_kernels.cpu.luma import luma_of_chunk, replace_in_chunk
from histeq_kernels.cpu.tiers import tier

BAND = 1 << 17
"""Pixels whose Y is held at once: with the mapped ones, they stay in the second-level cache."""

_ROWS = ", ".join([plane("uint8")] * 3) + f", uint64, {flat('int16')}"
_INDICES = flat("int64")
_TABLES = (
    f"void({_ROWS}, {tiles._POSITIONS}, {_INDICES}, int64, int64, float64, {_INDICES}, "
    f"uint32[::1], int32[::1], uint8[::1], {_INDICES}, uint8[:, ::1])"
)
_BLEND = (
    f"void({_ROWS}, {blend._AXIS}, {blend._AXIS}, Array(uint8, 3, 'C', readonly=True), uint64[::1], "
    f"uint32[:, ::1], uint8[::1], {', '.join([plane_out('uint8')] * 3)})"
)


def counting() -> Callable[..., None]:
    """Return the fastest kernel that makes the tables of tiles."""
    kernels = {"portable": tile_tables_portable, "avx2": tile_tables_avx2, "avx512": tile_tables_avx512}
    return kernels[tier()].u8


def blending() -> Callable[..., None]:
    """Return the fastest kernel that blends them."""
    kernels = {"portable": blend_tiles_portable, "avx2": blend_tiles_avx2, "avx512": blend_tiles_avx512}
    return kernels[tier()].u8


@kernel(u8=_TABLES)
def tile_tables_portable(
    first, second, third, step, k, zs, ys, xs, tile, start, stop, clip_limit, levels,
    scratch, sums, band, each, tables,
):  # fmt: skip
    """Write the tables of tiles `start` to `stop`: see `tiles.tile_tables`.

    Parameters
    ----------
    k : the coefficients
    band : room for `BAND` pixels
    each : 0, 1, 2, ..., BAND - 1
    """
    luma = (_ycrcb.luma_planes_portable, _ycrcb.luma_rgb_portable, _ycrcb.luma_rgba_portable)
    old, at, room = ((first, second, third), step, k), (zs, ys, xs), (scratch, sums, band, each)
    make_tables(
        old, at, tile, start, stop, clip_limit, levels, room, tables, luma, (tiles.FEW, tiles.count_gathered)
    )


@kernel(u8=_TABLES)
def tile_tables_avx2(
    first, second, third, step, k, zs, ys, xs, tile, start, stop, clip_limit, levels,
    scratch, sums, band, each, tables,
):  # fmt: skip
    """Do the same with 16-bit products."""
    luma = (_ycrcb.luma_planes_avx2, _ycrcb.luma_rgb_avx2, _ycrcb.luma_rgba_avx2)
    old, at, room = ((first, second, third), step, k), (zs, ys, xs), (scratch, sums, band, each)
    make_tables(
        old, at, tile, start, stop, clip_limit, levels, room, tables, luma, (tiles.FEW, tiles.count_gathered)
    )


@kernel(u8=_TABLES)
def tile_tables_avx512(
    first, second, third, step, k, zs, ys, xs, tile, start, stop, clip_limit, levels,
    scratch, sums, band, each, tables,
):  # fmt: skip
    """Do the same with the counter of the tier avx512, too."""
    luma = (_ycrcb.luma_planes_avx512, _ycrcb.luma_rgb_avx512, _ycrcb.luma_rgba_avx512)
    old, at, room = ((first, second, third), step, k), (zs, ys, xs), (scratch, sums, band, each)
    make_tables(
        old, at, tile, start, stop, clip_limit, levels, room, tables, luma, (FEW, clahe_avx512.count_tile)
    )


@kernel(u8=_BLEND)
def blend_tiles_portable(
    first, second, third, step, k, ys, y_weights, xs, x_weights, tables, packed, found, band,
    new_first, new_second, new_third,
):  # fmt: skip
    """Map the luma of an image of one slice: see `blend.blend_tiles`.

    Parameters
    ----------
    band : room for twice `BAND` pixels, or for two rows if those have more
    """
    luma = (_ycrcb.luma_planes_portable, _ycrcb.luma_rgb_portable, _ycrcb.luma_rgba_portable)
    replace = (_ycrcb.replace_planes_portable, _ycrcb.replace_rgb_portable, _ycrcb.replace_rgba_portable)
    old, new = ((first, second, third), step, k), (new_first, new_second, new_third)
    down, across, room = (ys, y_weights), (xs, x_weights), (packed, found, band)
    blend_bands(old, down, across, tables, room, new, luma, replace, blend.blend_plane)


@kernel(u8=_BLEND)
def blend_tiles_avx2(
    first, second, third, step, k, ys, y_weights, xs, x_weights, tables, packed, found, band,
    new_first, new_second, new_third,
):  # fmt: skip
    """Do the same with 16-bit products."""
    luma = (_ycrcb.luma_planes_avx2, _ycrcb.luma_rgb_avx2, _ycrcb.luma_rgba_avx2)
    replace = (_ycrcb.replace_planes_avx2, _ycrcb.replace_rgb_avx2, _ycrcb.replace_rgba_avx2)
    old, new = ((first, second, third), step, k), (new_first, new_second, new_third)
    down, across, room = (ys, y_weights), (xs, x_weights), (packed, found, band)
    blend_bands(old, down, across, tables, room, new, luma, replace, blend.blend_plane)


@kernel(u8=_BLEND)
def blend_tiles_avx512(
    first, second, third, step, k, ys, y_weights, xs, x_weights, tables, packed, found, band,
    new_first, new_second, new_third,
):  # fmt: skip
    """Do the same with the lookup of the tier avx512, too."""
    luma = (_ycrcb.luma_planes_avx512, _ycrcb.luma_rgb_avx512, _ycrcb.luma_rgba_avx512)
    replace = (_ycrcb.replace_planes_avx512, _ycrcb.replace_rgb_avx512, _ycrcb.replace_rgba_avx512)
    old, new = ((first, second, third), step, k), (new_first, new_second, new_third)
    down, across, room = (ys, y_weights), (xs, x_weights), (packed, found, band)
    blend_bands(old, down, across, tables, room, new, luma, replace, clahe_avx512.blend_plane)


@inline
def make_tables(old, positions, tile, start, stop, clip_limit, levels, room, tables, luma, many):
    """Make tables from bands: of as many tiles side by side as one holds, or of a part of a larger tile.

    `many`: from how many pixels on a tile is counted in another way, and how; see `tiles.make_tables`.
    """
    few, count_many = many
    scratch, sums, band, each = room
    wide, tall, area = np.int64(positions[2].size) // tile[2], tile[0] * tile[1], tile[0] * tile[1] * tile[2]
    i = start
    while i < stop:
        together = min(min(stop - i, wide - i % wide), BAND // area)
        if together:
            shape, part = (tall, together * tile[2]), tables[i : i + together]
            y, own = fill_band(old, positions, tile, i, (0, 0), shape, band, luma), within(each, shape)
            one, memory = (np.int64(1), tall, tile[2]), (scratch, sums)
            tiles.make_tables(y, own, one, 0, together, clip_limit, levels, memory, part, few, count_many)
            i += together
        else:
            counts = part_i32(sums, 0, 256)
            counts[:] = 0
            count_in_bands(old, positions, tile, i, room, counts, luma, count_many)
            tiles.clip_counts(counts, tiles.clipped_at(clip_limit, area, 256))
            scale = np.float32(levels[2]) / np.float32(area)
            tiles.fill_levels(counts, scale, levels, tables[np.uint64(i)])
            i += 1


@inline
def count_in_bands(old, positions, tile, i, room, counts, luma, count_many):
    """Count Y of the i-th tile band by band."""
    scratch, sums, band, each = room
    height, columns = tile[0] * tile[1], min(tile[2], BAND)
    rows = BAND // columns
    for y in range(0, height, rows):
        for x in range(0, tile[2], columns):
            shape = (min(rows, height - y), min(columns, tile[2] - x))
            some = fill_band(old, positions, tile, i, (y, x), shape, band, luma)
            one = (np.int64(1), shape[0], shape[1])
            count_many(some, within(each, shape), one, 0, sums, scratch, counts)


@inline
def within(each, shape):
    """Return the positions of a band's pixels within it."""
    return each[:1], each[: shape[0]], each[: shape[1]]


@inline
def fill_band(old, positions, tile, i, at, shape, band, luma):
    """Return Y of (rows, columns) from (row, column) `at` of the i-th tile on, (1, rows, columns).

    The rows of a tile with depth are those of one slice after the other.
    """
    (first, second, third), step, k = old
    (zs, ys, xs), (height, width) = positions, shape
    tall, wide = np.int64(ys.size) // tile[1], np.int64(xs.size) // tile[2]
    front, top = i // (tall * wide) * tile[0], i // wide % tall * tile[1]
    left = np.uint64(i % wide * tile[2] + at[1])
    for h in range(height):
        z, y = np.uint64(zs[front + (at[0] + h) // tile[1]]), np.uint64(ys[top + (at[0] + h) % tile[1]])
        three = (row(first, z, y), row(second, z, y), row(third, z, y))
        gather_luma(three, xs, left, np.uint64(width), step, k, part_8(band, h * width, width), luma)
    return part_8(band, 0, height * width).reshape((1, height, width))


@inline
def gather_luma(old, xs, x, size, step, k, y, luma):
    """Write Y of the pixels at `size` positions from the x-th on; those beyond the row are reflected."""
    width = np.uint64(old[0].size) // step
    inside = min(size, width - min(width, x))
    luma_of_chunk(old, x, inside, step, k, y, luma)
    for i in range(inside, size):
        p, q, r = _ycrcb.pixel(old, np.uint64(xs[x + i]), step)
        y[i] = _ycrcb.luma(p, q, r, k)


@inline
def blend_bands(old, down, across, tables, room, new, luma, replace, blend_plane):
    """Blend Y of one slice band by band, and put it back."""
    (first, second, third), step, k = old
    (ys, y_weights), (packed, found, band) = down, room
    height, width = np.int64(first.shape[1]), np.int64(first.shape[2]) // np.int64(step)
    zero, size, rows = np.uint64(0), np.uint64(width), max(BAND // width, 1)
    for top in range(0, height, rows):
        stop = min(height, top + rows)
        some = stop - top
        y = part_8(band, 0, some * width).reshape((1, some, width))
        mapped = part_8(band, some * width, some * width).reshape((1, some, width))
        for i in range(some):
            three = rows_at((first, second, third), np.uint64(top + i))
            luma_of_chunk(three, zero, size, step, k, row(y, zero, np.uint64(i)), luma)
        part = (ys[:, top:stop], y_weights[:, top:stop])
        blend_plane(y, part, across, tables, packed, found, mapped)
        for i in range(some):
            here, h = np.uint64(i), np.uint64(top + i)
            before, after = row(y, zero, here), row(mapped, zero, here)
            three = rows_at((first, second, third), h)
            replace_in_chunk(three, zero, size, step, k, before, after, rows_at(new, h), replace)


@inline
def rows_at(three, y):
    """Return the y-th row of the only slice."""
    first, second, third = three
    zero = np.uint64(0)
    return row(first, zero, y), row(second, zero, y), row(third, zero, y)
