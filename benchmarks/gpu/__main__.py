"""The steps, one process after the other, each within its time."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu import __doc__ as description
from benchmarks.gpu.device import ROOT, occasion

SANITIZERS = ("compute-sanitizer", "/usr/local/cuda/bin/compute-sanitizer")


@dataclass(frozen=True, slots=True)
class Step:
    """A process to start. What the steps before it have left of their time is added to its own."""

    name: str
    seconds: float
    quick_seconds: float
    """0: not a part of the quick form."""
    command: Callable[[argparse.Namespace, float], list[str] | str]
    """Return the command, or why there is none."""


def _module(name: str, arguments: argparse.Namespace, *more: str, quick: bool = False) -> list[str]:
    options = ["--quick"] * (quick or arguments.quick) + ["--stand-in"] * arguments.stand_in
    return [sys.executable, "-m", f"benchmarks.gpu.{name}", *options, *more]


def _rates(arguments: argparse.Namespace, seconds: float) -> list[str] | str:
    if arguments.stand_in:
        return "needs a GPU"
    file = arguments.folder.resolve() / "rates.json"
    return _module("rates", arguments, f"--json={file}")


def _smoke(arguments: argparse.Namespace, seconds: float) -> list[str]:
    return _module("smoke", arguments)


def _tests(arguments: argparse.Namespace, seconds: float) -> list[str] | str:
    if arguments.stand_in:
        return "needs a GPU"
    options = ["-W", "default", "-m", "gpu", "-v", "--tb=short", "--durations=5", "-p", "no:cacheprovider"]
    return [sys.executable, "-m", "pytest", *options, "tests/test_gpu.py"]


def _bench(arguments: argparse.Namespace, seconds: float) -> list[str]:
    file = arguments.folder.resolve() / "benchmark.jsonl"
    return _module("bench", arguments, f"--json={file}", f"--seconds={seconds - 5:.0f}")


def _sanitizer(tool: str) -> Callable[[argparse.Namespace, float], list[str] | str]:
    def command(arguments: argparse.Namespace, seconds: float) -> list[str] | str:
        program = next(filter(None, map(shutil.which, SANITIZERS)), None)
        if program is None or arguments.stand_in:
            return "compute-sanitizer is not installed" if program is None else "needs a GPU"
        smoke = _module("smoke", arguments, "--sanitized", quick=True)
        return [program, f"--tool={tool}", "--error-exitcode=9", *smoke]

    return command


STEPS = (
    Step("rates", 15, 10, _rates),
    Step("smoke", 85, 40, _smoke),
    Step("tests", 75, 0, _tests),
    Step("benchmark", 105, 40, _bench),
    Step("memcheck", 40, 30, _sanitizer("memcheck")),
    Step("racecheck", 40, 0, _sanitizer("racecheck")),
)


def run(command: list[str], log: Path, seconds: float) -> str:
    """Run a command, its output in a file; return how it ended."""
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # a kernel that never ends lets nothing else stop it
            process.wait()
            return "out of time"
    return "passed" if code == 0 else f"failed with code {code}"


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.gpu",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="where the results go, benchmarks/results/h100 for one")
    parser.add_argument("--quick", action="store_true", help="smoke, a short benchmark, memcheck")
    parser.add_argument("--stand-in", action="store_true", help="tiny images, kernels on the CPU: no GPU")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    summary: dict[str, Any] = {**occasion(), "quick": arguments.quick, "steps": {}}
    spare = 0.0
    for step in STEPS:
        own = step.quick_seconds if arguments.quick else step.seconds
        if not own:
            continue
        seconds = spare + own * (20 if arguments.stand_in else 1)
        command = step.command(arguments, seconds)
        start, log = time.monotonic(), arguments.folder / f"{step.name}.txt"
        log.unlink(missing_ok=True)
        outcome = f"left out: {command}" if isinstance(command, str) else run(command, log, seconds)
        taken = time.monotonic() - start
        spare = max(seconds - taken, 0.0)
        summary["steps"][step.name] = {"outcome": outcome, "seconds": round(taken, 1)}
        (arguments.folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
        printed = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
        print(f"{step.name}: {outcome}, {taken:.1f} s", *printed[-40:], sep="\n    ", flush=True)
    ended = {name: step["outcome"] for name, step in summary["steps"].items()}
    failed = [name for name, outcome in ended.items() if not outcome.startswith(("passed", "left out"))]
    print(f"in {arguments.folder}: " + (f"not passed: {', '.join(failed)}" if failed else "all passed"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
