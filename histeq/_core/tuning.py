"""Thresholds that were measured on this machine: `histeq bench --calibrate --write` keeps them in a file.

Without the file, which is the rule, the built-in ones hold. It is looked for once, when a backend is
imported, and can be deleted at any time.
"""

import functools
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from histeq._core.threads import usable_cpus

FORMAT = "histeq tuning 1"
MOST = 1 << 40
"""No threshold is larger: that is more pixels than an image has."""
_MOST_BYTES = 1 << 20


def path() -> Path | None:
    """Return where the file is, or would be.

    The environment variable ``HISTEQ_TUNING`` names it; where that is empty, none is read or written.
    """
    named = os.environ.get("HISTEQ_TUNING")
    if named is not None:
        return Path(named) if named else None
    try:
        if sys.platform == "win32":
            folder = Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming")
        elif sys.platform == "darwin":
            folder = Path.home() / "Library" / "Application Support"
        else:
            folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    except RuntimeError:  # a user without a home
        return None
    return folder / "histeq" / "tuning.json"


def machine() -> str:
    """Return what the thresholds of a machine are kept under: a home folder may be that of many machines."""
    import llvmlite.binding

    return f"{llvmlite.binding.get_host_cpu_name()}, {usable_cpus()} processors"


def threshold(name: str, built_in: int) -> int:
    """Return the measured threshold of this name, or the built-in one."""
    return _measured().get(name, built_in)


@functools.cache
def _measured() -> dict[str, int]:
    """Return this machine's thresholds; warn, once, where the file is damaged."""
    where = path()
    try:
        if where is None or not where.is_file():
            return {}
        return dict(read(where).get(machine(), {}))
    except (OSError, ValueError) as error:
        warnings.warn(
            f"{where} is ignored: {error}; delete it, or make it anew by `histeq bench --calibrate --write`",
            RuntimeWarning,
            stacklevel=2,
        )
        return {}


def read(where: Path) -> dict[str, dict[str, int]]:
    """Return the thresholds of every machine in a file; ValueError if it is damaged."""
    with where.open("rb") as file:
        text = file.read(_MOST_BYTES + 1)
    if len(text) > _MOST_BYTES:
        raise ValueError("it is too large to hold thresholds")
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON ({error})") from error
    if (
        not isinstance(found, dict)
        or found.get("format") != FORMAT
        or not isinstance(found.get("machines"), dict)
    ):
        raise ValueError(f"it holds no {FORMAT!r}")
    for values in found["machines"].values():
        if not isinstance(values, dict) or not all(_is_threshold(value) for value in values.values()):
            raise ValueError(f"a threshold in it is not a whole number from 1 to {MOST}")
    machines: dict[str, dict[str, int]] = found["machines"]
    return machines


def _is_threshold(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST


def write(thresholds: dict[str, int]) -> Path:
    """Keep thresholds of this machine, beside its others and those of other machines; return where.

    Raises
    ------
    ValueError, OSError
        If ``HISTEQ_TUNING`` is empty, or the file cannot be written.
    """
    where = path()
    if where is None:
        raise ValueError(
            "there is no place for the thresholds: HISTEQ_TUNING is empty, or there is no home folder"
        )
    try:
        machines = read(where) if where.is_file() else {}
    except ValueError:  # damaged: made anew
        machines = {}
    machines[machine()] = machines.get(machine(), {}) | thresholds
    where.parent.mkdir(parents=True, exist_ok=True)
    temporary = where.with_name(f"{where.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps({"format": FORMAT, "machines": machines}, indent=1) + "\n")
        temporary.replace(where)
    finally:
        temporary.unlink(missing_ok=True)
    return where
