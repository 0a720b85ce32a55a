"""The indices into the int64 vectors that describe levels and tiles to the kernels of CLAHE."""

from histeq_kernels.cpu.core.kernel import flat

PARAMETERS = flat("int64")
"""The signature of such a vector."""

# Levels
BINS, LOWEST, SPAN = 0, 1, 2
"""The number of bins of a table; the lowest level; the number of levels above it."""
SIGN, BIN_SHIFT, FIRST_BIN, LEVEL_SHIFT = 3, 4, 5, 6
"""For 16 bits: the bits to flip in a pixel so that the smallest value becomes 0; the number of bits by which
it is then shifted right to give a bin; the first bin of the tables; the number of bits by which a level is
shifted left to give a pixel."""

# The size of a tile
DEPTH, HEIGHT, WIDTH = 0, 1, 2
