"""Interpolation of 16 pixels from the entries of four tables, which have been looked up."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from histeq_kernels.cpu.clahe.weights import weighted_mean
from histeq_kernels.cpu.core.kernel import inline
from histeq_kernels.cpu.core.llvm import F32x16, I8x16, I32x16, load, pointer_to, splat, store
from histeq_kernels.cpu.core.rounding import rounded


def _blend_16(words, i, before, after, k, above, below, new):
    """Blend 16 pixels: write new[k:] from words[i:], each of which holds the entries of four 8-bit tables.

    Parameters
    ----------
    words : from the lowest byte: the upper left, upper right, lower left and lower right entry
    before, after : float32, the weights of left and right, used from the k-th on
    above, below : float32, the weights of upper and lower
    """
    entries = words[i : i + 16].copy()[:, None].view(np.uint8).astype(np.float32)
    left, right = before[k : k + 16], after[k : k + 16]
    upper = entries[:, 0] * left + entries[:, 1] * right
    lower = entries[:, 2] * left + entries[:, 3] * right
    new[k : k + 16] = np.rint(upper * above + lower * below)


@intrinsic
def _blend_16_ir(typingctx, words, i, before, after, k, above, below, new):
    def codegen(context, builder, signature, args):
        def at(which, index, kind):
            return pointer_to(context, builder, signature, args, which, args[index], kind)

        def entry(byte):
            moved = builder.lshr(packed, ir.Constant(I32x16, [8 * byte] * 16))
            return builder.and_(moved, ir.Constant(I32x16, [255] * 16))

        packed = load(builder, at(0, 1, I32x16))
        left, right = load(builder, at(2, 4, F32x16)), load(builder, at(3, 4, F32x16))
        rows = (splat(builder, args[5], F32x16), splat(builder, args[6], F32x16))
        level = weighted_mean(builder, [entry(byte) for byte in range(4)], (left, right), rows)
        store(builder, level, at(7, 4, I8x16))
        return context.get_dummy_value()

    weight = types.float32
    return types.void(words, types.uint64, before, after, types.uint64, weight, weight, new), codegen


blend_16 = _blend_16 if config.DISABLE_JIT else _blend_16_ir


@inline
def blend_one(word, before, after, above, below):
    """Blend one pixel with 8-bit entries, which are packed in one word."""
    byte = np.uint32(255)
    a = np.float32(np.int32(word & byte))
    b = np.float32(np.int32((word >> np.uint32(8)) & byte))
    c = np.float32(np.int32((word >> np.uint32(16)) & byte))
    d = np.float32(np.int32(word >> np.uint32(24)))
    return np.uint8(rounded((a * before + b * after) * above + (c * before + d * after) * below))
