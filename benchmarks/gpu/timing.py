"""How calls are timed: ours and the peers' in the same ways, on buffers that take turns.

A *job* is a list of calls that do the same to different arrays. *Eager*: the calls one after the other, as a
program makes them, until the device is idle. *Graph*: the calls captured into one CUDA graph, which is
launched again and again: what the device takes. *Host*: how long a call keeps the host, which does not wait.
"""

import importlib
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

Call = Callable[[], Any]
Job = Sequence[Call]


class Clock:
    """Times jobs on one stream, each at most `seconds` a way."""

    def __init__(self, cupy: Any, seconds: float) -> None:
        self.device, self.seconds = cupy.cuda.Device(), seconds
        self.stream = cupy.cuda.Stream(non_blocking=True)

    def eager(self, job: Job) -> float:
        """Return the seconds of a call among calls that follow one another."""

        def once() -> None:
            for call in job:
                call()

        return self._repeated(once) / len(job)

    def host(self, job: Job) -> float:
        """Return the seconds that a call keeps the host, the device being idle."""
        times = []
        for call in list(job)[:10] * max(1, 30 // len(job)):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
            self.device.synchronize()
        return statistics.median(times)

    def graph(self, job: Job) -> float:
        """Return the seconds of a call in a graph."""
        return self.launches(self.capture(job), job)

    def launches(self, launch: Call, job: Job) -> float:
        """Return the seconds of a call in a job that was captured."""
        return self._repeated(launch) / len(job)

    def capture(self, job: Job) -> Call:
        """Return what launches a graph of the calls."""
        with self.stream:
            for call in job:  # compiles, and makes the workspace
                call()
            self.stream.begin_capture()
            try:
                results = [call() for call in job]
            finally:
                graph = self.stream.end_capture()

        def launch(written: Any = results) -> Any:  # what the graph writes lives as long as it
            graph.launch(self.stream)
            return written

        return launch

    def torch_graph(self, job: Job) -> float:
        """Return the seconds of a call in a graph that PyTorch captures."""
        torch: Any = importlib.import_module("torch")
        for call in job:
            call()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            results = [call() for call in job]
        seconds = self.launches(graph.replay, job)
        del results
        return seconds

    def _repeated(self, work: Call) -> float:
        """Return the median seconds of `work`, from rounds long enough to be timed by the host."""
        work()
        self.device.synchronize()
        start = time.perf_counter()
        work()
        self.device.synchronize()
        once = time.perf_counter() - start
        rounds = 7 if 7 * once < self.seconds else 3 if once < 0.5 else 1
        times = max(1, int(self.seconds / rounds / max(once, 1e-6)))
        taken = []
        for _ in range(rounds):
            start = time.perf_counter()
            for _ in range(times):
                work()
            self.device.synchronize()
            taken.append((time.perf_counter() - start) / times)
        return statistics.median(taken)
