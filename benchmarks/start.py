"""How long a new process takes to its first result: python -m benchmarks.start.

Once with an empty cache of machine code, as after installing, and then with a full one. Each figure is the
least of a few processes, because anything else that the machine does only adds to it; NumPy's and Numba's own
imports are given beside it.
"""

import os
import subprocess
import sys
import tempfile

CALLS = {
    "grey": "histeq.equalize(np.zeros((1080, 1920), np.uint8))",
    "RGB, luma": "histeq.equalize(np.zeros((1080, 1920, 3), np.uint8), layout='HWC')",
    "CLAHE": "histeq.clahe(np.zeros((1080, 1920), np.uint8))",
    "float32": "histeq.equalize(np.zeros((1080, 1920), np.float32))",
}
_FIRST, _LATER = 2, 7


def main() -> None:
    imports = {name: least(_LATER, f"import {name}", None) for name in ("numpy", "numba")}
    print(", ".join(f"import {name}: {seconds:.2f} s" for name, seconds in imports.items()))
    print("\n| first call | empty cache | full cache |\n| --- | ---: | ---: |")
    for name, call in CALLS.items():
        code = f"import numpy as np, histeq; {call}"
        with tempfile.TemporaryDirectory() as cache:
            least(1, code, cache)
            later = least(_LATER, code, cache)
        print(f"| {name} | {least(_FIRST, code, None):.2f} s | {later:.2f} s |", flush=True)


def least(count: int, code: str, cache: str | None) -> float:
    """Return the least number of seconds of some processes, each with an empty cache where none is given."""
    return min(_seconds(code, cache) for _ in range(count))


def _seconds(code: str, cache: str | None) -> float:
    with tempfile.TemporaryDirectory() as empty:
        timed = f"import time; start = time.perf_counter(); {code}; print(time.perf_counter() - start)"
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache or empty}
        command = [sys.executable, "-c", timed]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


if __name__ == "__main__":
    main()
