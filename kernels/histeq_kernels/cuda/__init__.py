"""CUDA C++ kernels, one operation a file: text that NVRTC compiles when first needed.

Headers are pasted into the source, not included: CuPy's cache of compiled kernels goes by the source alone.
"""

import functools
import re
from pathlib import Path

_HERE = Path(__file__).parent

MODULES = {
    "histogram": ("common.cuh", "rounding.cuh", "table.cuh", "counters.cuh", "histogram.cu"),
    "table": ("common.cuh", "rounding.cuh", "table.cuh", "table.cu"),
    "lut": ("common.cuh", "levels.cuh", "lut.cu"),
    "luma": ("common.cuh", "rounding.cuh", "table.cuh", "counters.cuh", "pixel.cuh", "luma.cu"),
    "bins": ("common.cuh", "rounding.cuh", "table.cuh", "counters.cuh", "numbers.cuh", "bins.cu"),
    "equalize": ("common.cuh", "rounding.cuh", "table.cuh", "counters.cuh", "levels.cuh", "equalize.cu"),
    "clusters": ("common.cuh", "rounding.cuh", "table.cuh", "counters.cuh", "levels.cuh", "clusters.cu"),
    "clahe": (
        "common.cuh",
        "rounding.cuh",
        "table.cuh",
        "counters.cuh",
        "numbers.cuh",
        "pixel.cuh",
        "clahe.cu",
    ),
    "match": ("common.cuh", "rounding.cuh", "table.cuh", "numbers.cuh", "match.cu"),
}
"""The files of each compilation unit, in order."""

NEEDS = {"clusters": 90}
"""The least compute capability of a unit, ten times; without an entry, all that CUDA knows."""

CLUSTER = 8
"""Blocks of a cluster: CLUSTER in clusters.cu."""

OPTIONS = ("--std=c++17", "--fmad=false")
"""Contraction off: what `rounding.cuh` does not pin is pinned here. CuPy adds -ftz=true."""

_KERNEL = re.compile(
    r'extern "C" __global__ void (?:__cluster_dims__\(\w+, 1, 1\) )?'
    r"__launch_bounds__\(THREADS, BLOCKS\)\s*\\?\s*([\w#]+)\("
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
        names += (
            [name.replace("##NAME##", v).replace("##NAME", v) for v in variants] if "##" in name else [name]
        )
    return tuple(names)
