"""Bytes at positions of a file, from any thread."""

import io
import os
import threading
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray


def for_tifffile(file: BinaryIO) -> Any:
    """Return a file, at its start, as tifffile takes it: not with a number as its name."""
    import tifffile

    file.seek(0)
    return tifffile.FileHandle(file, name="unnamed" if isinstance(getattr(file, "name", ""), int) else None)


class Storage:
    """A file that is read and written at positions.

    A plain file needs no lock: `pread` and `pwrite` leave its own position alone. Other objects (BytesIO,
    members of archives), and files where the system lacks these calls, are moved and read by one thread at a
    time.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.Lock()
        # An object that decompresses lends the descriptor of the file beneath: only a plain one's serves.
        plain = isinstance(getattr(file, "raw", file), io.FileIO) and hasattr(os, "preadv")
        self._descriptor = file.fileno() if plain else None
        self.size = file.seek(0, os.SEEK_END)

    def read(self, position: int, size: int) -> bytes | NDArray[np.uint8]:
        """Return bytes, all of them."""
        if self._descriptor is None:
            with self._lock:
                self._file.seek(position)
                data = self._file.read(size)
        else:
            data = os.pread(self._descriptor, size, position)
        if len(data) < size:  # the file has shrunk, or it takes several reads (more than 2 GB)
            whole = np.empty(size, np.uint8)
            whole[: len(data)] = np.frombuffer(data, np.uint8)
            self._read_on(position, whole, len(data))
            return whole
        return data

    def read_into(self, position: int, array: NDArray[Any]) -> None:
        """Fill a C-contiguous array."""
        self._read_on(position, array.reshape(-1).view(np.uint8), 0)

    def _read_on(self, position: int, target: NDArray[np.uint8], done: int) -> None:
        while done < target.size:
            if self._descriptor is None:
                with self._lock:
                    self._file.seek(position + done)
                    data = self._file.read(target.size - done)
                target[done : done + len(data)] = np.frombuffer(data, np.uint8)
                more = len(data)
            else:
                more = os.preadv(self._descriptor, [target[done:].data], position + done)
            if not more:
                raise EOFError("the file is truncated")
            done += more

    def write(self, position: int, data: Any) -> None:
        """Write bytes, or the memory of a C-contiguous array."""
        view = memoryview(data).cast("B")
        if self._descriptor is None:
            with self._lock:
                self._file.seek(position)
                self._file.write(view)
            return
        done = 0
        while done < len(view):
            done += os.pwrite(self._descriptor, view[done:], position + done)
