"""The pixels of a row between the same four tiles, 16 bits each, mapped in vectors.

Each of 16 pixels loads what it needs of all four tiles at once. Of the last vector only the pixels that
belong to the run are stored; the others may have entries of any content.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from histeq_kernels.cpu.clahe.level_vectors import spread_upto
from histeq_kernels.cpu.clahe.weights import mean_of_levels
from histeq_kernels.cpu.core.llvm import (
    F32,
    I16,
    I32,
    I64,
    F32x16,
    I16x16,
    I32x16,
    call,
    i64,
    load,
    pointer_to,
    splat,
    splat_i32,
    store,
)
from histeq_kernels.cpu.core.rounding import SHIFT

LEAST_WIDTH = 16
"""The fewest pixels of a row, of any number of runs."""


def _blended(levels, columns, rows, conversion, here, new):
    """Write the weighted mean of four levels of each pixel."""
    sign, back = conversion[:2]
    a, b, c, d = levels
    upper = a * columns[0][here] + b * columns[1][here]
    lower = c * columns[0][here] + d * columns[1][here]
    new[here] = np.rint(upper * rows[0] + lower * rows[1]).astype(np.int64) << back ^ sign


def _blend_packed_run(pixels, left, right, tables, conversion, columns, rows, new):
    """Map the pixels of a row from `left` to `right` by packed tables.

    Parameters
    ----------
    tables : the levels in the four tables, as `blend.packed_entries` packs them; whether they are indexed by
        the values of pixels or in their order, from 16 on; the numbers 0, 1, 2, ... for the latter
    conversion : the bits to flip in the result, once it was shifted left by the second number (uint16 both);
        two numbers (float32) that are not used
    columns, rows : the weights of left and right for each column of the image; those of upper and lower
    """
    here = slice(int(left), int(right))
    packed, in_order, order = tables
    index = order[16 : 16 + int(right - left)] if in_order else pixels[here]
    levels = packed[index].view(np.uint16).reshape(-1, 4).astype(np.float32)
    _blended(levels.T, columns, rows, conversion, here, new)


def _blend_ranked_run(pixels, left, right, cell, conversion, columns, rows, new):
    """Map the pixels of a row from `left` to `right` by the ranks of their bins: see `_blend_packed_run`.

    Parameters
    ----------
    cell : for each 8 values of a pixel the entries of the four tiles, as `ranks.fill_cell` writes them
    conversion : the bits to flip in the result, 0, levels per pixel (float32), the lowest level (float32)
    """
    here = slice(int(left), int(right))
    value, scale, low = pixels[here].astype(np.int64), conversion[2], conversion[3]
    words = cell[: cell.size // 4 * 4].reshape(-1, 4)[value // 8]
    upto = ((2 << value % 8) - 1).astype(np.uint32) * np.uint32(0x01010101)
    counts = np.bitwise_count((words[:, :2] & upto[:, None]).view(np.uint16)) + words[:, 2:].view(np.uint16)
    levels = np.rint(counts.astype(np.float32) * scale) + low
    _blended(levels.T, columns, rows, conversion, here, new)


def _blend_gathered_run(pixels, left, right, tiles, conversion, columns, rows, new):
    """Map the pixels of a row from `left` to `right` by the ranks of small tiles: see `_blend_ranked_run`.

    Parameters
    ----------
    tiles : the entries of four tiles, from `small_ranks.py`; for each of these, the distance between bins
        that get a clipped pixel, and their number
    """
    here = slice(int(left), int(right))
    sign, _, scale, low = conversion
    value = pixels[here].astype(np.int32) ^ np.int32(sign)

    def level(entries, spread):
        found, upto = entries[value >> 4], (2 << (value & 15)) - 1
        rank = (found >> np.uint32(16)).astype(np.int32) + np.bitwise_count(found & upto.astype(np.uint32))
        count = rank + np.minimum(value // spread[0] + 1, spread[1])
        return np.rint(count.astype(np.float32) * scale) + low

    _blended([level(*tile) for tile in zip(*tiles, strict=True)], columns, rows, conversion, here, new)


def _run(levels_in):
    """Return the function that maps a run.

    `levels_in(context, builder, type of the table, table, conversion)` returns a function that yields the
    levels of 16 pixels in the four tables, from a pointer to the first and its distance from `left`.
    """

    @intrinsic
    def blend_run(typingctx, pixels, left, right, table, conversion, columns, rows, new):
        def codegen(context, builder, signature, args):
            def at(which, index, kind):
                return pointer_to(context, builder, signature, args, which, index, kind)

            left, right, conversion = args[1], args[2], cgutils.unpack_tuple(builder, args[4])
            sign, back = (splat(builder, number, I16x16) for number in conversion[:2])
            rows = [splat(builder, weight, F32x16) for weight in cgutils.unpack_tuple(builder, args[6])]
            lines = _addresses(context, builder, signature.args[5], args[5])
            levels_of = levels_in(context, builder, signature.args[3], args[3], conversion)
            width = context.make_array(signature.args[0])(context, builder, args[0]).nitems
            last, buffer = builder.sub(width, i64(16)), cgutils.alloca_once(builder, I16x16)
            vectors = builder.lshr(builder.add(builder.sub(right, left), i64(15)), i64(4))
            with cgutils.for_range(builder, vectors) as loop:
                first = builder.add(left, builder.shl(loop.index, i64(4)))
                start = builder.select(builder.icmp_signed("<", last, first), last, first)
                levels = list(levels_of(at(0, start, I16), builder.sub(start, left)))
                columns = [_load(builder, builder.gep(line, [start]), F32x16) for line in lines]
                level = mean_of_levels(builder, levels, columns, rows, I16x16)
                level = builder.xor(builder.shl(level, back), sign)
                whole = builder.icmp_unsigned("<=", builder.add(first, i64(16)), right)
                with builder.if_else(whole, likely=True) as (then, otherwise):
                    with then:
                        store(builder, level, at(7, start, I16x16))
                    with otherwise:
                        builder.store(level, buffer)
                        with cgutils.for_range(builder, right, start=first) as rest:
                            lane = builder.sub(rest.index, start)
                            one = builder.gep(builder.bitcast(buffer, I16.as_pointer()), [lane])
                            builder.store(builder.load(one), at(7, rest.index, I16))
            return context.get_dummy_value()

        word, real = types.uint64, types.float32
        conversion = types.Tuple([types.uint16, types.uint16, real, real])
        rows = types.UniTuple(real, 2)
        return types.void(pixels, word, word, table, conversion, columns, rows, new), codegen

    return blend_run


def _packed_levels(context, builder, kind, tables, conversion):
    """Levels that are looked up in packed tables."""
    packed, in_order, order = cgutils.unpack_tuple(builder, tables)
    packed, order = (
        context.make_array(kind[k])(context, builder, array).data for k, array in ((0, packed), (2, order))
    )

    def two(values):
        words = ir.Constant(ir.VectorType(I64, 2), ir.Undefined)
        for k, value in enumerate(values):
            words = builder.insert_element(words, builder.load(builder.gep(packed, [value])), I32(k))
        return builder.bitcast(words, ir.VectorType(I32, 4))

    def levels_of(pointer, distance):
        in_its_order = builder.gep(order, [builder.add(distance, i64(16))])
        single = _numbers(builder, builder.select(in_order, in_its_order, pointer))
        near, far = (
            _join(builder, [two(single[4 * m + k : 4 * m + k + 2]) for m in range(4)]) for k in (0, 2)
        )
        for odd in (0, 1):
            pairs = _take(builder, near, far, [(odd, 0), (2 + odd, 0), (odd, 1), (2 + odd, 1)])
            yield from (builder.sitofp(half, F32x16) for half in _halves(builder, pairs))

    return levels_of


def _ranked_levels(context, builder, kind, cell, conversion):
    """Levels that are computed from the entries of a cell."""
    cell = builder.ptrtoint(context.make_array(kind)(context, builder, cell).data, I64)
    level_of = _level_of(builder, conversion)

    def four(value):
        offset = builder.shl(builder.and_(value, i64(0xFFF8)), i64(1))
        pointer = builder.inttoptr(builder.add(cell, offset), ir.VectorType(I32, 4).as_pointer())
        return load(builder, pointer)

    def levels_of(pointer, distance):
        single = _numbers(builder, pointer)
        groups = [_join(builder, [four(single[k + 4 * m]) for m in range(4)]) for k in range(4)]
        upto = builder.and_(builder.zext(_load(builder, pointer, I16x16), I32x16), splat_i32(7))
        upto = builder.sub(builder.shl(splat_i32(0x02020202), upto), splat_i32(0x01010101))
        above, below, *bases = transposed(builder, groups)
        for bits, base in zip((above, below), bases, strict=True):
            halves = ir.VectorType(I16, 32)
            counts = builder.bitcast(builder.and_(bits, upto), halves)
            counts = call(builder, "llvm.ctpop.v32i16", halves, counts)
            counts = builder.bitcast(builder.add(counts, builder.bitcast(base, halves)), I32x16)
            yield from (level_of(count) for count in _halves(builder, counts))

    return levels_of


def _gathered_levels(context, builder, kind, tiles, conversion):
    """Levels that are computed from the entries of four tiles."""
    tiles, spreads = cgutils.unpack_tuple(builder, tiles)
    tiles = _addresses(context, builder, kind[0], tiles)
    spreads = [_spread(builder, pair) for pair in _addresses(context, builder, kind[1], spreads)]
    sign, level_of = splat(builder, conversion[0], I16x16), _level_of(builder, conversion)

    def levels_of(pointer, distance):
        value = builder.zext(builder.xor(_load(builder, pointer, I16x16), sign), I32x16)
        for tile, (inverse, rest) in zip(tiles, spreads, strict=True):
            found = _gather(builder, tile, builder.lshr(value, splat_i32(4)))
            upto = builder.shl(found, builder.xor(builder.and_(value, splat_i32(15)), splat_i32(31)))
            rank = call(builder, "llvm.ctpop.v16i32", I32x16, upto)
            rank = builder.add(rank, builder.lshr(found, splat_i32(16)))
            yield level_of(builder.add(rank, spread_upto(builder, value, inverse, rest)))

    return levels_of


def _level_of(builder, conversion):
    """Return the function that makes a level of a cumulative count.

    It need not be limited: the rounded product of all pixels of a tile is the highest level.
    """
    shift = ir.Constant(F32x16, [float(SHIFT)] * 16)
    scale = splat(builder, conversion[2], F32x16)
    lift = builder.fsub(shift, splat(builder, conversion[3], F32x16))

    def level_of(count):
        level = builder.fmul(builder.sitofp(count, F32x16), scale)
        return builder.fsub(builder.fadd(level, shift), lift)

    return level_of


def _spread(builder, pair):
    """Return vectors of the reciprocal distance between bins that get a clipped pixel, and their number."""
    step, rest = (builder.load(builder.gep(pair, [i64(k)])) for k in range(2))
    inverse = builder.fdiv(ir.Constant(F32, 1.0), builder.sitofp(step, F32))
    return splat(builder, inverse, F32x16), splat(builder, rest, I32x16)


def _gather(builder, base, index):
    """Load 16 words by index."""
    wide = ir.VectorType(I64, 16)
    offsets = builder.shl(builder.zext(index, wide), ir.Constant(wide, [2] * 16))
    pointers = ir.VectorType(I32.as_pointer(), 16)
    base = splat(builder, builder.ptrtoint(base, I64), wide)
    pointers = builder.inttoptr(builder.add(base, offsets), pointers)
    all_lanes = ir.Constant(ir.VectorType(ir.IntType(1), 16), [1] * 16)
    name = "llvm.masked.gather.v16i32.v16p0"
    return call(builder, name, I32x16, pointers, I32(4), all_lanes, splat_i32(0))


def _numbers(builder, pointer):
    """Load 16 numbers one by one, for use as indices.

    A vector of the same numbers is loaded afterwards, or LLVM would take them out of it, which is slower.
    """
    return [builder.zext(builder.load(builder.gep(pointer, [i64(k)])), I64) for k in range(16)]


def _load(builder, pointer, kind):
    """Load a vector from a pointer to its first element."""
    return load(builder, builder.bitcast(pointer, kind.as_pointer()))


def _addresses(context, builder, kinds, arrays):
    """Return pointers to the first elements of the arrays in a tuple."""
    arrays = zip(kinds, cgutils.unpack_tuple(builder, arrays), strict=True)
    return [context.make_array(kind)(context, builder, array).data for kind, array in arrays]


def _halves(builder, words):
    """Return the lower and upper halves of words."""
    return builder.and_(words, splat_i32(65535)), builder.lshr(words, splat_i32(16))


def _join(builder, quads):
    """Return four vectors of four lanes as one of 16."""
    eight, sixteen = (ir.Constant(ir.VectorType(I32, n), list(range(n))) for n in (8, 16))
    a, b = (builder.shuffle_vector(*quads[k : k + 2], eight) for k in (0, 2))
    return builder.shuffle_vector(a, b, sixteen)


def _take(builder, a, b, lanes):
    """Return lanes of each four lanes of two vectors: pairs of a number and which vector it is from."""
    order = [4 * m + k + 16 * which for m in range(4) for k, which in lanes]
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, 16), order))


def transposed(builder, groups):
    """Exchange rows and columns: yield four vectors, the first lanes of each four lanes of all groups first.

    If `groups[k]` has the lanes of the pixels k, k + 4, k + 8 and k + 12, those of 16 pixels come in order.
    """
    near, far = (
        [_take(builder, a, b, [(k, 0), (k, 1), (k + 1, 0), (k + 1, 1)]) for k in (0, 2)]
        for a, b in (groups[:2], groups[2:])
    )
    for a, b in zip(near, far, strict=True):
        for k in (0, 2):
            yield _take(builder, a, b, [(k, 0), (k + 1, 0), (k, 1), (k + 1, 1)])


blend_packed_run = _blend_packed_run if config.DISABLE_JIT else _run(_packed_levels)
blend_ranked_run = _blend_ranked_run if config.DISABLE_JIT else _run(_ranked_levels)
blend_gathered_run = _blend_gathered_run if config.DISABLE_JIT else _run(_gathered_levels)
