"""Kernels that wait for other threads without the GIL: see `atomics.py`."""

from histeq_kernels.cpu.core.atomics import STATE, add, await_at_least
from histeq_kernels.cpu.core.kernel import kernel


@kernel(i64=f"void({STATE}, int64, int64, uint8[::1])")
def wait_for(state, which, value, done):
    """Poll state[which] until it reaches `value`, but not for long; write whether it did to done[0]."""
    done[0] = await_at_least(state, which, value)


@kernel(i64=f"void({STATE}, int64, {STATE}, int64)")
def raise_and_wait(state, amount, calls, value):
    """Add to state[0], then poll calls[0] until it reaches `value`, but not for long."""
    add(state, 0, amount)
    await_at_least(calls, 0, value)


@kernel(i64=f"void({STATE}, int64, int64)")
def raise_by(state, which, amount):
    """Add to state[which], after all preceding writes (release)."""
    add(state, which, amount)
