"""The commands `histeq equalize` and `histeq match`."""

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
@options.equalizing
@options.pages
@click.option("--together", is_flag=True, help="One histogram of all IN: mosaics and stacks without seams.")
@options.writing
@options.jobs
@options.as_json
def equalize(
    inputs: Sequence[Path],
    output: str,
    mask: Path | None,
    together: bool,
    overwrite: bool,
    jobs: int,
    as_json: bool,
    **arguments: Any,
) -> None:
    """Equalize IN into OUT, or several IN into the folder OUT.

    OUT's suffix names its format. With several IN, OUT is an existing folder, or ends in / and is made.
    """
    targets = batch.targets(inputs, output, overwrite)
    options.share_memory(arguments, 1 if together else jobs)
    with options.opened_mask(mask, arguments["max_pixels"]) as counted:
        batch.make_folder(output)
        arguments |= {"mask": counted, "overwrite": overwrite}

        def described(result: Any) -> dict[str, Any]:
            rule = "skimage" if result.dtype.startswith("float") else arguments["rule"]
            return {**report.description(result), "rule": rule}

        def work(source: Path, target: Path, progress: Progress | None) -> dict[str, Any]:
            return described(histeq.equalize_file(source, target, progress=progress, **arguments))

        if together and len(inputs) > 1:
            report.finish(_together(inputs, targets, arguments, described), as_json)
        else:
            report.finish(batch.run(work, inputs, targets, jobs), as_json)


def _together(
    inputs: Sequence[Path], targets: Sequence[Path], arguments: dict[str, Any], described: Any
) -> list[dict[str, Any]]:
    with report.one_line(), batch.progress_of_pixels() as progress:
        results = histeq.equalize_file(list(inputs), list(targets), progress=progress, **arguments)
    return [{"input": each.source, "output": each.target, **described(each)} for each in results]


@click.command()
@click.argument("source", metavar="IN", type=options.PATH)
@click.argument("reference", metavar="REFERENCE", type=options.PATH)
@click.argument("output", metavar="OUT", type=options.TARGET)
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
    as_json: bool,
    **arguments: Any,
) -> None:
    """Give IN the histogram of REFERENCE, and write it to OUT."""
    targets = batch.targets([source], output, overwrite)
    with options.opened_mask(mask, arguments["max_pixels"]) as counted:
        batch.make_folder(output)
        arguments |= {"mask": counted, "overwrite": overwrite}

        def work(source: Path, target: Path, progress: Progress | None) -> dict[str, Any]:
            result = histeq.match_file(source, reference, target, progress=progress, **arguments)
            return {
                "reference": str(reference),
                **report.description(result),
            }

        report.finish(batch.run(work, [source], targets, jobs=1), as_json)
