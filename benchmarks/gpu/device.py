"""CuPy with its GPU, or what stands in for it, and what is worth recording of it."""

import atexit
import contextlib
import importlib
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "kernels"), str(ROOT / "tests")]  # a checkout that is not installed

histeq: Any = importlib.import_module("histeq")  # found after the path is set

_lasting = contextlib.ExitStack()
atexit.register(_lasting.close)


def cupy_module(stand_in: bool) -> Any:
    """Return CuPy; exit where it finds no GPU. The stand-in takes its place for the rest of the process."""
    if stand_in:
        fake: Any = importlib.import_module("cuda_host.fake_cupy")
        _lasting.enter_context(fake.installed())
    try:
        import cupy

        cupy.cuda.runtime.getDeviceCount()
    except ImportError as error:
        sys.exit(f"CuPy is not installed ({error}): pip install cupy-cuda12x or cupy-cuda13x")
    except cupy.cuda.runtime.CUDARuntimeError as error:
        sys.exit(f"CuPy finds no usable CUDA device or driver ({error})")
    return cupy


def backend_device() -> Any:
    """Return the backend's Device of the current GPU, whose attributes decide which kernels are launched."""
    module: Any = importlib.import_module("histeq._backends.cupy.device")
    return module.device(importlib.import_module("cupy").cuda.runtime.getDevice())


def describe(cupy: Any) -> dict[str, Any]:
    """Describe the GPU and what drives it."""
    runtime, gpu = cupy.cuda.runtime, backend_device()
    properties = runtime.getDeviceProperties(runtime.getDevice())
    return {
        "gpu": properties["name"].decode(),
        "compute_capability": f"{properties['major']}.{properties['minor']}",
        "multiprocessors": gpu.multiprocessors,
        "cache_bytes": gpu.cache,
        "cuda_driver": runtime.driverGetVersion(),
        "cuda_runtime": runtime.runtimeGetVersion(),
        "nvidia_smi": output("nvidia-smi", "--query-gpu=name,driver_version,clocks.max.sm", "--format=csv"),
        "cupy": cupy.__version__,
        "numpy": np.__version__,
        "histeq": histeq.__version__,
        "python": platform.python_version(),
    }


def occasion() -> dict[str, str]:
    """Return the date and the commit."""
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": output("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"),
    }


def output(*command: str) -> str:
    """Return what a program prints; nothing where it is missing or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
