"""The command `histeq plot`."""

from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

import histeq
from histeq import _files
from histeq._cli import drawing, options
from histeq._cli.pixels import checked_color, counted, equalized, localized, nodata_of, read_mask, valid
from histeq._cli.report import one_line
from histeq._files import Picture


@click.command()
@click.argument("source", metavar="IN", type=options.PATH)
@click.argument("output", metavar="OUT.png", type=options.PATH)
@options.equalizing
@options.tiling
@click.option(
    "--dpi", type=click.IntRange(20, 600), default=120, show_default=True, help="Dots per inch of a PNG file."
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@options.max_pixels
def plot(
    source: Path,
    output: Path,
    mask: Path | None,
    dpi: int,
    overwrite: bool,
    max_pixels: int,
    **arguments: Any,
) -> None:
    """Show IN, equalized, and equalized locally (CLAHE), above their histograms and cumulative curves.

    OUT may also be .svg or .pdf. Of a file with several pages the first is shown.
    """
    options.check_tiling(arguments)
    drawing.check_output(output, overwrite)
    asked_for = read_mask(mask, max_pixels)
    with one_line(source):
        picture = _files.read(source, max_pixels=max_pixels)
        within = counted(picture, asked_for, arguments.pop("count_transparent"))
        local = {name: arguments.pop(name, None) for name in ("clip_limit", "tiles", "tile_size")}
        result = equalized(picture, mask=within, **arguments)
        tiled = _localized(picture, within, local, arguments)
        rule = "skimage" if picture.pixels.dtype.kind == "f" else arguments["rule"]
        height, width = picture.batch.shape[1:3][:: 1 if picture.orientation < 5 else -1]  # as shown, upright
        title = f"{_shortened(source.name)}\n{width} x {height}, {picture.pixels.dtype}"
        before = _panel(picture, title, within, arguments)
        after = _panel(result, f"equalized\nrule {rule}", within, arguments)
        locally = _panel(tiled, f"CLAHE\n{_tiling(local)}", within, arguments)
    with one_line(output), _files.writing(output), _files.replacing(output, overwrite=overwrite) as temporary:
        drawing.draw(temporary, (before, after, locally), dpi)


def _localized(
    picture: Picture, mask: NDArray[np.bool_] | None, local: dict[str, Any], asked: dict[str, Any]
) -> Picture:
    """Return the picture equalized by CLAHE, with the options that `equalize` takes as well."""
    common = {name: value for name, value in asked.items() if name != "rule"}
    if picture.pixels.dtype.kind in "ui" and asked["rule"] == "skimage":
        common["out_range"] = None  # it is a range of fractions
    given = {name: value for name, value in local.items() if name != "tiles" or value is not None}
    return localized(picture, mask=mask, **common, **given)


def _tiling(local: dict[str, Any]) -> str:
    """Describe --clip, --tiles and --tile-size, for the title of the panel."""
    if local["tile_size"]:
        sizes, what = local["tile_size"], "pixels a tile"
    else:
        sizes, what = local["tiles"] or (8, 8), "tiles"
    return f"clip {local['clip_limit']:g}, {sizes[0]} x {sizes[1]} {what}"


def _panel(
    picture: Picture, title: str, mask: NDArray[np.bool_] | None, asked: dict[str, Any]
) -> drawing.Panel:
    """Return one panel of the plot: the first page, its counts and the range of the bins."""
    color, nodata = checked_color(picture, asked["color"]), nodata_of(picture, asked["nodata"])
    pixels, colors = picture.batch[:1], picture.channels - picture.alpha
    arguments: dict[str, Any] = {"layout": "NHWC", "color": color, "alpha": picture.alpha, "nodata": nodata}
    arguments["mask"] = mask if mask is None or mask.ndim == 2 else mask[:1]
    floating = pixels.dtype.kind == "f"
    if floating:
        within = ... if mask is None else np.broadcast_to(arguments["mask"], pixels.shape[:3])
        extent = _float_extent(pixels[..., :colors][within], nodata)
        arguments |= {"bins": 256, "value_range": extent}
    counts = histeq.histogram(pixels, **arguments)
    counts = counts.reshape(-1, counts.shape[-1])
    if not floating:
        counts, extent = _used(counts, pixels.dtype)
    label = "luma" if color == "luma" and colors == 3 else "value"
    shown = pixels[0]
    if not picture.alpha and picture.channels in (2, 4):  # a panel's last channel would be alpha
        shown = shown[..., :-1]
    return drawing.Panel(title, shown, counts, extent, label, picture.orientation)


def _float_extent(pixels: NDArray[Any], nodata: Any) -> tuple[float, float]:
    values = valid(pixels, nodata)
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    return (low, high) if low < high else (low, low + 1)


def _used(counts: NDArray[np.int64], dtype: np.dtype[Any]) -> tuple[NDArray[np.int64], tuple[float, float]]:
    """Trim the counts of 16-bit pixels to the values that occur; return them and the range of the bins."""
    levels = np.flatnonzero(counts.any(axis=0))
    whole = counts.shape[1] == 256 or levels.size == 0
    first, last = (0, counts.shape[1] - 1) if whole else (levels[0], levels[-1])
    smallest = np.iinfo(dtype).min - 0.5
    return counts[:, first : last + 1], (float(first + smallest), float(last + 1 + smallest))


def _shortened(name: str) -> str:
    name = click.format_filename(name)
    return name if len(name) <= 48 else f"{name[:22]}…{name[-22:]}"
