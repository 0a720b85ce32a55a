"""The CuPy backend: CUDA kernels on the current device and stream."""
