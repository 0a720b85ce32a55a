"""One video from a source to a target, which appears when it is complete."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

from histeq import _files
from histeq._files.picture import FileError, Unfit
from histeq._video import sequence
from histeq._video.encoder import Wanted
from histeq._video.run import Progress, Watch, run
from histeq._video.sink import Sink, format_of
from histeq._video.source import Source


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be done."""

    source: Any
    """A path, a binary file, or a sequence of images: a folder, a pattern, a list of paths."""
    target: Any
    """A path, a binary file, a folder or pattern of images; None: nothing is written."""
    make: Callable[..., Any]
    """Makes the equalizer, given what the frames are (`layout`, `color`, `value_range`, ...)."""
    wanted: Wanted
    stream: int = 0
    format: str | None = None
    drop: Sequence[str] = ()
    rate: Fraction | None = None
    hdr: bool = False
    lenient: bool = False
    overwrite: bool = False
    max_pixels: int = _files.MAX_PIXELS
    watch: Watch | None = None
    progress: Progress | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What was done."""

    frames: int
    size: tuple[int, int]
    """The height and the width."""
    rate: Fraction
    cuts: tuple[int, ...]
    codec: str
    pixel_format: str
    lost: int
    notes: tuple[str, ...]
    seconds: float


def process(job: Job) -> Done:
    """Do a job.

    Raises
    ------
    FileError
        If the source cannot be read, or has lost frames and `lenient` is False, or if the target cannot be
        written. Nothing of the target appears then.
    """
    begun = time.perf_counter()
    _check_target(job)
    with ExitStack() as stack:
        source = _opened(job, stack)
        sink = _created(job, source, stack)
        equalizer, frames, size = run(source, sink, job)
        lost, why = source.lost()
        if not frames:
            raise FileError(f"{_name(job.source)}: {why or 'there are no frames in it'}")
        if lost and not job.lenient:
            raise FileError(f"{_name(job.source)}: {why}; --lenient keeps what there is")
        if sink is not None:
            with _files.writing(job.target):
                sink.finish()
                stack.close()  # puts it in its place
    return Done(
        frames=frames, size=size, rate=source.rate, cuts=tuple(equalizer.cut_frames),
        codec=getattr(sink, "encoder", ""), pixel_format=getattr(sink, "pixel_format", ""), lost=lost,
        notes=(*getattr(sink, "notes", ()), *([why] if lost else ())), seconds=time.perf_counter() - begun,
    )  # fmt: skip


def _name(source: Any) -> str:
    return str(source[0]) if isinstance(source, list | tuple) else _files.name_of(source)


def _check_target(job: Job) -> None:
    """Raise if the target cannot be written, before anything is read."""
    target = job.target
    if target is None or hasattr(target, "write") or sequence.is_folder_or_pattern(target, job.source):
        return
    with _files.writing(target):
        _container_format(job)
    if not job.overwrite:
        _files.check_absent(Path(target))


def _opened(job: Job, stack: ExitStack) -> Any:
    if sequence.is_sequence(job.source):
        files = sequence.files_of(job.source)
        return sequence.ImageSource(files, job.rate or Fraction(25), job.max_pixels)
    if job.rate is not None:
        raise ValueError("rate is that of a sequence of images: a video has its own")
    with _files.reading(job.source, "video"):
        source = Source(job.source, stream=job.stream, hdr=job.hdr, max_pixels=job.max_pixels)
    stack.callback(source.close)
    return source


def _created(job: Job, source: Any, stack: ExitStack) -> Any:
    target = job.target
    if target is None:
        return None
    if sequence.is_folder_or_pattern(target, job.source):
        names = [path.name for path in source.files] if source.container is None else None
        with _files.writing(target):
            images = sequence.ImageSink(target, names, job.wanted.quality, job.overwrite)
        stack.callback(images.close)
        return images
    raw = hasattr(target, "write")
    with _files.writing(target):
        file = (
            target
            if raw
            else str(stack.enter_context(_files.replacing(Path(target), overwrite=job.overwrite)))
        )
        sink = Sink(
            file if raw else f"file:{file}", _container_format(job, source), source, job.wanted, job.drop, raw
        )
    stack.callback(sink.close)
    return sink


def _container_format(job: Job, source: Any = None) -> str:
    """Return the container to write: the one asked for, or the path's; in a pipe YUV4MPEG or NUT."""
    from av.format import ContainerFormat

    if job.format is not None:
        try:
            name = format_of(Path(f"a.{job.format.removeprefix('.')}"))
        except Unfit:
            name = job.format
        try:
            return ContainerFormat(name, "w").name
        except ValueError:
            raise Unfit(f"there is no container format {job.format!r}") from None
    if hasattr(job.target, "write"):
        is_y4m = source is not None and source.container is not None
        return "yuv4mpegpipe" if is_y4m and source.container.format.name == "yuv4mpegpipe" else "nut"
    return format_of(Path(job.target))
