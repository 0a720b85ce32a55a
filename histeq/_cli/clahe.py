"""The command `histeq clahe`."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from histeq import _files
from histeq._cli import batch, options, report
from histeq._cli.pixels import localized, read_mask


@click.command()
@click.argument("inputs", metavar="IN...", type=options.PATH, nargs=-1, required=True)
@click.argument("output", metavar="OUT", type=click.Path())
@options.tiling
@click.option(
    "--bins",
    type=click.IntRange(2),
    metavar="N",
    help="Bins of a tile's histogram: 4096 for 12 bits in the upper bits of 16.  "
    "[default: one per value; 256 for floating pictures]",
)
@options.value_range
@options.color("luma", "equalize")
@options.mask
@options.nodata
@options.out_range
@options.backend
@options.writing
@options.jobs
@options.as_json
def clahe(
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
    """Equalize IN locally, with limited contrast, into OUT, or several IN into the folder OUT.

    OUT's suffix names its format. With several IN, OUT is an existing folder, or ends in / and is made.
    """
    options.check_tiling(arguments)
    targets = batch.targets(inputs, output, overwrite)
    counted = read_mask(mask, max_pixels)
    batch.make_folder(output)

    def work(source: Path, target: Path) -> dict[str, Any]:
        start = time.perf_counter()
        picture = _files.read(source, max_pixels=max_pixels)
        decoded = time.perf_counter()
        result = localized(picture, mask=counted, **arguments)
        done = time.perf_counter()
        _files.write(result, target, quality=quality)
        return {
            **report.description(result),
            "clip_limit": arguments["clip_limit"],
            "seconds": report.seconds(start, decoded, done, time.perf_counter()),
        }

    report.finish(batch.run(work, inputs, targets, jobs), as_json)
