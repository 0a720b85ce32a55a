"""The instruction tiers, from worst to best, and which of them runs here.

A kernel with an instruction that the processor lacks would not merely fail: LLVM would abort the process
while compiling it. So a tier is offered only where Numba compiles for all its features: those of
``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES``, else the host's; none where the JIT is off.
"""

import functools
import os

import llvmlite.binding as llvm
from numba.core import config

TIERS = {
    "portable": frozenset[str](),
    "avx2": frozenset({"avx2"}),
    "avx512": frozenset({"avx2", "avx512f", "avx512bw", "avx512vbmi", "avx512vpopcntdq", "gfni"}),
}


@functools.cache
def tier() -> str:
    """Return the tier in use: the best available, or what ``HISTEQ_CPU_TIER`` says."""
    wanted = os.environ.get("HISTEQ_CPU_TIER")
    if not wanted:
        return available()[-1]
    if wanted not in TIERS:
        raise ValueError(f"HISTEQ_CPU_TIER must be one of {', '.join(TIERS)}, got {wanted!r}")
    if wanted not in available():
        missing = ", ".join(sorted(TIERS[wanted] - features()))
        raise ValueError(f"HISTEQ_CPU_TIER={wanted!r} is not available here: the processor lacks {missing}")
    return wanted


@functools.cache
def available() -> list[str]:
    """Return the tiers that run here, from worst to best."""
    return [name for name, needs in TIERS.items() if needs <= features()]


@functools.cache
def features() -> frozenset[str]:
    """Return the processor features that Numba compiles for."""
    if config.DISABLE_JIT:
        return frozenset()
    if config.CPU_NAME or config.CPU_FEATURES:
        listed = (config.CPU_FEATURES or "").split(",")
        return frozenset(feature[1:] for feature in listed if feature.startswith("+"))
    return frozenset(name for name, present in llvm.get_host_cpu_features().items() if present)
