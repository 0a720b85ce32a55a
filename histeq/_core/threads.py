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
from contextvars import ContextVar, Token
from operator import methodcaller
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import Any

import numpy as np
from histeq_kernels.locks import importing
from numpy.typing import NDArray

from histeq._core.arguments import shown

Signal = tuple[NDArray[np.int64], int]

MOST_THREADS = 4096
"""More than any machine has processors; each takes memory."""

_requested: int | None = None  # what set_num_threads was told
# What the innermost `with threads(n)` says. A context variable instead of a thread's local, because tasks of
# asyncio, which share a thread, must not see each other's.
_limit: ContextVar[int | None] = ContextVar("histeq_threads", default=None)


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
        If `n` is below 1 or above 4096.

    Examples
    --------
    >>> import histeq
    >>> histeq.set_num_threads(1)
    >>> histeq.set_num_threads(None)
    """
    global _requested
    _requested = _check(n)


def _check(n: Any) -> int | None:
    """Return a number of threads, or None."""
    if n is not None and (not isinstance(n, int) or isinstance(n, bool)):
        raise TypeError(f"n must be an int or None, got {type(n).__name__}")
    if n is not None and not 1 <= n <= MOST_THREADS:
        raise ValueError(f"n must be from 1 to {MOST_THREADS}, got {shown(n)}")
    return n


class threads:  # noqa: N801, it reads like a function
    """Set how many threads one call of a CPU backend may use inside a ``with`` block.

    It counts for calls of this thread, or of this asyncio task; the rest of the program goes by
    `set_num_threads`. Threads that are started inside the block do not inherit it: each enters a block of its
    own. Of nested blocks the innermost counts.

    Parameters
    ----------
    n : int or None
        At least 1, the calling thread included. None: what `set_num_threads` says.

    Raises
    ------
    TypeError
        If `n` is not an int.
    ValueError
        If `n` is below 1 or above 4096.

    Examples
    --------
    >>> import numpy as np
    >>> import histeq
    >>> with histeq.threads(1):
    ...     result = histeq.equalize(np.zeros((2000, 2000), np.uint8))
    """

    __slots__ = ("_before", "_n")

    def __init__(self, n: int | None) -> None:
        self._n = _check(n)
        self._before: list[Token[int | None]] = []  # a block for each time that it was entered

    def __enter__(self) -> None:
        self._before.append(_limit.set(self._n))

    def __exit__(self, *exception: object) -> None:
        _limit.reset(self._before.pop())


def num_threads() -> int:
    """Return how many threads one call may use."""
    limit = _limit.get()
    if limit is not None:
        return limit
    return _requested if _requested is not None else _default()


@functools.cache
def _default() -> int:
    """Return the number of threads that ``HISTEQ_NUM_THREADS`` or the machine gives; it is read once."""
    variable = os.environ.get("HISTEQ_NUM_THREADS")
    if not variable:
        return usable_cpus()
    threads = int(variable) if variable.isdecimal() and len(variable) < 10 else 0
    if not 1 <= threads <= MOST_THREADS:
        raise ValueError(
            f"HISTEQ_NUM_THREADS must be a whole number from 1 to {MOST_THREADS}, got {shown(variable)}"
        )
    return threads


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

    An exception that a piece raises is raised here, after the pieces under way have ended; so is an interrupt
    of this thread, before all others.
    """
    pieces = list(pieces)
    helpers = min(num_threads(), len(pieces)) - 1
    if helpers < 1:
        for piece in pieces:
            work(piece)
        return
    queue = iter(pieces)  # list iterators hand out each item once, whichever thread asks
    done, counts = np.zeros(1, np.int64), [0] * (1 + helpers)
    errors: list[BaseException] = []

    def drain(i: int) -> int:
        try:
            for piece in queue:
                work(piece)
                counts[i] += 1
        finally:
            for _ in queue:  # after an exception nothing new is begun
                pass
        return counts[i]

    def help_out(i: int) -> Signal:
        try:
            drain(i)
        except BaseException as error:
            errors.append(error)
        return done, counts[i]

    try:
        with helping(help_out, helpers) as context:
            context.wait(done, len(pieces) - drain(0))
            if errors:
                raise errors[0]
        if sum(counts) < len(pieces):
            raise RuntimeError("a thread that helped was interrupted: the result is not complete")
    finally:
        errors.clear()  # an error leads to this frame, and so to the images


class helping:  # noqa: N801, it reads like a function
    """A context: helping threads call work(1), ..., work(count), sooner or later; nobody waits for them.

    A thread that comes after its end calls nothing, and nothing is kept for it. An exception leaves the
    context when the threads that have come are done: they may be writing into the caller's arrays.

    If `work` returns (state, amount), the amount is added to state[0] as the helper's last deed: one who
    waits for it finds the GIL free. A thread that has to sleep for the GIL wakes too late.

    With `wake` False, helpers that look out for work are not told of it: the caller's kernel does that when
    it has given up the GIL. See `next_call`.
    """

    __slots__ = ("_inside", "count", "wake", "work")

    def __init__(self, work: Callable[[int], Signal | None], count: int, wake: bool = True) -> None:
        self.work: Callable[[int], Signal | None] | None = work
        self.count, self.wake = count, wake
        self._inside = [threading.Lock() for _ in range(count)]

    def __enter__(self) -> "helping":
        try:
            _helpers.call(self)
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.work = None
        else:
            self._leave()

    def take_part(self, i: int) -> Signal | None:
        """Call work(i), unless it is too late."""
        with self._inside[i - 1]:  # first: who finds it free may rely on it
            work = self.work
            return work and work(i)

    def wait(self, state: NDArray[np.int64], value: int) -> None:
        """Wait until state[0] has reached `value` or no helper is inside."""
        while not _spin(state, 0, value) and self._is_anyone_inside():
            time.sleep(1e-4)

    def _is_anyone_inside(self) -> bool:
        """Tell whether a helper is at work. A `with` of a lock is left whatever interrupts its thread.

        Thread.is_alive would not do: until Python 3.13 a thread that is interrupted in it takes the other one
        for ended from then on.
        """
        return any(map(methodcaller("locked"), self._inside))

    def _leave(self) -> None:
        """Wait until no helper is inside, even if this thread is interrupted again."""
        try:
            self.work = None
            while self._is_anyone_inside():
                time.sleep(1e-4)
        except BaseException:
            self._leave()
            raise


def next_call() -> Signal:
    """Return the counter of calls, which a kernel raises to wake helpers, and what the next call makes of it.

    The number is for a helper, whose kernel may await it as its last deed. Where helpers had better sleep, it
    is the one that the counter has already reached.
    """
    return _helpers.next_call()


def tell(state: NDArray[np.int64], which: int, amount: int = 1) -> None:
    """Add to state[which], and so end the `wait` of other threads."""
    _waiting().raise_by.i64(state, which, amount)


def wait(state: NDArray[np.int64], which: int, value: int) -> None:
    """Wait until state[which] has reached `value`."""
    while state[which] < value and not _spin(state, which, value):
        time.sleep(1e-4)  # the other threads may need long, or lack a processor


def _spin(state: NDArray[np.int64], which: int, value: int) -> bool:
    """Wait for up to half a millisecond, busily and without the GIL; return whether `value` was reached."""
    done = np.zeros(1, np.uint8)
    _waiting().wait_for.i64(state, which, value, done)
    return bool(done[0])


@functools.cache
def _waiting() -> ModuleType:
    with importing():
        return importlib.import_module("histeq_kernels.cpu.core.waiting")


class _Helpers:
    """Threads that take tasks. After each they look out for the next one a while before they sleep.

    An exception that is not a task's own, such as an interrupt, ends a helper. The next call replaces it.
    """

    def __init__(self) -> None:
        self._tasks: SimpleQueue[tuple[helping, int] | None] = SimpleQueue()
        self._calls = np.zeros(1, np.int64)
        self._threads: list[threading.Thread] = []
        self._stopped = False
        self._lock = threading.RLock()  # a signal's handler may equalize, too

    def call(self, context: helping) -> None:
        """Offer the work of a context."""
        with self._lock, suppress(RuntimeError):  # no new threads while the interpreter shuts down
            # An interrupt may make `is_alive` err: see `helping`. Then there is a thread too many, asleep.
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            while len(self._threads) < context.count and not self._stopped:
                self._threads.append(threading.Thread(target=self._serve, name="histeq", daemon=True))
                self._threads[-1].start()
        for i in range(1, min(context.count, len(self._threads)) + 1):
            self._tasks.put((context, i))
        if context.wake:
            with self._lock:  # without giving up the GIL, for which a helper would keep this thread waiting
                self._calls[0] += 1

    def next_call(self) -> Signal:
        """Return the counter of calls, and the number until which a helper polls it."""
        calls = int(self._calls[0])
        return self._calls, calls + (num_threads() <= usable_cpus() and self._tasks.empty())

    def _serve(self) -> None:
        nothing = np.zeros(1, np.int64), 0
        signal = nothing
        while True:
            _waiting().raise_and_wait.i64(*signal, *self.next_call())
            task = self._tasks.get()
            if task is None:
                return
            context, i = task
            signal = context.take_part(i) or nothing
            del task, context  # they hold on to images

    def stop(self) -> None:
        """End the threads."""
        self._stopped = True
        for _ in self._threads:
            self._tasks.put(None)


_helpers = _Helpers()


def _forget() -> None:
    """Replace the helpers of the parent process, whose threads do not exist in a forked child."""
    global _helpers
    _helpers = _Helpers()


atexit.register(lambda: _helpers.stop())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
