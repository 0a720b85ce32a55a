"""Time every run of `cases`: an implementation, and in the same breath histeq and memcpy.

The speed of a shared machine drifts within seconds, so a ratio is taken within each round, of calls
that follow each other, and its median over the rounds is what counts. Nothing is timed before the
peer's result has been found equal to histeq's, which also compiles the kernels.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

import histeq
from benchmarks import machine, peers
from benchmarks.cases import Run

Array = NDArray[Any]
Call = Callable[[], Any]

_ROUNDS = (7, 300)
# Calls shorter than this are timed right after an untimed one, which brings their data and code back
# into the caches and wakes their threads.
_WARM_BELOW = 0.02
# Handing a piece to another thread costs 25-150 us, in which one thread copies about this many bytes.
_COPY_PIECE = 1 << 20
_pool = ThreadPoolExecutor(machine.threads())


def test_speed(run: Run, seconds: float, benchmark: Any) -> None:
    histeq.set_num_threads(run.threads)
    peers.set_num_threads(run.threads)
    image = run.image()
    calls, result_bytes = prepare(run, image)
    benchmark.group = run.group
    times = interleave(benchmark, run.implementation, calls, seconds)
    if benchmark.stats:  # else --benchmark-disable: the results have been compared, and that is all
        times[run.implementation] = np.array(benchmark.stats.stats.data)
        benchmark.extra_info.update(facts(run), **figures(run, image, result_bytes, times))


def prepare(run: Run, image: Array) -> tuple[dict[str, Call], int]:
    """Return the calls to time by name, found to give equal results, and the size of their result."""
    inputs = run.case.inputs(image)
    options = run.peer.options if run.peer else {}
    ours = run.case.prepare(image, None, *inputs, **options)()
    histeq_call = run.case.prepare(image, np.empty_like(ours), *inputs, **options)
    calls = {"histeq": histeq_call, "memcpy": memcpy(image, run.threads)}
    if run.peer:
        calls[run.peer.name] = run.peer.prepare(image, np.empty_like(ours), *inputs)
        check(run, np.asarray(calls[run.peer.name]()), ours)
    check(run, histeq_call(), ours)
    return calls, ours.nbytes


def check(run: Run, theirs: Array, ours: Array) -> None:
    """Stop if a pixel or count differs. Shape and dtype may: cv2.calcHist returns a column of float32."""
    if not np.array_equal(theirs.reshape(ours.shape), ours.astype(theirs.dtype, copy=False)):
        raise AssertionError(f"{run}: the result differs from histeq's")


def memcpy(image: Array, threads: int) -> Call:
    """Return the call that copies an image with as many threads as pay."""
    pieces = max(1, min(threads, image.nbytes // _COPY_PIECE))
    sources = np.array_split(image, pieces)
    targets = np.array_split(np.empty_like(image), pieces)
    if pieces == 1:
        return lambda: np.copyto(targets[0], sources[0])
    return lambda: list(_pool.map(np.copyto, targets, sources))


def interleave(benchmark: Any, name: str, calls: dict[str, Call], seconds: float) -> dict[str, Array]:
    """Benchmark one of the calls; before each of its rounds, time each of the others. Return their times."""
    takes = {each: clock(call) for each, call in calls.items()}
    warm = {each for each in calls if takes[each] < _WARM_BELOW}
    a_round = sum(takes[each] * (1 + (each in warm)) for each in calls)
    times: dict[str, list[float]] = {each: [] for each in calls if each != name}

    def the_others() -> None:
        for each, taken in times.items():
            if each in warm:
                calls[each]()
            taken.append(clock(calls[each]))
        if name in warm:
            calls[name]()

    benchmark.pedantic(calls[name], setup=the_others, rounds=int(np.clip(seconds / a_round, *_ROUNDS)))
    return {each: np.array(taken) for each, taken in times.items()}


def clock(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def facts(run: Run) -> dict[str, Any]:
    """Return what was timed."""
    return {
        "case": run.case.name,
        "implementation": run.implementation,
        "size": run.size,
        "content": run.content,
        "dtype": run.case.dtype,
        "threads": run.threads,
        "target": run.target(machine.targets()),
    }


def figures(run: Run, image: Array, result_bytes: int, times: dict[str, Array]) -> dict[str, Any]:
    """Return what was found. Bytes are those of the image read once and the result written once."""
    pixels = image.shape[0] * image.shape[1]
    median = {name: float(np.median(taken)) for name, taken in times.items()}
    taken = median[run.implementation]
    found = {
        "mpixels_per_second": pixels / taken / 1e6,
        "bytes_per_second": (image.nbytes + result_bytes) / taken,
        "fraction_of_memcpy": median["memcpy"] / taken,
    }
    if run.peer:
        ratios = times[run.implementation] / times["histeq"]
        found["histeq_mpixels_per_second"] = pixels / median["histeq"] / 1e6
        found["histeq_fraction_of_memcpy"] = median["memcpy"] / median["histeq"]
        found["ratio"] = float(np.median(ratios))
        found["ratio_quartiles"] = np.quantile(ratios, (0.25, 0.75)).tolist()
    return found
