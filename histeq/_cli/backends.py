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
    if as_json:
        print_json([dataclasses.asdict(row) for row in histeq.backends()])
    else:
        click.echo(table())


def table() -> str:
    """Return a line for each backend: whether it is available, and its device or why not."""
    rows = histeq.backends()
    lines = [("backend", "available", "device")]
    lines += [(row.name, "yes" if row.available else "no", row.device or row.reason) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    return "\n".join("  ".join(line).rstrip() for line in padded)
