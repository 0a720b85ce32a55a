"""The levels of the bins of 16-bit tiles, computed in vectors."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from histeq_kernels.cpu.core.llvm import (
    I32,
    F32x16,
    I16x16,
    I32x16,
    call,
    i64,
    last_lane,
    load,
    pointer_to,
    prefix_sums,
    splat,
    splat_i32,
    store,
)
from histeq_kernels.cpu.core.rounding import BITS, SHIFT


def _levels_16(counters, first, size, clipping, conversion, table):
    """Write the levels of a multiple of 16 bins, reset their counters, and return the sum of clipped counts.

    Parameters
    ----------
    counters : uint32; `size` bins from bin `first` on are used
    clipping : int32, the most pixels that a bin keeps, and how the excess is spread: `share`, `step` and
        `rest` of `tile_tables_16.fill_levels_16`
    conversion : levels per pixel (float32), the lowest level, levels above it
    table : uint16
    """
    clip, share, step, rest = clipping
    scale, low, span = conversion
    counted = np.cumsum(np.minimum(counters[first : first + size].astype(np.int32), clip), dtype=np.int32)
    counters[first : first + size] = 0
    bins = np.arange(size, dtype=np.int32) + np.int32(first)
    upto = counted + share * (bins + 1) + np.minimum(bins // step + 1, rest)
    levels = np.rint(upto.astype(np.float32) * scale).astype(np.int32)
    table[:size] = np.minimum(levels, span) + low
    return counted[-1] if size else np.int32(0)


@intrinsic
def _levels_16_ir(typingctx, counters, first, size, clipping, conversion, table):
    def codegen(context, builder, signature, args):
        def at(which, index, kind):
            return pointer_to(context, builder, signature, args, which, index, kind)

        clip, share, step, rest = (
            splat(builder, value, I32x16) for value in cgutils.unpack_tuple(builder, args[3])
        )
        scale, low, span = (
            splat(builder, value, kind)
            for value, kind in zip(
                cgutils.unpack_tuple(builder, args[4]), (F32x16, I32x16, I32x16), strict=True
            )
        )
        inverse = builder.fdiv(ir.Constant(F32x16, [1.0] * 16), builder.sitofp(step, F32x16))
        count, bins = cgutils.alloca_once(builder, I32x16), cgutils.alloca_once(builder, I32x16)
        start = splat(builder, builder.trunc(args[1], I32), I32x16)
        builder.store(splat_i32(0), count)
        builder.store(builder.add(start, ir.Constant(I32x16, list(range(16)))), bins)
        with cgutils.for_range(builder, builder.lshr(args[2], i64(4))) as loop:
            index = builder.shl(loop.index, i64(4))
            pointer = at(0, builder.add(args[1], index), I32x16)
            counted = call(builder, "llvm.smin.v16i32", I32x16, load(builder, pointer), clip)
            counted, before, b = prefix_sums(builder, counted), builder.load(count), builder.load(bins)
            store(builder, splat_i32(0), pointer)
            builder.store(builder.add(last_lane(builder, counted), before), count)
            builder.store(builder.add(b, splat_i32(16)), bins)
            extra = spread_upto(builder, b, inverse, rest)
            extra = builder.add(extra, builder.mul(share, builder.add(b, splat_i32(1))))
            level = level_of(builder, builder.add(builder.add(counted, before), extra), scale, low, span)
            level = builder.trunc(level, I16x16)
            store(builder, level, at(5, index, level.type))
        return builder.extract_element(builder.load(count), i64(0))

    word, number, real = types.uint64, types.int32, types.float32
    clipping, conversion = types.UniTuple(number, 4), types.Tuple([real, number, number])
    return number(counters, word, word, clipping, conversion, table), codegen


def spread_upto(builder, bins, inverse, rest):
    """Return how many of the `rest` remaining pixels have been given to the bins up to each of 16.

    `inverse` is the reciprocal of the distance between bins that get one. With half a bin added, the float32
    product is too far from a whole number to be truncated to the wrong one.
    """
    half = builder.fadd(builder.sitofp(bins, F32x16), ir.Constant(F32x16, [0.5] * 16))
    extra = builder.add(builder.fptosi(builder.fmul(half, inverse), I32x16), splat_i32(1))
    return call(builder, "llvm.smin.v16i32", I32x16, extra, rest)


def level_of(builder, counts, scale, low, span):
    """Return the levels of 16 cumulative counts, rounded half to even and limited."""
    level = builder.fmul(builder.sitofp(counts, F32x16), scale)
    level = builder.bitcast(builder.fadd(level, ir.Constant(F32x16, [float(SHIFT)] * 16)), I32x16)
    level = builder.sub(level, splat_i32(int(BITS)))
    return builder.add(call(builder, "llvm.smin.v16i32", I32x16, level, span), low)


levels_16 = _levels_16 if config.DISABLE_JIT else _levels_16_ir
