#!/usr/bin/env python3
"""The project's two commands, for a machine that has only Python >= 3.11 and pip.

    python3 dev.py demo    equalize a real photograph; write demo.png; time every backend on it
    python3 dev.py test    lint, types, doctests and the whole test suite
    python3 dev.py test --quick    the part of it for every day: no CUDA kernels, no new processes

Both make the virtual environment .venv beside this file when it is not there yet, and keep it.
"""

import concurrent.futures
import functools
import hashlib
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def run(*arguments: str | Path, quietly: bool = False, **environment: str) -> None:
    """Run the virtual environment's Python; stop with its exit code when it fails.

    `quietly`: the output is kept back until the end, for commands that run side by side.
    """
    command = [str(PYTHON), *map(str, arguments)]
    shown = " ".join(["$ python", *command[1:], *(f"[{k}={v}]" for k, v in environment.items())])
    print(shown, flush=True)
    stdout, stderr = (subprocess.PIPE, subprocess.STDOUT) if quietly else (None, None)
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        check=False,
        text=True,
        stdout=stdout,
        stderr=stderr,
    )
    if quietly:
        print(f"{shown}: done\n{done.stdout}", end="", flush=True)
    if done.returncode:
        sys.exit(done.returncode)


def install() -> None:
    """Make the virtual environment; install the package (editable) and all that the tests need.

    Nothing is done when pyproject.toml has not changed since the last complete installation.
    """
    stamp = VENV / "installed"
    wanted = hashlib.sha256(
        f"{sys.version}{ROOT}".encode() + (ROOT / "pyproject.toml").read_bytes()
    ).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    venv.create(VENV, clear=True)  # pip comes from outside: Debian's Python has no ensurepip
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", str(PYTHON), "install"]
    subprocess.run([*pip, "pip>=25.1"], check=True)  # the first that knows --group
    run("-m", "pip", "install", "--quiet", "--editable", ".[cli]", "--group", "test")
    stamp.write_text(wanted)


def demo() -> None:
    """Show the main job on a photograph that scikit-image brings along."""
    where = "import skimage, pathlib; print(pathlib.Path(skimage.__file__).parent / 'data' / 'moon.png')"
    photograph = subprocess.check_output([str(PYTHON), "-c", where], text=True).strip()
    run("-m", "histeq", "plot", photograph, ROOT / "demo.png", "--overwrite")
    run("-m", "histeq", "backends", photograph)


def test(quick: bool) -> None:
    """Run every check that a change must pass; two at a time, since none of the long ones uses two cores."""
    run("-m", "ruff", "check", ".")
    run("-m", "ruff", "format", "--check", ".")
    run("-m", "mypy")
    if quick:
        run("-m", "pytest", "-q", "-k", "not cupy", *(f"--ignore=tests/{name}.py" for name in SLOW))
        return
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        lanes = [pool.submit(test_kernels), pool.submit(run, "-m", "pytest", quietly=True)]
    for lane in lanes:  # both have ended
        lane.result()


def test_kernels() -> None:
    """Run the kernels' tests for a generic processor, with bounds checked, and interpreted.

    The coverage tool sees a kernel's lines only when they are interpreted, and those that write LLVM IR only
    when it is compiled: hence a fresh cache, and both runs together. Code of other tiers is missing. Then
    faults are planted in the CUDA kernels: does the suite see them?
    """
    pytest = ("-m", "pytest", "--quiet", "tests/test_kernels.py", "tests/test_clahe_kernels.py")
    cover = ("-m", "coverage", "run", "--parallel-mode", *pytest)
    together = functools.partial(run, quietly=True)
    with tempfile.TemporaryDirectory() as cache:
        together(*pytest, NUMBA_CPU_NAME="generic", NUMBA_CACHE_DIR=f"{cache}/generic")
        together(*cover, NUMBA_BOUNDSCHECK="1", NUMBA_CACHE_DIR=f"{cache}/checked")
        together(*cover, NUMBA_DISABLE_JIT="1")
    together("-m", "coverage", "combine", "--quiet")
    report = ("--include=kernels/histeq_kernels/cpu/**", "--show-missing", "--fail-under=80")
    together("-m", "coverage", "report", *report)
    together("tests/mutate_cuda.py")


SLOW = [
    f"test_{name}" for name in ("benchmarks", "cuda", "cuda_clahe", "cuda_compile", "robustness", "staged")
]
COMMANDS: dict[tuple[str, ...], Callable[[], None]] = {
    ("demo",): demo,
    ("test",): functools.partial(test, quick=False),
    ("test", "--quick"): functools.partial(test, quick=True),
}

if __name__ == "__main__":
    if tuple(sys.argv[1:]) not in COMMANDS:
        sys.exit(__doc__)
    install()
    COMMANDS[tuple(sys.argv[1:])]()
