"""The Numba backend: compiled CPU kernels on as many threads as `histeq.set_num_threads` allows."""
