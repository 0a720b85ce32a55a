"""The command line interface: results go to standard output, errors and progress to standard error."""

import logging
import warnings

import click

import histeq
from histeq._cli import backends, bench, clahe, equalize, info, plot, video


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(histeq.__version__, package_name="histeq", message="%(prog)s %(version)s")
def cli() -> None:
    """Equalize the histograms of pictures: TIFF, PNG, JPEG, WebP, DICOM, Zarr and others."""
    # Whatever the libraries log about a file is either reported as an error or harmless. Without a handler
    # Python would print it.
    logging.getLogger().addHandler(logging.NullHandler())
    warnings.filterwarnings("ignore", module=r"PIL\.")


_commands = (
    equalize.equalize,
    clahe.clahe,
    equalize.match,
    info.info,
    plot.plot,
    video.video,
    backends.backends,
    bench.bench,
)
for command in _commands:
    cli.add_command(command)
