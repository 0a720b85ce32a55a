"""Interpolation of 8-bit pixels with AVX-512: `vpermb` looks up 64 pixels at a time in each table."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from histeq_kernels.cpu.clahe.runs import end_of_run
from histeq_kernels.cpu.clahe.weights import weighted_mean
from histeq_kernels.cpu.core.kernel import inline
from histeq_kernels.cpu.core.llvm import (
    F32,
    I32,
    F32x16,
    I8x32,
    I8x64,
    I32x16,
    i64,
    masked_load,
    masked_store,
    splat,
)
from histeq_kernels.cpu.core.views import address_of
from histeq_kernels.cpu.lut.byte_permute import load_table, look_up_64


@inline
def blend_plane(image, down, across, tables, packed, found, out):
    """Map (1, rows, columns); `down` and `across` are the tiles around rows and columns, with weights."""
    (ys, y_weights), (xs, x_weights) = down, across
    height, width, zero, one = (
        np.uint64(image.shape[1]),
        np.uint64(image.shape[2]),
        np.uint64(0),
        np.uint64(1),
    )
    strides, top = (np.uint64(image.strides[1]), np.uint64(out.strides[1])), zero
    while top < height:
        bottom, left = end_of_run(ys, top, height), zero
        upper = address_of(tables, np.uint64(ys[0, top]), zero)
        lower = address_of(tables, np.uint64(ys[1, top]), zero)
        rows = (address_of(y_weights, zero, top), address_of(y_weights, one, top))
        while left < width:
            right = end_of_run(xs, left, width)
            before, after = np.uint64(256 * xs[0, left]), np.uint64(256 * xs[1, left])
            corners = (upper + before, upper + after, lower + before, lower + after)
            columns = (address_of(x_weights, zero, left), address_of(x_weights, one, left))
            old = (address_of(image, zero, top) + left, strides[0])
            new = (address_of(out, zero, top) + left, strides[1])
            blend_cell(old, new, (bottom - top, right - left), corners, columns, rows)
            left = right
        top = bottom


@intrinsic
def blend_cell(typingctx, source, target, shape, corners, columns, rows):
    """Map a cell, the pixels between the same four tiles: look up 64 pixels in each table, and blend.

    Parameters
    ----------
    source, target : (address of the first pixel, bytes from row to row)
    shape : (rows, columns)
    corners : addresses of the tables at the upper left, upper right, lower left, lower right
    columns : addresses of the weights of left and right, float32, one per column
    rows : addresses of the weights of upper and lower, float32, one per row
    """

    def codegen(context, builder, signature, args):
        source, target, shape, corners, columns, rows = (cgutils.unpack_tuple(builder, item) for item in args)
        tables = [load_table(builder, corner) for corner in corners]

        def at(row):
            """Return the addresses where a row is read and written, and its weights."""
            old, new = (builder.add(item[0], builder.mul(item[1], row)) for item in (source, target))
            weights = [builder.add(item, builder.mul(row, i64(4))) for item in rows]
            return old, new, [splat(builder, _weight(builder, item), F32x16) for item in weights]

        narrow = builder.icmp_unsigned("<=", shape[1], i64(32))
        in_pairs = builder.select(narrow, builder.and_(shape[0], i64(-2)), i64(0))
        with cgutils.for_range_slice(builder, i64(0), in_pairs, i64(2)) as (row, _):
            _blend_two_rows(builder, [at(row), at(builder.add(row, i64(1)))], shape[1], tables, columns)
        with cgutils.for_range_slice(builder, in_pairs, shape[0], i64(1)) as (row, _):
            _blend_row(builder, at(row), shape[1], tables, columns)
        return context.get_dummy_value()

    word = types.uint64
    kinds = [types.UniTuple(word, n) for n in (2, 2, 2, 4, 2, 2)]
    return types.void(*kinds), codegen


def _blend_row(builder, row, width, tables, columns):
    """Emit the code for one row: whole vectors, then a masked one."""
    source, target, weights = row

    def blend(at, length):
        pixels = masked_load(builder, builder.add(source, at), length, I8x64)
        found = [look_up_64(builder, table, pixels) for table in tables]
        for part in range(4):
            start = builder.add(at, i64(16 * part))
            rest = None if length is None else builder.sub(length, i64(16 * part))
            _blend_quarter(builder, found, part, columns, weights, target, start, rest)

    with cgutils.for_range(builder, builder.lshr(width, i64(6))) as loop:
        blend(builder.shl(loop.index, i64(6)), None)
    last = builder.and_(width, i64(63))
    with builder.if_then(builder.icmp_unsigned("!=", last, i64(0))):
        blend(builder.sub(width, last), last)


def _blend_two_rows(builder, rows, width, tables, columns):
    """Emit the code for two rows of up to 32 pixels, which are looked up together."""
    halves = [masked_load(builder, source, width, I8x32) for source, _, _ in rows]
    both = ir.Constant(ir.VectorType(I32, 64), list(range(64)))
    pixels = builder.shuffle_vector(*halves, both)
    found = [look_up_64(builder, table, pixels) for table in tables]
    for part in range(4):
        _, target, weights = rows[part // 2]
        start = i64(16 * (part % 2))
        _blend_quarter(builder, found, part, columns, weights, target, start, builder.sub(width, start))


def _blend_quarter(builder, found, part, columns, weights, target, start, length):
    """Blend the part-th 16 of 64 pixels, or only the first `length`, and store them from `start` on."""

    def blend():
        lanes = ir.Constant(I32x16, [16 * part + i for i in range(16)])
        entries = [builder.zext(builder.shuffle_vector(item, item, lanes), I32x16) for item in found]
        here = [builder.add(item, builder.mul(start, i64(4))) for item in columns]
        across = [masked_load(builder, item, length, F32x16) for item in here]
        level = weighted_mean(builder, entries, across, weights)
        masked_store(builder, level, builder.add(target, start), length)

    if length is None:
        blend()
    else:
        with builder.if_then(builder.icmp_signed(">", length, i64(0))):
            blend()


def _weight(builder, address):
    """Load a weight."""
    return builder.load(builder.inttoptr(address, F32.as_pointer()))
