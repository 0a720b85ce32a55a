"""The command `histeq clahe`."""

from collections.abc import Sequence
from typing import Any

import click

import histeq
from histeq._cli import batch, options, report
from histeq._cli.options import Name


@click.command()
@click.argument("inputs", metavar="IN...", type=options.FILE, nargs=-1, required=True)
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
@options.color(None, "equalize")
@options.mask
@options.nodata
@options.out_range
@options.out_dtype
@options.backend
@options.alpha
@options.cluster
@options.writing
@options.pattern
@options.jobs
@options.as_json
def clahe(inputs: Sequence[Name], output: str, **arguments: Any) -> None:
    """Equalize IN locally, with limited contrast, into OUT, or several IN, or a folder, into a folder.

    OUT's suffix names its format. A folder OUT exists, or ends in / and is made. - is standard input or
    standard output.
    """
    options.check_tiling(arguments)

    def described(result: Any) -> dict[str, Any]:
        return {**report.description(result), "clip_limit": arguments["clip_limit"]}

    batch.run(histeq.clahe_file, inputs, output, arguments, described)
