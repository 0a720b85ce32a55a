"""The weighted mean of the entries of four tables, in float32 vectors, with every product and sum rounded."""

from llvmlite import ir

from histeq_kernels.cpu.core.llvm import F32x16, I8x16, I32x16
from histeq_kernels.cpu.core.rounding import SHIFT


def weighted_mean(builder, entries, columns, rows):
    """Return the levels of 16 pixels, bytes, from the entries of four tables: see `mean_of_levels`."""
    levels = [builder.sitofp(entry, F32x16) for entry in entries]
    return mean_of_levels(builder, levels, columns, rows, I8x16)


def mean_of_levels(builder, entries, columns, rows, kind):
    """Return the levels of 16 pixels, a vector of a kind of integers, from those in four tables, as floats.

    `columns` are the weights of left and right tables, `rows` those of upper and lower ones.
    """

    def between(a, b, weights):
        return builder.fadd(builder.fmul(a, weights[0]), builder.fmul(b, weights[1]))

    a, b, c, d = entries
    level = between(between(a, b, columns), between(c, d, columns), rows)
    rounded = builder.fadd(level, ir.Constant(F32x16, [float(SHIFT)] * 16))
    return builder.trunc(builder.bitcast(rounded, I32x16), kind)
