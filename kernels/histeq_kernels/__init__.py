"""Kernels of histeq. Private: use `histeq`."""
