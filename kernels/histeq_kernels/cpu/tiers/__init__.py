"""The instruction tiers, from worst to best, the choice between them, and kernels that differ between them.

A kernel with an instruction that the processor lacks would not merely fail: LLVM would abort the process
while compiling it. A tier is therefore available only if Numba compiles for all the features it needs: those
given by ``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES``, by default the host's, and none if the JIT is
disabled.
"""

import functools
import os
from collections.abc import Callable
from types import FunctionType
from typing import Any

import llvmlite.binding as llvm
from numba.core import config

from histeq_kernels.cpu.core.kernel import Kernel, compiled
from histeq_kernels.cpu.core.operations import specialized
from histeq_kernels.cpu.tiers import avx2, avx512, portable
from histeq_kernels.cpu.tiers.tier import Tier

TIERS = {
    tier.name: tier
    for tier in (
        portable.TIER,
        avx2.TIER,
        avx512.TIER,
    )
}


@functools.cache
def tier() -> str:
    """Return the name of the tier in use: the best available, or the one ``HISTEQ_CPU_TIER`` names."""
    wanted = os.environ.get("HISTEQ_CPU_TIER")
    if not wanted:
        return available()[-1]
    if wanted not in TIERS:
        raise ValueError(f"HISTEQ_CPU_TIER must be one of {', '.join(TIERS)}, got {wanted!r}")
    if wanted not in available():
        missing = ", ".join(sorted(TIERS[wanted].needs - features()))
        raise ValueError(f"HISTEQ_CPU_TIER={wanted!r} is not available here: the processor lacks {missing}")
    return wanted


@functools.cache
def in_use() -> Tier:
    """Return the tier in use: see `tier`."""
    return TIERS[tier()]


@functools.cache
def available() -> list[str]:
    """Return the names of the tiers that run here, from worst to best."""
    return [name for name, tier in TIERS.items() if tier.needs <= features()]


@functools.cache
def features() -> frozenset[str]:
    """Return the processor features that Numba compiles for."""
    if config.DISABLE_JIT:
        return frozenset()
    if config.CPU_NAME or config.CPU_FEATURES:
        listed = (config.CPU_FEATURES or "").split(",")
        return frozenset(feature[1:] for feature in listed if feature.startswith("+"))
    return frozenset(name for name, present in llvm.get_host_cpu_features().items() if present)


class TieredKernel(Kernel):
    """A kernel that calls operations of a tier; its attributes are the variants for the tier in use."""

    def _compile(self, tag: str) -> Callable[..., None]:
        return self.variant(tag, in_use())

    @functools.cache  # noqa: B019, kernels live as long as their modules
    def variant(self, tag: str, tier: Tier) -> Callable[..., None]:
        """Return the variant for a dtype and a tier, compiled when first asked for."""
        function = specialized(self._function, tier.operations)
        return compiled(function, f"{self.name}_{tag}_{tier.name}", self._signatures[tag])


def tiered_kernel(**signatures: str) -> Callable[[Any], TieredKernel]:
    """Declare a kernel that calls operations of a tier, with one signature per dtype tag: see `kernel`."""

    def declare(function: FunctionType) -> TieredKernel:
        return TieredKernel(function, signatures)

    return declare
