"""Counting 8-bit pixels as bit planes, in the tier avx512.

512 pixels, transposed, are eight vectors of 512 bits, one for each bit of a pixel. From four of them come 16
masks: where a pixel's low nibble has each value; from the others those of the high nibble. A value occurs as
often as there are bits set in both of its masks. Where no pixel of a block has a high nibble, its 16 values
are skipped. So a block is 64 columns of 8 rows where the image has them: pixels below each other are as alike
as those beside each other, and half as many high nibbles occur as in 512 pixels of one row.
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
    _load,
    _masked_load,
    _store,
    _word,
    address_in,
    address_of,
    part_i64,
)

BLOCKS = 12
"""Blocks whose masks are counted together: 16 sums stay in registers meanwhile."""
NARROW = 256
"""Rows shorter than this, where they follow each other in memory, are counted as one long row."""
SUMS = 4096
"""Entries of uint32 for the sums: eight lanes of 64 bits a value."""
ROOM = (24 * BLOCKS + 8) * 16
"""Entries of uint32 for masks, 24 a block, and for one block."""

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_V64, _Q8 = ir.VectorType(_I8, 64), ir.VectorType(_I64, 8)


@inline
def rows_sliced(image, scratch, start, slice_block):
    """Count a (depth, rows, columns) image with contiguous rows: see `count_sliced`."""
    height, width = np.uint64(image.shape[1]), np.uint64(image.shape[2])
    for z in range(np.uint64(image.shape[0])):
        first = address_of(image, z, np.uint64(0))
        count_sliced(first, height, width, np.uint64(image.strides[1]), scratch, start, slice_block)


@inline
def count_sliced(first, height, width, stride, scratch, start, slice_block):
    """Count rows, `stride` bytes apart from the address `first` on, into the sums, first in the scratch.

    From entry `start` on it has `ROOM` of any content. Both parts begin with a cache line.
    """
    one, wide = np.uint64(1), np.uint64(64)
    if stride == width and width < np.uint64(NARROW):
        height, width = one, height * width
    images, rows, columns, pitch, end = one, height, width, stride, width
    if height < np.uint64(8):  # each row as rows of 64 pixels
        images, rows, columns, pitch = height, (width + wide - one) // wide, wide, wide
        end = width + wide - rows * wide
    for i in range(images):
        count_rectangle(first + i * stride, rows, columns, pitch, end, scratch, start, slice_block)


@inline
def count_rectangle(first, height, width, stride, end, scratch, start, slice_block):
    """Count rows of a width, the last of them up to column `end`. A block in part is filled up with zeros."""
    wide, tall, most = np.uint64(64), np.uint64(8), np.uint64(BLOCKS)
    sums, masks = address_in(scratch, np.uint64(0)), address_in(scratch, np.uint64(start))
    block, filled, zeros = masks + np.uint64(24 * 64 * BLOCKS), np.uint64(0), np.uint64(0)
    for y in range(np.uint64(0), height, tall):
        rows = min(tall, height - y)
        for x in range(np.uint64(0), width, wide):
            columns, source, pitch = min(wide, width - x), first + y * stride + x, stride
            last = min(columns, max(end, x) - x) if y + rows == height else columns
            if rows < tall or last < wide:
                fill_block(source, stride, rows, columns, last, block)
                zeros += np.uint64(512) - (rows - np.uint64(1)) * columns - last
                source, pitch = block, wide
            slice_block(source, pitch, masks, filled)
            filled += np.uint64(1)
            if filled == most:
                count_blocks(masks, filled, sums)
                filled = np.uint64(0)
    count_blocks(masks, filled, sums)
    part_i64(scratch, 0, 1)[0] -= np.int64(zeros)


@inline
def count_blocks(masks, filled, sums):
    """Add the counts of some blocks to the sums."""
    for high in range(np.uint64(16)):
        count_slices(masks, filled, high, sums)


@inline
def fold_sliced(scratch, counts):
    """Add the sums to `counts`; leave zeros."""
    add_up_sums(address_in(scratch, np.uint64(0)), address_in(counts, np.uint64(0)))


def _slice_block(transpose):
    """Return the intrinsic that writes the masks of a block, with one way to transpose bits."""

    @intrinsic
    def slice_block(typingctx, source, stride, masks, block):
        """Write the masks of 8 rows of 64 pixels, `stride` bytes apart: 512 bits each, at masks[:, block].

        Masks 0 to 15 have a bit for every pixel with that low nibble. Of the high nibble there are four masks
        of its lower two bits and four of the upper two. The pixels' order is the same in all masks, which is
        all that counting needs.
        """

        def codegen(context, builder, signature, args):
            source, stride, masks, block = args
            rows = []
            for k in range(8):
                address = builder.add(source, builder.mul(stride, _word(k)))
                rows.append(_load(builder, builder.inttoptr(address, _V64.as_pointer())))
            planes, target = _bit_planes(builder, rows, transpose), builder.inttoptr(masks, _Q8.as_pointer())
            low, middle = (_bit_pairs(builder, *planes[k : k + 2]) for k in (0, 2))
            both = [builder.and_(low[v & 3], middle[v >> 2]) for v in range(16)]
            both += [*_bit_pairs(builder, *planes[4:6]), *_bit_pairs(builder, *planes[6:8])]
            for k, mask in enumerate(both):
                _store(builder, mask, builder.gep(target, [builder.add(_word(k * BLOCKS), block)]))
            return context.get_dummy_value()

        word = types.uint64
        return types.void(word, word, word, word), codegen

    return slice_block


@intrinsic
def count_slices(typingctx, masks, blocks, high, sums):
    """Add to sums[16 * high + low], eight lanes each, the pixels with both nibbles, for each low."""

    def codegen(context, builder, signature, args):
        masks, blocks, high, sums = args
        source, target = (builder.inttoptr(address, _Q8.as_pointer()) for address in (masks, sums))
        totals = [cgutils.alloca_once_value(builder, ir.Constant(_Q8, [0] * 8)) for _ in range(16)]
        for total in totals:
            builder.store(ir.Constant(_Q8, [0] * 8), total)
        lower = builder.add(builder.and_(high, _word(3)), _word(16))
        upper = builder.add(builder.lshr(high, _word(2)), _word(20))
        some = cgutils.alloca_once_value(builder, _word(0))
        builder.store(_word(0), some)
        with cgutils.for_range(builder, blocks) as loop:
            at = [builder.add(builder.mul(k, _word(BLOCKS)), loop.index) for k in (lower, upper)]
            mask = builder.and_(*(_load(builder, builder.gep(source, [k])) for k in at))
            with builder.if_then(_any(builder, mask)):
                builder.store(_word(1), some)
                for low, total in enumerate(totals):
                    at = builder.add(_word(low * BLOCKS), loop.index)
                    both = builder.and_(mask, _load(builder, builder.gep(source, [at])))
                    bits = _call(builder, "llvm.ctpop.v8i64", _Q8, both)
                    builder.store(builder.add(builder.load(total), bits), total)
        with builder.if_then(builder.icmp_unsigned("!=", builder.load(some), _word(0))):
            for low, total in enumerate(totals):
                at = builder.gep(target, [builder.add(builder.mul(high, _word(16)), _word(low))])
                _store(builder, builder.add(_load(builder, at), builder.load(total)), at)
        return context.get_dummy_value()

    word = types.uint64
    return types.void(word, word, word, word), codegen


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
def fill_block(typingctx, source, stride, rows, columns, last, block):
    """Copy up to 8 rows of up to 64 pixels, the last row of other length; the rest of the block is zero."""

    def codegen(context, builder, signature, args):
        source, stride, rows, columns, last, block = args
        with cgutils.for_range(builder, _word(8)) as loop:
            size = builder.select(builder.icmp_unsigned("<", loop.index, rows), columns, _word(0))
            is_last = builder.icmp_unsigned("==", builder.add(loop.index, _word(1)), rows)
            size = builder.select(is_last, last, size)
            address = builder.add(source, builder.mul(stride, loop.index))
            pixels = _masked_load(builder, address, size, _V64)
            address = builder.add(block, builder.mul(loop.index, _word(64)))
            _store(builder, pixels, builder.inttoptr(address, _V64.as_pointer()))
        return context.get_dummy_value()

    word = types.uint64
    return types.void(word, word, word, word, word, word), codegen


def _any(builder, vector):
    """Tell whether any bit is set."""
    lanes = builder.icmp_unsigned("!=", vector, ir.Constant(_Q8, [0] * 8))
    return builder.icmp_unsigned("!=", builder.bitcast(lanes, _I8), _I8(0))


def _transpose_gfni(builder, pixels):
    """Transpose the 8 x 8 bits of every word: the pixels are a matrix, applied to the unit vectors."""
    unit = ir.Constant(_V64, [1 << (i % 8) for i in range(64)])
    return _call(builder, "llvm.x86.vgf2p8affineqb.512", _V64, unit, pixels, ir.Constant(_I8, 0))


def _transpose_portable(builder, pixels):
    """Transpose the 8 x 8 bits of every word by swapping ever larger squares.

    No tier uses it: it lets processors without AVX-512 test all the rest.
    """
    words = builder.bitcast(pixels, _Q8)
    for shift, mask in ((7, 0x00AA00AA00AA00AA), (14, 0x0000CCCC0000CCCC), (28, 0x00000000F0F0F0F0)):
        by = ir.Constant(_Q8, [shift] * 8)
        swap = builder.xor(words, builder.lshr(words, by))
        swap = builder.and_(swap, ir.Constant(_Q8, [mask] * 8))
        words = builder.xor(builder.xor(words, swap), builder.shl(swap, by))
    return builder.bitcast(words, _V64)


slice_block_avx512 = _slice_block(_transpose_gfni)
slice_block_portable = _slice_block(_transpose_portable)


def _bit_planes(builder, pixels, transpose):
    """Return the eight bit planes of eight vectors of 64 pixels, one 512-bit vector each."""
    gather = ir.Constant(ir.VectorType(_I32, 64), [8 * (i % 8) + i // 8 for i in range(64)])
    rows = []
    for some in pixels:
        bits = transpose(builder, some)
        rows.append(builder.bitcast(builder.shuffle_vector(bits, bits, gather), _Q8))
    return _transposed(builder, rows)  # word b of every row belongs to plane b


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


def _bit_pairs(builder, lower, upper):
    """Return, for each value of two bits, where the planes have it."""
    ones = ir.Constant(_Q8, [-1] * 8)
    neither = builder.xor(builder.or_(lower, upper), ones)
    low, high = (builder.and_(a, builder.xor(b, ones)) for a, b in ((lower, upper), (upper, lower)))
    return [neither, low, high, builder.and_(lower, upper)]
