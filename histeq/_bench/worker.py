"""One library in a process of its own: it prepares calls and times them, as the measuring process asks.

    python -m histeq._bench.worker

Requests and replies are lines of JSON, on standard input and on what was standard output: a library that
prints does no harm. Images come and results go as .npy files.
"""

import functools
import importlib
import json
import os
import queue
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Call = Callable[[], Any]

WARM_BELOW = 0.02
"""Calls shorter than this are timed right after an untimed one, which brings their data and code back into
the caches and wakes their threads."""
_TURN = 0.002
"""Seconds that a turn of short calls should last: their median is one sample."""
_COPY_PIECE = 1 << 20
"""Handing a piece to another thread costs 25 to 150 us, in which one thread copies about this many bytes."""


class Times(NamedTuple):
    """What a call took."""

    seconds: float
    """Until the result was there."""
    host: float | None = None
    """Until the call returned, the device being at work."""
    device: float | None = None
    """What the device took, by its own clock."""


def on_host(call: Call, clock: Callable[[], float] = time.perf_counter) -> Times:
    """Time a call that returns when its result is there."""
    start = clock()
    call()
    return Times(clock() - start)


def on_device(call: Call, cupy: Any, clock: Callable[[], float] = time.perf_counter) -> Times:
    """Time a call that leaves its work to the device, by the device's events, too."""
    began, ended = cupy.cuda.Event(), cupy.cuda.Event()
    start = clock()
    began.record()
    call()
    host = clock() - start
    ended.record()
    ended.synchronize()
    total = clock() - start
    return Times(total, host, cupy.cuda.get_elapsed_time(began, ended) / 1e3)


def memcpy(image: Array, threads: int) -> Call:
    """Return the call that copies an image with as many threads as pay.

    Some processors copy ten times slower between certain addresses: it takes the best of several.
    """
    pieces = max(1, min(threads, image.nbytes // _COPY_PIECE))
    source, memory = image.reshape(-1).view(np.uint8), np.empty(image.nbytes + 4096, np.uint8)
    calls = [_copy(source, memory[start : start + image.nbytes], pieces) for start in (0, 832, 2112)]
    for call in calls:
        call()
    return min(calls, key=lambda call: statistics.median(on_host(call).seconds for _ in range(7)))


def _copy(source: Array, target: Array, pieces: int) -> Call:
    if pieces == 1:
        return partial(np.copyto, target, source)
    pairs = np.array_split(target, pieces), np.array_split(source, pieces)
    return lambda: list(_pool().map(np.copyto, *pairs))


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor()


@dataclass(slots=True)
class _Prepared:
    call: Call
    threads: int
    timed: Callable[[Call], Times]
    last: float = 0.0


class Worker:
    """One library. Every public method answers a request."""

    def __init__(self) -> None:
        self._name = ""
        self._prepared: dict[str, _Prepared] = {}
        self._arrays: dict[str, Array] = {}
        self._outs: dict[Any, Array] = {}
        self._threads = 0
        self._set_threads: Callable[[int], object] | None = None

    def open(self, name: str) -> dict[str, Any]:
        """Import a library."""
        from histeq._bench import peers

        self._name = name
        if name in peers.PEERS:
            library = peers.PEERS[name]
            module = importlib.import_module(library.module)
            if library.setup:
                library.setup()
            self._set_threads = library.set_threads
            return {"version": str(getattr(module, "__version__", ""))}
        import histeq

        if name not in ("memcpy", "device copy"):
            from histeq._core import dispatch

            backend = dispatch.named(name.partition("-")[0])
            self._set_threads = histeq.set_num_threads if name == "numba" else None
            return {"version": histeq.__version__, "device": backend.device()}
        if name == "device copy":
            importlib.import_module("cupy")
        return {"version": np.__version__}

    def prepare(
        self, key: str, case: dict[str, Any], image: str, inputs: list[str], threads: int, result: str
    ) -> dict[str, Any]:
        """Prepare a call, make it for the first time and write its result to a file."""
        from histeq._bench import peers
        from histeq._bench.cases import Case

        what = Case(**case)
        pixels, further = self._load(image), tuple(self._load(path) for path in inputs)
        prepared, extra = self._call_of(what, pixels, further, threads)
        self._use_threads(threads)
        start = time.perf_counter()
        value = prepared.call()
        if prepared.timed is not on_host:
            importlib.import_module("cupy").cuda.Device().synchronize()
        first = time.perf_counter() - start
        self._prepared[key] = prepared
        if result:
            np.save(result, peers.as_array(value))
        return {"first": first, **extra}

    def turn(self, key: str) -> dict[str, Any]:
        """Time a call, a short one several times in a row; return the median."""
        prepared = self._prepared[key]
        self._use_threads(prepared.threads)
        if prepared.last < WARM_BELOW:
            prepared.call()
        times = [prepared.timed(prepared.call)]
        while sum(each.seconds for each in times) < _TURN and len(times) < 50:
            times.append(prepared.timed(prepared.call))
        median = sorted(times)[len(times) // 2]
        prepared.last = median.seconds
        return median._asdict()

    def _use_threads(self, threads: int) -> None:
        if self._set_threads is not None and threads != self._threads:
            self._set_threads(threads)
            self._threads = threads

    def _load(self, path: str) -> Array:
        if path not in self._arrays:
            self._arrays[path] = np.load(path)
        return self._arrays[path]

    def _out(self, image: Array, op: str) -> Array | None:
        """Return an array for results, the same for all calls on images of one kind."""
        if op == "histogram":
            return None
        return self._outs.setdefault((image.shape, image.dtype.str), np.empty_like(image))

    def _call_of(
        self, case: Any, image: Array, inputs: tuple[Array, ...], threads: int
    ) -> tuple[_Prepared, Any]:
        from histeq._bench import peers

        out = self._out(image, case.op)
        if self._name == "memcpy":
            return _Prepared(memcpy(image, threads), threads, on_host), {}
        if self._name in ("cupy-device", "device copy"):
            return self._on_device(case, image, inputs, threads)
        if self._name in peers.PEERS:
            library = peers.PEERS[self._name]
            way = library.way(case.op, case.kind, case.dtype)
            assert way is not None
            return _Prepared(library.prepare(way, image, out, inputs, case.batch), threads, on_host), {}
        return _Prepared(case.call(image, out, inputs, backend=self._name), threads, on_host), {}

    def _on_device(
        self, case: Any, image: Array, inputs: tuple[Array, ...], threads: int
    ) -> tuple[_Prepared, Any]:
        """Prepare a call on arrays that are on the device; time the transfers by themselves."""
        cupy: Any = importlib.import_module("cupy")
        lent = cupy.asarray(image)
        out = None if case.op == "histogram" else cupy.empty_like(lent)
        timed = partial(on_device, cupy=cupy)
        if self._name == "device copy":
            target = cupy.empty_like(lent)

            def copy() -> Any:
                target[...] = lent
                return target

            return _Prepared(copy, threads, timed), {}
        call = case.call(lent, out, [cupy.asarray(each) for each in inputs])
        result = call()
        host = np.empty(result.shape, result.dtype)

        def download() -> None:
            result.get(out=host)

        def upload() -> None:
            lent.set(image)
            cupy.cuda.Device().synchronize()

        times = {name: statistics.median(on_host(way).seconds for _ in range(5))
                 for name, way in (("upload", upload), ("download", download))}  # fmt: skip
        return _Prepared(call, threads, timed), times


def main() -> None:
    """Answer requests until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that measures
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            requests.put(line)
        os._exit(0)  # whatever the library is doing: nobody is there any more

    threading.Thread(target=read, daemon=True).start()
    worker = Worker()
    while True:
        request = json.loads(requests.get())
        method = request.pop("do")
        try:
            reply = {"result": getattr(worker, method)(**request)}
        except BaseException as error:
            reply = {"error": type(error).__name__, "message": " ".join(str(error).split())}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
