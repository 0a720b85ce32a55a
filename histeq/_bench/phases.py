"""Where the time of a whole file or video goes: reading, decoding, counting, mapping, encoding, writing.

The passes are timed from outside: while a file is timed, the functions that every format goes through tell a
clock which phase a thread is in. A phase inside another one, such as writing inside of encoding, is taken out
of it.
"""

import contextlib
import functools
import math
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import histeq
from histeq._bench.report import duration
from histeq._bench.statistics import Summary
from histeq._core.threads import num_threads

PHASES = ("read", "decode", "count", "map", "encode", "write")
_PAYS = {
    "read": "a faster disk, or the file in the system's cache",
    "decode": "a compression that decodes faster, or none",
    "count": "more threads",
    "map": "more threads",
    "encode": "a compression that encodes faster (--compression zstd, or none)",
    "write": "a faster disk",
}

_PAYS_FOR_VIDEO = _PAYS | {
    "decode": "a codec that decodes faster",
    "count": "fewer pixels",
    "map": "fewer pixels",
    "encode": "another encoder or a faster preset (histeq video --preset)",
}


class PhaseClock:
    """Adds up the time that threads spend in phases."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(PHASES, 0.0)
        self._clock, self._lock, self._local = clock, threading.Lock(), threading.local()

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Spend a block's time in a phase; that of a block inside it belongs to the inner phase."""
        stack: list[list[Any]] = self._local.__dict__.setdefault("stack", [])
        now = self._clock()
        if stack:
            self._add(stack[-1][0], now - stack[-1][1])
        stack.append([name, now])
        try:
            yield
        finally:
            now = self._clock()
            inner, since = stack.pop()
            self._add(inner, now - since)
            if stack:
                stack[-1][1] = now

    def _add(self, name: str, seconds: float) -> None:
        with self._lock:
            self.seconds[name] += seconds

    def timing(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """Return a function that spends its time in a phase."""

        @functools.wraps(function)
        def timed(*arguments: Any, **keywords: Any) -> Any:
            with self.phase(name):
                return function(*arguments, **keywords)

        return timed


@contextlib.contextmanager
def watched(clock: PhaseClock) -> Iterator[None]:
    """Have the passes over files tell a clock what they do."""
    from histeq._files.tiff.storage import Storage
    from histeq._passes import clahe
    from histeq._passes.run import Run

    counting = threading.local()
    passes = [0]  # how many passes that count are under way, on whatever threads

    @contextlib.contextmanager
    def step(run: Run, name: str) -> Iterator[None]:
        counts = passes[0] or getattr(counting, "now", False)
        phase = {"read": "decode", "write": "encode"}.get(name, "count" if counts else "map")
        with clock.phase(phase):
            yield

    summed, counted = Run.summed, clahe._Page.counted

    def counting_pass(*arguments: Any, **keywords: Any) -> Any:
        passes[0] += 1
        try:
            return summed(*arguments, **keywords)
        finally:
            passes[0] -= 1

    def counting_window(*arguments: Any, **keywords: Any) -> Any:
        counting.now = True
        try:
            return counted(*arguments, **keywords)
        finally:
            counting.now = False

    with contextlib.ExitStack() as stack:
        for target, attribute, new in (
            (Run, "step", step),
            (Run, "summed", counting_pass),
            (clahe._Page, "counted", counting_window),
            (Storage, "read", clock.timing(Storage.read, "read")),
            (Storage, "read_into", clock.timing(Storage.read_into, "read")),
            (Storage, "write", clock.timing(Storage.write, "write")),
        ):
            stack.enter_context(mock.patch.object(target, attribute, new))
        yield


@contextlib.contextmanager
def watched_video(clock: PhaseClock) -> Iterator[None]:
    """Have the loop over a video's frames tell a clock what it does."""
    from histeq._api.equalizer import Equalizer
    from histeq._video.sink import Sink
    from histeq._video.source import Source

    packets = Source._packets

    def timed_packets(source: Source) -> Iterator[Any]:
        iterator, end = packets(source), object()
        while True:
            with clock.phase("read"):
                packet = next(iterator, end)
            if packet is end:
                return
            yield packet

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(Source, "_packets", timed_packets))
        for target, attribute, name in (
            (Source, "_decoded", "decode"),
            (Source, "_frame", "decode"),
            (Equalizer, "update", "count"),
            (Equalizer, "apply", "map"),
            (Sink, "write", "encode"),
            (Sink, "_mux", "write"),
            (Sink, "finish", "encode"),
        ):
            new = clock.timing(getattr(target, attribute), name)
            stack.enter_context(mock.patch.object(target, attribute, new))
        yield


@dataclass(frozen=True, slots=True)
class FileTimes:
    """Where the time of a file goes."""

    path: str
    op: str
    width: int
    height: int
    pages: int
    dtype: str
    threads: int
    seconds: Summary
    phases: dict[str, float]
    """Seconds that threads were busy, all together, in the run of the median."""

    @property
    def rest(self) -> float:
        """The share of the threads' time that is in no phase: waiting for each other, opening, closing."""
        return max(0.0, 1 - sum(self.phases.values()) / (self.seconds.median * self.threads))

    def table(self) -> str:
        """Return the phases, and what would pay."""
        pixels = self.width * self.height * self.pages
        lines = [
            f"{self.path}: {self.op}, {self.pages} x {self.height} x {self.width} {self.dtype}, "
            f"{self.threads} thread{'s' if self.threads > 1 else ', and those of the codecs'}",
            f"  {duration(self.seconds.median)} ({duration(self.seconds.q1)} - {duration(self.seconds.q3)}), "
            f"{pixels / self.seconds.median / 1e6:,.0f} Mpixel/s",
        ]
        all_threads = self.seconds.median * self.threads
        for name, busy in self.phases.items():
            lines.append(f"  {name:7} {duration(busy):>8}  {busy / all_threads:4.0%} of the threads' time")
        lines.append(f"  {'else':7} {'':8}  {self.rest:4.0%}")
        most = max(self.phases, key=self.phases.__getitem__)
        pays = _PAYS_FOR_VIDEO if self.op == "video" else _PAYS
        lines.append(f"  most of it is {most}: {pays[most]} would pay")
        return "\n".join(lines) + "\n"


def time_file(
    path: Path,
    op: str,
    rounds: int = 3,
    *,
    seconds: float = math.inf,
    process: Callable[..., Any] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> FileTimes:
    """Process a file several times into temporary files, after a run that is not timed.

    Parameters
    ----------
    op : {"equalize", "clahe", "video"}
        What is done; "video": every frame is equalized.
    seconds : float
        No round begins later than this, after the first.

    Raises
    ------
    ValueError
        If `op` is not one that files have.
    FileError, OSError
        If the file cannot be read, or there is no room for the result.
    """
    if op not in ("equalize", "clahe", "video"):
        raise ValueError(f"files are timed by the operations equalize and clahe, got {op!r}")
    process, watch = process or _process(op), watched_video if op == "video" else watched
    runs: list[tuple[float, dict[str, float]]] = []
    with tempfile.TemporaryDirectory(prefix="histeq-bench-") as folder:
        _check_room(path, Path(folder))
        start = clock()
        while len(runs) < 2 or (len(runs) <= rounds and clock() - start < seconds):
            phases, target = PhaseClock(clock), Path(folder, f"out{path.suffix}")
            begin = clock()
            with watch(phases):
                result = process(path, target)
            runs.append((clock() - begin, phases.seconds))
            shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
    summary = Summary.of([each for each, _ in runs[1:]])
    nearest = min(
        runs[1:], key=lambda run: abs(run[0] - statistics.median_low([each for each, _ in runs[1:]]))
    )
    if op == "video":  # one thread goes through its frames; the codecs' own threads are not seen
        images, pixels, threads = result.frames, result.pixel_format, 1
    else:
        images, pixels, threads = result.pages, result.dtype, num_threads()
    return FileTimes(str(path), op, result.width, result.height, images, pixels, threads, summary, nearest[1])


def _process(op: str) -> Callable[..., Any]:
    """Return what goes from file to file."""
    by_op: dict[str, Callable[..., Any]] = {
        "equalize": histeq.equalize_file,
        "clahe": histeq.clahe_file,
        "video": histeq.equalize_video,
    }
    return by_op[op]


def _check_room(path: Path, folder: Path) -> None:
    """Raise OSError where a file as large as the source does not fit."""
    if path.is_file():
        size, free = path.stat().st_size, shutil.disk_usage(folder).free
        if size > free:
            raise OSError(
                f"{folder}: {size / 1e6:.0f} MB are needed for the result, {free / 1e6:.0f} MB are free"
            )


def tables(found: Sequence[FileTimes]) -> str:
    """Return the tables of several operations."""
    return "\n".join(each.table() for each in found)
