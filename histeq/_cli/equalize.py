"""The commands `histeq equalize` and `histeq match`."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from histeq import _files
from histeq._cli import batch, options, report
from histeq._cli.pixels import equalized, matched, read_mask


@click.command()
@click.argument("inputs", metavar="IN...", type=options.PATH, nargs=-1, required=True)
@click.argument("output", metavar="OUT", type=click.Path())
@options.equalizing
@options.writing
@options.jobs
@options.as_json
def equalize(
    inputs: Sequence[Path],
    output: str,
    mask: Path | None,
    overwrite: bool,
    quality: int | None,
    max_pixels: int,
    jobs: int,
    as_json: bool,
    **arguments: Any,
) -> None:
    """Equalize IN into OUT, or several IN into the folder OUT.

    OUT's suffix names its format. With several IN, OUT is an existing folder, or ends in / and is made.
    """
    targets = batch.targets(inputs, output, overwrite)
    counted = read_mask(mask, max_pixels)
    batch.make_folder(output)

    def work(source: Path, target: Path) -> dict[str, Any]:
        start = time.perf_counter()
        picture = _files.read(source, max_pixels=max_pixels)
        decoded = time.perf_counter()
        result = equalized(picture, mask=counted, **arguments)
        done = time.perf_counter()
        _files.write(result, target, quality=quality)
        return {
            **report.description(result),
            "rule": "skimage" if picture.pixels.dtype.kind == "f" else arguments["rule"],
            "seconds": report.seconds(start, decoded, done, time.perf_counter()),
        }

    report.finish(batch.run(work, inputs, targets, jobs), as_json)


@click.command()
@click.argument("source", metavar="IN", type=options.PATH)
@click.argument("reference", metavar="REFERENCE", type=options.PATH)
@click.argument("output", metavar="OUT", type=click.Path())
@options.color("channels", "match")
@options.mask
@options.nodata
@options.backend
@options.writing
@options.as_json
def match(
    source: Path,
    reference: Path,
    output: str,
    mask: Path | None,
    overwrite: bool,
    quality: int | None,
    max_pixels: int,
    as_json: bool,
    **arguments: Any,
) -> None:
    """Give IN the histogram of REFERENCE, and write it to OUT."""
    targets = batch.targets([source], output, overwrite)
    counted = read_mask(mask, max_pixels)
    batch.make_folder(output)

    def work(source: Path, target: Path) -> dict[str, Any]:
        start = time.perf_counter()
        picture, model = (_files.read(path, max_pixels=max_pixels) for path in (source, reference))
        decoded = time.perf_counter()
        result = matched(picture, model, mask=counted, **arguments)
        done = time.perf_counter()
        _files.write(result, target, quality=quality)
        return {
            "reference": str(reference),
            **report.description(result),
            "seconds": report.seconds(start, decoded, done, time.perf_counter()),
        }

    report.finish(batch.run(work, [source], targets, jobs=1), as_json)
