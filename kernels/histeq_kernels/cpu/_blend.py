"""Blending the entries of four 8-bit tables: the arithmetic of CLAHE, in vectors."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from histeq_kernels.cpu._kernel import inline
from histeq_kernels.cpu._vector import (
    _everywhere,
    _load,
    _masked_load,
    _masked_store,
    _pointer,
    _store,
    _word,
    look_up_512,
    table_512,
)
from histeq_kernels.cpu._whole import SHIFT, whole

_WORDS, _FLOATS = ir.VectorType(ir.IntType(32), 16), ir.VectorType(ir.FloatType(), 16)
_SHORTS, _BYTES = ir.VectorType(ir.IntType(16), 16), ir.VectorType(ir.IntType(8), 16)
_V32, _V64 = ir.VectorType(ir.IntType(8), 32), ir.VectorType(ir.IntType(8), 64)


def _blend_16(words, i, before, after, k, above, below, new):
    """Blend 16 pixels: words[i:], which hold the entries of four 8-bit tables each, become new[k:].

    Parameters
    ----------
    words : the entry at the upper left in the lowest byte, upper right, lower left, lower right
    before, after : float32, the weights of left and right, from the k-th on
    above, below : float32, the weights of upper and lower
    """
    entries = words[i : i + 16].copy()[:, None].view(np.uint8).astype(np.float32)
    left, right = before[k : k + 16], after[k : k + 16]
    upper = entries[:, 0] * left + entries[:, 1] * right
    lower = entries[:, 2] * left + entries[:, 3] * right
    new[k : k + 16] = np.rint(upper * above + lower * below)


@intrinsic
def _blend_16_ir(typingctx, words, i, before, after, k, above, below, new):
    def codegen(context, builder, signature, args):
        def at(which, index, kind):
            return _pointer(context, builder, signature, args, which, args[index], kind)

        def entry(byte):
            moved = builder.lshr(packed, ir.Constant(_WORDS, [8 * byte] * 16))
            return builder.and_(moved, ir.Constant(_WORDS, [255] * 16))

        packed = _load(builder, at(0, 1, _WORDS))
        left, right = _load(builder, at(2, 4, _FLOATS)), _load(builder, at(3, 4, _FLOATS))
        rows = (_everywhere(builder, args[5], _FLOATS), _everywhere(builder, args[6], _FLOATS))
        level = _blended(builder, [entry(byte) for byte in range(4)], (left, right), rows)
        _store(builder, level, at(7, 4, _BYTES))
        return context.get_dummy_value()

    weight = types.float32
    return types.void(words, types.uint64, before, after, types.uint64, weight, weight, new), codegen


def _blend_pairs(pairs, i, before, after, k, above, below, new):
    """Blend 16 pixels with 16-bit entries: pairs[2 * i:] becomes new[k:].

    Parameters
    ----------
    pairs : uint32, two a pixel: the upper left entry in the lower half, the upper right one; the lower two
    """
    words = pairs[2 * i : 2 * i + np.uint64(32)].copy().view(np.uint16).astype(np.float32).reshape(16, 4)
    left, right = before[k : k + np.uint64(16)], after[k : k + np.uint64(16)]
    upper = words[:, 0] * left + words[:, 1] * right
    lower = words[:, 2] * left + words[:, 3] * right
    new[k : k + np.uint64(16)] = np.rint(upper * above + lower * below)


@intrinsic
def _blend_pairs_ir(typingctx, pairs, i, before, after, k, above, below, new):
    def codegen(context, builder, signature, args):
        def at(which, index, kind):
            return _pointer(context, builder, signature, args, which, index, kind)

        def halves(pair):
            half, bits = ir.Constant(_WORDS, [65535] * 16), ir.Constant(_WORDS, [16] * 16)
            return [builder.and_(pair, half), builder.lshr(pair, bits)]

        words = _load(builder, at(0, builder.add(args[1], args[1]), ir.VectorType(ir.IntType(32), 32)))
        upper, lower = (
            builder.shuffle_vector(words, words, ir.Constant(_WORDS, list(range(first, 32, 2))))
            for first in (0, 1)
        )
        columns = _load(builder, at(2, args[4], _FLOATS)), _load(builder, at(3, args[4], _FLOATS))
        rows = (_everywhere(builder, args[5], _FLOATS), _everywhere(builder, args[6], _FLOATS))
        level = _blended(builder, halves(upper) + halves(lower), columns, rows, _SHORTS)
        _store(builder, level, at(7, args[4], _SHORTS))
        return context.get_dummy_value()

    weight = types.float32
    return types.void(pairs, types.uint64, before, after, types.uint64, weight, weight, new), codegen


def _blended(builder, entries, columns, rows, kind=_BYTES):
    """Return the levels of 16 pixels, from the entries of four tables and the weights; every step rounds."""

    def between(a, b, weights):
        return builder.fadd(builder.fmul(a, weights[0]), builder.fmul(b, weights[1]))

    a, b, c, d = (builder.sitofp(entry, _FLOATS) for entry in entries)
    level = between(between(a, b, columns), between(c, d, columns), rows)
    rounded = builder.fadd(level, ir.Constant(_FLOATS, [float(SHIFT)] * 16))
    return builder.trunc(builder.bitcast(rounded, _WORDS), kind)


blend_16 = _blend_16 if config.DISABLE_JIT else _blend_16_ir
blend_pairs = _blend_pairs if config.DISABLE_JIT else _blend_pairs_ir


@inline
def blend_one(word, before, after, above, below):
    """Blend one pixel."""
    byte = np.uint32(255)
    a = np.float32(np.int32(word & byte))
    b = np.float32(np.int32((word >> np.uint32(8)) & byte))
    c = np.float32(np.int32((word >> np.uint32(16)) & byte))
    d = np.float32(np.int32(word >> np.uint32(24)))
    return np.uint8(whole((a * before + b * after) * above + (c * before + d * after) * below))


@intrinsic
def blend_avx512(typingctx, source, target, shape, corners, columns, rows):
    """Map a cell, pixels between the same four tables: look up all four, 64 pixels at a time, and blend.

    Parameters
    ----------
    source, target : (address of the first pixel, bytes from row to row)
    shape : (rows, columns)
    corners : addresses of the tables at the upper left, upper right, lower left, lower right
    columns : addresses of the weights of left and right, float32, one a column
    rows : addresses of the weights of upper and lower, float32, one a row
    """

    def codegen(context, builder, signature, args):
        source, target, shape, corners, columns, rows = (cgutils.unpack_tuple(builder, one) for one in args)
        tables = [table_512(builder, corner) for corner in corners]

        def at(row):
            """Return where a row is read and written, and its weights."""
            old, new = (builder.add(one[0], builder.mul(one[1], row)) for one in (source, target))
            weights = [builder.add(one, builder.mul(row, _word(4))) for one in rows]
            return old, new, [_everywhere(builder, _weight(builder, one), _FLOATS) for one in weights]

        narrow = builder.icmp_unsigned("<=", shape[1], _word(32))
        in_pairs = builder.select(narrow, builder.and_(shape[0], _word(-2)), _word(0))
        with cgutils.for_range_slice(builder, _word(0), in_pairs, _word(2)) as (row, _):
            _blend_two_rows(builder, [at(row), at(builder.add(row, _word(1)))], shape[1], tables, columns)
        with cgutils.for_range_slice(builder, in_pairs, shape[0], _word(1)) as (row, _):
            _blend_row(builder, at(row), shape[1], tables, columns)
        return context.get_dummy_value()

    word = types.uint64
    kinds = [types.UniTuple(word, n) for n in (2, 2, 2, 4, 2, 2)]
    return types.void(*kinds), codegen


def _blend_row(builder, row, width, tables, columns):
    """Write the code for one row: whole vectors, then one in part."""
    source, target, weights = row

    def blend(at, length):
        pixels = _masked_load(builder, builder.add(source, at), length, _V64)
        found = [look_up_512(builder, table, pixels) for table in tables]
        for part in range(4):
            start = builder.add(at, _word(16 * part))
            rest = None if length is None else builder.sub(length, _word(16 * part))
            _blend_some(builder, found, part, columns, weights, target, start, rest)

    with cgutils.for_range(builder, builder.lshr(width, _word(6))) as loop:
        blend(builder.shl(loop.index, _word(6)), None)
    last = builder.and_(width, _word(63))
    with builder.if_then(builder.icmp_unsigned("!=", last, _word(0))):
        blend(builder.sub(width, last), last)


def _blend_two_rows(builder, rows, width, tables, columns):
    """Write the code for two rows of up to 32 pixels, looked up at once."""
    halves = [_masked_load(builder, source, width, _V32) for source, _, _ in rows]
    both = ir.Constant(ir.VectorType(ir.IntType(32), 64), list(range(64)))
    pixels = builder.shuffle_vector(*halves, both)
    found = [look_up_512(builder, table, pixels) for table in tables]
    for part in range(4):
        _, target, weights = rows[part // 2]
        start = _word(16 * (part % 2))
        _blend_some(builder, found, part, columns, weights, target, start, builder.sub(width, start))


def _blend_some(builder, found, part, columns, weights, target, start, length):
    """Blend the part-th 16 of 64 pixels, or the first `length` of them, and write them from `start` on."""

    def blend():
        lanes = ir.Constant(_WORDS, [16 * part + i for i in range(16)])
        entries = [builder.zext(builder.shuffle_vector(one, one, lanes), _WORDS) for one in found]
        here = [builder.add(one, builder.mul(start, _word(4))) for one in columns]
        across = [_masked_load(builder, one, length, _FLOATS) for one in here]
        level = _blended(builder, entries, across, weights)
        _masked_store(builder, level, builder.add(target, start), length)

    if length is None:
        blend()
    else:
        with builder.if_then(builder.icmp_signed(">", length, _word(0))):
            blend()


def _weight(builder, address):
    return builder.load(builder.inttoptr(address, ir.FloatType().as_pointer()))
