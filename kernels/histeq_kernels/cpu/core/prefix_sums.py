"""Cumulative counts, computed in vectors."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from histeq_kernels.cpu.core.llvm import (
    I32,
    I64,
    I32x16,
    i64,
    last_lane,
    load,
    pointer_to,
    prefix_sums,
    splat,
    store,
)


def _accumulate(counts, start, size, below):
    """Replace `size` int32 counts, a multiple of 16, by their cumulative sums; return the last.

    All sums include `below`.
    """
    part = counts[start : start + size]
    part[:] = np.cumsum(part, dtype=np.int32) + below
    return part[-1] if size else np.int32(below)


@intrinsic
def _accumulate_ir(typingctx, counts, start, size, below):
    def codegen(context, builder, signature, args):
        def at(index):
            return pointer_to(context, builder, signature, args, 0, index, kind)

        kind = I32x16
        carry = cgutils.alloca_once_value(builder, splat(builder, args[3], kind))
        builder.store(splat(builder, args[3], kind), carry)
        with cgutils.for_range(builder, builder.lshr(args[2], i64(4))) as loop:
            pointer = at(builder.add(args[1], builder.shl(loop.index, i64(4))))
            total, before = prefix_sums(builder, load(builder, pointer)), builder.load(carry)
            store(builder, builder.add(total, before), pointer)
            builder.store(builder.add(last_lane(builder, total), before), carry)
        return builder.extract_element(builder.load(carry), i64(0))

    return types.int32(counts, types.uint64, types.uint64, types.int32), codegen


def _accumulate_to_float(counts, start, size, below, sums):
    """Write the cumulative counts of `size` elements, a multiple of 16, to sums[1:]; return the last.

    All sums include `below`.
    """
    total = below + np.cumsum(counts[start : start + size], dtype=np.int64)
    sums[1 : 1 + size] = total
    return total[-1] if size else below


@intrinsic
def _accumulate_to_float_ir(typingctx, counts, start, size, below, sums):
    def codegen(context, builder, signature, args):
        wide = signature.args[0].dtype.bitwidth == 64  # else sums have 32 bits too, to fill the vectors
        lanes, element = (8, I64) if wide else (16, I32)
        kind = ir.VectorType(element, lanes)
        first = splat(builder, args[3] if wide else builder.trunc(args[3], I32), kind)
        carry = cgutils.alloca_once_value(builder, first)
        builder.store(first, carry)
        with cgutils.for_range(builder, builder.udiv(args[2], i64(lanes))) as loop:
            index = builder.mul(loop.index, i64(lanes))
            pointer = pointer_to(context, builder, signature, args, 0, builder.add(args[1], index), kind)
            total, before = prefix_sums(builder, load(builder, pointer)), builder.load(carry)
            real = builder.sitofp(builder.add(total, before), ir.VectorType(ir.DoubleType(), lanes))
            index = builder.add(index, i64(1))
            store(builder, real, pointer_to(context, builder, signature, args, 4, index, real.type))
            builder.store(builder.add(last_lane(builder, total), before), carry)
        total = builder.extract_element(builder.load(carry), i64(0))
        return total if wide else builder.sext(total, I64)

    return types.int64(counts, types.uint64, types.uint64, types.int64, sums), codegen


accumulate = _accumulate if config.DISABLE_JIT else _accumulate_ir
accumulate_to_float = _accumulate_to_float if config.DISABLE_JIT else _accumulate_to_float_ir
