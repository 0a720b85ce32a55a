"""The command `histeq backends`."""

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

import histeq
from histeq import _files
from histeq._cli import options
from histeq._cli.pixels import equalized
from histeq._cli.report import Failure, one_line, print_json
from histeq._files import Picture

_BUDGET = 1.0  # seconds for timing a backend


@click.command()
@click.argument("image", metavar="[IMAGE]", type=options.PATH, required=False)
@options.color("luma", "equalize")
@options.max_pixels
@options.as_json
def backends(image: Path | None, color: str, max_pixels: int, as_json: bool) -> None:
    """List the backends; with IMAGE, time each of them on it and compare their results."""
    with one_line(image):
        rows = [dataclasses.asdict(backend) for backend in histeq.backends()]
        if image is not None:
            picture = _files.read(image, max_pixels=max_pixels)
            _time_all(rows, picture, color)
    if as_json:
        print_json(rows)
    else:
        click.echo(_table(rows))
        if image is not None:
            click.echo(_verdict(rows, image, picture))
    if any(row.get("identical") is False for row in rows):
        raise Failure("the backends disagree; please report it with the image")


def _time_all(rows: list[dict[str, Any]], picture: Picture, color: str) -> None:
    """Add each available backend's best time to its row, and whether its result equals the first one's."""
    expected: Picture | None = None
    timed = [row for row in rows if row["available"]]
    for row in timed:
        run = functools.partial(equalized, picture, color=color, backend=row["name"])
        result = run()  # also loads, compiles and warms up
        row["milliseconds"] = _best_time(run) * 1e3
        row["megapixels_per_second"] = np.prod(picture.batch.shape[:3]).item() / row["milliseconds"] / 1e3
        expected = expected or result
        equal_nan = result.pixels.dtype.kind == "f"
        row["identical"] = np.array_equal(result.pixels, expected.pixels, equal_nan=equal_nan)
    for row in timed:
        row["fastest"] = row["milliseconds"] == min(other["milliseconds"] for other in timed)


def _best_time(run: Callable[[], Any]) -> float:
    """Return the shortest time of 3 to 20 runs, in seconds."""
    times: list[float] = []
    while len(times) < 3 or (len(times) < 20 and sum(times) < _BUDGET):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [("backend", "available", "ms", "Mpixel/s", "device")]
    for row in rows:
        available = "yes" if row["available"] else "no"
        timed = "milliseconds" in row
        milliseconds = f"{row['milliseconds']:.2f}" if timed else ""
        speed = f"{row['megapixels_per_second']:.0f}" if timed else ""
        device = (row["device"] or row["reason"]) + ("  <- fastest" if row.get("fastest") else "")
        lines.append((row["name"], available, milliseconds, speed, device))
    columns = []
    for column in zip(*lines, strict=True):
        if not any(column[1:]):  # nothing was timed
            continue
        width = max(map(len, column))
        right = column[0] in ("ms", "Mpixel/s")
        columns.append([cell.rjust(width) if right else cell.ljust(width) for cell in column])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def _verdict(rows: list[dict[str, Any]], image: Path, picture: Picture) -> str:
    names = [row["name"] for row in rows if "identical" in row]
    _, height, width, _ = picture.batch.shape
    what = f"{click.format_filename(image)}: {width} x {height} {picture.pixels.dtype}"
    if not all(row.get("identical", True) for row in rows):
        return f"\n{what}; the results DIFFER"
    return f"\n{what}; best of several runs" + (
        f"; results identical: {', '.join(names)}" if len(names) > 1 else ""
    )
