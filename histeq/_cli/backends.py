"""The command `histeq backends`."""

import dataclasses

import click

import histeq
from histeq._cli import options
from histeq._cli.report import print_json


@click.command()
@options.as_json
def backends(as_json: bool) -> None:
    """List the backends. `histeq bench` times them."""
    rows = histeq.backends()
    if as_json:
        print_json([dataclasses.asdict(row) for row in rows])
        return
    lines = [("backend", "available", "device")]
    lines += [(row.name, "yes" if row.available else "no", row.device or row.reason) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
