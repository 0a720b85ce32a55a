"""Vectors with one lane for each of 32 pixels."""

from llvmlite import ir

from histeq_kernels.cpu.core.llvm import I16, I32, splat

WIDTH = 32
"""Pixels that vector instructions work on at once."""


def vector_of(kind, size=WIDTH):
    """Return the type of a vector."""
    return ir.VectorType(kind, size)


def constant(kind, value):
    """Return a vector of equal constants."""
    return ir.Constant(vector_of(kind), [value] * WIDTH)


def repeat(builder, value, size):
    """Return a vector of one run-time value."""
    return splat(builder, value, vector_of(value.type, size))


def shuffle(builder, a, b, lanes):
    """Return the elements of two vectors, one after the other, in another order."""
    return builder.shuffle_vector(a, b, ir.Constant(vector_of(I32, len(lanes)), lanes))


def join(builder, parts):
    """Return one vector of the lanes of one or two."""
    return parts[0] if len(parts) == 1 else shuffle(builder, *parts, list(range(WIDTH)))


def clamp(builder, value, low, high):
    """Clamp 16-bit lanes."""
    for bound, sign in ((low, "<"), (high, ">")):
        limit = constant(I16, bound)
        value = builder.select(builder.icmp_signed(sign, value, limit), limit, value)
    return value
