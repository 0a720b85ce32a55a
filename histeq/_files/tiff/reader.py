"""Windows of pixels, from the blocks of a directory."""

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histeq._files.blocks import Damage, Window
from histeq._files.tiff.directory import Directory
from histeq._files.tiff.storage import Storage

_CACHE = 2**24


class Reader:
    """Reads windows from any thread.

    Blocks that windows cut are kept, up to some bytes: the next windows need their other parts.
    """

    def __init__(self, storage: Storage, damage: Damage) -> None:
        self._storage, self._damage = storage, damage
        self._cache = _Cache(_CACHE)

    def read(self, directory: Directory, window: Window) -> NDArray[Any]:
        """Return the pixels of a window of the page of a directory."""
        first, last = window.top // directory.rows, -(-(window.top + window.height) // directory.rows)
        left, right = window.left // directory.columns, -(-(window.left + window.width) // directory.columns)
        if (first + 1, left + 1, directory.planes) == (last, right, 1) and not directory.raw:
            number = directory.number(0, first, left)
            if directory.extent(number) == (window.height, window.width) and directory.counts[number]:
                pixels = self._decode(directory, number)
                return directory.shown(pixels if pixels.flags.writeable else pixels.copy())
        result = np.empty((window.height, window.width, directory.samples), directory.dtype)
        for plane in range(directory.planes):
            samples = slice(None) if directory.planes == 1 else slice(plane, plane + 1)
            for row in range(first, last):
                for column in range(left, right):
                    self._fill(result[..., samples], directory, window, (plane, row, column))
        return directory.shown(result)

    def _fill(
        self, result: NDArray[Any], directory: Directory, window: Window, block: tuple[int, int, int]
    ) -> None:
        """Fill the part of a window that is in a block."""
        number = directory.number(*block)
        rows, columns = directory.extent(number)
        top, left = block[1] * directory.rows, block[2] * directory.columns
        # In the block's coordinates:
        above, below = max(window.top - top, 0), min(window.top + window.height - top, rows)
        before, behind = max(window.left - left, 0), min(window.left + window.width - left, columns)
        start = top + above - window.top, left + before - window.left
        target = result[start[0] : start[0] + below - above, start[1] : start[1] + behind - before]
        if not directory.counts[number]:
            target[...] = directory.fill
        elif directory.raw and below * directory.row_bytes <= directory.counts[number]:
            self._copy(target, directory, int(directory.offsets[number]), above, before)
        elif directory.raw and self._damage.lenient and not directory.tiled:
            self._damage.found("the data of a block ends early", (directory.place, number))
            there = max(int(directory.counts[number]) // directory.row_bytes - above, 0)
            self._copy(target[:there], directory, int(directory.offsets[number]), above, before)
            target[there:] = directory.fill
        else:
            if (below - above, behind - before) == (rows, columns):
                pixels = self._decode(directory, number)
            else:
                pixels = self._cache.get((directory, number), lambda: self._decode(directory, number))
            target[...] = pixels[above:below, before:behind]

    def _copy(self, target: NDArray[Any], directory: Directory, offset: int, above: int, before: int) -> None:
        """Read raw pixels from a row and a column of a block on."""
        rows, columns, samples = target.shape
        pixel = directory.block_samples * directory.dtype.itemsize
        start = offset + above * directory.row_bytes + before * pixel
        if columns == directory.columns and target.flags.c_contiguous:
            self._storage.read_into(start, target)
        elif 4 * columns * pixel < directory.row_bytes:
            for row in range(rows):
                data = self._storage.read(start + row * directory.row_bytes, columns * pixel)
                target[row] = np.frombuffer(data, directory.dtype).reshape(columns, samples)
        else:
            data = self._storage.read(start - before * pixel, rows * directory.row_bytes)
            pixels = np.frombuffer(data, directory.dtype).reshape(rows, directory.columns, samples)
            target[...] = pixels[:, before : before + columns]
        if directory.swapped:
            target.byteswap(inplace=True)

    def _decode(self, directory: Directory, number: int) -> NDArray[Any]:
        data = self._storage.read(int(directory.offsets[number]), int(directory.counts[number]))
        try:
            return directory.decode(data, number)
        except MemoryError:
            raise
        except Exception as error:  # codecs raise all kinds of exceptions
            self._damage.found(error, (directory.place, number))
        return directory.rescued(data, number)


@dataclasses.dataclass(slots=True)
class _Entry:
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    pixels: NDArray[Any] | None = None


class _Cache:
    """The blocks used last; of threads that want the same one, the first decodes it and the others wait."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._lock = threading.Lock()
        self._entries: dict[Any, _Entry] = {}  # the one used last at the end

    def get(self, key: Any, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        with self._lock:
            entry = self._entries.pop(key) if key in self._entries else _Entry()
            self._entries[key] = entry
        with entry.lock:
            if entry.pixels is None:
                entry.pixels = make()
                self._admit(entry.pixels.nbytes)
            return entry.pixels

    def _admit(self, size: int) -> None:
        with self._lock:
            self._size += size
            for key, entry in list(self._entries.items())[:-1]:
                if self._size <= self._limit:
                    break
                if entry.pixels is not None:
                    self._size -= entry.pixels.nbytes
                    del self._entries[key]
