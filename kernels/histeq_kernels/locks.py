"""Locks that every fork of the process waits for.

A child has only the thread that forked. What another thread held then stays locked for ever, be it ours,
Numba's, LLVM's or that of a module being imported. So a fork waits until nobody imports or compiles.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

importing = threading.RLock()
"""To hold while importing a module when it is first needed. Comes before `compiling`."""
compiling = threading.RLock()
"""To hold while compiling. Reentrant, for a signal's handler may equalize, too."""

_held = ExitStack()


def _locks() -> Iterator[Any]:
    """Yield the locks in the order in which they are taken. Numba's and LLVM's exist once they are loaded."""
    yield importing
    yield compiling
    yield getattr(sys.modules.get("numba.core.compiler_lock"), "global_compiler_lock", None)
    yield getattr(getattr(sys.modules.get("llvmlite.binding.ffi"), "lib", None), "_lock", None)


def _hold() -> None:
    for lock in _locks():
        if lock is not None:
            _held.enter_context(lock)


def _release() -> None:
    _held.pop_all().close()  # once the first lock is free, another thread may begin to fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_release)
