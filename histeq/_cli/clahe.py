"""The command `histeq clahe`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

import histeq
from histeq._cli import batch, options, report
from histeq._cli.batch import Progress


@click.command()
@click.argument("inputs", metavar="IN...", type=options.PATH, nargs=-1, required=True)
@click.argument("output", metavar="OUT", type=options.TARGET)
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
@options.out_dtype
@options.backend
@options.writing
@options.jobs
@options.as_json
def clahe(
    inputs: Sequence[Path],
    output: str,
    mask: Path | None,
    overwrite: bool,
    jobs: int,
    as_json: bool,
    **arguments: Any,
) -> None:
    """Equalize IN locally, with limited contrast, into OUT, or several IN into the folder OUT.

    OUT's suffix names its format. With several IN, OUT is an existing folder, or ends in / and is made.
    """
    options.check_tiling(arguments)
    targets = batch.targets(inputs, output, overwrite)
    options.share_memory(arguments, jobs)
    with options.opened_mask(mask, arguments["max_pixels"]) as counted:
        batch.make_folder(output)
        arguments |= {"mask": counted, "overwrite": overwrite}

        def work(source: Path, target: Path, progress: Progress | None) -> dict[str, Any]:
            result = histeq.clahe_file(source, target, progress=progress, **arguments)
            return {
                **report.description(result),
                "clip_limit": arguments["clip_limit"],
            }

        report.finish(batch.run(work, inputs, targets, jobs), as_json)
