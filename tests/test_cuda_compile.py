"""Every CUDA kernel compiles for every architecture, without a warning and within its limits."""

import concurrent.futures
import functools
import os
import re

import pytest
from cuda_host.nvrtc import ARCHITECTURES, Nvrtc, usage
from histeq_kernels import cuda

# 65,536 registers of a multiprocessor hold two blocks of 512 threads with 64 registers each.
MOST_REGISTERS = 64
# Bytes a thread of local memory. What there is belongs to the call of the function that makes the table, once
# in a launch; spilled registers in a loop over pixels would be more.
MOST_STACK = 96
OPTIONS = (*cuda.OPTIONS, "-ftz=true")  # which CuPy adds
CASES = [(a, m) for m in cuda.MODULES for a in ARCHITECTURES if int(a[3:]) >= cuda.NEEDS.get(m, 0)]


@functools.cache
def compiled():
    """Compile all units for all architectures, on all processors; return futures of {kernel: Usage}."""
    nvrtc = Nvrtc()
    pool = concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count())

    def work(architecture, module):
        return usage(nvrtc.compile(cuda.source(module), architecture, OPTIONS))

    return {case: pool.submit(work, *case) for case in CASES}


@pytest.mark.parametrize(("architecture", "module"), CASES)
def test_compiles_within_its_limits(architecture, module):
    kernels = compiled()[architecture, module].result()
    assert set(kernels) == set(cuda.kernels(module))
    for name, taken in kernels.items():
        assert 0 < taken.registers <= MOST_REGISTERS, name
        assert taken.stack <= MOST_STACK, name
        assert taken.shared <= 1024, name  # static: what the system reserves; ours is dynamic
        assert taken.instructions, name


@pytest.mark.parametrize("module", cuda.MODULES)
def test_small_floats_are_not_flushed_to_zero(module):
    """CuPy's option reaches no operation that matters to a float32 below 1.2e-38; see rounding.cuh."""
    ptx = Nvrtc().compile(cuda.source(module), "compute_90", OPTIONS, "PTX").decode()
    flushing = set(re.findall(r"\S+\.ftz\S*", ptx))
    # Roundings to whole numbers, and comparisons of Bins::guess, for which such a number is 0 anyway.
    harmless = re.compile(r"cvt\.r[nmz]i\.ftz\.s(32|64)\.f32|setp\.\w+\.ftz\.f32")
    assert [name for name in flushing if not harmless.fullmatch(name)] == []
