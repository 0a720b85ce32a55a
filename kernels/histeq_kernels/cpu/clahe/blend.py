"""The second half of CLAHE: each pixel is mapped by blending the tables of the tiles around it.

All pixels between the centres of the same neighbouring tiles use the same tables: such a *cell* is processed
as a whole. The arithmetic is that of `histeq/_core/tile_grid.py`: float32, with every product and sum
rounded.
"""

import numpy as np

from histeq_kernels.cpu.clahe.blend_packed import CHUNK
from histeq_kernels.cpu.clahe.blend_runs import LEAST_WIDTH, blend_packed_run
from histeq_kernels.cpu.clahe.parameters import BIN_SHIFT, FIRST_BIN, LEVEL_SHIFT, PARAMETERS, SIGN
from histeq_kernels.cpu.clahe.runs import AXIS, end_of_run
from histeq_kernels.cpu.core.kernel import inline, kernel, plane, plane_out
from histeq_kernels.cpu.core.operations import blend_plane
from histeq_kernels.cpu.core.rounding import rounded
from histeq_kernels.cpu.core.views import line, part_16, row
from histeq_kernels.cpu.tiers import tiered_kernel

__all__ = ["LEAST_WIDTH", "blend_tiles", "blend_tiles_16", "blend_volume"]

ORDER = CHUNK + 16
"""How many entries `pack_row` may write, with the 16 before them, which are never used but may be read."""


def _signature(element: str, axes: int, tables: int) -> str:
    around = ", ".join([AXIS] * axes)
    grid = f"Array({element}, {tables}, 'C', readonly=True)"
    workspace = "uint64[::1], uint32[:, ::1]"
    return f"void({plane(element)}, {around}, {grid}, {PARAMETERS}, {workspace}, {plane_out(element)})"


@tiered_kernel(u8=_signature("uint8", 2, 3))
def blend_tiles(image, ys, y_weights, xs, x_weights, tables, levels, packed, found, out):
    """Map the 8-bit pixels of a (1, rows, columns) image with contiguous rows.

    Parameters
    ----------
    ys, xs : the tiles before and after each row and each column
    y_weights, x_weights : the weights of these tiles
    tables : (tiles down, tiles across, 256)
    levels : see `parameters.py`; not used for 8 bits
    packed, found : workspaces of (65536,) and `blend_packed.FOUND`, of any content
    """
    blend_plane(image, (ys, y_weights), (xs, x_weights), tables, packed, found, out)


@kernel(u16=_signature("uint16", 2, 3))
def blend_tiles_16(image, ys, y_weights, xs, x_weights, tables, levels, packed, found, out):
    """Map the 16-bit pixels of a (1, rows, columns) image with contiguous rows: see `blend_tiles`.

    The tables begin at the bin `levels[FIRST_BIN]` and end with the last bin that the image needs.
    """
    height, width, top = np.uint64(image.shape[1]), np.uint64(image.shape[2]), np.uint64(0)
    conversion = np.uint16(levels[SIGN]), np.uint16(levels[LEVEL_SHIFT]), np.float32(0), np.float32(0)
    columns, order = (x_weights[0], x_weights[1]), part_16(line(found), 0, ORDER)
    for i in range(ORDER):
        order[np.uint64(i)] = i
    while top < height:
        bottom, left = end_of_run(ys, top, height), np.uint64(0)
        while left < width:
            right = end_of_run(xs, left, min(width, left + np.uint64(CHUNK)))
            cell = (top, bottom, left, right)
            across = (np.uint64(xs[0, left]), np.uint64(xs[1, left]))
            four = (np.uint64(ys[0, top]), np.uint64(ys[1, top]), across[0], across[1])
            low, high = limits_of(image, cell, np.uint64(levels[SIGN]))
            worth = (right - left) * (bottom - top) >= high - low
            if worth:
                pack_16(tables, four, low, high, levels, packed)
            for y in range(top, bottom):
                pixels, new = row(image, np.uint64(0), y), row(out, np.uint64(0), y)
                if not worth:
                    pack_row(pixels, left, right, tables, four, levels, packed)
                rows = (y_weights[0, y], y_weights[1, y])
                lookup = packed, not worth, order
                blend_packed_run(pixels, left, right, lookup, conversion, columns, rows, new)
            left = right
        top = bottom


@kernel(u8=_signature("uint8", 3, 4), u16=_signature("uint16", 3, 4))
def blend_volume(image, zs, z_weights, ys, y_weights, xs, x_weights, tables, levels, packed, found, out):
    """Map the pixels of a (depth, rows, columns) image, each between eight tiles: see `blend_tiles`."""
    sign, shift, first, back = (
        np.uint64(levels[SIGN]),
        np.uint64(levels[BIN_SHIFT]),
        np.uint64(levels[FIRST_BIN]),
        np.uint64(levels[LEVEL_SHIFT]),
    )
    for z in range(np.uint64(image.shape[0])):
        near, far = tables[np.uint64(zs[0, z])], tables[np.uint64(zs[1, z])]
        for y in range(np.uint64(image.shape[1])):
            pixels, new = row(image, z, y), row(out, z, y)
            top, bottom = np.uint64(ys[0, y]), np.uint64(ys[1, y])
            for x in range(np.uint64(image.shape[2])):
                left, right = np.uint64(xs[0, x]), np.uint64(xs[1, x])
                v = ((np.uint64(pixels[x]) ^ sign) >> shift) - first
                wx = (x_weights[0, x], x_weights[1, x])
                a = bilinear(near, top, bottom, left, right, v, wx, y_weights[0, y], y_weights[1, y])
                b = bilinear(far, top, bottom, left, right, v, wx, y_weights[0, y], y_weights[1, y])
                level = rounded(a * z_weights[0, z] + b * z_weights[1, z])
                new[x] = (np.uint64(level) << back) ^ sign


@inline
def bilinear(tables, top, bottom, left, right, v, wx, above, below):
    """Return the level interpolated between four tables."""
    upper = np.float32(tables[top, left, v]) * wx[0] + np.float32(tables[top, right, v]) * wx[1]
    lower = np.float32(tables[bottom, left, v]) * wx[0] + np.float32(tables[bottom, right, v]) * wx[1]
    return upper * above + lower * below


@inline
def limits_of(image, cell, sign):
    """Return the smallest and the largest value of a cell."""
    top, bottom, left, right = cell
    low, high, sign = np.uint16(65535), np.uint16(0), np.uint16(sign)
    for y in range(top, bottom):
        pixels = row(image, np.uint64(0), y)
        for x in range(left, right):
            value = np.uint16(pixels[x] ^ sign)
            low = value if value < low else low
            high = value if value > high else high
    return np.uint64(low), np.uint64(high)


@inline
def pack_row(pixels, left, right, tables, four, levels, packed):
    """Pack the entries of four 16-bit tables for some pixels of a row, in their order, from packed[16] on."""
    sign, shift, first = np.uint64(levels[SIGN]), np.uint64(levels[BIN_SHIFT]), np.uint64(levels[FIRST_BIN])
    for x in range(left, right):
        value = np.uint64(pixels[x])
        packed[np.uint64(16) + x - left] = packed_entries(tables, four, ((value ^ sign) >> shift) - first)


@inline
def pack_16(tables, four, low, high, levels, packed):
    """Pack the entries of four 16-bit tables into a 64-bit table, for the values from `low` to `high`."""
    sign, shift, first = np.uint64(levels[SIGN]), np.uint64(levels[BIN_SHIFT]), np.uint64(levels[FIRST_BIN])
    if sign == 0 and shift == 0:
        for i in range(low - first, high - first + np.uint64(1)):
            packed[first + i] = packed_entries(tables, four, i)
    else:
        for value in range(low, high + np.uint64(1)):
            packed[value ^ sign] = packed_entries(tables, four, (value >> shift) - first)


@inline
def packed_entries(tables, four, i):
    """Return the i-th entries of four tables as one word: upper left (lowest), upper right, lower two."""
    upper, lower, left, right = four
    above = np.uint64(tables[upper, left, i]) | np.uint64(tables[upper, right, i]) << np.uint64(16)
    below = np.uint64(tables[lower, left, i]) | np.uint64(tables[lower, right, i]) << np.uint64(16)
    return above | below << np.uint64(32)
