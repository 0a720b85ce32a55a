"""The tier "avx512" on processors without AVX-512: its instructions, in operations that LLVM has everywhere.

LLVM compiles vectors of 512 bits for any processor; only the intrinsics named after an instruction need it.
"""

import functools
from dataclasses import replace

from histeq_kernels.cpu import tiers
from histeq_kernels.cpu.core import llvm
from histeq_kernels.cpu.core.llvm import I8, I16, I32, I64, I8x64, i64
from llvmlite import ir
from numba.core import cgutils

I16x32 = ir.VectorType(I16, 32)


def emulate():
    """Make the tier "avx512" one of those that run here, and return it."""
    if "avx512" not in tiers.available():
        llvm.EMULATED.update(_INSTRUCTIONS)
        tiers.TIERS["avx512"] = replace(tiers.TIERS["avx512"], needs=frozenset())
        tiers.available.cache_clear()
    return tiers.TIERS["avx512"]


def _constant(kind, value):
    return ir.Constant(kind, [value] * kind.count)


def _shuffle(builder, a, b, lanes):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(lanes)), lanes))


# Loops over bytes compile far faster than what LLVM makes of these instructions otherwise.


def _bytes_of(builder, *vectors):
    """Store vectors of bytes, and return pointers to their first bytes."""
    places = [cgutils.alloca_once_value(builder, vector) for vector in vectors]
    return [builder.bitcast(place, I8.as_pointer()) for place in places]


def _permute_bytes(builder, entries, index):
    """vpermb: entries[index % 64]."""
    table, places = _bytes_of(builder, entries, builder.and_(index, _constant(I8x64, 63)))
    with cgutils.for_range(builder, i64(64)) as loop:
        at = builder.gep(places, [loop.index])
        builder.store(builder.load(builder.gep(table, [builder.zext(builder.load(at), I64)])), at)
    return builder.load(builder.bitcast(places, I8x64.as_pointer()))


def _masked_load(builder, pointer, alignment, mask, others):
    """Load the bytes whose bit is set; the others stay."""
    [result] = _bytes_of(builder, others)
    _copy(builder, mask, builder.bitcast(pointer, I8.as_pointer()), result)
    return builder.load(builder.bitcast(result, pointer.type))


def _masked_store(builder, value, pointer, alignment, mask):
    """Store the bytes whose bit is set."""
    [source] = _bytes_of(builder, value)
    _copy(builder, mask, source, builder.bitcast(pointer, I8.as_pointer()))


def _copy(builder, mask, source, target):
    [bits] = _bytes_of(builder, builder.zext(mask, ir.VectorType(I8, mask.type.count)))
    with cgutils.for_range(builder, i64(mask.type.count)) as loop:
        bit = builder.trunc(builder.load(builder.gep(bits, [loop.index])), ir.IntType(1))
        with builder.if_then(bit):
            byte = builder.load(builder.gep(source, [loop.index]))
            builder.store(byte, builder.gep(target, [loop.index]))


def _affine(builder, x, matrix, constant):
    """vgf2p8affineqb: bit i of each byte is the parity of the byte and row 7 - i of its word's matrix."""
    result = builder.xor(_constant(I8x64, 0), llvm.splat(builder, constant, I8x64))
    for i in range(8):
        row = _shuffle(builder, matrix, matrix, [at // 8 * 8 + 7 - i for at in range(64)])
        bits = llvm.call(builder, "llvm.ctpop.v64i8", I8x64, builder.and_(row, x))
        parity = builder.and_(bits, _constant(I8x64, 1))
        result = builder.xor(result, builder.shl(parity, _constant(I8x64, i)))
    return result


def _scaled(builder, a, b):
    """vpmulhrsw: (a b + 2**14) >> 15 of 16-bit lanes."""
    wide = ir.VectorType(I32, 32)
    product = builder.mul(builder.sext(a, wide), builder.sext(b, wide))
    product = builder.ashr(builder.add(product, _constant(wide, 1 << 14)), _constant(wide, 15))
    return builder.trunc(product, I16x32)


def _sums_of_pairs(builder, a, b):
    """vpmaddwd: the sums of the products of adjacent 16-bit lanes."""
    wide = ir.VectorType(I32, 32)
    product = builder.mul(builder.sext(a, wide), builder.sext(b, wide))
    even, odd = (_shuffle(builder, product, product, list(range(k, 32, 2))) for k in (0, 1))
    return builder.add(even, odd)


def _added_quadruples(builder, total, a, b):
    """vpdpbusd: the sums of the products of four unsigned and four signed bytes, added to a total."""
    wide = ir.VectorType(I32, 64)
    product = builder.mul(
        builder.zext(builder.bitcast(a, I8x64), wide), builder.sext(builder.bitcast(b, I8x64), wide)
    )
    parts = [_shuffle(builder, product, product, list(range(k, 64, 4))) for k in range(4)]
    return functools.reduce(builder.add, parts, total)


def _packed(limits, kind):
    """Return the instruction that saturates signed lanes to half their size, a 128-bit part at a time."""

    def pack(builder, a, b):
        n, low, high = a.type.count, *limits
        part = n // 4
        lanes = [
            lane for at in range(0, n, part) for base in (at, n + at) for lane in range(base, base + part)
        ]
        both = _shuffle(builder, a, b, lanes)
        for bound, sign in ((low, "<"), (high, ">")):
            limit = _constant(both.type, bound)
            both = builder.select(builder.icmp_signed(sign, both, limit), limit, both)
        return builder.trunc(both, kind)

    return pack


_X86 = "llvm.x86"
_INSTRUCTIONS = {
    "llvm.masked.load.v64i8.p0v64i8": _masked_load,
    "llvm.masked.store.v64i8.p0v64i8": _masked_store,
    "llvm.masked.load.v32i8.p0v32i8": _masked_load,
    f"{_X86}.avx512.permvar.qi.512": _permute_bytes,
    f"{_X86}.vgf2p8affineqb.512": _affine,
    f"{_X86}.avx512.pmul.hr.sw.512": _scaled,
    f"{_X86}.avx512.pmaddw.d.512": _sums_of_pairs,
    f"{_X86}.avx512.vpdpbusd.512": _added_quadruples,
    f"{_X86}.avx512.packssdw.512": _packed((-(1 << 15), (1 << 15) - 1), I16x32),
    f"{_X86}.avx512.packuswb.512": _packed((0, 255), I8x64),
}
