"""A worker as the measuring process sees it: requests with a time limit."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Protocol


class LibraryError(Exception):
    """A library failed, hangs, or is not there; the message says which."""

    def __init__(self, message: str, *, missing: bool = False, dead: bool = False) -> None:
        super().__init__(message)
        self.missing = missing
        self.dead = dead
        """Whether its process has ended."""


class Connection(Protocol):
    """A worker that can be asked."""

    start_seconds: float
    """From starting its process to the library being imported."""

    def ask(self, do: str, limit: float, **arguments: Any) -> dict[str, Any]:
        """Call a method of `Worker`; LibraryError where it fails or takes longer than `limit` seconds."""

    def close(self) -> None:
        """End the process."""


class Remote:
    """A worker in a process."""

    def __init__(self, name: str, limit: float) -> None:
        if getattr(sys, "frozen", False):
            raise LibraryError("processes of Python cannot be started from a frozen application")
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115, closed by close()
        environment = {
            k: v for k, v in os.environ.items() if k not in ("HISTEQ_BACKEND", "HISTEQ_NUM_THREADS")
        }
        environment["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        begin = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "histeq._bench.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=environment, text=True,
            encoding="utf-8",
        )  # fmt: skip
        self._replies: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self.about = self.ask("open", limit, name=name)
        except BaseException:
            self.close()
            raise
        self.start_seconds = time.perf_counter() - begin

    def _read(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError, OSError):  # closed meanwhile
            for line in self._process.stdout:
                self._replies.put(line)
        self._replies.put("")

    def ask(self, do: str, limit: float, **arguments: Any) -> dict[str, Any]:
        """Call a method of `Worker`; LibraryError where it fails or takes longer than `limit` seconds."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._replies.get(timeout=limit)
        except queue.Empty:
            self.close()
            raise LibraryError(f"took longer than {limit:g} s and was ended", dead=True) from None
        except OSError:
            line = ""
        if not line:
            message = self._last_words()
            self.close()
            raise LibraryError(message, dead=True)
        reply = json.loads(line)
        if "error" in reply:
            missing = reply["error"] in ("ImportError", "ModuleNotFoundError")
            raise LibraryError(f"{reply['error']}: {reply['message']}", missing=missing)
        result: dict[str, Any] = reply["result"]
        return result

    def _last_words(self) -> str:
        """Say how the process ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        code = self._process.returncode
        how = f"its process ended with code {code}"
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                how = f"its process was ended by {signal.Signals(-code).name}"
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"{how}{': ' + lines[-1][:200] if lines else ''}"

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(OSError, ValueError):
                if stream is not None:
                    stream.close()
