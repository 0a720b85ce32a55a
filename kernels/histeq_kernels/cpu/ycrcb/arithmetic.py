"""The arithmetic of `scalar.py` for 32 pixels of 8 bits, with 32-bit or 16-bit products.

The channels, and their Y, are vectors of bytes.
"""

from llvmlite import ir

from histeq_kernels.cpu.core.llvm import I8, I16, I32, call
from histeq_kernels.cpu.ycrcb.lanes import WIDTH, clamp, constant, join, repeat, shuffle, vector_of

_AVX2 = "llvm.x86.avx2"


class _Planes:
    """Arithmetic on values of 16 bits of all 32 pixels; `scale` and `mix` differ."""

    def replaced(self, builder, channels, old, new, factor):
        """Return the three channels with Y replaced."""
        y, new = (builder.zext(value, vector_of(I16)) for value in (old, new))
        difference, ends = [], []
        for channel, to_difference, back in zip(
            (channels[0], channels[2]), factor[3:5], factor[5:7], strict=True
        ):
            distance = builder.sub(builder.zext(channel, vector_of(I16)), y)
            d = clamp(builder, self.scale(builder, distance, to_difference), -128, 127)
            difference.append(d)
            ends.append(builder.add(new, builder.add(d, self.scale(builder, d, back))))
        middle = builder.add(new, self.mix(builder, *difference, *factor[7:9]))
        result = [clamp(builder, value, 0, 255) for value in (ends[0], middle, ends[1])]
        return [builder.trunc(value, vector_of(I8)) for value in result]


class Portable(_Planes):
    """Arithmetic with 32-bit products of all 32 pixels, in instructions that every processor has."""

    def luma(self, builder, channels, factor):
        """Return Y of the pixels."""
        total = constant(I32, 8192)
        for channel, k in zip(channels, factor[:3], strict=True):
            wide = builder.zext(channel, vector_of(I32))
            total = builder.add(total, builder.mul(wide, repeat(builder, builder.sext(k, I32), WIDTH)))
        return builder.trunc(builder.lshr(total, constant(I32, 14)), vector_of(I8))

    def scale(self, builder, value, k):
        """Return (k value + 2**14) >> 15."""
        product = self._product(builder, value, k)
        product = builder.ashr(builder.add(product, constant(I32, 1 << 14)), constant(I32, 15))
        return builder.trunc(product, vector_of(I16))

    def mix(self, builder, a, b, j, k):
        """Return (j a + k b + 2**13) >> 14."""
        total = builder.add(self._product(builder, a, j), self._product(builder, b, k))
        total = builder.ashr(builder.add(total, constant(I32, 8192)), constant(I32, 14))
        return builder.trunc(total, vector_of(I16))

    def _product(self, builder, value, k):
        """Return k value in 32 bits."""
        wide = builder.sext(value, vector_of(I32))
        return builder.mul(wide, repeat(builder, builder.sext(k, I32), WIDTH))


class Halves:
    """Arithmetic with 16-bit products of 16 pixels (AVX2).

    Bytes become wider, and narrow again, within each half of a vector, as the unpacking and packing
    instructions do it: two vectors of 16 bits have the lower and the upper eight pixels of each half.
    """

    def luma(self, builder, channels, factor):
        """Return Y of the pixels."""
        ones = constant(I8, 1)
        pairs = [_unpacked(builder, *channels[:2]), _unpacked(builder, channels[2], ones)]
        factors = [_both(builder, *factor[:2], 16), _both(builder, factor[2], I16(8192), 16)]
        words = []
        for rg, b1 in zip(*pairs, strict=True):
            parts = zip(_words(builder, rg), _words(builder, b1), strict=True)
            words.append(_shifted_sum(builder, parts, factors, builder.lshr))
        return call(builder, f"{_AVX2}.packuswb", vector_of(I8), *words)

    def replaced(self, builder, channels, old, new, factor):
        """Return the three channels with Y replaced."""
        red, blue, y, new = (_words(builder, value) for value in (channels[0], channels[2], old, new))
        k = [repeat(builder, value, 16) for value in factor]
        result = [self._replaced_16(builder, *values, k) for values in zip(red, blue, y, new, strict=True)]
        return [
            call(builder, f"{_AVX2}.packuswb", vector_of(I8), *both) for both in zip(*result, strict=True)
        ]

    def _replaced_16(self, builder, red, blue, y, new, k):
        """Return the three channels of 16 pixels with Y replaced, not yet clamped."""
        difference, ends = [], []
        for channel, to_difference, back in zip((red, blue), k[3:5], k[5:7], strict=True):
            d = self._scaled(builder, builder.sub(channel, y), to_difference)
            d = clamp(builder, d, -128, 127)
            difference.append(d)
            ends.append(builder.add(new, builder.add(d, self._scaled(builder, d, back))))
        pairs = zip(_unpacked(builder, *difference), strict=True)
        both = _unpacked(builder, k[7], k[8])[0]
        middle = _shifted_sum(builder, pairs, [both], builder.ashr, 8192)
        return ends[0], builder.add(new, middle), ends[1]

    def _scaled(self, builder, value, k):
        """Return (k value + 2**14) >> 15."""
        return call(builder, f"{_AVX2}.pmul.hr.sw", value.type, value, k)


def _unpacked(builder, a, b):
    """Return the lower and the upper elements, of each half of two vectors, in turns."""
    n = a.type.count
    quarter = n // 4
    low = [lane for half in (0, n // 2) for i in range(half, half + quarter) for lane in (i, n + i)]
    return [shuffle(builder, a, b, [lane + shift for lane in low]) for shift in (0, quarter)]


def _words(builder, value):
    """Return the lower and the upper bytes of each half as 16 bits."""
    zeros = ir.Constant(value.type, [0] * WIDTH)
    return [builder.bitcast(part, vector_of(I16, 16)) for part in _unpacked(builder, value, zeros)]


def _both(builder, j, k, size):
    """Return a vector with two run-time values in turns."""
    return shuffle(builder, repeat(builder, j, size), repeat(builder, k, size), [0, size] * (size // 2))


def _shifted_sum(builder, parts, factors, shift, more=0):
    """Return the sums of products of pairs, plus `more`, shifted right by 14 bits and packed to 16 bits."""
    words, by = vector_of(I32, 8), ir.Constant(vector_of(I32, 8), [14] * 8)
    result = []
    for pairs in parts:
        total = ir.Constant(words, [more] * 8)
        for pair, factor in zip(pairs, factors, strict=True):
            total = builder.add(total, call(builder, f"{_AVX2}.pmadd.wd", words, pair, factor))
        result.append(shift(total, by))
    return call(builder, f"{_AVX2}.packssdw", vector_of(I16, 16), *result)


class Packed(_Planes):
    """Arithmetic with 16-bit products of as many pixels as fit into a vector (`vpmulhrsw`, `vpmaddwd`)."""

    def __init__(self, lanes: int, scaled: str, paired: str, packed: str) -> None:
        self._lanes, self._scaled, self._paired, self._packed = lanes, scaled, paired, packed
        self._shorts, self._words = ir.VectorType(I16, lanes), ir.VectorType(I32, lanes // 2)

    def luma(self, builder, channels, factor):
        """Return Y of the pixels."""
        wide = [self._parts(builder, builder.zext(channel, vector_of(I16))) for channel in channels]
        ones = ir.Constant(self._shorts, [1] * self._lanes)
        result = []
        for first, second, third in zip(*wide, strict=True):
            pair = self._pairs(builder, first, second, factor[0], factor[1])
            rest = self._pairs(builder, third, ones, factor[2], I16(8192))
            total = [builder.add(a, b) for a, b in zip(pair, rest, strict=True)]
            result.append(self._joined(builder, total))
        return builder.trunc(join(builder, result), vector_of(I8))

    def scale(self, builder, value, k):
        """Return (k value + 2**14) >> 15."""
        by = repeat(builder, k, self._lanes)
        parts = self._parts(builder, value)
        return join(builder, [call(builder, self._scaled, self._shorts, part, by) for part in parts])

    def mix(self, builder, a, b, j, k):
        """Return (j a + k b + 2**13) >> 14."""
        half, result = ir.Constant(self._words, [8192] * (self._lanes // 2)), []
        for x, y in zip(self._parts(builder, a), self._parts(builder, b), strict=True):
            total = [builder.add(part, half) for part in self._pairs(builder, x, y, j, k)]
            result.append(self._joined(builder, total))
        return join(builder, result)

    def _parts(self, builder, value):
        """Split the values of 32 pixels into vectors of `lanes` values."""
        starts = range(0, WIDTH, self._lanes)
        return [shuffle(builder, value, value, list(range(i, i + self._lanes))) for i in starts]

    def _pairs(self, builder, x, y, j, k):
        """Return j x + k y in 32 bits, in the order that `_joined` undoes."""
        n = self._lanes
        low = [lane for start in range(0, n, 8) for i in range(start, start + 4) for lane in (i, n + i)]
        factors = shuffle(builder, repeat(builder, j, n), repeat(builder, k, n), [0, n] * (n // 2))
        both = [shuffle(builder, x, y, lanes) for lanes in (low, [lane + 4 for lane in low])]
        return [call(builder, self._paired, self._words, part, factors) for part in both]

    def _joined(self, builder, total):
        """Shift sums right by 14 bits, and pack them to 16 bits."""
        by = ir.Constant(self._words, [14] * (self._lanes // 2))
        shifted = [builder.ashr(part, by) for part in total]
        return call(builder, self._packed, self._shorts, *shifted)


PORTABLE, AVX2 = Portable(), Halves()
_X86 = "llvm.x86"
AVX512 = Packed(
    32, f"{_X86}.avx512.pmul.hr.sw.512", f"{_X86}.avx512.pmaddw.d.512", f"{_X86}.avx512.packssdw.512"
)
