"""Throughput by size and candidate, with copied memory as the ceiling."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from histeq._bench.result import BenchRecord, BenchResult

_STYLES = {
    "numba": ("#0072b2", "o"), "numpy": ("#56b4e9", "s"), "cupy": ("#009e73", "^"),
    "cupy-device": ("#009e73", "v"), "opencv": ("#d55e00", "D"), "pillow": ("#cc79a7", "P"),
    "skimage": ("#8c6d1f", "X"), "vips": ("#e69f00", "<"), "recipe": ("#7f7f7f", ">"),
    "torchvision": ("#aa4499", "h"), "kornia": ("#882255", "p"), "cvcuda": ("#117733", "d"),
    "cucim": ("#999933", "*"),
}  # fmt: skip
"""Colour (most of Okabe and Ito's, which the colour-blind tell apart) and marker (for grey print) of each."""
_WIDTH, _HEIGHT = 5.6, 4.2


def draw(result: BenchResult, path: Path, dpi: int = 110) -> None:
    """Draw a panel for each operation and kind of image.

    A marker is the median of a candidate, its bar the quartiles; hollow markers and dashed lines have one
    thread.

    Raises
    ------
    ValueError
        If there is nothing to draw.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels: dict[str, list[BenchRecord]] = {}
    for record in result:
        color = f", RGB {record.color}" if "C" in record.layout else ""
        title = f"{record.op}, {record.dtype}{color}, {record.content}"
        panels.setdefault(title, []).append(record)
    if not panels:
        raise ValueError("there are no records to draw")
    columns = min(len(panels), 2)
    lines = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(_WIDTH * columns, _HEIGHT * lines + 1.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(lines, columns, squeeze=False)
    known: dict[str, Any] = {}
    for axis, (title, records) in zip(axes.flat, panels.items(), strict=False):
        known |= _panel(axis, title, records)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    about = result.environment
    figure.suptitle(
        f"{about.get('cpu', '')}, tier {about.get('tier', '')}, {about.get('threads', '?')} threads",
        fontsize=11,
    )
    order = sorted(known, key=lambda name: (name.startswith("memcpy"), list(known).index(name)))
    figure.legend(
        [known[n] for n in order],
        order,
        loc="outside lower center",
        ncols=5 if columns > 1 else 3,
        fontsize=8,
        frameon=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the font may lack characters of a file's name
        figure.savefig(path, dpi=dpi)


def _panel(axis: Any, title: str, records: Sequence[BenchRecord]) -> dict[str, Any]:
    """Draw one operation; return the lines by their name."""
    sizes = sorted({(_pixels(r), _label(r)) for r in records})
    places = {size: place for place, size in enumerate(sizes)}
    names = sorted({(r.kind == "ceiling", r.candidate, -r.threads) for r in records})
    drawn = {}
    for place, (ceiling, candidate, negative) in enumerate(names):
        threads = -negative
        found = sorted((r for r in records if (r.candidate, r.threads) == (candidate, threads)), key=_pixels)
        shift = 0.0 if ceiling else (place / max(1, len(names) - 1) - 0.5) * 0.36
        x = [places[_pixels(r), _label(r)] + shift for r in found]
        y = [r.mpixels_per_second for r in found]
        name = found[0].name
        if ceiling:
            (drawn[name],) = axis.plot(
                x, y, color="#333333", linestyle=":" if threads == 1 else "-.", linewidth=1.4
            )
            axis.fill_between(x, [y * r.seconds / r.q3 for y, r in zip(y, found, strict=True)],
                              [y * r.seconds / r.q1 for y, r in zip(y, found, strict=True)],
                              color="#333333", alpha=0.12, linewidth=0)  # fmt: skip
            continue
        colour, marker = _STYLES.get(candidate, ("#000000", "."))
        errors = [[y * (1 - r.seconds / r.q3) for y, r in zip(y, found, strict=True)],
                  [y * (r.seconds / r.q1 - 1) for y, r in zip(y, found, strict=True)]]  # fmt: skip
        drawn[name] = axis.errorbar(
            x, y, yerr=errors, color=colour, marker=marker, markersize=6, capsize=3, linewidth=1.3,
            linestyle="--" if threads == 1 else "-", markerfacecolor="white" if threads == 1 else colour,
        )  # fmt: skip
    axis.set(yscale="log", ylabel="Mpixel/s", xlim=(-0.5, len(sizes) - 0.5))
    axis.set_title(title, fontsize=10, parse_math=False)
    axis.set_xticks(range(len(sizes)), [label for _, label in sizes])
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    return drawn


def _pixels(record: BenchRecord) -> int:
    return max(1, record.batch) * record.rows * record.columns


def _label(record: BenchRecord) -> str:
    return f"{record.batch} x {record.size}" if record.batch else record.size
