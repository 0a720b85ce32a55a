"""Atomic loads and additions for numbers that several threads share, and busy waiting for them.

A sleeping thread takes 25 to 150 microseconds to wake, which is a large part of the time for the work itself.
Threads therefore poll for a while before they sleep. Where there are fewer processors than threads that want
one, who polls may keep away the very thread it waits for: now and then it lets that one go first.
"""

import os

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from histeq_kernels.cpu.core.kernel import inline
from histeq_kernels.cpu.core.llvm import I32, call

STATE = "int64[::1]"
PATIENCE = 1 << 14
"""The number of loads before giving up: with the pauses in between, they take up to half a millisecond."""


@inline
def await_at_least(state, which, value):
    """Poll state[which] until it reaches `value`, or `PATIENCE` times; return whether it was reached."""
    tries = 0
    while load(state, which) < value:
        tries += 1
        if tries > PATIENCE:
            return False
        if tries % 64:
            pause()
        else:
            give_way()
    return True


def _load(state, which):
    """Return state[which]; all writes that precede its store are visible afterwards (acquire)."""
    return state[which]


def _add(state, which, amount):
    """Add to state[which] atomically, and return the previous value."""
    before = state[which]
    state[which] += amount
    return before


def _pause():
    """Yield the core to its other hardware thread for some tens of cycles."""


def _give_way():
    """Yield the core to another thread that waits for one, where the operating system has a call for it."""


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


@intrinsic
def _give_way_ir(typingctx):
    def codegen(context, builder, signature, args):
        if hasattr(os, "sched_yield"):
            call(builder, "sched_yield", I32)
        return context.get_dummy_value()

    return types.void(), codegen


_ISB = ["llvm.aarch64.isb", ir.Constant(ir.IntType(32), 15)]
_PAUSES = {"x86_64": ["llvm.x86.sse2.pause"], "aarch64": _ISB, "arm64": _ISB}
_ARCHITECTURE = llvm.get_process_triple().partition("-")[0]
load = _load if config.DISABLE_JIT else _load_ir
add = _add if config.DISABLE_JIT else _add_ir
pause = _pause if config.DISABLE_JIT else _pause_ir
give_way = _give_way if config.DISABLE_JIT else _give_way_ir
