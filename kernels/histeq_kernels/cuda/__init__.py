"""CUDA C++ kernels, one operation a file: text that NVRTC compiles when first needed.

Headers are pasted into the source, not included: CuPy's cache of compiled kernels goes by the source and the
options alone.
"""

import functools
import re
from importlib import resources

from histeq_kernels.cuda.interface import DEFINES

_HERE = resources.files(__name__)

_COUNTING = ("common.cuh", "rounding.cuh", "rules.cuh", "counters.cuh")
"""What every kernel that counts pixels needs."""

MODULES = {
    "histogram": (*_COUNTING, "sliced.cuh", "histogram.cu"),
    "rules": ("common.cuh", "rounding.cuh", "rules.cuh", "rules.cu"),
    "lut": ("common.cuh", "lookup.cuh", "lut.cu"),
    "luma": (*_COUNTING, "sliced.cuh", "ycrcb.cuh", "luma.cu"),
    "float_bins": (*_COUNTING, "floats.cuh", "float_bins.cuh", "float_bins.cu"),
    "interpolate": ("common.cuh", "rounding.cuh", "floats.cuh", "float_bins.cuh", "interpolate.cu"),
    "fused": (*_COUNTING, "lookup.cuh", "fused.cu"),
    "fused_u16": (*_COUNTING, "sliced.cuh", "lookup.cuh", "fused_u16.cu"),
    "clahe": (*_COUNTING, "floats.cuh", "float_bins.cuh", "ycrcb.cuh", "clahe.cu", "cells.cu"),
    "window": ("common.cuh", "rounding.cuh", "window.cu"),
    "match": ("common.cuh", "rounding.cuh", "rules.cuh", "match.cu"),
}
"""The files of each compilation unit, in order."""

OPTIONS = ("--std=c++17", "--fmad=false", *DEFINES)
"""Contraction off: what `rounding.cuh` does not pin is pinned here. CuPy adds -ftz=true."""

_KERNEL = re.compile(
    r'extern "C" __global__ void __launch_bounds__\(THREADS, RESIDENT_BLOCKS\)\s*\\?\s*([\w#]+)\('
)
_FAMILY = re.compile(r"^(?:FLOATING|TILES)\((\w+),", re.MULTILINE)


@functools.cache
def source(module: str) -> str:
    """Return the whole source of a compilation unit; compilers report positions in the original files."""
    parts = []
    for name in MODULES[module]:
        text = (_HERE / name).read_text(encoding="utf-8")
        parts.append(f'#line 1 "{name}"\n{text}')
    return "\n".join(parts)


@functools.cache
def kernels(module: str) -> tuple[str, ...]:
    """Return the names of a unit's kernels, those that a macro makes for each dtype included."""
    text = source(module)
    variants = [match.group(1) for match in _FAMILY.finditer(text)]
    names: list[str] = []
    for match in _KERNEL.finditer(text):
        name = match.group(1)
        names += [name.replace("##NAME", variant) for variant in variants] if "##" in name else [name]
    return tuple(names)
