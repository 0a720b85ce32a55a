"""Numbers that several threads share: atomic loads and additions, and waiting for one awake.

A thread that sleeps takes 25 to 150 microseconds to wake, as long as a good part of the work. So threads load
for a while before they sleep.
"""

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from histeq_kernels.cpu.core.kernel import inline

STATE = "int64[::1]"
PATIENCE = 1 << 14
"""How often to load before giving up: with the pause in between, up to half a millisecond."""


@inline
def await_at_least(state, which, value):
    """Load state[which] until it has reached `value`; return whether it has."""
    tries = 0
    while load(state, which) < value:
        tries += 1
        if tries > PATIENCE:
            return False
        pause()
    return True


def _load(state, which):
    """Return state[which]; whatever was written before it got this value is seen from now on."""
    return state[which]


def _add(state, which, amount):
    """Add to state[which] atomically; return what was there before."""
    before = state[which]
    state[which] += amount
    return before


def _pause():
    """Leave the core to its other thread for some tens of cycles."""


@intrinsic
def _load_ir(typingctx, state, which):
    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.load_atomic(builder.gep(data, [args[1]]), "acquire", 8)

    return types.int64(state, types.int64), codegen


@intrinsic
def _add_ir(typingctx, state, which, amount):
    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", builder.gep(data, [args[1]]), args[2], "acq_rel")

    return types.int64(state, types.int64, types.int64), codegen


@intrinsic
def _pause_ir(typingctx):
    def codegen(context, builder, signature, args):
        name, *arguments = _PAUSES.get(_ARCHITECTURE, [None])
        if name:
            kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
            builder.call(builder.module.declare_intrinsic(name, (), kind), arguments)
        return context.get_dummy_value()

    return types.void(), codegen


_ISB = ["llvm.aarch64.isb", ir.Constant(ir.IntType(32), 15)]
_PAUSES = {"x86_64": ["llvm.x86.sse2.pause"], "aarch64": _ISB, "arm64": _ISB}
_ARCHITECTURE = llvm.get_process_triple().partition("-")[0]
load = _load if config.DISABLE_JIT else _load_ir
add = _add if config.DISABLE_JIT else _add_ir
pause = _pause if config.DISABLE_JIT else _pause_ir
