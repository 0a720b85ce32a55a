"""The vector instructions of `bitplanes.py` that count the masks which `bitplane_vectors.py` makes."""

import functools

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from histeq_kernels.cpu.core.llvm import I16, I32, I64, I8x32, I16x16, I32x16, I64x8, call, i64, load, store
from histeq_kernels.cpu.histogram.bitplane_vectors import BLOCKS, MASKS

COUNTERS = 256
"""Counters of values, uint32. They are followed by the tables of the pixels counted one by one."""
TABLES = 8 * COUNTERS
"""Entries of these tables, one for each pixel of a word: equal neighbours need not wait for a store."""
BESIDE = 16
"""Pixels counted one by one during each group of a block."""


@intrinsic
def blocks_with(typingctx, groups, high):
    """Return a bit for each block, set if the block has pixels of the group `high`."""

    def codegen(context, builder, signature, args):
        at = builder.gep(builder.inttoptr(args[0], I8x32.as_pointer()), [args[1]])
        some = builder.icmp_unsigned("!=", load(builder, at), ir.Constant(I8x32, [0] * BLOCKS))
        return builder.zext(builder.bitcast(some, ir.IntType(BLOCKS)), I64)

    return types.uint64(types.uint64, types.uint64), codegen


@intrinsic
def count_group(typingctx, masks, blocks, high, counters, tail):
    """Add the pixels of the selected blocks to the counters of a group.

    `blocks` has a bit for each block. Unless `tail` is 0, pixels before that address are counted at the same
    time; their number is returned.
    """

    def codegen(context, builder, signature, args):
        masks, blocks, high, counters, tail = args
        source = builder.inttoptr(masks, I64x8.as_pointer())
        tables = builder.inttoptr(builder.add(counters, i64(4 * COUNTERS)), I32.as_pointer())
        lower = builder.add(builder.and_(high, i64(3)), i64(8))
        upper = builder.add(builder.lshr(high, i64(2)), i64(12))
        totals = [cgutils.alloca_once_value(builder, ir.Constant(I64x8, [0] * 8)) for _ in range(16)]
        for total in totals:
            builder.store(ir.Constant(I64x8, [0] * 8), total)
        left, count = cgutils.alloca_once_value(builder, blocks), builder.ctpop(blocks)
        builder.store(blocks, left)
        beside = builder.icmp_unsigned("!=", tail, i64(0))
        with cgutils.for_range(builder, count) as loop:
            with builder.if_then(beside):
                after = builder.mul(builder.add(loop.index, i64(1)), i64(BESIDE))
                _count_beside(builder, builder.sub(tail, after), tables)
            some = builder.load(left)
            builder.store(builder.and_(some, builder.sub(some, i64(1))), left)
            own = builder.gep(source, [builder.mul(builder.cttz(some, ir.IntType(1)(1)), i64(MASKS))])
            mask = builder.and_(*(load(builder, builder.gep(own, [k])) for k in (lower, upper)))
            quarter = [load(builder, builder.gep(own, [i64(k)])) for k in range(8)]
            for low, total in enumerate(totals):
                both = builder.and_(builder.and_(quarter[low & 3], quarter[4 + (low >> 2)]), mask)
                bits = call(builder, "llvm.ctpop.v8i64", I64x8, both)
                builder.store(builder.add(builder.load(total), bits), total)
        found = _sums_of_lanes(builder, [builder.load(total) for total in totals])
        at = builder.gep(builder.inttoptr(counters, I32x16.as_pointer()), [high])
        store(builder, builder.add(load(builder, at), builder.zext(found, I32x16)), at)
        return builder.select(beside, builder.mul(count, i64(BESIDE)), i64(0))

    word = types.uint64
    return word(word, word, word, word, word), codegen


def _sums_of_lanes(builder, totals):
    """Return the sum of the eight lanes of each of 16 vectors, as 16 numbers of 16 bits.

    No sum reaches 2**16, since the masks of 32 blocks have 2**14 bits. So four vectors fit into one.
    """
    packed = []
    for k in range(0, 16, 4):
        parts = [
            builder.shl(total, ir.Constant(I64x8, [16 * i] * 8)) for i, total in enumerate(totals[k : k + 4])
        ]
        packed.append(functools.reduce(builder.or_, parts))
    pairs = [
        _sum_of_two(builder, *packed[k : k + 2], ([0, 8, 2, 10, 4, 12, 6, 14], [1, 9, 3, 11, 5, 13, 7, 15]))
        for k in (0, 2)
    ]
    both = _sum_of_two(builder, *pairs, ([0, 1, 8, 9, 2, 3, 10, 11], [4, 5, 12, 13, 6, 7, 14, 15]))
    return builder.bitcast(_sum_of_two(builder, both, both, ([0, 1, 2, 3], [4, 5, 6, 7])), I16x16)


def _sum_of_two(builder, a, b, lanes):
    """Return the sum of two selections of the words of two vectors, of four numbers of 16 bits each."""
    chosen = []
    for some in lanes:
        order = ir.Constant(ir.VectorType(I32, len(some)), some)
        words = builder.shuffle_vector(a, b, order)
        chosen.append(builder.bitcast(words, ir.VectorType(I16, 4 * len(some))))
    return builder.bitcast(builder.add(*chosen), words.type)


def _count_beside(builder, address, tables):
    """Count the pixels from an address on; each position in a word has its own table."""
    for at in range(0, BESIDE, 8):
        pointer = builder.inttoptr(builder.add(address, i64(at)), I64.as_pointer())
        pixels = load(builder, pointer)
        for k in range(8):
            value = builder.and_(builder.lshr(pixels, i64(8 * k)), i64(255))
            counter = builder.gep(tables, [builder.add(value, i64(256 * k))])
            builder.store(builder.add(builder.load(counter), I32(1)), counter)
