"""CLAHE of 16-bit images by ranks, in tiles of far fewer pixels than bins.

To fill the entries of `ranks.py` would take longer than the pixels. Here a tile has one for every sixteenth
bin, half as many bytes, without the bins that get a clipped pixel: how many those are is computed for each
pixel, whose entries are gathered from four tiles.
"""

import numpy as np
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from histeq_kernels.cpu.clahe.blend_runs import blend_gathered_run
from histeq_kernels.cpu.clahe.parameters import HEIGHT, LOWEST, PARAMETERS, SIGN, SPAN, WIDTH
from histeq_kernels.cpu.clahe.ranks import POSITIONS, mark_tile
from histeq_kernels.cpu.clahe.runs import AXIS, end_of_run
from histeq_kernels.cpu.core.kernel import flat, inline, kernel, plane, plane_out
from histeq_kernels.cpu.core.llvm import (
    I32x16,
    call,
    i64,
    last_lane,
    load,
    pointer_to,
    prefix_sums,
    splat_i32,
    store,
)
from histeq_kernels.cpu.core.views import row

ENTRIES = 4096
"""Entries of a tile, uint32, one per 16 bins. The lower half has a bit for each bin, and the upper half the
number of bits that are set in all entries before."""


def _rank(entries, start, stop):
    """Write the upper halves of entries, whose lower halves are the bits; return how many bits are set.

    Those from block `start` to `stop` are written, each of 16.
    """
    part = entries[16 * start : 16 * stop]
    counts = np.bitwise_count(part).astype(np.uint32)
    part |= (np.cumsum(counts, dtype=np.uint32) - counts) << np.uint32(16)
    return np.int32(counts.sum())


@intrinsic
def _rank_ir(typingctx, entries, start, stop):
    def codegen(context, builder, signature, args):
        carry = cgutils.alloca_once(builder, I32x16)
        builder.store(splat_i32(0), carry)
        with cgutils.for_range(builder, args[2], start=args[1]) as loop:
            index = builder.shl(loop.index, i64(4))
            pointer = pointer_to(context, builder, signature, args, 0, index, I32x16)
            bits = load(builder, pointer)
            counts = call(builder, "llvm.ctpop.v16i32", I32x16, bits)
            total = builder.add(prefix_sums(builder, counts), builder.load(carry))
            below = builder.shl(builder.sub(total, counts), splat_i32(16))
            store(builder, builder.or_(bits, below), pointer)
            builder.store(last_lane(builder, total), carry)
        return builder.extract_element(builder.load(carry), i64(0))

    return types.int32(entries, types.uint64, types.uint64), codegen


rank = _rank if config.DISABLE_JIT else _rank_ir


@kernel(
    u16=f"void({plane('uint16')}, {POSITIONS}, int64, int64, {PARAMETERS}, {flat('int64')}, uint32[:, ::1],"
    " int32[:, ::1])"
)
def small_tile_ranks(image, ys, xs, tile, start, stop, levels, limits, ranks, spreads):
    """Write the ranks of tiles `start` to `stop` of a (1, rows, columns) image with contiguous rows.

    Parameters
    ----------
    ys, xs, tile, levels, limits : see `ranks.tile_ranks`
    ranks : (tiles, ENTRIES); those of bins that the image uses are written
    spreads : (tiles, 2), the distance between bins that get a clipped pixel, and their number
    """
    wide = np.int64(xs.size) // tile[WIDTH]
    first, last = (
        np.uint64(limits[0]) // np.uint64(256),
        np.uint64(limits[1]) // np.uint64(256) + np.uint64(1),
    )
    for i in range(start, stop):
        y, x, entries = i // wide * tile[HEIGHT], i % wide * tile[WIDTH], ranks[np.uint64(i)]
        entries[np.uint64(16) * first : np.uint64(16) * last] = 0
        sign = np.uint16(levels[SIGN])
        mark_tile(image, ys[y : y + tile[HEIGHT]], xs[x : x + tile[WIDTH]], x, mark_bit, sign, entries)
        rest = tile[HEIGHT] * tile[WIDTH] - np.int64(rank(entries, first, last))
        spreads[np.uint64(i), 0], spreads[np.uint64(i), 1] = 65536 // max(rest, 1), rest


@inline
def mark_bit(value, sign, entries):
    """Set the bit of a value's bin."""
    b = np.uint16(value ^ sign)
    entries[b >> np.uint16(4)] |= np.uint32(1) << np.uint32(b & np.uint16(15))


_GRID = ", ".join(f"Array({element}, 3, 'C', readonly=True)" for element in ("uint32", "int32"))


@kernel(u16=f"void({plane('uint16')}, {AXIS}, {AXIS}, {_GRID}, {PARAMETERS}, int64, {plane_out('uint16')})")
def blend_small_ranks(image, ys, y_weights, xs, x_weights, ranks, spreads, levels, area, out):
    """Map the pixels of the image, as `blend.blend_tiles_16` does.

    Parameters
    ----------
    ranks, spreads : (tiles down, tiles across, ...)
    levels : see `parameters.py`
    area : the number of pixels of a tile
    """
    height, width, top = np.uint64(image.shape[1]), np.uint64(image.shape[2]), np.uint64(0)
    scale = np.float32(levels[SPAN]) / np.float32(area)
    conversion = np.uint16(levels[SIGN]), np.uint16(0), scale, np.float32(levels[LOWEST])
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
                blend_gathered_run(pixels, left, right, (four, spread), conversion, columns, rows, new)
            left = right
        top = bottom
