"""Counting 8-bit pixels as bit planes, in the tier avx512.

512 pixels, transposed, are eight vectors of 512 bits, one for each bit of a pixel. From the planes of the low
nibble come masks that tell where it has each value, from the others those of the high nibble. A value occurs
as often as there are bits set in all of its masks. The values of one high nibble are a *group*: sixteen
sums, which stay in registers while one block after the other is added that has such pixels. Groups outside
the range of a block's pixels are skipped, and most are: a block is 32 columns of 16 rows where the image has
them, since near pixels are alike.

A value costs three instructions a block (and, count bits, add), a block of noise 16 groups of 16 values. A
Xeon (Emerald Rapids) does two a cycle: this and the masks are where all time goes. Tried there without gain:
carry-save adders instead of counting bits (as many instructions); groups that begin at the darkest pixel,
with sums in memory (as fast for photographs, a fifth slower for noise); beside the blocks, pairs of pixels in
counters of a byte, not single ones.
"""

import functools

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from histeq_kernels.cpu._kernel import inline
from histeq_kernels.cpu._vector import (
    _call,
    _everywhere,
    _load,
    _masked_load,
    _store,
    _word,
    address_in,
    address_of,
    part_i64,
)

WIDE, TALL = 32, 16
"""Columns and rows of a block. 64 x 8 costs 4 to 9 % more groups in photographs, 512 x 1 twice as many."""
BLOCKS = 32
"""Blocks that are counted together: their masks stay in the first-level cache."""
SUMS = 4096
"""Entries of uint32 for the sums: eight lanes of 64 bits a value."""
_BESIDE = 16  # pixels counted one by one beside a group of a block, in eight tables behind the sums
_MOST_BESIDE = 16 * BLOCKS * _BESIDE
_LARGE = 1 << 15  # pixels of contiguous rows worth it
_MASKS = 16  # a block's: four each for the values of bits 0 and 1, 2 and 3, 4 and 5, 6 and 7
ROOM = (_MASKS * BLOCKS + 1 + 8) * 16
"""Entries of uint32 for masks, for which groups blocks have, and for one block."""

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_V64, _Q8, _ROW = ir.VectorType(_I8, 64), ir.VectorType(_I64, 8), ir.VectorType(_I8, WIDE)
_GROUPS = ir.VectorType(_I16, BLOCKS)


@inline
def rows_sliced(image, scratch, start, slice_block):
    """Count a (depth, rows, columns) image with contiguous rows, beside blocks too: see `count_sliced`."""
    height, width = np.uint64(image.shape[1]), np.uint64(image.shape[2])
    for z in range(np.uint64(image.shape[0])):
        first = address_of(image, z, np.uint64(0))
        count_sliced(first, height, width, np.uint64(image.strides[1]), scratch, start, slice_block, True)


@inline
def count_sliced(first, height, width, stride, scratch, start, slice_block, beside):
    """Count rows, `stride` bytes apart from the address `first` on, into the sums, first in the scratch.

    From entry `start` on it has `ROOM` of any content. Both parts begin with a cache line. With `beside`,
    some pixels are counted in tables behind the sums: `fold_rows` ends the counting, else `fold_sliced`.
    """
    one, wide = np.uint64(1), np.uint64(WIDE)
    across = (width + wide - one) // wide
    if stride == width and (across * wide - width) * np.uint64(8) > width:  # much would be filled up
        height, width, across = one, height * width, (height * width + wide - one) // wide
    images, rows, columns, pitch, end = one, height, width, stride, width
    if height < np.uint64(TALL // 2):  # each row as rows of a block's width
        images, rows, columns, pitch = height, across, wide, wide
        end = width + wide - rows * wide
    for i in range(images):
        count_rectangle(first + i * stride, rows, columns, pitch, end, scratch, start, slice_block, beside)


@inline
def count_rectangle(first, height, width, stride, end, scratch, start, slice_block, beside):
    """Count rows of a width, the last of them up to column `end`.

    Of many contiguous rows the last pixels may be counted beside the blocks, from address `tail` down, by
    scalar instructions: those find room between the vectors, most where blocks have many groups.
    """
    wide, tall, most, filled = np.uint64(WIDE), np.uint64(TALL), np.uint64(BLOCKS), np.uint64(0)
    sums, masks = part_i64(scratch, 0, SUMS // 2), address_in(scratch, np.uint64(start))
    groups, zero, one, y = masks + np.uint64(_MASKS * 64 * BLOCKS), np.uint64(0), np.uint64(1), np.uint64(0)
    tail = first + (height - one) * stride + end
    if not beside or stride != width or height * width < np.uint64(_LARGE):
        tail = zero
    while y < height:
        rows = min(tall, height - y)
        bottom = first + (y + rows) * stride
        if zero < tail < bottom:  # they have met: what is left is less than the rows of a block
            first, y = first + y * stride, zero
            left, tail = tail - first, zero
            if left < np.uint64(TALL // 2) * width:
                stride, width = wide, wide
            height = (left + width - one) // width
            end = left + width - height * width
            continue
        for x in range(zero, width, wide):
            columns, source, pitch = min(wide, width - x), first + y * stride + x, stride
            last = min(columns, max(end, x) - x) if y + rows == height else columns
            if rows < tall or last < wide:
                block = groups + np.uint64(64)
                value = fill_block(source, stride, rows, columns, last, block)
                sums[np.uint64(8) * value] -= np.int64(wide * tall - (rows - np.uint64(1)) * columns - last)
                source, pitch = block, wide
            slice_block(source, pitch, masks, groups, filled)
            filled += np.uint64(1)
            if filled == most:
                reach = tail if tail >= bottom + np.uint64(_MOST_BESIDE) else zero
                tail -= count_blocks(masks, groups, filled, scratch, reach)
                filled = zero
        y += rows
    count_blocks(masks, groups, filled, scratch, zero)


@inline
def count_blocks(masks, groups, filled, scratch, tail):
    """Add the counts of some blocks to the sums; return how many pixels before `tail` were counted, too."""
    sums, all_of_them = address_in(scratch, np.uint64(0)), (np.uint64(1) << filled) - np.uint64(1)
    taken = np.uint64(0)
    for high in range(np.uint64(16)):
        blocks = blocks_with(groups, high) & all_of_them
        if blocks:
            taken += count_group(masks, blocks, high, sums, tail - taken if tail else tail)
    return taken


@inline
def fold_rows(scratch, counts):
    """Add the sums, and the tables of pixels counted beside blocks, to `counts`; leave zeros."""
    fold_sliced(scratch, counts)
    add_up_tables(address_in(scratch, np.uint64(SUMS)), address_in(counts, np.uint64(0)))


@inline
def fold_sliced(scratch, counts):
    """Add the sums to `counts`; leave zeros."""
    add_up_sums(address_in(scratch, np.uint64(0)), address_in(counts, np.uint64(0)))


def _slice_block(transpose):
    """Return the intrinsic that writes the masks of a block, with one way to transpose bits."""

    @intrinsic
    def slice_block(typingctx, source, stride, masks, groups, block):
        """Write the masks of a block, rows `stride` bytes apart, and a bit for each group it may have.

        The order of the pixels is the same in all masks, which is all that counting needs.
        """

        def codegen(context, builder, signature, args):
            source, stride, masks, groups, block = args
            pixels = _load_block(builder, source, stride)
            planes = _bit_planes(builder, pixels, transpose)
            target = builder.inttoptr(masks, _Q8.as_pointer())
            for k in range(_MASKS):
                mask = _with_bits(builder, planes[k // 4 * 2], planes[k // 4 * 2 + 1], k % 4)
                at = builder.add(builder.mul(block, _word(_MASKS)), _word(k))
                _store(builder, mask, builder.gep(target, [at]))
            entry = builder.gep(builder.inttoptr(groups, _I16.as_pointer()), [block])
            builder.store(_groups_of(builder, pixels), entry)
            return context.get_dummy_value()

        word = types.uint64
        return types.void(word, word, word, word, word), codegen

    return slice_block


@intrinsic
def blocks_with(typingctx, groups, high):
    """Return a bit for each block that may have pixels of a group."""

    def codegen(context, builder, signature, args):
        each = _load(builder, builder.inttoptr(args[0], _GROUPS.as_pointer()))
        bit = builder.shl(_I16(1), builder.trunc(args[1], _I16))
        some = builder.and_(each, _everywhere(builder, bit, _GROUPS))
        some = builder.icmp_unsigned("!=", some, ir.Constant(_GROUPS, [0] * BLOCKS))
        return builder.zext(builder.bitcast(some, ir.IntType(BLOCKS)), _I64)

    return types.uint64(types.uint64, types.uint64), codegen


@intrinsic
def count_group(typingctx, masks, blocks, high, sums, tail):
    """Add the pixels of some blocks (a bit each) to sums[16 * high + low], eight lanes each, for each low.

    Unless `tail` is 0, pixels before that address are counted beside it, as many as are returned.
    """

    def codegen(context, builder, signature, args):
        masks, blocks, high, sums, tail = args
        source, target = (builder.inttoptr(address, _Q8.as_pointer()) for address in (masks, sums))
        tables = builder.inttoptr(builder.add(sums, _word(4 * SUMS)), _I32.as_pointer())
        first = builder.gep(target, [builder.mul(high, _word(16))])
        lower = builder.add(builder.and_(high, _word(3)), _word(8))
        upper = builder.add(builder.lshr(high, _word(2)), _word(12))
        totals = [cgutils.alloca_once_value(builder, ir.Constant(_Q8, [0] * 8)) for _ in range(16)]
        for total in totals:
            builder.store(ir.Constant(_Q8, [0] * 8), total)
        left, count = cgutils.alloca_once_value(builder, blocks), builder.ctpop(blocks)
        builder.store(blocks, left)
        beside = builder.icmp_unsigned("!=", tail, _word(0))
        with cgutils.for_range(builder, count) as loop:
            with builder.if_then(beside):
                after = builder.mul(builder.add(loop.index, _word(1)), _word(_BESIDE))
                _count_beside(builder, builder.sub(tail, after), tables)
            some = builder.load(left)
            builder.store(builder.and_(some, builder.sub(some, _word(1))), left)
            own = builder.gep(source, [builder.mul(builder.cttz(some, ir.IntType(1)(1)), _word(_MASKS))])
            mask = builder.and_(*(_load(builder, builder.gep(own, [k])) for k in (lower, upper)))
            quarter = [_load(builder, builder.gep(own, [_word(k)])) for k in range(8)]
            for low, total in enumerate(totals):
                both = builder.and_(builder.and_(quarter[low & 3], quarter[4 + (low >> 2)]), mask)
                bits = _call(builder, "llvm.ctpop.v8i64", _Q8, both)
                builder.store(builder.add(builder.load(total), bits), total)
        for low, total in enumerate(totals):
            at = builder.gep(first, [_word(low)])
            _store(builder, builder.add(_load(builder, at), builder.load(total)), at)
        return builder.select(beside, builder.mul(count, _word(_BESIDE)), _word(0))

    word = types.uint64
    return word(word, word, word, word, word), codegen


def _count_beside(builder, address, tables):
    """Count the pixels from an address on, each in the table of its place in a word."""
    for at in range(0, _BESIDE, 8):
        pointer = builder.inttoptr(builder.add(address, _word(at)), _I64.as_pointer())
        pixels = _load(builder, pointer)
        for k in range(8):
            value = builder.and_(builder.lshr(pixels, _word(8 * k)), _word(255))
            counter = builder.gep(tables, [builder.add(value, _word(256 * k))])
            builder.store(builder.add(builder.load(counter), _I32(1)), counter)


@intrinsic
def add_up_sums(typingctx, sums, counts):
    """Add the eight lanes of each sum to the counts; leave zeros."""

    def codegen(context, builder, signature, args):
        source, target = (builder.inttoptr(address, _Q8.as_pointer()) for address in args)
        with cgutils.for_range(builder, _word(32)) as loop:
            rows = []
            for k in range(8):
                at = builder.gep(source, [builder.add(builder.mul(loop.index, _word(8)), _word(k))])
                rows.append(_load(builder, at))
                _store(builder, ir.Constant(_Q8, [0] * 8), at)
            at = builder.gep(target, [loop.index])
            total = functools.reduce(builder.add, _transposed(builder, rows), _load(builder, at))
            _store(builder, total, at)
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64), codegen


@intrinsic
def add_up_tables(typingctx, tables, counts):
    """Add eight tables of 256 counters of 32 bits to the counts; leave zeros."""

    def codegen(context, builder, signature, args):
        few = ir.VectorType(_I32, 8)
        source, target = (
            builder.inttoptr(args[0], few.as_pointer()),
            builder.inttoptr(args[1], _Q8.as_pointer()),
        )
        with cgutils.for_range(builder, _word(32)) as loop:
            each = [builder.gep(source, [builder.add(loop.index, _word(32 * k))]) for k in range(8)]
            total = functools.reduce(builder.add, [_load(builder, at) for at in each])
            for at in each:
                _store(builder, ir.Constant(few, [0] * 8), at)
            at = builder.gep(target, [loop.index])
            _store(builder, builder.add(_load(builder, at), builder.zext(total, _Q8)), at)
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64), codegen


@intrinsic
def fill_block(typingctx, source, stride, rows, columns, last, block):
    """Copy the first rows and columns of a block, the last row of other length, and return the first pixel.

    It is repeated in the rest of the block.
    """

    def codegen(context, builder, signature, args):
        source, stride, rows, columns, last, block = args
        pixel = builder.load(builder.inttoptr(source, _I8.as_pointer()))
        repeated = _everywhere(builder, pixel, _ROW)
        with cgutils.for_range(builder, _word(TALL)) as loop:
            size = builder.select(builder.icmp_unsigned("<", loop.index, rows), columns, _word(0))
            is_last = builder.icmp_unsigned("==", builder.add(loop.index, _word(1)), rows)
            size = builder.select(is_last, last, size)
            address = builder.add(source, builder.mul(stride, loop.index))
            pixels = _masked_load(builder, address, size, _ROW, repeated)
            address = builder.add(block, builder.mul(loop.index, _word(WIDE)))
            _store(builder, pixels, builder.inttoptr(address, _ROW.as_pointer()))
        return builder.zext(pixel, _I64)

    word = types.uint64
    return word(word, word, word, word, word, word), codegen


def _load_block(builder, source, stride):
    """Load a block as eight vectors, two rows each."""
    rows = []
    for k in range(TALL):
        address = builder.add(source, builder.mul(stride, _word(k)))
        rows.append(_load(builder, builder.inttoptr(address, _ROW.as_pointer())))
    both = ir.Constant(ir.VectorType(_I32, 64), list(range(64)))
    return [builder.shuffle_vector(rows[k], rows[k + 1], both) for k in range(0, TALL, 2)]


def _groups_of(builder, pixels):
    """Return a bit for each group from the darkest pixel's to the brightest one's."""
    limits = []
    for name in ("umin", "umax"):
        extreme = functools.reduce(lambda a, b, n=name: _call(builder, f"llvm.{n}.v64i8", _V64, a, b), pixels)
        limit = _call(builder, f"llvm.vector.reduce.{name}.v64i8", _I8, extreme)
        limits.append(builder.lshr(builder.zext(limit, _I32), _I32(4)))
    upto, below = builder.shl(_I32(2), limits[1]), builder.shl(_I32(1), limits[0])
    return builder.trunc(builder.sub(upto, below), _I16)


def _transpose_gfni(builder, pixels, turn):
    """Transpose the 8 x 8 bits of every word, its bytes turned: byte i becomes bit i + `turn` of the pixels.

    The pixels are a matrix, applied to unit vectors.
    """
    unit = ir.Constant(_V64, [1 << ((i + turn) % 8) for i in range(64)])
    return _call(builder, "llvm.x86.vgf2p8affineqb.512", _V64, unit, pixels, ir.Constant(_I8, 0))


def _transpose_portable(builder, pixels, turn):
    """Transpose the 8 x 8 bits of every word by swapping ever larger squares.

    No tier uses it: it lets processors without AVX-512 test all the rest.
    """
    words = builder.bitcast(pixels, _Q8)
    for shift, mask in ((7, 0x00AA00AA00AA00AA), (14, 0x0000CCCC0000CCCC), (28, 0x00000000F0F0F0F0)):
        by = ir.Constant(_Q8, [shift] * 8)
        swap = builder.xor(words, builder.lshr(words, by))
        swap = builder.and_(swap, ir.Constant(_Q8, [mask] * 8))
        words = builder.xor(builder.xor(words, swap), builder.shl(swap, by))
    return builder.bitcast(_turned(builder, words, turn), _V64)


slice_block_avx512 = _slice_block(_transpose_gfni)
slice_block_portable = _slice_block(_transpose_portable)


def _bit_planes(builder, pixels, transpose):
    """Return the eight bit planes of eight vectors of 64 pixels, one 512-bit vector each.

    Byte i of the words of vector k becomes plane i + k; so byte i of plane b comes from vector b - i, and
    three choices, by the bits of i, bring it there. Turning the bytes back puts the same pixels below each
    other in all planes.
    """
    rows = [transpose(builder, some, k) for k, some in enumerate(pixels)]
    for step in (1, 2, 4):
        moves = ir.Constant(ir.VectorType(ir.IntType(1), 64), [bool(i & step) for i in range(64)])
        rows = [builder.select(moves, rows[b - step], rows[b]) for b in range(8)]
    return [_turned(builder, builder.bitcast(row, _Q8), b) for b, row in enumerate(rows)]


def _turned(builder, words, turn):
    """Turn the bytes of every word, so that the one at `turn` comes first."""
    by = ir.Constant(_Q8, [8 * turn] * 8)
    return _call(builder, "llvm.fshr.v8i64", _Q8, words, words, by) if turn else words


def _transposed(builder, rows):
    """Transpose 8 x 8 words."""
    rows = list(rows)
    for step in (1, 2, 4):
        low = [8 + i - step if i & step else i for i in range(8)]
        high = [8 + i if i & step else i + step for i in range(8)]
        low, high = (ir.Constant(ir.VectorType(_I32, 8), lanes) for lanes in (low, high))
        for i in (i for i in range(8) if not i & step):
            a, b = rows[i], rows[i + step]
            rows[i] = builder.shuffle_vector(a, b, low)
            rows[i + step] = builder.shuffle_vector(a, b, high)
    return rows


def _with_bits(builder, lower, upper, value):
    """Return where two planes have a value of two bits."""
    ones = ir.Constant(_Q8, [-1] * 8)
    if value == 0:
        return builder.xor(builder.or_(lower, upper), ones)
    lower = lower if value & 1 else builder.xor(lower, ones)
    return builder.and_(lower, upper if value & 2 else builder.xor(upper, ones))
