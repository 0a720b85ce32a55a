"""The passes of one call on a cluster: windows become tasks, counts are summed as a tree.

What a task does, with all that it needs, travels as one "order" to each worker that works on it. It is a
task's result and no scattered value: one whose only holder died is computed again. Tasks return next to
nothing, but for counts; so there is nothing to spill. A task that was done twice, after the death of a worker
or a lost connection, has written the same pixels twice.
"""

import functools
import pickle
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from histeq._cluster.client import check_target
from histeq._core import threads
from histeq._files import FileError, Window
from histeq._passes.run import COPIES, Progress, Run, Work

if TYPE_CHECKING:
    from distributed import Client, Future

    from histeq._files.journal import Journal

MEMORY = 1 << 29
"""Bytes that a task may take beside the program, unless the caller says otherwise."""
_WINDOW = 1 << 22
_TASK = 1 << 24
"""Pixels of a task at most, of several windows: a scheduler takes about a millisecond for each task."""
_TASKS = 1024
"""Tasks up to which each is a window: few of them would all go to the worker that was given the order."""
_RETRIES = 2
"""How often a task is tried again that failed: networks do."""
_TREE = 16
"""How many counts are added at a time."""


class ClusterRun(Run):
    """What the passes of one call share, on a cluster."""

    spreads = True

    def __init__(self, client: "Client", memory: int, progress: Progress | None, on_device: bool) -> None:
        super().__init__(memory, progress, on_device)
        self.journal: Journal | None = None
        """Of the store that is written, once there is one."""
        self._client, self._on_device, self._step = client, on_device, 0
        if not on_device:
            self._target = _WINDOW

    def write_into(self, target: str, journal: "Journal") -> None:
        """Note from now on what is done in the journal of a store, which all workers must reach."""
        check_target(self._client, target, journal)
        self.journal, self._step = journal, 0

    def window_size(self) -> int:
        """Return how many bytes a window should have: one thread works on it, in a process of its own."""
        return max(1, min(self._target, self.memory // (2 * COPIES)))

    def over(self, work: Work, windows: Iterable[Window], size: int, name: str) -> None:
        """Call `work` for every window, on the workers."""
        step, groups = self._begin(windows, size, name)
        done = set() if self.journal is None else self.journal.done(step)
        todo = [number for number in range(len(groups)) if number not in done]
        self.advance(sum(_area(groups[number]) for number in done))
        if not todo:
            return
        order = self._ordered(_Order(work, None, self.memory, self._on_device, self.journal, step))
        if self.journal is not None:
            self.journal.used = True
        futures = self._client.map(
            _do, [groups[number] for number in todo], todo, order=order, key=_name(work), pure=False,
            retries=_RETRIES,
        )  # fmt: skip
        areas = {future.key: _area(groups[number]) for future, number in zip(futures, todo, strict=True)}
        for future, seconds in self._completed(futures, name, with_results=True):
            self._add(seconds)
            self.advance(areas[future.key])

    def summed(
        self, work: Work, add: Callable[[Any, Any], Any], windows: Iterable[Window], size: int, name: str
    ) -> Any:
        """Return the sum of what `work` returns for every window, made by the workers."""
        step, groups = self._begin(windows, size, name)
        saved = None if self.journal is None else self.journal.load(step)
        if saved is not None:
            self.advance(sum(map(_area, groups)))
            return saved
        order = self._ordered(_Order(work, add, self.memory, self._on_device, None, step))
        futures = self._client.map(_count, groups, order=order, key=_name(work), pure=False, retries=_RETRIES)
        areas = {future.key: _area(group) for future, group in zip(futures, groups, strict=True)}
        parts = futures
        while len(parts) > 1:
            parts = [
                self._client.submit(_added, parts[i : i + _TREE], add, pure=False)
                for i in range(0, len(parts), _TREE)
            ]
        for future, _ in self._completed(futures, name):
            self.advance(areas[future.key])
        ((_, (total, seconds)),) = self._completed(parts, name, with_results=True)
        self._add(seconds)
        if self.journal is not None and isinstance(total, np.ndarray):
            self.journal.save(step, total)
            self.journal.used = True
        return total

    def _begin(self, windows: Iterable[Window], size: int, name: str) -> tuple[str, list[list[Window]]]:
        """Return the name of the next step, and its windows in groups: the same ones in each run."""
        if COPIES * size > self.memory:
            raise FileError(
                f"{name}: its blocks take {COPIES * size / 2**20:.0f} MiB of memory each, and --memory "
                f"allows {self.memory / 2**20:.0f} MiB"
            )
        self._step += 1
        every = list(windows)
        # Whatever the cluster has: a run that goes on may have another one.
        many = max(1, min(_TASK // max(w.height * w.width for w in every), len(every) // _TASKS))
        return f"{self._step}", [every[i : i + many] for i in range(0, len(every), many)]

    def _ordered(self, order: "_Order") -> "Future":
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")
            return self._client.submit(_given, pickle.dumps(order), pure=False)

    def _completed(
        self, futures: Sequence["Future"], name: str, with_results: bool = False
    ) -> "Iterator[tuple[Future, Any]]":
        """Yield futures as they are done; raise what any of them raises, and cancel the others."""
        from distributed import as_completed

        try:
            for each in as_completed(
                futures, loop=self._client.loop, with_results=with_results, raise_errors=False
            ):
                future, result = each if with_results else (each, None)
                if future.status != "finished":
                    raise _failure(future, name)
                yield future, result
        except BaseException:
            self._client.cancel(futures)
            raise

    def _add(self, seconds: dict[str, float]) -> None:
        for name, value in seconds.items():
            self.seconds[name] += value


class _Order(NamedTuple):
    """What tasks do, and with what."""

    work: Work
    add: Callable[[Any, Any], Any] | None
    memory: int
    on_device: bool
    journal: "Journal | None"
    step: str

    def run(self) -> Run:
        return Run(self.memory, None, self.on_device)


def _given(order: bytes) -> bytes:
    return order


@functools.lru_cache(2)
def _known(order: bytes) -> _Order:
    """Return what an order says, and open what it names, once in each process."""
    known: _Order = pickle.loads(order)
    return known


def _do(windows: Sequence[Window], number: int, order: bytes) -> dict[str, float]:
    """Do the work with some windows, and note that it is done."""
    known = _known(order)
    run = known.run()
    with threads.threads(1):
        for window in windows:
            known.work(run, window)
    if known.journal is not None:
        known.journal.mark(known.step, number)
    return run.seconds


def _count(windows: Sequence[Window], order: bytes) -> tuple[Any, dict[str, float]]:
    """Return the sum of what the work with some windows returns."""
    known = _known(order)
    run, add = known.run(), known.add
    assert add is not None
    with threads.threads(1):
        return run.summed(known.work, add, windows, 1, ""), run.seconds


def _added(
    parts: Sequence[tuple[Any, dict[str, float]]], add: Callable[[Any, Any], Any]
) -> tuple[Any, dict[str, float]]:
    """Return the sum of sums. They are the worker's own, and may be asked for again: none is changed."""
    total = deepcopy(parts[0][0])
    for part, _ in parts[1:]:
        total = add(total, part)
    return total, {name: sum(seconds[name] for _, seconds in parts) for name in parts[0][1]}


def _area(windows: Sequence[Window]) -> int:
    return sum(window.height * window.width for window in windows)


def _name(work: Any) -> str:
    """Return what the tasks are called on the dashboard."""
    return f"histeq-{work.func.__name__.strip('_').replace('_', '-')}"


def _failure(future: "Future", name: str) -> BaseException:
    """Return the error of a task, in words where it is the cluster's."""
    from distributed import KilledWorker

    if future.status != "error":  # cancelled or lost
        return FileError(f"{name}: the connection to the cluster's scheduler was lost")
    error: BaseException = future.exception()
    if isinstance(error, KilledWorker):
        return FileError(
            f"{name}: workers died, one after another, of the same block, the last one "
            f"{error.last_worker.address}: their logs tell why, often it is too little memory"
        )
    return error
