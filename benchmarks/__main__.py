"""One command for the benchmarks: python -m benchmarks --help."""

import argparse
import sys
from pathlib import Path

import pytest

from benchmarks import __doc__ as description
from benchmarks import cases, table

_HERE = Path(__file__).parent


def main() -> int:
    arguments = parser().parse_args()
    if arguments.command == "table":
        return show(arguments.file)
    if arguments.threads is not None and arguments.threads < 1:
        sys.exit(f"--threads must be at least 1, got {arguments.threads}")
    if not any(cases.runs(arguments.quick, arguments.threads, arguments.only)):
        sys.exit(f"no benchmark's name contains {arguments.only!r}")
    code = run(arguments)
    if code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and arguments.json.exists():
        show(arguments.json)
    return code


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        "python -m benchmarks", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--quick", action="store_true", help="tiny images and a few rounds")
    result.add_argument("--only", metavar="TEXT", default="", help="the runs whose name contains TEXT")
    result.add_argument("--threads", metavar="N", type=int, help="N threads instead of both one and all")
    result.add_argument("--json", metavar="FILE", type=Path, default=Path(".benchmarks", "latest.json"))
    earlier = result.add_subparsers(dest="command").add_parser("table", help="show an earlier run")
    earlier.add_argument("file", metavar="FILE.json", type=Path)
    return result


def run(arguments: argparse.Namespace) -> int:
    """Run the benchmarks and write their JSON."""
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.unlink(missing_ok=True)
    options = ["--quick"] if arguments.quick else []
    options += [f"--threads={arguments.threads}"] if arguments.threads is not None else []
    options += [f"--only={arguments.only}", f"--benchmark-json={arguments.json}"]
    options += ["--benchmark-only", "--benchmark-quiet", "-q", "-p", "no:cacheprovider"]
    # The project turns warnings into errors, but these only accompany a benchmark that failed.
    options += ["-W", "default::pytest_benchmark.logger.PytestBenchmarkWarning"]
    return pytest.main([str(_HERE / "bench_peers.py"), *options])


def show(file: Path) -> int:
    """Print the tables of a run."""
    print(table.from_json(file), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
