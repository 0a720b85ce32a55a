"""Signals that end the program: Ctrl-C, a closed terminal, a request to terminate.

The exception that a signal raises may be lost: in a destructor or in a callback of a library it is printed
and forgotten. So the signal is recorded too; what works in steps looks at that after each of them (`check`),
and nothing is a success after it.
"""

import contextlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Stopped(BaseException):
    """The program was told to stop. It is no Exception, so that nothing handles it as an error."""


unfinished: set[Path] = set()
"""Files and folders under temporary names. Those that are left when the program is stopped are removed."""

_signal: int | None = None
_held = 0  # by the main thread, the only one in which handlers run


def listen() -> None:
    """Record these signals, but for those that are ignored, as by nohup. Of several the first one counts."""
    global _signal
    _signal = None
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _record)
    sys.excepthook, sys.unraisablehook = _end_of, _unraisable


def _record(number: int, frame: Any) -> None:
    """Raise `Stopped` the first time only: what cleans up after it is not disturbed by a second signal."""
    global _signal
    if _signal is None:
        _signal = number
        if not _held:
            raise Stopped


def check() -> None:
    """Raise `Stopped` if the program was told to stop."""
    if _signal is not None:
        raise Stopped


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Put a stop off to the end of a block that is done as a whole."""
    global _held
    main = threading.current_thread() is threading.main_thread()
    _held += main
    try:
        yield
    finally:
        _held -= main
    check()


def remove_unfinished() -> None:
    """Remove what has no name yet, which a signal at an unlucky moment has left."""
    for path in unfinished:
        shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            path.unlink()
    unfinished.clear()


def _unraisable(error: Any) -> None:
    """Say nothing of a `Stopped` that is swallowed: it is raised again."""
    if not isinstance(error.exc_value, Stopped):
        sys.__unraisablehook__(error)


def _end_of(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
    """End the program by the signal that stopped it, as a shell expects that is to stop its own loop."""
    if not isinstance(error, Stopped) or _signal is None:
        sys.__excepthook__(kind, error, traceback)
        return
    number = _signal
    remove_unfinished()
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"histeq: error: stopped by {signal.Signals(number).name}\n")
        sys.stderr.flush()
    if os.name == "posix":
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(128 + number)  # the first process of a container does not end by signals
