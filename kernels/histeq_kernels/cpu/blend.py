"""CLAHE, the second half: every pixel through the tables of the tiles around it, weighted by their distance.

Between the centres of neighbouring tiles the tables are the same: such a *cell* is gone through at once. The
arithmetic is that of `histeq/_core/tile_grid.py`: float32, every product and sum rounded by itself.
"""

import numpy as np

from histeq_kernels.cpu._blend import blend_16, blend_one, blend_pairs
from histeq_kernels.cpu._kernel import flat, inline, kernel, plane, plane_out
from histeq_kernels.cpu._vector import line, part_32, part_64, row
from histeq_kernels.cpu._whole import whole

CHUNK = 1024
"""Pixels of a row whose entries are kept at once."""
FOUND = (3, CHUNK + 16)
"""Room for them: two rows in turn, and where cells end; not 4096 bytes apart, where stores delay loads."""
_ENDS = np.uint64(2 * FOUND[1])
GROUP = 16
"""Cells whose packed 8-bit tables are kept at once, in the first-level cache."""

_AXIS = "Array(int64, 2, 'C', readonly=True), Array(float32, 2, 'C', readonly=True)"
_FORM = flat("int64")


def _signature(element: str, axes: int, tables: int) -> str:
    around = ", ".join([_AXIS] * axes)
    grid = f"Array({element}, {tables}, 'C', readonly=True)"
    room = "uint64[::1], uint32[:, ::1]"
    return f"void({plane(element)}, {around}, {grid}, {_FORM}, {room}, {plane_out(element)})"


@kernel(u8=_signature("uint8", 2, 3))
def blend_tiles(image, ys, y_weights, xs, x_weights, tables, form, packed, found, out):
    """Map the 8-bit pixels of a (1, rows, columns) image with contiguous rows.

    Parameters
    ----------
    ys, xs : the tile before and the tile after each row, and each column
    y_weights, x_weights : their weights
    tables : (tiles down, tiles across, 256)
    form : none of it matters for 8 bits
    packed, found : (65536,) and FOUND, of any content
    """
    blend_plane(image, (ys, y_weights), (xs, x_weights), tables, packed, found, out)


@kernel(u16=_signature("uint16", 2, 3))
def blend_tiles_direct(image, ys, y_weights, xs, x_weights, tables, form, packed, found, out):
    """Do the same for 16-bit pixels.

    Parameters
    ----------
    form : the bits to turn in a pixel, by how much it is then shifted right to give a bin, the first bin of
        the tables, by how much a level is shifted left to give a pixel
    """
    height, width = np.uint64(image.shape[1]), np.uint64(image.shape[2])
    room, before, after = line(found), x_weights[0], x_weights[1]
    top = np.uint64(0)
    while top < height:
        bottom, left = end_of_run(ys, top, height), np.uint64(0)
        while left < width:
            right = end_of_run(xs, left, min(width, left + np.uint64(CHUNK)))
            cell = (top, bottom, left, right)
            across = (np.uint64(xs[0, left]), np.uint64(xs[1, left]))
            four = (np.uint64(ys[0, top]), np.uint64(ys[1, top]), across[0], across[1])
            low, high = limits_of(image, cell, np.uint64(form[0]))
            worth = (right - left) * (bottom - top) >= (high - low)
            if worth:
                pack_direct(tables, four, low, high, form, packed)
            for y in range(top, bottom):
                pixels, new = row(image, np.uint64(0), y), row(out, np.uint64(0), y)
                if worth:
                    look_up_packed(pixels, left, right, packed, room)
                else:
                    look_up_direct(pixels, left, right, tables, four, form, room)
                blend_halves(room, left, right, before, after, y_weights[0, y], y_weights[1, y], form, new)
            left = right
        top = bottom


@kernel(u8=_signature("uint8", 3, 4), u16=_signature("uint16", 3, 4))
def blend_volume(image, zs, z_weights, ys, y_weights, xs, x_weights, tables, form, packed, found, out):
    """Map the pixels of a (depth, rows, columns) image with contiguous rows, between eight tiles each."""
    turn, shift, first, back = np.uint64(form[0]), np.uint64(form[1]), np.uint64(form[2]), np.uint64(form[3])
    for z in range(np.uint64(image.shape[0])):
        near, far = tables[np.uint64(zs[0, z])], tables[np.uint64(zs[1, z])]
        for y in range(np.uint64(image.shape[1])):
            pixels, new = row(image, z, y), row(out, z, y)
            top, bottom = np.uint64(ys[0, y]), np.uint64(ys[1, y])
            for x in range(np.uint64(image.shape[2])):
                left, right = np.uint64(xs[0, x]), np.uint64(xs[1, x])
                v = ((np.uint64(pixels[x]) ^ turn) >> shift) - first
                wx = (x_weights[0, x], x_weights[1, x])
                a = bilinear(near, top, bottom, left, right, v, wx, y_weights[0, y], y_weights[1, y])
                b = bilinear(far, top, bottom, left, right, v, wx, y_weights[0, y], y_weights[1, y])
                level = whole(a * z_weights[0, z] + b * z_weights[1, z])
                new[x] = (np.uint64(level) << back) ^ turn


@inline
def blend_plane(image, down, across, tables, packed, found, out):
    """Do what `blend_tiles` does; `down` and `across` are tiles and weights."""
    (ys, y_weights), (xs, x_weights) = down, across
    height, width, one = np.uint64(image.shape[1]), np.uint64(image.shape[2]), np.uint64(1)
    cells, room = part_32(packed, 0, 131072), line(found)  # no slices: counting references takes as long
    before, after = x_weights[0], x_weights[1]
    top = np.uint64(0)
    while top < height:
        bottom = end_of_run(ys, top, height)
        left = np.uint64(0)
        while left < width:
            right, count = pack_group(xs, left, width, ys[0, top], ys[1, top], tables, cells, room)
            look_up(row(image, np.uint64(0), top), left, count, cells, room)
            for y in range(top, bottom):
                here = ((y - top) & one) * np.uint64(FOUND[1])
                new, above, below = row(out, np.uint64(0), y), y_weights[0, y], y_weights[1, y]
                if y + one < bottom:
                    following = row(image, np.uint64(0), y + one)
                    blend_and_look_up(
                        following, left, count, cells, room, here, before, after, above, below, new
                    )
                else:
                    blend_row(room, here, left, right, before, after, above, below, new)
            left = right
        top = bottom


@inline
def bilinear(tables, top, bottom, left, right, v, wx, above, below):
    """Return the level between four tables."""
    upper = np.float32(tables[top, left, v]) * wx[0] + np.float32(tables[top, right, v]) * wx[1]
    lower = np.float32(tables[bottom, left, v]) * wx[0] + np.float32(tables[bottom, right, v]) * wx[1]
    return upper * above + lower * below


@inline
def end_of_run(tiles, start, stop):
    """Return where the pixels from `start` on no longer lie between the same two tiles."""
    end = start + np.uint64(1)
    while end < stop and tiles[0, end] == tiles[0, start] and tiles[1, end] == tiles[1, start]:
        end += np.uint64(1)
    return end


@inline
def pack_group(xs, left, width, upper, lower, tables, cells, room):
    """Pack the tables of the cells from column `left` on, as many as are kept at once.

    Return the column behind them, and how many they are; `room` gets where each ends, counted from `left`.
    """
    right, count, most = left, np.uint64(0), min(width, left + np.uint64(CHUNK))
    while right < most and count < np.uint64(GROUP):
        before, after = xs[0, right], xs[1, right]
        pack(tables, upper, lower, before, after, cells, np.uint64(256) * count)
        right = end_of_run(xs, right, most)
        room[_ENDS + count] = np.uint32(right - left)
        count += np.uint64(1)
    return right, count


@inline
def pack(tables, upper, lower, before, after, cells, start):
    """Write the entries of four 8-bit tables into one of 32 bits."""
    above, below, left, right = np.uint64(upper), np.uint64(lower), np.uint64(before), np.uint64(after)
    for i in range(np.uint64(256)):
        ab = np.uint32(tables[above, left, i]) | np.uint32(tables[above, right, i]) << np.uint32(8)
        cd = np.uint32(tables[below, left, i]) << np.uint32(16)
        cells[start + i] = ab | cd | np.uint32(tables[below, right, i]) << np.uint32(24)


@inline
def look_up(pixels, left, count, cells, room):
    """Write the packed entries of a row's pixels; one load gets those of all four tables."""
    start = np.uint64(0)
    for cell in range(count):
        end, table = np.uint64(room[_ENDS + cell]), np.uint64(256) * cell
        for i in range(start, end):
            room[i] = cells[table + pixels[left + i]]
        start = end


@inline
def blend_and_look_up(pixels, left, count, cells, room, here, before, after, above, below, new):
    """Blend a row while the next one is looked up: vectors do the one, loads the other, at the same time."""
    start, step, ahead = np.uint64(0), np.uint64(16), np.uint64(FOUND[1]) - here
    for cell in range(count):
        end, table = np.uint64(room[_ENDS + cell]), np.uint64(256) * cell
        stop = start + (end - start) // step * step
        for i in range(start, stop, step):
            for j in range(i, i + step):
                room[ahead + j] = cells[table + pixels[left + j]]
            blend_16(room, here + i, before, after, left + i, above, below, new)
        for i in range(stop, end):
            room[ahead + i] = cells[table + pixels[left + i]]
            new[left + i] = blend_one(room[here + i], before[left + i], after[left + i], above, below)
        start = end


@inline
def blend_row(room, here, left, right, before, after, above, below, new):
    """Blend a row."""
    step = np.uint64(16)
    stop = (right - left) // step * step
    for i in range(np.uint64(0), stop, step):
        blend_16(room, here + i, before, after, left + i, above, below, new)
    for i in range(stop, right - left):
        new[left + i] = blend_one(room[here + i], before[left + i], after[left + i], above, below)


@inline
def limits_of(image, cell, turn):
    """Return the smallest and the largest value of a cell."""
    top, bottom, left, right = cell
    low, high, turned = np.uint16(65535), np.uint16(0), np.uint16(turn)
    for y in range(top, bottom):
        pixels = row(image, np.uint64(0), y)
        for x in range(left, right):
            value = np.uint16(pixels[x] ^ turned)
            low = value if value < low else low
            high = value if value > high else high
    return np.uint64(low), np.uint64(high)


@inline
def pack_direct(tables, four, low, high, form, packed):
    """Write the entries of four 16-bit tables into one of 64 bits, for turned pixels from `low` to `high`."""
    turn, shift, first = np.uint64(form[0]), np.uint64(form[1]), np.uint64(form[2])
    if turn == 0 and shift == 0:
        for i in range(low - first, high - first + np.uint64(1)):
            packed[first + i] = packed_entries(tables, four, i)
    else:
        for value in range(low, high + np.uint64(1)):
            packed[value ^ turn] = packed_entries(tables, four, (value >> shift) - first)


@inline
def packed_entries(tables, four, i):
    """Return the i-th entries of four tables as one word: the upper left lowest, upper right, lower two."""
    upper, lower, left, right = four
    above = np.uint64(tables[upper, left, i]) | np.uint64(tables[upper, right, i]) << np.uint64(16)
    below = np.uint64(tables[lower, left, i]) | np.uint64(tables[lower, right, i]) << np.uint64(16)
    return above | below << np.uint64(32)


@inline
def look_up_packed(pixels, left, right, packed, room):
    """Write the packed entries of 16-bit pixels."""
    entries = part_64(room, 0, CHUNK)
    for i in range(right - left):
        entries[i] = packed[pixels[left + i]]


@inline
def look_up_direct(pixels, left, right, tables, four, form, room):
    """Do the same without packed tables, where a cell has too few pixels for them."""
    entries, turn, shift, first = (
        part_64(room, 0, CHUNK),
        np.uint64(form[0]),
        np.uint64(form[1]),
        np.uint64(form[2]),
    )
    for i in range(right - left):
        bin_ = ((np.uint64(pixels[left + i]) ^ turn) >> shift) - first
        entries[i] = packed_entries(tables, four, bin_)


@inline
def blend_halves(room, left, right, before, after, above, below, form, new):
    """Blend the entries of a row; `room` has those of a pixel as two words."""
    whole_ones = (right - left) // np.uint64(16) * np.uint64(16)
    for i in range(np.uint64(0), whole_ones, np.uint64(16)):
        blend_pairs(room, i, before, after, left + i, above, below, new)
    for i in range(whole_ones, right - left):
        new[left + i] = blend_pair(room, i, before[left + i], after[left + i], above, below)
    back, turn = np.uint64(form[3]), np.uint64(form[0])
    if back or turn:
        for x in range(left, right):
            new[x] = (np.uint64(new[x]) << back) ^ turn


@inline
def blend_pair(pairs, i, before, after, above, below):
    """Blend one pixel with 16-bit entries."""
    half, bits = np.uint32(65535), np.uint32(16)
    upper, lower = pairs[i + i], pairs[i + i + np.uint64(1)]
    a, b = np.float32(np.int32(upper & half)), np.float32(np.int32(upper >> bits))
    c, d = np.float32(np.int32(lower & half)), np.float32(np.int32(lower >> bits))
    return np.uint16(whole((a * before + b * after) * above + (c * before + d * after) * below))
