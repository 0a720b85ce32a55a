"""The CPU backends' threads: how many, and one way to run pieces of work on them.

Numba's own `parallel=True` is not used. Under its `workqueue` layer two calling threads abort the
process, and under `omp` a child that was forked after the first use is killed, which breaks PyTorch's
DataLoader. Kernels release the GIL instead and a pool of Python threads runs them: any number of
threads may call at once, a forked child makes its own pool, and a caller never waits for a busy pool,
because it takes pieces itself until none is left.
"""

import functools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

_requested: int | None = None  # what set_num_threads was told
_pool: ThreadPoolExecutor | None = None
_pool_size = 0


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
    """Call `work` once for each piece, on this thread and the pool's; return when all are done.

    The first exception that a piece raises is raised here, after the pieces under way have ended.
    """
    pieces = list(pieces)
    helpers = min(num_threads(), len(pieces)) - 1
    if helpers < 1:
        for piece in pieces:
            work(piece)
        return
    queue = iter(pieces)  # list iterators hand out each item once, whichever thread asks

    def drain() -> None:
        for piece in queue:
            work(piece)

    futures = []
    with suppress(RuntimeError):  # the interpreter is shutting down: this thread does it all
        futures = [_executor().submit(drain) for _ in range(helpers)]
    try:
        drain()
    finally:
        for _ in queue:  # after an exception here: nothing new is begun
            pass
        started = [future for future in futures if not future.cancel()]
        errors = [future.exception() for future in started]
    for error in errors:
        if error is not None:
            raise error


def call_helpers(work: Callable[[int], object], count: int) -> None:
    """Call work(1), ..., work(count) on the pool's threads without waiting for any of them."""
    with suppress(RuntimeError):  # the interpreter is shutting down: there are no helpers
        for i in range(1, count + 1):
            _executor().submit(work, i)


def _executor() -> ThreadPoolExecutor:
    """Return this process's pool: as many threads as one call may use, less the caller."""
    global _pool, _pool_size
    size = max(1, num_threads() - 1)
    if _pool is None or _pool_size < size:
        _pool, _pool_size = ThreadPoolExecutor(size, "histeq"), size
    return _pool


def _forget_pool() -> None:
    """Drop the parent's pool: its threads do not exist in a forked child."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
