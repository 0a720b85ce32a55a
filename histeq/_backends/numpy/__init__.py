"""The NumPy backend: the readable reference, the oracle of the tests, and the fallback without Numba."""
