"""Zarr to Zarr on a cluster of two processes here, beside one process with two threads.

    python -m benchmarks.cluster
    python -m benchmarks.cluster --side 8192 --rounds 1

20000 x 20000 pixels of uint8 in chunks of 2048 x 2048, zstd. Each run is a program of its own; its time is
that of the call, the first one in that program, without starting Python or the cluster.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import zarr

import histeq
from histeq._cluster.client import connected

_CHUNK = 2048


def _peak() -> float:
    """Return the most memory of this process in MB."""
    status = Path("/proc/self/status").read_text()  # getrusage counts the parent's before the fork, too
    return int(status.partition("VmHWM:")[2].split()[0]) / 1000


def make(path: Path, side: int) -> None:
    """Write a synthetic scene: smooth slopes with noise, which compress like photographs."""
    settings: dict[str, Any] = {"chunks": (_CHUNK, _CHUNK), "compressors": zarr.codecs.ZstdCodec(level=3)}
    array = zarr.create_array(path, shape=(side, side), dtype="u1", **settings)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 8, (_CHUNK, _CHUNK), np.uint8)
    for top in range(0, side, _CHUNK):
        for left in range(0, side, _CHUNK):
            rows, columns = (np.arange(start, min(start + _CHUNK, side)) for start in (top, left))
            smooth = 90 + 40 * np.add.outer(np.sin(rows / 900), np.cos(columns / 700))
            block = smooth.astype(np.uint8) + noise[: len(rows), : len(columns)]
            array[top : top + len(rows), left : left + len(columns)] = block


def _call(function: str, source: str, target: str, cluster: str) -> None:
    """Print the seconds of a call, and the peaks in MB of the process or of the workers."""
    call: Any = getattr(histeq, function)
    if cluster == "none":
        with histeq.threads(2):
            start = time.perf_counter()
            call(source, target)
        print(time.perf_counter() - start, _peak())
        return
    with connected(cluster) as client:
        client.wait_for_workers(2)
        start = time.perf_counter()
        call(source, target, cluster=client)
        seconds = time.perf_counter() - start
        print(seconds, *client.run(_peak).values())


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--call", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.call:
        _call(*arguments.call)
        return
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "in.zarr")
        make(source, arguments.side)
        print("| call | where | seconds, best | of one process | peak MB |\n|---|---|---|---|---|")
        for function in ("equalize_file", "clahe_file"):
            best: dict[str, list[float]] = {}
            for number in range(arguments.rounds):
                for cluster in ("none", "local:2"):
                    target = Path(folder, f"{function}-{cluster[:4]}-{number}.zarr")
                    command = [sys.executable, "-m", "benchmarks.cluster", "--call", function]
                    out = subprocess.run(
                        [*command, str(source), str(target), cluster],
                        check=True,
                        capture_output=True,
                        text=True,
                    ).stdout
                    found = [float(word) for word in out.split()]
                    best[cluster] = min(best.get(cluster, found), found)
            for cluster, (seconds, *peaks) in best.items():
                where = "two threads" if cluster == "none" else cluster
                ratio = seconds / best["none"][0]
                memory = " + ".join(f"{peak:.0f}" for peak in peaks)
                print(f"| {function} | {where} | {seconds:.2f} | {ratio:.2f} | {memory} |", flush=True)


if __name__ == "__main__":
    main()
