"""Short names for LLVM IR in kernels: types, loads and stores of any alignment, operations on vectors."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
F32 = ir.FloatType()
I8x16, I8x32, I8x64 = (ir.VectorType(I8, lanes) for lanes in (16, 32, 64))
I16x16, I32x16, I64x8, F32x16 = (
    ir.VectorType(element, lanes) for element, lanes in ((I16, 16), (I32, 16), (I64, 8), (F32, 16))
)

EMULATED: dict[str, Callable[..., Any]] = {}
"""What to emit instead of an intrinsic that the processor lacks: filled by tests alone."""


def i64(value):
    """Return a constant of 64 bits."""
    return ir.Constant(I64, value)


def splat_i32(value):
    """Return a vector of 16 equal constants of 32 bits."""
    return ir.Constant(I32x16, [value] * 16)


def pointer_to(context, builder, signature, args, which, index, kind):
    """Return the address of an element of an array argument as a pointer to `kind`."""
    array = context.make_array(signature.args[which])(context, builder, args[which])
    return builder.bitcast(builder.gep(array.data, [index]), kind.as_pointer())


def load(builder, pointer):
    """Load a value of any alignment."""
    loaded = builder.load(pointer)
    loaded.align = 1
    return loaded


def store(builder, value, pointer):
    """Store a value at any alignment."""
    builder.store(value, pointer).align = 1


def call(builder, name, result, *args):
    """Call an intrinsic function of LLVM."""
    if name in EMULATED:
        return EMULATED[name](builder, *args)
    kind = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


def splat(builder, value, kind):
    """Return a vector that has a run-time value in every lane."""
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, i64(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(I32, kind.count), [0] * kind.count))


def last_lane(builder, vector):
    """Return a vector that has the last element of another one in every lane."""
    lanes = vector.type.count
    return builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(I32, lanes), [lanes - 1] * lanes))


def prefix_sums(builder, vector):
    """Return the inclusive prefix sums of the lanes of a vector."""
    lanes, zeros = vector.type.count, ir.Constant(vector.type, [0] * vector.type.count)
    distance = 1
    while distance < lanes:  # every lane adds the sum of the `distance` lanes before it
        order = [lanes + k if k < distance else k - distance for k in range(lanes)]
        shifted = builder.shuffle_vector(vector, zeros, ir.Constant(ir.VectorType(I32, lanes), order))
        vector, distance = builder.add(vector, shifted), 2 * distance
    return vector


def masked_load(builder, address, size, kind, others=None):
    """Load the first `size` lanes of a vector (None: all); the rest comes from `others`, or is 0."""
    pointer = builder.inttoptr(address, kind.as_pointer())
    if size is None:
        return load(builder, pointer)
    others = others or ir.Constant(kind, [0] * kind.count)
    name = f"llvm.masked.load.{_type_name(kind)}.p0{_type_name(kind)}"
    return call(builder, name, kind, pointer, I32(1), _first_lanes(builder, size, kind.count), others)


def masked_store(builder, value, address, size):
    """Store the first `size` lanes of a vector (None: all)."""
    pointer = builder.inttoptr(address, value.type.as_pointer())
    if size is None:
        store(builder, value, pointer)
        return
    name = f"llvm.masked.store.{_type_name(value.type)}.p0{_type_name(value.type)}"
    mask = _first_lanes(builder, size, value.type.count)
    call(builder, name, ir.VoidType(), value, pointer, I32(1), mask)


def _type_name(kind):
    """Return the name of a vector type in the names of LLVM's intrinsics."""
    element = f"i{kind.element.width}" if isinstance(kind.element, ir.IntType) else "f32"
    return f"v{kind.count}{element}"


def _first_lanes(builder, size, lanes):
    """Return a mask of the first `size` lanes, or of all lanes if `size` exceeds their number."""
    ones = builder.sub(builder.shl(i64(1), size), i64(1))
    ones = builder.select(builder.icmp_unsigned("<", size, i64(64)), ones, i64(-1))
    bits = ones if lanes == 64 else builder.trunc(ones, ir.IntType(lanes))
    return builder.bitcast(bits, ir.VectorType(ir.IntType(1), lanes))
