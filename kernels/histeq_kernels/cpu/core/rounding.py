"""Rounding half to even, as OpenCV's cvRound does, in a form that LLVM vectorizes on any processor."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from histeq_kernels.cpu.core.kernel import inline

SHIFT = np.float32(3 << 22)
"""Adding this number to a float32 between 0 and 2**22 leaves the rounded value in the lower bits."""
BITS = np.uint32(0x4B400000)
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
def rounded(value):
    """Return a float32 between 0 and 2**22 as an int32, rounded half to even."""
    return np.int32(bits_of(np.float32(value + SHIFT)) - BITS)
