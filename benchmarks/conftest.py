"""Which runs are benchmarked, and what is recorded of the machine."""

from typing import Any

import pytest

from benchmarks import cases
from histeq._bench import machine


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("histeq")
    group.addoption("--quick", action="store_true", help="tiny images and a few rounds")
    group.addoption("--only", default="", help="the runs whose name contains this text")
    group.addoption("--threads", type=int, help="this many threads instead of both one and all")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "run" not in metafunc.fixturenames:
        return
    options = metafunc.config.option
    runs = {str(run): run for run in cases.runs(options.quick, options.threads, options.only)}
    metafunc.config.stash[_RUNS] = runs
    metafunc.parametrize("run", list(runs), indirect=True)


_RUNS = pytest.StashKey[dict[str, cases.Run]]()


@pytest.fixture
def run(request: pytest.FixtureRequest) -> cases.Run:
    """Return a run by its name: pytest-benchmark writes parameters into its JSON."""
    return request.config.stash[_RUNS][request.param]


@pytest.fixture
def seconds(request: pytest.FixtureRequest) -> float:
    """Return about how long one benchmark may take, if that is enough for the fewest rounds."""
    return 0.01 if request.config.option.quick else 0.4


def pytest_benchmark_update_machine_info(config: Any, machine_info: dict[str, Any]) -> None:
    machine_info["histeq"] = machine.describe() | {"targets": cases.targets()}


def pytest_benchmark_update_json(config: Any, benchmarks: Any, output_json: dict[str, Any]) -> None:
    for benchmark in output_json["benchmarks"]:
        benchmark["stats"].pop("data", None)  # every round's time: a megabyte that the tables do not need
