"""The option --version: what a bug report needs."""

import platform
import re
from importlib import metadata

import click

import histeq
from histeq._cli import backends


def _show(context: click.Context, parameter: click.Parameter, asked: bool) -> None:
    if not asked or context.resilient_parsing:
        return
    click.echo(f"histeq {histeq.__version__}")
    click.echo(f"Python {platform.python_version()}, {platform.platform()}")
    click.echo(", ".join(_libraries()))
    click.echo(backends.table())
    context.exit()


def _libraries() -> list[str]:
    """Return the names and versions of what is installed of our dependencies; a frozen program knows none."""
    try:
        wanted = metadata.requires("histeq") or []
    except metadata.PackageNotFoundError:
        return []
    names = dict.fromkeys(re.split(r"[^\w-]", text, maxsplit=1)[0] for text in wanted)
    names.pop("histeq", None)  # the extra "all" names it
    found = []
    for name in names:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return found


option = click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show,
    help="Show the versions of histeq and of the libraries that it uses, and its backends.",
)
