"""The levels of the bins of 16-bit tiles: CLAHE's tables, in vectors."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from histeq_kernels.cpu._blend import _FLOATS, _WORDS
from histeq_kernels.cpu._vector import (
    _call,
    _cumulative,
    _everywhere,
    _last,
    _load,
    _pointer,
    _store,
    _word,
)
from histeq_kernels.cpu._whole import BITS, SHIFT


def _levels_16(counters, first, size, clip, share, step, rest, scale, low, span, table):
    """Write the levels of a multiple of 16 bins, leave zeros, and return the pixels counted, clipped.

    Parameters
    ----------
    counters : uint32, those of `size` bins from bin `first` on
    clip : the most pixels a bin keeps
    share, step, rest : what bins get back, int32: see `tiles.fill_levels_direct`
    scale, low, span : levels a pixel, the lowest level, levels above it
    table : uint16
    """
    counted = np.cumsum(np.minimum(counters[first : first + size].astype(np.int32), clip), dtype=np.int32)
    counters[first : first + size] = 0
    bins = np.arange(size, dtype=np.int32) + np.int32(first)
    upto = counted + share * (bins + 1) + np.minimum(bins // step + 1, rest)
    levels = np.rint(upto.astype(np.float32) * scale).astype(np.int32)
    table[:size] = np.minimum(levels, span) + low
    return counted[-1] if size else np.int32(0)


@intrinsic
def _levels_16_ir(typingctx, counters, first, size, clip, share, step, rest, scale, low, span, table):
    def codegen(context, builder, signature, args):
        def at(which, index, kind):
            return _pointer(context, builder, signature, args, which, index, kind)

        clip, share, step, rest, low, span = (
            _everywhere(builder, args[k], _WORDS) for k in (3, 4, 5, 6, 8, 9)
        )
        scale = _everywhere(builder, args[7], _FLOATS)
        inverse = builder.fdiv(ir.Constant(_FLOATS, [1.0] * 16), builder.sitofp(step, _FLOATS))
        count, bins = cgutils.alloca_once(builder, _WORDS), cgutils.alloca_once(builder, _WORDS)
        start = _everywhere(builder, builder.trunc(args[1], ir.IntType(32)), _WORDS)
        builder.store(each_word(0), count)
        builder.store(builder.add(start, ir.Constant(_WORDS, list(range(16)))), bins)
        with cgutils.for_range(builder, builder.lshr(args[2], _word(4))) as loop:
            index = builder.shl(loop.index, _word(4))
            pointer = at(0, builder.add(args[1], index), _WORDS)
            some = _call(builder, "llvm.smin.v16i32", _WORDS, _load(builder, pointer), clip)
            some, before, b = _cumulative(builder, some), builder.load(count), builder.load(bins)
            _store(builder, each_word(0), pointer)
            builder.store(builder.add(_last(builder, some), before), count)
            builder.store(builder.add(b, each_word(16)), bins)
            extra = spread_upto(builder, b, inverse, rest)
            extra = builder.add(extra, builder.mul(share, builder.add(b, each_word(1))))
            level = level_of(builder, builder.add(builder.add(some, before), extra), scale, low, span)
            level = builder.trunc(level, ir.VectorType(ir.IntType(16), 16))
            _store(builder, level, at(10, index, level.type))
        return builder.extract_element(builder.load(count), _word(0))

    word, number, real = types.uint64, types.int32, types.float32
    arguments = counters, word, word, number, number, number, number, real, number, number, table
    return number(*arguments), codegen


def spread_upto(builder, bins, inverse, rest):
    """Return how many of `rest` pixels, one every so many bins, have gone to the bins up to each of 16.

    Half a bin more, divided by a whole number in float32, is far enough from others.
    """
    half = builder.fadd(builder.sitofp(bins, _FLOATS), ir.Constant(_FLOATS, [0.5] * 16))
    extra = builder.add(builder.fptosi(builder.fmul(half, inverse), _WORDS), each_word(1))
    return _call(builder, "llvm.smin.v16i32", _WORDS, extra, rest)


def level_of(builder, counts, scale, low, span):
    """Return the levels of 16 cumulative counts: rounded half to even, and limited."""
    level = builder.fmul(builder.sitofp(counts, _FLOATS), scale)
    level = builder.bitcast(builder.fadd(level, ir.Constant(_FLOATS, [float(SHIFT)] * 16)), _WORDS)
    level = builder.sub(level, each_word(int(BITS)))
    return builder.add(_call(builder, "llvm.smin.v16i32", _WORDS, level, span), low)


def each_word(value):
    """Return a number 16 times."""
    return ir.Constant(_WORDS, [value] * 16)


levels_16 = _levels_16 if config.DISABLE_JIT else _levels_16_ir
