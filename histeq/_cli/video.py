"""The command `histeq video`."""

import dataclasses
from pathlib import Path
from typing import Any

import click

import histeq
from histeq import _files
from histeq._cli import batch, drawing, options, report
from histeq._cli.report import one_line


def _roi(
    context: click.Context, parameter: click.Parameter, value: tuple[int, ...] | None
) -> tuple[int, ...] | None:
    return value or None


@click.command()
@click.argument("source", metavar="IN", type=click.Path(readable=False, allow_dash=True))
@click.argument("output", metavar="[OUT]", type=click.Path(readable=False, allow_dash=True), required=False)
@click.option(
    "--method",
    type=click.Choice(["global", "clahe"]),
    default="global",
    show_default=True,
    help="One table for the whole frame, or one for each tile (CLAHE).",
)
@click.option(
    "--window",
    type=click.IntRange(1),
    default=15,
    show_default=True,
    metavar="N",
    help="How many frames make a histogram; 1: each its own, which flickers.",
)
@click.option(
    "--centered/--causal",
    default=True,
    show_default=True,
    help="Whether the window lies around the frame, or ends with it.",
)
@click.option("--cuts/--no-cuts", default=True, show_default=True, help="Whether the window ends at cuts.")
@click.option(
    "--strength",
    type=click.FloatRange(0, 1),
    default=1.0,
    show_default=True,
    metavar="0..1",
    help="How much of the change is made.",
)
@click.option(
    "--rule",
    type=click.Choice(["opencv", "pillow", "numpy", "vips"]),
    default="opencv",
    show_default=True,
    help="Whose arithmetic to reproduce.",
)
@options.tiling
@click.option(
    "--roi",
    type=click.IntRange(0),
    nargs=4,
    callback=_roi,
    metavar="Y X HEIGHT WIDTH",
    help="Count only this part of each frame.  [default: all]",
)
@click.option(
    "--stream",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="N",
    help="Which video stream to equalize.",
)
@click.option(
    "--codec", metavar="NAME", help="h264, hevc, av1, ffv1, ..., or an encoder of FFmpeg's.  [default: as IN]"
)
@click.option(
    "--quality",
    "--crf",
    type=click.IntRange(0),
    metavar="N",
    help="As the encoder counts, less is better: CRF of H.264 (20), HEVC (22), AV1 (28), VP9 (28); 1 to 31 "
    "of MPEG-4, MPEG-2, MJPEG (3). Of JPEG files 1 to 100.",
)
@click.option(
    "--preset",
    metavar="NAME",
    help="ultrafast to veryslow of H.264 and HEVC, 0 to 13 of AV1 (8), 0 to 8 of VP9 (4).",
)
@click.option("--format", metavar="NAME", help="The container, if OUT's suffix does not tell.")
@click.option(
    "--drop",
    type=click.Choice(["audio", "subtitle", "attachment", "data", "video"]),
    multiple=True,
    help="Leave out other streams of this type; can be repeated.",
)
@click.option(
    "--rate",
    metavar="FPS",
    help="Frames a second of a sequence of images, such as 30000/1001.  [default: 25]",
)
@click.option("--hdr", is_flag=True, help="Take HDR footage (PQ, HLG), whose curve loses its meaning.")
@click.option("--lenient", is_flag=True, help="Keep what there is of a damaged video.")
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
@click.option(
    "--preview",
    type=options.PATH,
    metavar="PICTURE.png",
    help="Draw frames before and after, the histogram over time, cuts and flicker. OUT may be left out.",
)
@options.max_pixels
@options.backend
@options.as_json
def video(
    source: str,
    output: str | None,
    preview: Path | None,
    overwrite: bool,
    as_json: bool,
    **arguments: Any,
) -> None:
    """Equalize the video IN into OUT without flicker, and keep sound, subtitles, chapters and metadata.

    OUT's suffix names its container. Folders and patterns such as frames/%05d.tif or 'frames/*.png' are
    sequences of images, and - is a pipe (YUV4MPEG or NUT).
    """
    options.check_tiling(arguments)
    if output is None and preview is None:
        raise click.UsageError("OUT is missing: it can be left out with --preview only")
    if output in options.STANDARD_OUTPUT and as_json:
        raise click.UsageError("--json prints to standard output, and so does the video")
    if preview is not None:
        drawing.check_output(preview, overwrite)
    from_pipe, into_pipe = source in options.STANDARD_INPUT, output in options.STANDARD_OUTPUT
    with one_line(Path(source)), batch.progress_of("frames") as progress:
        arguments |= {"overwrite": overwrite, "progress": progress}
        target = options.standard_output() if into_pipe else output
        result = _run(options.standard_input() if from_pipe else source, target, preview, arguments)
    _report(source, output, result, as_json)


def _run(source: Any, target: Any, preview: Path | None, arguments: dict[str, Any]) -> Any:
    """Equalize, and draw the preview."""
    if preview is None:
        return histeq.equalize_video(source, target, **arguments)
    from histeq._api.video import run
    from histeq._video.preview import Preview

    seen = Preview()
    result = run(source, target, watch=seen, **arguments)
    with _files.writing(preview), _files.replacing(preview) as temporary:
        seen.draw(temporary, Path(_files.name_of(source)).name, result.rate)
    return result


def _report(source: str, output: str | None, result: Any, as_json: bool) -> None:
    """Print notes, and the result as JSON if requested."""
    for note in result.notes:
        click.echo(f"histeq: note: {output or source}: {note}", err=True)
    if as_json:
        entries = {**dataclasses.asdict(result), "notes": list(result.notes), "cuts": list(result.cuts)}
        del entries["source"], entries["target"]
        report.print_json([{"input": source, "output": output, **entries}])
