"""One call's threads, memory, time and progress."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from histeq._core import threads
from histeq._files import FileError
from histeq._files.blocks import Header, Window

Progress = Callable[[int, int], object]

_WINDOW = 1 << 20
"""Bytes of a window: large enough that a call costs little beside it, small enough for the caches."""
_DEVICE_WINDOW = 1 << 25
"""The same for a device, to which a transfer must be worth it."""
COPIES = 4
"""How many arrays of a window's size a task holds at most: encoded, decoded, mapped, encoded again."""
SMALL = 1 << 24
"""Bytes of a page up to which it is decoded as a whole."""


class Run:
    """What the passes of one call share."""

    def __init__(self, memory: int, progress: Progress | None, on_device: bool) -> None:
        self.memory = memory
        self.seconds = {"read": 0.0, "compute": 0.0, "write": 0.0}
        self.total = 0
        self._target = _DEVICE_WINDOW if on_device else _WINDOW
        self._progress, self._done = progress, 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the time of a block to a step: read, compute or write. Threads add up."""
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            with self._lock:
                self.seconds[name] += elapsed

    def is_small(self, size: int) -> bool:
        """Tell whether so many bytes of pixels are better taken as a whole."""
        return size <= min(SMALL, self.memory // 8)

    def window_size(self) -> int:
        """Return how many bytes a window should have."""
        return max(1, min(self._target, self.memory // (2 * COPIES * threads.num_threads())))

    def over(self, work: Callable[[Window], object], windows: Iterable[Window], size: int, name: str) -> None:
        """Call `work` for every window, on all threads.

        Parameters
        ----------
        size : int
            The bytes of the largest window: as many threads run as the memory allows.
        name : str
            The file's name, for the error where it does not allow one.
        """
        pieces = list(windows)

        def one(window: Window) -> None:
            work(window)
            self.advance(window.height * window.width)

        several = min(threads.num_threads(), len(pieces), self.memory // max(1, COPIES * size))
        if several < 1:
            raise FileError(
                f"{name}: its blocks take {COPIES * size / 2**20:.0f} MiB of memory each, and --memory "
                f"allows {self.memory / 2**20:.0f} MiB"
            )
        if len(pieces) == 1:
            one(pieces[0])  # whose work may use all threads
            return

        def alone(window: Window) -> None:
            with threads.threads(1):
                one(window)

        with threads.threads(several):
            threads.run(alone, pieces)

    def end(self) -> None:
        """Report that everything is done: how much there is to do is known roughly."""
        self.advance(self.total)

    def advance(self, pixels: int) -> None:
        """Report progress."""
        if self._progress is None:
            return
        with self._lock:
            self._done = min(self._done + pixels, self.total)
            self._progress(self._done, self.total)


def check_whole(header: Header, memory: int, name: str, why: str) -> None:
    """Raise FileError where a page that must be in memory, for the reason given, takes more than allowed."""
    size = header.height * header.width * header.bytes_per_pixel
    if size > memory:
        raise FileError(
            f"{name}: {why}: {header.width} x {header.height} pixels take "
            f"{size / 2**20:.0f} MiB of memory, and --memory allows {memory / 2**20:.0f} MiB"
        )


def default_memory() -> int:
    """Return a quarter of the memory that is free, within the limits of the process's container."""
    free = [1 << 30]
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = [int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) << 10]
    with contextlib.suppress(OSError, ValueError):
        limit, used = (Path("/sys/fs/cgroup", f"memory.{name}").read_text() for name in ("max", "current"))
        free.append(int(limit) - int(used))  # "max" is no number: no limit
    return max(min(free) // 4, 1 << 26)
