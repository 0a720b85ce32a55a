"""The arithmetic of `scalar.py` for vectors of pixels of 8 bits, with 32-bit, 16-bit or 8-bit products.

The channels, and their Y, are vectors of bytes. An arithmetic works on `width` pixels at a time, and is
`masked` if vectors of fewer bytes can be loaded and stored.
"""

from histeq_kernels.cpu.core.llvm import I8, I16, I32, call
from histeq_kernels.cpu.ycrcb.interleave import luma_quads, separate
from histeq_kernels.cpu.ycrcb.lanes import clamp, equal, minimum, repeat, unpacked, vector_of


class Portable:
    """Arithmetic with 32-bit products, in instructions that every processor has."""

    width, masked = 32, False

    def luma(self, builder, load, stride, factor):
        """Return Y of the pixels that `load` gives: see `interleave.separate`."""
        total = equal(vector_of(I32, self.width), 8192)
        for channel, k in zip(separate(builder, load, stride, self.width)[:3], factor[:3], strict=True):
            wide = builder.zext(channel, total.type)
            total = builder.add(total, builder.mul(wide, repeat(builder, builder.sext(k, I32), self.width)))
        return builder.trunc(builder.lshr(total, equal(total.type, 14)), vector_of(I8, self.width))

    def replaced(self, builder, channels, old, new, factor):
        """Return the three channels with Y replaced."""
        first, third, y, new = (
            builder.zext(value, vector_of(I16, self.width)) for value in (channels[0], channels[2], old, new)
        )
        result = _replaced(builder, self, (first, third), y, new, factor[3:])
        result = [clamp(builder, value, 0, 255) for value in result]
        return [builder.trunc(value, vector_of(I8, self.width)) for value in result]

    def scaled(self, builder, value, k):
        """Return (k value + 2**14) >> 15."""
        product = self._product(builder, value, k)
        product = builder.ashr(builder.add(product, equal(product.type, 1 << 14)), equal(product.type, 15))
        return builder.trunc(product, value.type)

    def mixed(self, builder, a, b, j, k):
        """Return (j a + k b + 2**13) >> 14."""
        total = builder.add(self._product(builder, a, j), self._product(builder, b, k))
        total = builder.ashr(builder.add(total, equal(total.type, 8192)), equal(total.type, 14))
        return builder.trunc(total, a.type)

    def _product(self, builder, value, k):
        """Return k value in 32 bits."""
        wide = builder.sext(value, vector_of(I32, self.width))
        return builder.mul(wide, repeat(builder, builder.sext(k, I32), self.width))


class Halves:
    """Arithmetic with 16-bit products (`vpmulhrsw`, `vpmaddwd`).

    Bytes become wider, and narrow again, within each 128 bits of a vector, as the unpacking and packing
    instructions do it: two vectors of 16 bits have the lower and the upper eight pixels of each 16.
    """

    masked = False

    def __init__(self, width: int, scaled: str, summed: str, to_words: str, to_bytes: str) -> None:
        self.width = width
        self._scaled, self._summed, self._to_words, self._to_bytes = scaled, summed, to_words, to_bytes
        self._bytes, self._words, self._doubles = (
            vector_of(kind, width * 8 // kind.width) for kind in (I8, I16, I32)
        )

    def luma(self, builder, load, stride, factor):
        """Return Y of the pixels that `load` gives: see `interleave.separate`."""
        first, second, third = separate(builder, load, stride, self.width)[:3]
        pairs = unpacked(builder, first, second), unpacked(builder, third, equal(self._bytes, 1))
        factors = self._both(builder, *factor[:2]), self._both(builder, factor[2], I16(8192))
        totals = [
            builder.add(*(self._sums(builder, pair, k) for pair, k in zip(both, factors, strict=True)))
            for low_and_high in zip(*pairs, strict=True)
            for both in zip(*(self._as_words(builder, pair) for pair in low_and_high), strict=True)
        ]
        return self._packed(builder, [builder.lshr(total, equal(self._doubles, 14)) for total in totals])

    def replaced(self, builder, channels, old, new, factor):
        """Return the three channels with Y replaced."""
        first, third, y, new = (
            self._as_words(builder, value) for value in (channels[0], channels[2], old, new)
        )
        k = [repeat(builder, value, self._words.count) for value in factor[3:]]
        halves = [
            _replaced(builder, self, ends, *lumas, k)
            for ends, *lumas in zip(zip(first, third, strict=True), y, new, strict=True)
        ]
        return [call(builder, self._to_bytes, self._bytes, *both) for both in zip(*halves, strict=True)]

    def scaled(self, builder, value, k):
        """Return (k value + 2**14) >> 15."""
        return call(builder, self._scaled, self._words, value, k)

    def mixed(self, builder, a, b, j, k):
        """Return (j a + k b + 2**13) >> 14."""
        factors, half = unpacked(builder, j, k)[0], equal(self._doubles, 8192)
        totals = [builder.add(half, self._sums(builder, pairs, factors)) for pairs in unpacked(builder, a, b)]
        totals = [builder.ashr(total, equal(self._doubles, 14)) for total in totals]
        return call(builder, self._to_words, self._words, *totals)

    def _as_words(self, builder, value):
        """Return bytes as 16 bits, the lower and the upper eight of each 16."""
        parts = unpacked(builder, value, equal(self._bytes, 0))
        return [builder.bitcast(part, self._words) for part in parts]

    def _both(self, builder, j, k):
        """Return a vector with two values in turns."""
        return unpacked(builder, *(repeat(builder, value, self._words.count) for value in (j, k)))[0]

    def _sums(self, builder, pairs, factors):
        """Return the sums of the products of pairs of 16 bits."""
        return call(builder, self._summed, self._doubles, pairs, factors)

    def _packed(self, builder, quarters):
        """Return four vectors of 32 bits as bytes."""
        words = [call(builder, self._to_words, self._words, *quarters[i : i + 2]) for i in (0, 2)]
        return call(builder, self._to_bytes, self._bytes, *words)


class Quads(Halves):
    """The same, but for Y by sums of four 8-bit products (`vpdpbusd`), with masks."""

    masked = True

    def luma(self, builder, load, stride, factor):
        """Return Y of the pixels that `load` gives: see `interleave.separate`."""
        quads, in_order = luma_quads(builder, load, stride)
        high, low = self._split(builder, factor[:3])
        totals = []
        for quad in quads:
            pixels = builder.bitcast(quad, self._doubles)
            total = self._sums_of_four(builder, equal(self._doubles, 8192 >> 8), pixels, high)
            total = builder.shl(total, equal(self._doubles, 8))
            total = self._sums_of_four(builder, total, pixels, low)
            totals.append(builder.lshr(total, equal(self._doubles, 14)))
        return in_order(self._packed(builder, totals))

    def _split(self, builder, factors):
        """Return the high bytes of three factors in each 32 bits, and the low ones; 0 is the fourth.

        All are signed: a factor is 256 times its high byte, plus its low one.
        """
        parts = [], []
        for c, k in enumerate(factors):
            rounded = builder.add(builder.zext(k, I32), I32(128))
            for part, value in zip(parts, (builder.lshr(rounded, I32(8)), builder.zext(k, I32)), strict=True):
                part.append(builder.shl(builder.and_(value, I32(255)), I32(8 * c)))
        words = [builder.or_(builder.or_(*part[:2]), part[2]) for part in parts]
        return [repeat(builder, word, self._doubles.count) for word in words]

    def _sums_of_four(self, builder, total, pixels, factors):
        """Return a total plus the sums of the products of four bytes."""
        return call(builder, "llvm.x86.avx512.vpdpbusd.512", self._doubles, total, pixels, factors)


def _replaced(builder, arithmetic, ends, y, new, k):
    """Return the three channels with Y replaced, not yet clamped, of the two outer ones, as 16 bits.

    The difference of a channel and its Y is never so low that Cr or Cb must be clamped to 0.
    """
    differences, result = [], []
    for channel, to_difference, back in zip(ends, k[:2], k[2:4], strict=True):
        d = arithmetic.scaled(builder, builder.sub(channel, y), to_difference)
        d = minimum(builder, d, 127)
        differences.append(d)
        result.append(builder.add(new, builder.add(d, arithmetic.scaled(builder, d, back))))
    middle = builder.add(new, arithmetic.mixed(builder, *differences, *k[4:6]))
    return result[0], middle, result[1]


PORTABLE = Portable()
AVX2 = Halves(32, *(f"llvm.x86.avx2.{name}" for name in ("pmul.hr.sw", "pmadd.wd", "packssdw", "packuswb")))
AVX512 = Quads(
    64, *(f"llvm.x86.avx512.{name}.512" for name in ("pmul.hr.sw", "pmaddw.d", "packssdw", "packuswb"))
)
