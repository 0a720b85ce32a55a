"""From the JSON of a run to the tables in benchmarks/results."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import cases

Record = dict[str, Any]


def from_json(path: Path) -> str:
    """Return the tables in Markdown."""
    run = json.loads(path.read_text())
    records = [b["extra_info"] for b in run["benchmarks"] if "ratio" in b["extra_info"]]
    aimed = [r for r in records if r["target"] and r["content"] == "natural"]
    contents = [r for r in records if r["content"] != "natural"]
    others = [r for r in records if r["content"] == "natural" and not r["target"]]
    parts = [
        heading(run),
        section("Targets, on natural images", against_targets(aimed), aimed),
        section("How many times faster on other contents", ratios(contents, "content"), contents),
        section("How many times faster than others, on natural images", ratios(others), others),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def heading(run: dict[str, Any]) -> str:
    """Say what the figures depend on."""
    here, commit = run["machine_info"]["histeq"], run["commit_info"]
    name = run["machine_info"]["cpu"].get("brand_raw", "unknown processor")
    state = commit["id"][:9] + (" with changes" if commit["dirty"] else "") if commit.get("id") else "unknown"
    versions = ", ".join(f"{library} {number}" for library, number in here["versions"].items())
    return (
        f"{name} ({', '.join([here['microarchitecture'], *here['features']])}; "
        f"tier {here['tier']}, targets of {here['targets']}), "
        f"{cases.count(here['threads'])}, Python {run['machine_info']['python_version']}, "
        f"histeq {here['histeq']}, {versions}; "
        f"commit {state}, {run['datetime'][:10]}. Both sides have the same number of threads and, checked "
        "before timing, the same result; ratios are medians over rounds in which the two take turns."
    )


def section(title: str, table: str, records: list[Record]) -> str:
    return f"**{title}**\n\n{table}" if records else ""


def against_targets(records: Iterable[Record]) -> str:
    """Return a table with a line for each record."""
    header = ["function", "against", "threads", "size", "its Mpixel/s", "histeq Mpixel/s",
              "of memcpy", "ratio", "target", "met"]  # fmt: skip
    lines = [
        [
            r["case"],
            r["implementation"],
            r["threads"],
            r["size"],
            f"{r['mpixels_per_second']:,.0f}",
            f"{r['histeq_mpixels_per_second']:,.0f}",
            f"{r['histeq_fraction_of_memcpy']:.0%}",
            times(r["ratio"]),
            f"{r['target']:g}x",
            "yes" if met(r) else "no",
        ]
        for r in records
    ]
    return markdown(header, lines, left=2)


def ratios(records: Iterable[Record], *more: str) -> str:
    """Return a table with a line for each comparison and a column for each size."""
    keys = ("case", "implementation", *more, "threads")
    grid: dict[tuple[Any, ...], dict[str, str]] = {}  # line: size: cell
    for r in records:
        line = tuple(r[key] for key in keys)
        missed = "" if met(r) else f" (target {r['target']:g}x)"
        grid.setdefault(line, {})[r["size"]] = times(r["ratio"]) + missed
    sizes = [size for size in cases.EVERY if any(size in cells for cells in grid.values())]
    lines = [[*line, *(cells.get(size, "") for size in sizes)] for line, cells in grid.items()]
    return markdown(["function", "against", *more, "threads", *sizes], lines, left=2 + len(more))


def met(record: Record) -> bool:
    return not record["target"] or bool(record["ratio"] >= record["target"])


def times(ratio: float) -> str:
    return f"{ratio:.0f}x" if ratio >= 100 else f"{ratio:.3g}x" if ratio >= 10 else f"{ratio:.2f}x"


def markdown(header: list[str], lines: list[list[Any]], left: int) -> str:
    """Return a table whose first `left` columns are text and the others numbers."""
    rule = ["---"] * left + ["---:"] * (len(header) - left)
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in [header, rule, *lines])
