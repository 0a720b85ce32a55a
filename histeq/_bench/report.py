"""A result as a table to read, as Markdown, CSV or JSON."""

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any

from histeq._bench import verdict
from histeq._bench.machine import noise_in_words
from histeq._bench.result import BenchRecord, BenchResult

_HEADER = ("", "median", "quartiles", "Mpixel/s", "of memcpy", "first call", "pixels")


def table(result: BenchResult) -> str:
    """Return a table a case, each with its winner."""
    lines = [*heading(result), ""]
    for case, records in result.cases().items():
        lines += [f"{case} ({_shape(records[0])})"]
        lines += _aligned([_HEADER, *(_cells(record) for record in records)])
        lines += [f"  {verdict.winner(records)}", *_devices(records), ""]
    return "\n".join(lines + _ending(result)) + "\n"


def markdown(result: BenchResult) -> str:
    """Return one table of everything in Markdown."""
    header = ("case", "candidate", *_HEADER[1:])
    rows = [(record.case, record.name, *_cells(record)[1:]) for record in result]
    rule = ["---", "---", *["---:"] * 5, "---"]
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, rule, *rows)]
    winners = [f"- {case}: {verdict.winner(records)}" for case, records in result.cases().items()]
    ending = "\n".join(f"- {line}" for line in _ending(result))
    parts = ("  \n".join(heading(result)), "\n".join(lines), "\n".join(winners), ending)
    return "\n\n".join(part for part in parts if part) + "\n"


def comma_separated(result: BenchResult) -> str:
    """Return a line a record, with all that is known of it; times in seconds."""
    text = io.StringIO()
    names = list(BenchRecord.__dataclass_fields__)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for record in result:
        values = (getattr(record, name) for name in names)
        writer.writerow(
            [" ".join(map(repr, value)) if isinstance(value, tuple) else value for value in values]
        )
    return text.getvalue()


def as_json(result: BenchResult) -> str:
    """Return everything as JSON."""
    return result.to_json()


OUTPUTS: dict[str, Callable[[BenchResult], str]] = {
    "table": table, "md": markdown, "csv": comma_separated, "json": as_json,
}  # fmt: skip


def heading(result: BenchResult) -> list[str]:
    """Say what the figures depend on."""
    about = result.environment
    if not about:
        return []
    quota = "" if about.get("quota") is None else f", quota {about['quota']:g}"
    commit = f", commit {about['commit']}" if about.get("commit") else ""
    versions = ", ".join(f"{name} {number}" for name, number in about.get("versions", {}).items())
    settings = ", ".join(f"{name}={value}" for name, value in about.get("settings", {}).items())
    return [
        f"{about['cpu']} ({about['microarchitecture']}, tier {about['tier']}), "
        f"{about['affinity'] or about['logical_cpus']} of {about['logical_cpus']} processors{quota}, "
        f"{about['gpu'] or 'no GPU'}",
        f"histeq {about['histeq']}{commit}, Python {about['python']}, {versions}"
        f"{f'; {settings}' if settings else ''}",
        f"noise of the machine: {noise_in_words(result.noise)}",
    ]


def _ending(result: BenchResult) -> list[str]:
    lines = [f"left out: {each.what}: {each.why}" for each in result.left_out]
    lines += [f"WRONG PIXELS: {each}; please report it" for each in result.wrong]
    lines += ["interrupted: these are the times until then"] if result.interrupted else []
    if any(record.kind == "ceiling" for record in result):
        lines += [
            "of memcpy: bytes of the image, read once, and of the result, written once, in a second, beside "
            "those of memory copied in the same rounds with as many threads"
        ]
    return lines + ([result.verdict()] if result.records else [])


def _shape(record: BenchRecord) -> str:
    images = f"{record.batch} x " if record.batch else ""
    return f"{images}{record.rows} x {record.columns}"


def _cells(record: BenchRecord) -> tuple[str, ...]:
    share = "" if record.share_of_copy is None or record.kind == "ceiling" else f"{record.share_of_copy:.0%}"
    first = duration(record.first_call_seconds)
    if record.cold_start_seconds is not None:
        first += f" (cold {duration(record.cold_start_seconds)})"
    return (
        record.name,
        duration(record.seconds),
        f"{duration(record.q1)} - {duration(record.q3)}",
        f"{record.mpixels_per_second:,.0f}",
        share,
        "" if record.kind == "ceiling" else first,
        record.pixels,
    )


def _devices(records: Sequence[BenchRecord]) -> list[str]:
    """Say how the time of arrays on a device divides."""
    lines = []
    for record in records:
        if record.device_seconds is None or record.host_seconds is None:
            continue
        transfers = ""
        if record.upload_seconds is not None and record.download_seconds is not None:
            there, back = duration(record.upload_seconds), duration(record.download_seconds)
            transfers = f"; not in it: {there} there and {back} back"
        lines.append(
            f"  {record.name}: the host is free after {duration(record.host_seconds)}, the device takes "
            f"{duration(record.device_seconds)}{transfers}"
        )
    return lines


def duration(seconds: float) -> str:
    """Return a time with three digits and a unit."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 0.9995 or unit == "us":
            return (
                f"{seconds * factor:.3g} {unit}"
                if seconds * factor < 999.5
                else f"{seconds * factor:.0f} {unit}"
            )
    raise AssertionError


def _aligned(rows: Sequence[Sequence[Any]]) -> list[str]:
    """Return rows with columns of one width, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = (0, len(widths) - 1)
    lines = []
    for row in rows:
        cells = (
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append(f"  {'  '.join(cells)}".rstrip())
    return lines
