"""What LLVM is told of a condition, so that it moves what rarely happens out of the way."""

from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from histeq_kernels.cpu.core.llvm import call

_I1 = ir.IntType(1)


def _unlikely(condition):
    """Return a condition that rarely holds."""
    return condition


@intrinsic
def _unlikely_ir(typingctx, condition):
    def codegen(context, builder, signature, args):
        return call(builder, "llvm.expect.i1", _I1, args[0], _I1(0))

    return types.boolean(types.boolean), codegen


unlikely = _unlikely if config.DISABLE_JIT else _unlikely_ir
