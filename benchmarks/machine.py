"""What a figure depends on: the processor, the threads, the libraries."""

from importlib.metadata import version
from typing import Any

import llvmlite.binding
from histeq_kernels.cpu import tiers

from histeq._core import threads as _threads

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


def targets() -> str:
    """Return for which kernels the targets are: "avx512", or "portable" where it is not in use."""
    return "avx512" if tiers.tier() == "avx512" else "portable"


def describe() -> dict[str, Any]:
    """Describe this machine, beyond what pytest-benchmark records of it."""
    return {
        "cpu": llvmlite.binding.get_host_cpu_name(),
        "features": features(),
        "tier": tiers.tier(),
        "targets": targets(),
        "threads": threads(),
        "versions": {name: version(name) for name in LIBRARIES},
    }
