"""Processing of several files: their output paths, parallel jobs and the progress bar."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import click

from histeq import _files
from histeq._cli.report import Failure, one_line

_PATIENCE = 1.0
"""Seconds that a file may take before a bar is shown."""
_SLASHES = ("/", "\\")

Result = dict[str, Any]
Progress = Callable[[int, int], object]
"""Takes the pixels done and the pixels to do, those of all passes."""


def targets(inputs: Sequence[Path], output: str, overwrite: bool) -> list[Path]:
    """Return the output path of each input; raise an error, before any work, if one cannot be used."""
    folder = Path(output)
    if _is_folder(output):
        found = [folder / path.name for path in inputs]
    elif len(inputs) == 1:
        found = [folder]
    else:
        raise click.UsageError(
            "with several IN, OUT must be a folder: an existing one, or a name that ends in /"
        )
    taken: dict[str, Path] = {}
    for path, target in zip(inputs, found, strict=True):
        with one_line():
            _files.format_of(target)
        other = taken.setdefault(str(target).casefold(), path)  # some file systems ignore case
        if other is not path:
            raise click.UsageError(f"{other} and {path} would both be written to {target}")
    for target in found:
        if not overwrite:
            with one_line():
                _files.check_absent(target)
    return found


def make_folder(output: str) -> None:
    """Create the folder OUT if its name ends in a slash."""
    if output.endswith(_SLASHES) and _is_folder(output):
        try:
            Path(output).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Failure(f"{output}: {error.strerror}") from error


def _is_folder(output: str) -> bool:
    """Tell whether OUT is a folder to put files into, which a store is not."""
    path = Path(output)
    return (output.endswith(_SLASHES) or path.is_dir()) and path.suffix.lower() != ".zarr"


def run(
    work: Callable[[Path, Path, Progress | None], Result],
    inputs: Sequence[Path],
    targets: Sequence[Path],
    jobs: int,
) -> list[Result]:
    """Run `work` on every file; a failure is recorded in the result and does not stop the others."""

    def attempt(source: Path, target: Path, progress: Progress | None = None) -> Result:
        names = {"input": str(source), "output": str(target)}
        try:
            with one_line(source):
                return names | work(source, target, progress)
        except Failure as failure:
            return names | {"error": failure.message}

    pairs = list(zip(inputs, targets, strict=True))
    if len(pairs) == 1:
        with progress_of_pixels() as progress:
            return [attempt(*pairs[0], progress)]
    with _progress_of_files(len(pairs)) as advance:
        if jobs == 1:
            return [advance(attempt(*pair)) for pair in pairs]
        with ThreadPoolExecutor(jobs) as pool:
            futures = [pool.submit(attempt, *pair) for pair in pairs]
            try:
                for future in as_completed(futures):
                    advance(future.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            return [future.result() for future in futures]


@contextlib.contextmanager
def _progress_of_files(count: int) -> Iterator[Callable[[Result], Result]]:
    """Show a progress bar of several files if standard error is a terminal."""
    if not sys.stderr.isatty():
        yield lambda result: result
        return
    with click.progressbar(length=count, file=sys.stderr) as bar:

        def advance(result: Result) -> Result:
            bar.update(1)
            return result

        yield advance


@contextlib.contextmanager
def progress_of_pixels() -> Iterator[Progress | None]:
    """Show a progress bar with the throughput and the time left if standard error is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        bars: list[Any] = []

        def show(done: int, total: int) -> None:
            elapsed = time.monotonic() - start
            if not bars and elapsed > _PATIENCE:
                speed = click.progressbar(
                    length=total, file=sys.stderr, item_show_func=lambda text: text or ""
                )
                bars.append(stack.enter_context(speed))
            for bar in bars:
                bar.update(done - bar.pos, f"{done / 1e6 / elapsed:.0f} Mpixel/s")

        yield show
