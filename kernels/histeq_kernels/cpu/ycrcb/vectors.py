"""Operations on the colour pixels of a row, a vector at a time, in planes or interleaved.

Y is computed or replaced, or the channels are separated or interleaved.
"""

from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from histeq_kernels.cpu.core.kernel import inline
from histeq_kernels.cpu.core.llvm import I8, I16, I64, i64, masked_load, masked_store, pointer_to
from histeq_kernels.cpu.ycrcb.interleave import interleave, separate
from histeq_kernels.cpu.ycrcb.lanes import vector_of
from histeq_kernels.cpu.ycrcb.scalar import with_luma


def color_operations(arithmetic: Any) -> dict[str, Any]:
    """Return the operations of `core/operations.py` on colour pixels, with one of the arithmetics."""
    layouts, interleaved = {"planes": 1, "rgb": 3, "rgba": 4}, {"rgb": 3, "rgba": 4}
    return {
        f"{name}_{layout}": operation(stride, arithmetic)
        for name, operation, strides in (
            ("luma_of", _luma, layouts),
            ("replace_luma_of", _replace, layouts),
            ("separate", _separate, interleaved),
            ("interleave", _interleave, interleaved),
        )
        for layout, stride in strides.items()
    }


def _luma(stride: int, arithmetic: Any) -> Any:
    """Return the intrinsic that computes Y of pixels `stride` bytes apart; 1 means three planes."""

    @intrinsic
    def luma(typingctx, channels, start, size, k, y):
        def codegen(context, builder, signature, args):
            old = _Rows(context, builder, signature, args, 0, stride)
            [target] = _addresses(context, builder, signature, args, 4)
            factor = _factors(context, builder, signature, args)

            def work(at, number):
                value = arithmetic.luma(builder, old.loader(at, number), stride, factor)
                masked_store(builder, value, builder.add(target, at), number)

            return _in_vectors(builder, args[2], arithmetic, work, again=True)

        return types.uint64(channels, types.uint64, types.uint64, k, y), codegen

    return luma


def _replace(stride: int, arithmetic: Any) -> Any:
    """Return the intrinsic that replaces Y of pixels; a fourth channel is copied."""

    @intrinsic
    def replace(typingctx, channels, start, size, k, y, new, out):
        def codegen(context, builder, signature, args):
            old, target = (_Rows(context, builder, signature, args, which, stride) for which in (0, 6))
            lumas = [_addresses(context, builder, signature, args, which)[0] for which in (4, 5)]
            factor, width = _factors(context, builder, signature, args), arithmetic.width

            def work(at, number):
                channels = separate(builder, old.loader(at, number), stride, width)
                y, new = (
                    masked_load(builder, builder.add(luma, at), number, vector_of(I8, width))
                    for luma in lumas
                )
                result = arithmetic.replaced(builder, channels[:3], y, new, factor) + channels[3:]
                target.store(at, number, interleave(builder, result) if stride > 1 else result)

            return _in_vectors(builder, args[2], arithmetic, work, again=False)

        return types.uint64(channels, types.uint64, types.uint64, k, y, new, out), codegen

    return replace


def _separate(stride: int, arithmetic: Any) -> Any:
    """Return the intrinsic that writes the channels of interleaved pixels to separate buffers."""

    @intrinsic
    def separate_pixels(typingctx, rows, start, size, channels):
        def codegen(context, builder, signature, args):
            old = _Rows(context, builder, signature, args, 0, stride)
            targets = _addresses(context, builder, signature, args, 3)[:stride]

            def work(at, number):
                values = separate(builder, old.loader(at, number), stride, arithmetic.width)
                for value, target in zip(values, targets, strict=True):
                    masked_store(builder, value, builder.add(target, at), number)

            return _in_vectors(builder, args[2], arithmetic, work, again=True)

        return types.uint64(rows, types.uint64, types.uint64, channels), codegen

    return separate_pixels


def _interleave(stride: int, arithmetic: Any) -> Any:
    """Return the intrinsic that writes interleaved pixels from their channels."""

    @intrinsic
    def interleave_pixels(typingctx, rows, start, size, channels):
        def codegen(context, builder, signature, args):
            target = _Rows(context, builder, signature, args, 0, stride)
            sources = _addresses(context, builder, signature, args, 3)[:stride]
            kind = vector_of(I8, arithmetic.width)

            def work(at, number):
                values = [masked_load(builder, builder.add(source, at), number, kind) for source in sources]
                target.store(at, number, interleave(builder, values))

            return _in_vectors(builder, args[2], arithmetic, work, again=True)

        return types.uint64(rows, types.uint64, types.uint64, channels), codegen

    return interleave_pixels


def _in_vectors(builder, size, arithmetic, work, again):
    """Emit `work(at, None)` for each whole vector of `size` pixels; return how many pixels are done.

    The rest is done by `work(at, rest)` where vectors can be masked. Where they cannot, a whole vector that
    ends with the last pixel does it if some pixels may be computed `again`.
    """
    width = i64(arithmetic.width)
    whole = builder.udiv(size, width)
    done = builder.mul(whole, width)
    with cgutils.for_range(builder, whole) as loop:
        work(builder.mul(loop.index, width), None)
    some_left, some_done = (builder.icmp_unsigned("!=", done, other) for other in (size, i64(0)))
    if arithmetic.masked:
        with builder.if_then(some_left):
            work(done, builder.sub(size, done))
        return size
    if again:
        with builder.if_then(builder.and_(some_left, some_done)):
            work(builder.sub(size, width), None)
        return builder.select(some_done, size, done)
    return done


class _Rows:
    """Rows of pixels, an argument of an intrinsic, from pixel args[1] on."""

    def __init__(self, context, builder, signature, args, which, stride):
        self._builder, self._stride = builder, stride
        start = builder.mul(args[1], i64(stride))
        rows = _addresses(context, builder, signature, args, which)
        self._first = [builder.add(row, start) for row in rows]

    def loader(self, at, number):
        """Return a function that loads a vector of bytes, from any byte of row `c` beyond pixel `at` on.

        The vector has zeros beyond the `number` pixels that there are; None means that there are enough.
        """

        def load(c, byte, lanes):
            return masked_load(self._builder, *self._place(c, at, byte, number), vector_of(I8, lanes))

        return load

    def store(self, at, number, vectors):
        """Store three vectors in the three rows, or those of interleaved pixels one after the other."""
        byte = 0
        for c, value in enumerate(vectors):
            address, size = self._place(c if self._stride == 1 else 0, at, byte, number)
            masked_store(self._builder, value, address, size)
            byte += value.type.count if self._stride > 1 else 0

    def _place(self, c, at, byte, number):
        """Return an address, and how many bytes of `number` pixels there are from it on."""
        builder, stride = self._builder, i64(self._stride)
        address = builder.add(self._first[c], builder.add(builder.mul(at, stride), i64(byte)))
        if number is None:
            return address, None
        size = builder.mul(number, stride)
        rest = builder.sub(size, i64(byte))
        return address, builder.select(builder.icmp_unsigned(">", size, i64(byte)), rest, i64(0))


def _addresses(context, builder, signature, args, which):
    """Return the addresses of the arrays of an argument, one or several."""
    kinds, values = [signature.args[which]], [args[which]]
    if isinstance(kinds[0], types.BaseTuple):
        kinds, values = list(kinds[0]), cgutils.unpack_tuple(builder, values[0])
    arrays = (
        context.make_array(kind)(context, builder, value) for kind, value in zip(kinds, values, strict=True)
    )
    return [builder.ptrtoint(array.data, I64) for array in arrays]


def _factors(context, builder, signature, args):
    """Load the nine coefficients from args[3]."""
    first = pointer_to(context, builder, signature, args, 3, i64(0), I16)
    return [builder.load(builder.gep(first, [i64(i)])) for i in range(9)]


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


if config.DISABLE_JIT:  # then every pixel is a rest
    _luma = _replace = _separate = _interleave = lambda stride, arithmetic: lambda *args: 0
