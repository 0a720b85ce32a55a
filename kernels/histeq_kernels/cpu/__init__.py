"""CPU kernels, compiled by Numba; one operation a file."""
