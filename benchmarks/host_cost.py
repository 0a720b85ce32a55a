"""What a call on the GPU costs the host, without a GPU: python -m benchmarks.host_cost.

Kernels are launched by a function that does nothing, so that what is left is Python's time: of a call whose
arrays and options are looked at, and of one that is launched from its plan (histeq/_backends/cupy/plans.py).
Arrays are those of the CuPy that is installed, which needs neither a GPU nor a driver here; where none is,
those of the tests' stand-in, which are slower.
"""

import argparse
import contextlib
import functools
import importlib
import itertools
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "kernels"), str(ROOT / "tests")]

histeq: Any = importlib.import_module("histeq")  # found after the path is set

Call = Callable[[], Any]


def cases(empty: Callable[..., Any]) -> dict[str, Call]:
    """Return calls by their names; `empty` makes arrays on the device."""
    found: dict[str, Call] = {}
    for name in ("uint8", "uint16", "float32"):
        image, out = (empty((1080, 1920), np.dtype(name)) for _ in range(2))
        found[f"equalize, {name}"] = functools.partial(histeq.equalize, image)
        found[f"equalize, {name}, out="] = functools.partial(histeq.equalize, image, out=out)
        found[f"clahe, {name}, out="] = functools.partial(histeq.clahe, image, out=out)
    image, out = (empty((1080, 1920), np.dtype("uint8")) for _ in range(2))
    frames = empty((16, 1080, 1920), np.dtype("uint8"))
    rgb, mask, table = (empty(shape, np.dtype(kind)) for shape, kind in (
        ((1080, 1920, 3), "uint8"), ((1080, 1920), "bool"), ((256,), "uint8")))  # fmt: skip
    return found | {
        "equalize, a batch of uint8, in place": lambda: histeq.equalize(frames, layout="NHW", out=frames),
        "equalize, RGB of uint8, in place": lambda: histeq.equalize(rgb, layout="HWC", out=rgb),
        "equalize, uint8, mask, out=": lambda: histeq.equalize(image, mask=mask, nodata=3, out=out),
        "histogram, uint8": lambda: histeq.histogram(image),
        "apply, uint8, out=": lambda: histeq.apply(image, table, out=out),
    }


# CuPy without a device -------------------------------------------------------------------------------


class Kernel:
    """A kernel whose launches do nothing."""

    max_dynamic_shared_size_bytes = 1 << 30

    @property
    def kernel(self) -> "Kernel":
        return self

    def __call__(self, *_: Any, **__: Any) -> None:
        pass


class Module:
    """Its kernels."""

    def __init__(self, **_: Any) -> None:
        pass

    def get_function(self, _: str) -> Kernel:
        return Kernel()


@contextlib.contextmanager
def without_device(cupy: Any) -> Iterator[None]:
    """Make CuPy believe in a device: an H200 whose memory nobody may touch."""
    addresses = itertools.count(1 << 40, 1 << 32)

    class Device:
        attributes: ClassVar = {
            "MultiProcessorCount": 132, "MaxSharedMemoryPerBlockOptin": 232448, "L2CacheSize": 60 << 20,
        }  # fmt: skip
        compute_capability = "90"

        def __init__(self, _: int = 0) -> None:
            pass

        def __enter__(self) -> "Device":
            return self

        def __exit__(self, *_: object) -> None:
            pass

    def allocate(size: int) -> Any:
        return cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(next(addresses), size, None, 0), 0)

    stream = SimpleNamespace(ptr=0, is_capturing=lambda: False)
    changed = (
        (cupy.cuda.runtime, "getDevice", lambda: 0), (cupy.cuda.runtime, "getDeviceCount", lambda: 1),
        (cupy.cuda, "get_current_stream", lambda: stream), (cupy.cuda, "Device", Device),
        (cupy, "RawModule", Module), (cupy, "zeros", cupy.empty),
    )  # fmt: skip
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in changed]
    for owner, name, value in changed:
        setattr(owner, name, value)
    try:
        with cupy.cuda.using_allocator(allocate):
            yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


@contextlib.contextmanager
def cupy_module() -> Iterator[Any]:
    """Yield CuPy, or its stand-in, with kernels that do nothing."""
    with contextlib.ExitStack() as stack:
        try:
            cupy: Any = importlib.import_module("cupy")
            stack.enter_context(without_device(cupy))
        except ImportError:
            fake: Any = importlib.import_module("cuda_host.fake_cupy")
            cupy = stack.enter_context(fake.installed())
            cupy.RawModule = Module
        yield cupy


# Measuring -------------------------------------------------------------------------------------------


def seconds_of(call: Call, seconds: float) -> float:
    """Return the seconds that a call takes in the fastest of the rounds that last `seconds` in all."""
    rounds: list[float] = []
    per_round = 20
    end = time.perf_counter() + seconds
    while not rounds or time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(per_round):
            call()
        rounds.append((time.perf_counter() - start) / per_round)
    return min(rounds)


def measure(cupy: Any, seconds: float) -> Iterator[tuple[str, float, float]]:
    """Yield the name of each case, and the seconds of a call that is looked at and of one that is planned."""
    plans: Any = importlib.import_module("histeq._backends.cupy.plans")
    repeated = plans._REPEATED
    for name, call in cases(cupy.empty).items():
        plans._REPEATED = ()
        call()
        looked_at = seconds_of(call, seconds)
        plans._REPEATED = repeated
        for _ in range(3):
            call()
        yield name, looked_at, seconds_of(call, seconds)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.host_cost", description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.5, help="how long each call is repeated")
    options = parser.parse_args(arguments)
    with cupy_module() as cupy:
        print(f"CuPy {cupy.__version__}, Python {platform.python_version()}, NumPy {np.__version__}\n")
        print("| call | looked at, µs | planned, µs |\n| --- | ---: | ---: |")
        for name, looked_at, planned in measure(cupy, options.seconds):
            print(f"| {name} | {looked_at * 1e6:.1f} | {planned * 1e6:.1f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
