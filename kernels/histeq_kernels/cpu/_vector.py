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


def _look_up_8(pixels, i, table, new):
    """Map eight pixels from element i on, to be stored as one vector."""
    new[i : i + np.uint64(8)] = table[pixels[i : i + np.uint64(8)]]


@intrinsic
def _look_up_8_ir(typingctx, pixels, i, table, new):
    def codegen(context, builder, signature, args):
        kind = ir.VectorType(context.get_data_type(signature.args[3].dtype), 8)
        result = ir.Constant(kind, ir.Undefined)
        for k in range(8):
            at = builder.add(args[1], _word(k))
            pixel = _load(builder, _pointer(context, builder, signature, args, 0, at, ir.IntType(16)))
            index = builder.zext(pixel, _I64)
            entry = _load(builder, _pointer(context, builder, signature, args, 2, index, kind.element))
            result = builder.insert_element(result, entry, _word(k))
        _store(builder, result, _pointer(context, builder, signature, args, 3, args[1], kind))
        return context.get_dummy_value()

    return types.void(pixels, types.uint64, table, new), codegen


def _cumulate(counts, start, size, below):
    """Make int32 counts cumulative, a multiple of 16 of them from `start` on; return the last.

    `below` is included in all.
    """
    some = counts[start : start + size]
    some[:] = np.cumsum(some, dtype=np.int32) + below
    return some[-1] if size else np.int32(below)


@intrinsic
def _cumulate_ir(typingctx, counts, start, size, below):
    def codegen(context, builder, signature, args):
        def at(index):
            return _pointer(context, builder, signature, args, 0, index, kind)

        kind = ir.VectorType(_I32, 16)
        carry = cgutils.alloca_once_value(builder, _everywhere(builder, args[3], kind))
        builder.store(_everywhere(builder, args[3], kind), carry)
        with cgutils.for_range(builder, builder.lshr(args[2], _word(4))) as loop:
            pointer = at(builder.add(args[1], builder.shl(loop.index, _word(4))))
            total, before = _cumulative(builder, _load(builder, pointer)), builder.load(carry)
            _store(builder, builder.add(total, before), pointer)
            builder.store(builder.add(_last(builder, total), before), carry)
        return builder.extract_element(builder.load(carry), _word(0))

    return types.int32(counts, types.uint64, types.uint64, types.int32), codegen


def _add_up(counts, start, size, below, sums):
    """Write the cumulative counts of `size` elements, a multiple of 16, to sums[1:]; return the last.

    `below` is included in all.
    """
    total = below + np.cumsum(counts[start : start + size], dtype=np.int64)
    sums[1 : 1 + size] = total
    return total[-1] if size else below


@intrinsic
def _add_up_ir(typingctx, counts, start, size, below, sums):
    def codegen(context, builder, signature, args):
        wide = signature.args[0].dtype.bitwidth == 64  # else sums have 32 bits too: twice as many go at once
        lanes, element = (8, _I64) if wide else (16, _I32)
        kind = ir.VectorType(element, lanes)
        first = _everywhere(builder, args[3] if wide else builder.trunc(args[3], _I32), kind)
        carry = cgutils.alloca_once_value(builder, first)
        builder.store(first, carry)
        with cgutils.for_range(builder, builder.udiv(args[2], _word(lanes))) as loop:
            index = builder.mul(loop.index, _word(lanes))
            pointer = _pointer(context, builder, signature, args, 0, builder.add(args[1], index), kind)
            total, before = _cumulative(builder, _load(builder, pointer)), builder.load(carry)
            real = builder.sitofp(builder.add(total, before), ir.VectorType(ir.DoubleType(), lanes))
            index = builder.add(index, _word(1))
            _store(builder, real, _pointer(context, builder, signature, args, 4, index, real.type))
            builder.store(builder.add(_last(builder, total), before), carry)
        total = builder.extract_element(builder.load(carry), _word(0))
        return total if wide else builder.sext(total, _I64)

    return types.int64(counts, types.uint64, types.uint64, types.int64, sums), codegen


def _cumulative(builder, counts):
    """Return the cumulative sums of a vector."""
    lanes, zeros = counts.type.count, ir.Constant(counts.type, [0] * counts.type.count)
    step = 1
    while step < lanes:  # each adds the sum of as many elements before it
        order = [lanes + k if k < step else k - step for k in range(lanes)]
        moved = builder.shuffle_vector(counts, zeros, ir.Constant(ir.VectorType(_I32, lanes), order))
        counts, step = builder.add(counts, moved), 2 * step
    return counts


def _everywhere(builder, value, kind):
    """Return a vector that has a value in every lane."""
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, _word(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_I32, kind.count), [0] * kind.count))


def _last(builder, vector):
    """Return a vector that has the last element of another one in every lane."""
    lanes = vector.type.count
    return builder.shuffle_vector(
        vector, vector, ir.Constant(ir.VectorType(_I32, lanes), [lanes - 1] * lanes)
    )


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
part_64, part_i32, part_i64 = part(types.uint64), part(types.int32), part(types.int64)
part_f64 = part(types.float64)
load_64 = _load_64 if config.DISABLE_JIT else _load_64_ir
cumulate = _cumulate if config.DISABLE_JIT else _cumulate_ir
add_up = _add_up if config.DISABLE_JIT else _add_up_ir
look_up_8 = _look_up_8 if config.DISABLE_JIT else _look_up_8_ir
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
def lookup_avx512(typingctx, source, size, table, target, past_caches):
    """Map `size` pixels through a table of 256 bytes.

    All are addresses but the size and `past_caches`, which says whether to write straight to memory. The last
    pixels come first: those were counted last, and are in a cache. Vectors are stored from a cache line on:
    one across two takes twice the time. The pixels before that, and the last ones, go in vectors in part.
    """

    def codegen(context, builder, signature, args):
        source, size, table, target, past_caches = args
        quarters = table_512(builder, table)

        def some(at, length):
            pixels = _masked_load(builder, builder.add(source, at), length, _V64)
            _masked_store(builder, look_up_512(builder, quarters, pixels), builder.add(target, at), length)

        def vectors(start, count, nontemporal):
            with cgutils.for_range(builder, count) as loop:
                left = builder.sub(builder.sub(count, _word(1)), loop.index)
                at = builder.add(start, builder.shl(left, _word(6)))
                pixels = _masked_load(builder, builder.add(source, at), None, _V64)
                pointer = builder.inttoptr(builder.add(target, at), _V64.as_pointer())
                stored = builder.store(look_up_512(builder, quarters, pixels), pointer, align=64)
                if nontemporal:
                    stored.set_metadata("nontemporal", builder.module.add_metadata([_I32(1)]))
            if nontemporal:  # such stores keep no order: whoever is told that they are done must see them
                _call(builder, "llvm.x86.sse.sfence", ir.VoidType())

        before = builder.and_(builder.neg(target), _word(63))
        before = builder.select(builder.icmp_unsigned("<", before, size), before, size)
        rest = builder.sub(size, before)
        last = builder.and_(rest, _word(63))
        some(builder.sub(size, last), last)
        with builder.if_else(builder.icmp_unsigned("!=", past_caches, _word(0))) as branches:
            for branch, nontemporal in zip(branches, (True, False), strict=True):
                with branch:
                    vectors(before, builder.lshr(rest, _word(6)), nontemporal)
        some(_word(0), before)
        return context.get_dummy_value()

    word = types.uint64
    return types.void(word, word, word, word, word), codegen


@intrinsic
def address_of(typingctx, array, i, j):
    """Return the address of array[i, j], an element or a row."""

    def codegen(context, builder, signature, args):
        view = context.make_array(signature.args[0])(context, builder, args[0])
        strides = cgutils.unpack_tuple(builder, view.strides, signature.args[0].ndim)
        offset = builder.add(builder.mul(args[1], strides[0]), builder.mul(args[2], strides[1]))
        return builder.add(builder.ptrtoint(view.data, _I64), offset)

    return types.uint64(array, types.uint64, types.uint64), codegen


@intrinsic
def address_in(typingctx, memory, i):
    """Return the address of an element of a contiguous array."""

    def codegen(context, builder, signature, args):
        return builder.ptrtoint(_pointer(context, builder, signature, args, 0, args[1], _I8), _I64)

    return types.uint64(memory, types.uint64), codegen


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


def table_512(builder, address):
    """Load a table of 256 bytes as four vectors."""
    entries = builder.inttoptr(address, _V64.as_pointer())
    return [_load(builder, builder.gep(entries, [_word(k)])) for k in range(4)]


def look_up_512(builder, quarters, pixels):
    """Look 64 pixels up in each quarter of a table, and take what belongs there by the pixels' two top bits.

    `vpermb` does both at once. `vpermi2b`, which looks up two quarters, takes three such steps on Intel's
    processors.
    """
    top = builder.icmp_signed("<", pixels, ir.Constant(_V64, [0] * 64))
    second = builder.and_(pixels, ir.Constant(_V64, [64] * 64))
    second = builder.icmp_unsigned("!=", second, ir.Constant(_V64, [0] * 64))
    permute = "llvm.x86.avx512.permvar.qi.512"
    found = [_call(builder, permute, _V64, quarter, pixels) for quarter in quarters]
    result = builder.select(second, found[1], found[0])
    result = builder.select(top, found[2], result)
    return builder.select(builder.and_(top, second), found[3], result)


def _masked_load(builder, address, size, kind, others=None):
    """Load the first `size` lanes of a vector, None for all; the others are those of `others`, or 0."""
    pointer = builder.inttoptr(address, kind.as_pointer())
    if size is None:
        return _load(builder, pointer)
    others = others or ir.Constant(kind, [0] * kind.count)
    name = f"llvm.masked.load.{_name(kind)}.p0{_name(kind)}"
    return _call(builder, name, kind, pointer, _I32(1), _first(builder, size, kind.count), others)


def _masked_store(builder, value, address, size):
    """Store the first `size` lanes of a vector, None for all."""
    pointer = builder.inttoptr(address, value.type.as_pointer())
    if size is None:
        _store(builder, value, pointer)
        return
    name = f"llvm.masked.store.{_name(value.type)}.p0{_name(value.type)}"
    mask = _first(builder, size, value.type.count)
    _call(builder, name, ir.VoidType(), value, pointer, _I32(1), mask)


def _name(kind):
    """Return what LLVM calls a vector in the names of its functions."""
    element = f"i{kind.element.width}" if isinstance(kind.element, ir.IntType) else "f32"
    return f"v{kind.count}{element}"


def _first(builder, size, lanes):
    """Return a mask of the first lanes; all of them where `size` is larger than their number."""
    ones = builder.sub(builder.shl(_word(1), size), _word(1))
    ones = builder.select(builder.icmp_unsigned("<", size, _word(64)), ones, _word(-1))
    bits = ones if lanes == 64 else builder.trunc(ones, ir.IntType(lanes))
    return builder.bitcast(bits, ir.VectorType(ir.IntType(1), lanes))
