"""The benchmarks work: every case is run on tiny images. Their times mean nothing here."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from histeq_kernels.cpu import tiers

ROOT = Path(__file__).resolve().parents[1]


def benchmarks(*arguments, **settings):
    """Run python -m benchmarks as a user would, without the settings of a test run."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HISTEQ_", "NUMBA_", "PYTEST_"))}
    environment |= settings
    command = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Return the JSON file and the output of a quick run of everything."""
    path = tmp_path_factory.mktemp("benchmarks") / "new" / "quick.json"
    result = benchmarks("--quick", "--json", path)
    assert result.returncode == 0, result.stdout + result.stderr
    return path, result.stdout


def test_json(quick):
    run = json.loads(quick[0].read_text())
    assert run["machine_info"]["histeq"]["versions"]["numpy"]
    records = [benchmark["extra_info"] for benchmark in run["benchmarks"]]
    assert {r["implementation"] for r in records} == {
        "histeq", "histeq (numpy)", "OpenCV", "NumPy", "Pillow", "scikit-image", "libvips",
    }  # fmt: skip
    assert {r["content"] for r in records} == {"natural", "constant", "two-valued", "noise", "12-bit"}
    assert {r["size"] for r in records} == {"32x32", "64", "256"}
    for record in records:
        assert record["mpixels_per_second"] > 0
        assert record["bytes_per_second"] > 0
        assert record["fraction_of_memcpy"] > 0
        assert (record["implementation"] == "histeq") == ("ratio" not in record)


def test_table(quick):
    path, printed = quick
    tables = benchmarks("table", path).stdout
    assert printed.endswith(tables)
    (line,) = (s for s in tables.splitlines() if s.startswith("| equalize uint8 | OpenCV | 1 | 256 |"))
    assert line.count("|") == 11
    assert line.endswith(("| yes |", "| no |"))


@pytest.mark.exhaustive
def test_results_of_another_tier(tmp_path):
    """Each result is compared with the peer's before it is timed."""
    tier = tiers.available()[0]  # the best one has run in `quick`
    path = tmp_path / "tier.json"
    result = benchmarks(
        "--quick", "--threads=1", "--only", "equalize uint8", "--json", path, HISTEQ_CPU_TIER=tier
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"; tier {tier}," in result.stdout


def test_first_minutes_on_a_gpu(tmp_path):
    """The script runs from end to end without one, on tiny images: every result is right, and recorded."""
    command = [sys.executable, "-m", "benchmarks.gpu", str(tmp_path / "new"), "--quick", "--stand-in"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    summary = json.loads((tmp_path / "new" / "summary.json").read_text())
    outcomes = {name: step["outcome"] for name, step in summary["steps"].items()}
    assert outcomes["smoke"] == outcomes["benchmark"] == "passed"
    assert outcomes["memcheck"].startswith("left out")
    assert "every result is the NumPy backend's" in (tmp_path / "new" / "smoke.txt").read_text()
    lines = (tmp_path / "new" / "benchmark.jsonl").read_text().splitlines()
    machine, *records = map(json.loads, lines)
    assert machine["machine"]["gpu"] == "no GPU: kernels on the CPU"
    timed = [record for record in records if "graph_seconds" in record]
    operations = {record["case"]["operation"] for record in timed}
    assert operations == {"equalize", "histogram", "apply", "clahe", "luma"}
    assert {"uint8", "uint16", "float32"} == {record["case"]["dtype"] for record in timed}
    for record in timed:
        assert record["eager_seconds"] > 0
        assert record["host_seconds"] > 0
        assert all(peer.keys() & {"eager_seconds", "left_out", "failed"} for peer in record["peers"].values())
    peers = timed[0]["peers"]
    assert peers["CV-CUDA"]["left_out"].startswith("not installed")
    assert "has no attribute 'bincount'" in peers["naive CuPy"]["failed"]  # the stand-in's fault, and told


def test_nothing_selected(tmp_path):
    result = benchmarks("--quick", "--only", "nonsense", "--json", tmp_path / "none.json")
    assert result.returncode != 0
    assert "no benchmark's name contains 'nonsense'" in result.stdout + result.stderr


def test_host_cost(capsys):
    """On the stand-in, whose kernels do nothing here."""
    importlib.import_module("benchmarks.host_cost").main(["--seconds", "0.0001"])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 14
    assert all(float(cell) > 0 for row in rows[2:] for cell in row.split("|")[2:4])
