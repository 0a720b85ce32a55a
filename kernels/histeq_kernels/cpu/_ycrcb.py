"""OpenCV's 8-bit YCrCb on 32 pixels at a time, for kernels.

The arithmetic has 14 fractional bits. `COEFFICIENTS` gives the numbers for the channels in their order in
memory, so that R G B and B G R share the code: red and blue are the two end channels, treated alike.

    y = (k0 first + k1 second + k2 third + 2**13) >> 14
    d = clamp((k3 (end - y) + 2**14) >> 15, -128, 127)         Cr - 128 or Cb - 128; k3 is twice OpenCV's
    end = new + d + ((k5 d + 2**14) >> 15)                     OpenCV's factor is 2**14 + k5 / 2
    second = new + ((k7 d of the first + k8 d of the third + 2**13) >> 14)

In this form 16-bit multiplications do (`vpmulhrsw`, `vpmaddwd`), exactly. The tier "portable" states the same
in instructions that every processor has.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from histeq_kernels.cpu._kernel import inline
from histeq_kernels.cpu._vector import _call, _everywhere, _load, _pointer, _store

COEFFICIENTS = {
    "rgb": np.array([4899, 9617, 1868, 23364, 18482, 13206, 25330, -11698, -5636], np.int16),
    "bgr": np.array([1868, 9617, 4899, 18482, 23364, 25330, 13206, -5636, -11698], np.int16),
}
WIDTH = 32

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))


@inline
def luma(first, second, third, k):
    """Return Y of one pixel."""
    return (np.int64(k[0]) * first + np.int64(k[1]) * second + np.int64(k[2]) * third + 8192) >> 14


@inline
def replace_luma(first, third, y, new, k):
    """Return the channels of one pixel with Y replaced."""
    a = min(max((np.int64(k[3]) * (first - y) + 16384) >> 15, -128), 127)
    b = min(max((np.int64(k[4]) * (third - y) + 16384) >> 15, -128), 127)
    return (
        clamp(new + a + ((np.int64(k[5]) * a + 16384) >> 15)),
        clamp(new + ((np.int64(k[7]) * a + np.int64(k[8]) * b + 8192) >> 14)),
        clamp(new + b + ((np.int64(k[6]) * b + 16384) >> 15)),
    )


@inline
def clamp(value):
    """Limit to 0..255."""
    return min(max(value, 0), 255)


def _luma_32(step: int, arithmetic: Any) -> Any:
    """Return the intrinsic that computes Y of 32 pixels, `step` bytes each; 1: in three planes."""

    @intrinsic
    def luma_32(typingctx, first, second, third, i, k, y, at):
        """Write Y of the 32 pixels from byte i of the rows on to y[at]."""

        def codegen(context, builder, signature, args):
            channels = _channels(context, builder, signature, args, args[3], step)
            target = _pointer(context, builder, signature, args, 5, args[6], _vector(_I8))
            factor = _factors(context, builder, signature, args, 4)
            _store(builder, arithmetic.luma(builder, channels[:3], factor), target)
            return context.get_dummy_value()

        return types.void(first, second, third, types.uint64, k, y, types.uint64), codegen

    return luma_32


def _replace_32(step: int, arithmetic: Any) -> Any:
    """Return the intrinsic that replaces Y of 32 pixels; a fourth channel is copied."""

    @intrinsic
    def replace_32(typingctx, first, second, third, i, k, y, new, at, out_first, out_second, out_third):
        """Write the 32 pixels from byte i on, whose Y is y[at], with new[at] in its place."""

        def codegen(context, builder, signature, args):
            channels = _channels(context, builder, signature, args, args[3], step)
            old, new = (
                _load(builder, _pointer(context, builder, signature, args, which, args[7], _vector(_I8)))
                for which in (5, 6)
            )
            factor = _factors(context, builder, signature, args, 4)
            result = _replaced(builder, channels, old, new, factor, arithmetic) + channels[3:]
            if step == 1:
                for which, channel in zip((8, 9, 10), result, strict=True):
                    target = _pointer(context, builder, signature, args, which, args[3], _vector(_I8))
                    _store(builder, channel, target)
            else:
                target = _pointer(context, builder, signature, args, 8, args[3], _vector(_I8, step * WIDTH))
                _store(builder, _interleave(builder, result), target)
            return context.get_dummy_value()

        arguments = (
            first,
            second,
            third,
            types.uint64,
            k,
            y,
            new,
            types.uint64,
            out_first,
            out_second,
            out_third,
        )
        return types.void(*arguments), codegen

    return replace_32


def _take_apart_32(step: int) -> Any:
    """Return the intrinsic that writes the channels of 32 interleaved pixels to buffers of their own."""

    @intrinsic
    def take_apart_32(typingctx, pixels, i, a, b, c, d, at):
        def codegen(context, builder, signature, args):
            wide = _pointer(context, builder, signature, args, 0, args[1], _vector(_I8, step * WIDTH))
            for which, channel in enumerate(_separate(builder, _load(builder, wide), step), 2):
                target = _pointer(context, builder, signature, args, which, args[6], _vector(_I8))
                _store(builder, channel, target)
            return context.get_dummy_value()

        return types.void(pixels, types.uint64, a, b, c, d, types.uint64), codegen

    return take_apart_32


def _put_together_32(step: int) -> Any:
    """Return the intrinsic that writes 32 interleaved pixels from their channels."""

    @intrinsic
    def put_together_32(typingctx, a, b, c, d, at, pixels, i):
        def codegen(context, builder, signature, args):
            channels = [
                _load(builder, _pointer(context, builder, signature, args, which, args[4], _vector(_I8)))
                for which in range(step)
            ]
            target = _pointer(context, builder, signature, args, 5, args[6], _vector(_I8, step * WIDTH))
            _store(builder, _interleave(builder, channels), target)
            return context.get_dummy_value()

        return types.void(a, b, c, d, types.uint64, pixels, types.uint64), codegen

    return put_together_32


class _Portable:
    """32-bit products of all 32 pixels."""

    @staticmethod
    def luma(builder, channels, factor):
        total = _splat(_I32, 8192)
        for channel, k in zip(channels, factor[:3], strict=True):
            wide = builder.zext(channel, _vector(_I32))
            total = builder.add(total, builder.mul(wide, _repeat(builder, builder.sext(k, _I32), WIDTH)))
        return builder.trunc(builder.lshr(total, _splat(_I32, 14)), _vector(_I8))

    @staticmethod
    def scale(builder, value, k):
        """Return (k value + 2**14) >> 15."""
        product = _Portable.product(builder, value, k)
        product = builder.ashr(builder.add(product, _splat(_I32, 1 << 14)), _splat(_I32, 15))
        return builder.trunc(product, _vector(_I16))

    @staticmethod
    def mix(builder, a, b, j, k):
        """Return (j a + k b + 2**13) >> 14."""
        total = builder.add(_Portable.product(builder, a, j), _Portable.product(builder, b, k))
        total = builder.ashr(builder.add(total, _splat(_I32, 8192)), _splat(_I32, 14))
        return builder.trunc(total, _vector(_I16))

    @staticmethod
    def product(builder, value, k):
        wide = builder.sext(value, _vector(_I32))
        return builder.mul(wide, _repeat(builder, builder.sext(k, _I32), WIDTH))


class _Packed:
    """16-bit products of as many pixels as fit a vector."""

    def __init__(self, lanes: int, scaled: str, paired: str, packed: str) -> None:
        self._lanes, self._scaled, self._paired, self._packed = lanes, scaled, paired, packed
        self._shorts, self._words = ir.VectorType(_I16, lanes), ir.VectorType(_I32, lanes // 2)

    def luma(self, builder, channels, factor):
        wide = [self._parts(builder, builder.zext(channel, _vector(_I16))) for channel in channels]
        one = ir.Constant(self._shorts, [1] * self._lanes)
        result = []
        for first, second, third in zip(*wide, strict=True):
            two = self._pairs(builder, first, second, factor[0], factor[1])
            rest = self._pairs(builder, third, one, factor[2], _I16(8192))
            total = [builder.add(a, b) for a, b in zip(two, rest, strict=True)]
            result.append(self._joined(builder, total))
        return builder.trunc(_join(builder, result), _vector(_I8))

    def scale(self, builder, value, k):
        """Return (k value + 2**14) >> 15."""
        by = _repeat(builder, k, self._lanes)
        parts = self._parts(builder, value)
        return _join(builder, [_call(builder, self._scaled, self._shorts, part, by) for part in parts])

    def mix(self, builder, a, b, j, k):
        """Return (j a + k b + 2**13) >> 14."""
        half, result = ir.Constant(self._words, [8192] * (self._lanes // 2)), []
        for x, y in zip(self._parts(builder, a), self._parts(builder, b), strict=True):
            total = [builder.add(some, half) for some in self._pairs(builder, x, y, j, k)]
            result.append(self._joined(builder, total))
        return _join(builder, result)

    def _parts(self, builder, value):
        """Split what belongs to 32 pixels into vectors."""
        starts = range(0, WIDTH, self._lanes)
        return [_shuffle(builder, value, value, list(range(i, i + self._lanes))) for i in starts]

    def _pairs(self, builder, x, y, j, k):
        """Return j x + k y in 32 bits, in the order that `_joined` undoes."""
        n = self._lanes
        low = [lane for start in range(0, n, 8) for i in range(start, start + 4) for lane in (i, n + i)]
        factors = _shuffle(builder, _repeat(builder, j, n), _repeat(builder, k, n), [0, n] * (n // 2))
        both = [_shuffle(builder, x, y, lanes) for lanes in (low, [lane + 4 for lane in low])]
        return [_call(builder, self._paired, self._words, part, factors) for part in both]

    def _joined(self, builder, total):
        """Shift right by 14 and join."""
        by = ir.Constant(self._words, [14] * (self._lanes // 2))
        shifted = [builder.ashr(part, by) for part in total]
        return _call(builder, self._packed, self._shorts, *shifted)


def _luma_32_interpreted(step: int) -> Any:
    """Return what `_luma_32` does, in Python."""

    def luma_32(first, second, third, i, k, y, at):
        for j in range(WIDTH):
            y[at + j] = luma(*pixel((first, second, third), i // step + j, step), k)

    return luma_32


def _replace_32_interpreted(step: int) -> Any:
    """Return what `_replace_32` does, in Python."""

    def replace_32(first, second, third, i, k, y, new, at, *out):
        for j in range(WIDTH):
            replace_pixel((first, second, third), i // step + j, step, k, y[at + j], new[at + j], out)

    return replace_32


def _take_apart_32_interpreted(step: int) -> Any:
    """Return what `_take_apart_32` does, in Python."""

    def take_apart_32(pixels, i, a, b, c, d, at):
        for channel, target in zip(range(step), (a, b, c, d), strict=False):
            target[at : at + WIDTH] = pixels[i + channel : i + step * WIDTH : step]

    return take_apart_32


def _put_together_32_interpreted(step: int) -> Any:
    """Return what `_put_together_32` does, in Python."""

    def put_together_32(a, b, c, d, at, pixels, i):
        for channel, source in zip(range(step), (a, b, c, d), strict=False):
            pixels[i + channel : i + step * WIDTH : step] = source[at : at + WIDTH]

    return put_together_32


@inline
def pixel(rows, i, step):
    """Return the channels of one pixel."""
    a, b, c = rows
    apart = np.uint64(1) if step > 1 else np.uint64(0)
    at = np.uint64(step) * np.uint64(i)
    return np.int64(a[at]), np.int64(b[at + apart]), np.int64(c[at + apart + apart])


@inline
def replace_pixel(rows, i, step, k, y, new, new_rows):
    """Write one pixel with Y replaced."""
    a, b, c = new_rows
    first, _, third = pixel(rows, i, step)
    first, second, third = replace_luma(first, third, np.int64(y), np.int64(new), k)
    apart = np.uint64(1) if step > 1 else np.uint64(0)
    at = np.uint64(step) * np.uint64(i)
    a[at] = first
    b[at + apart] = second
    c[at + apart + apart] = third
    if step == 4:
        a[at + np.uint64(3)] = rows[0][at + np.uint64(3)]


if config.DISABLE_JIT:
    _luma_32 = lambda step, arithmetic: _luma_32_interpreted(step)  # noqa: E731
    _replace_32 = lambda step, arithmetic: _replace_32_interpreted(step)  # noqa: E731
    _take_apart_32, _put_together_32 = _take_apart_32_interpreted, _put_together_32_interpreted

take_apart_rgb, take_apart_rgba = (_take_apart_32(step) for step in (3, 4))
put_together_rgb, put_together_rgba = (_put_together_32(step) for step in (3, 4))
luma_planes_portable, luma_rgb_portable, luma_rgba_portable = (_luma_32(s, _Portable) for s in (1, 3, 4))
replace_planes_portable, replace_rgb_portable, replace_rgba_portable = (
    _replace_32(s, _Portable) for s in (1, 3, 4)
)
_X86 = "llvm.x86"
_AVX2 = _Packed(16, f"{_X86}.avx2.pmul.hr.sw", f"{_X86}.avx2.pmadd.wd", f"{_X86}.avx2.packssdw")
_AVX512 = _Packed(
    32, f"{_X86}.avx512.pmul.hr.sw.512", f"{_X86}.avx512.pmaddw.d.512", f"{_X86}.avx512.packssdw.512"
)
luma_planes_avx2, luma_rgb_avx2, luma_rgba_avx2 = (_luma_32(s, _AVX2) for s in (1, 3, 4))
replace_planes_avx2, replace_rgb_avx2, replace_rgba_avx2 = (_replace_32(s, _AVX2) for s in (1, 3, 4))
luma_planes_avx512, luma_rgb_avx512, luma_rgba_avx512 = (_luma_32(s, _AVX512) for s in (1, 3, 4))
replace_planes_avx512, replace_rgb_avx512, replace_rgba_avx512 = (_replace_32(s, _AVX512) for s in (1, 3, 4))


def _replaced(builder, channels, old, new, factor, arithmetic):
    """Return the three channels, bytes, with Y replaced."""
    y, new = (builder.zext(value, _vector(_I16)) for value in (old, new))
    difference, ends = [], []
    for channel, to_difference, back in zip(
        (channels[0], channels[2]), factor[3:5], factor[5:7], strict=True
    ):
        distance = builder.sub(builder.zext(channel, _vector(_I16)), y)
        d = _limit(builder, arithmetic.scale(builder, distance, to_difference), -128, 127)
        difference.append(d)
        ends.append(builder.add(new, builder.add(d, arithmetic.scale(builder, d, back))))
    middle = builder.add(new, arithmetic.mix(builder, *difference, *factor[7:9]))
    result = [_limit(builder, value, 0, 255) for value in (ends[0], middle, ends[1])]
    return [builder.trunc(value, _vector(_I8)) for value in result]


def _channels(context, builder, signature, args, i, step):
    """Load the channels of 32 pixels."""
    if step == 1:
        rows = [_pointer(context, builder, signature, args, which, i, _vector(_I8)) for which in range(3)]
        return [_load(builder, row) for row in rows]
    wide = _load(builder, _pointer(context, builder, signature, args, 0, i, _vector(_I8, step * WIDTH)))
    return _separate(builder, wide, step)


def _separate(builder, wide, step):
    """Return the channels of interleaved pixels."""
    lanes = range(0, step * WIDTH, step)
    return [_shuffle(builder, wide, wide, [lane + channel for lane in lanes]) for channel in range(step)]


def _interleave(builder, channels):
    """Return the pixels of three or four channels one after the other."""
    step = len(channels)
    everything = list(range(2 * WIDTH))
    low = _shuffle(builder, channels[0], channels[1], everything)
    high = _shuffle(builder, channels[2], channels[-1], everything)
    return _shuffle(builder, low, high, [WIDTH * (b % step) + b // step for b in range(step * WIDTH)])


def _factors(context, builder, signature, args, which):
    """Load the nine coefficients."""
    first = _pointer(context, builder, signature, args, which, _I64(0), _I16)
    return [builder.load(builder.gep(first, [_I64(i)])) for i in range(9)]


def _limit(builder, value, low, high):
    """Clamp 16-bit lanes."""
    for bound, sign in ((low, "<"), (high, ">")):
        limit = _splat(_I16, bound)
        value = builder.select(builder.icmp_signed(sign, value, limit), limit, value)
    return value


def _vector(kind, size=WIDTH):
    return ir.VectorType(kind, size)


def _splat(kind, value):
    return ir.Constant(_vector(kind), [value] * WIDTH)


def _repeat(builder, value, size):
    """Return a vector of one runtime value."""
    return _everywhere(builder, value, _vector(value.type, size))


def _shuffle(builder, a, b, lanes):
    return builder.shuffle_vector(a, b, ir.Constant(_vector(_I32, len(lanes)), lanes))


def _join(builder, parts):
    return parts[0] if len(parts) == 1 else _shuffle(builder, *parts, list(range(WIDTH)))
