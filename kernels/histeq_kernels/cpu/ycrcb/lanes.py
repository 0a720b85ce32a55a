"""Vectors with one lane for each of 32 pixels."""

from llvmlite import ir

from histeq_kernels.cpu.core.llvm import I32, splat

WIDTH = 32
"""The number of pixels that vector instructions process together."""


def vector_of(kind, size=WIDTH):
    """Return the type of a vector of `size` lanes."""
    return ir.VectorType(kind, size)


def constant(kind, value):
    """Return a vector of equal constants."""
    return ir.Constant(vector_of(kind), [value] * WIDTH)


def repeat(builder, value, size):
    """Return a vector with a run-time value in every lane."""
    return splat(builder, value, vector_of(value.type, size))


def shuffle(builder, a, b, lanes):
    """Return the given lanes of the concatenation of two vectors."""
    return builder.shuffle_vector(a, b, ir.Constant(vector_of(I32, len(lanes)), lanes))


def join(builder, parts):
    """Return the concatenation of one or two vectors."""
    return parts[0] if len(parts) == 1 else shuffle(builder, *parts, list(range(WIDTH)))


def clamp(builder, value, low, high):
    """Clamp lanes of integers."""
    for bound, sign in ((low, "<"), (high, ">")):
        limit = ir.Constant(value.type, [bound] * value.type.count)
        value = builder.select(builder.icmp_signed(sign, value, limit), limit, value)
    return value
