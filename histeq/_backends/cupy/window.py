"""Frames of a video on a CUDA device, mapped by counts that are summed over a window of time.

All that changes from frame to frame is on the device, the number of frames included: nothing waits for it,
and a graph that captured one frame can be launched for every other.
"""

from dataclasses import replace
from types import ModuleType
from typing import Any

import cupy
import numpy as np
from histeq_kernels.cuda.interface import (
    DISTANCES,
    PLANES_OF_COUNTS,
    SCRATCH,
    WINDOW,
    WINDOW_STATE,
)

from histeq._backends.cupy import device as _device
from histeq._backends.cupy.clahe import count_whole, tables_of_counts
from histeq._backends.cupy.device import (
    Device,
    address,
    grid_of,
    grid_of_elements,
    on,
    refuse_capture,
    structure,
)
from histeq._backends.cupy.rules import rule_of
from histeq._core import rules as _rules
from histeq._core import shots as _shots
from histeq._core.backend import Pixels
from histeq._core.window import Smoothing

Array = Any


class Window:
    """The counts of the latest frames, and their sums over the window of the frame that is mapped next.

    The arrays are allocated with the first frame and stay: graphs know their addresses.
    """

    def __init__(self, smoothing: Smoothing) -> None:
        self._smoothing = smoothing
        self._arrays: dict[str, Array] = {}
        self._on_host: dict[str, np.ndarray] = {}
        """What an unpickled window has not brought to a device yet."""
        self.histogram: Array | None = None
        """The counts of the latest frame, (1, P, bins)."""
        self.table: Array | None = None
        """The table that mapped the last frame, (1, P, bins) or (1, P, D, H, W, bins)."""

    @property
    def smoothing(self) -> Smoothing:
        """Over which frames counts are summed."""
        return self._smoothing

    @property
    def cuts(self) -> tuple[int, ...]:
        """The frames that are known to begin a shot; to tell them, the device is waited for."""
        if not self._arrays and not self._on_host:
            return ()
        if self._arrays:
            refuse_capture("cut_frames", "ask for them before or after the capture")
        state, cuts = (self._host(name) for name in ("state", "cuts"))
        found = int(state[WINDOW_STATE.index("cuts")])
        return tuple(int(cuts[i % len(cuts)]) for i in range(max(found - len(cuts), 0), found))

    def count(
        self, backend: ModuleType, pixels: Pixels, origin: tuple[int, ...], edges: Array | None
    ) -> None:
        """Count the pixels of a frame, or those of a part of it, which begins at `origin` (D, H, W)."""
        with on(pixels.image):
            gpu = self._prepare(backend, pixels, edges)
            if self._smoothing.tiling is None:
                counts = self._arrays["counts"]
                backend.count_into(pixels, edges, counts)
                counts = histogram = counts[..., pixels.bins_in_range]
            else:
                counts, histogram = self._count_tiles(gpu, backend, pixels, origin, edges)
            arguments = (self._structure(), _planes(counts), _planes(histogram))
            grid = grid_of_elements(self._arrays["total"].size)
            gpu.launch("window", "window_add", grid, arguments, SCRATCH)
            self.histogram = histogram

    def _count_tiles(
        self, gpu: Device, backend: ModuleType, pixels: Pixels, origin: tuple[int, ...], edges: Array | None
    ) -> tuple[Array, Array]:
        assert self._smoothing.tiling is not None
        grid, levels, _ = self._smoothing.tiling
        counts, histogram = self._arrays["counts"], self._arrays["histogram"]
        counts[...] = 0
        if pixels.image.shape[2:] == grid.shape:
            if pixels.image.size:
                count_whole(pixels, grid, levels, edges, counts)
        else:
            refuse_capture("a roi of method 'clahe'", "pass a mask of bool in its place")
            backend.tile_histograms(pixels, grid, origin, (0, 0, 0), levels, edges, counts)
        _, planes, *tiles, bins = counts.shape
        add = (counts, np.int64(planes), np.int64(np.prod(tiles)), np.int64(bins), histogram)
        gpu.launch("window", "add_tiles", grid_of_elements(histogram.size), add)
        return counts, histogram

    def map(self, backend: ModuleType, pixels: Pixels, edges: Array | None, out: Array) -> None:
        """Map the first of the counted frames that was not mapped yet."""
        with on(pixels.image):
            gpu = self._prepare(backend, pixels, edges)
            table = self.table = self._arrays["table"]
            sums = self._arrays["counts" if self._smoothing.tiling else "total"]
            copy = np.uint64(address(sums) if self._smoothing.tiling else 0)
            grid = grid_of_elements(self._arrays["total"].size)
            gpu.launch("window", "window_sum", grid, (self._structure(), copy), SCRATCH)
            if self._smoothing.tiling is None:
                self._make_table(gpu, sums, table)
                self._blend(gpu, table)
                self._apply(backend, pixels, table, edges, out)
                return
            tiles, levels, clip_limit = self._smoothing.tiling
            tables_of_counts(gpu, sums, tiles, levels, clip_limit, table, self._arrays)
            self._blend(gpu, table)
            if pixels.image.size:
                backend.apply_tiles(pixels, table, tiles, (0, 0, 0), (0, 0, 0), levels, edges, out)

    def count_and_map(self, backend: ModuleType, pixels: Pixels, edges: Array | None, out: Array) -> None:
        """Count a whole frame, and map it by the window that ends with it."""
        self.count(backend, pixels, (0, 0, 0), edges)
        self.map(backend, replace(pixels, mask=None), edges, out)

    def finish(self) -> None:
        """Say that there are no more frames."""
        if self._on_host:
            self._upload()
        if self._arrays and self._smoothing.ahead is not None:
            with on(self._arrays["state"]):
                gpu = _device.device(self._arrays["state"].device.id)
                gpu.launch("window", "window_finish", grid_of(1), (self._structure(),), SCRATCH)

    # Tables

    def _make_table(self, gpu: Device, sums: Array, table: Array) -> None:
        smoothing, bins = self._smoothing, sums.shape[-1]
        histograms = sums.size // bins
        rule = rule_of(smoothing.rule, bins, smoothing.dtype, smoothing.levels)
        arguments = (sums, np.int64(histograms), rule, table)
        gpu.launch("rules", "lookup_table", grid_of(histograms), arguments, SCRATCH)

    def _blend(self, gpu: Device, table: Array) -> None:
        """Bring a table closer to the one that keeps every pixel."""
        kept = self._arrays.get("kept")
        if kept is not None:
            width = -table.itemsize if table.dtype.kind == "i" else table.itemsize
            size, bins = np.int64(table.size), np.int64(kept.size)
            arguments = (table, np.int64(width), size, kept, bins, np.float64(self._smoothing.strength))
            gpu.launch("window", "blend_tables", grid_of_elements(table.size), arguments)

    def _apply(
        self, backend: ModuleType, pixels: Pixels, table: Array, edges: Array | None, out: Array
    ) -> None:
        """Map a frame; a table of a range of values is completed to one of all."""
        if pixels.value_range is not None:
            table = _rules.extend(table, pixels.bins_in_range.start, self._arrays["full_table"])
            pixels = replace(pixels, value_range=None)
        backend.apply(pixels, table, edges, out)

    # Arrays

    def _prepare(self, backend: ModuleType, pixels: Pixels, edges: Array | None) -> Device:
        """Allocate all arrays with the first frame; return the device."""
        index = pixels.image.device.id
        if self._on_host:
            self._upload()
        if not self._arrays:
            refuse_capture("the first frame of an Equalizer", "pass one to it before the capture")
            self._allocate(pixels, edges)
        if self._arrays["state"].device.id != index:
            raise ValueError(
                f"frame must be on the device of the frames before, {self._arrays['state'].device}, got "
                f"{pixels.image.device}"
            )
        return _device.device(index)

    def _allocate(self, pixels: Pixels, edges: Array | None) -> None:
        smoothing, planes = self._smoothing, pixels.histograms[1]
        tiling, values = smoothing.tiling, pixels.bins(edges)
        total: tuple[int, ...]
        counts: tuple[int, ...]
        if tiling is None:
            total, levels = (1, planes, values), planes * values
            counts = (1, planes, values if edges is not None else _rules.levels_of(smoothing.dtype))
            table_dtype = _rules.table_dtype(smoothing.rule, smoothing.dtype, smoothing.levels)
        else:
            total = counts = (1, planes, *tiling.grid.tiles, tiling.levels.bins)
            table_dtype, levels = tiling.levels.table_dtype, planes * tiling.levels.bins
        arrays = {
            "counts": cupy.zeros(counts, np.int64),
            "ring": cupy.zeros((self.slots, int(np.prod(total))), np.int64),
            "total": cupy.zeros(total, np.int64),
            "shares": cupy.zeros(levels, np.int64),
            "distances": cupy.zeros(DISTANCES, np.float64),
            "cuts": cupy.zeros(_shots.MOST_CUTS, np.int64),
            "state": cupy.zeros(len(WINDOW_STATE), np.int64),
            "tickets": cupy.zeros(2, np.uint32),
            "table": cupy.zeros(total, table_dtype),
        }
        if pixels.value_range is not None and tiling is None:
            arrays["full_table"] = cupy.zeros(counts, table_dtype)
        if tiling is not None:
            arrays["histogram"] = cupy.zeros((1, planes, tiling.levels.bins), np.int64)
            arrays["empty"] = cupy.zeros(total[:-1], np.uint8)
            arrays["in_row"] = cupy.zeros(total[:-1], np.int32)
        if smoothing.kept is not None:
            arrays["kept"] = cupy.asarray(smoothing.kept)
        self._arrays = arrays

    @property
    def slots(self) -> int:
        """How many frames' counts are kept: the window's, those after it, and the one that left it last."""
        return self._smoothing.before + self._smoothing.lag + 2

    def _structure(self) -> np.ndarray:
        """Return struct Window of window.cu."""
        smoothing, arrays = self._smoothing, self._arrays
        ahead = -1 if smoothing.ahead is None else smoothing.ahead
        names = ("ring", "total", "shares", "distances", "cuts", "state", "tickets")
        return structure(
            WINDOW, arrays["total"].size, arrays["shares"].size, self.slots, smoothing.before,
            smoothing.after, ahead, _shots.AROUND, _shots.MOST_CUTS, _shots.LEAST, _shots.TIMES,
            float(_shots.UNIT), *(address(arrays[name]) for name in names),
        )  # fmt: skip

    # Pickling

    def _host(self, name: str) -> np.ndarray:
        """Return an array in host memory."""
        if self._on_host:
            return self._on_host[name]
        with on(self._arrays[name]):
            return cupy.asnumpy(self._arrays[name])

    def _upload(self) -> None:
        refuse_capture("the first frame of an unpickled Equalizer", "pass one to it before the capture")
        self._arrays = {name: cupy.asarray(array) for name, array in self._on_host.items()}
        self._on_host = {}

    def __getstate__(self) -> dict[str, Any]:
        if self._arrays:
            refuse_capture("pickling an Equalizer", "pickle it before or after the capture")
        names = self._arrays or self._on_host
        return {"smoothing": self._smoothing, "arrays": {name: self._host(name) for name in names}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["smoothing"])  # type: ignore[misc]
        self._on_host = state["arrays"]


def _planes(counts: Array) -> np.ndarray:
    """Return struct PlanesOfCounts of window.cu for counts (1, P, ..., bins); only P may have a stride."""
    bins = int(np.prod(counts.shape[2:]))
    return structure(PLANES_OF_COUNTS, address(counts), bins, counts.strides[1] // counts.itemsize)
