"""What the CUDA kernels should take, without a GPU: python -m benchmarks.predict. It measures nothing.

Each kernel is compiled by NVRTC and disassembled (`pip install nvidia-cuda-nvrtc nvidia-cuda-nvdisasm`).
Written to benchmarks/results/prediction.md: what a kernel takes of a multiprocessor, the instructions a pixel
in its main loop, and the time that these and the bytes it must move ask for.
"""

import argparse
import importlib
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "kernels"), str(ROOT / "tests")]

from histeq_kernels import cuda  # noqa: E402
from histeq_kernels.cuda.interface import (  # noqa: E402
    CLUSTER,
    COUNTERS_U8,
    COUNTERS_U16,
    KEPT,
    RESIDENT_BLOCKS,
    SCRATCH,
    STRETCH,
    TABLE_U8,
    THREADS,
)

nvrtc: Any = importlib.import_module("cuda_host.nvrtc")

OPTIONS = (*cuda.OPTIONS, "-ftz=true")  # as CuPy compiles


@dataclass(frozen=True, slots=True)
class Chip:
    """The numbers that a prediction starts from."""

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
ATOMICS = 16
"""Updates of counters without bank conflicts, a clock and multiprocessor: assumed, half the rate of loads."""
LOOKUPS = 32
"""Loads from shared memory without bank conflicts, a clock and multiprocessor."""
IN_CACHE = 5.5e12
"""Bytes a second from the L2 cache. An assumption."""
LAUNCH = 2.0e-6
"""Seconds that a launch in a graph adds, with its drain and its last block's work; assumed."""
WAIT = 1.2e-6
"""Seconds of a wait of the whole grid, with the table; assumed."""
ENDS = 1.0e-6
"""Seconds of a pass before its first pixel and after its last, for the latency of memory, clearing and
folding counters, filling tables: where every block has one stretch, nothing overlaps with them. Assumed."""

RESIDENT = {"sm_75": 1024, "sm_86": 1536, "sm_89": 1536, "sm_120": 1536}
"""Threads that a multiprocessor holds; 2048 where not named."""
SHARED = {"sm_75": 64, "sm_80": 164, "sm_86": 100, "sm_89": 100, "sm_90": 228, "sm_100": 228, "sm_120": 100}
"""KB of shared memory of a multiprocessor."""

CASES = {
    "1080p": (1, 1080 * 1920),
    "4K": (1, 2160 * 3840),
    "2^30": (1, 1 << 30),
    "64 x 1080p": (64, 1080 * 1920),
    "16 x 4K": (16, 2160 * 3840),
}


# Disassembly -----------------------------------------------------------------------------------------


@dataclass
class Block:
    """A stretch of instructions without a branch into it or out of it."""

    start: int
    code: list[str]
    target: int | None = None
    """Where its last instruction branches to."""


def disassembler() -> str:
    """Return the path of nvdisasm."""
    package = importlib.util.find_spec("nvidia")
    for folder in (package.submodule_search_locations or ()) if package else ():
        found = sorted(Path(folder).glob("**/bin/nvdisasm*"))
        if found:
            return str(found[-1])
    path = shutil.which("nvdisasm")
    if path is None:
        sys.exit("nvdisasm is missing: pip install nvidia-cuda-nvdisasm")
    return path


def functions(cubin: bytes) -> dict[str, list[Block]]:
    """Return each kernel's basic blocks."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [disassembler(), "-c", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = {}
    for part in re.split(r"^\s*\.section\s+\.text\.", text, flags=re.MULTILINE)[1:]:
        found[part.partition(",")[0]] = _blocks(part)
    return found


def _blocks(text: str) -> list[Block]:
    labels: dict[str, int] = {}
    lines: list[tuple[int, str]] = []
    waiting: list[str] = []
    for line in text.splitlines():
        if match := re.match(r"\s*(\.L_x_\d+):", line):
            waiting.append(match[1])
        elif match := re.match(r"\s*/\*([0-9a-f]{4,})\*/\s+(.*?);", line):
            at = int(match[1], 16)
            labels.update(dict.fromkeys(waiting, at))
            waiting.clear()
            lines.append((at, match[2]))
    targets = set(labels.values())
    blocks: list[Block] = []
    fresh = True
    for at, code in lines:
        if fresh or at in targets:
            blocks.append(Block(at, []))
        blocks[-1].code.append(code)
        jump = re.search(r"\bBRA\b.*?(\.L_x_\d+)", code)
        if jump and jump[1] in labels:
            blocks[-1].target = labels[jump[1]]
        fresh = bool(re.search(r"\b(BRA|EXIT|RET|CALL)\b", code))
    return blocks


def per_pixel(
    blocks: list[Block], itemsize: int, channels: int, effect: re.Pattern[str] | None = None
) -> float | None:
    """Return the instructions a pixel in the loop over pixels; None where there is none.

    With `effect`, of the loop that has this effect: kernels of two passes have a loop for each.
    The loop is the innermost that loads 16 bytes at a time; of it count the blocks outside of further loops
    that do not load or store piecemeal. Without such a loop, it is the innermost that loads at all.
    """
    loops = [(b.target, b.start) for b in blocks if b.target is not None and b.target <= b.start]
    best: tuple[bool, bool, float] | None = None
    for begin, end in loops:
        nested = [(s, e) for s, e in loops if (s, e) != (begin, end) and begin <= s and e <= end]
        own = [b for b in blocks if begin <= b.start <= end and not any(s <= b.start <= e for s, e in nested)]
        own = [b for b in own if not _found(_RARE, [b])]
        wide = [b for b in own if _found(_WIDE, [b])]
        if wide:
            own = [b for b in own if b in wide or not _found(_NARROW, [b])]
            pixels = _found(_WIDE, own) * 16 / itemsize / channels
        else:
            # A pixel has one effect, a counter or as many stores as channels; without any, one load.
            pixels = _found(_EFFECT, own) / (channels if _found(_STORE, own) else 1) or _found(_LOAD, own)
        if pixels and (effect is None or _found(effect, own)):
            found = (bool(wide), bool(_found(_EFFECT, own)), -sum(len(b.code) for b in own) / pixels)
            best = found if best is None else max(best, found)
    return None if best is None else -best[2]


_WIDE = re.compile(r"\bLDG?\.E\.(?:\w+\.)*128\b")
_NARROW = re.compile(r"\b(LDG|LD|STG|ST)\.E(?:\.(?!128)\w+)*\s")
_LOAD = re.compile(r"\bLDG?\.E(?!\.U8)")  # a byte is the mask's
_STORE = re.compile(r"\bSTG?\.E")
_COUNT = re.compile(r"\bATOMS\b")
_EFFECT = re.compile(r"\bSTG?\.E|\bATOMS\b")
_RARE = re.compile(r"\b(RED|REDG|ATOM|ATOMG)\b")  # a 16-bit counter overflows


def _found(what: re.Pattern[str], blocks: list[Block]) -> int:
    return sum(bool(what.search(code)) for block in blocks for code in block.code)


# Kernels ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kernel:
    """What the source says of a kernel, where the disassembly does not."""

    itemsize: int
    channels: int = 1
    moved: float = 0
    """Bytes of device memory a pixel."""
    shared: int = 0
    """Dynamic, bytes."""


def kernel_of(name: str, architecture: str) -> Kernel:
    """Return what is known of a kernel by its name."""
    most = min(SHARED[architecture] - 1, 227) * 1024  # that a block can have; sm_75: 64 KB whole
    slices = next(n for n in (1, 2, 4) if SCRATCH + COUNTERS_U16 // n <= most)
    size = {"u8": 1, "16": 2, "32": 4, "64": 8}[(re.findall(r"u8|16|32|64", name) or ["64"])[0]]
    channels = 3 if "luma" in name else 1
    counters = COUNTERS_U16 // slices if "u16" in name else COUNTERS_U8
    if name.startswith("equalize_u8_clusters"):
        return Kernel(1, 1, 2, SCRATCH + KEPT + (most - SCRATCH - KEPT) // STRETCH * STRETCH)
    if name.startswith("equalize"):
        return Kernel(1, 1, 3, SCRATCH + COUNTERS_U8)
    if name.startswith("tile_histogram"):  # of up to 256 bins; more go to device memory
        return Kernel(size, channels, size * channels, SCRATCH + COUNTERS_U8)
    if name.startswith("apply_tiles"):
        return Kernel(size, channels, (size + max(size, 4 if "f" in name[12:] else size)) * channels)
    if name.startswith("histogram"):
        return Kernel(size, channels, size * channels, SCRATCH + counters)
    if name.startswith("edges_of_image"):
        return Kernel(size, 1, size, SCRATCH)
    if name.startswith("apply_lut"):
        out = 8 if "f64" in name else size
        return Kernel(size, 1, size + out, 0 if size == 2 else SCRATCH + TABLE_U8)
    if name.startswith("apply_luma"):
        return Kernel(size, 3, 6 * size)
    if name.startswith("apply_interpolated"):
        return Kernel(size, 1, size + max(size, 4))
    return Kernel(size, shared=SCRATCH)


def survey() -> list[dict[str, Any]]:
    """Compile everything; return a row for each kernel and architecture."""
    compiler = nvrtc.Nvrtc()
    rows = []
    for module in cuda.MODULES:
        for architecture in nvrtc.ARCHITECTURES:
            if int(architecture[3:]) < cuda.LEAST_CAPABILITY.get(module, 0):
                continue
            _, cubin = compiler.compile(cuda.source(module), architecture, OPTIONS)
            blocks = functions(cubin)
            for name, taken in sorted(nvrtc.usage(cubin).items()):
                kernel = kernel_of(name, architecture)
                threads = RESIDENT.get(architecture, 2048)
                room = SHARED[architecture] * 1024 // (kernel.shared + (1024 if threads > 1024 else 0) or 1)
                resident = min(65536 // (THREADS * taken.registers), threads // THREADS, room)
                passes = (_COUNT, _STORE) if name.startswith("equalize") else (None,)
                rows.append({
                    "kernel": name, "architecture": architecture, "registers": taken.registers,
                    "stack": taken.stack, "shared": kernel.shared,
                    "occupancy": resident * THREADS / threads, "moved": kernel.moved,
                    "instructions": [
                        per_pixel(blocks[name], kernel.itemsize, kernel.channels, effect) for effect in passes
                    ],
                })  # fmt: skip
            print(f"{module} {architecture}", file=sys.stderr)
    return rows


# Times -----------------------------------------------------------------------------------------------


def pass_time(chip: Chip, busy: int, pixels: int, moved: float, instructions: float, extra: float) -> float:
    """Return the seconds of one pass on `busy` multiprocessors; `extra`: shared-memory accesses a pixel over
    their rate.
    """
    work = max(instructions / ISSUE, extra) * pixels / (busy * chip.clock)
    return max(moved * pixels / chip.copy, work)


def predict(chip: Chip, rows: list[dict[str, Any]], images: int, size: int) -> dict[str, float]:
    """Return the seconds of uint8 images, by path."""
    pixels = images * size
    taken = {row["kernel"]: row["instructions"] for row in rows if row["architecture"] == "sm_90"}
    cached = min(chip.cache / pixels, 1)
    again = max(0.0, 1 - 0.8 * cached)  # what the second pass reads from memory once more
    from_cache = pixels / IN_CACHE
    resident = chip.multiprocessors * RESIDENT_BLOCKS
    blocks = images * min(-(-size // STRETCH), -(-resident // images))
    busy = min(chip.multiprocessors, blocks)
    is_small = pixels <= resident * STRETCH  # a block has one stretch
    count = pass_time(chip, busy, pixels, 1, taken["histogram_u8"][0], 1 / ATOMICS)
    apply = pass_time(chip, busy, pixels, 1 + again, taken["apply_lut_u8"][0], 1 / LOOKUPS)
    times = {"two launches": max(count, from_cache) + max(apply, from_cache) + 2 * LAUNCH}
    if is_small:
        times["two launches"] += 2 * ENDS
    if is_small and images == 1:
        times["one cooperative launch"] = times["two launches"] - LAUNCH + WAIT
    if images > 1 and size * chip.multiprocessors / CLUSTER < chip.cache:
        counting, mapping = taken["equalize_u8_clusters"]
        busy = chip.multiprocessors // CLUSTER * CLUSTER
        read = pass_time(chip, busy, pixels, 1, counting, 1 / ATOMICS)
        write = pass_time(chip, busy, pixels, 1, mapping, 1 / LOOKUPS)
        times["clusters"] = read + write + LAUNCH
    return times


TEXT = """# A prediction: what the CUDA kernels should take

**Nothing here was measured: no GPU has run these kernels.** `python -m benchmarks.predict` computes it
from NVRTC's output and its disassembly, and from the assumptions below; `python -m benchmarks.gpu` measures.

## Times: uint8, natural images on the device, replayed from a graph, other images in turns

{times}

The bound counts 2 bytes a pixel, and 3 for 2^30 pixels, at the rate of a device copy.

Assumed: {chips}; {atomics} counter updates and {lookups} lookups a clock and multiprocessor, without
bank conflicts; 4 warp instructions a clock; {cached} TB/s from L2; {launch} µs a launch in a graph; {wait} µs
for a wait of the whole grid; {ends} µs at the ends of a pass (latency, clearing, folding, filling tables)
where every block has one stretch of {stretch} bytes, as in 1080p and 4K. Each block keeps one
multiprocessor busy at the most: 1080p has 64. Clusters of 8 blocks leave some idle: they keep 128 of 132. A
pass takes the longest of its bytes, its instructions and its shared-memory accesses; four fifths of the L2
cache are there for the second reading. Nothing else is in the model, not that a cluster's blocks wait for one
another while its frame's last pixels arrive.

## What each kernel takes

Registers and stack a thread, shared memory a block of 512, occupancy (threads resident of those that fit),
bytes of device memory a pixel, instructions a pixel in the main loop, or in the loops that count and map.
Instructions are static: of loops whose length depends on the data (the search for a floating pixel's bin) one
turn is counted, or none; of branches (masks, the order of channels) all. A second reading by `apply_*` is not
counted: L2 may have it.

{kernels}
"""


def report(rows: list[dict[str, Any]]) -> str:
    """Return the whole as Markdown."""
    times = [
        "| case | chip | path | predicted, µs | by memory alone, µs | share of that |",
        "| --- | --- | --- | ---: | ---: | ---: |",
    ]
    for case, (images, size) in CASES.items():
        for name, chip in CHIPS.items():
            floor = (3 if size == 1 << 30 else 2) * images * size / chip.copy
            for path, seconds in predict(chip, rows, images, size).items():
                cells = (f"{seconds * 1e6:.1f}", f"{floor * 1e6:.1f}", f"{floor / seconds:.0%}")
                times.append(f"| {' | '.join((case, name, path, *cells))} |")
    chips = "; ".join(
        f"{name}: {chip.multiprocessors} multiprocessors at {chip.clock / 1e9} GHz, copies at\n"
        f"{chip.copy / 1e12} TB/s (read and written), {chip.cache >> 20} MB of L2"
        for name, chip in CHIPS.items()
    )
    kernels = [
        "| kernel | architecture | registers | stack | shared | occupancy | bytes/pixel | instr./pixel |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        known = row["moved"] and None not in row["instructions"]
        instructions = " + ".join(f"{each:.1f}" for each in row["instructions"]) if known else ""
        taken = (
            row["kernel"], row["architecture"], row["registers"], row["stack"], row["shared"],
            f"{row['occupancy']:.0%}", row["moved"] or "", instructions,
        )  # fmt: skip
        kernels.append(f"| {' | '.join(map(str, taken))} |")
    return TEXT.format(
        times="\n".join(times), chips=chips, atomics=ATOMICS, lookups=LOOKUPS, cached=IN_CACHE / 1e12,
        launch=LAUNCH * 1e6, wait=WAIT * 1e6, ends=ENDS * 1e6, stretch=f"{STRETCH:,}",
        kernels="\n".join(kernels),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.predict", description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "prediction.md")
    arguments = parser.parse_args()
    text = report(survey())
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text, encoding="utf-8")
    print(f"written to {arguments.output}")


if __name__ == "__main__":
    main()
