"""CPU kernels, compiled by Numba, with one operation per file."""
