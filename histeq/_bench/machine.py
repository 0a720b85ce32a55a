"""What a figure depends on: the processor, the threads, the libraries, and how quiet the machine is."""

import contextlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

import histeq
from histeq._core import threads as _threads

LIBRARIES = (
    "numpy", "numba", "llvmlite", "opencv-python-headless", "opencv-python", "pillow", "pyvips-binary",
    "pyvips", "scikit-image", "torch", "torchvision", "kornia", "cvcuda-cu12", "cucim-cu12", "cupy-cuda12x",
    "cupy-cuda13x",
)  # fmt: skip

# The instruction sets that decide how fast counting and lookup can be.
_FEATURES = ("avx2", "avx512f", "avx512vbmi", "avx512vnni", "avx512vpopcntdq", "gfni", "neon", "sve")

NOISY = 0.2
"""From this noise on results are doubtful."""


def threads() -> int:
    """Return what "all threads" means here: what histeq uses by default."""
    return _threads.usable_cpus()


def describe() -> dict[str, Any]:
    """Describe this machine."""
    return {
        "cpu": _processor(),
        "architecture": platform.machine(),
        **_instructions(),
        "logical_cpus": os.cpu_count(),
        "affinity": _affinity(),
        "quota": _quota(),
        "threads": threads(),
        "gpu": _gpu(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "histeq": histeq.__version__,
        "versions": {name: found for name in LIBRARIES if (found := _version(name))},
        "commit": commit(),
        "settings": {name: value for name, value in os.environ.items() if name.startswith("HISTEQ_")},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        return output("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor()
    return platform.processor() or platform.machine()


def _instructions() -> dict[str, Any]:
    """Return LLVM's name for the processor, its instruction sets that matter, and the tier in use."""
    try:
        import llvmlite.binding
        from histeq_kernels.cpu import tiers

        present = llvmlite.binding.get_host_cpu_features()
        return {
            "microarchitecture": llvmlite.binding.get_host_cpu_name(),
            "features": [name for name in _FEATURES if present.get(name)],
            "tier": tiers.tier(),
        }
    except Exception as error:  # a Numba that does not work; the NumPy backend is timed all the same
        return {"microarchitecture": "", "features": [], "tier": f"none: {error}"}


def _affinity() -> int | None:
    """Return how many processors the process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _quota() -> float | None:
    """Return the processors' worth of time that the control group allows; None: no limit."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (Path(f"/sys/fs/cgroup/cpu/cpu.cfs_{n}_us").read_text() for n in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    return None


def _gpu() -> str:
    """Return the GPU, its memory and its driver; nothing where there is none."""
    return output("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")


def commit() -> str:
    """Return the commit of a checkout; nothing where histeq is installed from a package."""
    folder = Path(histeq.__file__).parents[1]
    if not (folder / ".git").exists():
        return ""
    return output("git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12")


def output(*command: str) -> str:
    """Return what a program prints; nothing where it is missing or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""


def noise(seconds: float = 0.5, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return how much the time of the same work varies: its 10th to 90th percentile, of the median."""
    work = np.arange(1 << 16, dtype=np.int64)
    sums = np.empty_like(work)
    times: list[float] = []
    end = clock() + seconds
    while len(times) < 20 or clock() < end:
        start = clock()
        for _ in range(8):
            np.cumsum(work, out=sums)
        times.append(clock() - start)
    low, median, high = np.quantile(times, (0.1, 0.5, 0.9))
    return float((high - low) / median) if median > 0 else 0.0


def noise_in_words(noise: float) -> str:
    """Say what a noise score means for the results."""
    word = "quiet" if noise < 0.05 else "usable" if noise < NOISY else "noisy: expect unclear results"
    return f"{noise:.1%}, {word}"
