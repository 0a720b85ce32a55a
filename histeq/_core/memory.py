"""How much memory can be had."""

from contextlib import suppress
from pathlib import Path


def available_memory(unsaid: int) -> int:
    """Return the bytes that are free, within the limits of the process's container.

    Parameters
    ----------
    unsaid : int
        What counts as free where the system does not say.
    """
    free = [unsaid]
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = [int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) << 10]
    with suppress(OSError, ValueError):
        limit, used = (Path("/sys/fs/cgroup", f"memory.{name}").read_text() for name in ("max", "current"))
        free.append(int(limit) - int(used))  # "max" is no number: no limit
    return min(free)
