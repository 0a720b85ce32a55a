"""The threads of the CPU backends: their number, and how pieces of work are run on them.

Numba's own `parallel=True` is not used. Under its `workqueue` layer two calling threads abort the
process, and under `omp` a child that was forked after the first use is killed, which breaks PyTorch's
DataLoader. Kernels release the GIL instead and a pool of Python threads runs them: any number of
threads may call at once, a forked child makes its own pool, and a caller never waits for a busy pool,
because it takes pieces itself until none is left.
"""

import atexit
import functools
import importlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Signal = tuple[NDArray[np.int64], int]

_requested: int | None = None  # what set_num_threads was told


def set_num_threads(n: int | None) -> None:
    """Set how many threads one call of a CPU backend may use.

    Parameters
    ----------
    n : int or None
        At least 1, the calling thread included. None goes back to the default: the environment
        variable ``HISTEQ_NUM_THREADS``, else every processor this process may use (its affinity mask
        and its container's CPU quota).

    Raises
    ------
    TypeError
        If `n` is not an int.
    ValueError
        If `n` is below 1.

    Examples
    --------
    >>> import histeq
    >>> histeq.set_num_threads(1)
    >>> histeq.set_num_threads(None)
    """
    global _requested
    if n is not None and (not isinstance(n, int) or isinstance(n, bool)):
        raise TypeError(f"n must be an int or None, got {type(n).__name__}")
    if n is not None and n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    _requested = n


def num_threads() -> int:
    """Return how many threads one call may use."""
    return _requested if _requested is not None else _default()


@functools.cache
def _default() -> int:
    """Return the number of threads that ``HISTEQ_NUM_THREADS`` or the machine gives; it is read once."""
    variable = os.environ.get("HISTEQ_NUM_THREADS")
    if not variable:
        return usable_cpus()
    if not variable.isdecimal() or int(variable) < 1:
        raise ValueError(f"HISTEQ_NUM_THREADS must be a whole number of at least 1, got {variable!r}")
    return int(variable)


@functools.cache
def usable_cpus() -> int:
    """Count the processors this process may use: its affinity mask, within its cgroup's quota."""
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        cpus = os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cpus = min(cpus, max(1, int(quota) // int(period)))  # "max" is no number: no limit
    return cpus


def run(work: Callable[[Any], object], pieces: Iterable[Any]) -> None:
    """Call `work` once for each piece, on this thread and its helpers; return when all are done.

    The first exception that a piece raises is raised here, after the pieces under way have ended.
    """
    pieces = list(pieces)
    helpers = min(num_threads(), len(pieces)) - 1
    if helpers < 1:
        for piece in pieces:
            work(piece)
        return
    queue = iter(pieces)  # list iterators hand out each item once, whichever thread asks
    done = np.zeros(1, np.int64)
    errors: list[BaseException] = []

    def drain(_: int) -> Signal:
        count = 0
        for piece in queue:
            count += 1
            try:
                if not errors:  # after an exception nothing new is begun
                    work(piece)
            except BaseException as error:
                errors.append(error)
        return done, count

    call_helpers(drain, helpers)
    wait(done, 0, len(pieces) - drain(0)[1])
    if errors:
        raise errors[0]


def call_helpers(work: Callable[[int], Signal | None], count: int) -> None:
    """Call work(1), ..., work(count) on helping threads, sooner or later, without waiting for any of them.

    If it returns (state, amount), the amount is added to state[0] as the helper's last deed: one who waits
    for it finds the GIL free. A thread that has to sleep for the GIL wakes too late.
    """
    _helpers.call(work, count)


def tell(state: NDArray[np.int64], which: int) -> None:
    """Add one to state[which], and so end the `wait` of other threads."""
    _waiting().raise_by.i64(state, which, 1)


def wait(state: NDArray[np.int64], which: int, value: int) -> None:
    """Wait until state[which] has reached `value`."""
    while not _spin(state, which, value):
        time.sleep(1e-4)  # the other threads may need long, or lack a processor


def _spin(state: NDArray[np.int64], which: int, value: int) -> bool:
    """Wait for up to half a millisecond, busily and without the GIL; return whether `value` was reached."""
    done = np.zeros(1, np.uint8)
    _waiting().wait_for.i64(state, which, value, done)
    return bool(done[0])


@functools.cache
def _waiting() -> ModuleType:
    return importlib.import_module("histeq_kernels.cpu.core.waiting")


class _Helpers:
    """Threads that take tasks. After each they look out for the next one a while before they sleep."""

    def __init__(self) -> None:
        self._tasks: SimpleQueue[Callable[[], Signal | None] | None] = SimpleQueue()
        self._posted = np.zeros(1, np.int64)
        self._count = 0
        self._lock = threading.Lock()

    def call(self, work: Callable[[int], Signal | None], count: int) -> None:
        """Post work(1), ..., work(count)."""
        with self._lock, suppress(RuntimeError):  # no new threads while the interpreter shuts down
            while self._count < count:
                threading.Thread(target=self._serve, name="histeq", daemon=True).start()
                self._count += 1
        for i in range(1, min(count, self._count) + 1):
            self._tasks.put(functools.partial(work, i))
        with self._lock:  # without giving up the GIL, for which a helper would keep this thread waiting
            self._posted[0] += 1

    def _serve(self) -> None:
        nothing = np.zeros(1, np.int64), 0
        signal = nothing
        while True:
            posted = int(self._posted[0])
            awake = num_threads() <= usable_cpus() and self._tasks.empty()
            _waiting().raise_and_wait.i64(*signal, self._posted, posted + awake)
            task = self._tasks.get()
            if task is None:
                return
            signal = task() or nothing
            del task  # it holds on to images

    def stop(self) -> None:
        """End the threads."""
        for _ in range(self._count):
            self._tasks.put(None)


_helpers = _Helpers()


def _forget() -> None:
    """Replace the helpers of the parent process, whose threads do not exist in a forked child."""
    global _helpers
    _helpers = _Helpers()


atexit.register(lambda: _helpers.stop())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
