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
from histeq._files import FileError, Header


class Failure(click.ClickException):
    """An error that is reported in one line; the exit code is 1."""

    exit_code = 1

    def show(self, file: Any = None) -> None:
        """Print the message to standard error."""
        click.echo(f"histeq: error: {self.message}", file=file, err=True)


@contextlib.contextmanager
def one_line(subject: Path | None = None) -> Iterator[None]:
    """Turn errors that a user can fix (a bad file or argument, a missing library) into a `Failure`."""
    about = f"{subject}: " if subject else ""
    try:
        yield
    except FileError as error:
        raise Failure(str(error)) from error
    except ImportError as error:
        extra = "zarr" if error.name == "zarr" else "cli"
        raise Failure(f'{error.name or error} is missing: pip install "histeq[{extra}]"') from error
    except MemoryError as error:
        raise Failure(f"{about}not enough memory") from error
    except (ValueError, TypeError, RuntimeError, OSError) as error:
        raise Failure(about + " ".join(str(error).split())) from error


def description(image: Header | FileResult) -> dict[str, Any]:
    """Return the entries about an image that every result has."""
    names = ("width", "height", "pages", "channels")
    entries = {**{name: getattr(image, name) for name in names}, "dtype": str(image.dtype)}
    if isinstance(image, FileResult):
        entries |= {"seconds": image.seconds, "notes": list(image.notes)}
    return entries


def finish(results: list[dict[str, Any]], as_json: bool) -> None:
    """Print the errors, and the results if JSON was requested; exit with code 1 if there are errors."""
    if as_json:
        print_json(results)
    for result in results:
        for note in result.get("notes", ()):
            click.echo(f"histeq: note: {result['output']}: {note} not carried", err=True)
    failures = [result["error"] for result in results if "error" in result]
    for message in failures:
        Failure(message).show()
    if failures:
        sys.exit(1)


def print_json(value: Any) -> None:
    """Print a value with null for NaN and infinities, which are not JSON."""

    def clean(item: Any) -> Any:
        if isinstance(item, dict):
            return {name: clean(part) for name, part in item.items()}
        if isinstance(item, list | tuple):
            return [clean(part) for part in item]
        return None if isinstance(item, float) and not np.isfinite(item) else item

    click.echo(json.dumps(clean(value), indent=2))
