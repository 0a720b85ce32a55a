"""The command `histeq`, also `python -m histeq`."""

import sys

from histeq._core import stop

_NEEDLESS = ("scipy", "coverage", "cffi")
"""What Numba loads where it is installed, and what takes a while: for linear algebra, for reports of compiled
lines and for functions in C, none of which a kernel has. What is loaded already (coverage that measures this
program) stays."""


def main() -> None:
    """Run the command line, or say what it lacks."""
    stop.listen()
    for name in _NEEDLESS:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    try:
        from histeq._cli import cli
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.exit('histeq: error: the command line needs click: pip install "histeq[cli]"')
    try:
        cli(prog_name="histeq")
    except SystemExit:
        stop.check()  # where its exception was lost, the run ended as if it were complete
        raise


if __name__ == "__main__":
    main()
