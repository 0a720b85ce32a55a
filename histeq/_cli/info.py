"""The command `histeq info`."""

from collections.abc import Sequence
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

import histeq
from histeq import _files
from histeq._cli import options, report
from histeq._cli.options import Name
from histeq._cli.pixels import counted, nodata_of, valid


@click.command()
@click.argument("inputs", metavar="IN...", type=options.FILE, nargs=-1, required=True)
@options.nodata
@options.max_pixels
@options.as_json
def info(
    inputs: Sequence[Name], nodata: Any, count_transparent: bool, max_pixels: int, as_json: bool
) -> None:
    """Describe pictures: size, dtype, channels, range of values and number of levels."""
    results = []
    for path in inputs:
        try:
            with report.one_line(path):
                results.append(_result(path, nodata, count_transparent, max_pixels))
        except report.Failure as failure:
            results.append({"input": str(path), "error": failure.message})
    texts = [_text(result) for result in results if "error" not in result]
    if texts and not as_json:
        click.echo("\n\n".join(texts))
    report.finish(results, as_json)


def _result(path: Name, nodata: Any, count_transparent: bool, max_pixels: int) -> dict[str, Any]:
    file = options.standard_input() if path == options.STANDARD else path
    picture = _files.read(file, max_pixels=max_pixels)
    nodata = nodata_of(picture, nodata)
    colours = range(picture.channels - picture.alpha)
    mask = counted(picture, None, count_transparent)
    return {
        "input": str(path),
        "format": picture.format,
        **report.description(picture.header),
        "alpha": picture.alpha,
        "values": [_statistics(picture.batch[..., i], mask, nodata) for i in colours],
        "nodata": nodata,
        "mask": picture.valid is not None,
        "icc_bytes": len(picture.icc) if picture.icc else 0,
        "orientation": picture.orientation,
        "dpi": picture.dpi,
    }


def _statistics(channel: NDArray[Any], mask: NDArray[np.bool_] | None, nodata: Any) -> dict[str, Any]:
    """Return the extent, the mean and the number of levels of a channel's valid values."""
    if str(channel.dtype) in ("uint8", "int8", "uint16", "int16"):
        counts = histeq.histogram(channel, layout="NHW", mask=mask, nodata=nodata).sum(axis=0)
        levels = np.flatnonzero(counts)
        values = levels + np.iinfo(channel.dtype).min
        counts = counts[levels]
    else:
        within = channel if mask is None else channel[np.broadcast_to(mask, channel.shape)]
        values, counts = np.unique(valid(within, nodata), return_counts=True)
    if values.size == 0:
        return {"min": None, "max": None, "mean": None, "levels": 0}
    return {
        "min": values[0].item(),
        "max": values[-1].item(),
        "mean": float(np.average(values.astype(np.float64), weights=counts)),
        "levels": int(values.size),
    }


def _text(result: dict[str, Any]) -> str:
    colours = {1: ("grey",), 3: ("red", "green", "blue")}
    names = colours.get(len(result["values"])) or [f"band {i + 1}" for i in range(len(result["values"]))]
    pages = f", {result['pages']} pages" if result["pages"] > 1 else ""
    alpha = " with alpha" if result["alpha"] else ""
    plural = "s" if result["channels"] > 1 else ""
    lines = [
        click.format_filename(result["input"]),
        f"  format       {result['format']}{pages}",
        f"  size         {result['width']} x {result['height']}",
        f"  pixels       {result['dtype']}, {result['channels']} channel{plural}{alpha}",
    ]
    for name, value in zip(names, result["values"], strict=True):
        if value["levels"] == 0:
            lines.append(f"  {name:<12} no valid pixel")
            continue
        extent = f"{value['min']:.6g} to {value['max']:.6g}, mean {value['mean']:.6g}"
        lines.append(f"  {name:<12} {extent}, {value['levels']} level{'s' * (value['levels'] > 1)}")
    if result["mask"]:
        lines.append("  mask         of valid pixels, in the file or beside it")
    if result["nodata"] is not None:
        lines.append(f"  nodata       {result['nodata']}")
    if result["dpi"]:
        lines.append("  resolution   {:.4g} x {:.4g} dpi".format(*result["dpi"]))
    if result["icc_bytes"]:
        lines.append(f"  ICC profile  {result['icc_bytes']} bytes")
    if result["orientation"] != 1:
        lines.append(f"  orientation  {result['orientation']} (EXIF)")
    return "\n".join(lines)
