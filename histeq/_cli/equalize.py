"""The commands `histeq equalize` and `histeq match`."""

from collections.abc import Sequence
from typing import Any

import click

import histeq
from histeq._cli import batch, options, report
from histeq._cli.options import Name

_together = click.option(
    "--together", is_flag=True, help="One histogram of all IN: mosaics and stacks without seams."
)


@click.command()
@click.argument("inputs", metavar="IN...", type=options.FILE, nargs=-1, required=True)
@click.argument("output", metavar="OUT", type=options.TARGET)
@options.equalizing
@options.alpha
@options.pages
@_together
@options.cluster
@options.writing
@options.pattern
@options.jobs
@options.as_json
def equalize(inputs: Sequence[Name], output: str, together: bool, **arguments: Any) -> None:
    """Equalize IN into OUT, or several IN, or what is in a folder, into the folder OUT.

    OUT's suffix names its format. A folder OUT exists, or ends in / and is made. - is standard input or
    standard output.
    """

    def described(result: Any) -> dict[str, Any]:
        rule = "skimage" if result.dtype.startswith("float") else arguments["rule"]
        return {**report.description(result), "rule": rule}

    batch.run(histeq.equalize_file, inputs, output, arguments, described, together=together)


@click.command()
@click.argument("inputs", metavar="IN...", type=options.FILE, nargs=-1, required=True)
@click.argument("reference", metavar="REFERENCE", type=options.PATH)
@click.argument("output", metavar="OUT", type=options.TARGET)
@options.color("channels", "match")
@options.mask
@options.nodata
@options.value_range
@options.backend
@options.alpha
@options.pages
@_together
@options.cluster
@options.writing
@options.pattern
@options.jobs
@options.as_json
def match(inputs: Sequence[Name], reference: Any, output: str, together: bool, **arguments: Any) -> None:
    """Give IN the histogram of REFERENCE, into OUT, or several IN, or what is in a folder, into a folder.

    OUT's suffix names its format. A folder OUT exists, or ends in / and is made. - is standard input or
    standard output.
    """

    def described(result: Any) -> dict[str, Any]:
        return {"reference": str(reference), **report.description(result)}

    def function(source: Any, target: Any, **given: Any) -> Any:
        return histeq.match_file(source, reference, target, **given)

    batch.run(function, inputs, output, arguments, described, together=together)
