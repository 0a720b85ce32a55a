"""The arithmetic of `scalar.py` for 32 pixels of 8 bits, with 32-bit or 16-bit products."""

from llvmlite import ir

from histeq_kernels.cpu.core.llvm import I8, I16, I32, call
from histeq_kernels.cpu.ycrcb.lanes import WIDTH, constant, join, repeat, shuffle, vector_of


class Portable:
    """Arithmetic with 32-bit products of all 32 pixels, in instructions that every processor has."""

    @staticmethod
    def luma(builder, channels, factor):
        """Return Y of the pixels, bytes."""
        total = constant(I32, 8192)
        for channel, k in zip(channels, factor[:3], strict=True):
            wide = builder.zext(channel, vector_of(I32))
            total = builder.add(total, builder.mul(wide, repeat(builder, builder.sext(k, I32), WIDTH)))
        return builder.trunc(builder.lshr(total, constant(I32, 14)), vector_of(I8))

    @staticmethod
    def scale(builder, value, k):
        """Return (k value + 2**14) >> 15."""
        product = Portable.product(builder, value, k)
        product = builder.ashr(builder.add(product, constant(I32, 1 << 14)), constant(I32, 15))
        return builder.trunc(product, vector_of(I16))

    @staticmethod
    def mix(builder, a, b, j, k):
        """Return (j a + k b + 2**13) >> 14."""
        total = builder.add(Portable.product(builder, a, j), Portable.product(builder, b, k))
        total = builder.ashr(builder.add(total, constant(I32, 8192)), constant(I32, 14))
        return builder.trunc(total, vector_of(I16))

    @staticmethod
    def product(builder, value, k):
        """Return k value in 32 bits."""
        wide = builder.sext(value, vector_of(I32))
        return builder.mul(wide, repeat(builder, builder.sext(k, I32), WIDTH))


class Packed:
    """Arithmetic with 16-bit products of as many pixels as fit into a vector (`vpmulhrsw`, `vpmaddwd`)."""

    def __init__(self, lanes: int, scaled: str, paired: str, packed: str) -> None:
        self._lanes, self._scaled, self._paired, self._packed = lanes, scaled, paired, packed
        self._shorts, self._words = ir.VectorType(I16, lanes), ir.VectorType(I32, lanes // 2)

    def luma(self, builder, channels, factor):
        """Return Y of the pixels, bytes."""
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


_X86 = "llvm.x86"
AVX2 = Packed(16, f"{_X86}.avx2.pmul.hr.sw", f"{_X86}.avx2.pmadd.wd", f"{_X86}.avx2.packssdw")
AVX512 = Packed(
    32, f"{_X86}.avx512.pmul.hr.sw.512", f"{_X86}.avx512.pmaddw.d.512", f"{_X86}.avx512.packssdw.512"
)
