"""A picture of what equalizing does to a video: frames, histograms over time, cuts and flicker.

Memory does not grow with the video: of long ones neighbouring columns are averaged, and fewer frames shown.
"""

import warnings
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histeq._api.flicker import change
from histeq._api.histogram import histogram

_FRAMES = 4  # shown
_WIDTH = 480  # of a shown frame, in pixels
_LEVELS = 64  # rows of a histogram over time
_COLUMNS = 2048  # at most
_SAMPLES = 320  # rows or columns of a frame that flicker is measured on, about
_BEFORE, _AFTER, _ALONE, _CUT = "#5b6770", "#c8501e", "#a9b4bb", "#1f77b4"


class Series:
    """Values over time, one of each frame; where they are many, each entry averages several frames."""

    def __init__(self) -> None:
        self.step = 1
        self._entries: list[NDArray[Any]] = []
        self._part: list[NDArray[Any]] = []

    def add(self, value: NDArray[Any]) -> None:
        """Add the next frame's value."""
        self._part.append(value)
        if len(self._part) == self.step:
            self._entries.append(_mean(self._part))
            self._part = []
        if len(self._entries) == _COLUMNS:
            self._entries = [_mean(self._entries[i : i + 2]) for i in range(0, _COLUMNS, 2)]
            self.step *= 2

    def array(self) -> NDArray[Any]:
        """Return all entries, time along the first axis."""
        rest = [_mean(self._part)] if self._part else []
        return np.array([*self._entries, *rest])


def _mean(values: list[NDArray[Any]]) -> NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of NaN only: no still pixel
        return np.asarray(np.nanmean(np.array(values, np.float32), axis=0))


class Preview:
    """Watches a run, and draws what it saw."""

    def __init__(self) -> None:
        self._histograms = Series(), Series()
        self._flicker = Series()
        self._shown: list[tuple[int, NDArray[np.uint8], NDArray[np.uint8]]] = []
        self._every = 1
        self._count = 0
        self._pending: deque[tuple[NDArray[np.uint8] | None, NDArray[Any], NDArray[Any]]] = deque()
        self._last: tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None = None
        self._arguments: dict[str, Any] = {}
        self.cuts: tuple[int, ...] = ()

    def begin(self, make: Callable[..., Any], arguments: dict[str, Any]) -> None:
        """Prepare for frames of which `arguments` tells; `make` makes equalizers."""
        self._arguments = arguments
        self._alone = make(**arguments, window=1, centered=False, cuts=False)
        self._read = 0

    def before(self, frame: Any) -> None:
        """Take notice of a frame that was decoded."""
        array = frame.array
        sample = _sample(array)
        alone = _sample(self._alone(array))
        self._histograms[0].add(self._rows(array))
        picture = _thumbnail(frame) if self._read % self._every == 0 else None
        self._pending.append((picture, sample, alone))
        self._read += 1

    def after(self, frame: Any) -> None:
        """Take notice of the same frame, equalized."""
        picture, sample, alone = self._pending.popleft()
        self._histograms[1].add(self._rows(frame.array))
        mapped = _sample(frame.array)
        self._flicker.add(self._changes(sample, alone, mapped))
        if picture is not None and self._count % self._every == 0:
            self._show(picture, _thumbnail(frame))
        self._last = sample, alone, mapped
        self._count += 1

    def _changes(
        self, sample: NDArray[Any], alone: NDArray[Any], mapped: NDArray[Any]
    ) -> NDArray[np.float64]:
        """Return by how much still pixels changed: in the input, frame by frame, and as they are."""
        if self._last is None:
            return np.full(3, np.nan)
        still = self._still(sample)
        old, old_alone, old_mapped = self._last
        pairs = ((old, sample), (old_alone, alone), (old_mapped, mapped))
        return np.array([change((old, before), (sample, after), still)[0] for before, after in pairs])

    def _still(self, sample: NDArray[Any]) -> int:
        low, high = self._limits(sample)
        return max(1, round((high - low) / 255))

    def _limits(self, array: NDArray[Any]) -> tuple[float, float]:
        given = self._arguments.get("value_range")
        if given is not None:
            return given
        info = np.iinfo(array.dtype) if array.dtype.kind in "iu" else None
        return (info.min, info.max) if info else (0.0, 1.0)

    def _rows(self, array: NDArray[Any]) -> NDArray[np.float32]:
        """Return the shares of a frame's pixels in `_LEVELS` rows of levels."""
        options = {name: value for name, value in self._arguments.items() if name != "value_range"}
        counts = histogram(array, **options, value_range=self._limits(array)).reshape(-1)
        edges = np.linspace(0, counts.size, _LEVELS + 1).astype(np.int64)[:-1]
        rows = np.add.reduceat(counts, edges)
        return np.asarray(rows / max(1, rows.sum()), np.float32)

    def _show(self, before: NDArray[np.uint8], after: NDArray[np.uint8]) -> None:
        """Keep a frame; of twice as many as are shown every second one goes."""
        self._shown.append((self._count, before, after))
        if len(self._shown) == 2 * _FRAMES:
            self._shown = self._shown[::2]
            self._every *= 2

    def draw(self, path: Path, title: str, rate: float) -> None:
        """Draw the picture; the suffix determines its format: .png, .svg or .pdf."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        picks = np.unique(np.linspace(0, len(self._shown) - 1, _FRAMES).round().astype(int))
        shown = [self._shown[i] for i in picks]
        ratio = shown[0][1].shape[0] / shown[0][1].shape[1]
        tall = min(2.85 * ratio, 3.4)
        figure = Figure(figsize=(12, 2 * tall + 6.6), layout="constrained")
        FigureCanvasAgg(figure)
        heights = [tall, tall, 1.75, 1.75, 1.75]
        grid = figure.add_gridspec(5, len(shown), height_ratios=heights)
        for column, (number, *pictures) in enumerate(shown):
            for row, picture in enumerate(pictures):
                axes = figure.add_subplot(grid[row, column])
                axes.imshow(picture)
                axes.set_xticks([]), axes.set_yticks([])
                if row == 0:
                    axes.set_title(f"frame {number}, {_clock(number / rate)}", fontsize=9)
                if column == 0:
                    axes.set_ylabel("equalized" if row else "input", fontsize=10)
        lanes = [figure.add_subplot(grid[row, :]) for row in (2, 3, 4)]
        seconds = self._count / rate
        for axes, series, name in zip(lanes, self._histograms, ("input", "equalized"), strict=False):
            self._draw_histogram(axes, series, name, seconds)
        self._draw_flicker(lanes[2], rate, seconds)
        for axes in lanes:
            for cut in self.cuts:
                axes.axvline(cut / rate, color=_CUT, linewidth=1.4)
        many = f", {len(self.cuts)} cut{'s' * (len(self.cuts) > 1)} (blue)" if self.cuts else ", no cut"
        name = title if len(title) <= 80 else f"{title[:38]}…{title[-38:]}"
        figure.suptitle(f"{name}\n{self._count} frames{many}", fontsize=11, parse_math=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the font may lack characters of a file name
            figure.savefig(path, dpi=120)

    def _draw_histogram(self, axes: Any, series: Series, name: str, seconds: float) -> None:
        values = series.array().T
        top = float(np.percentile(values, 99.5)) or 1.0
        low, high = self._arguments.get("value_range") or (0, 1)
        axes.imshow(
            np.sqrt(values), aspect="auto", origin="lower", cmap="magma", vmin=0, vmax=top**0.5,
            extent=(0, seconds, low, high), interpolation="nearest",
        )  # fmt: skip
        axes.set_ylabel(f"level, {name}", fontsize=9)
        axes.tick_params(labelsize=8, labelbottom=False)

    def _draw_flicker(self, axes: Any, rate: float, seconds: float) -> None:
        curves = self._flicker.array()
        cut = np.array([min(c // self._flicker.step, len(curves) - 1) for c in self.cuts], int)
        if self._flicker.step == 1 and cut.size:
            curves[cut] = np.nan
        times = (np.arange(len(curves)) + 0.5) * self._flicker.step / rate
        names = ("input", "each frame alone", "equalized")
        for index in (1, 0, 2):
            color, width = (_BEFORE, _ALONE, _AFTER)[index], (1.0, 1.0, 1.6)[index]
            known = curves[:, index][~np.isnan(curves[:, index])]
            mean = f"{known.mean():.2f}" if known.size else "none"
            axes.plot(
                times, curves[:, index], color=color, linewidth=width, label=f"{names[index]} (mean {mean})"
            )
        axes.set(xlim=(0, seconds), xlabel="seconds")
        axes.set_ylim(bottom=0)
        axes.set_ylabel("flicker, levels", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.legend(
            fontsize=8, ncols=3, frameon=False, loc="lower left", bbox_to_anchor=(0, 0.97), borderpad=0
        )
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{seconds % 60:04.1f}"


def _sample(array: NDArray[Any]) -> NDArray[Any]:
    """Return a copy of some of a frame's pixels."""
    step = max(1, min(array.shape[:2]) // _SAMPLES)
    return array[::step, ::step].copy()  # the frame is mapped in place


def _thumbnail(frame: Any) -> NDArray[np.uint8]:
    """Return a frame as it is shown, small."""
    return np.asarray(frame.thumbnail(_WIDTH))
