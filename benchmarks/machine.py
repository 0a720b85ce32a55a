"""What a figure depends on: the processor, the threads, the libraries."""

import os
from importlib.metadata import version
from typing import Any

import llvmlite.binding

from histeq import _threads

LIBRARIES = (
    "histeq", "numpy", "numba", "opencv-python-headless", "pillow", "pyvips-binary", "scikit-image",
)  # fmt: skip

# The instruction sets that decide how fast counting and lookup can be.
_FEATURES = ("avx2", "avx512f", "avx512vbmi", "avx512vpopcntdq", "gfni", "neon", "sve")


def threads() -> int:
    """Return what "all threads" means here: what histeq uses by default."""
    return _threads.usable_cpus()


def features() -> list[str]:
    """List the processor's instruction sets that matter."""
    present = llvmlite.binding.get_host_cpu_features()
    return [name for name in _FEATURES if present.get(name)]


def tier() -> str:
    """Return which kernels can run here, for the targets: "avx512" or "portable"."""
    chosen = os.environ.get("HISTEQ_CPU_TIER") or os.environ.get("NUMBA_CPU_NAME")
    return "avx512" if "avx512vbmi" in features() and not chosen else "portable"


def describe() -> dict[str, Any]:
    """Describe this machine, beyond what pytest-benchmark records of it."""
    return {
        "cpu": llvmlite.binding.get_host_cpu_name(),
        "features": features(),
        "tier": tier(),
        "threads": threads(),
        "versions": {name: version(name) for name in LIBRARIES},
    }
