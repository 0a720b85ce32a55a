"""The command line interface: results go to standard output, errors and progress to standard error."""

import logging
import warnings

import click

from histeq._cli import backends, bench, clahe, equalize, examples, info, plot, version, video

_EPILOG = """
Each command's --help ends with examples. The documentation is in docs/ of the source, a page a subject
(start, layouts, nodata, files, video, ...); errors name the page that helps. In Python:
help(histeq.equalize).

Completion in bash: eval "$(_HISTEQ_COMPLETE=bash_source histeq)"; zsh and fish likewise.
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG)
@version.option
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
    examples.add(command)
    cli.add_command(command)
