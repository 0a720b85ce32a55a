"""What calls should take on a GPU, without one: python -m benchmarks.predict. It measures nothing.

From the instructions of each loop (`benchmarks.instructions`), from what the backend launches (its own code,
on the stand-in for CuPy), and from assumptions, each a range from a bad to a good value (`benchmarks.model`).
Written to benchmarks/results/prediction.md.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from benchmarks.gpu.device import cupy_module
from benchmarks.instructions import ROOT, Loop, survey
from benchmarks.model import BAD, BANKS, CHIPS, GOOD, ISSUE, Assumed, Case, Chip, launches_of, seconds_of

SIZES = {
    "1080p": (1, 1080, 1920),
    "4K": (1, 2160, 3840),
    "2^30": (1, 1 << 15, 1 << 15),
    "64 x 1080p": (64, 1080, 1920),
    "16 x 4K": (16, 2160, 3840),
}
CALLS = (
    ("equalize", "uint8", "1080p"),
    ("equalize", "uint8", "4K"),
    ("equalize", "uint8", "2^30"),
    ("equalize", "uint8", "64 x 1080p"),
    ("equalize", "uint8", "16 x 4K"),
    ("histogram", "uint8", "2^30"),
    ("apply", "uint8", "2^30"),
    ("equalize", "uint16", "1080p"),
    ("equalize", "uint16", "1080p", "noise"),
    ("equalize", "uint16", "4K"),
    ("equalize", "uint16", "2^30"),
    ("equalize", "uint16", "2^30", "noise"),
    ("equalize", "uint16", "2^30", "constant"),
    ("equalize", "uint16", "16 x 4K"),
    ("clahe", "uint8", "1080p"),
    ("clahe", "uint8", "4K"),
    ("clahe", "uint8", "2^30"),
    ("clahe", "uint16", "1080p", "natural", 4096),
    ("clahe", "uint16", "1080p", "natural", 65536),
    ("clahe", "uint16", "1080p", "noise", 65536),
)
"""Operation, dtype, size, content ("natural" where it is left out, or does not matter), bins."""
CASES = tuple(Case(*call[:3], *SIZES[call[2]], *call[3:]) for call in CALLS)
MOST = 1 << 30
"""Bytes from which on an image is read from memory twice: the bound counts them."""
UNITS = {
    "atomics": ("counter updates a clock and multiprocessor, without conflicts", 1, True),
    "cache_rate": ("TB/s of the L2 cache", 1e-12, True),
    "kept": ("of the L2 cache keep what is read twice", 1, True),
    "additions": ("thousand million counts a second added up in the L2 cache", 1e-9, False),
    "round_trip": ("µs of a round trip to the L2 cache, with a barrier", 1e6, False),
    "latency": ("µs until memory answers", 1e6, False),
    "cached": ("µs until the L2 cache answers", 1e6, False),
    "table": ("µs for a table of 8 bits", 1e6, False),
    "launch": ("µs of a launch in a graph", 1e6, False),
    "overlap": ("of waits are filled with other warps' work", 1, False),
    "tail": ("items of work while blocks run out of it", 1, False),
    "apart": ("clocks from one instruction of a warp to the next, where a table is made", 1, False),
    "sectors": ("sectors that the L1 cache looks up a clock", 1, False),
    "missing": ("of the sectors of tables are not in the L1 cache", 1, False),
}
"""What each assumption is, what it is multiplied by, and whether `benchmarks.gpu.rates` measures it."""

Loops = dict[str, dict[str, Loop]]


def seconds(chip: Chip, a: Assumed, case: Case, loops: Loops) -> float:
    """Return what a call takes."""
    return sum(each for _, each in seconds_of(chip, a, case, loops))


def floor(chip: Chip, case: Case) -> float:
    """Return the seconds that memory alone takes."""
    size = case.pixels * case.itemsize
    reads = 2 if case.images == 1 and size >= MOST and case.operation in ("equalize", "clahe") else 1
    return size * (reads + (case.operation != "histogram")) / chip.copy


def deciding(case: Case, loops: Loops) -> str:
    """Name the assumptions that decide most, and what they add on an H200 where they are bad."""
    chip = CHIPS["H200"]
    good = seconds(chip, GOOD, case, loops)
    changed = {field: replace(GOOD, **{field: getattr(BAD, field)}) for field in UNITS}
    more = {field: seconds(chip, a, case, loops) - good for field, a in changed.items()}
    most = sorted(more, key=lambda field: -more[field])[:2]
    return ", ".join(f"{field} +{number(1e6 * more[field])}" for field in most)


# The report ------------------------------------------------------------------------------------------

TEXT = """# A prediction: what calls should take on a GPU

**Nothing here was measured: no GPU has run these kernels.** `python -m benchmarks.predict` computes it;
`python -m benchmarks.gpu` measures, and begins with those assumptions that are marked so below.

## Times: images on the device, replayed from a graph, other images in turns

{times}

By memory alone: all pixels read once and written once at the rate of a device copy; of a single image of 2^30
bytes and more read twice; of a histogram only read. µs, from the best of all assumptions to the worst.
Decides: the assumptions, by their names below, that add most to the best time on an H200 where they alone are
bad, and how many µs. CLAHE has 8 x 8 tiles. Of 8 bits the content matters to CLAHE alone.

## What is launched, on an H200

{launches}

## Assumptions

{assumed}

Measured: by `benchmarks.gpu.rates`, on a GPU. Taken as known:
{chips};
{issue} instructions of threads a clock and multiprocessor, {banks} words of shared memory.

## The model

Each loop is charged with its own instructions in the machine code ([table](instructions.md)). It takes the
longest of its memory, its L2 traffic, and, on the multiprocessor with the most items of work, its
instructions, its shared memory, and the waits of its threads for what they load. Counters that are cleared
and folded and tables that are loaded into shared memory are a part of it, once for each item. Lanes that meet
in a bank take turns: how many is counted on images like those of `benchmarks.gpu`, not assumed. A single
image is counted and then mapped; a batch of 8 bits does both at the same time. Between loops lie round trips:
counts, flags, waits. Of a table of 16 bits, or of a tile, every bin is charged with its instructions, one
after another in a warp. Not in the model: uneven clocks, blocks of other kernels.
"""


def table(head: str, align: str, rows: list[tuple[object, ...]]) -> str:
    """Return a table as Markdown."""
    marks = " | ".join("---:" if one == "r" else "---" for one in align)
    lines = [f"| {head} |", f"| {marks} |", *(f"| {' | '.join(map(str, row))} |" for row in rows)]
    return "\n".join(lines)


def number(value: float) -> str:
    """Return three digits of a number."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def span(good: float, bad: float) -> str:
    """Return a range of numbers."""
    return f"{number(good)} to {number(bad)}"


def name_of(case: Case) -> str:
    """Name a case."""
    bins = f", {case.bins} bins" if case.bins else ""
    return f"{case.operation} {case.dtype}, {case.size}{bins}"


def times(loops: Loops) -> list[tuple[object, ...]]:
    """Return the rows of the table of times."""
    rows: list[tuple[object, ...]] = []
    for case in CASES:
        row: list[object] = [name_of(case), case.content, len(launches_of(CHIPS["H200"], case))]
        for chip in CHIPS.values():
            good, bad = seconds(chip, GOOD, case, loops), seconds(chip, BAD, case, loops)
            least = 1e6 * floor(chip, case)
            row += [span(1e6 * good, 1e6 * bad), number(least), span(least / good / 1e4, least / bad / 1e4)]
        rows.append((*row, deciding(case, loops)))
    return rows


def launched(loops: Loops) -> list[tuple[object, ...]]:
    """Return the rows of the table of launches."""
    rows: list[tuple[object, ...]] = []
    chip = CHIPS["H200"]
    for case in CASES:
        bad = [each for _, each in seconds_of(chip, BAD, case, loops)]
        for (launch, good), worst in zip(seconds_of(chip, GOOD, case, loops), bad, strict=True):
            grid = " x ".join(map(str, launch.grid))
            phases = ", ".join(f"{n} {loop.instructions:.2f}" for n, loop in loops[launch.kernel].items())
            rows.append((
                name_of(case), case.content, launch.kernel, grid, launch.threads, launch.resident, phases,
                span(1e6 * good, 1e6 * worst),
            ))  # fmt: skip
    return rows


def report(loops: Loops) -> str:
    """Return the whole as Markdown."""
    assumed: list[tuple[object, ...]] = []
    for field, (unit, scale, is_measured) in UNITS.items():
        values = span(getattr(GOOD, field) * scale, getattr(BAD, field) * scale)
        assumed.append((field, values, unit, "yes" if is_measured else "no"))
    chips = ";\n".join(
        f"{name}: {chip.multiprocessors} multiprocessors at {chip.clock / 1e9} GHz, copies at "
        f"{chip.copy / 1e12} TB/s (read and written), {chip.cache >> 20} MB of L2"
        for name, chip in CHIPS.items()
    )
    heads = " | ".join(f"{name}, µs | by memory alone | % of that" for name in CHIPS)
    return TEXT.format(
        times=table(f"call | content | launches | {heads} | decides", "llrrrrrrrl", times(loops)),
        launches=table(
            "call | content | kernel | grid | threads | blocks a multiprocessor | instructions | µs",
            "lllrrrlr", launched(loops),
        ),
        assumed=table("name | good to bad | | measured", "lrll", assumed),
        chips=chips, issue=ISSUE, banks=BANKS,
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
