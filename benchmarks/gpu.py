"""Speeds on a GPU: python -m benchmarks.gpu. Needs CuPy and NumPy alone; peers join where importable.

Device time comes from replaying a captured graph between two events, host time from the calls alone; the
bandwidth they are compared with is that of a device copy in the same run. Results are checked before they
are timed. Everything is printed and written as JSON, with the machine.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "kernels"))  # a checkout that is not installed

import histeq

try:
    import cupy

    cupy.cuda.runtime.getDeviceCount()
except ImportError as error:
    sys.exit(f"CuPy is not installed ({error}): pip install cupy-cuda12x or cupy-cuda13x")
except cupy.cuda.runtime.CUDARuntimeError as error:
    sys.exit(f"CuPy finds no usable CUDA device or driver ({error})")

SHAPES = {
    "256": (256, 256),
    "1080p": (1080, 1920),
    "4K": (2160, 3840),
    "2^30": (1 << 15, 1 << 15),
    "64 x 1080p": (64, 1080, 1920),
    "16 x 4K": (16, 2160, 3840),
}
QUICK = ("256", "1080p")


def natural(shape: tuple[int, ...], dtype: str) -> Any:
    """Return images whose neighbours are alike, as photographs have it."""
    y, x = cupy.ogrid[: shape[-2], : shape[-1]]
    top = float(np.iinfo(dtype).max) if dtype[0] in "ui" else 1.0
    smooth = 0.45 + 0.2 * cupy.sin(x / 190) * cupy.cos(y / 130) + 0.1 * cupy.sin((x + y) / 37)
    noise = cupy.random.default_rng(0).standard_normal(shape[-2:], dtype=cupy.float32) * 0.02
    plane = cupy.clip((smooth + noise) * top, 0, top).astype(dtype)
    return cupy.ascontiguousarray(cupy.broadcast_to(plane, shape))


def constant(shape: tuple[int, ...], dtype: str) -> Any:
    """Return images of one level."""
    return cupy.ones(shape, dtype)


def random(shape: tuple[int, ...], dtype: str) -> Any:
    """Return uniform noise."""
    if dtype[0] == "f":
        return cupy.random.default_rng(0).random(shape, dtype=cupy.float32).astype(dtype)
    levels = np.iinfo(dtype).max + 1
    return cupy.random.default_rng(0).integers(0, levels, shape, dtype=cupy.uint16).astype(dtype)


CONTENTS = {"natural": natural, "constant": constant, "noise": random}


def device_time(call: Callable[[], Any], rounds: int) -> float:
    """Return the median seconds of one replay of the call's graph."""
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        call()
        stream.begin_capture()
        call()
        graph = stream.end_capture()
        start, end = cupy.cuda.Event(), cupy.cuda.Event()
        times = []
        for _ in range(rounds + 3):
            start.record(stream)
            for _ in range(20):
                graph.launch(stream)
            end.record(stream)
            end.synchronize()
            times.append(cupy.cuda.get_elapsed_time(start, end) / 20e3)
    return statistics.median(times[3:])


def event_time(call: Callable[[], Any], rounds: int) -> float:
    """Return the median seconds between events around one call: for peers that cannot be captured."""
    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    times = []
    for _ in range(rounds + 3):
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(cupy.cuda.get_elapsed_time(start, end) / 1e3)
    return statistics.median(times[3:])


def host_time(call: Callable[[], Any], rounds: int) -> float:
    """Return the median seconds that a call keeps the host, without waiting for the device."""
    times = []
    for _ in range(rounds + 3):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
        cupy.cuda.Device().synchronize()
    return statistics.median(times[3:])


def copy_bandwidth() -> float:
    """Return bytes a second of a device copy, read and written counted."""
    source = cupy.zeros(1 << 30, cupy.uint8)
    target = cupy.empty_like(source)
    return 2 * source.nbytes / device_time(lambda: cupy.copyto(target, source), 10)


def naive(image: Any, out: Any) -> None:
    """Equalize one uint8 image with CuPy's functions, as one would without a library."""
    counts = cupy.bincount(image.ravel(), minlength=256)
    cumulative = cupy.cumsum(counts)
    first = counts[cupy.argmax(counts > 0)]
    scale = cupy.float32(255) / (image.size - first).astype(cupy.float32)
    table = cupy.clip(cupy.rint((cumulative - first).astype(cupy.float32) * scale), 0, 255)
    cupy.take(table.astype(cupy.uint8), image, out=out)


def peers(image: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield what other libraries do with these uint8 images."""
    out = cupy.empty_like(image)
    if image.ndim == 2:
        yield "naive CuPy", lambda: naive(image, out)
    try:
        import torch
        import torchvision.transforms.v2.functional as torchvision

        tensor = torch.from_dlpack(image).reshape(-1, 1, *image.shape[-2:])
        yield "torchvision", lambda: torchvision.equalize(tensor)
    except ImportError:
        pass
    try:
        import kornia
        import torch

        fractions = torch.from_dlpack(image).reshape(-1, 1, *image.shape[-2:]).float() / 255
        yield "kornia", lambda: kornia.enhance.equalize(fractions)
    except ImportError:
        pass
    try:
        import cvcuda

        frames = cvcuda.as_tensor(image.reshape(-1, *image.shape[-2:], 1), "NHWC")
        target = cvcuda.as_tensor(out.reshape(-1, *image.shape[-2:], 1), "NHWC")
        yield "CV-CUDA", lambda: cvcuda.histogrameq_into(target, frames, image.dtype)
    except ImportError:
        pass
    try:
        from cucim.skimage import exposure

        if image.ndim == 2:
            yield "cuCIM", lambda: exposure.equalize_hist(image)
    except ImportError:
        pass


def measure(name: str, content: str, dtype: str, rounds: int, bandwidth: float) -> dict[str, Any]:
    """Check and time one case."""
    shape = SHAPES[name]
    image = CONTENTS[content](shape, dtype)
    layout = "NHW"[-len(shape) :]
    sample = image[:1] if len(shape) == 3 else image[:2048, :2048]
    expected = histeq.equalize(sample.get(), layout=layout, backend="numpy")
    if not np.array_equal(histeq.equalize(sample, layout=layout).get(), expected):
        sys.exit(f"wrong pixels: {name}, {content}, {dtype}")
    out = cupy.empty_like(histeq.equalize(image, layout=layout))

    def call() -> None:
        histeq.equalize(image, layout=layout, out=out)

    seconds = device_time(call, rounds)
    moved = 2 * image.nbytes + out.nbytes
    result: dict[str, Any] = {
        "case": name, "content": content, "dtype": dtype, "pixels": image.size,
        "device_seconds": seconds, "host_seconds": host_time(call, rounds),
        "share_of_copy_2_reads": moved / seconds / bandwidth,
        "share_of_copy_1_read": (image.nbytes + out.nbytes) / seconds / bandwidth,
        "peers": {},
    }  # fmt: skip
    if dtype == "uint8":
        for peer, other in peers(image):
            try:
                result["peers"][peer] = event_time(other, rounds)
            except Exception as error:  # a peer that fails is no reason to stop
                result["peers"][peer] = f"{type(error).__name__}: {error}"
    return result


def machine() -> dict[str, Any]:
    """Describe the GPU and what drives it."""
    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(cupy.cuda.Device().id)
    return {
        "gpu": properties["name"].decode(),
        "compute_capability": f"{properties['major']}.{properties['minor']}",
        "multiprocessors": properties["multiProcessorCount"],
        "driver": runtime.driverGetVersion(),
        "runtime": runtime.runtimeGetVersion(),
        "cupy": cupy.__version__,
        "numpy": np.__version__,
        "histeq": histeq.__version__,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def measure_host(shape: tuple[int, ...], rounds: int) -> dict[str, Any]:
    """Time a NumPy image that goes there and back, against the bare copies of one piece of pinned memory."""
    image = CONTENTS["natural"](shape, "uint8").get()
    pinned = np.frombuffer(cupy.cuda.alloc_pinned_memory(image.nbytes), np.uint8, image.size)
    lent = cupy.empty(image.size, np.uint8)

    def there_and_back() -> None:
        lent.set(pinned)
        lent.get(out=pinned)

    result = {"case": "host " + " x ".join(map(str, shape)), "pixels": image.size}
    for name, call in (
        ("seconds", lambda: histeq.equalize(image, backend="cupy")),
        ("copies_seconds", there_and_back),
        ("cpu_seconds", lambda: histeq.equalize(image)),
    ):
        times = []
        for _ in range(rounds + 1):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        result[name] = statistics.median(times[1:])
    return result


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small images and few rounds")
    parser.add_argument("--json", metavar="FILE", type=Path, default=Path(".benchmarks", "gpu.json"))
    arguments = parser.parse_args()
    rounds = 5 if arguments.quick else 30
    bandwidth = copy_bandwidth()
    report = {"machine": machine(), "copy_bytes_per_second": bandwidth, "results": []}
    print(f"{report['machine']['gpu']}: copies {bandwidth / 1e12:.2f} TB/s (read + written)")  # type: ignore[index]
    for name in QUICK if arguments.quick else SHAPES:
        for dtype in ("uint8", "uint16", "float32"):
            if name == "2^30" and dtype == "float32":
                continue  # the case is there for uint8 and uint16
            for content in CONTENTS:
                result = measure(name, content, dtype, rounds, bandwidth)
                report["results"].append(result)  # type: ignore[attr-defined]
                ratios = {
                    peer: f"{seconds / result['device_seconds']:.1f}x"
                    for peer, seconds in result["peers"].items()
                    if isinstance(seconds, float)
                }
                print(
                    f"{name:>11} {dtype:8} {content:9} {result['device_seconds'] * 1e6:10.2f} us device, "
                    f"{result['host_seconds'] * 1e6:7.1f} us host, "
                    f"{result['share_of_copy_2_reads']:5.0%} of the copy (3 accesses a pixel) {ratios}"
                )
    shapes = ((1080, 1920), (2160, 3840), (1 << 15, 1 << 15))
    for shape in shapes[:1] if arguments.quick else shapes:
        result = measure_host(shape, min(rounds, 5))
        report["results"].append(result)  # type: ignore[attr-defined]
        print(
            f"{result['case']}: {result['seconds'] * 1e3:.2f} ms; bare copies there and back "
            f"{result['copies_seconds'] * 1e3:.2f} ms; on the CPU {result['cpu_seconds'] * 1e3:.2f} ms"
        )
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(report, indent=1))
    print(f"written to {arguments.json}")


if __name__ == "__main__":
    main()
