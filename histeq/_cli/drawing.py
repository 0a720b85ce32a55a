"""A plot of images side by side, each above its histogram and its cumulative curve."""

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from histeq import _files
from histeq._cli.report import one_line

_DISPLAY = 1600  # pixels per side passed to matplotlib, which averages them down to the panel's size
_BARS = 256
_COLUMN = 5.5  # width of a column, in inches
_PANEL = 4.55  # width of the panel in it, in inches, without the labels
_GREY, _CURVE = "#5b6770", "#c8501e"
_CHANNELS = ("#d62728", "#2ca02c", "#1f77b4", "#7f7f7f")


def check_name(path: Path) -> None:
    """Raise an error unless a file's name is one of those that matplotlib draws into."""
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise click.UsageError(f"{path}: the name must end in .png, .svg or .pdf")


def check_output(path: Path, overwrite: bool) -> None:
    """Raise an error unless a drawing can have this name and may be written there."""
    check_name(path)
    if not overwrite:
        with one_line():
            _files.check_absent(path)


@dataclasses.dataclass(frozen=True, slots=True)
class Panel:
    """One column of the plot."""

    title: str
    pixels: NDArray[Any]
    """(H, W, C). The last of two or four channels is alpha; of five or more, the first three are shown."""
    counts: NDArray[np.int64]
    """(1, bins), or (C, bins) for the histogram of each channel."""
    extent: tuple[float, float]
    """The range of the bins, from the lower edge of the first to the upper edge of the last."""
    label: str = "value"
    """The label below the histogram: what is counted."""
    orientation: int = 1
    """The EXIF orientation, needed to show the image upright."""


def draw(path: Path, panels: tuple[Panel, ...], dpi: int = 120) -> None:
    """Draw two or more panels side by side.

    Parameters
    ----------
    path : Path
        The file to write; its suffix determines the format: .png, .svg or .pdf.
    panels : tuple of Panel
        The panels, from left to right.
    dpi : int
        Dots per inch of a PNG file; a panel is 5.5 inches wide.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    images = [displayed(panel) for panel in panels]
    aspect = images[0].shape[0] / images[0].shape[1]
    tall = min(max(_PANEL * aspect, 1.5), 7.0)
    figure = Figure(figsize=(_COLUMN * len(panels), tall + 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(panels), height_ratios=(tall, 2.6))
    top = _ceiling([folded(panel) for panel in panels])
    for column, (panel, image) in enumerate(zip(panels, images, strict=True)):
        _show(axes[0, column], panel, image)
        _histogram(axes[1, column], panel, top, outer=(column == 0, column == len(panels) - 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the font may lack characters of a file name
        figure.savefig(path, dpi=dpi)


def displayed(panel: Panel) -> NDArray[Any]:
    """Return the image of a panel as displayed: reduced, upright, uint8, (H, W) or RGB(A)."""
    height, width = panel.pixels.shape[:2]
    step = max(1, -(-max(height, width) // _DISPLAY))
    pixels = _upright(panel.pixels[::step, ::step], panel.orientation)
    pixels = pixels[..., :3] if pixels.shape[2] > 4 else pixels
    channels = pixels.shape[2]
    if channels == 2:
        return _levels(pixels[..., [0, 0, 0, 1]])
    return _levels(pixels[..., 0] if channels == 1 else pixels)


def _levels(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale the range of the finite values to 0..255; uint8 is left unchanged."""
    if pixels.dtype == np.uint8:
        return pixels
    values = pixels.astype(np.float64)
    colour = values[..., :3] if values.ndim == 3 else values
    finite = colour[np.isfinite(colour)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    if values.shape[2:] == (4,):  # alpha has its own scale
        values[..., 3] *= (high - low) / (np.iinfo(pixels.dtype).max if pixels.dtype.kind in "ui" else 1)
        values[..., 3] += low
    scaled = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) * (255 / ((high - low) or 1))
    return scaled.clip(0, 255).round().astype(np.uint8)


def _upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Rotate and mirror pixels according to the EXIF orientation."""
    turns = {3: 2, 4: 2, 5: 3, 6: 3, 7: 1, 8: 1}.get(orientation, 0)
    pixels = np.rot90(pixels, turns)
    return pixels[:, ::-1] if orientation in (2, 4, 5, 7) else pixels


def folded(panel: Panel) -> NDArray[np.float64]:
    """Return the fraction of the pixels in each of at most 256 bars, (channels, bars)."""
    counts = panel.counts.astype(np.float64)
    group = -(-counts.shape[1] // _BARS)
    counts = np.pad(counts, ((0, 0), (0, -counts.shape[1] % group)))
    counts = counts.reshape(len(counts), -1, group).sum(axis=2)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def _ceiling(shares: list[NDArray[np.float64]]) -> float:
    """Return the upper limit of the axis, which lets no single bar (a black background) flatten the rest."""
    used = np.concatenate([s[s > 0] for s in shares])
    if used.size == 0:
        return 1.0
    return float(min(used.max(), max(6 * np.median(used), 2 * np.percentile(used, 97)))) * 1.05


def _show(axes: Any, panel: Panel, image: NDArray[Any]) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    axes.set_title(panel.title, fontsize=10, parse_math=False)
    axes.set_axis_off()


def _histogram(axes: Any, panel: Panel, top: float, outer: tuple[bool, bool]) -> None:
    """Draw the bars and, on an axis of its own from 0 to 1, the cumulative curve."""
    from matplotlib.ticker import PercentFormatter

    shares = folded(panel)
    low, high = panel.extent
    group = -(-panel.counts.shape[1] // _BARS)
    edges = low + (high - low) / panel.counts.shape[1] * group * np.arange(shares.shape[1] + 1)
    right = axes.twinx()
    single = len(shares) == 1
    for share, colour in zip(shares, (_GREY,) if single else _CHANNELS, strict=False):
        axes.stairs(share, edges, fill=True, color=colour, alpha=1 if single else 0.45, linewidth=0)
        curve = np.concatenate([[0], np.cumsum(share)])
        right.plot(edges, curve, color=_CURVE if single else colour, linewidth=1.6)
    axes.set(xlim=(low, high), ylim=(0, top), xlabel=panel.label)
    axes.locator_params(axis="y", nbins=5)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    right.set_ylim(0, 1.02)
    for side in (axes, right):
        side.spines["top"].set_visible(False)
        side.tick_params(labelsize=8)
    right.tick_params(axis="y", colors=_CURVE if single else "black")
    if outer[0]:
        axes.set_ylabel("share of the pixels")
    if outer[1]:
        right.set_ylabel("cumulative", color=_CURVE if single else "black")
    if panel.extent == (-0.5, 255.5):
        axes.set_xticks([0, 64, 128, 192, 255])
    _annotate_tallest(axes, shares, edges, top)


def _annotate_tallest(axes: Any, shares: NDArray[np.float64], edges: NDArray[np.float64], top: float) -> None:
    """Annotate the tallest bar with its height if the axis cuts it off."""
    bar = int(shares.max(axis=0).argmax())
    if shares[:, bar].max() <= top:
        return
    left = bar < shares.shape[1] / 2
    axes.annotate(
        f"{shares[:, bar].max():.0%}",
        (edges[bar + 1] if left else edges[bar], top),
        xytext=(4 if left else -4, -2),
        textcoords="offset points",
        ha="left" if left else "right",
        va="top",
        fontsize=8,
        color=_GREY,
    )
