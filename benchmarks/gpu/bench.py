"""Speeds on the GPU, ours and the peers': python -m benchmarks.gpu.bench.

Every case is checked on the very arrays and by the very calls that are timed, eager and in a graph. Arrays
take turns, so that a small image does not stay in the L2 cache. Each result is a line of JSON as soon as it
is known; the first line describes the machine. What there is no time for is said to be left out.
"""

import argparse
import functools
import json
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.device import cupy_module, describe, histeq, occasion
from benchmarks.gpu.peers import PEERS, OneAtATimeError
from benchmarks.gpu.timing import Clock, Job

MOST_ARRAYS = 32
"""The most arrays that take turns."""


@dataclass(frozen=True, slots=True)
class Size:
    """A grey image, or a batch where `images` is not 0. The rows are `repeats` times the first ones."""

    name: str
    images: int
    rows: int
    columns: int
    repeats: int = 1


SIZES = {
    size.name: size
    for size in (
        Size("256", 0, 256, 256),
        Size("1080p", 0, 1080, 1920),
        Size("4K", 0, 2160, 3840),
        Size("2^30", 0, 1 << 15, 1 << 15, 128),
        Size("64 x 1080p", 64, 1080, 1920),
        Size("16 x 4K", 16, 2160, 3840),
    )
}
TINY = {
    name: Size(name, size.images and 9, 8 * size.repeats, 40, size.repeats and min(size.repeats, 4))
    for name, size in SIZES.items()
}
"""The same for the stand-in."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is timed."""

    operation: str
    dtype: str
    size: str
    content: str = "natural"


def cases(quick: bool) -> Iterator[Case]:
    """Yield all cases, those that matter most first."""
    if quick:
        yield from (Case("equalize", "uint8", size) for size in ("1080p", "4K", "64 x 1080p", "2^30", "256"))
        yield from (Case("equalize", dtype, "1080p") for dtype in ("uint16", "float32"))
        yield from (Case(operation, "uint8", "1080p") for operation in ("clahe", "luma"))
        yield from (Case(operation, "uint8", "4K") for operation in ("histogram", "apply"))
        return
    for content in ("natural", "noise", "constant"):
        for size in SIZES:
            yield Case("equalize", "uint8", size, content)
    for size in ("1080p", "4K", "16 x 4K", "2^30"):
        yield Case("equalize", "uint16", size)
    for content in ("noise", "constant"):
        yield Case("equalize", "uint16", "4K", content)
    for operation in ("histogram", "apply"):
        for dtype, size in (("uint8", "1080p"), ("uint8", "4K"), ("uint8", "2^30"), ("uint16", "4K")):
            for content in ("natural", "noise"):
                yield Case(operation, dtype, size, content)
    for operation in ("clahe", "luma"):
        for dtype in ("uint8", "uint16"):
            for size in ("1080p", "4K"):
                yield Case(operation, dtype, size)
    for operation in ("equalize", "clahe"):
        yield Case(operation, "float32", "1080p")
    yield Case("equalize", "float32", "4K")


# Images ---------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=2)
def frames(content: str, dtype: str, rows: int, columns: int, channels: int) -> tuple[Any, Any]:
    """Return two images in host memory with different histograms."""
    rng = np.random.default_rng(0)
    shape = (rows, columns, channels) if channels else (rows, columns)
    top = 1.0 if dtype[0] == "f" else float(np.iinfo(dtype).max)
    if content == "constant":
        return np.full(shape, top // 3, dtype), np.full(shape, top // 2, dtype)
    if content == "noise":
        first = rng.random(shape, np.float32) * top
    else:  # neighbours are alike, as photographs have it
        y, x = (axis.astype(np.float32) for axis in np.ogrid[:rows, :columns])
        smooth = 0.45 + 0.2 * np.sin(x / 190) * np.cos(y / 130) + 0.1 * np.sin((x + y) / 37)
        first = rng.standard_normal(shape, np.float32)
        first *= 0.02
        first += smooth.reshape(rows, columns, *[1] * bool(channels))
        first = np.clip(first * top, 0, top)
    image = first.astype(dtype)
    return image, (np.iinfo(dtype).max - image if dtype[0] != "f" else 1 - image)


@functools.lru_cache(maxsize=4)
def expected_of(operation: str, content: str, dtype: str, shape: tuple[int, ...], repeats: int) -> list[Any]:
    """Return the NumPy backend's results for both frames; with the counts of all repeats."""
    results = []
    for frame in frames(content, dtype, *shape):
        if operation == "luma" or (operation == "equalize" and dtype[0] == "f"):
            result = histeq.equalize(frame, layout="HWC"[: frame.ndim], backend="numpy")
        elif operation == "clahe":
            result = histeq.clahe(frame, backend="numpy")
        elif operation == "apply":
            result = np.iinfo(dtype).max - frame
        else:
            result = histeq.histogram(frame, backend="numpy") * repeats
            if operation == "equalize":
                table = histeq.lookup_table(result, dtype=frame.dtype, backend="numpy")
                result = histeq.apply(frame, table, backend="numpy")
        results.append(result)
    return results


class Prepared:
    """The arrays of a case and what is expected of them."""

    def __init__(self, cupy: Any, case: Case, size: Size, working_set: int) -> None:
        self.cupy, self.case, self.size = cupy, case, size
        self.channels = 3 if case.operation == "luma" else 0
        self.layout = ("N" if size.images else "") + "HW" + ("C" if self.channels else "")
        frame = size.rows // size.repeats, size.columns, self.channels
        hosts = frames(case.content, case.dtype, *frame)
        results = expected_of(case.operation, case.content, case.dtype, frame, size.repeats)
        lent = [cupy.asarray(host) for host in hosts]
        self.expected = [cupy.asarray(result) for result in results]
        table = np.arange(256)[::-1] if case.dtype == "uint8" else np.arange(65536)[::-1]
        self.table = cupy.asarray(table.astype(case.dtype)) if case.operation == "apply" else None
        shape = (size.rows, size.columns, *[self.channels] * bool(self.channels))
        shape = (size.images, *shape) if size.images else shape
        pixels = int(np.prod(shape, dtype=np.int64))
        # A batch has both frames, in turns; single images take turns among the arrays.
        self.images, self.outs = [], []
        bytes_of_both = pixels * (hosts[0].itemsize + results[0].itemsize)
        count = 2 if size.images else min(MOST_ARRAYS, max(2, working_set // bytes_of_both))
        count = 1 if size.repeats > 1 else count
        for i in range(count):
            image = cupy.empty(shape, hosts[0].dtype)
            for k, part in self._parts(image):
                part[...] = lent[(i + k) % 2]
            self.images.append(image)
            if case.operation != "histogram":
                self.outs.append(cupy.empty(shape, results[0].dtype))
        self.pixels = pixels
        self.read = pixels * hosts[0].itemsize
        self.written = 0 if case.operation == "histogram" else pixels * results[0].itemsize

    def job(self) -> Job:
        """Return the calls that are timed."""
        operation, layout = self.case.operation, self.layout
        if operation == "histogram":
            return [functools.partial(histeq.histogram, image, layout=layout) for image in self.images]
        function = histeq.clahe if operation == "clahe" else histeq.equalize
        if operation == "apply":
            function = functools.partial(histeq.apply, table=self.table)
        pairs = zip(self.images, self.outs, strict=True)
        return [functools.partial(function, image, layout=layout, out=out) for image, out in pairs]

    def check(self, results: list[Any]) -> None:
        """Raise AssertionError unless every result is as expected."""
        for i, result in enumerate(results):
            is_counts = self.case.operation == "histogram"
            for k, part in [(0, result)] if is_counts else self._parts(result):
                if not (part == self.expected[(i + k) % 2]).all():
                    raise AssertionError(f"wrong pixels in array {i}")

    def clear(self) -> None:
        """Make the results wrong, so that those of earlier calls are not taken for new ones."""
        for out in self.outs:
            out[...] = 0

    def _parts(self, array: Any) -> Iterator[tuple[int, Any]]:
        """Yield the frames of a batch, numbered; of an image, the stretches of rows that repeat, all 0."""
        if self.size.images:
            yield from enumerate(array)
        else:
            yield from ((0, part) for part in array.reshape(self.size.repeats, -1, *array.shape[1:]))


# Measuring ------------------------------------------------------------------------------------------


def measure(prepared: Prepared, clock: Clock, bandwidth: float) -> dict[str, Any]:
    """Check a case and time it."""
    job = prepared.job()
    prepared.clear()
    prepared.check([call() for call in job])
    eager, host = clock.eager(job), clock.host(job)
    launch = clock.capture(job)
    prepared.clear()
    clock.device.synchronize()
    results = launch()
    clock.device.synchronize()
    prepared.check(results)
    graph = clock.launches(launch, job)
    read, written = prepared.read, prepared.written
    return {
        "pixels": prepared.pixels, "arrays": len(job), "bytes_in_turns": len(job) * (read + written),
        "graph_seconds": graph, "eager_seconds": eager, "host_seconds": host,
        "share_of_copy_1_read": (read + written) / graph / bandwidth,
        "share_of_copy_2_reads": (2 * read + written) / graph / bandwidth,
    }  # fmt: skip


def measure_peers(prepared: Prepared, clock: Clock) -> dict[str, Any]:
    """Time the peers of a case, each as we are; say what is missing and what fails."""
    result: dict[str, Any] = {}
    if prepared.case.dtype != "uint8" or prepared.size.repeats > 1:
        return result
    for name, peer in PEERS.get(prepared.case.operation, {}).items():
        entry = result[name] = {}
        try:
            job, capture = peer(prepared.images, prepared.outs)
            entry["eager_seconds"] = clock.eager(job)
            if capture is not None:
                entry["graph_seconds"] = clock.graph(job) if capture == "cupy" else clock.torch_graph(job)
        except ImportError as error:
            entry["left_out"] = f"not installed ({error})"
        except OneAtATimeError as error:
            entry["left_out"] = str(error)
        except Exception as error:  # a peer that fails is no reason to stop, but to be told
            entry["failed"] = f"{type(error).__name__}: {error}"
    return result


def attempt(
    cupy: Any, case: Case, size: Size, working_set: int, clock: Clock, bandwidth: float
) -> dict[str, Any]:
    """Measure a case and its peers; say how it failed: the other cases are of use all the same."""
    try:
        prepared = Prepared(cupy, case, size, working_set)
        return {**measure(prepared, clock, bandwidth), "peers": measure_peers(prepared, clock)}
    except Exception as error:
        traceback.print_exc(file=sys.stdout)
        return {"failed": f"{type(error).__name__}: {error}"}
    finally:
        cupy.get_default_memory_pool().free_all_blocks()


def copy_bandwidth(cupy: Any, clock: Clock, size: int) -> float:
    """Return bytes a second of a device copy, read and written counted."""
    source, target = cupy.zeros(size, np.uint8), cupy.empty(size, np.uint8)
    return 2 * size / clock.graph([lambda: cupy.copyto(target, source)])


def measure_host_array(cupy: Any, size: Size, seconds: float) -> dict[str, Any]:
    """Time a NumPy image that goes there and back, beside the bare copies with pinned memory."""
    image = frames("natural", "uint8", size.rows, size.columns, 0)[0]
    pinned = np.frombuffer(cupy.cuda.alloc_pinned_memory(image.nbytes), np.uint8, image.size)
    lent = cupy.empty(image.size, np.uint8)

    def there_and_back() -> None:
        lent.set(pinned)
        lent.get(out=pinned)

    def equalized() -> None:
        histeq.equalize(image, backend="cupy")

    if not np.array_equal(histeq.equalize(image, backend="cupy"), histeq.equalize(image, backend="numpy")):
        raise AssertionError("wrong pixels")
    clock = Clock(cupy, seconds)
    return {"seconds": clock.eager([equalized]), "copies_seconds": clock.eager([there_and_back])}


def line_of(record: dict[str, Any]) -> str:
    """Return a record for people."""
    case = record["case"]
    start = f"{case['operation']:9} {case['dtype']:7} {case['size']:>10} {case['content']:8} "
    if "graph_seconds" not in record:
        return start + str(record.get("left_out") or record.get("failed") or record)
    lines = [
        f"{start}{record['graph_seconds'] * 1e6:9.2f} us in a graph, "
        f"{record['eager_seconds'] * 1e6:9.2f} eager, "
        f"{record['host_seconds'] * 1e6:6.1f} host, {record['share_of_copy_1_read']:4.0%} of a copy"
    ]
    for name, peer in record["peers"].items():
        ratios = ", ".join(
            f"{peer[way] / record[way]:.1f}x {way.partition('_')[0]}"
            for way in ("graph_seconds", "eager_seconds")
            if way in peer
        )
        trouble = f"failed: {peer['failed']}" if "failed" in peer else peer.get("left_out", "")
        lines.append(f"    {name}: {', '.join(filter(None, (ratios, trouble)))}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.gpu.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few cases, each timed shortly")
    parser.add_argument("--stand-in", action="store_true", help="tiny images, kernels on the CPU: no GPU")
    parser.add_argument("--json", metavar="FILE", type=Path, default=Path(".benchmarks", "gpu.jsonl"))
    parser.add_argument("--seconds", type=float, default=110, help="begin no case later than this")
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    cupy = cupy_module(options.stand_in)
    sizes = TINY if options.stand_in else SIZES
    clock = Clock(cupy, 0.001 if options.stand_in else 0.05 if options.quick else 0.15)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    failed = 0
    with options.json.open("w", encoding="utf-8") as file:

        def write(record: dict[str, Any]) -> None:
            file.write(json.dumps(record) + "\n")
            file.flush()

        machine = describe(cupy)
        bandwidth = copy_bandwidth(cupy, clock, 1 << (16 if options.stand_in else 30))
        write({"machine": {**machine, **occasion()}, "copy_bytes_per_second": bandwidth})
        print(f"{machine['gpu']}: copies {bandwidth / 1e12:.2f} TB/s (read and written)", flush=True)
        working_set = 0 if options.stand_in else 4 * machine["cache_bytes"]
        for case in cases(options.quick or options.stand_in):
            record: dict[str, Any] = {"case": asdict(case)}
            if time.monotonic() > end:
                record["left_out"] = "out of time"
            else:
                record |= attempt(cupy, case, sizes[case.size], working_set, clock, bandwidth)
                failed += "failed" in record
            write(record)
            print(line_of(record), flush=True)
        for name in () if time.monotonic() > end else ("1080p", "4K"):
            record = {"host_array": name, **measure_host_array(cupy, sizes[name], clock.seconds)}
            write(record)
            print(record, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
