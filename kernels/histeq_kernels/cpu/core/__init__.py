"""The foundations of all kernels: declarations, operations, views of memory and LLVM instructions."""
