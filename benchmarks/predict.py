"""What 8 bits should take on a GPU, without one: python -m benchmarks.predict. It measures nothing.

From the instructions a pixel of each loop (`benchmarks.instructions`), from how the backend cuts the work
into blocks and items (its own code, on the stand-in for CuPy), and from assumptions, each a range from a bad
to a good value. Written to benchmarks/results/prediction.md.
"""

import argparse
import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.device import cupy_module
from benchmarks.instructions import ROOT, survey

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
    "H100": Chip(132, 1.98e9, 3.0e12, 50 << 20),
    "H200": Chip(132, 1.98e9, 4.3e12, 60 << 20),
}
ISSUE = 4 * 32
"""Instructions of threads that a multiprocessor issues a clock."""
BANKS = 32
"""Words of shared memory that a multiprocessor loads or stores a clock."""


@dataclass(frozen=True, slots=True)
class Assumed:
    """What nobody has measured for these kernels."""

    atomics: float
    """Updates of counters without bank conflicts, a clock and multiprocessor."""
    cache_rate: float
    """Bytes a second from and to the L2 cache."""
    kept: float
    """The share of the L2 cache that keeps what was read until it is read again."""
    round_trip: float
    """Seconds of an atomic or a load in the L2 cache, with the barrier that waits for it."""
    latency: float
    """Seconds until the first bytes come from memory."""
    table: float
    """Seconds in which a block makes a table of 256 levels."""
    launch: float
    """Seconds that a launch in a graph takes by itself."""
    overlap: float
    """The share of an item's waits that other blocks of the multiprocessor fill with work."""
    tail: float
    """Items of work in whose time some blocks are idle in the end."""


BAD = Assumed(12, 3.5e12, 0.3, 1.0e-6, 1.0e-6, 1.0e-6, 2.5e-6, 0.5, 1.5)
GOOD = Assumed(32, 7.0e12, 0.8, 0.5e-6, 0.6e-6, 0.4e-6, 1.5e-6, 1.0, 0.5)
UNITS = {
    "atomics": ("counter updates a clock and multiprocessor", 1),
    "cache_rate": ("TB/s of the L2 cache", 1e-12),
    "kept": ("of the L2 cache keep what is read twice", 1),
    "round_trip": ("µs of a round trip to the L2 cache", 1e6),
    "latency": ("µs until memory answers", 1e6),
    "table": ("µs for a table", 1e6),
    "launch": ("µs of a launch in a graph", 1e6),
    "overlap": ("of an item's waits are filled with other blocks' work", 1),
    "tail": ("items of work while blocks run out of it", 1),
}

CASES = {
    "1080p": (1, 1080, 1920),
    "4K": (1, 2160, 3840),
    "2^30": (1, 1 << 15, 1 << 15),
    "64 x 1080p": (64, 1080, 1920),
    "16 x 4K": (16, 2160, 3840),
}
MOST = 1 << 30
"""The size from which on a single image is read from memory twice: the bound counts 3 bytes a pixel."""

# How the backend cuts the work -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Work:
    """A launch of equalize_u8."""

    images: int
    size: int
    """Pixels of an image."""
    plan: Any
    """The Plan of histeq/_backends/cupy/fused.py."""
    item: int
    """Pixels of an item of work."""
    lookahead: int
    """Pixels that are counted between the count of one and its mapping."""

    @property
    def items(self) -> int:
        """Items of each kind."""
        return self.images * -(-self.size // self.item)


def work_of(chip: Chip, images: int, rows: int, columns: int) -> Work:
    """Ask the backend, on the stand-in for CuPy, how it cuts a batch."""
    fake: Any = importlib.import_module("cuda_host.fake_cupy")
    fused: Any = importlib.import_module("histeq._backends.cupy.fused")
    layout: Any = importlib.import_module("histeq._backends.cupy.layout")
    interface: Any = importlib.import_module("histeq_kernels.cuda.interface")
    image = fake.ndarray.of(np.broadcast_to(np.uint8(0), (images, 1, 1, rows, columns)))
    plan = fused.plan_of(chip, layout.merged_region_of(image))
    item = min(plan.stretches * interface.WARP * interface.VECTORS * interface.VECTOR, rows * columns)
    return Work(images, rows * columns, plan, item, plan.lag * rows * columns)


# Times -----------------------------------------------------------------------------------------------

COUNTERS = 256 * 32
"""Words of a block's counters, and of its table."""


def clocks(instructions: float, shared: float) -> float:
    """Return the clocks of a multiprocessor that issues instructions and serves shared memory beside."""
    return max(instructions / ISSUE, shared)


def equalize_seconds(chip: Chip, a: Assumed, work: Work, phases: dict[str, float]) -> float:
    """Return the seconds of one launch of equalize_u8."""
    pixels, plan = work.images * work.size, work.plan
    # Shared memory, clocks a pixel: an item's counters are cleared and folded, or its table is filled.
    counting = 1 / a.atomics + 2 * COUNTERS / BANKS / work.item
    mapping = 1 / BANKS + COUNTERS / BANKS / work.item
    start = a.launch + a.round_trip + a.latency  # the first ticket, the first pixels
    kept = a.kept * chip.cache
    if work.images == 1:
        # The longest of all multiprocessors' shares.
        if work.items <= plan.blocks:
            share = 1.0 * -(-work.items // chip.multiprocessors) * work.item
        else:
            share = pixels / chip.multiprocessors + a.tail * work.item
        count = share * clocks(phases["count"], counting) / chip.clock
        count = max(count, pixels / chip.copy, pixels / a.cache_rate)
        again = max(pixels - kept, 0)
        mapped = share * clocks(phases["map"], mapping) / chip.clock
        mapped = max(mapped, (again + pixels) / chip.copy, 2 * pixels / a.cache_rate)
        # Counts are added up and said to be there; others see it and load them; pixels come from the cache.
        between = 4 * a.round_trip + a.table
        return start + count + between + mapped + a.round_trip
    again = pixels if work.lookahead > kept else 0
    moved = max((2 * pixels + again) / chip.copy, 3 * pixels / a.cache_rate)
    busy = clocks(phases["count"] + phases["map"], counting + mapping) * pixels
    steady = max(moved, busy / chip.multiprocessors / chip.clock)
    waits = (4 * a.round_trip + a.table) * work.items / plan.blocks  # of an item to count and one to map
    item = steady * plan.blocks / (2 * work.items)
    return start + steady + (1 - a.overlap) * waits + a.tail * item


def pass_seconds(
    chip: Chip, a: Assumed, pixels: int, moved: int, instructions: float, shared: float
) -> float:
    """Return the seconds of a kernel that only counts or only maps, with what its last block does."""
    busy = clocks(instructions, shared) * pixels / chip.multiprocessors / chip.clock
    return a.launch + a.latency + max(busy, moved * pixels / chip.copy) + 3 * a.round_trip + a.table


Predicted = tuple[str, str, float, Callable[[Chip, Assumed], float]]
"""A case, its kernel, the bytes a pixel of the bound, and the seconds."""


def predictions(taken: dict[str, dict[str, float]]) -> list[Predicted]:
    """Return what is predicted."""
    found: list[Predicted] = []
    for name, shape in CASES.items():

        def seconds(chip: Chip, a: Assumed, shape: tuple[int, int, int] = shape) -> float:
            return equalize_seconds(chip, a, work_of(chip, *shape), taken["equalize_u8"])

        moved = 3 if shape[0] == 1 and shape[1] * shape[2] >= MOST else 2
        found.append((name, "equalize_u8", moved, seconds))
    found.append((
        "2^30, histogram", "histogram_u8", 1,
        lambda chip, a: pass_seconds(chip, a, 1 << 30, 1, taken["histogram_u8"]["count"], 1 / a.atomics),
    ))  # fmt: skip
    found.append((
        "2^30, apply", "apply_lut_u8", 2,
        lambda chip, a: pass_seconds(chip, a, 1 << 30, 2, taken["apply_lut_u8"]["map"], 1 / BANKS),
    ))  # fmt: skip
    return found


def pixels_of(case: str) -> int:
    """Return the pixels of a case."""
    images, rows, columns = CASES[case.partition(",")[0]]
    return images * rows * columns


# The report ------------------------------------------------------------------------------------------

TEXT = """# A prediction: what 8 bits should take on a GPU

**Nothing here was measured: no GPU has run these kernels.** `python -m benchmarks.predict` computes it;
`python -m benchmarks.gpu` measures, and begins with the assumptions that decide.

## Times: natural images on the device, replayed from a graph, other images in turns

{times}

By memory alone: 2 bytes a pixel at the rate of a device copy, 3 for one image of 2^30 pixels, 1 for a
histogram. Each time is that of one launch of the kernel, from the best of all assumptions to the worst.

## How the work is cut

{cut}

## Assumptions, from good to bad, and what each of them decides

{assumed}

The times are those of an H200, in µs, with one assumption bad and all others good. Taken as known:
{chips};
{issue} instructions of threads a clock and multiprocessor, {banks} words of shared memory.
Instructions a pixel: {instructions}.

The model: a single image is counted, and then mapped; each phase takes the longest of its memory, its L2
traffic, its instructions and its shared memory, on the multiprocessor with the most items. Between them lie
round trips: counts, flag, wait, counts, table. A batch counts and maps at the same time; its time is the
longest of the same four over both. Items take clocks of shared memory by themselves (clearing, folding,
filling the table).
Not in the model: bank conflicts, uneven clocks, blocks of other kernels.
"""


def table(head: str, align: str, rows: list[tuple[object, ...]]) -> str:
    """Return a table as Markdown."""
    marks = " | ".join("---:" if one == "r" else "---" for one in align)
    lines = [f"| {head} |", f"| {marks} |", *(f"| {' | '.join(map(str, row))} |" for row in rows)]
    return "\n".join(lines)


def number(value: float) -> str:
    """Return three digits of a number."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def report(taken: dict[str, dict[str, float]]) -> str:
    """Return the whole as Markdown."""
    times: list[tuple[object, ...]] = []
    decided: dict[str, list[object]] = {name: [] for name in ("", *UNITS)}
    h200 = CHIPS["H200"]
    found = predictions(taken)
    for case, kernel, moved, seconds in found:
        for name, chip in CHIPS.items():
            floor = moved * pixels_of(case) / chip.copy
            good, bad = seconds(chip, GOOD), seconds(chip, BAD)
            span, share = (f"{number(x)} to {number(y)}" for x, y in (
                (1e6 * good, 1e6 * bad), (100 * floor / good, 100 * floor / bad),
            ))  # fmt: skip
            times.append((case, name, kernel, span, number(1e6 * floor), f"{share} %"))
        decided[""].append(number(1e6 * seconds(h200, GOOD)))
        for field in UNITS:
            changed = replace(GOOD, **{field: getattr(BAD, field)})
            decided[field].append(number(1e6 * seconds(h200, changed)))
    cut: list[tuple[object, ...]] = []
    for case, shape in CASES.items():
        work = work_of(h200, *shape)
        plan = work.plan
        cut.append((case, plan.blocks, plan.threads, work.item, work.items, plan.lag))
    assumed: list[tuple[object, ...]] = [("all good", "", *decided[""])]
    for field, (unit, scale) in UNITS.items():
        values = " to ".join(number(getattr(which, field) * scale) for which in (GOOD, BAD))
        assumed.append((unit, values, *decided[field]))
    chips = "; ".join(
        f"{name}: {chip.multiprocessors} multiprocessors at {chip.clock / 1e9} GHz, copies at "
        f"{chip.copy / 1e12} TB/s (read and written), {chip.cache >> 20} MB of L2"
        for name, chip in CHIPS.items()
    )
    cases = " | ".join(case for case, *_ in found)
    return TEXT.format(
        times=table("case | chip | kernel | µs | by memory alone | share of that", "lllrrr", times),
        cut=table(
            "case | blocks | threads each | pixels an item | items to count | images ahead", "lrrrrr", cut
        ),
        assumed=table(f"assumption | values | {cases}", "ll" + "r" * len(found), assumed),
        chips=chips, issue=ISSUE, banks=BANKS,
        instructions="; ".join(
            f"{kernel} " + ", ".join(f"{count:.2f} to {phase}" for phase, count in taken[kernel].items())
            for kernel in ("equalize_u8", "histogram_u8", "apply_lut_u8")
        ),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.predict", description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "prediction.md")
    arguments = parser.parse_args()
    cupy_module(stand_in=True)
    text = report({row.kernel: row.phases for row in survey("sm_90")})
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text, encoding="utf-8")
    print(f"written to {arguments.output}")


if __name__ == "__main__":
    main()
