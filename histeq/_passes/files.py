"""From files to files: what is open when, and which way an image takes."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from histeq import _files
from histeq._files import File, FileError, Options, Sink, Window, name_of
from histeq._files.blocks import Header, windows
from histeq._files.whole import WholeSink
from histeq._passes import clahe, levels
from histeq._passes.count import bytes_of
from histeq._passes.image import Image, as_target, identity_of
from histeq._passes.methods import Clahe, Map, Match, Method
from histeq._passes.run import COPIES, Run, check_whole

_CHANGED = "{}: the file was changed while it was read"


@dataclass(frozen=True, slots=True)
class Job:
    """A file to read, and one to write."""

    source: File
    target: File
    format: str | None = None
    """The target's; by default the one that its name stands for, or the source's."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is done to every file."""

    run: Run
    method: Method
    options: Options
    max_pixels: int
    layout: str | None
    mask: Image | None


@dataclass(frozen=True, slots=True)
class Done:
    """What was written."""

    header: Header
    not_carried: tuple[str, ...]
    """What the source has and the target has not, in words."""


def _done(sink: Sink) -> Done:
    return Done(sink.header, tuple(sink.not_carried))


def each(job: Job, work: Work, *, pages_together: bool) -> Done:
    """Make new pixels of a file by its own histograms, page by page or of all pages."""
    with _opened(job, work) as image, _created(job, work, image) as sink:
        pages = range(image.header.pages)
        in_memory = (len(pages) == 1 or not pages_together) and _in_memory(work, image, sink)
        work.run.total = image.header.pixels * (1 if in_memory else work.method.passes(image.header))
        work.run.total += sum(level.height * level.width for level in sink.levels[1:]) * len(pages)
        if pages_together and len(pages) > 1:
            assert not isinstance(work.method, Clahe)
            mapped = work.method.mapping(work.run, image.header, lambda: [(image, pages)])
            _map(job, work, image, sink, pages, mapped)
        elif in_memory:
            _by_page(job, work, image, sink)
        else:
            for page in pages:
                _by_blocks(job, work, image, sink, page)
        _finish(job, work, image, sink)
    work.run.end()
    return _done(sink)


def together(jobs: Sequence[Job], work: Work) -> list[Done]:
    """Make new pixels of several files by one histogram of all of them."""
    assert not isinstance(work.method, Clahe)
    known: dict[int, Any] = {}
    headers: list[Header] = []

    def opened_in_turn() -> Iterator[Image]:
        for number, job in enumerate(jobs):
            with _opened(job, work) as image:
                _check_alike(headers, image.header, jobs[0], job)
                if known.setdefault(number, image.identity) != image.identity:
                    raise FileError(_CHANGED.format(name_of(job.source)))
                yield image

    for image in opened_in_turn():
        work.method.check(image.header)
        headers.append(image.header)
    work.run.total = work.method.passes(headers[0]) * sum(header.pixels for header in headers)
    mapped = work.method.mapping(
        work.run, headers[0], lambda: ((image, range(image.header.pages)) for image in opened_in_turn())
    )
    results = []
    for job, image in zip(jobs, opened_in_turn(), strict=True):
        with _created(job, work, image) as sink:
            _map(job, work, image, sink, range(image.header.pages), mapped)
            _finish(job, work, image, sink)
        results.append(_done(sink))
    work.run.end()
    return results


@contextlib.contextmanager
def _opened(job: Job, work: Work) -> Iterator[Image]:
    identity = identity_of(job.source)
    limits = {"max_pixels": work.max_pixels, "memory": work.run.memory}
    with _files.opened(job.source, layout=work.layout, **limits) as source:
        image = Image(job.source, source, work.method.selection, work.mask, identity)
        image.check_mask()
        _check_memory(work, image)
        yield image


def _check_memory(work: Work, image: Image) -> None:
    """Raise FileError where what is decoded as a whole takes more memory than allowed."""
    others = [] if work.mask is None else [work.mask]
    for each in (*_images(work, image), *others):
        if not each.source.in_blocks:
            why = f"{each.header.format} cannot be read in blocks"
            check_whole(each.header, work.run.memory, name_of(each.file), why)


def _images(work: Work, image: Image) -> list[Image]:
    """Return an image, and the one whose histogram it is given."""
    return [image, work.method.reference] if isinstance(work.method, Match) else [image]


def _check_alike(headers: Sequence[Header], header: Header, first: Job, job: Job) -> None:
    """Raise unless an image has the kind of pixels that the first one has."""
    kinds = [(each.dtype, each.channels, each.alpha) for each in (header, *headers[:1])]
    if len(set(kinds)) > 1:
        raise FileError(
            f"{name_of(job.source)}: it has {_described(header)}, and {name_of(first.source)} "
            f"{_described(headers[0])}: they cannot be counted together"
        )


def _described(header: Header) -> str:
    return f"{header.channels} channels of {header.dtype}{', one of them alpha' if header.alpha else ''}"


@contextlib.contextmanager
def _created(job: Job, work: Work, image: Image) -> Iterator[Sink]:
    header = replace(image.header, dtype=work.method.check(image.header))
    blocks = image.source.blocks(0) if image.source.in_blocks else None
    with _files.created(job.target, header, work.options, format=job.format, blocks=blocks) as sink:
        if isinstance(sink, WholeSink):
            check_whole(
                header, work.run.memory, name_of(job.target), "its format cannot be written in blocks"
            )
        yield sink


def _finish(job: Job, work: Work, image: Image, sink: Sink) -> None:
    """Write the reduced levels and complete the file, if the source is still the file that was opened."""
    selection = work.method.selection
    by_pixel = selection.color != "channels"
    levels.build(work.run, sink, job.target, selection.nodata_of(image.header), by_pixel)
    if identity_of(job.source) != image.identity:
        raise FileError(_CHANGED.format(name_of(job.source)))
    with work.run.step("write"), _files.writing(job.target):
        sink.finish()


def _in_memory(work: Work, image: Image, sink: Sink) -> bool:
    """Tell whether pages are decoded as wholes: small ones, and where nothing else is possible."""
    header = image.header
    if work.method.needs_page(header):
        why = f"this is not done in blocks with {header.dtype}"
        for each in _images(work, image):
            check_whole(each.header, work.run.memory // COPIES, name_of(each.file), why)
        return True
    size = header.height * header.width * _bytes_per_pixel(image, sink) if image.source.in_blocks else 0
    return work.run.is_small(size) and work.method.bytes_beside(header) <= work.run.memory // COPIES


def _bytes_per_pixel(image: Image, sink: Sink) -> int:
    """Return the bytes of a pixel of the source or the sink, whichever has more."""
    return max(image.header.bytes_per_pixel, sink.header.bytes_per_pixel)


def _by_page(job: Job, work: Work, image: Image, sink: Sink) -> None:
    """Make new pixels of pages that are in memory, several at a time."""
    run, header = work.run, image.header

    def one(window: Window) -> None:
        with run.step("read"):
            pixels, mask = image.read(window), image.read_mask(window)
        with run.step("compute"):
            out = as_target(pixels, sink.header.dtype)
            arguments = {"image": pixels, "mask": mask, "out": out, **image.selection.of(header)}
            result = work.method.whole(image, window, **arguments)
        with run.step("write"), _files.writing(job.target):
            sink.levels[0].write(window, result)

    pages = [Window(page, 0, 0, header.height, header.width) for page in range(header.pages)]
    # The memory of one that cannot be read in blocks was checked when it was opened.
    size = bytes_of(pages, _bytes_per_pixel(image, sink)) if image.source.in_blocks else 0
    run.over(one, pages, size + work.method.bytes_beside(header) // COPIES, name_of(image.file))


def _by_blocks(job: Job, work: Work, image: Image, sink: Sink, page: int) -> None:
    """Make new pixels of a page in two passes over its blocks."""
    if isinstance(work.method, Clahe):
        clahe.page(job.target, work.run, work.method, image, sink, page)
        return
    mapped = work.method.mapping(work.run, image.header, lambda: [(image, [page])])
    _map(job, work, image, sink, [page], mapped)


def _map(job: Job, work: Work, image: Image, sink: Sink, pages: Sequence[int], mapped: Map) -> None:
    """Make new pixels of some pages, window by window of the sink's blocks."""
    run, header, level = work.run, image.header, sink.levels[0]

    def one(window: Window) -> None:
        with run.step("read"):
            pixels = image.read(window)
            request = image.selection.request(header, pixels)
        with run.step("compute"):
            out = as_target(pixels, sink.header.dtype)
            out = np.empty(pixels.shape, sink.header.dtype) if out is None else out
            mapped(request, out)
        with run.step("write"), _files.writing(job.target):
            level.write(window, out)

    per_pixel = _bytes_per_pixel(image, sink)
    size = run.window_size()
    pieces = [w for page in pages for w in windows(header.size, level.blocks(page), page, size, per_pixel)]
    run.over(one, pieces, bytes_of(pieces, per_pixel), name_of(image.file))
