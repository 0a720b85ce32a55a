"""How long a launch should take on a GPU: see predict.py.

A launch is what the backend asks for: it is called, on the stand-in for CuPy, and its launches are noted.
Each kernel has a bill here: which of its loops (`benchmarks.instructions`) go over how many pixels, or words
of shared memory, and what lies between them. `Bill.loop` charges for a loop, the same way for all.
"""

import functools
import importlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.gpu.bench import frames
from benchmarks.instructions import Loop

# Assumptions -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chip:
    """What a prediction starts from, as published or as others have measured it."""

    multiprocessors: int
    clock: float
    """Hz."""
    copy: float
    """Bytes a second of a device copy, read and written."""
    cache: int
    """Bytes of L2 cache."""


CHIPS = {
    "H200": Chip(132, 1.98e9, 4.3e12, 60 << 20),
    "H100": Chip(132, 1.98e9, 3.0e12, 50 << 20),
}
ISSUE = 4 * 32
"""Instructions of threads that a multiprocessor issues a clock."""
BANKS = 32
"""Words of shared memory that a multiprocessor loads or stores a clock."""
SHARED, MOST_SHARED = 228 << 10, 227 << 10
"""Bytes of shared memory that a multiprocessor has, and a block; of each block the system takes 1 KB."""
REGISTERS = 65536 // 64
"""Threads that a multiprocessor holds, with 64 registers each."""
WAVES = 4
"""From so many times the blocks that a chip holds on, items of work even out."""
SECTOR = 32
"""Bytes that caches exchange at the least."""


@dataclass(frozen=True, slots=True)
class Assumed:
    """What nobody has measured for these kernels."""

    atomics: float
    """Updates of counters in different banks, a clock and multiprocessor; lanes that meet take turns."""
    cache_rate: float
    """Bytes a second from and to the L2 cache."""
    kept: float
    """The share of the L2 cache that keeps what was read until it is read again."""
    additions: float
    """Counts of 64 bits a second that are added up in the L2 cache."""
    round_trip: float
    """Seconds of an atomic or a load in the L2 cache, with the barrier that waits for it."""
    latency: float
    """Seconds until what is loaded comes from memory."""
    cached: float
    """Seconds until what is loaded comes from the L2 cache."""
    table: float
    """Seconds in which a block makes a table of 256 levels."""
    launch: float
    """Seconds that a launch in a graph takes by itself."""
    overlap: float
    """The share of waits that other warps of the multiprocessor fill with work."""
    tail: float
    """Items of work in whose time some blocks are idle in the end."""
    apart: float
    """Clocks from one instruction of a warp to the next in loops over bins, where each needs the last."""
    sectors: float
    """Sectors that the L1 cache looks up a clock."""
    missing: float
    """The share of the sectors of tables that the L1 cache does not have, if not more are new to a block."""


BAD = Assumed(12, 3.5e12, 0.3, 1.5e11, 1.0e-6, 1.0e-6, 0.3e-6, 1.0e-6, 2.5e-6, 0.5, 1.5, 5.0, 1.0, 1.0)
GOOD = Assumed(32, 7.0e12, 0.8, 6.0e11, 0.5e-6, 0.6e-6, 0.13e-6, 0.4e-6, 1.5e-6, 1.0, 0.5, 2.0, 4.0, 0.1)

# Cases and their launches ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Case:
    """A call."""

    operation: str
    dtype: str
    size: str
    images: int
    rows: int
    columns: int
    content: str = "natural"
    bins: int | None = None

    @property
    def itemsize(self) -> int:
        """Bytes of a pixel."""
        return np.dtype(self.dtype).itemsize

    @property
    def pixels(self) -> int:
        """Pixels of all images."""
        return self.images * self.rows * self.columns

    def values(self) -> np.ndarray:
        """Return pixels of such content, in the order of a row."""
        return frames(self.content, self.dtype, 1080, 1920, 0)[0].ravel()


@dataclass(frozen=True, slots=True)
class Launch:
    """What the backend launches."""

    kernel: str
    grid: tuple[int, ...]
    threads: int
    shared: int
    arguments: tuple[Any, ...]

    @property
    def blocks(self) -> int:
        """All of its blocks."""
        return math.prod(self.grid)

    @property
    def resident(self) -> int:
        """The blocks that a multiprocessor holds."""
        return min(REGISTERS // self.threads, SHARED // (self.shared + 1024))

    def structure(self, name: str) -> Any:
        """Return the argument that is a structure of `interface.STRUCTURES`."""
        dtype = interface().STRUCTURES[name]
        return next(one for one in self.arguments if getattr(one, "dtype", None) == dtype)


def interface() -> Any:
    """Return what kernels and host agree on."""
    return importlib.import_module("histeq_kernels.cuda.interface")


@functools.cache
def launches_of(chip: Chip, case: Case) -> list[Launch]:
    """Make a call on the stand-in for CuPy, which must be installed, and return what it launches."""
    fake: Any = importlib.import_module("cuda_host.fake_cupy")
    histeq: Any = importlib.import_module("histeq")
    device: Any = importlib.import_module("histeq._backends.cupy.device")
    found: list[Launch] = []

    class Noting(device.Device):  # type: ignore[misc]
        """A device that launches nothing."""

        def launch(
            self, _: str, name: str, grid: Any, arguments: Any, shared: int = 0, *, threads: int = 512
        ) -> None:
            found.append(Launch(name, tuple(grid), threads, shared, tuple(arguments)))

    shape = (case.images, case.rows, case.columns)
    nowhere = fake.Held(1 << 40, shape, case.dtype, None)  # nobody looks at the pixels
    image = fake.ndarray.of(np.asarray(nowhere))
    machine: dict[str, Any] = {"multiprocessors": chip.multiprocessors, "cache": chip.cache}
    with mock.patch.multiple(fake.Machine, shared=MOST_SHARED, **machine):
        gpu = Noting(0)
        with mock.patch.object(device, "device", return_value=gpu):
            if case.operation == "histogram":
                histeq.histogram(image, layout="NHW")
            elif case.operation == "apply":
                table = fake.ndarray.of(np.arange(np.iinfo(case.dtype).max + 1, dtype=case.dtype))
                histeq.apply(image, table, layout="NHW", out=image)
            elif case.operation == "clahe":
                histeq.clahe(image, layout="NHW", bins=case.bins, out=image)
            else:
                histeq.equalize(image, layout="NHW", out=image)
    return found


# Content ---------------------------------------------------------------------------------------------


def lanes(values: np.ndarray, per_lane: int, count: int = 32) -> np.ndarray:
    """Return what lanes handle at once, a row each: a lane has `per_lane` pixels side by side."""
    whole = values[: min(values.size, 1 << 18) // (count * per_lane) * count * per_lane]
    return whole.reshape(-1, count, per_lane).swapaxes(1, 2).reshape(-1, count).astype(np.int64)


def turns(words: np.ndarray, banks: int = BANKS) -> float:
    """Return the turns of shared memory that lanes take for these words: those of the bank with the most."""
    words = np.sort(words, axis=1)
    first = np.ones(words.shape, np.int64)  # equal words are served together
    first[:, 1:] = words[:, 1:] != words[:, :-1]
    in_bank = np.zeros((len(words), banks), np.int64)
    np.add.at(in_bank, (np.arange(len(words))[:, None], words % banks), first)
    return float(in_bank.max(axis=1).mean())


def sectors(offsets: np.ndarray) -> float:
    """Return how many sectors lanes load from at once."""
    places = np.sort(offsets // SECTOR, axis=1)
    return float(1 + (places[:, 1:] != places[:, :-1]).sum(axis=1).mean())


@functools.cache
def turns_of_counters(case: Case, slices: int) -> float:
    """Return the turns in which a warp updates the counters of sliced.cuh."""
    values, bins = lanes(case.values(), 8), 65536 // slices
    each = []
    for which in range(slices):
        place = values ^ which * bins
        each.append(turns(np.minimum(place ^ (place >> 6 & 31), bins)))
    return float(np.mean(each))


@functools.cache
def turns_of_table(case: Case) -> float:
    """Return the turns in which a warp looks up levels in the table of 16 bits."""
    values = lanes(case.values(), 8)
    return turns((values ^ (values >> 6 & 0x3E)) // 2)


@functools.cache
def turns_of_copies(case: Case, bins: int, copies: int, slices: int) -> float:
    """Return the turns in which a warp updates the counters of a slice of a tile's bins, or one more."""
    places = lanes(case.values(), 16 // case.itemsize) // (np.iinfo(case.dtype).max // bins + 1)
    length, each = -(-bins // slices), []
    for first in range(0, bins, length):
        inside = (places >= first) & (places < first + length)
        each.append(turns(np.where(inside, places - first, length) * copies + np.arange(32) % copies))
    return float(np.mean(each))


@functools.cache
def turns_of_cell(case: Case, bins: int) -> float:
    """Return the turns of a pixel in which the entries of a cell are looked up, of four bytes or of eight."""
    if case.itemsize == 1:
        return turns(lanes(case.values(), 4)) / 32
    return turns(lanes(case.values(), 4, 16) // (65536 // bins), BANKS // 2) / 16


@functools.cache
def sectors_of_cell(case: Case, bins: int) -> float:
    """Return the sectors of a pixel that are looked up in the four tables of a cell in global memory."""
    return 4 * sectors(2 * (lanes(case.values(), 4) // (65536 // bins))) / 32


@functools.cache
def distinct(case: Case, bins: int, pixels: int) -> int:
    """Return how many bins are counted in so many pixels side by side."""
    values = case.values()[:pixels]
    return np.unique(values // (np.iinfo(case.dtype).max // bins + 1)).size


# Bills -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bill:
    """A launch on a chip, by one set of assumptions."""

    chip: Chip
    a: Assumed
    case: Case
    launch: Launch
    loops: dict[str, Loop]

    def loop(
        self,
        *phases: str,
        items: int,
        size: float,
        shared: float,
        memory: float,
        cache: float,
        latency: float,
        words: dict[str, int] | None = None,
        waits: float = 0,
    ) -> float:
        """Return the seconds of a loop over items of work, of the multiprocessor that has the most.

        Parameters
        ----------
        phases : str
            The loops that go over the pixels.
        items : int
            Items of work.
        size : float
            Pixels of an item.
        shared : float
            Clocks of shared memory, a pixel.
        memory, cache : float
            Bytes from and to memory, and from and to the L2 cache.
        latency : float
            Seconds until what is loaded comes.
        words : dict, optional
            The loops that go over words of shared memory once for each item, and how many.
        waits : float, optional
            Seconds in which nothing is done, for each item.
        """
        chip, a, launch = self.chip, self.a, self.launch
        share = 1.0 * -(-items // chip.multiprocessors)
        if items > WAVES * chip.multiprocessors * launch.resident:  # who has done one takes another
            share = items / chip.multiprocessors + a.tail
        instructions = sum(self.loops[phase].instructions for phase in phases) * size
        served = shared * size
        turn = sum(size / (launch.threads * self.loops[phase].at_once) for phase in phases)
        waits += math.ceil(turn) * latency
        for phase, count in (words or {}).items():
            instructions += self.loops[phase].instructions * count
            served += (2 if phase == "fold" else 1) * count / BANKS  # counters are cleared, too
            if phase == "load":
                waits += count / (launch.threads * self.loops[phase].at_once) * a.cached
        busy = share * max(instructions / ISSUE, served) / chip.clock
        idle = max(share / min(launch.resident, max(share, 1)) * waits - latency, 0)
        chained = max(busy, idle) + (1 - a.overlap) * min(busy, idle)
        return latency + max(chained, memory / chip.copy, cache / a.cache_rate)

    def table(self, bins: int, threads: int, blocks: int = 1) -> float:
        """Return the seconds in which threads make a table, on multiprocessors with so many blocks."""
        a, loop = self.a, self.loops["table"]
        each = -(-bins // threads)
        apart = max(a.apart, blocks * self.launch.threads / ISSUE)
        return each * max(loop.instructions * apart / self.chip.clock, a.cached / loop.at_once)

    @property
    def start(self) -> float:
        """Seconds of the launch, and of what its blocks first ask for."""
        return self.a.launch + self.a.round_trip

    def again(self) -> float:
        """Return the bytes of the image that the L2 cache does not keep until they are read again."""
        return max(self.case.pixels * self.case.itemsize - self.a.kept * self.chip.cache, 0)


def equalize_u8(bill: Bill) -> float:
    """A single image is counted, and then mapped; of a batch, both at the same time."""
    a, chip, case, work = bill.a, bill.chip, bill.case, bill.launch.structure("Work")
    pixels, plane = case.pixels, case.rows * case.columns
    words = interface().COUNTERS_U8 // 4
    size = min(int(work["stretches"]) * 32 * 64, plane)
    items = case.images * -(-plane // size)
    if case.images == 1:
        again = bill.again()
        count = bill.loop(
            "count", items=items, size=size, shared=1 / a.atomics, memory=pixels, cache=pixels,
            latency=a.latency, words={"fold": words},
        )  # fmt: skip
        # Counts are added up and said to be there; others see it and load them.
        between = 4 * a.round_trip + a.table
        mapped = bill.loop(
            "map", items=items, size=size, shared=1 / BANKS, memory=again + pixels, cache=2 * pixels,
            latency=a.latency if again else a.cached, words={"load": words},
        )  # fmt: skip
        return bill.start + count + between + mapped + a.round_trip
    again = pixels if int(work["lag"]) * plane > a.kept * chip.cache else 0
    return bill.start + bill.loop(
        "count", "map", items=items, size=size, shared=1 / a.atomics + 1 / BANKS, memory=2 * pixels + again,
        cache=3 * pixels, latency=a.latency, words={"fold": words, "load": words},
        waits=4 * a.round_trip + a.table,
    )  # fmt: skip


def count_u16(bill: Bill, items: int, size: int, slices: int) -> float:
    """Every pixel is looked at once for each slice of the values."""
    a, case, bytes_ = bill.a, bill.case, 2 * bill.case.pixels
    count = bill.loop(
        "count", items=items, size=size, shared=turns_of_counters(case, slices) / a.atomics, memory=bytes_,
        cache=slices * bytes_, latency=a.latency, words={"fold": 65536 // slices},
    )  # fmt: skip
    return count + items / slices * distinct(case, 65536, size) / a.additions


def map_u16(bill: Bill, items: int, size: int, again: float) -> float:
    """Every block loads a table into its shared memory."""
    bytes_ = 2 * bill.case.pixels
    return bill.loop(
        "map", items=items, size=size, shared=turns_of_table(bill.case) / BANKS, memory=bytes_ + again,
        cache=2 * bytes_ + items * 131072, latency=bill.a.latency if again else bill.a.cached,
        words={"load": 32768},
    )  # fmt: skip


def finish_table_u16(bill: Bill) -> float:
    """A warp makes the table of 256 bins: it loads sums, looks into the outermost, and loads its own."""
    return 4 * bill.a.cached + bill.table(256, 32)


def equalize_u16(bill: Bill) -> float:
    """The image is counted, tables are made by a few blocks, and all of them map."""
    a, work = bill.a, bill.launch.structure("WideWork")
    if not work["in_shared"]:
        raise NotImplementedError("the table in global memory is not billed")
    slices, part = int(work["slices"]), int(work["stretches"]) * 32 * 32
    parts = -(-bill.case.pixels // (part * slices))
    count = count_u16(bill, parts * slices, min(part * slices, bill.case.pixels), slices)
    mapped = map_u16(bill, -(-bill.case.pixels // part), part, bill.again())
    # Counts, and then tables, are said to be there; others see it.
    return bill.start + count + 2 * a.round_trip + finish_table_u16(bill) + 2 * a.round_trip + mapped


def of_grid(bill: Bill) -> int:
    """Return the pixels of a plane that a block has."""
    return -(-bill.case.rows * bill.case.columns // bill.launch.grid[0])


def histogram_u8(bill: Bill) -> float:
    """The last block makes the table, or hands out the counts."""
    a, pixels = bill.a, bill.case.pixels
    words = interface().COUNTERS_U8 // 4
    count = bill.loop(
        "count", items=bill.launch.blocks, size=of_grid(bill), shared=1 / a.atomics, memory=pixels,
        cache=pixels, latency=a.latency, words={"fold": words},
    )  # fmt: skip
    return a.launch + count + 3 * a.round_trip + a.table


def apply_lut_u8(bill: Bill) -> float:
    """Every block loads the table."""
    a, pixels = bill.a, bill.case.pixels
    return a.launch + bill.loop(
        "map", items=bill.launch.blocks, size=of_grid(bill), shared=1 / BANKS, memory=2 * pixels,
        cache=2 * pixels, latency=a.latency, words={"load": interface().COUNTERS_U8 // 4},
    )  # fmt: skip


def histogram_u16(bill: Bill) -> float:
    """Blocks along z count a slice each."""
    launch = bill.launch
    return bill.a.launch + count_u16(bill, launch.blocks, of_grid(bill), launch.grid[2]) + bill.a.round_trip


def finish_u16(bill: Bill) -> float:
    """The tables of all planes, a warp for 256 bins; the last block clears what others looked into."""
    waves = -(-bill.launch.blocks // (bill.chip.multiprocessors * bill.launch.resident))
    return bill.a.launch + waves * (finish_table_u16(bill) + 2 * bill.a.round_trip)


def apply_lut_u16_shared(bill: Bill) -> float:
    """What the histogram read last is in the L2 cache."""
    return bill.a.launch + map_u16(bill, bill.launch.blocks, of_grid(bill), bill.again())


def tile_histogram(bill: Bill) -> float:
    """Blocks along x share a tile, along z its bins."""
    a, case, launch = bill.a, bill.case, bill.launch
    tiles, bins = launch.structure("Tiles"), int(launch.structure("Levels")["bins"])
    slices, pixels = launch.grid[2], case.itemsize * case.pixels
    copies = next(int(one) for one in launch.arguments if type(one) is np.int64)
    size = -(-math.prod(tiles["size"].tolist()) // launch.grid[0])
    shared = turns_of_copies(case, bins, copies, slices) / a.atomics
    count = bill.loop(
        "count", items=launch.blocks, size=size, shared=shared, memory=pixels, cache=pixels * slices,
        latency=a.latency, words={"fold": copies * -(-bins // slices)},
    )  # fmt: skip
    return a.launch + count + launch.blocks / slices * distinct(case, bins, size) / a.additions + a.round_trip


def tile_table(bill: Bill) -> float:
    """A block makes the table of a tile: it goes over the bins four times, and waits for all between."""
    launch, bins = bill.launch, int(bill.launch.structure("Levels")["bins"])
    blocks = -(-launch.blocks // bill.chip.multiprocessors)
    return bill.a.launch + 4 * bill.a.round_trip + bill.table(bins, launch.threads, blocks)


def apply_cells(bill: Bill) -> float:
    """Blocks along x share a cell, which has a tile's pixels in the middle and fewer at the borders."""
    a, case, launch = bill.a, bill.case, bill.launch
    bins = int(launch.structure("Levels")["bins"])
    in_shared = launch.shared > 1024
    pixels, again = case.itemsize * case.pixels, bill.again()
    words = (256 if case.itemsize == 1 else 2 * bins) if in_shared else 0
    shared = turns_of_cell(case, bins) if in_shared else sectors_of_cell(case, bins) / a.sectors
    size, missed = case.pixels / launch.blocks, 0.0
    if not in_shared:
        fresh = 4 * distinct(case, 2 * bins // SECTOR, int(size)) / size
        missed = SECTOR * max(fresh, a.missing * sectors_of_cell(case, bins)) * case.pixels
    return a.launch + bill.loop(
        "map" if in_shared or "gather" not in bill.loops else "gather", items=launch.blocks, size=size,
        shared=shared, memory=again + pixels, cache=2 * pixels + missed,
        latency=a.latency if again else a.cached, words={"load": words},
    )  # fmt: skip


BILLS: dict[str, Callable[[Bill], float]] = {
    "equalize_u8": equalize_u8,
    "equalize_u16": equalize_u16,
    "histogram_u8": histogram_u8,
    "histogram_u16": histogram_u16,
    "finish_u16": finish_u16,
    "apply_lut_u8": apply_lut_u8,
    "apply_lut_u16_shared": apply_lut_u16_shared,
    "tile_histogram_u8": tile_histogram,
    "tile_histogram_u16": tile_histogram,
    "tile_table": tile_table,
    "apply_cells_u8": apply_cells,
    "apply_cells_u16": apply_cells,
}


def seconds_of(
    chip: Chip, a: Assumed, case: Case, loops: dict[str, dict[str, Loop]]
) -> Iterator[tuple[Launch, float]]:
    """Yield the launches of a call, and the seconds of each."""
    for launch in launches_of(chip, case):
        yield launch, BILLS[launch.kernel](Bill(chip, a, case, launch, loops.get(launch.kernel, {})))
