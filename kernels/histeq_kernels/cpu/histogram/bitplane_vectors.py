"""The vector instructions of `bitplanes.py` that turn blocks of pixels into bit masks."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from histeq_kernels.cpu.core.llvm import (
    I8,
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
MASKS = 16
"""Masks of a block: one for each of the four values of bits 0 and 1, 2 and 3, 4 and 5, 6 and 7."""
MASK_ENTRIES = (MASKS * BLOCKS + 8 + 8 + 8) * 16
"""The size in uint32 of the masks, of the bytes that tell which groups the blocks have, and of two blocks."""
ROW = ir.VectorType(I8, WIDE)


@intrinsic
def split_block(typingctx, source, stride, masks, groups, block):
    """Write the masks of a block with rows `stride` bytes apart, and which groups of pixels it has.

    The order of the pixels is the same in all masks, which suffices for counting. `groups` has `BLOCKS` bytes
    for each group: byte `block` of them becomes 0 if the block has no such pixel.
    """

    def codegen(context, builder, signature, args):
        source, stride, masks, groups, block = args
        _store_masks(builder, _masks_of(builder, source, stride), masks, groups, block)
        return context.get_dummy_value()

    word = types.uint64
    return types.void(word, word, word, word, word), codegen


@intrinsic
def split_valid_block(typingctx, source, stride, mask, mask_stride, masks, groups, block):
    """Do what `split_block` does for the pixels whose bytes in a mask are not zero; return how many blocks.

    Where no pixel is valid nothing is written, and 0 returned, otherwise 1.
    """

    def codegen(context, builder, signature, args):
        source, stride, mask, mask_stride, masks, groups, block = args
        valid = _valid_pixels(builder, mask, mask_stride)
        some = builder.icmp_unsigned("!=", _occupied(builder, valid), I8(0))
        with builder.if_then(some):
            own = _masks_of(builder, source, stride)
            own[12:] = [builder.and_(each, valid) for each in own[12:]]  # each group needs one of these
            _store_masks(builder, own, masks, groups, block)
        return builder.zext(some, I64)

    word = types.uint64
    return word(word, word, word, word, word, word, word), codegen


@intrinsic
def fetch_lines(typingctx, address):
    """Ask for as many bytes as a block has, from an address on, in the second-level cache."""

    def codegen(context, builder, signature, args):
        for at in range(0, WIDE * TALL, 64):
            line = builder.inttoptr(builder.add(args[0], i64(at)), I8.as_pointer())
            call(builder, "llvm.prefetch.p0i8", ir.VoidType(), line, I32(0), I32(2), I32(1))
        return context.get_dummy_value()

    return types.void(types.uint64), codegen


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


def _masks_of(builder, source, stride):
    """Return the masks of a block."""
    planes = _bit_planes(builder, _load_block(builder, source, stride))
    return [_with_bits(builder, *planes[k // 4 * 2 :][:2], k % 4) for k in range(MASKS)]


def _store_masks(builder, own, masks, groups, block):
    """Store the masks of a block, and for each group a byte that is 0 if the block has no such pixel."""
    target = builder.gep(builder.inttoptr(masks, I64x8.as_pointer()), [builder.mul(block, i64(MASKS))])
    for k, mask in enumerate(own):
        store(builder, mask, builder.gep(target, [i64(k)]))
    entries = builder.gep(builder.inttoptr(groups, I8.as_pointer()), [block])
    for high in range(16):
        some = _occupied(builder, builder.and_(own[8 + (high & 3)], own[12 + (high >> 2)]))
        builder.store(some, builder.gep(entries, [i64(BLOCKS * high)]))


def _occupied(builder, mask):
    """Return a byte with a bit for each word of a mask, set if the word has any."""
    some = builder.icmp_unsigned("!=", mask, ir.Constant(I64x8, [0] * 8))
    return builder.bitcast(some, I8)


def _valid_pixels(builder, mask, stride):
    """Return the pixels whose bytes in a mask are not zero, in the order of the bit planes.

    Byte i of each word of a plane comes from vector -i: so vector k becomes bit -k of every byte, and one
    transposition makes bytes of these.
    """
    zeros = ir.Constant(I8x64, [0] * 64)
    marked = zeros
    for k, some in enumerate(_load_block(builder, mask, stride)):
        bit = builder.add(marked, ir.Constant(I8x64, [1 << (-k % 8)] * 64))
        marked = builder.select(builder.icmp_unsigned("!=", some, zeros), bit, marked)
    return builder.bitcast(_transposed_bits(builder, marked, 0), I64x8)


def _load_block(builder, source, stride):
    """Load a block as eight vectors, two rows each."""
    rows = []
    for k in range(TALL):
        address = builder.add(source, builder.mul(stride, i64(k)))
        rows.append(load(builder, builder.inttoptr(address, ROW.as_pointer())))
    both = ir.Constant(ir.VectorType(I32, 64), list(range(64)))
    return [builder.shuffle_vector(rows[k], rows[k + 1], both) for k in range(0, TALL, 2)]


def _transposed_bits(builder, pixels, rotation):
    """Transpose the 8 x 8 bits of every word; byte i of the result holds bit i + `rotation` of the pixels.

    The pixels are the matrix of an affine transformation, which is applied to unit vectors.
    """
    unit = ir.Constant(I8x64, [1 << ((i + rotation) % 8) for i in range(64)])
    return call(builder, "llvm.x86.vgf2p8affineqb.512", I8x64, unit, pixels, ir.Constant(I8, 0))


def _bit_planes(builder, pixels):
    """Return the eight bit planes of eight vectors of 64 pixels, one 512-bit vector each.

    Byte i of the words of vector k becomes plane i + k. So byte i of plane b comes from vector b - i, and
    three selections, one for each bit of i, move it there. Rotating the bytes back aligns the pixels of all
    planes.
    """
    rows = [_transposed_bits(builder, some, k) for k, some in enumerate(pixels)]
    for step in (1, 2, 4):
        moves = ir.Constant(ir.VectorType(ir.IntType(1), 64), [bool(i & step) for i in range(64)])
        rows = [builder.select(moves, rows[b - step], rows[b]) for b in range(8)]
    return [_rotated(builder, builder.bitcast(row, I64x8), b) for b, row in enumerate(rows)]


def _rotated(builder, words, rotation):
    """Rotate the bytes of every word, so that the one at `rotation` comes first."""
    by = ir.Constant(I64x8, [8 * rotation] * 8)
    return call(builder, "llvm.fshr.v8i64", I64x8, words, words, by) if rotation else words


def _with_bits(builder, lower, upper, value):
    """Return the mask of the pixels whose two bits, in two planes, have a value."""
    ones = ir.Constant(I64x8, [-1] * 8)
    if value == 0:
        return builder.xor(builder.or_(lower, upper), ones)
    lower = lower if value & 1 else builder.xor(lower, ones)
    return builder.and_(lower, upper if value & 2 else builder.xor(upper, ones))
