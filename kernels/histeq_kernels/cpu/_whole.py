"""Rounding half to even, as OpenCV's cvRound does, in a form that LLVM makes vectors of on any processor.

And 16 pixels of CLAHE at once, as vectors from the beginning.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from histeq_kernels.cpu._kernel import inline
from histeq_kernels.cpu._vector import _load, _pointer, _store, _word

_SHIFT = np.float32(3 << 22)
"""Added to a float32 between 0 and 2**22, it leaves a whole number in the lower bits."""
_BITS = np.uint32(0x4B400000)
"""The bits of that number itself."""


def _bits_of(value):
    """Return the bits of a float32."""
    return np.float32(value).view(np.uint32)


@intrinsic
def _bits_of_ir(typingctx, value):
    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.IntType(32))

    return types.uint32(types.float32), codegen


bits_of = _bits_of if config.DISABLE_JIT else _bits_of_ir


@inline
def whole(value):
    """Return a float32 between 0 and 2**22 as an int32, rounded half to even."""
    return np.int32(bits_of(np.float32(value + _SHIFT)) - _BITS)


def _blend_16(words, i, before, after, k, above, below, new):
    """Blend 16 pixels: words[i:], which hold the entries of four 8-bit tables each, become new[k:].

    Parameters
    ----------
    words : the entry at the upper left in the lowest byte, upper right, lower left, lower right
    before, after : float32, the weights of left and right, from the k-th on
    above, below : float32, the weights of upper and lower
    """
    entries = words[i : i + 16].copy()[:, None].view(np.uint8).astype(np.float32)
    left, right = before[k : k + 16], after[k : k + 16]
    upper = entries[:, 0] * left + entries[:, 1] * right
    lower = entries[:, 2] * left + entries[:, 3] * right
    new[k : k + 16] = np.rint(upper * above + lower * below)


_WORDS, _FLOATS = ir.VectorType(ir.IntType(32), 16), ir.VectorType(ir.FloatType(), 16)
_BYTES = ir.VectorType(ir.IntType(8), 16)


@intrinsic
def _blend_16_ir(typingctx, words, i, before, after, k, above, below, new):
    def codegen(context, builder, signature, args):
        def at(which, index, kind):
            return _pointer(context, builder, signature, args, which, args[index], kind)

        def everywhere(value):
            one = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), value, _word(0))
            return builder.shuffle_vector(one, one, ir.Constant(_WORDS, [0] * 16))

        def entry(byte):
            moved = builder.lshr(packed, ir.Constant(_WORDS, [8 * byte] * 16))
            return builder.sitofp(builder.and_(moved, ir.Constant(_WORDS, [255] * 16)), _FLOATS)

        def between(a, b, weight_a, weight_b):
            return builder.fadd(builder.fmul(a, weight_a), builder.fmul(b, weight_b))

        packed = _load(builder, at(0, 1, _WORDS))
        left, right = _load(builder, at(2, 4, _FLOATS)), _load(builder, at(3, 4, _FLOATS))
        upper = between(entry(0), entry(1), left, right)
        lower = between(entry(2), entry(3), left, right)
        level = between(upper, lower, everywhere(args[5]), everywhere(args[6]))
        rounded = builder.fadd(level, ir.Constant(_FLOATS, [float(_SHIFT)] * 16))
        _store(builder, builder.trunc(builder.bitcast(rounded, _WORDS), _BYTES), at(7, 4, _BYTES))
        return context.get_dummy_value()

    weight = types.float32
    return types.void(words, types.uint64, before, after, types.uint64, weight, weight, new), codegen


blend_16 = _blend_16 if config.DISABLE_JIT else _blend_16_ir


@inline
def blend_one(word, before, after, above, below):
    """Blend one pixel."""
    byte = np.uint32(255)
    a = np.float32(np.int32(word & byte))
    b = np.float32(np.int32((word >> np.uint32(8)) & byte))
    c = np.float32(np.int32((word >> np.uint32(16)) & byte))
    d = np.float32(np.int32(word >> np.uint32(24)))
    return np.uint8(whole((a * before + b * after) * above + (c * before + d * after) * below))
