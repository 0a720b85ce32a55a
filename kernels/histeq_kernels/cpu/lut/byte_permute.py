"""Lookups of 64 pixels at a time with AVX-512, by `vpermb` in each quarter of the table."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from histeq_kernels.cpu.core.kernel import inline
from histeq_kernels.cpu.core.llvm import I32, I8x64, call, i64, load, masked_load, masked_store
from histeq_kernels.cpu.core.views import address_in, address_of


@inline
def map_rows(image, table, workspace, past_caches, out):
    """Map (depth, rows, columns), the last row first; rows that are adjacent in memory are mapped as one."""
    depth, height, width = np.uint64(image.shape[0]), np.uint64(image.shape[1]), np.uint64(image.shape[2])
    one, entries, beyond = np.uint64(1), address_in(table, np.uint64(0)), np.uint64(past_caches)
    if image.strides[1] == image.shape[2] == out.strides[1]:
        height, width = one, height * width
    for z in range(depth):
        for y in range(height):
            old = address_of(image, depth - one - z, height - one - y)
            new = address_of(out, depth - one - z, height - one - y)
            look_up(old, width, entries, new, beyond)


@inline
def map_row(pixels, table, workspace, past_caches, new):
    """Map a row."""
    zero = np.uint64(0)
    source, entries, target = address_in(pixels, zero), address_in(table, zero), address_in(new, zero)
    look_up(source, np.uint64(pixels.size), entries, target, np.uint64(past_caches))


@inline
def map_chunk(pixels, table, steps, new):
    """Map a chunk of pixels, which stays in the caches."""
    map_row(pixels, table, steps, False, new)


@intrinsic
def look_up(typingctx, source, size, table, target, past_caches):
    """Map `size` pixels through a table of 256 bytes.

    `source`, `table` and `target` are addresses; `past_caches` selects stores that bypass the caches. The
    last pixels come first, because they were counted last and are still in a cache. Stores are aligned to
    cache lines, since a store across two lines takes twice the time. The pixels before the first line and
    after the last one are stored by masked vectors.
    """

    def codegen(context, builder, signature, args):
        source, size, table, target, past_caches = args
        quarters = load_table(builder, table)

        def some(at, length):
            pixels = masked_load(builder, builder.add(source, at), length, I8x64)
            masked_store(builder, look_up_64(builder, quarters, pixels), builder.add(target, at), length)

        def vectors(start, count, nontemporal):
            with cgutils.for_range(builder, count) as loop:
                left = builder.sub(builder.sub(count, i64(1)), loop.index)
                at = builder.add(start, builder.shl(left, i64(6)))
                pixels = masked_load(builder, builder.add(source, at), None, I8x64)
                pointer = builder.inttoptr(builder.add(target, at), I8x64.as_pointer())
                stored = builder.store(look_up_64(builder, quarters, pixels), pointer, align=64)
                if nontemporal:
                    stored.set_metadata("nontemporal", builder.module.add_metadata([I32(1)]))
            if nontemporal:  # such stores are unordered: they must be visible to other threads afterwards
                call(builder, "llvm.x86.sse.sfence", ir.VoidType())

        before = builder.and_(builder.neg(target), i64(63))
        before = builder.select(builder.icmp_unsigned("<", before, size), before, size)
        rest = builder.sub(size, before)
        last = builder.and_(rest, i64(63))
        some(builder.sub(size, last), last)
        with builder.if_else(builder.icmp_unsigned("!=", past_caches, i64(0))) as branches:
            for branch, nontemporal in zip(branches, (True, False), strict=True):
                with branch:
                    vectors(before, builder.lshr(rest, i64(6)), nontemporal)
        some(i64(0), before)
        return context.get_dummy_value()

    word = types.uint64
    return types.void(word, word, word, word, word), codegen


def load_table(builder, address):
    """Load a table of 256 bytes as four vectors."""
    entries = builder.inttoptr(address, I8x64.as_pointer())
    return [load(builder, builder.gep(entries, [i64(k)])) for k in range(4)]


def look_up_64(builder, quarters, pixels):
    """Look up 64 pixels in each quarter of a table, and select the results by the two top bits of the pixels.

    `vpermb` is a single operation, while `vpermi2b`, which looks up two quarters, takes three on Intel's
    processors.
    """
    top = builder.icmp_signed("<", pixels, ir.Constant(I8x64, [0] * 64))
    second = builder.and_(pixels, ir.Constant(I8x64, [64] * 64))
    second = builder.icmp_unsigned("!=", second, ir.Constant(I8x64, [0] * 64))
    permute = "llvm.x86.avx512.permvar.qi.512"
    found = [call(builder, permute, I8x64, quarter, pixels) for quarter in quarters]
    result = builder.select(second, found[1], found[0])
    result = builder.select(top, found[2], result)
    return builder.select(builder.and_(top, second), found[3], result)
