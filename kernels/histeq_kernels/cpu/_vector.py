"""What kernels need beyond Numba's language: rows without stride checks, wide loads, vector instructions.

Each function writes LLVM IR where it is called. With the JIT off, the first ones have plain Python forms;
the tiers that use the others are not offered then.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

BLOCK = 512
"""Pixels of one `slice_block`."""
BLOCKS = 8
"""Blocks whose masks `count_slices` counts at once: sixteen sums stay in registers meanwhile."""

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_V32 = ir.VectorType(_I8, 32)
_V64 = ir.VectorType(_I8, 64)
_Q8 = ir.VectorType(_I64, 8)


def _row(image, z, y):
    """Return image[z, y], whose last stride is one element, as a contiguous array."""
    return image[z, y]


def _line(image):
    """Return a contiguous array as one row."""
    return image.reshape(image.size)


def _part(element: Any) -> Any:
    """Return the function that gives a part of a contiguous memory as elements of a type."""

    def part(memory, start, size):
        """Return `size` elements from entry `start` on."""
        kind, first = np.dtype(str(element)), int(start) * memory.itemsize
        return memory.view(np.uint8)[first : first + int(size) * kind.itemsize].view(kind)

    return part


def _load_64(pixels, i):
    """Return the eight bytes from element i on as one word."""
    size = pixels.itemsize
    return np.uint64(pixels[i : i + np.uint64(8 // size)].copy().view(np.uint64)[0])


def _store_64(out, i, word):
    """Write one word over the eight bytes from element i on."""
    size = out.itemsize
    out[i : i + np.uint64(8 // size)] = np.array([word], np.uint64).view(out.dtype)


@intrinsic
def _row_ir(typingctx, image, z, y):
    result = types.Array(image.dtype, 1, "C", readonly=not image.mutable)

    def codegen(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        strides = cgutils.unpack_tuple(builder, array.strides, 3)
        offset = builder.add(builder.mul(args[1], strides[0]), builder.mul(args[2], strides[1]))
        length = cgutils.unpack_tuple(builder, array.shape, 3)[2]
        return _view(context, builder, result, array, offset, length)

    return result(image, types.uint64, types.uint64), codegen


@intrinsic
def _line_ir(typingctx, image):
    result = types.Array(image.dtype, 1, "C", readonly=not image.mutable)

    def codegen(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        return _view(context, builder, result, array, _word(0), array.nitems)

    return result(image), codegen


def _part_ir(element: Any) -> Any:
    result = types.Array(element, 1, "C")

    @intrinsic
    def part(typingctx, memory, start, size):
        def codegen(context, builder, signature, args):
            array = context.make_array(signature.args[0])(context, builder, args[0])
            offset = builder.mul(args[1], array.itemsize)
            return _view(context, builder, result, array, offset, args[2])

        return result(memory, types.int64, types.int64), codegen

    return part


def _view(context, builder, kind, array, offset, length):
    """Return a contiguous array of `length` elements, `offset` bytes into another array."""
    view = context.make_array(kind)(context, builder)
    address = builder.add(builder.ptrtoint(array.data, _I64), offset)
    size = _word(context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    data = builder.inttoptr(address, view.data.type)
    context.populate_array(view, data=data, shape=[length], strides=[size], itemsize=size, meminfo=None)
    return view._getvalue()


@intrinsic
def _load_64_ir(typingctx, pixels, i):
    def codegen(context, builder, signature, args):
        return _load(builder, _pointer(context, builder, signature, args, 0, args[1], _I64))

    return types.uint64(pixels, types.uint64), codegen


@intrinsic
def _store_64_ir(typingctx, out, i, word):
    def codegen(context, builder, signature, args):
        _store(builder, args[2], _pointer(context, builder, signature, args, 0, args[1], _I64))
        return context.get_dummy_value()

    return types.void(out, types.uint64, types.uint64), codegen


row = _row if config.DISABLE_JIT else _row_ir
line = _line if config.DISABLE_JIT else _line_ir
part = _part if config.DISABLE_JIT else _part_ir
part_8, part_16, part_32 = part(types.uint8), part(types.uint16), part(types.uint32)
part_i32, part_i64, part_f64 = part(types.int32), part(types.int64), part(types.float64)
load_64 = _load_64 if config.DISABLE_JIT else _load_64_ir
store_64 = _store_64 if config.DISABLE_JIT else _store_64_ir


@intrinsic
def lookup_64_avx2(typingctx, pixels, i, steps, out):
    """Map pixels i to i + 63 through a table of 256 bytes, given as the `steps` of `lut.map_avx2`.

    `vpshufb` looks up one of sixteen entries, and gives 0 where the index is negative. Each half of the
    table is gone through sixteen entries at a time; a pixel takes the differences (xor) between successive
    sixteenths up to its own. Saturation keeps the indices of the other half, and those passed, negative.
    """

    def codegen(context, builder, signature, args):
        source = _pointer(context, builder, signature, args, 0, args[1], _V32)
        target = _pointer(context, builder, signature, args, 3, args[1], _V32)
        table = _pointer(context, builder, signature, args, 2, _word(0), ir.VectorType(_I8, 16))
        twice = ir.Constant(ir.VectorType(_I32, 32), [*range(16), *range(16)])
        pixel = [_load(builder, builder.gep(source, [_word(k)])) for k in range(2)]
        result: list[Any] = [ir.Constant(_V32, [0] * 32)] * 2
        for half in range(2):
            index = [builder.xor(x, ir.Constant(_V32, [128 * half] * 32)) for x in pixel]
            for entry in range(8):
                entries = _load(builder, builder.gep(table, [_word(8 * half + entry)]))
                entries = builder.shuffle_vector(entries, entries, twice)
                for k in range(2):
                    if entry:
                        step = ir.Constant(_V32, [16] * 32)
                        index[k] = _call(builder, "llvm.ssub.sat.v32i8", _V32, index[k], step)
                    found = _call(builder, "llvm.x86.avx2.pshuf.b", _V32, entries, index[k])
                    result[k] = builder.xor(result[k], found)
        for k in range(2):
            _store(builder, result[k], builder.gep(target, [_word(k)]))
        return context.get_dummy_value()

    return types.void(pixels, types.uint64, steps, out), codegen


@intrinsic
def lookup_64_avx512(typingctx, pixels, i, table, out):
    """Map pixels i to i + 63 through a table of 256 bytes: two `vpermi2b` and a choice by the top bit."""

    def codegen(context, builder, signature, args):
        pixel = _load(builder, _pointer(context, builder, signature, args, 0, args[1], _V64))
        entries = _pointer(context, builder, signature, args, 2, _word(0), _V64)
        quarter = [_load(builder, builder.gep(entries, [_word(k)])) for k in range(4)]
        permute = "llvm.x86.avx512.vpermi2var.qi.512"
        low = _call(builder, permute, _V64, quarter[0], pixel, quarter[1])
        high = _call(builder, permute, _V64, quarter[2], pixel, quarter[3])
        is_high = builder.icmp_signed("<", pixel, ir.Constant(_V64, [0] * 64))
        target = _pointer(context, builder, signature, args, 3, args[1], _V64)
        _store(builder, builder.select(is_high, high, low), target)
        return context.get_dummy_value()

    return types.void(pixels, types.uint64, table, out), codegen


def _slice_block(transpose):
    """Return the intrinsic that writes the nibble masks of a block, with one way to transpose bits."""

    @intrinsic
    def slice_block(typingctx, pixels, i, masks, block):
        """Write the nibble masks of the pixels from i on: 512 bits each, at masks[nibble, block].

        Masks 0 to 15 have a bit for every pixel with that low nibble, 16 to 31 with that high nibble. The
        pixels' order in a mask is the same in all of them, which is all that counting needs.
        """

        def codegen(context, builder, signature, args):
            source = _pointer(context, builder, signature, args, 0, args[1], _V64)
            target = _pointer(context, builder, signature, args, 2, _word(0), _Q8)
            ahead = _pointer(context, builder, signature, args, 0, builder.add(args[1], _word(8192)), _I8)
            for line in range(BLOCK // 64):  # beyond the cache, 8 KB ahead keeps up with memory
                address = builder.gep(ahead, [_word(64 * line)])
                arguments = ir.FunctionType(ir.VoidType(), [address.type, _I32, _I32, _I32])
                prefetch = builder.module.declare_intrinsic("llvm.prefetch", [address.type], arguments)
                builder.call(prefetch, [address, _I32(0), _I32(3), _I32(1)])
            planes = _bit_planes(builder, source, transpose)
            for half in range(2):
                for nibble, mask in enumerate(_nibble_masks(builder, planes[4 * half : 4 * half + 4])):
                    at = builder.add(_word((16 * half + nibble) * BLOCKS), args[3])
                    _store(builder, mask, builder.gep(target, [at]))
            return context.get_dummy_value()

        return types.void(pixels, types.uint64, masks, types.uint64), codegen

    return slice_block


@intrinsic
def count_slices(typingctx, masks, high, totals):
    """Add to totals[16 * high + low], eight lanes each, the pixels with both nibbles, for each low."""

    def codegen(context, builder, signature, args):
        source = _pointer(context, builder, signature, args, 0, _word(0), _Q8)
        target = _pointer(context, builder, signature, args, 2, builder.mul(args[1], _word(128)), _Q8)
        sums = [cgutils.alloca_once_value(builder, ir.Constant(_Q8, [0] * 8)) for _ in range(16)]
        for total in sums:
            builder.store(ir.Constant(_Q8, [0] * 8), total)
        first = builder.mul(builder.add(args[1], _word(16)), _word(BLOCKS))
        with cgutils.for_range(builder, _word(BLOCKS)) as loop:
            mask = _load(builder, builder.gep(source, [builder.add(first, loop.index)]))
            some = _call(builder, "llvm.vector.reduce.or.v8i64", _I64, mask)
            with builder.if_then(builder.icmp_unsigned("!=", some, _word(0))):
                for low, total in enumerate(sums):
                    at = builder.add(_word(low * BLOCKS), loop.index)
                    both = builder.and_(mask, _load(builder, builder.gep(source, [at])))
                    bits = _call(builder, "llvm.ctpop.v8i64", _Q8, both)
                    builder.store(builder.add(builder.load(total), bits), total)
        for low, total in enumerate(sums):
            at = builder.gep(target, [_word(low)])
            _store(builder, builder.add(_load(builder, at), builder.load(total)), at)
        return context.get_dummy_value()

    return types.void(masks, types.uint64, totals), codegen


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


def _bit_planes(builder, source, transpose):
    """Return the eight bit planes of 512 pixels, one 512-bit vector each."""
    gather = ir.Constant(ir.VectorType(_I32, 64), [8 * (i % 8) + i // 8 for i in range(64)])
    rows = []
    for k in range(8):
        bits = transpose(builder, _load(builder, builder.gep(source, [_word(k)])))
        rows.append(builder.bitcast(builder.shuffle_vector(bits, bits, gather), _Q8))
    for step in (1, 2, 4):  # word b of every row belongs to plane b: transpose 8 x 8 words
        low = [8 + i - step if i & step else i for i in range(8)]
        high = [8 + i if i & step else i + step for i in range(8)]
        low, high = (ir.Constant(ir.VectorType(_I32, 8), lanes) for lanes in (low, high))
        for i in (i for i in range(8) if not i & step):
            a, b = rows[i], rows[i + step]
            rows[i] = builder.shuffle_vector(a, b, low)
            rows[i + step] = builder.shuffle_vector(a, b, high)
    return rows


def _nibble_masks(builder, planes):
    """Return, for each value of four bits, where the planes have it."""
    ones = ir.Constant(_Q8, [-1] * 8)
    inverse = [builder.xor(plane, ones) for plane in planes]
    pick = [[inverse[b], planes[b]] for b in range(4)]
    low = [builder.and_(pick[0][v & 1], pick[1][v >> 1]) for v in range(4)]
    high = [builder.and_(pick[2][v & 1], pick[3][v >> 1]) for v in range(4)]
    return [builder.and_(low[v & 3], high[v >> 2]) for v in range(16)]


def _pointer(context, builder, signature, args, which, index, kind):
    """Return the address of an element of an array argument as a pointer to `kind`."""
    array = context.make_array(signature.args[which])(context, builder, args[which])
    return builder.bitcast(builder.gep(array.data, [index]), kind.as_pointer())


def _load(builder, pointer):
    loaded = builder.load(pointer)
    loaded.align = 1
    return loaded


def _store(builder, value, pointer):
    builder.store(value, pointer).align = 1


def _call(builder, name, result, *args):
    kind = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


def _word(value):
    return ir.Constant(_I64, value)
