"""CLAHE of 16-bit images in small tiles, without tables.

The table of a tile has 65,536 entries, however few pixels the tile has. But if clipping leaves at most one
pixel in a bin, as the usual limit of 2 does in tiles of fewer than 65,536 pixels, the cumulative count up to
a bin is its rank: the number of bins up to it that have any pixel. One bit per bin stores that, together with
the rank of every sixteenth bin: 16 KB per tile, which are quickly filled. The level of a pixel in each of
four tiles is computed when it is needed. That takes four loads instead of one from packed tables, so that it
is faster only for small tiles (`Tier.max_ranked_tile`).
"""

import numpy as np

from histeq_kernels.cpu.clahe.parameters import HEIGHT, LOWEST, PARAMETERS, SIGN, SPAN, WIDTH
from histeq_kernels.cpu.clahe.rank_vectors import ENTRIES, blend_between, rank
from histeq_kernels.cpu.clahe.runs import AXIS, end_of_run
from histeq_kernels.cpu.core.kernel import flat, inline, kernel, plane, plane_out
from histeq_kernels.cpu.core.views import row

__all__ = ["ENTRIES", "blend_ranks", "tile_ranks"]

_POSITIONS = ", ".join([flat("int64")] * 3)


@kernel(
    u16=f"void({plane('uint16')}, {_POSITIONS}, int64, int64, {PARAMETERS}, uint32[:, ::1], int32[:, ::1])"
)
def tile_ranks(image, ys, xs, tile, start, stop, levels, ranks, spreads):
    """Write the ranks of tiles `start` to `stop` of a (1, rows, columns) image with contiguous rows.

    Parameters
    ----------
    ys, xs : the pixel at each position, up to the end of the last tile
    tile : its depth, height, width
    levels : see `parameters.py`
    ranks : (tiles, ENTRIES)
    spreads : (tiles, 2), the distance between bins that get a clipped pixel, and their number
    """
    wide = np.int64(xs.size) // tile[WIDTH]
    for i in range(start, stop):
        y, x, entries = i // wide * tile[HEIGHT], i % wide * tile[WIDTH], ranks[np.uint64(i)]
        entries[:] = 0
        mark_tile(
            image, ys[y : y + tile[HEIGHT]], xs[x : x + tile[WIDTH]], x, np.uint16(levels[SIGN]), entries
        )
        rest = tile[HEIGHT] * tile[WIDTH] - np.int64(rank(entries))
        spreads[np.uint64(i), 0], spreads[np.uint64(i), 1] = 65536 // max(rest, 1), rest


@inline
def mark_tile(image, ys, xs, first, sign, entries):
    """Set the bits of the pixels of a tile; positions beyond the image are reflected."""
    inside = np.uint64(max(min(np.int64(xs.size), np.int64(image.shape[2]) - first), 0))
    for y in range(np.uint64(ys.size)):
        pixels = row(image, np.uint64(0), np.uint64(ys[y]))
        for x in range(inside):
            mark(np.uint16(pixels[np.uint64(first) + x] ^ sign), entries)
        for x in range(inside, np.uint64(xs.size)):
            mark(np.uint16(pixels[np.uint64(xs[x])] ^ sign), entries)


@inline
def mark(value, entries):
    """Set the bit of a bin."""
    entries[value >> np.uint16(4)] |= np.uint32(1) << np.uint32(value & np.uint16(15))


_GRID = ", ".join(f"Array({element}, 3, 'C', readonly=True)" for element in ("uint32", "int32"))


@kernel(u16=f"void({plane('uint16')}, {AXIS}, {AXIS}, {_GRID}, {PARAMETERS}, int64, {plane_out('uint16')})")
def blend_ranks(image, ys, y_weights, xs, x_weights, ranks, spreads, levels, area, out):
    """Map the pixels of the image, as `blend.blend_tiles_16` does.

    Parameters
    ----------
    ranks, spreads : (tiles down, tiles across, ...)
    levels : see `parameters.py`
    area : the number of pixels of a tile
    """
    height, width, top = np.uint64(image.shape[1]), np.uint64(image.shape[2]), np.uint64(0)
    sign, low, span = np.int32(levels[SIGN]), np.int32(levels[LOWEST]), np.int32(levels[SPAN])
    conversion = (sign, np.float32(span) / np.float32(area), low, span)
    columns = (x_weights[0], x_weights[1])
    while top < height:
        bottom, left = end_of_run(ys, top, height), np.uint64(0)
        upper, lower = np.uint64(ys[0, top]), np.uint64(ys[1, top])
        while left < width:
            right = end_of_run(xs, left, width)
            a, b = np.uint64(xs[0, left]), np.uint64(xs[1, left])
            four = ranks[upper, a], ranks[upper, b], ranks[lower, a], ranks[lower, b]
            spread = spreads[upper, a], spreads[upper, b], spreads[lower, a], spreads[lower, b]
            for y in range(top, bottom):
                pixels, new = row(image, np.uint64(0), y), row(out, np.uint64(0), y)
                rows = y_weights[0, y], y_weights[1, y]
                blend_between(pixels, left, right, four, spread, conversion, columns, rows, new)
            left = right
        top = bottom
