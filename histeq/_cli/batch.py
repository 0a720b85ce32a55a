"""What all commands that write files do: find the files, serve several at a time, show progress, report."""

import contextlib
import fnmatch
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from io import BytesIO
from pathlib import Path
from stat import S_IFDIR
from typing import Any, NamedTuple

import click

from histeq import _files
from histeq._cli import options, report
from histeq._cli.options import STANDARD, Name
from histeq._cli.report import Failure, one_line
from histeq._core import stop
from histeq._files import urls

_PATIENCE = 1.0
"""Seconds that a file may take before a bar is shown."""
_SLASHES = ("/", "\\")

Result = dict[str, Any]
Progress = Callable[[int, int], object]
"""Takes what is done and what there is to do: pixels of all passes, or frames; 0 if nothing tells."""


def run(
    function: Callable[..., Any],
    inputs: Sequence[Name],
    output: str,
    arguments: dict[str, Any],
    described: Callable[[Any], Result],
    *,
    together: bool = False,
) -> None:
    """Call one of histeq's functions for every file, and report.

    A file that cannot be served does not stop the others.

    Parameters
    ----------
    arguments : dict
        What the options say: the function's arguments, and those that are taken out here.
    described : callable
        Turns what the function returns into the entries of a result.
    together : bool
        Whether the function is called once for all files.
    """
    output = STANDARD if output in options.STANDARD_OUTPUT else output
    jobs, as_json, dry_run = arguments.pop("jobs"), arguments.pop("as_json"), arguments["dry_run"]
    skip_existing = arguments.pop("skip_existing")
    if skip_existing and arguments["overwrite"]:
        raise click.UsageError("--skip-existing keeps existing files, and --overwrite replaces them")
    if skip_existing and together:
        raise click.UsageError("--together counts all files, and --skip-existing leaves some out")
    format = arguments.pop("format")
    items = _items(inputs, output, format, arguments.pop("pattern"), arguments.pop("recursive"))
    if as_json and output == STANDARD and not dry_run:
        raise click.UsageError("--json and OUT would both be written to standard output")
    if not arguments["overwrite"] and not skip_existing:
        for item in items:
            item.check_absent()
    together = together and len(items) > 1
    options.share_memory(arguments, 1 if together else jobs)

    def files(item: Item) -> tuple[Any, Any, str | None]:
        return item.opened(format and format[0], dry_run)

    def work(item: Item, progress: Progress | None) -> Result:
        if skip_existing and isinstance(item.target, Path) and _files.seen(item.target):
            return {"skipped": True}
        source, target, kind = files(item)
        return described(function(source, target, format=kind, progress=progress, **arguments))

    mask = options.opened_mask(arguments["mask"], arguments["max_pixels"])
    cluster = options.connected(None if dry_run else arguments["cluster"])
    with _no_empty_folders(items), mask as arguments["mask"], cluster as arguments["cluster"]:
        if not together:
            report.finish(_each(work, items, jobs), as_json, dry_run)
            return
        with one_line(), progress_of("Mpixel", 1e6) as progress:
            sources, targets, kinds = map(list, zip(*map(files, items), strict=True))
            results = function(sources, targets, format=kinds[0], progress=progress, **arguments)
    every = [item.names | described(result) for item, result in zip(items, results, strict=True)]
    report.finish(every, as_json, dry_run)


class Item(NamedTuple):
    """A file to read, and one to write."""

    source: Name
    relative: Path | None = None
    """The name of what is written into a folder; None: standard input has none."""
    error: str | None = None
    """Why it cannot be served, as far as that is known before any work."""
    target: Name = STANDARD
    in_folder: bool = False
    """Whether the target's folder is made."""

    @property
    def names(self) -> Result:
        """The names, for a result."""
        return {"input": str(self.source), "output": str(self.target)}

    def check_absent(self) -> None:
        """Raise if the target exists."""
        if isinstance(self.target, Path) and self.error is None:
            with one_line():
                _files.check_absent(self.target)

    def opened(self, format: str | None, dry_run: bool) -> tuple[Any, Any, str | None]:
        """Return what histeq's functions take: the source, the target and its format."""
        if self.error is not None:
            raise Failure(self.error)
        source = options.standard_input() if self.source == STANDARD else self.source
        if not isinstance(self.target, Path):
            return source, BytesIO() if dry_run else options.standard_output(), format
        if urls.address(self.target) is not None:  # it has no folders that are made
            return source, self.target, format
        if self.in_folder and _files.seen(self.target.parent) != S_IFDIR:
            if dry_run:  # the folder would be made: what is left to check is the format
                return source, BytesIO(), format or _files.format_of(self.target)
            try:
                self.target.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise Failure(f"{self.target.parent}: {error.strerror}") from error
        return source, self.target, format


def _items(
    inputs: Sequence[Name],
    output: str,
    format: tuple[str, str] | None,
    pattern: str | None,
    recursive: bool,
) -> list[Item]:
    """Return what is to be done; raise an error if an output cannot be used."""
    found = [item for path in inputs for item in _found(path, len(inputs) == 1, output, pattern, recursive)]
    folder = output != STANDARD and (_is_folder(output) or any(map(_is_pictures, inputs)))
    if not folder and len(found) != 1:
        raise click.UsageError(
            "with several IN, OUT must be a folder: an existing one, or a name that ends in /"
        )
    if folder and _files.seen(output) not in (0, S_IFDIR):
        raise Failure(f"{output}: is no folder")
    items: list[Item] = []
    taken: dict[str, Item] = {}
    for item in found:
        target: Name = STANDARD if output == STANDARD else Path(output)
        if folder:
            if item.relative is None:
                raise click.UsageError("what comes from standard input has no name: OUT must be a file or -")
            target = Path(output, _renamed(item.relative, format[1]) if format else item.relative)
        item = item._replace(target=target, in_folder=folder)
        if format is None and item.error is None and isinstance(target, Path):
            item = item._replace(error=_unknown(item))
        other = taken.setdefault(str(target).casefold(), item)  # some file systems ignore case
        if other is not item and not (other.error or item.error):
            raise click.UsageError(f"{other.source} and {item.source} would both be written to {target}")
        items.append(item)
    return items


def _renamed(path: Path, suffix: str) -> Path:
    """Return a name with another suffix; what is no picture's suffix, as in IMG.0001, is part of the name."""
    return path.with_suffix(suffix) if _files.is_known(path) else path.with_name(path.name + suffix)


def _unknown(item: Item) -> str | None:
    """Return the error of a name that stands for no format."""
    try:
        _files.format_of(Path(item.target))
    except _files.FileError as error:
        reason = str(error).removeprefix(str(item.target))
        return f"{item.source if item.in_folder else item.target}{reason}; or --format names it"
    return None


def _found(path: Name, alone: bool, output: str, pattern: str | None, recursive: bool) -> Iterator[Item]:
    """Yield a file, or what is in a folder: its name in OUT begins there if it is the only IN."""
    if not isinstance(path, Path):
        yield Item(path)
        return
    if not _is_pictures(path):
        yield Item(path, Path(path.name))
        return
    if not (alone or pattern or recursive):
        what = "a folder among other files: --recursive or --pattern takes what is in it"
        yield Item(path, Path(path.name), f"{path}: {what}")
        return
    nothing = True
    for file, error in _inside(path, Path(output), pattern, recursive):
        yield Item(file, file.relative_to(path if alone else path.parent), error)
        nothing = False
    if nothing:
        what = f"no file in this folder matches {pattern}" if pattern else "no picture is in this folder"
        yield Item(path, Path(path.name), f"{path}: {what}")


def _inside(
    folder: Path, output: Path, pattern: str | None, recursive: bool
) -> Iterator[tuple[Path, str | None]]:
    """Yield the files in a folder but for hidden ones, in order; those of OUT are not read again.

    By default they are those whose names say that they are pictures.
    """
    errors: list[OSError] = []
    for root, folders, names in os.walk(folder, onerror=errors.append):
        stores = [name for name in folders if not _is_pictures(Path(root, name))]
        for name in sorted(names + stores):
            wanted = fnmatch.fnmatch(name, pattern) if pattern else _files.is_known(Path(name))
            if wanted and not name.startswith("."):
                yield Path(root, name), None
        folders[:] = sorted(
            name
            for name in folders
            if recursive and name not in stores and not name.startswith(".")
            and os.path.realpath(Path(root, name)) != os.path.realpath(output)
        )  # fmt: skip
    for error in errors:
        yield Path(error.filename), f"{error.filename}: {error.strerror}"


def _is_pictures(path: Name) -> bool:
    """Tell whether IN is a folder of pictures, which a store is not."""
    return isinstance(path, Path) and _files.seen(path) == S_IFDIR and not _files.is_store(path)


def _is_folder(output: str) -> bool:
    """Tell whether OUT is a folder to put files into, which a store is not."""
    folder = output.endswith(_SLASHES) or _files.seen(output) == S_IFDIR
    return folder and Path(output).suffix.lower() != ".zarr"


@contextlib.contextmanager
def _no_empty_folders(items: Sequence[Item]) -> Iterator[None]:
    """Remove the folders that are made within, where nothing has come into them."""
    targets = [item.target for item in items if item.in_folder and isinstance(item.target, Path)]
    absent = {folder for path in targets for folder in path.parents if not _files.seen(folder)}
    try:
        yield
    finally:
        for folder in sorted(absent, key=lambda path: -len(path.parts)):
            with contextlib.suppress(OSError):  # it is not empty, or was not made
                folder.rmdir()


def _each(work: Callable[[Item, Progress | None], Result], items: Sequence[Item], jobs: int) -> list[Result]:
    """Run `work` on every file; a failure is recorded in the result and does not stop the others."""

    def attempt(item: Item, progress: Progress | None = None) -> Result:
        stop.check()
        try:
            with one_line(item.source):
                return item.names | work(item, progress)
        except Failure as failure:
            return item.names | {"error": failure.message}

    if len(items) == 1:
        with progress_of("Mpixel", 1e6) as progress:
            return [attempt(items[0], progress)]
    with _progress_of_files(len(items)) as advance:
        if jobs == 1:
            return [advance(attempt(item)) for item in items]
        with ThreadPoolExecutor(jobs) as pool:
            futures = [pool.submit(attempt, item) for item in items]
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
def progress_of(unit: str, size: float = 1) -> Iterator[Progress | None]:
    """Show a progress bar with the speed and the time left if standard error is a terminal.

    Parameters
    ----------
    unit : str
        What is done, such as "frames".
    size : float
        How many of what is counted are one of `unit`.
    """
    if not sys.stderr.isatty():
        yield None
        return
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        bars: list[Any] = []

        def show(done: int, total: int) -> None:
            elapsed = time.monotonic() - start
            if not bars and elapsed > _PATIENCE:
                bar = click.progressbar(
                    itertools.repeat(None), total or None, file=sys.stderr, show_pos=not total,
                    item_show_func=lambda text: text or "",
                )  # fmt: skip
                bars.append(stack.enter_context(bar))
            for bar in bars:
                bar.length = total or None
                bar.update(done - bar.pos, f"{done / size / elapsed:.1f} {unit}/s")

        yield show
