"""The command `histeq`, also `python -m histeq`."""

import signal
import sys


def main() -> None:
    """Run the command line, or say what it lacks."""
    # A terminated run leaves as an interrupted one does: through the clean-up of half-written files.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # Numba loads SciPy, where it is installed, for linear algebra that no kernel has: that takes a while.
    sys.modules["scipy"] = None  # type: ignore[assignment]
    try:
        from histeq._cli import cli
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.exit('histeq: error: the command line needs click: pip install "histeq[cli]"')
    cli(prog_name="histeq")


if __name__ == "__main__":
    main()
