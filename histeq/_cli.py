"""The command line. Files in, files out; numbers on standard output, all else on standard error."""

import contextlib
import dataclasses
import functools
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

import histeq
from histeq import _files
from histeq._files import FileError, Picture

Work = Callable[[Path, Path], dict[str, Any]]


class Failure(click.ClickException):
    """A failure in one line, exit code 1."""

    exit_code = 1

    def show(self, file: Any = None) -> None:
        """Print it to standard error."""
        click.echo(f"histeq: error: {self.message}", file=file, err=True)


@contextlib.contextmanager
def _one_line(subject: Path | None = None) -> Iterator[None]:
    """Turn what a user can mend (a file, an argument, a missing library) into a failure in one line."""
    try:
        yield
    except FileError as error:
        raise Failure(str(error)) from error
    except ImportError as error:
        raise Failure(f'{error.name or error} is missing: pip install "histeq[cli]"') from error
    except MemoryError as error:
        raise Failure(f"{subject}: not enough memory" if subject else "not enough memory") from error
    except (ValueError, TypeError, RuntimeError, OSError) as error:
        text = " ".join(str(error).split())
        raise Failure(f"{subject}: {text}" if subject else text) from error


# Options ------------------------------------------------------------------------------------------


def _number_or_none(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    """Read the value of --nodata: a number, "none", or None where it is not given."""
    if value is None or value == "none":
        return value
    try:
        number = float(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is neither a number nor 'none'") from None
    return int(number) if number.is_integer() else number


_PATH = click.Path(path_type=Path)
_COLOR = click.Choice(["luma", "channels"])


def _options(*options: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        return functools.reduce(lambda made, option: option(made), reversed(options), command)

    return add


_max_pixels = click.option(
    "--max-pixels",
    type=click.IntRange(1),
    default=_files.MAX_PIXELS,
    metavar="N",
    help="Refuse larger files before decoding them (decompression bombs).  [default: 2^30]",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
_backend = click.option("--backend", metavar="NAME", help="One of those that `histeq backends` lists.")
_mask = click.option("--mask", type=_PATH, metavar="FILE", help="Count only where this picture is not zero.")
_nodata = click.option(
    "--nodata",
    callback=_number_or_none,
    metavar="VALUE",
    help="The value that is not counted and stays; 'none' for none.  [default: GDAL's tag, if any]",
)
_equalizing = _options(
    click.option(
        "--rule",
        type=click.Choice(["opencv", "pillow", "numpy", "skimage", "vips"]),
        default="opencv",
        show_default=True,
        help="Whose arithmetic to reproduce. Floating pictures have scikit-image's only.",
    ),
    click.option(
        "--color", type=_COLOR, default="luma", show_default=True, help="What to equalize in colour."
    ),
    _mask,
    _nodata,
    click.option(
        "--out-range", type=float, nargs=2, metavar="LO HI", help="The lowest and the highest output level."
    ),
    click.option(
        "--bins",
        type=click.IntRange(1),
        metavar="N",
        help="Floating pictures: how many bins.  [default: 256]",
    ),
    click.option(
        "--value-range",
        type=float,
        nargs=2,
        metavar="LO HI",
        help="Floating pictures: what the bins span.  [default: the values' own range]",
    ),
    _backend,
)
_writing = _options(
    click.option("--overwrite", is_flag=True, help="Replace existing files."),
    click.option(
        "--quality",
        type=click.IntRange(1, 100),
        help="Of JPEG and WebP.  [default: JPEG keeps its own, else 95; WebP stays lossless]",
    ),
    _max_pixels,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(histeq.__version__, package_name="histeq", message="%(prog)s %(version)s")
def cli() -> None:
    """Equalize the histograms of pictures: PNG, JPEG, WebP, BMP and TIFF."""
    # What the libraries find odd in a file is either reported as an error, or harmless: without a handler
    # Python would print it.
    logging.getLogger().addHandler(logging.NullHandler())
    warnings.filterwarnings("ignore", module=r"PIL\.")


# equalize, match ----------------------------------------------------------------------------------


@cli.command()
@click.argument("inputs", metavar="IN...", type=_PATH, nargs=-1, required=True)
@click.argument("output", metavar="OUT", type=click.Path())
@_equalizing
@_writing
@click.option("-j", "--jobs", type=click.IntRange(1), default=1, help="Files at a time.  [default: 1]")
@_json
def equalize(
    inputs: Sequence[Path],
    output: str,
    mask: Path | None,
    overwrite: bool,
    quality: int | None,
    max_pixels: int,
    jobs: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Equalize IN into OUT, or several IN into the folder OUT.

    OUT's suffix names its format. With several IN, OUT is an existing folder, or ends in / and is made.
    """
    targets = _targets(inputs, output, overwrite)
    with _one_line(mask):
        counted = _read_mask(mask, max_pixels)
    _make_folder(output)

    def work(source: Path, target: Path) -> dict[str, Any]:
        start = time.perf_counter()
        picture = _files.read(source, max_pixels=max_pixels)
        decoded = time.perf_counter()
        result = equalized(picture, mask=counted, **options)
        done = time.perf_counter()
        _files.write(result, target, quality=quality)
        return {
            **_description(result),
            "rule": "skimage" if picture.pixels.dtype.kind == "f" else options["rule"],
            "seconds": _seconds(start, decoded, done, time.perf_counter()),
        }

    _report(_each(work, inputs, targets, jobs), as_json)


@cli.command()
@click.argument("source", metavar="IN", type=_PATH)
@click.argument("reference", metavar="REFERENCE", type=_PATH)
@click.argument("output", metavar="OUT", type=click.Path())
@click.option("--color", type=_COLOR, default="channels", show_default=True, help="What to match in colour.")
@_options(_mask, _nodata, _backend)
@_writing
@_json
def match(
    source: Path,
    reference: Path,
    output: str,
    color: str,
    mask: Path | None,
    nodata: Any,
    backend: str | None,
    overwrite: bool,
    quality: int | None,
    max_pixels: int,
    as_json: bool,
) -> None:
    """Give IN the histogram of REFERENCE, and write it to OUT."""
    (target,) = _targets([source], output, overwrite)
    with _one_line(mask):
        counted = _read_mask(mask, max_pixels)
    _make_folder(output)

    def work(source: Path, target: Path) -> dict[str, Any]:
        start = time.perf_counter()
        picture, model = (_files.read(path, max_pixels=max_pixels) for path in (source, reference))
        decoded = time.perf_counter()
        result = matched(
            picture, model, color=color, mask=counted, nodata=_nodata_of(picture, nodata), backend=backend
        )
        done = time.perf_counter()
        _files.write(result, target, quality=quality)
        seconds = _seconds(start, decoded, done, time.perf_counter())
        return {"reference": str(reference), **_description(result), "seconds": seconds}

    _report(_each(work, [source], [target], jobs=1), as_json)


def equalized(picture: Picture, *, color: str, nodata: Any = None, **options: Any) -> Picture:
    """Return the picture with its colours equalized and its alpha as it was."""
    options["nodata"] = _nodata_of(picture, nodata)

    def part(channels: slice) -> NDArray[Any]:
        pixels = picture.batch[..., channels]
        return np.asarray(histeq.equalize(pixels, layout="NHWC", color=color, **options))

    return _mapped(picture, color, part)


def matched(picture: Picture, model: Picture, *, color: str, **options: Any) -> Picture:
    """Return the picture with the model's histograms and its alpha as it was."""
    if picture.channels - picture.alpha != model.channels - model.alpha:
        counts = (model.channels - model.alpha, picture.channels - picture.alpha)
        raise ValueError(
            "the reference has {} channels and the picture {} (alpha not counted)".format(*counts)
        )

    def part(channels: slice) -> NDArray[Any]:
        pair = (picture.batch[..., channels], model.batch[..., channels])
        return np.asarray(histeq.match(*pair, layout="NHWC", color=color, **options))

    return _mapped(picture, color, part)


def _mapped(picture: Picture, color: str, part: Callable[[slice], NDArray[Any]]) -> Picture:
    """Put a picture together from its mapped channels."""
    mapped = [part(channels) for channels in _parts(picture, color)]
    if picture.alpha:
        if mapped[0].dtype != picture.pixels.dtype:
            raise ValueError(
                "the result would be fractions beside an alpha channel of integers; use another rule"
            )
        mapped.append(picture.batch[..., -1:])
    pixels = mapped[0] if len(mapped) == 1 else np.concatenate(mapped, axis=-1)
    return dataclasses.replace(picture, pixels=pixels.reshape(picture.pixels.shape))


def _parts(picture: Picture, color: str) -> list[slice]:
    """Say which channels go through histeq together; alpha does not.

    To histeq a fourth channel is alpha, so that four bands without alpha go one by one.
    """
    channels = picture.channels - picture.alpha
    if channels != 4:
        return [slice(0, channels)]
    if color == "luma":
        raise ValueError("the picture has four bands, none of them alpha: use --color channels")
    return [slice(band, band + 1) for band in range(4)]


def _nodata_of(picture: Picture, asked: Any) -> Any:
    if asked is None:
        return picture.nodata
    return None if asked == "none" else asked


def _read_mask(path: Path | None, max_pixels: int) -> NDArray[np.bool_] | None:
    """Return where a picture is not zero in any of its colours, (H, W) or (N, H, W)."""
    if path is None:
        return None
    mask = _files.read(path, max_pixels=max_pixels)
    counted = (mask.batch[..., : mask.channels - mask.alpha] != 0).any(axis=-1)
    return counted if "N" in mask.layout else counted[0]


def _description(picture: Picture) -> dict[str, Any]:
    pages, height, width, channels = picture.batch.shape
    dtype = str(picture.pixels.dtype)
    return {"width": width, "height": height, "pages": pages, "channels": channels, "dtype": dtype}


def _seconds(*moments: float) -> dict[str, float]:
    steps = zip(("read", "compute", "write"), moments[:-1], moments[1:], strict=True)
    return {name: round(after - before, 6) for name, before, after in steps}


def _targets(inputs: Sequence[Path], output: str, overwrite: bool) -> list[Path]:
    """Return the file that each input goes to; refuse before any work what cannot go well."""
    folder = Path(output)
    if output.endswith(("/", "\\")) or folder.is_dir():
        targets = [folder / path.name for path in inputs]
    elif len(inputs) == 1:
        targets = [folder]
    else:
        raise click.UsageError(
            "with several IN, OUT must be a folder: an existing one, or a name that ends in /"
        )
    taken: dict[str, Path] = {}
    for path, target in zip(inputs, targets, strict=True):
        with _one_line():
            _files.format_of(target)
        other = taken.setdefault(str(target).casefold(), path)  # as on file systems that ignore case
        if other is not path:
            raise click.UsageError(f"{other} and {path} would both be written to {target}")
    if not overwrite:
        for target in targets:
            if target.exists() or target.is_symlink():
                raise Failure(f"{target}: exists already; --overwrite replaces it")
    return targets


def _make_folder(output: str) -> None:
    """Make the folder that OUT names, if it says so with a slash."""
    if output.endswith(("/", "\\")):
        try:
            Path(output).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Failure(f"{output}: {error.strerror}") from error


def _each(work: Work, inputs: Sequence[Path], targets: Sequence[Path], jobs: int) -> list[dict[str, Any]]:
    """Run the work on every file; a failure is noted and does not stop the others."""

    def attempt(source: Path, target: Path) -> dict[str, Any]:
        names = {"input": str(source), "output": str(target)}
        try:
            with _one_line(source):
                return names | work(source, target)
        except Failure as failure:
            return names | {"error": failure.message}

    pairs = list(zip(inputs, targets, strict=True))
    with _progress(len(pairs)) as advance:
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
def _progress(count: int) -> Iterator[Callable[[dict[str, Any]], dict[str, Any]]]:
    """Show a bar for several files, on a terminal only."""
    if count < 2 or not sys.stderr.isatty():
        yield lambda result: result
        return
    with click.progressbar(length=count, file=sys.stderr) as bar:

        def advance(result: dict[str, Any]) -> dict[str, Any]:
            bar.update(1)
            return result

        yield advance


def _report(results: list[dict[str, Any]], as_json: bool) -> None:
    """Print the failures, and the results where asked; exit with 1 after a failure."""
    if as_json:
        _print_json(results)
    failures = [result["error"] for result in results if "error" in result]
    for message in failures:
        Failure(message).show()
    if failures:
        sys.exit(1)


def _print_json(value: Any) -> None:
    # NaN and infinities are not JSON; they become null.
    def clean(item: Any) -> Any:
        if isinstance(item, dict):
            return {name: clean(part) for name, part in item.items()}
        if isinstance(item, list | tuple):
            return [clean(part) for part in item]
        return None if isinstance(item, float) and not np.isfinite(item) else item

    click.echo(json.dumps(clean(value), indent=2))


# info ---------------------------------------------------------------------------------------------


@cli.command()
@click.argument("inputs", metavar="IN...", type=_PATH, nargs=-1, required=True)
@_nodata
@_max_pixels
@_json
def info(inputs: Sequence[Path], nodata: Any, max_pixels: int, as_json: bool) -> None:
    """Say what pictures hold: size, dtype, channels, the values and how many levels they use."""
    results = []
    for path in inputs:
        try:
            with _one_line(path):
                results.append(_info(path, nodata, max_pixels))
        except Failure as failure:
            results.append({"input": str(path), "error": failure.message})
    if not as_json and any("error" not in result for result in results):
        click.echo("\n\n".join(_info_text(result) for result in results if "error" not in result))
    _report(results, as_json)


def _info(path: Path, nodata: Any, max_pixels: int) -> dict[str, Any]:
    picture = _files.read(path, max_pixels=max_pixels)
    nodata = _nodata_of(picture, nodata)
    return {
        "input": str(path),
        "format": picture.format,
        **_description(picture),
        "alpha": picture.alpha,
        "values": [
            _statistics(picture.batch[..., i], nodata) for i in range(picture.channels - picture.alpha)
        ],
        "nodata": nodata,
        "icc_bytes": len(picture.icc) if picture.icc else 0,
        "orientation": picture.orientation,
        "dpi": picture.dpi,
    }


def _statistics(channel: NDArray[Any], nodata: Any) -> dict[str, Any]:
    """Return the extent, the mean and the number of levels of a channel's valid values."""
    if str(channel.dtype) in ("uint8", "uint16", "int16"):
        counts = histeq.histogram(channel, layout="NHW", nodata=nodata).sum(axis=0)
        levels = np.flatnonzero(counts)
        values = levels + np.iinfo(channel.dtype).min
        counts = counts[levels]
    else:
        valid = channel[np.isfinite(channel)]
        valid = valid if nodata is None else valid[valid != channel.dtype.type(nodata)]
        values, counts = np.unique(valid, return_counts=True)
    if values.size == 0:
        return {"min": None, "max": None, "mean": None, "levels": 0}
    return {
        "min": values[0].item(),
        "max": values[-1].item(),
        "mean": float(np.average(values.astype(np.float64), weights=counts)),
        "levels": int(values.size),
    }


def _info_text(result: dict[str, Any]) -> str:
    colours = {1: ("grey",), 3: ("red", "green", "blue")}
    names = colours.get(len(result["values"])) or [f"band {i + 1}" for i in range(len(result["values"]))]
    pages = f", {result['pages']} pages" if result["pages"] > 1 else ""
    alpha = " with alpha" if result["alpha"] else ""
    plural = "s" if result["channels"] > 1 else ""
    lines = [
        click.format_filename(result["input"]),
        f"  format       {result['format']}{pages}",
        f"  size         {result['width']} x {result['height']}",
        f"  pixels       {result['dtype']}, {result['channels']} channel{plural}{alpha}",
    ]
    for name, value in zip(names, result["values"], strict=True):
        if value["levels"] == 0:
            lines.append(f"  {name:<12} no valid pixel")
            continue
        extent = f"{value['min']:.6g} to {value['max']:.6g}, mean {value['mean']:.6g}"
        lines.append(f"  {name:<12} {extent}, {value['levels']} level{'s' * (value['levels'] > 1)}")
    if result["nodata"] is not None:
        lines.append(f"  nodata       {result['nodata']}")
    if result["dpi"]:
        lines.append("  resolution   {:.4g} x {:.4g} dpi".format(*result["dpi"]))
    if result["icc_bytes"]:
        lines.append(f"  ICC profile  {result['icc_bytes']} bytes")
    if result["orientation"] != 1:
        lines.append(f"  orientation  {result['orientation']} (EXIF)")
    return "\n".join(lines)


# plot ---------------------------------------------------------------------------------------------


@cli.command()
@click.argument("source", metavar="IN", type=_PATH)
@click.argument("output", metavar="OUT.png", type=_PATH)
@_equalizing
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@_max_pixels
def plot(
    source: Path, output: Path, mask: Path | None, overwrite: bool, max_pixels: int, **options: Any
) -> None:
    """Show IN before and after, with both histograms and cumulative curves, in one picture.

    OUT may also be .svg or .pdf. Of a file with several pages the first is shown.
    """
    if output.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise click.UsageError(f"{output}: the name must end in .png, .svg or .pdf")
    if output.exists() and not overwrite:
        raise Failure(f"{output}: exists already; --overwrite replaces it")
    with _one_line(mask):
        counted = _read_mask(mask, max_pixels)
    with _one_line(source):
        from histeq import _plot

        picture = _files.read(source, max_pixels=max_pixels)
        result = equalized(picture, mask=counted, **options)
        rule = "skimage" if picture.pixels.dtype.kind == "f" else options["rule"]
        height, width = picture.batch.shape[1:3][:: 1 if picture.orientation < 5 else -1]  # as shown, upright
        titles = (
            f"{_shortened(source.name)}\n{width} x {height}, {picture.pixels.dtype}",
            f"equalized\nrule {rule}",
        )
        panels = [
            _panel(shown, title, counted, options)
            for shown, title in zip((picture, result), titles, strict=True)
        ]
    with _one_line(output), _files.replacing(output) as temporary:
        _plot.draw(temporary, (panels[0], panels[1]))


def _panel(picture: Picture, title: str, mask: NDArray[np.bool_] | None, options: dict[str, Any]) -> Any:
    """Return one side of the plot: the first page, its counts and what they span."""
    from histeq import _plot

    color, parts = options["color"], _parts(picture, options["color"])
    pixels = picture.batch[:1]
    arguments: dict[str, Any] = {
        "layout": "NHWC",
        "color": color,
        "nodata": _nodata_of(picture, options["nodata"]),
    }
    arguments["mask"] = mask if mask is None or mask.ndim == 2 else mask[:1]
    floating = pixels.dtype.kind == "f"
    if floating:
        extent = _float_extent(pixels[..., : parts[-1].stop], arguments["nodata"])
        arguments |= {"bins": 256, "value_range": extent}
    made = [histeq.histogram(pixels[..., channels], **arguments) for channels in parts]
    counts = np.concatenate([part.reshape(-1, part.shape[-1]) for part in made])
    if not floating:
        counts, extent = _used(counts, pixels.dtype)
    label = "luma" if color == "luma" and parts[0].stop == 3 else "value"
    shown = pixels[0]
    if not picture.alpha and picture.channels in (2, 4):  # the plot would take the last one for alpha
        shown = shown[..., :-1]
    return _plot.Panel(title, shown, counts, extent, label, picture.orientation)


def _float_extent(pixels: NDArray[Any], nodata: Any) -> tuple[float, float]:
    valid = pixels[np.isfinite(pixels)]
    valid = valid if nodata is None else valid[valid != pixels.dtype.type(nodata)]
    low, high = (float(valid.min()), float(valid.max())) if valid.size else (0.0, 1.0)
    return (low, high) if low < high else (low, low + 1)


def _used(counts: NDArray[np.int64], dtype: np.dtype[Any]) -> tuple[NDArray[np.int64], tuple[float, float]]:
    """Cut the counts of 16-bit pixels down to the values in use; return them with what they span."""
    levels = np.flatnonzero(counts.any(axis=0))
    whole = counts.shape[1] == 256 or levels.size == 0
    first, last = (0, counts.shape[1] - 1) if whole else (levels[0], levels[-1])
    smallest = np.iinfo(dtype).min - 0.5
    return counts[:, first : last + 1], (float(first + smallest), float(last + 1 + smallest))


def _shortened(name: str) -> str:
    name = click.format_filename(name)
    return name if len(name) <= 48 else f"{name[:22]}…{name[-22:]}"


# backends -----------------------------------------------------------------------------------------


@cli.command()
@click.argument("image", metavar="[IMAGE]", type=_PATH, required=False)
@click.option("--color", type=_COLOR, default="luma", show_default=True, help="What to equalize in colour.")
@_max_pixels
@_json
def backends(image: Path | None, color: str, max_pixels: int, as_json: bool) -> None:
    """List the backends; with IMAGE, time each on it and compare what they make of it."""
    with _one_line(image):
        rows = [dataclasses.asdict(backend) for backend in histeq.backends()]
        if image is not None:
            picture = _files.read(image, max_pixels=max_pixels)
            _time_all(rows, picture, color)
    if as_json:
        _print_json(rows)
    else:
        click.echo(_table(rows))
        if image is not None:
            click.echo(_verdict(rows, image, picture))
    if any(row.get("identical") is False for row in rows):
        raise Failure("the backends disagree; please report it with the image")


def _time_all(rows: list[dict[str, Any]], picture: Picture, color: str) -> None:
    """Note each available backend's best time, and whether its result is that of the first."""
    expected: Picture | None = None
    for row in rows:
        if not row["available"]:
            continue
        run = functools.partial(equalized, picture, color=color, backend=row["name"])
        result = run()  # also loads, compiles and warms up
        row["milliseconds"] = _best_time(run) * 1e3
        row["megapixels_per_second"] = np.prod(picture.batch.shape[:3]).item() / row["milliseconds"] / 1e3
        expected = expected or result
        equal_nan = result.pixels.dtype.kind == "f"
        row["identical"] = np.array_equal(result.pixels, expected.pixels, equal_nan=equal_nan)
    timed = [row for row in rows if "milliseconds" in row]
    for row in timed:
        row["fastest"] = row["milliseconds"] == min(other["milliseconds"] for other in timed)


def _best_time(run: Callable[[], Any], rounds: int = 20, budget: float = 1.0) -> float:
    """Return the shortest of several runs, in seconds; at least three, then until the budget is spent."""
    times: list[float] = []
    while len(times) < 3 or (len(times) < rounds and sum(times) < budget):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def _table(rows: list[dict[str, Any]]) -> str:
    timed = any("milliseconds" in row for row in rows)
    lines = [["backend", "available", *(["ms", "Mpixel/s"] if timed else []), "device"]]
    for row in rows:
        line = [row["name"], "yes" if row["available"] else "no"]
        if timed and "milliseconds" in row:
            line += [f"{row['milliseconds']:.2f}", f"{row['megapixels_per_second']:.0f}"]
        elif timed:
            line += ["", ""]
        mark = "  <- fastest" if row.get("fastest") else ""
        lines.append([*line, (row["device"] if row["available"] else row["reason"]) + mark])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    numbers = range(2, 4) if timed else range(0)
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i in numbers else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _verdict(rows: list[dict[str, Any]], image: Path, picture: Picture) -> str:
    names = [row["name"] for row in rows if "identical" in row]
    _, height, width, _ = picture.batch.shape
    what = f"{click.format_filename(image)}: {width} x {height} {picture.pixels.dtype}"
    if not all(row.get("identical", True) for row in rows):
        return f"\n{what}; the results DIFFER"
    return f"\n{what}; best of several runs" + (
        f"; results identical: {', '.join(names)}" if len(names) > 1 else ""
    )
