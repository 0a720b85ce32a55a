"""One call's threads, memory, time and progress."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from histeq._core import stop, threads
from histeq._core.memory import available_memory
from histeq._files import FileError
from histeq._files.blocks import Header, Window

Progress = Callable[[int, int], object]
Work = Callable[["Run", Window], Any]
"""What is done with a window. On a cluster it travels to the workers, and the run that it gets is theirs."""

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

    spreads = False
    """Whether windows go to other processes, which share no memory: on a cluster."""

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

    def over(self, work: Work, windows: Iterable[Window], size: int, name: str) -> None:
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
            work(self, window)
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

    def summed(
        self, work: Work, add: Callable[[Any, Any], Any], windows: Iterable[Window], size: int, name: str
    ) -> Any:
        """Return the sum of what `work` returns for every window; `add` may add in place.

        Parameters are those of `over`.
        """
        total: list[Any] = []
        lock = threading.Lock()

        def one(run: Run, window: Window) -> None:
            part = work(run, window)
            with run.step("compute"), lock:
                if total:
                    total[0] = add(total[0], part)
                else:
                    total.append(part)

        self.over(one, windows, size, name)
        return total[0]

    def end(self) -> None:
        """Report that everything is done: how much there is to do is known roughly."""
        self.advance(self.total)

    def advance(self, pixels: int) -> None:
        """Report progress, and end where the program was told to stop."""
        stop.check()
        if self._progress is None:
            return
        with self._lock:
            self._done = min(self._done + pixels, self.total)
            self._progress(self._done, self.total)


class Whole(NamedTuple):
    """A page that must be in memory."""

    name: str
    """Of its file."""
    header: Header
    why: str

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.header.height * self.header.width * self.header.bytes_per_pixel


def check_whole(pages: Sequence[Whole], memory: int, times: int = 1) -> None:
    """Raise FileError where pages take more memory than allowed, the first of them or all together.

    Parameters
    ----------
    times : int
        How much memory the work with them takes, of their size.
    """
    allowed = f"--memory allows {memory / 2**20:.0f} MiB"
    for page in pages:
        if times * page.size > memory:
            work = f", and the work with them {times * page.size / 2**20:.0f} MiB" if times > 1 else ""
            raise FileError(
                f"{page.name}: {page.why}: {page.header.width} x {page.header.height} pixels take "
                f"{page.size / 2**20:.0f} MiB of memory{work}, and {allowed}"
            )
    need = times * sum(page.size for page in pages)
    if need > memory:
        parts = ", ".join(f"{page.name} takes {times * page.size / 2**20:.1f} MiB" for page in pages)
        raise FileError(
            f"{pages[0].name}: {pages[0].why}: {need / 2**20:.1f} MiB of memory are needed, "
            f"and {allowed}: {parts}"
        )


def default_memory() -> int:
    """Return a quarter of the memory that is free, within the limits of the process's container."""
    return max(available_memory(unsaid=1 << 30) // 4, 1 << 26)
