"""Arguments and options that several commands share."""

import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import click

from histeq import _files
from histeq._api import files
from histeq._cli.report import Failure, one_line
from histeq._cluster import client as cluster_client

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

STANDARD = "-"
"""The name of standard input and standard output."""
STANDARD_INPUT = (STANDARD, "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")
STANDARD_OUTPUT = (STANDARD, "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
Name = Path | str
"""A path, or `STANDARD`; a file called "-" is "./-"."""


class _FileName(click.Path):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Name:
        return STANDARD if value in STANDARD_INPUT else Path(value)


def standard_input() -> BinaryIO:
    """Return standard input, unless somebody would have to type what is in it."""
    stream: BinaryIO = sys.stdin.buffer
    if stream.isatty():
        raise Failure("-: standard input is a terminal: a picture or video comes from a pipe or by <")
    return stream


def standard_output() -> BinaryIO:
    """Return standard output, unless it is a terminal."""
    stream: BinaryIO = sys.stdout.buffer
    if stream.isatty():
        raise Failure("-: pictures and videos are not written to a terminal: > names a file, | a program")
    try:
        number = stream.fileno()
    except io.UnsupportedOperation:
        return stream
    # With a buffer of its own: where a pipe is dead, nothing is left to be written when Python ends.
    own: Any = open(number, "wb", closefd=False)  # noqa: SIM115
    own.raw.name = "<stdout>"
    return cast(BinaryIO, own)


def together(*options: Decorator) -> Decorator:
    """Combine several decorators into one; --help lists their options in this order."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def _number_or_none(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    """Parse the value of --nodata: a number, None for "none", or "file" where it is not given."""
    if value is None or value == "none":
        return "file" if value is None else None
    try:
        number = float(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is neither a number nor 'none'") from None
    return int(number) if number.is_integer() else number


def _rows_by_columns(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[int, int] | None:
    """Parse the value of --tiles or --tile-size: one number, or rows x columns."""
    if value is None:
        return None
    parts = value.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise click.BadParameter(f"{value!r} is neither a number of at least 1 nor two of them such as 8x8")
    return int(parts[0]), int(parts[-1])


def _known_format(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[str, str] | None:
    """Parse the value of --format: return the format and the suffix of its files."""
    if value is None:
        return None
    suffix = f".{value.lower().removeprefix('.')}"
    with one_line():
        return _files.format_of(Path(f"--format{suffix}")), suffix


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Connect to --cluster, or start it, once for all files."""
    if address is None:
        yield None
        return
    with contextlib.ExitStack() as stack:
        with one_line():
            client = stack.enter_context(cluster_client.connected(address))
        link = cluster_client.dashboard(client, address)
        if link is not None:
            click.echo(f"histeq: note: dashboard at {link}", err=True)
        yield client


@contextlib.contextmanager
def opened_mask(path: Path | None, max_pixels: int) -> Iterator[Any]:
    """Open --mask before any work is done."""
    with contextlib.ExitStack() as stack:
        if path is None:
            yield None
            return
        with one_line(path):
            mask = stack.enter_context(files.opened_mask(path, max_pixels))
        yield mask


def share_memory(arguments: dict[str, Any], jobs: int) -> None:
    """Divide --memory among files that are processed at the same time; on a cluster it is a task's."""
    if arguments.get("cluster") is not None:
        return
    with one_line():
        arguments["memory"] = max(1 << 20, files.bytes_of(arguments["memory"]) // jobs)


def check_tiling(arguments: dict[str, Any]) -> None:
    """Convert --tiles and --tile-size to arguments of `histeq.clahe`; only one of them may be given."""
    if arguments["tiles"] is None:
        del arguments["tiles"]
    elif arguments["tile_size"] is not None:
        raise click.UsageError("--tile-size replaces --tiles: give one of them")


def color(default: str | None, does: str) -> Decorator:
    """Return the option --color for a command; None: luma, where nothing speaks against it."""
    choice = click.Choice(["luma", "luma-bgr", "channels"])
    return click.option(
        "--color",
        type=choice,
        default=default,
        show_default=default or "luma, of what is said to be colour",
        help=f"What to {does} in colour; luma-bgr: of files whose first channel is blue.",
    )


PATH = click.Path(readable=False, path_type=Path)  # what cannot be read is reported as any other bad file
FILE = _FileName(readable=False)
TARGET = click.Path(readable=False)

max_pixels = click.option(
    "--max-pixels",
    type=click.IntRange(1),
    default=_files.MAX_PIXELS,
    metavar="N",
    help="Refuse larger files before decoding them (decompression bombs).  [default: 2^30]",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
backend = click.option("--backend", metavar="NAME", help="One of those that `histeq backends` lists.")
mask = click.option("--mask", type=PATH, metavar="FILE", help="Count only where this picture is not zero.")
nodata = together(
    click.option(
        "--nodata",
        callback=_number_or_none,
        metavar="VALUE",
        help="The value that is not counted and stays; 'none' for none.  "
        "[default: the file's, unless it has a mask]",
    ),
    click.option("--count-transparent", is_flag=True, help="Count pixels, too, whose alpha is 0."),
)
out_range = click.option(
    "--out-range", type=float, nargs=2, metavar="LO HI", help="The lowest and the highest output level."
)
value_range = click.option(
    "--value-range",
    type=float,
    nargs=2,
    metavar="LO HI",
    help="The values that are counted: 0 4095 for 12 bits in the lower bits of 16.  "
    "[default: all; of floating pictures their own range]",
)
out_dtype = click.option(
    "--out-dtype", type=click.Choice(["uint8"]), help="uint8: make 8 bits of 16.  [default: as IN]"
)
alpha = click.option(
    "--alpha/--no-alpha",
    default=None,
    help="The last channel is alpha, neither counted nor changed, or is none.  [default: as IN says]",
)
pattern = together(
    click.option("--pattern", metavar="GLOB", help='Of a folder as IN the files called so, such as "*.tif".'),
    click.option("--recursive", is_flag=True, help="Of a folder as IN its folders, too."),
)
jobs = click.option("-j", "--jobs", type=click.IntRange(1), default=1, help="Files at a time.  [default: 1]")
tiling = together(
    click.option(
        "--clip",
        "clip_limit",
        type=float,
        default=2.0,
        show_default=True,
        help="The limit on the contrast's amplification, as in OpenCV; 0: none.",
    ),
    click.option(
        "--tiles",
        callback=_rows_by_columns,
        metavar="ROWSxCOLUMNS",
        help="How many tiles.  [default: 8x8]",
    ),
    click.option(
        "--tile-size",
        callback=_rows_by_columns,
        metavar="PIXELS",
        help="The tiles' size instead; rows x columns unless square.",
    ),
)
equalizing = together(
    click.option(
        "--rule",
        type=click.Choice(["opencv", "pillow", "numpy", "skimage", "vips"]),
        default="opencv",
        show_default=True,
        help="Whose arithmetic to reproduce. Floating pictures have scikit-image's only.",
    ),
    color(None, "equalize"),
    mask,
    nodata,
    out_range,
    click.option(
        "--bins",
        type=click.IntRange(1),
        metavar="N",
        help="Floating pictures: how many bins.  [default: 256]",
    ),
    value_range,
    out_dtype,
    backend,
)
pages = click.option(
    "--pages",
    type=click.Choice(["each", "together"]),
    default="each",
    show_default=True,
    help="Whether every page has a histogram of its own, or all have one together.",
)
cluster = together(
    click.option(
        "--cluster",
        metavar="ADDRESS",
        help="Have a Dask cluster do the work, on paths that its workers see or URLs, into a Zarr store: "
        "tcp://host:8786 of a scheduler, or local:N, N processes here.",
    ),
    click.option(
        "--resume", is_flag=True, help="Go on with what a lost run on a cluster has left of OUT, if it has."
    ),
)
writing = together(
    click.option("--overwrite", is_flag=True, help="Replace existing files."),
    click.option("--skip-existing", is_flag=True, help="Leave out what exists already."),
    click.option("--dry-run", is_flag=True, help="Check everything, say what would be done, write nothing."),
    click.option(
        "--format",
        callback=_known_format,
        metavar="SUFFIX",
        help="The format of OUT: png, jpg, webp, bmp, gif, jp2, jxl, avif, tif, npy, zarr, dcm.  "
        "[default: by its name; of - as IN]",
    ),
    click.option(
        "--strict",
        is_flag=True,
        help="Fail, before any work, where something of IN cannot be carried to OUT.",
    ),
    click.option(
        "--lenient", is_flag=True, help="Keep what can be decoded of damaged files, with a warning."
    ),
    click.option(
        "--compression",
        metavar="NAME",
        help="Of TIFF and Zarr: none, deflate, lzw, zstd, packbits, jpeg, ...  [default: as IN]",
    ),
    click.option(
        "--overviews/--no-overviews",
        default=None,
        help="Write reduced copies of the image, or none.  [default: as IN]",
    ),
    click.option(
        "--quality",
        type=click.IntRange(1, 100),
        help="Of JPEG, in TIFF too, WebP, JPEG 2000, JPEG XL and AVIF.  [default: JPEG's own, else 95; lossy "
        "WebP 85; else lossless]",
    ),
    max_pixels,
    click.option(
        "--layout",
        metavar="LETTERS",
        help="The axes of an array in Zarr or NPY, a letter each: TCHW, DHW, ...  [default: as it says]",
    ),
    click.option(
        "--memory",
        metavar="SIZE",
        help="How much memory the images may take, such as 512M.  [default: a quarter of what is free]",
    ),
)
