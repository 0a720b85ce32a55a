"""CLAHE of the luma of 8-bit colour images: Y is computed a band at a time, counted or mapped, and not kept.

Pixels come in rows as for `luma.py`, row by row of the image. The rest is as in `tiles.py` and `blend.py`.
"""

from collections.abc import Callable

import numpy as np

from histeq_kernels.cpu import _ycrcb, blend, clahe_avx512, tiles
from histeq_kernels.cpu._kernel import flat, inline, kernel, plane, plane_out
from histeq_kernels.cpu._vector import part_8, row
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
    make_tables(old, at, tile, start, stop, clip_limit, levels, room, tables, luma, tiles.count_tile)


@kernel(u8=_TABLES)
def tile_tables_avx2(
    first, second, third, step, k, zs, ys, xs, tile, start, stop, clip_limit, levels,
    scratch, sums, band, each, tables,
):  # fmt: skip
    """Do the same with 16-bit products."""
    luma = (_ycrcb.luma_planes_avx2, _ycrcb.luma_rgb_avx2, _ycrcb.luma_rgba_avx2)
    old, at, room = ((first, second, third), step, k), (zs, ys, xs), (scratch, sums, band, each)
    make_tables(old, at, tile, start, stop, clip_limit, levels, room, tables, luma, tiles.count_tile)


@kernel(u8=_TABLES)
def tile_tables_avx512(
    first, second, third, step, k, zs, ys, xs, tile, start, stop, clip_limit, levels,
    scratch, sums, band, each, tables,
):  # fmt: skip
    """Do the same with the counter of the tier avx512, too."""
    luma = (_ycrcb.luma_planes_avx512, _ycrcb.luma_rgb_avx512, _ycrcb.luma_rgba_avx512)
    old, at, room = ((first, second, third), step, k), (zs, ys, xs), (scratch, sums, band, each)
    make_tables(old, at, tile, start, stop, clip_limit, levels, room, tables, luma, clahe_avx512.count_tile)


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
def make_tables(old, positions, tile, start, stop, clip_limit, levels, room, tables, luma, count):
    """Count, clip, write the levels: of as many tiles side by side as a band holds, or of a larger one."""
    scratch, sums, band, each = room
    wide, area = np.int64(positions[2].size) // tile[2], tile[0] * tile[1] * tile[2]
    i = start
    while i < stop:
        at = origin_of(i, positions, tile)
        together = min(min(stop - i, wide - i % wide), BAND // area) if tile[0] == 1 else 0
        if together < 1:
            counts = tiles.no_counts(sums)
            count_in_bands(old, positions, tile, at, room, counts, luma, count)
            tiles.make_table(counts, area, clip_limit, levels, tables[np.uint64(i)])
            i += 1
            continue
        shape = (tile[1], together * tile[2])
        y, own = (
            fill_band(old, positions, at, shape, band, luma),
            (each[:1], each[: shape[0]], each[: shape[1]]),
        )
        for k in range(together):
            counts = tiles.no_counts(sums)
            count(y, own, (np.int64(1), tile[1], tile[2]), k, sums, scratch, counts)
            tiles.make_table(counts, area, clip_limit, levels, tables[np.uint64(i + k)])
        i += together


@inline
def origin_of(i, positions, tile):
    """Return the position at which the i-th tile begins."""
    tall, wide = np.int64(positions[1].size) // tile[1], np.int64(positions[2].size) // tile[2]
    return i // (tall * wide) * tile[0], i // wide % tall * tile[1], i % wide * tile[2]


@inline
def count_in_bands(old, positions, tile, at, room, counts, luma, count):
    """Count Y of the tile that begins at a position."""
    scratch, sums, band, each = room
    columns = min(tile[2], BAND)
    rows = min(tile[1], BAND // columns)
    for z in range(tile[0]):
        for y in range(0, tile[1], rows):
            for x in range(0, tile[2], columns):
                shape = (min(rows, tile[1] - y), min(columns, tile[2] - x))
                some = fill_band(old, positions, (at[0] + z, at[1] + y, at[2] + x), shape, band, luma)
                own = (each[:1], each[: shape[0]], each[: shape[1]])
                count(some, own, (np.int64(1), shape[0], shape[1]), 0, sums, scratch, counts)


@inline
def fill_band(old, positions, at, shape, band, luma):
    """Return Y of (rows, columns) from a position on, (1, rows, columns)."""
    (first, second, third), step, k = old
    (zs, ys, xs), (height, width) = positions, shape
    z = np.uint64(zs[np.uint64(at[0])])
    for i in range(height):
        y = np.uint64(ys[np.uint64(at[1] + i)])
        three = (row(first, z, y), row(second, z, y), row(third, z, y))
        gather_luma(
            three, xs, np.uint64(at[2]), np.uint64(width), step, k, part_8(band, i * width, width), luma
        )
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
    """Blend Y band by band, and put it back."""
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
