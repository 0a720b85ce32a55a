"""Separation and interleaving of the channels of 32 pixels."""

from typing import Any

import numpy as np
from numba import types
from numba.core import config
from numba.extending import intrinsic

from histeq_kernels.cpu.core.kernel import inline
from histeq_kernels.cpu.core.llvm import I8, load, pointer_to, store
from histeq_kernels.cpu.ycrcb.lanes import WIDTH, shuffle, vector_of


@inline
def separate_channels(pixels, start, size, stride, channels):
    """Write the channels of `size` pixels of a row to separate buffers; `stride` is their number, 3 or 4."""
    red, green, blue, alpha = channels
    vectors = size - size % np.uint64(WIDTH)
    for i in range(np.uint64(0), vectors, np.uint64(WIDTH)):
        at = stride * (start + i)
        if stride == 3:
            separate_rgb(pixels, at, red, green, blue, alpha, i)
        else:
            separate_rgba(pixels, at, red, green, blue, alpha, i)
    for i in range(vectors, size):
        for c in range(stride):
            channels[c][i] = pixels[stride * (start + i) + c]


@inline
def interleave_channels(channels, start, size, stride, pixels):
    """Write `size` pixels of a row from their channels; `stride` is the number of channels, 3 or 4."""
    red, green, blue, alpha = channels
    vectors = size - size % np.uint64(WIDTH)
    for i in range(np.uint64(0), vectors, np.uint64(WIDTH)):
        at = stride * (start + i)
        if stride == 3:
            interleave_rgb(red, green, blue, alpha, i, pixels, at)
        else:
            interleave_rgba(red, green, blue, alpha, i, pixels, at)
    for i in range(vectors, size):
        for c in range(stride):
            pixels[stride * (start + i) + c] = channels[c][i]


def separate(builder, wide, stride):
    """Return the channels of interleaved pixels."""
    lanes = range(0, stride * WIDTH, stride)
    return [shuffle(builder, wide, wide, [lane + channel for lane in lanes]) for channel in range(stride)]


def interleave(builder, channels):
    """Return the interleaved pixels of three or four channels."""
    stride = len(channels)
    both = list(range(2 * WIDTH))
    low = shuffle(builder, channels[0], channels[1], both)
    high = shuffle(builder, channels[2], channels[-1], both)
    return shuffle(builder, low, high, [WIDTH * (b % stride) + b // stride for b in range(stride * WIDTH)])


def _separate_32(stride: int) -> Any:
    """Return the intrinsic that writes the channels of 32 interleaved pixels to separate buffers."""

    @intrinsic
    def separate_32(typingctx, pixels, i, a, b, c, d, at):
        def codegen(context, builder, signature, args):
            wide = pointer_to(context, builder, signature, args, 0, args[1], vector_of(I8, stride * WIDTH))
            for which, channel in enumerate(separate(builder, load(builder, wide), stride), 2):
                target = pointer_to(context, builder, signature, args, which, args[6], vector_of(I8))
                store(builder, channel, target)
            return context.get_dummy_value()

        return types.void(pixels, types.uint64, a, b, c, d, types.uint64), codegen

    return separate_32


def _interleave_32(stride: int) -> Any:
    """Return the intrinsic that writes 32 interleaved pixels from their channels."""

    @intrinsic
    def interleave_32(typingctx, a, b, c, d, at, pixels, i):
        def codegen(context, builder, signature, args):
            channels = [
                load(builder, pointer_to(context, builder, signature, args, which, args[4], vector_of(I8)))
                for which in range(stride)
            ]
            target = pointer_to(context, builder, signature, args, 5, args[6], vector_of(I8, stride * WIDTH))
            store(builder, interleave(builder, channels), target)
            return context.get_dummy_value()

        return types.void(a, b, c, d, types.uint64, pixels, types.uint64), codegen

    return interleave_32


def _separate_32_interpreted(stride: int) -> Any:
    """Return the Python equivalent of the intrinsic of `_separate_32`."""

    def separate_32(pixels, i, a, b, c, d, at):
        for channel, target in zip(range(stride), (a, b, c, d), strict=False):
            target[at : at + WIDTH] = pixels[i + channel : i + stride * WIDTH : stride]

    return separate_32


def _interleave_32_interpreted(stride: int) -> Any:
    """Return the Python equivalent of the intrinsic of `_interleave_32`."""

    def interleave_32(a, b, c, d, at, pixels, i):
        for channel, source in zip(range(stride), (a, b, c, d), strict=False):
            pixels[i + channel : i + stride * WIDTH : stride] = source[at : at + WIDTH]

    return interleave_32


if config.DISABLE_JIT:
    _separate_32, _interleave_32 = _separate_32_interpreted, _interleave_32_interpreted
separate_rgb, separate_rgba = (_separate_32(stride) for stride in (3, 4))
interleave_rgb, interleave_rgba = (_interleave_32(stride) for stride in (3, 4))
