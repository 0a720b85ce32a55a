"""Vectors of pixels, a lane for each."""

from llvmlite import ir

from histeq_kernels.cpu.core.llvm import I32, splat


def vector_of(kind, size):
    """Return the type of a vector of `size` lanes."""
    return ir.VectorType(kind, size)


def equal(kind, value):
    """Return a vector of equal constants."""
    return ir.Constant(kind, [value] * kind.count)


def repeat(builder, value, size):
    """Return a vector with a run-time value in every lane."""
    return splat(builder, value, vector_of(value.type, size))


def shuffle(builder, a, b, lanes):
    """Return the given lanes of the concatenation of two vectors."""
    return builder.shuffle_vector(a, b, ir.Constant(vector_of(I32, len(lanes)), lanes))


def unpacked(builder, a, b):
    """Return the lower and the upper lanes, of each 128 bits of two vectors, in turns."""
    n, part = a.type.count, 128 // a.type.element.width
    low = [lane for at in range(0, n, part) for i in range(at, at + part // 2) for lane in (i, n + i)]
    return [shuffle(builder, a, b, [lane + shift for lane in low]) for shift in (0, part // 2)]


def clamp(builder, value, low, high):
    """Clamp lanes of integers."""
    return minimum(builder, maximum(builder, value, low), high)


def minimum(builder, value, high):
    """Return the minima of lanes and a constant."""
    limit = equal(value.type, high)
    return builder.select(builder.icmp_signed(">", value, limit), limit, value)


def maximum(builder, value, low):
    """Return the maxima of lanes and a constant."""
    limit = equal(value.type, low)
    return builder.select(builder.icmp_signed("<", value, limit), limit, value)
