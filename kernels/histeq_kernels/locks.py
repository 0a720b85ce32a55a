"""Locks that every fork of the process waits for.

A child has only the thread that forked. What another thread held then stays locked for ever, be it ours,
Numba's, LLVM's or that of a module being imported. So a fork waits until nobody imports or compiles.
"""

import functools
import importlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

compiling = threading.RLock()
"""To hold while compiling. Reentrant, for a signal's handler may equalize, too."""

_importing = threading.RLock()
_held = threading.local()
_PATIENCE = 60.0
"""Seconds to wait for a lock: whoever has it may in turn wait for what the forking thread holds."""


def importing() -> Any:
    """Return the lock to hold while importing a module when it is first needed."""
    _register()
    return _importing


@functools.cache
def _register() -> None:
    """Let forks wait from now on."""
    # These let forks wait for locks that importing Numba takes. What is registered later is called earlier.
    for name in ("logging", "concurrent.futures.thread"):
        importlib.import_module(name)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_release)


def _locks() -> Iterator[Any]:
    """Yield the locks in the order in which they are taken. Numba's and LLVM's exist once they are loaded."""
    yield _importing
    yield compiling
    for module, *names in (
        ("numba.core.compiler_lock", "global_compiler_lock", "_lock"),
        ("llvmlite.binding.ffi", "lib", "_lock", "_lock"),
    ):
        lock: Any = sys.modules.get(module)
        for name in names:
            lock = getattr(lock, name, None)
        if lock is not None:
            yield lock


def _hold() -> None:
    _held.locks = []
    for lock in _locks():
        if lock.acquire(timeout=_PATIENCE):
            _held.locks.append(lock)


def _release() -> None:
    for lock in reversed(_held.locks):
        lock.release()
