"""What smoothing over time costs: a frame by `Equalizer` beside the same frame by `equalize` or `clahe`.

    python -m benchmarks.frames                # 1080p, one thread and two: a minute

The calls take turns, in place of one another, on frames that are not in the cache of the call before.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import histeq
from histeq._bench.images import make
from histeq._bench.machine import describe

Frame = NDArray[Any]


def calls(out: Frame, first: Frame, **options: Any) -> dict[str, Callable[[Frame], Any]]:
    """Return what maps a frame, the plain function first."""
    plain = histeq.clahe if options.get("method") == "clahe" else histeq.equalize
    causal = histeq.Equalizer(**options)
    ahead = histeq.Equalizer(centered=True, **options)
    for _ in range(ahead.lag):
        ahead.update(first)

    def centered(frame: Frame) -> None:
        ahead.update(frame)
        ahead.apply(frame, out=out)

    return {
        plain.__name__: lambda frame: plain(frame, out=out),
        "causal": lambda frame: causal(frame, out=out),
        "centered": centered,
    }


def measure(run: dict[str, Callable[[Frame], Any]], frames: list[Frame], rounds: int) -> dict[str, float]:
    """Return the tenth percentile of the microseconds of each call."""
    taken: dict[str, list[float]] = {name: [] for name in run}
    for i in range(rounds):
        for name, call in run.items():
            frame = frames[i % len(frames)]
            start = time.perf_counter()
            call(frame)
            taken[name].append(1e6 * (time.perf_counter() - start))
    return {name: statistics.quantiles(times[rounds // 10 :], n=10)[0] for name, times in taken.items()}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    rounds = parser.parse_args().rounds
    print(describe(), "\n")
    image = make("natural", (1080, 1920), "uint8")
    frames, out = [np.roll(image, 7 * i, axis=1) for i in range(6)], np.empty_like(image)
    print("| threads | method | call | us | of the plain call |\n|---|---|---|---|---|")
    for threads in (1, 2):
        with histeq.threads(threads):
            for options in ({"method": "global"}, {"method": "clahe"}):
                found = measure(calls(out, image, **options), frames, rounds)
                base = next(iter(found.values()))
                for name, us in found.items():
                    print(f"| {threads} | {options['method']} | {name} | {us:.0f} | {us / base:.3f} |")


if __name__ == "__main__":
    main()
