"""The command `histeq bench`."""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from histeq._cli import drawing, options
from histeq._cli.report import Failure, one_line
from histeq._core import stop

SLOWER = 3
"""The exit code of --compare where something became slower."""
_INTERRUPTED = 130
_SELECTION = (
    "ops", "sizes", "dtypes", "contents", "layout", "batch", "color", "backends", "peers", "threads",
)  # fmt: skip


def _listed(context: click.Context, parameter: click.Parameter, value: str | None) -> list[str] | None:
    """Parse words between commas; "none" is an empty list."""
    if value is None:
        return None
    return [] if value == "none" else [word.strip() for word in value.split(",") if word.strip()]


def _numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> list[int] | None:
    """Parse whole numbers between commas."""
    words = _listed(context, parameter, value)
    if words is None:
        return None
    if not words or not all(word.isdecimal() and int(word[:9]) > 0 for word in words):
        raise click.BadParameter(f"{value!r} is not one or more whole numbers, such as 1,2")
    return [int(word) for word in words]


def _words(name: str, argument: str, help: str) -> options.Decorator:
    return click.option(name, argument, callback=_listed, metavar="NAMES", help=help)


@click.command()
@click.argument("image", metavar="[IMAGE]", type=options.PATH, required=False)
@_words("--ops", "ops", "equalize, clahe, histogram, lut, match.  [default: all but match]")
@_words("--size", "sizes", "64, 256, 1080p, 4k, 8k, 16k, or ROWSxCOLUMNS.  [default: 256,1080p,4k]")
@_words("--dtypes", "dtypes", "u8, u16, f32.  [default: u8]")
@_words("--content", "contents", "natural, constant, two-valued, noise.  [default: natural]")
@click.option("--layout", metavar="LETTERS", help="HW, HWC, NHW or NHWC.  [default: HW]")
@click.option("--batch", callback=_numbers, metavar="N,...", help="How many images, with N.  [default: 16]")
@click.option(
    "--color", type=click.Choice(["luma", "channels"]), help="What to process, with C.  [default: luma]"
)
@_words("--backends", "backends", "Of those that `histeq backends` lists.  [default: all]")
@_words(
    "--peers",
    "peers",
    "opencv, skimage, pillow, vips, recipe, torchvision, kornia, cvcuda, cucim, or none.  "
    "[default: those installed]",
)
@click.option("--threads", callback=_numbers, metavar="N,...", help="[default: 1 and all]")
@click.option(
    "--seconds", type=click.FloatRange(0, 1e6, min_open=True), default=60, show_default=True,
    help="How long the timing may take.",
)  # fmt: skip
@click.option(
    "--output", type=click.Choice(["table", "md", "csv", "json"]), default="table", show_default=True,
    help="How to print the results.",
)  # fmt: skip
@click.option("--save", type=options.PATH, metavar="FILE", help="Keep the results, as JSON.")
@click.option("--load", type=options.PATH, metavar="FILE", help="Show kept results; measure nothing.")
@click.option(
    "--compare",
    type=options.PATH,
    metavar="FILE",
    help="Say what became faster or slower than in kept results.",
)
@click.option("--plot", type=options.PATH, metavar="FILE.png", help="Draw the throughput by size.")
@click.option("--file", "file", type=options.PATH, metavar="IN", help="Time a whole file instead, by phase.")
@click.option("--video", type=options.PATH, metavar="IN", help="Time a whole video instead, by phase.")
@click.option("--calibrate", is_flag=True, help="Check the thresholds of the automatic choice instead.")
@click.option(
    "--write", is_flag=True, help="With --calibrate: keep the thresholds that differ, for later calls."
)
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
@options.max_pixels
def bench(
    image: Path | None,
    seconds: float,
    output: str,
    save: Path | None,
    load: Path | None,
    compare: Path | None,
    plot: Path | None,
    file: Path | None,
    video: Path | None,
    calibrate: bool,
    write: bool,
    overwrite: bool,
    max_pixels: int,
    **selection: Any,
) -> None:
    """Time the backends beside other libraries: which is fastest here, and how far from copying memory.

    Of IMAGE, or of images that are made. Every library runs in a process of its own, all in turns; its pixels
    are compared first. Ctrl-C prints what was measured until then.

    With --compare the selection is that of FILE unless options say otherwise. Exit code 0: done, nothing
    became slower; 3: something became slower; 1: a failure, or backends whose pixels differ; 2: wrong usage;
    130: interrupted.
    """
    _check_usage(locals())
    if file is not None or video is not None:
        _files(file or video, ["video"] if video else selection["ops"], output, seconds)
        return
    if calibrate:
        _calibrate(write, seconds)
        return
    if save is not None:
        _check_writable(save, overwrite)
    if plot is not None:
        drawing.check_name(plot)
        with one_line():
            import matplotlib  # noqa: F401
        _check_writable(plot, overwrite)
    _report(locals())


def _check_usage(given: dict[str, Any]) -> None:
    """Refuse options that do not go together."""
    others = [name for name in ("file", "video", "calibrate", "load") if given[name]]
    if len(others) > 1:
        raise click.UsageError(f"--{others[0]} and --{others[1]} exclude each other")
    if given["write"] and not given["calibrate"]:
        raise click.UsageError("--write belongs to --calibrate")
    if not others:
        return
    (mode,) = others
    alone = ["image", "save"] if mode == "load" else ["image", "save", "compare", "plot"]
    alone += [name for name in _SELECTION if not (mode == "file" and name == "ops")]
    for name in alone:
        value = given[name] if name in given else given["selection"][name]
        if value is not None:
            option = {"image": "IMAGE", "sizes": "--size", "contents": "--content"}.get(name, f"--{name}")
            raise click.UsageError(f"{option} does not go with --{mode}")


def _report(given: dict[str, Any]) -> None:
    """Measure, or load, and print, compare, keep and draw."""
    from histeq._bench import compare, plot, report
    from histeq._bench.result import BenchResult

    with one_line():
        before = BenchResult.load(given["compare"]) if given["compare"] else None
        result = BenchResult.load(given["load"]) if given["load"] else _measured(given, before)
    click.echo(report.OUTPUTS[given["output"]](result), nl=False)
    if given["save"]:
        with one_line(given["save"]):
            given["save"].write_text(result.to_json(), encoding="utf-8")
    if given["plot"] and result.records:
        with one_line(given["plot"]):
            plot.draw(result, given["plot"])
    if before is not None:
        click.echo(
            f"\nsince {given['compare']}:\n{compare.text(before, result)}",
            nl=False,
            err=given["output"] != "table",
        )
    if result.interrupted and not given["load"]:
        sys.exit(_INTERRUPTED)
    if result.wrong:
        raise Failure("the backends disagree; please report it")
    if not result.records:
        raise Failure("nothing was measured")
    if before is not None and any(change.outcome == "slower" for change in compare.changes(before, result)):
        sys.exit(SLOWER)


def _measured(given: dict[str, Any], before: Any) -> Any:
    """Measure what the options say, or what was measured before."""
    from histeq._bench.plan import plan
    from histeq._bench.session import Session

    selection, seconds = given["selection"], given["seconds"]
    if before is not None and given["image"] is None and all(value is None for value in selection.values()):
        selection = {name: before.selection.get(name) for name in _SELECTION}
    array = None
    more: dict[str, Any] = {}
    if given["image"] is not None:
        array, more = _picture(given["image"], given["max_pixels"], selection)
    found = plan(array, **{**selection, **more})
    with _progress() as progress:
        session = Session(
            found.cases, found.candidates, seconds=seconds, given=found.given, left_out=found.left_out,
            selection={**found.selection, "seconds": seconds}, progress=progress,
        )  # fmt: skip
        interrupted = False
        try:
            session.run()
        except (KeyboardInterrupt, stop.Stopped):
            interrupted = True
    return session.result(interrupted)


def _picture(path: Path, max_pixels: int, selection: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return a picture's pixels without alpha, and what else is to be said of them."""
    from histeq import _files

    with one_line(path):
        picture = _files.read(path, max_pixels=max_pixels)
    pixels, layout = picture.pixels, picture.layout
    if selection["layout"] not in (None, layout):
        raise Failure(f"{path}: --layout must be the picture's own, {layout}, got {selection['layout']}")
    if picture.alpha:
        pixels = pixels[..., :-1]
    if "C" in layout and pixels.shape[-1] == 1:
        pixels, layout = pixels[..., 0], layout[:-1]
    return pixels, {"layout": layout, "name": path.name}


def _check_writable(path: Path, overwrite: bool) -> None:
    """Notice before measuring what could not be written after it."""
    if path.exists() and not overwrite:
        raise Failure(f"{path}: exists already; --overwrite replaces it")
    existed = path.exists()
    with one_line():
        try:
            with path.open("ab"):
                pass
        except OSError as error:
            raise Failure(f"{path}: {error.strerror}") from error
    if not existed:
        path.unlink()


def _files(path: Any, ops: list[str] | None, output: str, seconds: float) -> None:
    """Time a whole file by phase."""
    from histeq._bench import phases

    with one_line(), _progress() as progress:
        found = []
        for op in ops or ["equalize"]:
            progress(f"{op} of {path}", 0)
            found.append(phases.time_file(path, op, seconds=seconds / len(ops or [op])))
    if output == "json":
        click.echo(json.dumps([dataclasses.asdict(each) for each in found], indent=1))
    else:
        click.echo(phases.tables(found), nl=False)


def _calibrate(write: bool, seconds: float) -> None:
    """Check the thresholds, and keep them if asked to."""
    from histeq._bench import calibrate
    from histeq._core import tuning

    with one_line(), _progress() as progress:
        if write and tuning.path() is None:
            raise Failure(
                "there is no place for the thresholds: HISTEQ_TUNING is empty, or there is no home folder"
            )
        found = calibrate.calibrate(seconds, progress=progress)
    for threshold in found:
        click.echo(str(threshold))
    if not found:
        click.echo("one processor and no GPU: there is nothing to choose")
        return
    keep = calibrate.to_keep(found)
    unsettled = any(threshold.measured is None for threshold in found)
    nothing = "nothing to keep: " + (
        "more threads paid at no size, as on a busy machine; try again when it is quiet"
        if unsettled
        else "nothing differs by more than a factor of two"
    )
    if not write:
        click.echo("--write would keep what differs" if keep else nothing)
    elif keep:
        with one_line():
            where = tuning.write(keep)
        click.echo(f"kept in {where}, for calls of later processes on this machine; delete it to go back")
    else:
        click.echo(nothing)


@contextmanager
def _progress() -> Iterator[Callable[[str, float], object]]:
    """Show one line of what is being done if standard error is a terminal."""
    if not sys.stderr.isatty():
        yield lambda what, share: None
        return
    begin = time.monotonic()

    def show(what: str, share: float) -> None:
        width = max(20, os.get_terminal_size(sys.stderr.fileno()).columns - 1)
        text = f"{share:4.0%} {time.monotonic() - begin:4.0f} s  {what}"
        click.echo(f"\r{text[:width]:{width}}", nl=False, err=True)

    try:
        yield show
    finally:
        click.echo("\r\033[K", nl=False, err=True)
