"""Every CUDA kernel compiles for every architecture, without a warning and within its limits."""

import concurrent.futures
import functools
import os

import pytest
from cuda_host.nvrtc import ARCHITECTURES, Nvrtc, usage
from histeq_kernels import cuda

# 65,536 registers of a multiprocessor hold two blocks of 512 threads with 64 registers each.
MOST_REGISTERS = 64
# Bytes a thread of local memory. What there is belongs to the call of the function that makes the table, once
# in a launch; spilled registers in a loop over pixels would be more.
MOST_STACK = 96


@functools.cache
def compiled():
    """Compile all units for all architectures, on all processors; return futures of {kernel: Usage}."""
    nvrtc = Nvrtc()
    pool = concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count())

    def work(architecture, module):
        return usage(nvrtc.compile(cuda.source(module), architecture, cuda.OPTIONS))

    return {(a, m): pool.submit(work, a, m) for a in ARCHITECTURES for m in cuda.MODULES}


@pytest.mark.parametrize("module", cuda.MODULES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_compiles_within_its_limits(architecture, module):
    kernels = compiled()[architecture, module].result()
    assert set(kernels) == set(cuda.kernels(module))
    for name, taken in kernels.items():
        assert 0 < taken.registers <= MOST_REGISTERS, name
        assert taken.stack <= MOST_STACK, name
        assert taken.shared <= 1024, name  # static: what the system reserves; ours is dynamic
        assert taken.instructions, name
