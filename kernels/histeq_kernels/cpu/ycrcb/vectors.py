"""Computation and replacement of Y in 32 pixels, in planes or interleaved."""

from typing import Any

import numpy as np
from numba import types
from numba.core import config
from numba.extending import intrinsic

from histeq_kernels.cpu.core.kernel import inline
from histeq_kernels.cpu.core.llvm import I8, I16, I64, load, pointer_to, store
from histeq_kernels.cpu.ycrcb.interleave import interleave, separate
from histeq_kernels.cpu.ycrcb.lanes import WIDTH, vector_of
from histeq_kernels.cpu.ycrcb.scalar import luma_of, with_luma


def luma_operations(arithmetic: Any) -> dict[str, Any]:
    """Return the operations of `core/operations.py` that work on YCrCb, with one of the arithmetics."""
    layouts = (("planes", 1), ("rgb", 3), ("rgba", 4))
    luma = {f"luma_of_{layout}": _luma_32(stride, arithmetic) for layout, stride in layouts}
    replace = {f"replace_luma_of_{layout}": _replace_32(stride, arithmetic) for layout, stride in layouts}
    return luma | replace


def _luma_32(stride: int, arithmetic: Any) -> Any:
    """Return the intrinsic that computes Y of 32 pixels, `stride` bytes apart; 1 means three planes."""

    @intrinsic
    def luma_32(typingctx, channels, i, k, y, at):
        def codegen(context, builder, signature, args):
            pixels = _load_pixels(context, builder, signature, args, stride)
            target = pointer_to(context, builder, signature, args, 3, args[4], vector_of(I8))
            factor = _factors(context, builder, signature, args)
            store(builder, arithmetic.luma(builder, pixels[:3], factor), target)
            return context.get_dummy_value()

        return types.void(channels, types.uint64, k, y, types.uint64), codegen

    return luma_32


def _replace_32(stride: int, arithmetic: Any) -> Any:
    """Return the intrinsic that replaces Y of 32 pixels; a fourth channel is copied."""

    @intrinsic
    def replace_32(typingctx, channels, i, k, y, new, at, out):
        def codegen(context, builder, signature, args):
            pixels = _load_pixels(context, builder, signature, args, stride)
            old, new = (
                load(builder, pointer_to(context, builder, signature, args, which, args[5], vector_of(I8)))
                for which in (3, 4)
            )
            factor = _factors(context, builder, signature, args)
            result = arithmetic.replaced(builder, pixels[:3], old, new, factor) + pixels[3:]
            if stride > 1:
                result = [interleave(builder, result)]
            for c, value in enumerate(result):
                store(
                    builder, value, _pointer_to_channel(context, builder, signature, args, 6, c, value.type)
                )
            return context.get_dummy_value()

        return types.void(channels, types.uint64, k, y, new, types.uint64, out), codegen

    return replace_32


def _load_pixels(context, builder, signature, args, stride):
    """Load 32 pixels from byte args[1] of the rows args[0] on, as one vector per channel."""
    if stride == 1:
        rows = [_pointer_to_channel(context, builder, signature, args, 0, c, vector_of(I8)) for c in range(3)]
        return [load(builder, row) for row in rows]
    kind = vector_of(I8, stride * WIDTH)
    wide = load(builder, _pointer_to_channel(context, builder, signature, args, 0, 0, kind))
    return separate(builder, wide, stride)


def _pointer_to_channel(context, builder, signature, args, which, c, kind):
    """Return the address of byte args[1] of the c-th of three rows."""
    rows = context.make_array(signature.args[which][c])(
        context, builder, builder.extract_value(args[which], c)
    )
    return builder.bitcast(builder.gep(rows.data, [args[1]]), kind.as_pointer())


def _factors(context, builder, signature, args):
    """Load the nine coefficients from args[2]."""
    first = pointer_to(context, builder, signature, args, 2, I64(0), I16)
    return [builder.load(builder.gep(first, [I64(i)])) for i in range(9)]


def _luma_32_interpreted(stride: int) -> Any:
    """Return the Python equivalent of the intrinsic of `_luma_32`."""

    def luma_32(channels, i, k, y, at):
        for j in range(WIDTH):
            y[at + j] = luma_of(*pixel(channels, i // stride + j, stride), k)

    return luma_32


def _replace_32_interpreted(stride: int) -> Any:
    """Return the Python equivalent of the intrinsic of `_replace_32`."""

    def replace_32(channels, i, k, y, new, at, out):
        for j in range(WIDTH):
            replace_pixel(channels, i // stride + j, stride, k, y[at + j], new[at + j], out)

    return replace_32


@inline
def pixel(rows, i, stride):
    """Return the channels of one pixel."""
    a, b, c = rows
    apart = np.uint64(1) if stride > 1 else np.uint64(0)
    at = np.uint64(stride) * np.uint64(i)
    return np.int64(a[at]), np.int64(b[at + apart]), np.int64(c[at + apart + apart])


@inline
def replace_pixel(rows, i, stride, k, y, new, new_rows):
    """Write one pixel with Y replaced."""
    a, b, c = new_rows
    first, _, third = pixel(rows, i, stride)
    first, second, third = with_luma(first, third, np.int64(y), np.int64(new), np.int64(255), k)
    apart = np.uint64(1) if stride > 1 else np.uint64(0)
    at = np.uint64(stride) * np.uint64(i)
    a[at] = first
    b[at + apart] = second
    c[at + apart + apart] = third
    if stride == 4:
        a[at + np.uint64(3)] = rows[0][at + np.uint64(3)]


if config.DISABLE_JIT:
    _luma_32 = lambda stride, arithmetic: _luma_32_interpreted(stride)  # noqa: E731
    _replace_32 = lambda stride, arithmetic: _replace_32_interpreted(stride)  # noqa: E731
