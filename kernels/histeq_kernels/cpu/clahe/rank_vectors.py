"""The arithmetic of `ranks.py`, computed in vectors."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from histeq_kernels.cpu.clahe.level_vectors import level_of, spread_upto
from histeq_kernels.cpu.clahe.weights import weighted_mean
from histeq_kernels.cpu.core.llvm import (
    F32,
    I16,
    I32,
    I64,
    F32x16,
    I16x16,
    I32x16,
    call,
    i64,
    last_lane,
    load,
    masked_load,
    masked_store,
    pointer_to,
    prefix_sums,
    splat,
    splat_i32,
    store,
)

ENTRIES = 4096
"""Entries of a tile, uint32, one per 16 bins. The lower half has a bit for each bin, and the upper half the
number of bits that are set in all entries before."""


def _rank(entries):
    """Write the upper halves of entries, whose lower halves are the bits; return how many bits are set."""
    counts = np.bitwise_count(entries).astype(np.uint32)
    entries |= (np.cumsum(counts, dtype=np.uint32) - counts) << np.uint32(16)
    return np.int32(counts.sum())


@intrinsic
def _rank_ir(typingctx, entries):
    def codegen(context, builder, signature, args):
        carry = cgutils.alloca_once(builder, I32x16)
        builder.store(splat_i32(0), carry)
        with cgutils.for_range(builder, i64(ENTRIES // 16)) as loop:
            index = builder.shl(loop.index, i64(4))
            pointer = pointer_to(context, builder, signature, args, 0, index, I32x16)
            bits = load(builder, pointer)
            counts = _bits_set(builder, bits)
            total = builder.add(prefix_sums(builder, counts), builder.load(carry))
            below = builder.shl(builder.sub(total, counts), splat_i32(16))
            store(builder, builder.or_(bits, below), pointer)
            builder.store(last_lane(builder, total), carry)
        return builder.extract_element(builder.load(carry), i64(0))

    return types.int32(entries), codegen


def _blend_between(pixels, left, right, ranks, spreads, levels, columns, rows, new):
    """Map the pixels of a row from `left` to `right`, which lie between the same four tiles.

    Parameters
    ----------
    ranks : the entries of the tiles at the upper left, upper right, lower left, lower right
    spreads : for each of these, the distance between bins that get a clipped pixel, and their number
    levels : the bits to flip in a pixel, levels per pixel (float32), the lowest level, levels above it
    columns, rows : the weights of left and right for each column of the image; those of upper and lower
    """
    sign, scale, low, span = levels
    here = slice(int(left), int(right))
    value = pixels[here].astype(np.int32) ^ np.int32(sign)

    def entry(entries, spread):
        found, upto = entries[value >> 4], (2 << (value & 15)) - 1
        rank = (found >> np.uint32(16)).astype(np.int32) + np.bitwise_count(found & upto.astype(np.uint32))
        count = rank + np.minimum(value // spread[0] + 1, spread[1])
        level = np.rint(count.astype(np.float32) * scale).astype(np.int32)
        return (np.minimum(level, span) + low).astype(np.float32)

    a, b, c, d = (entry(*tile) for tile in zip(ranks, spreads, strict=True))
    upper = a * columns[0][here] + b * columns[1][here]
    lower = c * columns[0][here] + d * columns[1][here]
    new[here] = np.rint(upper * rows[0] + lower * rows[1]).astype(np.int32) ^ np.int32(sign)


@intrinsic
def _blend_between_ir(typingctx, pixels, left, right, ranks, spreads, levels, columns, rows, new):
    def codegen(context, builder, signature, args):
        def addresses(which):
            """Return the addresses of the arrays in a tuple."""
            kinds, arrays = signature.args[which], cgutils.unpack_tuple(builder, args[which])
            views = [
                context.make_array(kind)(context, builder, a) for kind, a in zip(kinds, arrays, strict=True)
            ]
            return [builder.ptrtoint(view.data, I64) for view in views]

        def address(which, index):
            pointer = pointer_to(context, builder, signature, args, which, index, I16)
            return builder.ptrtoint(pointer, I64)

        def splat_all(which, *kinds):
            parts = cgutils.unpack_tuple(builder, args[which])
            return [splat(builder, part, kind) for part, kind in zip(parts, kinds, strict=True)]

        levels, weights = splat_all(5, I32x16, F32x16, I32x16, I32x16), splat_all(7, F32x16, F32x16)
        tiles = [(base, *_spread(builder, at)) for base, at in zip(addresses(3), addresses(4), strict=True)]
        lines = addresses(6)

        def sixteen(at, length):
            value = masked_load(builder, address(0, at), length, I16x16)
            value = builder.xor(builder.zext(value, I32x16), levels[0])
            entries = [_level(builder, value, tile, levels) for tile in tiles]
            here = [builder.add(line, builder.shl(at, i64(2))) for line in lines]
            columns = [masked_load(builder, weights_at, length, F32x16) for weights_at in here]
            level = weighted_mean(builder, entries, columns, weights, I16x16)
            level = builder.xor(level, builder.trunc(levels[0], I16x16))
            masked_store(builder, level, address(8, at), length)

        size = builder.sub(args[2], args[1])
        with cgutils.for_range(builder, builder.lshr(size, i64(4))) as loop:
            sixteen(builder.add(args[1], builder.shl(loop.index, i64(4))), None)
        rest = builder.and_(size, i64(15))
        with builder.if_then(builder.icmp_unsigned("!=", rest, i64(0))):
            sixteen(builder.sub(args[2], rest), rest)
        return context.get_dummy_value()

    word, number, real = types.uint64, types.int32, types.float32
    levels, rows = types.Tuple([number, real, number, number]), types.UniTuple(real, 2)
    return types.void(pixels, word, word, ranks, spreads, levels, columns, rows, new), codegen


def _spread(builder, address):
    """Return vectors of the reciprocal distance between bins that get a clipped pixel, and their number."""
    pair = builder.inttoptr(address, I32.as_pointer())
    step, rest = (builder.load(builder.gep(pair, [i64(k)])) for k in range(2))
    inverse = builder.fdiv(ir.Constant(F32, 1.0), builder.sitofp(step, F32))
    return splat(builder, inverse, F32x16), splat(builder, rest, I32x16)


def _level(builder, value, tile, levels):
    """Return the levels of 16 values in the table of a tile."""
    base, inverse, rest = tile
    _, scale, low, span = levels
    found = _gather(builder, base, builder.lshr(value, splat_i32(4)))
    upto = builder.shl(found, builder.xor(builder.and_(value, splat_i32(15)), splat_i32(31)))
    rank = builder.add(builder.lshr(found, splat_i32(16)), _bits_set(builder, upto))
    count = builder.add(rank, spread_upto(builder, value, inverse, rest))
    return level_of(builder, count, scale, low, span)


def _gather(builder, base, index):
    """Load 16 words by index."""
    wide = ir.VectorType(I64, 16)
    offsets = builder.shl(builder.zext(index, wide), ir.Constant(wide, [2] * 16))
    pointers = ir.VectorType(I32x16.element.as_pointer(), 16)
    pointers = builder.inttoptr(builder.add(splat(builder, base, wide), offsets), pointers)
    all_lanes = ir.Constant(ir.VectorType(ir.IntType(1), 16), [1] * 16)
    name = "llvm.masked.gather.v16i32.v16p0"
    return call(builder, name, I32x16, pointers, I32(4), all_lanes, splat_i32(0))


def _bits_set(builder, words):
    """Return how many bits of each word are set."""
    return call(builder, "llvm.ctpop.v16i32", I32x16, words)


rank = _rank if config.DISABLE_JIT else _rank_ir
blend_between = _blend_between if config.DISABLE_JIT else _blend_between_ir
