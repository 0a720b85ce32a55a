"""The arithmetic of `ranks.py`, computed in vectors."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from histeq_kernels.cpu.clahe.blend_runs import transposed
from histeq_kernels.cpu.core.llvm import (
    I16,
    I32,
    I64,
    I8x16,
    I8x64,
    I16x16,
    I32x16,
    call,
    i64,
    last_lane,
    load,
    pointer_to,
    prefix_sums,
    splat,
    splat_i32,
    store,
)

BINS = 8
"""Bins of an entry."""
ENTRIES = 65536 // BINS
"""Entries of a tile, uint32. From the lowest bit: a bit for each bin that has any pixel; a bit for each that
gets a clipped one; and in the upper half how many bits are set in all entries before."""
BLOCK = 16
"""Entries that are computed at once: all of those that have a bin in use."""


def _find_marked(marks, mark, start, stop, flip, found):
    """Write a bit for each byte, whether it is `mark`, to words of 64; return how many are set.

    Words `start` to `stop` are written, with `flip` flipped in their numbers.
    """
    words = np.arange(int(start), int(stop)) ^ int(flip)
    marked = marks.reshape(-1, 64)[words] == mark
    found[words] = np.packbits(marked, axis=1, bitorder="little").view(np.uint64)[:, 0]
    return np.int64(marked.sum())


@intrinsic
def _find_marked_ir(typingctx, marks, mark, start, stop, flip, found):
    def codegen(context, builder, signature, args):
        _, mark, start, stop, flip, _ = args
        count, mark = cgutils.alloca_once(builder, I64), splat(builder, mark, I8x64)
        builder.store(i64(0), count)
        with cgutils.for_range(builder, stop, start=start) as loop:
            word = builder.xor(loop.index, flip)
            index = builder.shl(word, i64(6))
            bytes_ = load(builder, pointer_to(context, builder, signature, args, 0, index, I8x64))
            bits = builder.bitcast(builder.icmp_unsigned("==", bytes_, mark), I64)
            store(builder, bits, pointer_to(context, builder, signature, args, 5, word, I64))
            builder.store(builder.add(builder.load(count), builder.ctpop(bits)), count)
        return builder.load(count)

    word = types.uint64
    return types.int64(marks, types.uint8, word, word, word, found), codegen


def _fill_entries(found, start, stop, flip, step, rest, entries):
    """Write the entries of a tile, from block `start` to `stop`.

    Parameters
    ----------
    found : a bit for each bin that has any pixel, uint8
    flip : flipped in the numbers of entries
    step, rest : the distance between bins that get a clipped pixel, and their number
    """
    bins, all_entries = np.arange(65536), np.arange(ENTRIES)
    has = np.unpackbits(found[all_entries ^ int(flip)], bitorder="little")
    has[: int(start) * BLOCK * BINS] = has[int(stop) * BLOCK * BINS :] = 0  # of any content
    gets = (bins % step == 0) & (bins // step < rest)
    upto = np.cumsum(has + gets).astype(np.uint32)[BINS - 1 :: BINS]
    before = np.concatenate([np.zeros(1, np.uint32), upto[:-1]])
    bits = [np.packbits(flags, bitorder="little").astype(np.uint32) for flags in (has, gets)]
    here = slice(int(start) * BLOCK, int(stop) * BLOCK)
    filled = bits[0] | bits[1] << np.uint32(8) | before << np.uint32(16)
    entries[(all_entries ^ int(flip))[here]] = filled[here]


@intrinsic
def _fill_entries_ir(typingctx, found, start, stop, flip, step, rest, entries):
    def codegen(context, builder, signature, args):
        _, start, stop, flip, step, rest, _ = args
        step, rest, first = (builder.trunc(number, I32) for number in (step, rest, start))
        first, steps = builder.mul(first, I32(BLOCK * BINS)), splat(builder, step, I32x16)
        pattern, end = splat(builder, _every(builder, step), I32x16), builder.mul(step, rest)
        window, end = _window(builder, end), builder.zext(builder.lshr(end, I32(3)), I64)
        # For each entry, how far its first bin is from the next one that gets a pixel
        bins = builder.add(splat(builder, first, I32x16), ir.Constant(I32x16, [BINS * k for k in range(16)]))
        most = builder.sub(steps, splat_i32(1))
        bins = builder.sub(most, builder.urem(builder.add(bins, most), steps))
        ahead = cgutils.alloca_once_value(builder, bins)
        nearer = splat(builder, builder.urem(I32(BLOCK * BINS), step), I32x16)
        farther = builder.sub(steps, nearer)
        # How many got one before
        given = builder.udiv(builder.add(first, builder.sub(step, I32(1))), step)
        given = builder.select(builder.icmp_unsigned("<", given, rest), given, rest)
        carry = cgutils.alloca_once_value(builder, splat(builder, builder.trunc(given, I16), I16x16))
        with cgutils.for_range(builder, stop, start=start) as loop:
            index, distance, before = (
                builder.shl(loop.index, i64(4)),
                builder.load(ahead),
                builder.load(carry),
            )
            allowed = _allowed(builder, window, builder.sub(end, index))
            index = builder.xor(index, flip)
            has = load(builder, pointer_to(context, builder, signature, args, 0, index, I8x16))
            gets = call(builder, "llvm.umin.v16i32", I32x16, distance, splat_i32(BINS))
            gets = builder.trunc(builder.shl(pattern, gets), I16x16)
            bits = builder.and_(builder.or_(builder.zext(has, I16x16), gets), allowed)
            counts = call(builder, "llvm.ctpop.v16i16", I16x16, bits)
            sums = prefix_sums(builder, counts)
            below = builder.sub(builder.add(sums, before), counts)
            order = ir.Constant(ir.VectorType(I32, 32), [k // 2 + k % 2 * 16 for k in range(32)])
            entry = builder.shuffle_vector(bits, below, order)
            store(builder, entry, pointer_to(context, builder, signature, args, 6, index, entry.type))
            builder.store(builder.add(before, last_lane(builder, sums)), carry)
            wrapped, distance = builder.add(distance, farther), builder.sub(distance, nearer)
            builder.store(call(builder, "llvm.umin.v16i32", I32x16, distance, wrapped), ahead)
        return context.get_dummy_value()

    word = types.uint64
    return types.void(found, word, word, word, word, word, entries), codegen


def _every(builder, step):
    """Return the bins 0, step, 2 * step, ... among eight as bits 8 to 15; there may be bits above these."""
    pattern = I32(1 << BINS)
    for times in (1, 2, 4):
        distance = builder.mul(step, I32(times))
        moved = builder.shl(pattern, builder.and_(distance, I32(7)))
        more = builder.icmp_unsigned("<", distance, I32(BINS))
        pattern = builder.select(more, builder.or_(pattern, moved), pattern)
    return pattern


def _window(builder, end):
    """Return a pointer to the bits that may be set in entries if bins from `end` on get no clipped pixel.

    The entry with that bin has 16 before it and 31 after it.
    """
    window = cgutils.alloca_once(builder, ir.ArrayType(I16, 3 * BLOCK))
    window = builder.bitcast(window, I16.as_pointer())
    some = builder.sub(builder.shl(I32(1 << BINS), builder.and_(end, I32(7))), I32(1))
    after = ir.Constant(I16x16, [0xFF] * 16)
    first = builder.insert_element(after, builder.trunc(some, I16), I32(0))
    for k, lanes in enumerate((ir.Constant(I16x16, [0xFFFF] * 16), first, after)):
        pointer = builder.gep(window, [i64(k * BLOCK)])
        store(builder, lanes, builder.bitcast(pointer, I16x16.as_pointer()))
    return window


def _allowed(builder, window, left):
    """Return the bits that may be set in 16 entries, the first of which is `left` entries before the last."""
    left = builder.select(builder.icmp_signed(">", left, i64(BLOCK)), i64(BLOCK), left)
    left = builder.select(builder.icmp_signed("<", left, i64(-BLOCK)), i64(-BLOCK), left)
    pointer = builder.gep(window, [builder.sub(i64(BLOCK), left)])
    return load(builder, builder.bitcast(pointer, I16x16.as_pointer()))


def _fill_cell(tiles, start, stop, flip, cell):
    """Interleave the entries of four tiles, from block `start` to `stop`; `flip` is as in `fill_entries`.

    Each entry of the cell is four words: the lower halves of the entries of the upper left (lowest) and upper
    right tile, those of the lower two tiles; the upper halves of the same.
    """
    here = np.arange(int(start) * BLOCK, int(stop) * BLOCK) ^ int(flip)
    halves = np.stack([entries[here].view(np.uint16).reshape(-1, 2) for entries in tiles])
    cell.reshape(-1, 4)[here] = np.ascontiguousarray(halves.transpose(1, 2, 0)).view(np.uint32).reshape(-1, 4)


@intrinsic
def _fill_cell_ir(typingctx, tiles, start, stop, flip, cell):
    def codegen(context, builder, signature, args):
        pointers = [
            context.make_array(kind)(context, builder, array).data
            for kind, array in zip(signature.args[0], cgutils.unpack_tuple(builder, args[0]), strict=True)
        ]
        low, sixteen = splat_i32(65535), splat_i32(16)
        with cgutils.for_range(builder, args[2], start=args[1]) as loop:
            index = builder.xor(builder.shl(loop.index, i64(4)), args[3])
            a, b, c, d = (
                load(builder, builder.bitcast(builder.gep(pointer, [index]), I32x16.as_pointer()))
                for pointer in pointers
            )
            words = [builder.or_(builder.and_(x, low), builder.shl(y, sixteen)) for x, y in ((a, b), (c, d))]
            high = builder.xor(low, splat_i32(-1))
            words += [
                builder.or_(builder.lshr(x, sixteen), builder.and_(y, high)) for x, y in ((a, b), (c, d))
            ]
            quads = transposed(builder, words)
            index = builder.shl(index, i64(2))
            for k, quad in enumerate(quads):
                for m in range(4):
                    lanes = ir.Constant(ir.VectorType(I32, 4), list(range(4 * m, 4 * m + 4)))
                    at = builder.add(index, i64(4 * k + 16 * m))
                    entry = builder.shuffle_vector(quad, quad, lanes)
                    store(builder, entry, pointer_to(context, builder, signature, args, 4, at, entry.type))
        return context.get_dummy_value()

    word = types.uint64
    return types.void(tiles, word, word, word, cell), codegen


find_marked = _find_marked if config.DISABLE_JIT else _find_marked_ir
fill_entries = _fill_entries if config.DISABLE_JIT else _fill_entries_ir
fill_cell = _fill_cell if config.DISABLE_JIT else _fill_cell_ir
