"""Instructions a pixel of the CUDA kernels, without a GPU: python -m benchmarks.instructions.

Each kernel is compiled by NVRTC as CuPy compiles it and disassembled (`pip install nvidia-cuda-nvrtc
nvidia-cuda-nvdisasm`); the instructions of its loops over pixels are counted. Written to
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
from typing import Any

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

_WIDE = re.compile(r"\bLDG?\.E\.(?:\w+\.)*128\b")
_NARROW = re.compile(r"\b(LDG|LD|STG|ST)\.E(?:\.(?!128)\w+)*\s")
_LOAD = re.compile(r"\bLDG?\.E(?!\.U8)")  # a byte is the mask's
_STORE = re.compile(r"\bSTG?\.E")
_COUNT = re.compile(r"\bATOMS\b")
_EFFECT = re.compile(r"\bSTG?\.E|\bATOMS\b")
_RARE = re.compile(r"\b(RED|REDG|ATOM|ATOMG)\b")  # a 16-bit counter overflows

PHASES = {"count": _COUNT, "map": _STORE}
"""What the loop of a phase does, by which it is known. A loop over pixels that does neither reads them."""


def _found(what: re.Pattern[str], blocks: Iterable[Block]) -> int:
    return sum(bool(what.search(code)) for block in blocks for code in block.code)


def per_pixel(
    blocks: list[Block], itemsize: int, channels: int, effect: re.Pattern[str] | None = None
) -> float | None:
    """Return the instructions a pixel in the loop over pixels that has an effect; None where there is none.

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


@dataclass(frozen=True, slots=True)
class Row:
    """What a kernel takes."""

    kernel: str
    registers: int
    stack: int
    """Bytes a thread."""
    phases: dict[str, float]
    """Instructions a pixel, by the names of PHASES, or "read"."""


def handles_pixels(name: str) -> bool:
    """Tell whether a kernel loops over pixels, not over bins or tiles alone."""
    return re.match("histogram|apply|equalize|edges_of_image|tile_histogram", name) is not None


def row_of(name: str, usage: Any, blocks: list[Block]) -> Row:
    """Count one kernel's instructions. Its name says how large its pixels are."""
    size = {"u8": 1, "16": 2, "32": 4, "64": 8}[(re.findall(r"u8|16|32|64", name) or ["64"])[0]]
    channels = 3 if "luma" in name else 1
    phases: dict[str, float | None] = {}
    if handles_pixels(name):
        phases = {phase: per_pixel(blocks, size, channels, effect) for phase, effect in PHASES.items()}
        if not name.startswith(("apply", "equalize")):
            phases["map"] = None  # it stores counts or edges
        if phases["count"] is phases["map"] is None:
            phases["read"] = per_pixel(blocks, size, channels)
    known = {phase: count for phase, count in phases.items() if count is not None}
    return Row(name, usage.registers, usage.stack, known)


def survey(architecture: str, kernels: Path = ROOT / "kernels") -> list[Row]:
    """Compile all kernels of a folder for an architecture; return a row for each."""
    sys.path[:0] = [str(kernels), str(ROOT / "tests")]
    cuda: Any = importlib.import_module("histeq_kernels.cuda")
    if not Path(cuda.__file__).is_relative_to(kernels):  # others were imported before: ask a new process
        command = [sys.executable, "-m", "benchmarks.instructions", f"--kernels={kernels}"]
        command += [f"--architecture={architecture}", "--json"]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        return [Row(**row) for row in json.loads(done.stdout)]
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

TEXT = """# Instructions a pixel of the CUDA kernels

Counted in the machine code for {architecture}, not measured: no GPU has run these kernels.
`python -m benchmarks.instructions{option}` writes this table.

In the innermost loop over pixels of each phase: of a grey or floating pixel, or of one with three channels in
the kernels of luma. Vectors of 16 bytes where the kernel loads them; not the pixels at the ends of rows. Of
branches (masks, the order of channels) all instructions count; of loops whose length depends on the data, as
the search for a floating pixel's bin, those of one turn or none.
{arrow}
| kernel | registers | stack | count | map | read |
| --- | ---: | ---: | ---: | ---: | ---: |
{rows}
"""
ARROW = """
Before an arrow: the kernels of commit {before}. A dash: there was, or is, no such kernel.
"""


def _change(before: object, after: object) -> str:
    return str(after) if before == after else f"{before or '-'} → {after or '-'}"


def _cells(row: Row | None) -> dict[str, str]:
    if row is None:
        return {}
    counts = {phase: f"{count:.2f}" for phase, count in row.phases.items()}
    return {"registers": str(row.registers), "stack": str(row.stack), **counts}


def report(architecture: str, rows: list[Row], before: str | None, rows_before: list[Row]) -> str:
    """Return the whole as Markdown."""
    old = {row.kernel: row for row in rows_before}
    new = {row.kernel: row for row in rows}
    lines = []
    for name in filter(handles_pixels, {**new, **old}):
        cells, cells_before = _cells(new.get(name)), _cells(old.get(name))
        if before is None:
            cells_before = cells
        columns = ("registers", "stack", "count", "map", "read")
        changes = [_change(cells_before.get(column, ""), cells.get(column, "")) for column in columns]
        lines.append(f"| {' | '.join((name, *changes))} |")
    return TEXT.format(
        architecture=architecture,
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
