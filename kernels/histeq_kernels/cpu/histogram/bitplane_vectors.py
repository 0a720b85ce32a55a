"""The vector instructions of `bitplanes.py`, which turn blocks of pixels into bit masks and count these."""

import functools

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from histeq_kernels.cpu.core.llvm import (
    I8,
    I16,
    I32,
    I64,
    I8x64,
    I64x8,
    call,
    i64,
    load,
    masked_load,
    splat,
    store,
)

WIDE, TALL = 32, 16
"""Columns and rows of a block. In photographs 64 x 8 have 4 to 9 % more groups, 512 x 1 twice as many."""
BLOCKS = 32
"""Blocks that are counted together: their masks stay in the first-level cache."""
SUMS = 4096
"""The size of the sums in uint32: eight 64-bit lanes for each value."""
BESIDE = 16
"""Pixels counted one by one during each group of a block, in eight tables that follow the sums."""
MASKS = 16
"""Masks of a block: one for each of the four values of bits 0 and 1, 2 and 3, 4 and 5, 6 and 7."""
MASK_ENTRIES = (MASKS * BLOCKS + 1 + 8) * 16
"""The size in uint32 of the masks, of the bits that tell which groups the blocks have, and of one block."""
ROW = ir.VectorType(I8, WIDE)
GROUPS = ir.VectorType(I16, BLOCKS)


def _split_block(transpose):
    """Return the intrinsic that writes the masks of a block, given a function that transposes bits."""

    @intrinsic
    def split_block(typingctx, source, stride, masks, groups, block):
        """Write the masks of a block with rows `stride` bytes apart, and a bit for each group it may have.

        The order of the pixels is the same in all masks, which suffices for counting.
        """

        def codegen(context, builder, signature, args):
            source, stride, masks, groups, block = args
            pixels = _load_block(builder, source, stride)
            planes = _bit_planes(builder, pixels, transpose)
            target = builder.inttoptr(masks, I64x8.as_pointer())
            for k in range(MASKS):
                mask = _with_bits(builder, planes[k // 4 * 2], planes[k // 4 * 2 + 1], k % 4)
                at = builder.add(builder.mul(block, i64(MASKS)), i64(k))
                store(builder, mask, builder.gep(target, [at]))
            entry = builder.gep(builder.inttoptr(groups, I16.as_pointer()), [block])
            builder.store(_groups_of(builder, pixels), entry)
            return context.get_dummy_value()

        word = types.uint64
        return types.void(word, word, word, word, word), codegen

    return split_block


@intrinsic
def blocks_with(typingctx, groups, high):
    """Return a bit for each block, set if the block may have pixels of the group `high`."""

    def codegen(context, builder, signature, args):
        each = load(builder, builder.inttoptr(args[0], GROUPS.as_pointer()))
        bit = builder.shl(I16(1), builder.trunc(args[1], I16))
        some = builder.and_(each, splat(builder, bit, GROUPS))
        some = builder.icmp_unsigned("!=", some, ir.Constant(GROUPS, [0] * BLOCKS))
        return builder.zext(builder.bitcast(some, ir.IntType(BLOCKS)), I64)

    return types.uint64(types.uint64, types.uint64), codegen


@intrinsic
def count_group(typingctx, masks, blocks, high, sums, tail):
    """Add the pixels of the selected blocks to sums[16 * high + low], of eight lanes, for each `low`.

    `blocks` has a bit for each block. Unless `tail` is 0, pixels before that address are counted at the same
    time; their number is returned.
    """

    def codegen(context, builder, signature, args):
        masks, blocks, high, sums, tail = args
        source, target = (builder.inttoptr(address, I64x8.as_pointer()) for address in (masks, sums))
        tables = builder.inttoptr(builder.add(sums, i64(4 * SUMS)), I32.as_pointer())
        first = builder.gep(target, [builder.mul(high, i64(16))])
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
        for low, total in enumerate(totals):
            at = builder.gep(first, [i64(low)])
            store(builder, builder.add(load(builder, at), builder.load(total)), at)
        return builder.select(beside, builder.mul(count, i64(BESIDE)), i64(0))

    word = types.uint64
    return word(word, word, word, word, word), codegen


def _count_beside(builder, address, tables):
    """Count the pixels from an address on; each position in a word has its own table."""
    for at in range(0, BESIDE, 8):
        pointer = builder.inttoptr(builder.add(address, i64(at)), I64.as_pointer())
        pixels = load(builder, pointer)
        for k in range(8):
            value = builder.and_(builder.lshr(pixels, i64(8 * k)), i64(255))
            counter = builder.gep(tables, [builder.add(value, i64(256 * k))])
            builder.store(builder.add(builder.load(counter), I32(1)), counter)


@intrinsic
def add_up_sums(typingctx, sums, counts):
    """Add the eight lanes of each sum to the counts, and reset the sums."""

    def codegen(context, builder, signature, args):
        source, target = (builder.inttoptr(address, I64x8.as_pointer()) for address in args)
        with cgutils.for_range(builder, i64(32)) as loop:
            rows = []
            for k in range(8):
                at = builder.gep(source, [builder.add(builder.mul(loop.index, i64(8)), i64(k))])
                rows.append(load(builder, at))
                store(builder, ir.Constant(I64x8, [0] * 8), at)
            at = builder.gep(target, [loop.index])
            total = functools.reduce(builder.add, _transposed(builder, rows), load(builder, at))
            store(builder, total, at)
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64), codegen


@intrinsic
def add_up_tables(typingctx, tables, counts):
    """Add eight tables of 256 32-bit counters to the counts, and reset the tables."""

    def codegen(context, builder, signature, args):
        few = ir.VectorType(I32, 8)
        source, target = (
            builder.inttoptr(args[0], few.as_pointer()),
            builder.inttoptr(args[1], I64x8.as_pointer()),
        )
        with cgutils.for_range(builder, i64(32)) as loop:
            each = [builder.gep(source, [builder.add(loop.index, i64(32 * k))]) for k in range(8)]
            total = functools.reduce(builder.add, [load(builder, at) for at in each])
            for at in each:
                store(builder, ir.Constant(few, [0] * 8), at)
            at = builder.gep(target, [loop.index])
            store(builder, builder.add(load(builder, at), builder.zext(total, I64x8)), at)
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64), codegen


@intrinsic
def fill_block(typingctx, source, stride, rows, columns, last, block):
    """Fill a block from `rows` rows of `columns` pixels, the last row of `last`, and return the first pixel.

    The rest of the block repeats the first pixel.
    """

    def codegen(context, builder, signature, args):
        source, stride, rows, columns, last, block = args
        pixel = builder.load(builder.inttoptr(source, I8.as_pointer()))
        repeated = splat(builder, pixel, ROW)
        with cgutils.for_range(builder, i64(TALL)) as loop:
            size = builder.select(builder.icmp_unsigned("<", loop.index, rows), columns, i64(0))
            is_last = builder.icmp_unsigned("==", builder.add(loop.index, i64(1)), rows)
            size = builder.select(is_last, last, size)
            address = builder.add(source, builder.mul(stride, loop.index))
            pixels = masked_load(builder, address, size, ROW, repeated)
            address = builder.add(block, builder.mul(loop.index, i64(WIDE)))
            store(builder, pixels, builder.inttoptr(address, ROW.as_pointer()))
        return builder.zext(pixel, I64)

    word = types.uint64
    return word(word, word, word, word, word, word), codegen


def _load_block(builder, source, stride):
    """Load a block as eight vectors, two rows each."""
    rows = []
    for k in range(TALL):
        address = builder.add(source, builder.mul(stride, i64(k)))
        rows.append(load(builder, builder.inttoptr(address, ROW.as_pointer())))
    both = ir.Constant(ir.VectorType(I32, 64), list(range(64)))
    return [builder.shuffle_vector(rows[k], rows[k + 1], both) for k in range(0, TALL, 2)]


def _groups_of(builder, pixels):
    """Return a bit for each group, set from the group of the darkest pixel to that of the brightest one."""
    limits = []
    for name in ("umin", "umax"):
        extreme = functools.reduce(lambda a, b, n=name: call(builder, f"llvm.{n}.v64i8", I8x64, a, b), pixels)
        limit = call(builder, f"llvm.vector.reduce.{name}.v64i8", I8, extreme)
        limits.append(builder.lshr(builder.zext(limit, I32), I32(4)))
    upto, below = builder.shl(I32(2), limits[1]), builder.shl(I32(1), limits[0])
    return builder.trunc(builder.sub(upto, below), I16)


def _transpose_gfni(builder, pixels, rotation):
    """Transpose the 8 x 8 bits of every word; byte i of the result holds bit i + `rotation` of the pixels.

    The pixels are the matrix of an affine transformation, which is applied to unit vectors.
    """
    unit = ir.Constant(I8x64, [1 << ((i + rotation) % 8) for i in range(64)])
    return call(builder, "llvm.x86.vgf2p8affineqb.512", I8x64, unit, pixels, ir.Constant(I8, 0))


def _transpose_portable(builder, pixels, rotation):
    """Transpose the 8 x 8 bits of every word by swapping ever larger squares.

    No tier uses this function; it allows testing the other functions on processors without AVX-512.
    """
    words = builder.bitcast(pixels, I64x8)
    for shift, mask in ((7, 0x00AA00AA00AA00AA), (14, 0x0000CCCC0000CCCC), (28, 0x00000000F0F0F0F0)):
        by = ir.Constant(I64x8, [shift] * 8)
        swap = builder.xor(words, builder.lshr(words, by))
        swap = builder.and_(swap, ir.Constant(I64x8, [mask] * 8))
        words = builder.xor(builder.xor(words, swap), builder.shl(swap, by))
    return builder.bitcast(_rotated(builder, words, rotation), I8x64)


split_block_gfni = _split_block(_transpose_gfni)
split_block_portable = _split_block(_transpose_portable)


def _bit_planes(builder, pixels, transpose):
    """Return the eight bit planes of eight vectors of 64 pixels, one 512-bit vector each.

    Byte i of the words of vector k becomes plane i + k. So byte i of plane b comes from vector b - i, and
    three selections, one for each bit of i, move it there. Rotating the bytes back aligns the pixels of all
    planes.
    """
    rows = [transpose(builder, some, k) for k, some in enumerate(pixels)]
    for step in (1, 2, 4):
        moves = ir.Constant(ir.VectorType(ir.IntType(1), 64), [bool(i & step) for i in range(64)])
        rows = [builder.select(moves, rows[b - step], rows[b]) for b in range(8)]
    return [_rotated(builder, builder.bitcast(row, I64x8), b) for b, row in enumerate(rows)]


def _rotated(builder, words, rotation):
    """Rotate the bytes of every word, so that the one at `rotation` comes first."""
    by = ir.Constant(I64x8, [8 * rotation] * 8)
    return call(builder, "llvm.fshr.v8i64", I64x8, words, words, by) if rotation else words


def _transposed(builder, rows):
    """Transpose 8 x 8 words."""
    rows = list(rows)
    for step in (1, 2, 4):
        low = [8 + i - step if i & step else i for i in range(8)]
        high = [8 + i if i & step else i + step for i in range(8)]
        low, high = (ir.Constant(ir.VectorType(I32, 8), lanes) for lanes in (low, high))
        for i in (i for i in range(8) if not i & step):
            a, b = rows[i], rows[i + step]
            rows[i] = builder.shuffle_vector(a, b, low)
            rows[i + step] = builder.shuffle_vector(a, b, high)
    return rows


def _with_bits(builder, lower, upper, value):
    """Return the mask of the pixels whose two bits, in two planes, have a value."""
    ones = ir.Constant(I64x8, [-1] * 8)
    if value == 0:
        return builder.xor(builder.or_(lower, upper), ones)
    lower = lower if value & 1 else builder.xor(lower, ones)
    return builder.and_(lower, upper if value & 2 else builder.xor(upper, ones))
