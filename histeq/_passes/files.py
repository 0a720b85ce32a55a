"""From files to files: what is open when, and which way an image takes."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from histeq import _files
from histeq._cluster.begun import begun
from histeq._cluster.run import ClusterRun
from histeq._cluster.travel import travelling
from histeq._core import threads
from histeq._files import File, FileError, Options, Shared, Sink, Window, name_of
from histeq._files.blocks import Header, Level, windows
from histeq._files.whole import WholeSink
from histeq._files.zarr import ZarrSink
from histeq._passes import clahe, levels, wide
from histeq._passes.count import bytes_of
from histeq._passes.image import Image, as_target, identity_of
from histeq._passes.methods import Clahe, Equalize, Map, Match, Method
from histeq._passes.run import COPIES, Run, Whole, check_whole

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
    lenient: bool
    mask: Image | None
    dry_run: bool = False
    resume: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """What was written."""

    header: Header
    notes: tuple[str, ...]
    """What the source has and the target has not, in words."""
    damage: tuple[str, ...]
    """What of the source could not be decoded, in sentences."""


def _done(work: Work, image: Image, sink: Sink) -> Done:
    file, _ = wide.as_written(sink, image)
    return _result(work, image, file.header, file.notes)


def _result(work: Work, image: Image, header: Header, notes: Iterable[str]) -> Done:
    damage = list(image.source.damage.notes)
    for other in _images(work, image)[1:]:
        damage += [f"{name_of(other.file)}: {note}" for note in other.source.damage.notes]
    return Done(header, tuple(notes), tuple(damage))


def each(job: Job, work: Work, *, pages_together: bool) -> Done:
    """Make new pixels of a file by its own histograms, page by page or of all pages."""
    with _opened(job, work) as image:
        suited = _suited(work, image)
        if work.dry_run:
            return _planned(job, suited, image)
        with _created(job, suited, image, pages_together) as sink:
            _make(job, suited, image, sink, pages_together=pages_together)
    work.run.end()
    return _done(suited, image, sink)


def _suited(work: Work, image: Image) -> Work:
    """Return the work with the method as it suits the image's dtype."""
    method = work.method
    if image.selection.value_range != method.selection.value_range:
        method = replace(method, selection=image.selection)
    return replace(work, method=wide.method_for(method, image))


def _make(job: Job, work: Work, image: Image, sink: Sink, *, pages_together: bool) -> None:
    """Make new pixels of an image."""
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

    for job, image in zip(jobs, opened_in_turn(), strict=True):
        suited = _suited(work, image)
        header, arguments = _target_of(job, suited, image)
        _files.check(job.target, header, work.options, **arguments)
        headers.append(image.header)
    if work.dry_run:
        return [_planned(job, suited, image) for job, image in zip(jobs, opened_in_turn(), strict=True)]
    work.run.total = suited.method.passes(headers[0]) * sum(header.pixels for header in headers)
    assert not isinstance(suited.method, Clahe)
    mapped = suited.method.mapping(
        work.run, headers[0], lambda: ((image, range(image.header.pages)) for image in opened_in_turn())
    )
    results = []
    for job, image in zip(jobs, opened_in_turn(), strict=True):
        with _created(job, suited, image) as sink:
            _map(job, suited, image, sink, range(image.header.pages), mapped)
            _finish(job, suited, image, sink)
        results.append(_done(suited, image, sink))
    work.run.end()
    return results


@contextlib.contextmanager
def _opened(job: Job, work: Work) -> Iterator[Image]:
    identity = identity_of(job.source)
    limits: dict[str, Any] = {"max_pixels": work.max_pixels, "memory": work.run.memory, "layout": work.layout}
    with _files.opened(job.source, lenient=work.lenient, **limits) as source:
        selection = work.method.selection
        if selection.value_range is None:
            selection = replace(selection, value_range=source.header.value_range)
        image = Image(job.source, source, selection, work.mask, identity)
        if work.run.spreads:
            _check_in_blocks(image)
            image = travelling(image, "src", **limits)
        image = wide.narrowed(image, work.method)
        image.check_mask()
        _check_memory(work, image)
        yield image


def _check_in_blocks(image: Image) -> None:
    """Raise FileError where every worker would decode the whole image."""
    if not image.source.in_blocks:
        kind = image.header.format
        if kind == "TIFF":
            kind = "TIFF with a single strip or tile"
        raise FileError(
            f"{name_of(image.file)}: {kind} cannot be read in blocks, and so not by a cluster: "
            "leave out --cluster, or store it as tiled TIFF or Zarr (documentation: files)"
        )


def _check_memory(work: Work, image: Image) -> None:
    """Raise FileError where what is decoded as a whole takes more memory than allowed, all together."""
    others = [] if work.mask is None else [work.mask]
    wholes = [
        Whole(name_of(each.file), each.header, f"{each.header.format} cannot be read in blocks")
        for each in (*_images(work, image), *others)
        if not each.source.in_blocks
    ]
    check_whole(wholes, work.run.memory)


def _check(work: Work, image: Image) -> np.dtype[Any]:
    """Check the method's arguments, and return the dtype of the result."""
    dtype = work.method.check(image.header)
    if isinstance(work.method, Equalize):
        size = (COPIES + threads.num_threads()) * work.method.bytes_beside(image.header)
        if size > work.run.memory:
            raise FileError(
                f"{name_of(image.file)}: {work.method.bins} bins take {size / 2**20:.0f} MiB of memory, and "
                f"--memory allows {work.run.memory / 2**20:.0f} MiB"
            )
    return dtype


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
def _created(job: Job, work: Work, image: Image, pages_together: bool = True) -> Iterator[Sink]:
    header, arguments = _target_of(job, work, image)
    if work.run.spreads:
        arguments["shared"] = Shared(begun(job, work, image, pages_together), work.resume)
    with _files.created(job.target, header, work.options, **arguments) as sink:
        if isinstance(sink, WholeSink):
            _check_whole_target(job, work, header)
        if isinstance(work.run, ClusterRun) and isinstance(sink, ZarrSink):
            work.run.write_into(name_of(job.target), sink.journal)
        yield wide.widened(sink, image, work.method.check(image.header))


def _target_of(job: Job, work: Work, image: Image) -> tuple[Header, dict[str, Any]]:
    """Return the header of what is to be written, and the arguments that say how."""
    blocks = image.source.blocks(0) if image.source.in_blocks else None
    header = wide.of_target(image, _check(work, image))
    return header, {"format": job.format, "blocks": blocks, "source": job.source}


def _check_whole_target(job: Job, work: Work, header: Header) -> None:
    check_whole(
        [Whole(name_of(job.target), header, "its format cannot be written in blocks")], work.run.memory
    )


def _planned(job: Job, work: Work, image: Image) -> Done:
    """Return what would be written, if that is possible."""
    header, arguments = _target_of(job, work, image)
    in_blocks, notes = _files.check(job.target, header, work.options, **arguments)
    if not in_blocks:
        _check_whole_target(job, work, header)
    return _result(work, image, header, notes)


def _finish(job: Job, work: Work, image: Image, sink: Sink) -> None:
    """Write the reduced levels and complete the file, if the source is still the file that was opened."""
    selection = work.method.selection
    by_pixel = selection.color != "channels"
    file, nodata = wide.as_written(sink, image)
    levels.build(work.run, image, file, job.target, nodata, by_pixel)
    if identity_of(job.source) != image.identity:
        raise FileError(_CHANGED.format(name_of(job.source)))
    with work.run.step("write"), _files.writing(job.target):
        sink.finish()


def _in_memory(work: Work, image: Image, sink: Sink) -> bool:
    """Tell whether pages are decoded as wholes: small ones, and where nothing else is possible."""
    header = image.header
    if work.method.needs_page(header):
        why = f"this is not done in blocks with {header.dtype}"
        wholes = [Whole(name_of(each.file), each.header, why) for each in _images(work, image)]
        check_whole(wholes, work.run.memory, COPIES)
        return True
    size = header.height * header.width * _bytes_per_pixel(image, sink) if image.source.in_blocks else 0
    return work.run.is_small(size) and work.method.bytes_beside(header) <= work.run.memory // COPIES


def _bytes_per_pixel(image: Image, sink: Sink) -> int:
    """Return the bytes of a pixel of the source or the sink, whichever has more."""
    return max(image.header.bytes_per_pixel, sink.header.bytes_per_pixel)


def _by_page(job: Job, work: Work, image: Image, sink: Sink) -> None:
    """Make new pixels of pages that are in memory, several at a time."""
    header = image.header
    one = partial(
        _page, method=work.method, image=image, target=job.target, level=sink.levels[0],
        dtype=sink.header.dtype,
    )  # fmt: skip
    pages = [Window(page, 0, 0, header.height, header.width) for page in range(header.pages)]
    # The memory of one that cannot be read in blocks was checked when it was opened.
    size = bytes_of(pages, _bytes_per_pixel(image, sink)) if image.source.in_blocks else 0
    work.run.over(one, pages, size + work.method.bytes_beside(header) // COPIES, name_of(image.file))


def _page(
    run: Run,
    window: Window,
    method: Method,
    image: Image,
    target: File,
    level: Level,
    dtype: np.dtype[Any],
) -> None:
    with run.step("read"):
        pixels, mask = image.read_counted(window)
    with run.step("compute"):
        out = as_target(pixels, dtype)
        arguments = {"image": pixels, "mask": mask, "out": out, **image.selection.of(image.header)}
        result = method.whole(image, window, **arguments)
    with run.step("write"), _files.writing(target):
        level.write(window, result)


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
    one = partial(
        _window, mapped=mapped, image=image, target=job.target, level=level, dtype=sink.header.dtype
    )
    per_pixel = _bytes_per_pixel(image, sink)
    size = run.window_size()
    pieces = [w for page in pages for w in windows(header.size, level.blocks(page), page, size, per_pixel)]
    run.over(one, pieces, bytes_of(pieces, per_pixel), name_of(image.file))


def _window(
    run: Run, window: Window, mapped: Map, image: Image, target: File, level: Level, dtype: np.dtype[Any]
) -> None:
    with run.step("read"):
        pixels = image.read(window)
        request = image.selection.request(image.header, pixels)
    with run.step("compute"):
        out = as_target(pixels, dtype)
        out = np.empty(pixels.shape, dtype) if out is None else out
        mapped(request, out)
    with run.step("write"), _files.writing(target):
        level.write(window, out)
