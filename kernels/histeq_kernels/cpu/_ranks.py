"""The arithmetic of `ranks.py`, in vectors."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from histeq_kernels.cpu._blend import _FLOATS, _SHORTS, _WORDS, _blended
from histeq_kernels.cpu._levels import each_word, level_of, spread_upto
from histeq_kernels.cpu._vector import (
    _call,
    _cumulative,
    _everywhere,
    _last,
    _load,
    _masked_load,
    _masked_store,
    _pointer,
    _store,
    _word,
)

ENTRIES = 4096
"""Of a tile: uint32, one for 16 bins, with a bit for each; above the bits, how many are set before."""


def _rank(entries):
    """Write the upper halves of entries that have only bits; return how many bits there are."""
    counts = np.bitwise_count(entries).astype(np.uint32)
    entries |= (np.cumsum(counts, dtype=np.uint32) - counts) << np.uint32(16)
    return np.int32(counts.sum())


@intrinsic
def _rank_ir(typingctx, entries):
    def codegen(context, builder, signature, args):
        carry = cgutils.alloca_once(builder, _WORDS)
        builder.store(each_word(0), carry)
        with cgutils.for_range(builder, _word(ENTRIES // 16)) as loop:
            index = builder.shl(loop.index, _word(4))
            pointer = _pointer(context, builder, signature, args, 0, index, _WORDS)
            bits = _load(builder, pointer)
            counts = _ones(builder, bits)
            total = builder.add(_cumulative(builder, counts), builder.load(carry))
            below = builder.shl(builder.sub(total, counts), each_word(16))
            _store(builder, builder.or_(bits, below), pointer)
            builder.store(_last(builder, total), carry)
        return builder.extract_element(builder.load(carry), _word(0))

    return types.int32(entries), codegen


def _blend_between(pixels, left, right, ranks, spreads, levels, columns, rows, new):
    """Map the pixels of a row from `left` to `right`, which lie between the same four tiles.

    Parameters
    ----------
    ranks : the entries of the tiles at the upper left, upper right, lower left, lower right
    spreads : of each, every how many bins one of the clipped pixels goes, and how many they are
    levels : the bits to turn in a pixel, levels a pixel (float32), the lowest level, levels above it
    columns, rows : the weights of left and right, one a column of the image; of upper and lower
    """
    turn, scale, low, span = levels
    here = slice(int(left), int(right))
    value = pixels[here].astype(np.int32) ^ np.int32(turn)

    def entry(entries, spread):
        found, upto = entries[value >> 4], (2 << (value & 15)) - 1
        rank = (found >> np.uint32(16)).astype(np.int32) + np.bitwise_count(found & upto.astype(np.uint32))
        count = rank + np.minimum(value // spread[0] + 1, spread[1])
        level = np.rint(count.astype(np.float32) * scale).astype(np.int32)
        return (np.minimum(level, span) + low).astype(np.float32)

    a, b, c, d = (entry(*tile) for tile in zip(ranks, spreads, strict=True))
    upper = a * columns[0][here] + b * columns[1][here]
    lower = c * columns[0][here] + d * columns[1][here]
    new[here] = np.rint(upper * rows[0] + lower * rows[1]).astype(np.int32) ^ np.int32(turn)


@intrinsic
def _blend_between_ir(typingctx, pixels, left, right, ranks, spreads, levels, columns, rows, new):
    def codegen(context, builder, signature, args):
        def addresses(which):
            """Return where the arrays of a tuple begin."""
            kinds, arrays = signature.args[which], cgutils.unpack_tuple(builder, args[which])
            views = [
                context.make_array(kind)(context, builder, a) for kind, a in zip(kinds, arrays, strict=True)
            ]
            return [builder.ptrtoint(view.data, _word(0).type) for view in views]

        def address(which, index):
            pointer = _pointer(context, builder, signature, args, which, index, ir.IntType(16))
            return builder.ptrtoint(pointer, _word(0).type)

        def everywhere(which, *kinds):
            parts = cgutils.unpack_tuple(builder, args[which])
            return [_everywhere(builder, part, kind) for part, kind in zip(parts, kinds, strict=True)]

        levels, weights = everywhere(5, _WORDS, _FLOATS, _WORDS, _WORDS), everywhere(7, _FLOATS, _FLOATS)
        tiles = [(base, *_spread(builder, at)) for base, at in zip(addresses(3), addresses(4), strict=True)]
        lines = addresses(6)

        def sixteen(at, length):
            value = _masked_load(builder, address(0, at), length, _SHORTS)
            value = builder.xor(builder.zext(value, _WORDS), levels[0])
            entries = [_level(builder, value, tile, levels) for tile in tiles]
            here = [builder.add(line, builder.shl(at, _word(2))) for line in lines]
            columns = [_masked_load(builder, one, length, _FLOATS) for one in here]
            level = _blended(builder, entries, columns, weights, _SHORTS)
            level = builder.xor(level, builder.trunc(levels[0], _SHORTS))
            _masked_store(builder, level, address(8, at), length)

        size = builder.sub(args[2], args[1])
        with cgutils.for_range(builder, builder.lshr(size, _word(4))) as loop:
            sixteen(builder.add(args[1], builder.shl(loop.index, _word(4))), None)
        rest = builder.and_(size, _word(15))
        with builder.if_then(builder.icmp_unsigned("!=", rest, _word(0))):
            sixteen(builder.sub(args[2], rest), rest)
        return context.get_dummy_value()

    word, number, real = types.uint64, types.int32, types.float32
    levels, rows = types.Tuple([number, real, number, number]), types.UniTuple(real, 2)
    return types.void(pixels, word, word, ranks, spreads, levels, columns, rows, new), codegen


def _spread(builder, address):
    """Return, in vectors, one by how many bins a clipped pixel of a tile goes, and how many they are."""
    pair = builder.inttoptr(address, ir.IntType(32).as_pointer())
    step, rest = (builder.load(builder.gep(pair, [_word(k)])) for k in range(2))
    inverse = builder.fdiv(ir.Constant(ir.FloatType(), 1.0), builder.sitofp(step, ir.FloatType()))
    return _everywhere(builder, inverse, _FLOATS), _everywhere(builder, rest, _WORDS)


def _level(builder, value, tile, levels):
    """Return the levels of 16 values in a tile."""
    base, inverse, rest = tile
    _, scale, low, span = levels
    found = _gather(builder, base, builder.lshr(value, each_word(4)))
    upto = builder.shl(found, builder.xor(builder.and_(value, each_word(15)), each_word(31)))
    rank = builder.add(builder.lshr(found, each_word(16)), _ones(builder, upto))
    count = builder.add(rank, spread_upto(builder, value, inverse, rest))
    return level_of(builder, count, scale, low, span)


def _gather(builder, base, index):
    """Load 16 words, by their index."""
    wide = ir.VectorType(_word(0).type, 16)
    offsets = builder.shl(builder.zext(index, wide), ir.Constant(wide, [2] * 16))
    pointers = ir.VectorType(_WORDS.element.as_pointer(), 16)
    pointers = builder.inttoptr(builder.add(_everywhere(builder, base, wide), offsets), pointers)
    everyone = ir.Constant(ir.VectorType(ir.IntType(1), 16), [1] * 16)
    name = "llvm.masked.gather.v16i32.v16p0"
    return _call(builder, name, _WORDS, pointers, ir.IntType(32)(4), everyone, each_word(0))


def _ones(builder, words):
    """Return how many bits of each word are set."""
    return _call(builder, "llvm.ctpop.v16i32", _WORDS, words)


rank = _rank if config.DISABLE_JIT else _rank_ir
blend_between = _blend_between if config.DISABLE_JIT else _blend_between_ir
