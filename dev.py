#!/usr/bin/env python3
"""The project's two commands, for a machine that has only Python >= 3.11 and pip.

    python3 dev.py demo    equalize a real photograph; write demo.png; time every backend and library on it
    python3 dev.py test    lint, types, doctests and the whole test suite
    python3 dev.py test --quick    the part of it for every day: no CUDA kernels, no new processes
    python3 dev.py test --lowest   that part with the oldest versions that the dependencies may have

All make the virtual environment .venv (--lowest: .venv-lowest) beside this file when it is not there yet, and
keep it.
"""

import concurrent.futures
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent
LOWEST = "--lowest" in sys.argv
VENV = ROOT / (".venv-lowest" if LOWEST else ".venv")
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def run(*arguments: str | Path, quietly: bool = False, **environment: str) -> None:
    """Run the virtual environment's Python; stop with its exit code when it fails.

    `quietly`: the output is kept back until the end, for commands that run side by side.
    """
    command = [str(PYTHON), *map(str, arguments)]
    shown = " ".join(["$ python", *command[1:], *(f"[{k}={v}]" for k, v in environment.items())])
    print(shown, flush=True)
    stdout, stderr = (subprocess.PIPE, subprocess.STDOUT) if quietly else (None, None)
    # Containers like to forbid bytecode: each of hundreds of processes would compile the sources anew.
    environment = {"PYTHONDONTWRITEBYTECODE": "", **environment}
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

    Nothing is done when neither pyproject.toml nor the version has changed since the last installation.
    """
    stamp = VENV / "installed"
    wanted = hashlib.sha256(
        f"{sys.version}{ROOT}".encode()
        + (ROOT / "pyproject.toml").read_bytes()
        + (ROOT / "histeq" / "__init__.py").read_bytes()  # the version
    ).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    venv.create(VENV, clear=True)  # pip comes from outside: Debian's Python has no ensurepip
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", str(PYTHON), "install"]
    subprocess.run([*pip, "pip>=25.1"], check=True)  # the first that knows --group
    constraints = VENV / "constraints.txt"
    constraints.write_text("\n".join(lowest_versions()) if LOWEST else "")
    run("-m", "pip", "install", "--quiet", "--no-compile", "--editable", ".[all]" if LOWEST else ".[cli]",
        "--group", "test", "--constraint", constraints)  # fmt: skip
    # pip would compile to bytecode on one core, and all tests of the packages. Some have files that are not
    # for this Python.
    bytecode = ("-W", "ignore", "-m", "compileall", "-qq", "-j", "0", "-x", r"[/\\]tests[/\\]")
    subprocess.run([PYTHON, *bytecode, VENV], check=False)
    stamp.write_text(wanted)


def lowest_versions() -> list[str]:
    """Return pip's constraints by which each dependency has the lowest version that pyproject.toml allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = sum(project["optional-dependencies"].values(), project["dependencies"])
    return [re.sub(r"(\[.*\])?>=", "==", requirement) for requirement in wanted if ">=" in requirement]


def demo() -> None:
    """Show the main job on a photograph that scikit-image brings along."""
    where = "import skimage, pathlib; print(pathlib.Path(skimage.__file__).parent / 'data' / 'moon.png')"
    photograph = subprocess.check_output([str(PYTHON), "-c", where], text=True).strip()
    run("-m", "histeq", "plot", photograph, ROOT / "demo.png", "--overwrite")
    run("-m", "histeq", "bench", photograph, "--ops", "equalize,clahe", "--seconds", "10")


# The tests of the CUDA kernels, which are executed on the CPU, those of files, and those of processes.
CUDA = "cupy or test_cuda or test_streaming"
FILES = (
    "file or cli or tiff or zarr or npy or valid or gdal or metadata or reasons or dicom or replacing "
    "or passes or video"
)
PROCESSES = "test_benchmarks or test_robustness or test_file_faults"
KERNELS = ("-m", "pytest", "--quiet", "tests/test_kernels.py", "tests/test_clahe_kernels.py")


def test() -> None:
    """Run every check that a change must pass, the longest first.

    The tests of files find the kernels that they call on the disk: the first tests have compiled them.
    """
    check_style()
    with tempfile.TemporaryDirectory() as caches:
        side_by_side(
            partial(run, "-m", "pytest", "-k", f"not ({CUDA} or {FILES})", quietly=True),
            partial(run, "-m", "pytest", "-k", CUDA, quietly=True),
            partial(test_kernels, KERNELS, f"{caches}/checked", NUMBA_BOUNDSCHECK="1", NUMBA_OPT="1"),
            partial(run, "-m", "pytest", "-k", f"({FILES}) and not ({CUDA})", quietly=True),
            partial(test_kernels, KERNELS[:-1], f"{caches}/generic", NUMBA_CPU_NAME="generic"),
            partial(run, "tests/mutate_cuda.py", "--third", quietly=True),
            cover_kernels,
            build_docs,
            check_types,
        )


def test_quick() -> None:
    """Run the checks of every day: without CUDA kernels and without tests that start processes."""
    check_style()
    side_by_side(partial(run, "-m", "pytest", "-q", "-k", f"not ({CUDA} or {PROCESSES})"), check_types)


def test_lowest() -> None:
    """Run the tests of every day with the oldest dependencies, parts of which are deprecated by now."""
    # A class by its name must be a builtin one here: what derives from these is ignored, too.
    ignored = ("-W", "ignore::DeprecationWarning", "-W", "ignore::PendingDeprecationWarning")
    run("-m", "pytest", "-q", *ignored, "-k", f"not ({CUDA} or {PROCESSES})", "tests", "histeq")


def side_by_side(*checks: Callable[[], None]) -> None:
    """Run three checks at a time; stop with a failed one's exit code when all have ended.

    Two cores are meant to be busy, and each check waits now and then: for a disk, a process, a pause.
    """
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        started = [pool.submit(check) for check in checks]
    for check in started:
        check.result()


def check_style() -> None:
    """Check lint and format."""
    run("-m", "ruff", "check", ".")
    run("-m", "ruff", "format", "--check", ".")


def check_types() -> None:
    """Check types."""
    run("-m", "mypy", quietly=True)


def build_docs() -> None:
    """Build the documentation, whose notebooks are executed; a warning is an error."""
    run("-m", "sphinx", "-W", "--keep-going", "--quiet", "docs", "docs/_build/html", quietly=True)


def test_kernels(command: tuple[str, ...], cache: str, **environment: str) -> None:
    """Run tests of the kernels, compiled anew in another way."""
    run(*command, quietly=True, NUMBA_CACHE_DIR=cache, **environment)


def cover_kernels() -> None:
    """Run the kernels' tests interpreted, which is what shows their lines to the coverage tool."""
    run("-m", "coverage", "run", *KERNELS, quietly=True, NUMBA_DISABLE_JIT="1")
    report = ("--include=kernels/histeq_kernels/cpu/**", "--show-missing", "--fail-under=85")
    run("-m", "coverage", "report", *report, quietly=True)


COMMANDS: dict[tuple[str, ...], Callable[[], None]] = {
    ("demo",): demo,
    ("test",): test,
    ("test", "--quick"): test_quick,
    ("test", "--lowest"): test_lowest,
}

if __name__ == "__main__":
    if tuple(sys.argv[1:]) not in COMMANDS:
        sys.exit(__doc__)
    install()
    COMMANDS[tuple(sys.argv[1:])]()
