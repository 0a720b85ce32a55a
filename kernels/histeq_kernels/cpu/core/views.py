"""Views of memory without overhead in kernels: rows without stride checks, parts of a workspace, addresses.

Each function emits LLVM IR where it is called. If the JIT is disabled, Python functions replace those that
the tier "portable" uses.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from histeq_kernels.cpu.core.llvm import I8, I64, i64, load, pointer_to, store


def _row(image, z, y):
    """Return image[z, y], whose last stride is one element, as a contiguous array."""
    return image[z, y]


def _line(image):
    """Return a contiguous array as a 1-D array."""
    return image.reshape(image.size)


def _as_one_row(image):
    """Return a contiguous array as (1, 1, elements)."""
    return image.reshape(1, 1, image.size)


def _one_of(images, n, count):
    """Return the n-th of `count` images one below the other in a contiguous 2-D array."""
    height = images.shape[0] // count
    return images[n * height : (n + 1) * height]


def _plane_at(address, shape, strides):
    """Return bytes at an address as a (depth, rows, columns) array with contiguous rows.

    `strides` are those of slices and rows, in bytes.
    """
    memory = SimpleNamespace()
    memory.__array_interface__ = {
        "data": (int(address), False),
        "shape": tuple(map(int, shape)),
        "strides": (*map(int, strides), 1),
        "typestr": "|u1",
        "version": 3,
    }
    return np.asarray(memory)


def _part(element: Any) -> Any:
    """Return the function that returns a part of a contiguous array as elements of another type."""

    def part(memory, start, size):
        """Return `size` elements from entry `start` on."""
        kind, first = np.dtype(str(element)), int(start) * memory.itemsize
        return memory.view(np.uint8)[first : first + int(size) * kind.itemsize].view(kind)

    return part


def _load_64(pixels, i):
    """Return the eight bytes from element i on as one 64-bit word."""
    size = pixels.itemsize
    return np.uint64(pixels[i : i + np.uint64(8 // size)].copy().view(np.uint64)[0])


def _store_64(out, i, word):
    """Store one 64-bit word in the eight bytes from element i on."""
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
        return _view(context, builder, result, array, offset, [length])

    return result(image, types.uint64, types.uint64), codegen


@intrinsic
def _line_ir(typingctx, image):
    result = types.Array(image.dtype, 1, "C", readonly=not image.mutable)

    def codegen(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        return _view(context, builder, result, array, i64(0), [array.nitems])

    return result(image), codegen


@intrinsic
def _as_one_row_ir(typingctx, image):
    result = types.Array(image.dtype, 3, "C", readonly=not image.mutable)

    def codegen(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        shape = [i64(1), i64(1), array.nitems]
        return _view(context, builder, result, array, i64(0), shape)

    return result(image), codegen


@intrinsic
def as_one_slice(typingctx, image):
    """Return a contiguous 2-D array as (1, rows, columns)."""
    result = types.Array(image.dtype, 3, "C", readonly=not image.mutable)

    def codegen(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        shape = [i64(1), *cgutils.unpack_tuple(builder, array.shape, 2)]
        return _view(context, builder, result, array, i64(0), shape)

    return result(image), codegen


@intrinsic
def _one_of_ir(typingctx, images, n, count):
    result = types.Array(images.dtype, 2, "C", readonly=not images.mutable)

    def codegen(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        height, width = cgutils.unpack_tuple(builder, array.shape, 2)
        height = builder.udiv(height, args[2])
        offset = builder.mul(builder.mul(args[1], height), cgutils.unpack_tuple(builder, array.strides, 2)[0])
        return _view(context, builder, result, array, offset, [height, width])

    return result(images, types.int64, types.int64), codegen


@intrinsic
def _plane_at_ir(typingctx, address, shape, strides):
    result = types.Array(types.uint8, 3, "A")

    def codegen(context, builder, signature, args):
        plane = context.make_array(result)(context, builder)
        data = builder.inttoptr(args[0], plane.data.type)
        shape, strides = (cgutils.unpack_tuple(builder, numbers) for numbers in args[1:])
        context.populate_array(
            plane, data=data, shape=shape, strides=[*strides, i64(1)], itemsize=i64(1), meminfo=None
        )
        return plane._getvalue()

    return result(types.int64, types.UniTuple(types.int64, 3), types.UniTuple(types.int64, 2)), codegen


def _part_ir(element: Any) -> Any:
    result = types.Array(element, 1, "C")

    @intrinsic
    def part(typingctx, memory, start, size):
        def codegen(context, builder, signature, args):
            array = context.make_array(signature.args[0])(context, builder, args[0])
            offset = builder.mul(args[1], array.itemsize)
            return _view(context, builder, result, array, offset, [args[2]])

        return result(memory, types.int64, types.int64), codegen

    return part


def _view(context, builder, kind, array, offset, shape):
    """Return a contiguous array of a shape, `offset` bytes into another array."""
    view = context.make_array(kind)(context, builder)
    address = builder.add(builder.ptrtoint(array.data, I64), offset)
    size = i64(context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    data = builder.inttoptr(address, view.data.type)
    strides = [size]
    for length in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], length))
    context.populate_array(view, data=data, shape=shape, strides=strides, itemsize=size, meminfo=None)
    return view._getvalue()


@intrinsic
def _load_64_ir(typingctx, pixels, i):
    def codegen(context, builder, signature, args):
        return load(builder, pointer_to(context, builder, signature, args, 0, args[1], I64))

    return types.uint64(pixels, types.uint64), codegen


@intrinsic
def _store_64_ir(typingctx, out, i, word):
    def codegen(context, builder, signature, args):
        store(builder, args[2], pointer_to(context, builder, signature, args, 0, args[1], I64))
        return context.get_dummy_value()

    return types.void(out, types.uint64, types.uint64), codegen


@intrinsic
def address_of(typingctx, array, i, j):
    """Return the address of array[i, j], an element or a row."""

    def codegen(context, builder, signature, args):
        view = context.make_array(signature.args[0])(context, builder, args[0])
        strides = cgutils.unpack_tuple(builder, view.strides, signature.args[0].ndim)
        offset = builder.add(builder.mul(args[1], strides[0]), builder.mul(args[2], strides[1]))
        return builder.add(builder.ptrtoint(view.data, I64), offset)

    return types.uint64(array, types.uint64, types.uint64), codegen


@intrinsic
def address_in(typingctx, memory, i):
    """Return the address of an element of a contiguous array."""

    def codegen(context, builder, signature, args):
        return builder.ptrtoint(pointer_to(context, builder, signature, args, 0, args[1], I8), I64)

    return types.uint64(memory, types.uint64), codegen


row = _row if config.DISABLE_JIT else _row_ir
line = _line if config.DISABLE_JIT else _line_ir
one_of = _one_of if config.DISABLE_JIT else _one_of_ir
plane_at = _plane_at if config.DISABLE_JIT else _plane_at_ir
as_one_row = _as_one_row if config.DISABLE_JIT else _as_one_row_ir
part = _part if config.DISABLE_JIT else _part_ir
part_8, part_16, part_32 = part(types.uint8), part(types.uint16), part(types.uint32)
part_64, part_i32, part_i64 = part(types.uint64), part(types.int32), part(types.int64)
part_f64 = part(types.float64)
load_64 = _load_64 if config.DISABLE_JIT else _load_64_ir
store_64 = _store_64 if config.DISABLE_JIT else _store_64_ir
