"""CLAHE of the luma of 8-bit colour images: Y is computed where it is counted or mapped, and never kept.

Pixels come in rows as for `luma.py`, row by row of the image. The rest is as in `tiles.py` and `blend.py`.
"""

from collections.abc import Callable

import numpy as np

from histeq_kernels.cpu import _ycrcb, blend, tiles
from histeq_kernels.cpu._kernel import flat, inline, kernel, plane, plane_out
from histeq_kernels.cpu._vector import line, part_8, part_32, part_i32, row
from histeq_kernels.cpu.histogram import count_row, fold
from histeq_kernels.cpu.luma import luma_of_chunk, replace_in_chunk
from histeq_kernels.cpu.tiers import tier

_ROWS = ", ".join([plane("uint8")] * 3) + f", uint64, {flat('int16')}"
_TABLES = tiles._TABLES["uint8"].replace(plane("uint8"), _ROWS)
_BLEND = (
    f"void({_ROWS}, {blend._AXIS}, {blend._AXIS}, Array(uint8, 3, 'C', readonly=True), uint64[::1], "
    f"uint32[:, ::1], uint8[::1], {', '.join([plane_out('uint8')] * 3)})"
)


def counting() -> Callable[..., None]:
    """Return the fastest kernel that makes the tables of tiles."""
    return (tile_tables_portable if tier() == "portable" else tile_tables_avx2).u8


def blending() -> Callable[..., None]:
    """Return the fastest kernel that blends them."""
    return (blend_tiles_portable if tier() == "portable" else blend_tiles_avx2).u8


@kernel(u8=_TABLES)
def tile_tables_portable(
    first, second, third, step, k, zs, ys, xs, tile, start, stop, clip_limit, levels, scratch, sums, tables
):
    """Write the tables of tiles `start` to `stop`: see `tiles.tile_tables`; `k` has the coefficients."""
    luma = (_ycrcb.luma_planes_portable, _ycrcb.luma_rgb_portable, _ycrcb.luma_rgba_portable)
    old, at, memory = (first, second, third), (zs, ys, xs), (scratch, sums)
    make_tables(old, step, k, at, tile, start, stop, clip_limit, levels, memory, tables, luma)


@kernel(u8=_TABLES)
def tile_tables_avx2(
    first, second, third, step, k, zs, ys, xs, tile, start, stop, clip_limit, levels, scratch, sums, tables
):
    """Do the same with 16-bit products."""
    luma = (_ycrcb.luma_planes_avx2, _ycrcb.luma_rgb_avx2, _ycrcb.luma_rgba_avx2)
    old, at, memory = (first, second, third), (zs, ys, xs), (scratch, sums)
    make_tables(old, step, k, at, tile, start, stop, clip_limit, levels, memory, tables, luma)


@kernel(u8=_BLEND)
def blend_tiles_portable(
    first, second, third, step, k, ys, y_weights, xs, x_weights, tables, packed, found, lines,
    new_first, new_second, new_third,
):  # fmt: skip
    """Map the luma of an image of one slice: see `blend.blend_tiles`; `lines` holds three rows of Y."""
    luma = (_ycrcb.luma_planes_portable, _ycrcb.luma_rgb_portable, _ycrcb.luma_rgba_portable)
    replace = (_ycrcb.replace_planes_portable, _ycrcb.replace_rgb_portable, _ycrcb.replace_rgba_portable)
    old, down, across = (first, second, third), (ys, y_weights), (xs, x_weights)
    new = (new_first, new_second, new_third)
    blend_rows(old, step, k, down, across, tables, packed, found, lines, new, luma, replace)


@kernel(u8=_BLEND)
def blend_tiles_avx2(
    first, second, third, step, k, ys, y_weights, xs, x_weights, tables, packed, found, lines,
    new_first, new_second, new_third,
):  # fmt: skip
    """Do the same with 16-bit products."""
    luma = (_ycrcb.luma_planes_avx2, _ycrcb.luma_rgb_avx2, _ycrcb.luma_rgba_avx2)
    replace = (_ycrcb.replace_planes_avx2, _ycrcb.replace_rgb_avx2, _ycrcb.replace_rgba_avx2)
    old, down, across = (first, second, third), (ys, y_weights), (xs, x_weights)
    new = (new_first, new_second, new_third)
    blend_rows(old, step, k, down, across, tables, packed, found, lines, new, luma, replace)


@inline
def make_tables(old, step, k, positions, tile, start, stop, clip_limit, levels, memory, tables, luma):
    """Count, clip, write the levels."""
    scratch, sums = memory
    area, counts = tile[0] * tile[1] * tile[2], part_i32(sums, 0, 256)
    few = area < tiles.FEW
    for i in range(start, stop):
        for value in range(np.uint64(256)):
            counts[value] = 0
        count_luma(old, step, k, positions, tile, i, sums, few, scratch, counts, luma)
        fold(few, scratch, counts)
        tiles.clip_counts(counts, tiles.clipped_at(clip_limit, area, 256))
        tiles.fill_levels(counts, np.float32(levels[2]) / np.float32(area), levels, tables[np.uint64(i)])


@inline
def count_luma(old, step, k, positions, tile, i, memory, few, scratch, counts, luma):
    """Count Y of the i-th tile, brought together a part at a time: see `tiles.count_gathered`."""
    first, second, third = old
    zs, ys, xs = positions
    tall, wide = np.int64(ys.size) // tile[1], np.int64(xs.size) // tile[2]
    front, top = np.uint64(i // (tall * wide) * tile[0]), np.uint64(i // wide % tall * tile[1])
    left, size, most = np.uint64(i % wide * tile[2]), np.uint64(tile[2]), np.uint64(tiles.GATHERED)
    gathered, filled = part_8(memory, 256, tiles.GATHERED), np.uint64(0)
    for z in range(front, front + np.uint64(tile[0])):
        for y in range(top, top + np.uint64(tile[1])):
            d, h, x = np.uint64(zs[z]), np.uint64(ys[y]), np.uint64(0)
            rows = (row(first, d, h), row(second, d, h), row(third, d, h))
            while x < size:
                some = min(size - x, most - filled)
                target = part_8(gathered, np.int64(filled), np.int64(some))
                gather_luma(rows, xs, left + x, some, step, k, target, luma)
                x, filled = x + some, filled + some
                if filled == most:
                    count_row(gathered, few, scratch, counts)
                    filled = np.uint64(0)
    count_row(part_8(memory, 256, np.int64(filled)), few, scratch, counts)


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
def blend_rows(old, step, k, down, across, tables, packed, found, lines, new, luma, replace):
    """Go through the image as `blend.blend_tiles` does; Y of a row is taken just before it is looked up."""
    (ys, y_weights), (xs, x_weights) = down, across
    height, width, one = np.uint64(old[0].shape[1]), np.uint64(old[0].shape[2]) // step, np.uint64(1)
    cells, room = part_32(packed, 0, 131072), line(found)
    before, after = x_weights[0], x_weights[1]
    mapped = part_8(lines, np.int64(width + width), np.int64(width))
    top = np.uint64(0)
    while top < height:
        bottom, left = blend.end_of_run(ys, top, height), np.uint64(0)
        while left < width:
            right, count = blend.pack_group(xs, left, width, ys[0, top], ys[1, top], tables, cells, room)
            right = shortened(left, right, width, count, room)
            for y in range(top, bottom + one):  # the y-th is looked up while the one before it is blended
                turn, here = (y - top) & one, ((y - top + one) & one) * np.uint64(blend.FOUND[1])
                pixels = part_8(lines, np.int64(turn * width), np.int64(width))
                if y < bottom:
                    target = part_8(pixels, np.int64(left), np.int64(right - left))
                    luma_of_chunk(rows_at(old, y), left, right - left, step, k, target, luma)
                if y == top:
                    blend.look_up(pixels, left, count, cells, room)
                    continue
                above, below = y_weights[0, y - one], y_weights[1, y - one]
                if y < bottom:
                    blend.blend_and_look_up(
                        pixels, left, count, cells, room, here, before, after, above, below, mapped
                    )
                else:
                    blend.blend_row(room, here, left, right, before, after, above, below, mapped)
                put_back(
                    old, y - one, left, right, step, k, lines, (turn ^ one) * width, mapped, new, replace
                )
            left = right
        top = bottom


@inline
def shortened(left, right, width, count, room):
    """Return where a group of cells ends: within the row after whole vectors, should the last cell be cut."""
    whole = (right - left) // np.uint64(_ycrcb.WIDTH) * np.uint64(_ycrcb.WIDTH)
    if right == width or whole == 0:
        return right
    for cell in range(count):
        room[blend._ENDS + cell] = min(np.uint32(room[blend._ENDS + cell]), np.uint32(whole))
    return left + whole


@inline
def put_back(old, y, left, right, step, k, lines, start, mapped, new, replace):
    """Write part of a row with Y, which begins at `start` of the lines, replaced."""
    size = np.int64(right - left)
    before, after = part_8(lines, np.int64(start + left), size), part_8(mapped, np.int64(left), size)
    replace_in_chunk(rows_at(old, y), left, right - left, step, k, before, after, rows_at(new, y), replace)


@inline
def rows_at(three, y):
    """Return the y-th row of the only slice."""
    first, second, third = three
    zero = np.uint64(0)
    return row(first, zero, y), row(second, zero, y), row(third, zero, y)
