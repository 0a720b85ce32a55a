"""Dask arrays that know how much of what they have made is alive."""

import gc
import threading
import weakref

import dask
import dask.array as da
import numpy as np


class Live:
    """Counts the bytes of arrays: made in all, alive now, and alive at most."""

    def __init__(self):
        self.made = self.now = self.most = 0
        self._lock = threading.Lock()

    def watch(self, array):
        """Return an array whose bytes are counted until nothing refers to it."""
        self._add(array.nbytes)
        weakref.finalize(array, self._add, -array.nbytes).atexit = False
        return array

    def _add(self, size):
        with self._lock:
            self.made += max(size, 0)
            self.now += size
            self.most = max(self.most, self.now)


class Reading:
    """An array of a store: reads copies, which are watched."""

    def __init__(self, array, live):
        self.array, self.live = array, live
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __getitem__(self, index):
        return self.live.watch(np.array(self.array[index]))


class Nowhere:
    """A store that forgets what is written to it."""

    def __setitem__(self, index, value):
        pass


def live_bytes(x, live, **options):
    """Compute a Dask array chunk by chunk; return the bytes of its source: made in all, alive at most.

    `options` are those of `dask.compute`; by default one task runs at a time, so that nothing depends on
    which thread is faster.
    """
    gc.collect()
    live.made = live.now = live.most = 0
    da.store(x, Nowhere(), lock=False, **{"scheduler": "sync", **options})
    return live.made, live.most


def read_from(array, live, chunks, **options):
    """Return an array that reads one in memory, or in a store."""
    return da.from_array(Reading(array, live), chunks=chunks, **options)


def sources(array, live, chunk):
    """Return Dask arrays of the same pixels, (H, W), made in as many ways, and the fewest chunks held."""
    read = read_from(array, live, chunk)
    height, width = array.shape
    wider = np.pad(array, 8, mode="wrap")

    def make(block_info=None):
        at = block_info[None]["array-location"]
        return live.watch(array[tuple(slice(*ends) for ends in at)].copy())

    rows = [
        [dask.delayed(lambda at: live.watch(array[at].copy()))(np.s_[y : y + chunk, x : x + chunk])
         for x in range(0, width, chunk)]
        for y in range(0, height, chunk)
    ]  # fmt: skip
    delayed = da.block([[da.from_delayed(d, (chunk, chunk), array.dtype) for d in row] for row in rows])
    return {
        "store": read,
        "blockwise": da.map_blocks(make, chunks=read.chunks, dtype=array.dtype, meta=array[:0, :0]),
        "arithmetic": (read + 1) - 1,
        "sliced": read_from(wider, live, chunk)[8:-8, 8:-8],
        "transposed": read_from(np.ascontiguousarray(array.T[::-1]), live, chunk)[::-1].T,
        "rechunked": read.rechunk((chunk * 3 // 2, chunk)),
        "delayed": delayed,
        "stacked": da.stack([read_from(array - 1, live, chunk), read])[1],
    }
