"""Instructions a pixel of the CUDA kernels, without a GPU: python -m benchmarks.instructions.

Each kernel is compiled by NVRTC as CuPy compiles it and disassembled (`pip install nvidia-cuda-nvrtc
nvidia-cuda-nvdisasm`); the instructions of its loops are counted. Written to
benchmarks/results/instructions.md, beside the same for the kernels of an earlier commit (--before).
"""

import argparse
import importlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]

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


# Counting --------------------------------------------------------------------------------------------

_LOAD = r"\bLDG?\.E"
_WIDE = {
    16: re.compile(_LOAD + r"\.(?:\w+\.)*128\b"),
    8: re.compile(_LOAD + r"\.(?:\w+\.)*64\b"),
    4: re.compile(_LOAD + r"(?!\.(?:[US]\d|64|128))\S*\s"),
}
"""Loads of so many bytes."""
_NARROW = re.compile(r"\b(?:LDG?|STG?)\.E(?:\.(?!128)\w+)*\s")
_PIXEL = re.compile(_LOAD + r"(?!\.U8)")  # a byte is the mask's
_STORE = re.compile(r"\bSTG?\.E")
_COUNT = re.compile(r"\bATOMS\b")
_EFFECT = re.compile(r"\bSTG?\.E|\bATOMS\b")
_RARE = re.compile(r"\b(?:RED|REDG|ATOM|ATOMG)\b")  # a 16-bit counter overflows
_GATHER = re.compile(r"\bLDG\.E\.U16\.CONSTANT\b")  # from tables in global memory
_ADD_COUNTS = re.compile(r"\b(?:RED|ATOM)G?\.E\.ADD\.64\b")
_COUNTS = re.compile(r"\bLDG?\.E\.64\b")
_SHARED_LOAD = re.compile(r"\bLDS\b")
_SHARED_STORE = re.compile(r"\bSTS\b")
_ANY_LOAD = re.compile(r"\bLD[GS]?\.|\bLDS\b")


class Loop(NamedTuple):
    """What a loop takes."""

    instructions: float
    """Of a thread, for each pixel or word."""
    at_once: float
    """Pixels or words of one turn: they are loaded before the first of them is used."""


def _found(what: re.Pattern[str], blocks: Iterable[Block]) -> int:
    return sum(bool(what.search(code)) for block in blocks for code in block.code)


def _length(blocks: Iterable[Block]) -> int:
    return sum(len(block.code) for block in blocks)


def _loops(blocks: list[Block]) -> list[tuple[int, int]]:
    return [(b.target, b.start) for b in blocks if b.target is not None and b.target <= b.start]


def _own(blocks: list[Block], loop: tuple[int, int], loops: list[tuple[int, int]]) -> list[Block]:
    """Return the blocks of a loop outside of further loops."""
    begin, end = loop
    nested = [(s, e) for s, e in loops if (s, e) != loop and begin <= s and e <= end]
    return [b for b in blocks if begin <= b.start <= end and not any(s <= b.start <= e for s, e in nested)]


@dataclass(frozen=True, slots=True)
class Pixels:
    """How a kernel's loops over pixels are recognised."""

    itemsize: int
    channels: int = 1
    vector: int = 16
    """Bytes that a thread loads at once."""

    def loop(
        self, blocks: list[Block], effect: re.Pattern[str] | None = None, *, gathers: bool = False
    ) -> Loop | None:
        """Return the loop that has an effect; None where there is none.

        It is the innermost that loads vectors; of it count the blocks outside of further loops that do not
        load or store piecemeal, but for loads from tables if it `gathers`. Without such a loop, it is the
        innermost that loads at all.
        """
        loops = _loops(blocks)
        best: tuple[bool, bool, float, Loop] | None = None
        for loop in loops:
            own = [b for b in _own(blocks, loop, loops) if not _found(_RARE, [b])]
            wide = [b for b in own if _found(_WIDE[self.vector], [b])]
            if wide:
                own = [b for b in own if b in wide or not self._is_piecemeal(b, gathers)]
                pixels = _found(_WIDE[self.vector], own) * self.vector / self.itemsize / self.channels
            else:
                # A pixel has one effect, a counter or as many stores as channels; without any, one load.
                effects = _found(_EFFECT, own) / (self.channels if _found(_STORE, own) else 1)
                pixels = effects or _found(_PIXEL, own)
            if pixels and (effect is None or _found(effect, own)):
                each = _length(own) / pixels
                found = (bool(wide), bool(_found(_EFFECT, own)), -each, Loop(each, pixels))
                best = found if best is None else max(best, found)
        return None if best is None else best[3]

    def _is_piecemeal(self, block: Block, gathers: bool) -> bool:
        """Tell whether a block loads or stores less than a vector."""
        narrow = [code for code in block.code if _NARROW.search(code) and not _WIDE[self.vector].search(code)]
        if self.vector < 16:  # stores are as long as loads
            narrow = [code for code in narrow if re.search(r"\.[US](?:8|16)\b", code)]
        return any(not (gathers and _GATHER.search(code)) for code in narrow)


def words_of(code: str) -> int:
    """Return the words of 4 bytes that an instruction moves."""
    return 4 if ".128" in code else 2 if ".64" in code else 1


def _words(what: re.Pattern[str], blocks: list[Block]) -> int:
    return sum(words_of(code) for block in blocks for code in block.code if what.search(code))


def fold_loop(blocks: list[Block]) -> Loop | None:
    """Return the loop that adds up counters in shared memory, a word of them each."""
    found = []
    for begin, end in _loops(blocks):
        inside = [b for b in blocks if begin <= b.start <= end]
        if _found(_ADD_COUNTS, inside) and (words := _words(_SHARED_LOAD, inside)):
            found.append((_length(inside), Loop(_length(inside) / words, words)))
    return min(found)[1] if found else None


def load_loop(blocks: list[Block]) -> Loop | None:
    """Return the loop that loads a table into shared memory, a word each."""
    loops = _loops(blocks)
    found = []
    for loop in loops:
        own = _own(blocks, loop, loops)
        if _found(_ANY_LOAD, own) and not _found(_COUNT, own) and (words := _words(_SHARED_STORE, own)):
            found.append((_length(own), Loop(_length(own) / words, words)))
    return min(found)[1] if found else None


def table_loops(blocks: list[Block]) -> Loop | None:
    """Return all loops over counts that make a table, taken together, a bin each."""
    loops = _loops(blocks)
    found = []
    for begin, end in loops:
        if any((s, e) != (begin, end) and begin <= s and e <= end for s, e in loops):
            continue
        inside = [b for b in blocks if begin <= b.start <= end]
        if counts := _found(_COUNTS, inside):
            found.append(Loop(_length(inside) / counts, counts))
    if not found:
        return None
    return Loop(sum(loop.instructions for loop in found), 1 / sum(1 / loop.at_once for loop in found))


@dataclass(frozen=True, slots=True)
class Row:
    """What a kernel takes."""

    kernel: str
    registers: int
    stack: int
    """Bytes a thread."""
    phases: dict[str, Loop]
    """By the names of PHASES."""


PHASES = ("count", "map", "gather", "read", "fold", "load", "table")
"""What loops are for."""


def row_of(name: str, usage: Any, blocks: list[Block]) -> Row:
    """Count one kernel's instructions. Its name says how large its pixels are."""
    size = {"u8": 1, "16": 2, "32": 4, "64": 8}[(re.findall(r"u8|16|32|64", name) or ["64"])[0]]
    pixels = Pixels(size, 3 if "luma" in name else 1, 4 * size if "cells" in name else 16)
    counts = re.match("histogram|equalize|tile_histogram", name) is not None
    maps = re.match("apply|equalize", name) is not None
    makes = re.match("equalize_u16|finish|tile_table", name) is not None
    phases = {
        "count": pixels.loop(blocks, _COUNT) if counts else None,
        "fold": fold_loop(blocks) if counts else None,
        "table": table_loops(blocks) if makes else None,
        "load": load_loop(blocks) if maps else None,
        "map": pixels.loop(blocks, _STORE) if maps else None,
        "gather": pixels.loop(blocks, _STORE, gathers=True) if "cells" in name else None,
        "read": pixels.loop(blocks) if name.startswith("edges_of_image") else None,
    }
    if phases["gather"] == phases["map"]:
        phases["gather"] = None
    return Row(name, usage.registers, usage.stack, {k: loop for k, loop in phases.items() if loop})


def survey(architecture: str, kernels: Path = ROOT / "kernels") -> list[Row]:
    """Compile all kernels of a folder for an architecture; return a row for each."""
    sys.path[:0] = [str(kernels), str(ROOT / "tests")]
    cuda: Any = importlib.import_module("histeq_kernels.cuda")
    if not Path(cuda.__file__).is_relative_to(kernels):  # others were imported before: ask a new process
        command = [sys.executable, "-m", "benchmarks.instructions", f"--kernels={kernels}"]
        command += [f"--architecture={architecture}", "--json"]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        rows = json.loads(done.stdout)
        return [Row(**row | {"phases": {k: Loop(*v) for k, v in row["phases"].items()}}) for row in rows]
    nvrtc: Any = importlib.import_module("cuda_host.nvrtc")
    compiler = nvrtc.Nvrtc()
    options = (*cuda.OPTIONS, "-ftz=true")  # as CuPy compiles

    def rows_of(module: str) -> list[Row]:
        _, cubin = compiler.compile(cuda.source(module), architecture, options)
        blocks = functions(cubin)
        return [row_of(name, taken, blocks[name]) for name, taken in sorted(nvrtc.usage(cubin).items())]

    with ThreadPoolExecutor(2) as pool:
        return [row for rows in pool.map(rows_of, cuda.MODULES) for row in rows]


def survey_of(commit: str, architecture: str) -> list[Row]:
    """Return the same for the kernels of a commit."""
    command = ["git", "-C", str(ROOT), "archive", commit, "kernels"]
    archive = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=BytesIO(archive)) as tar:
            tar.extractall(folder, filter="data")
        return survey(architecture, Path(folder, "kernels"))


# The report ------------------------------------------------------------------------------------------

TEXT = """# Instructions of the CUDA kernels' loops

Counted in the machine code for {architecture}, not measured: no GPU has run these kernels.
`python -m benchmarks.instructions{option}` writes this table.

Count, map, gather, read: those of a thread for each pixel, grey or floating, or of three channels in the
kernels of luma, in the innermost loop. Vectors where the kernel loads them; not the pixels at the ends of
rows. Of branches (masks, the order of channels, nodata) all instructions count; of loops whose length depends
on the data, as the search for a floating pixel's bin, those of one turn or none. Gather: a map whose tables
are too large for shared memory. Fold: for each word of the counters that are added up. Load: for each word of
a table in shared memory. Table: for each bin of which a table is made, in all loops over the bins.
{arrow}
| kernel | registers | stack | {phases} |
| --- | ---: | ---: |{marks}
{rows}
"""
ARROW = """
Before an arrow: the kernels of commit {before}. A dash: there was, or is, none.
"""


def _change(before: object, after: object) -> str:
    return str(after) if before == after else f"{before or '-'} → {after or '-'}"


def _cells(row: Row | None) -> dict[str, str]:
    if row is None:
        return {}
    counts = {phase: f"{loop.instructions:.2f}" for phase, loop in row.phases.items()}
    return {"registers": str(row.registers), "stack": str(row.stack), **counts}


def report(architecture: str, rows: list[Row], before: str | None, rows_before: list[Row]) -> str:
    """Return the whole as Markdown."""
    old = {row.kernel: row for row in rows_before}
    new = {row.kernel: row for row in rows}
    lines = []
    for name in {**new, **old}:
        if not any(name in rows and rows[name].phases for rows in (new, old)):
            continue
        cells, cells_before = _cells(new.get(name)), _cells(old.get(name))
        if before is None:
            cells_before = cells
        columns = ("registers", "stack", *PHASES)
        changes = [_change(cells_before.get(column, ""), cells.get(column, "")) for column in columns]
        lines.append(f"| {' | '.join((name, *changes))} |")
    return TEXT.format(
        architecture=architecture,
        phases=" | ".join(PHASES),
        marks=" ---: |" * len(PHASES),
        option="" if before is None else f" --before={before}",
        arrow="" if before is None else ARROW.format(before=before),
        rows="\n".join(lines),
    )


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("--before", metavar="COMMIT", help="compare with the kernels of this commit")
    parser.add_argument("--architecture", default="sm_90")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "instructions.md")
    parser.add_argument("--kernels", type=Path, default=ROOT / "kernels", help="a folder like kernels/")
    parser.add_argument("--json", action="store_true", help="print the rows of that folder, write nothing")
    arguments = parser.parse_args()
    rows = survey(arguments.architecture, arguments.kernels)
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows]))
        return
    before = None if arguments.before is None else survey_of(arguments.before, arguments.architecture)
    text = report(arguments.architecture, rows, arguments.before, before or [])
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text, encoding="utf-8")
    print(f"written to {arguments.output}")


if __name__ == "__main__":
    main()
