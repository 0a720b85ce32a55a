"""Lookups of 64 pixels at a time with AVX2, by sixteen `vpshufb` per vector."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from histeq_kernels.cpu.core.kernel import inline
from histeq_kernels.cpu.core.llvm import I32, I8x16, I8x32, call, i64, load, pointer_to, store
from histeq_kernels.cpu.core.views import part_8, row


@inline
def prepare_table(table, workspace):
    """Write the steps of a table (see `fill_steps`) into the first 256 bytes of a workspace of any type."""
    fill_steps(table, part_8(workspace, 0, 256))


@inline
def map_rows(image, table, workspace, past_caches, out):
    """Map the pixels of (depth, rows, columns) with contiguous rows."""
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            map_row(row(image, z, y), table, workspace, past_caches, row(out, z, y))


@inline
def map_row(pixels, table, workspace, past_caches, new):
    """Map a row; the workspace holds the steps of the table."""
    map_chunk(pixels, table, part_8(workspace, 0, 256), new)


@inline
def fill_steps(table, steps):
    """Write the steps of a table: the differences (xor) between its successive sixteenths, in each half."""
    sixteenth = np.uint64(16)
    for i in range(np.uint64(256) - sixteenth):
        steps[i + sixteenth] = table[i + sixteenth] ^ table[i]
    for i in range(sixteenth):
        steps[i] = table[i]
        steps[i + np.uint64(128)] = table[i + np.uint64(128)]


@inline
def map_chunk(pixels, table, steps, new):
    """Map pixels in contiguous memory."""
    vectors = np.uint64(pixels.size - pixels.size % 64)
    for i in range(np.uint64(0), vectors, np.uint64(64)):
        look_up_64(pixels, i, steps, new)
    for i in range(vectors, np.uint64(pixels.size)):
        new[i] = table[pixels[i]]


@intrinsic
def look_up_64(typingctx, pixels, i, steps, out):
    """Map pixels i to i + 63 through a table of 256 bytes, given as the steps of `fill_steps`.

    `vpshufb` looks up one of sixteen entries, and returns 0 if the index is negative. For each half of the
    table, sixteen entries at a time, a pixel accumulates the differences (xor) between successive sixteenths
    up to its own. Saturating subtraction keeps the indices of later sixteenths, and of the other half,
    negative.
    """

    def codegen(context, builder, signature, args):
        source = pointer_to(context, builder, signature, args, 0, args[1], I8x32)
        target = pointer_to(context, builder, signature, args, 3, args[1], I8x32)
        table = pointer_to(context, builder, signature, args, 2, i64(0), I8x16)
        twice = ir.Constant(ir.VectorType(I32, 32), [*range(16), *range(16)])
        pixel = [load(builder, builder.gep(source, [i64(k)])) for k in range(2)]
        result: list[Any] = [ir.Constant(I8x32, [0] * 32)] * 2
        for half in range(2):
            index = [builder.xor(x, ir.Constant(I8x32, [128 * half] * 32)) for x in pixel]
            for entry in range(8):
                entries = load(builder, builder.gep(table, [i64(8 * half + entry)]))
                entries = builder.shuffle_vector(entries, entries, twice)
                for k in range(2):
                    if entry:
                        step = ir.Constant(I8x32, [16] * 32)
                        index[k] = call(builder, "llvm.ssub.sat.v32i8", I8x32, index[k], step)
                    found = call(builder, "llvm.x86.avx2.pshuf.b", I8x32, entries, index[k])
                    result[k] = builder.xor(result[k], found)
        for k in range(2):
            store(builder, result[k], builder.gep(target, [i64(k)]))
        return context.get_dummy_value()

    return types.void(pixels, types.uint64, steps, out), codegen
