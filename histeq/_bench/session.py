"""One run: what is timed, in which order, and what becomes of those that fail."""

import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histeq._bench import images, machine, peers
from histeq._bench.cases import Case
from histeq._bench.pixels import Judge, OtherPixelsError
from histeq._bench.remote import Connection, LibraryError, Remote
from histeq._bench.result import BenchRecord, BenchResult, LeftOut
from histeq._bench.statistics import Summary, take_turns
from histeq._core import memory

Array = NDArray[Any]
Progress = Callable[[str, float], object]

VISITS = 3
"""How often a case is timed, tens of seconds apart: what its medians differ by is how the machine drifts."""
LIMIT = {"peer": 30.0, "backend": 180.0, "ceiling": 60.0}
"""Seconds that a call may take, the first one with its compilation among them."""
_SLOWEST = 6
"""A candidate may take a sixth of a case's time for a call."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A library with a number of threads."""

    library: str
    kind: str
    """backend, peer or ceiling."""
    threads: int

    @property
    def name(self) -> str:
        """As results show it."""
        return self.library if self.threads == 1 else f"{self.library} ({self.threads} threads)"


@dataclass(slots=True)
class Series:
    """What was measured of one candidate in one case."""

    candidate: Candidate
    key: str
    pixels: str
    first: float
    cold: float | None
    extra: dict[str, Any]
    visits: list[list[float]] = field(default_factory=list)
    hosts: list[float] = field(default_factory=list)
    devices: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Group:
    """A case, its image on disk and who takes part."""

    case: Case
    image: Path
    inputs: list[Path]
    result_bytes: int
    series: list[Series] = field(default_factory=list)


class Session:
    """Measures; what has been found until now can be had at any time, also after an interrupt."""

    def __init__(
        self,
        cases: Iterable[Case],
        candidates: Iterable[Candidate],
        *,
        seconds: float,
        given: Mapping[Case, Array] | None = None,
        left_out: Iterable[LeftOut] = (),
        selection: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
        connect: Callable[[str, float], Connection] = Remote,
        clock: Callable[[], float] = time.perf_counter,
        noise: Callable[[], float] = machine.noise,
    ) -> None:
        self._cases, self._candidates = list(cases), list(candidates)
        self._seconds, self._given = seconds, given or {}
        self._progress, self._connect, self._clock, self._noise = progress, connect, clock, noise
        self._connections: dict[str, Connection] = {}
        self._begun: set[str] = set()
        """Libraries whose process has given a result."""
        self._dropped: set[str] = set()
        self._deaths: dict[str, int] = {}
        self._prepared: set[tuple[int, str]] = set()
        self._promised = 0
        self._groups: list[Group] = []
        self._result = BenchResult(records=[], left_out=list(left_out), selection=dict(selection or {}))

    # The run ----------------------------------------------------------------------------------------

    def run(self) -> None:
        """Measure everything."""
        with ExitStack() as stack:
            stack.callback(self._end)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="histeq-bench-")))
            self._report("looking at the machine", 0)
            self._result.environment = {**machine.describe(), "images": images.source()}
            self._result.noise = self._noise()
            for library in dict.fromkeys(candidate.library for candidate in self._candidates):
                self._report(f"starting {library}", 0.02)
                self._open(library)
            for number, case in enumerate(self._cases):
                self._report(f"preparing {case}", 0.05 + 0.25 * number / len(self._cases))
                self._prepare(case, folder)
            self._measure()

    def result(self, interrupted: bool = False) -> BenchResult:
        """Return what was found until now."""
        self._result.records = [record for group in self._groups for record in _records(group)]
        self._result.interrupted = interrupted
        return self._result

    def _report(self, what: str, share: float) -> None:
        if self._progress is not None:
            self._progress(what, share)

    def _leave_out(self, what: str, why: str) -> None:
        if LeftOut(what, why) not in self._result.left_out:
            self._result.left_out.append(LeftOut(what, why))

    def _end(self) -> None:
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    # Libraries --------------------------------------------------------------------------------------

    def _open(self, library: str) -> Connection | None:
        """Return a library's process, started where there is none; None where that does not work."""
        if library in self._dropped:
            return None
        if library not in self._connections:
            try:
                self._connections[library] = self._connect(library, LIMIT["backend"])
            except LibraryError as error:
                self._dropped.add(library)
                self._leave_out(library, _with_remedy(library, error))
                return None
            self._begun.discard(library)
        return self._connections[library]

    def _lost(self, candidate: Candidate, case: Case, error: Exception) -> None:
        """Note that a candidate failed; a library whose process ended twice is not started again."""
        self._leave_out(f"{candidate.name}: {case}", str(error))
        if not getattr(error, "dead", False):
            return
        library = candidate.library
        connection = self._connections.pop(library, None)
        if connection is not None:
            connection.close()
        self._prepared = {(n, key) for n, key in self._prepared if n != id(connection)}
        self._deaths[library] = self._deaths.get(library, 0) + 1
        if self._deaths[library] > 1:
            self._dropped.add(library)
            self._leave_out(library, "its process ended twice; it is left out from there on")

    # Preparation ------------------------------------------------------------------------------------

    def _prepare(self, case: Case, folder: Path) -> None:
        """Make the image, and have every candidate make its first call and show its pixels."""
        why = case.refused() or self._memory_lacks(case)
        if why:
            self._leave_out(str(case), why)
            return
        try:
            image = self._given[case] if case in self._given else case.image()
            inputs = case.inputs(image)
            paths = [folder / f"{len(self._groups)}-{n}.npy" for n in range(1 + len(inputs))]
            for path, array in zip(paths, (image, *inputs), strict=True):
                np.save(path, array)
            judge = Judge(case, image, inputs)
            group = Group(case, paths[0], paths[1:], judge.expected().nbytes)
        except MemoryError:
            self._leave_out(str(case), "not enough memory")
            return
        except (ValueError, TypeError) as error:  # a file's picture that the operation does not take
            self._leave_out(str(case), " ".join(str(error).split()))
            return
        self._groups.append(group)
        for candidate in self._candidates:
            if _takes(candidate, case) and self._open(candidate.library):
                self._admit(group, candidate, judge, folder / "result.npy")

    def _memory_lacks(self, case: Case) -> str:
        """Say how much memory is missing for a case; empty where it suffices.

        Every process holds the image and its result, and some make fractions of eight bytes a value.
        """
        size = np.dtype(np.float64).itemsize * max(1, case.channels) * case.pixels
        libraries = {candidate.library for candidate in self._candidates if _takes(candidate, case)}
        needed = self._promised + 2 * case.bytes * (len(libraries) + 2) + size
        free = memory.available_memory(unsaid=sys.maxsize)
        if needed > 0.9 * (free + self._promised):
            return f"not enough memory: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free"
        self._promised += 2 * case.bytes * len(libraries)
        return ""

    def _admit(self, group: Group, candidate: Candidate, judge: Judge, path: Path) -> None:
        """Let a candidate take part if its pixels are ours, by whatever rule."""
        case = group.case
        key = f"{self._groups.index(group)}/{candidate.threads}"
        path.unlink(missing_ok=True)
        try:
            connection = self._connections[candidate.library]
            reply = self._prepare_there(connection, group, candidate, key, str(path))
            pixels = "" if candidate.kind == "ceiling" else self._pixels_of(judge, candidate, case, path)
            most = self._most_for_a_call()
            if reply["first"] > most:
                again = connection.ask("turn", LIMIT[candidate.kind], key=key)["seconds"]
                if again > most:
                    raise LibraryError(
                        f"a call takes {again:.1f} s, of the {self._seconds:g} s for everything"
                    )
        except OtherPixelsError as error:
            self._leave_out(f"{candidate.name}: {case}", str(error))
            if candidate.kind == "backend":
                self._result.wrong.append(f"{candidate.name}: {case}: {error}")
            return
        except LibraryError as error:
            self._lost(candidate, case, error)
            return
        finally:
            path.unlink(missing_ok=True)
        fresh = candidate.library not in self._begun
        self._begun.add(candidate.library)
        cold = connection.start_seconds + reply["first"] if fresh else None
        extra = {f"{name}_seconds": reply[name] for name in ("upload", "download") if name in reply}
        group.series.append(Series(candidate, key, pixels, reply["first"], cold, extra))

    def _most_for_a_call(self) -> float:
        return max(0.5, self._seconds / (_SLOWEST * len(self._cases)))

    def _prepare_there(
        self, connection: Connection, group: Group, candidate: Candidate, key: str, result: str
    ) -> dict[str, Any]:
        reply = connection.ask(
            "prepare", LIMIT[candidate.kind], key=key, case=dataclasses.asdict(group.case),
            image=str(group.image), inputs=[str(each) for each in group.inputs], threads=candidate.threads,
            result=result,
        )  # fmt: skip
        self._prepared.add((id(connection), key))
        return reply

    def _pixels_of(self, judge: Judge, candidate: Candidate, case: Case, path: Path) -> str:
        library = peers.PEERS.get(candidate.library)
        way = library.way(case.op, case.kind, case.dtype) if library else None
        try:
            return judge.compare(np.load(path, allow_pickle=False), way.rule if way else "")
        except (OSError, ValueError) as error:
            raise LibraryError(f"its result cannot be read: {error}") from error

    # Measuring --------------------------------------------------------------------------------------

    def _measure(self) -> None:
        """Visit every case several times; its candidates take turns."""
        begin, visits = self._clock(), [group for _ in range(VISITS) for group in self._groups]
        for number, group in enumerate(visits):
            left = max(0.0, begin + self._seconds - self._clock())
            done = number / len(visits)
            self._report(f"timing {group.case}, {left:.0f} s left", 0.3 + 0.7 * done)
            self._visit(group, left / (len(visits) - number), number // max(1, len(self._groups)))

    def _visit(self, group: Group, seconds: float, number: int) -> None:
        for series in group.series:
            series.visits.append([])
        by_name = {series.candidate.name: series for series in group.series}
        calls = {name: self._turn_of(group, series) for name, series in by_name.items()}
        try:
            times = take_turns(calls, seconds, first=number * len(calls) // VISITS, clock=self._clock)
        except _LostError as lost:
            group.series.remove(lost.series)
            for series in group.series:
                series.visits.pop()
            self._visit(group, seconds, number)
            return
        for name, series in by_name.items():
            series.visits[-1] = times[name]

    def _turn_of(self, group: Group, series: Series) -> Callable[[], float]:
        candidate = series.candidate

        def turn() -> float:
            try:
                connection = self._open(candidate.library)
                if connection is None:
                    raise LibraryError("its process has ended")
                if (id(connection), series.key) not in self._prepared:  # it was started again
                    self._prepare_there(connection, group, candidate, series.key, "")
                reply = connection.ask("turn", LIMIT[candidate.kind], key=series.key)
            except LibraryError as error:
                self._lost(candidate, group.case, error)
                raise _LostError(series) from error
            series.visits[-1].append(reply["seconds"])  # at once: an interrupt may come
            series.hosts += [reply["host"]] if reply.get("host") is not None else []
            series.devices += [reply["device"]] if reply.get("device") is not None else []
            return float(reply["seconds"])

        return turn


class _LostError(Exception):
    def __init__(self, series: Series) -> None:
        super().__init__()
        self.series = series


def _takes(candidate: Candidate, case: Case) -> bool:
    """Tell whether a candidate has something to do in a case."""
    library = peers.PEERS.get(candidate.library)
    return library is None or library.way(case.op, case.kind, case.dtype) is not None


def _with_remedy(library: str, error: LibraryError) -> str:
    """Say what is wrong with a library, and what adds it."""
    if error.missing and library in peers.PEERS:
        return f"not installed; to add it: {peers.PEERS[library].install}"
    return str(error)


def _records(group: Group) -> list[BenchRecord]:
    """Return a group's records, the fastest first and the ceilings last."""
    case = group.case
    known = [series for series in group.series if any(series.visits)]
    summaries = {id(series): Summary.of([t for visit in series.visits for t in visit]) for series in known}
    copies = {
        (series.candidate.library, series.candidate.threads): 2 * case.bytes / summaries[id(series)].median
        for series in known
        if series.candidate.kind == "ceiling"
    }
    records = []
    for series in known:
        candidate, summary = series.candidate, summaries[id(series)]
        written = case.bytes if candidate.kind == "ceiling" else group.result_bytes
        speed = (case.bytes + written) / summary.median
        ceiling = "device copy" if candidate.library in ("cupy-device", "device copy") else "memcpy"
        copy = copies.get((ceiling, candidate.threads)) or copies.get((ceiling, 1))
        measured = {"host_seconds": series.hosts, "device_seconds": series.devices}
        further: dict[str, Any] = {
            name: Summary.of(times).median for name, times in measured.items() if times
        }
        records.append(
            BenchRecord(
                **{name: getattr(case, name) for name in (
                    "op", "dtype", "size", "rows", "columns", "content", "layout", "batch", "color")},
                candidate=candidate.library, kind=candidate.kind, threads=candidate.threads,
                pixels=series.pixels, seconds=summary.median, q1=summary.q1, q3=summary.q3,
                samples=summary.samples,
                visits=tuple(Summary.of(visit).median for visit in series.visits if visit),
                lows=tuple(min(visit) for visit in series.visits if visit),
                mpixels_per_second=case.pixels / summary.median / 1e6, bytes_per_second=speed,
                share_of_copy=speed / copy if copy else None, first_call_seconds=series.first,
                cold_start_seconds=series.cold, **series.extra, **further,
            )
        )  # fmt: skip
    return sorted(records, key=lambda record: (record.kind == "ceiling", record.seconds))
