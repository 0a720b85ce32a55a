"""Output of the commands: error messages of one line, and results as JSON."""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from histeq._api.files import FileResult
from histeq._cli.words import in_words
from histeq._files import FileError, Header
from histeq._files.errors import missing

_HOW = ("rule", "clip_limit", "reference")
"""Entries of a result that say what was done."""


class Failure(click.ClickException):
    """An error that is reported in one line; the exit code is 1."""

    exit_code = 1

    def show(self, file: Any = None) -> None:
        """Print the message to standard error."""
        click.echo(f"histeq: error: {self.message}", file=file, err=True)


@contextlib.contextmanager
def one_line(subject: Path | str | None = None) -> Iterator[None]:
    """Turn errors that a user can fix (a bad file or argument, a missing library) into a `Failure`."""
    about = f"{subject}: " if subject else ""
    try:
        yield
    except FileError as error:
        raise Failure(in_words(str(error))) from error
    except ImportError as error:
        raise Failure(str(missing(error))) from error
    except MemoryError as error:
        raise Failure(f"{about}not enough memory") from error
    except OSError as error:
        raise Failure(f"{subject or error.filename}: {error.strerror or error}") from error
    except (ValueError, TypeError, RuntimeError) as error:
        raise Failure(about + in_words(str(error))) from error


def description(image: Header | FileResult) -> dict[str, Any]:
    """Return the entries about an image that every result has."""
    names = ("width", "height", "pages", "channels")
    entries = {**{name: getattr(image, name) for name in names}, "dtype": str(image.dtype)}
    if isinstance(image, FileResult):
        entries |= {"seconds": image.seconds, "notes": list(image.notes), "damage": list(image.damage)}
    return entries


def finish(results: list[dict[str, Any]], as_json: bool, dry_run: bool = False) -> None:
    """Print the errors, and the results if JSON was requested; exit with code 1 if there are errors."""
    if as_json:
        print_json(results)
    elif dry_run:
        for result in results:
            if "width" in result:
                click.echo(_planned(result))
    skipped = sum("skipped" in result for result in results)
    if skipped:
        click.echo(f"histeq: note: {skipped} of {len(results)} skipped: they exist already", err=True)
    for result in results:
        for note in result.get("notes", ()):
            click.echo(f"histeq: note: {result['output']}: {note}", err=True)
        for note in result.get("damage", ()):
            click.echo(f"histeq: warning: {result['input']}: {note}", err=True)
    failures = [result["error"] for result in results if "error" in result]
    for message in failures:
        Failure(message).show()
    if failures:
        sys.exit(1)


def _planned(result: dict[str, Any]) -> str:
    """Return the line for a file that would be written."""
    pages = f", {result['pages']} pages" if result["pages"] > 1 else ""
    channels = f", {result['channels']} channels" if result["channels"] > 1 else ""
    how = [f", {name.replace('_', ' ')} {result[name]}" for name in _HOW if name in result]
    size = f"{result['width']} x {result['height']} {result['dtype']}{channels}{pages}"
    command = click.get_current_context().info_name
    return f"{result['input']} -> {result['output']}: {size}; {command}{''.join(how)}"


def print_json(value: Any) -> None:
    """Print a value with null for NaN and infinities, which are not JSON."""

    def clean(item: Any) -> Any:
        if isinstance(item, dict):
            return {name: clean(part) for name, part in item.items()}
        if isinstance(item, list | tuple):
            return [clean(part) for part in item]
        return None if isinstance(item, float) and not np.isfinite(item) else item

    click.echo(json.dumps(clean(value), indent=2))
