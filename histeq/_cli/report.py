"""What the commands say: failures in one line, results as JSON."""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from histeq._files import FileError, Picture


class Failure(click.ClickException):
    """A failure in one line, exit code 1."""

    exit_code = 1

    def show(self, file: Any = None) -> None:
        """Print it to standard error."""
        click.echo(f"histeq: error: {self.message}", file=file, err=True)


@contextlib.contextmanager
def one_line(subject: Path | None = None) -> Iterator[None]:
    """Turn what a user can mend (a file, an argument, a missing library) into a failure in one line."""
    about = f"{subject}: " if subject else ""
    try:
        yield
    except FileError as error:
        raise Failure(str(error)) from error
    except ImportError as error:
        raise Failure(f'{error.name or error} is missing: pip install "histeq[cli]"') from error
    except MemoryError as error:
        raise Failure(f"{about}not enough memory") from error
    except (ValueError, TypeError, RuntimeError, OSError) as error:
        raise Failure(about + " ".join(str(error).split())) from error


def description(picture: Picture) -> dict[str, Any]:
    """Return what every result says of a picture."""
    pages, height, width, channels = picture.batch.shape
    dtype = str(picture.pixels.dtype)
    return {"width": width, "height": height, "pages": pages, "channels": channels, "dtype": dtype}


def seconds(*moments: float) -> dict[str, float]:
    """Return how long each step took, from the moments between them."""
    steps = zip(("read", "compute", "write"), moments[:-1], moments[1:], strict=True)
    return {name: round(after - before, 6) for name, before, after in steps}


def finish(results: list[dict[str, Any]], as_json: bool) -> None:
    """Print the failures, and the results where asked; exit with 1 after a failure."""
    if as_json:
        print_json(results)
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
