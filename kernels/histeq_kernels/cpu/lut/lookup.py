"""Lookups by loads: of single pixels in the table itself, or of pairs of 8-bit pixels in a table of pairs."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from histeq_kernels.cpu.core.kernel import inline
from histeq_kernels.cpu.core.llvm import I16, I64, i64, load, pointer_to, store
from histeq_kernels.cpu.core.views import load_64, row, store_64

WORKSPACE = 1 << 16
"""Entries of the workspace for lookups, uint16, of any content."""
MIN_PIXELS = 1 << 14
"""The number of pixels from which a table of pairs saves more time than filling it takes."""


@inline
def map_single(image, table, out):
    """Map the pixels of (depth, rows, columns) with contiguous rows, one at a time."""
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            map_row_single(row(image, z, y), table, row(out, z, y))


@inline
def map_row_single(pixels, table, new):
    """Map a row, one pixel at a time."""
    for i in range(np.uint64(pixels.size)):
        new[i] = table[pixels[i]]


@inline
def map_chunk(pixels, table, steps, new):
    """Map a chunk of pixels, one at a time; `steps` are not used."""
    map_row_single(pixels, table, new)


@inline
def prepare_nothing(table, workspace):
    """Do nothing, since the lookups need only the table itself."""


@inline
def fill_pairs(table, pairs):
    """Write the table of all pairs of pixels."""
    for high in range(np.uint64(256)):
        top = np.uint16(table[high]) << np.uint16(8)
        for low in range(np.uint64(256)):
            pairs[high * np.uint64(256) + low] = top | np.uint16(table[low])


@inline
def map_rows_by_pairs(image, table, pairs, past_caches, out):
    """Map the pixels of (depth, rows, columns) with contiguous rows, two at a time."""
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            map_row_by_pairs(row(image, z, y), table, pairs, past_caches, row(out, z, y))


@inline
def map_row_by_pairs(pixels, table, pairs, past_caches, new):
    """Map the pairs of a row, and the few remaining pixels one by one."""
    mask = np.uint64(0xFFFF)
    vectors = np.uint64(pixels.size - pixels.size % 8)
    for i in range(np.uint64(0), vectors, np.uint64(8)):
        word = load_64(pixels, i)
        store_64(
            new,
            i,
            np.uint64(pairs[word & mask])
            | np.uint64(pairs[(word >> np.uint64(16)) & mask]) << np.uint64(16)
            | np.uint64(pairs[(word >> np.uint64(32)) & mask]) << np.uint64(32)
            | np.uint64(pairs[word >> np.uint64(48)]) << np.uint64(48),
        )
    for i in range(vectors, np.uint64(pixels.size)):
        new[i] = table[pixels[i]]


@inline
def map_row_16(pixels, table, new):
    """Map a row of 16-bit pixels, with one store for every eight."""
    vectors = np.uint64(pixels.size - pixels.size % 8)
    for i in range(np.uint64(0), vectors, np.uint64(8)):
        look_up_8(pixels, i, table, new)
    for i in range(vectors, np.uint64(pixels.size)):
        new[i] = table[pixels[i]]


def _look_up_8(pixels, i, table, new):
    """Map eight pixels from element i on, and store them as one vector."""
    new[i : i + np.uint64(8)] = table[pixels[i : i + np.uint64(8)]]


@intrinsic
def _look_up_8_ir(typingctx, pixels, i, table, new):
    def codegen(context, builder, signature, args):
        kind = ir.VectorType(context.get_data_type(signature.args[3].dtype), 8)
        result = ir.Constant(kind, ir.Undefined)
        for k in range(8):
            at = builder.add(args[1], i64(k))
            pixel = load(builder, pointer_to(context, builder, signature, args, 0, at, I16))
            index = builder.zext(pixel, I64)
            entry = load(builder, pointer_to(context, builder, signature, args, 2, index, kind.element))
            result = builder.insert_element(result, entry, i64(k))
        store(builder, result, pointer_to(context, builder, signature, args, 3, args[1], kind))
        return context.get_dummy_value()

    return types.void(pixels, types.uint64, table, new), codegen


look_up_8 = _look_up_8 if config.DISABLE_JIT else _look_up_8_ir
