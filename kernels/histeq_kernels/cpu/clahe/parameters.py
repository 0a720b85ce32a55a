"""The entries of the int64 vectors that tell the kernels of CLAHE about levels and tiles."""

from histeq_kernels.cpu.core.kernel import flat

PARAMETERS = flat("int64")
"""The signature of such a vector."""

# Levels
BINS, LOWEST, SPAN = 0, 1, 2
"""Bins of a table; the lowest level; levels above it."""
SIGN, BIN_SHIFT, FIRST_BIN, LEVEL_SHIFT = 3, 4, 5, 6
"""For 16 bits: the bits to flip in a pixel, so that the smallest value becomes 0; by how much it is then
shifted right to give a bin; the first bin of the tables; by how much a level is shifted left to give a
pixel."""

# The size of a tile
DEPTH, HEIGHT, WIDTH = 0, 1, 2
