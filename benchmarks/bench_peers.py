"""Time every run of `cases`: an implementation, and in the same breath histeq and memcpy.

The speed of a shared machine drifts within seconds, so a ratio is taken within each round, of calls
that follow each other, and its median over the rounds is what counts. Nothing is timed before the
peer's result has been found equal to histeq's, which also compiles the kernels.
"""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

import histeq
from benchmarks import cases
from benchmarks.cases import Run
from histeq._bench.cases import Call
from histeq._bench.peers import PEERS, as_array
from histeq._bench.pixels import distance, same
from histeq._bench.worker import WARM_BELOW, memcpy, on_host

Array = NDArray[Any]

_ROUNDS = (7, 300)


def test_speed(run: Run, seconds: float, benchmark: Any) -> None:
    histeq.set_num_threads(run.threads)
    use_threads(run)
    image = run.case.image()
    calls, result_bytes = prepare(run, image)
    benchmark.group = run.group
    times = interleave(benchmark, run.implementation, calls, seconds)
    if benchmark.stats:  # else --benchmark-disable: the results have been compared, and that is all
        times[run.implementation] = np.array(benchmark.stats.stats.data)
        benchmark.extra_info.update(facts(run), **figures(run, image, result_bytes, times))


def use_threads(run: Run) -> None:
    """Tell the peer how many threads to use."""
    library = PEERS.get(run.peer.name) if run.peer else None
    if library and library.setup:
        library.setup()
    if library and library.set_threads:
        library.set_threads(run.threads)


def prepare(run: Run, image: Array) -> tuple[dict[str, Call], int]:
    """Return the calls to time by name, found to give equal results, and the size of their result."""
    inputs = run.case.inputs(image)
    ours = np.asarray(run.ours(image, None, inputs)())
    histeq_call = run.ours(image, np.empty_like(ours), inputs)
    calls = {"histeq": histeq_call, "memcpy": memcpy(image, run.threads)}
    if run.peer:
        calls[run.peer.title] = run.theirs(image, np.empty_like(ours), inputs)
        check(run, as_array(calls[run.peer.title]()), ours)
    check(run, np.asarray(histeq_call()), ours)
    return calls, ours.nbytes


def check(run: Run, theirs: Array, ours: Array) -> None:
    """Stop if a pixel or count differs."""
    if not same(theirs, ours):
        raise AssertionError(f"{run}: {distance(theirs, ours)}")


def interleave(benchmark: Any, name: str, calls: dict[str, Call], seconds: float) -> dict[str, Array]:
    """Benchmark one of the calls; before each of its rounds, time each of the others. Return their times."""
    takes = {each: clock(call) for each, call in calls.items()}
    warm = {each for each in calls if takes[each] < WARM_BELOW}
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
    return on_host(call).seconds


targets = functools.cache(cases.targets)


def facts(run: Run) -> dict[str, Any]:
    """Return what was timed."""
    return {
        "case": run.row.name,
        "implementation": run.implementation,
        "size": run.size,
        "content": run.content,
        "dtype": run.case.dtype,
        "threads": run.threads,
        "target": run.target(targets()),
    }


def figures(run: Run, image: Array, result_bytes: int, times: dict[str, Array]) -> dict[str, Any]:
    """Return what was found. Bytes are those of the image read once and the result written once."""
    pixels = run.case.pixels
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
