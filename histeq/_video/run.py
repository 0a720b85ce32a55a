"""The loop from the decoder through the equalizer to the encoder.

It is plain on purpose: FFmpeg's codecs have threads of their own and release the interpreter; threads around
them gained nothing, and an exception in one of them would leave the others waiting.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from histeq import _files
from histeq._core import stop
from histeq._core.threads import threads

Progress = Callable[[int, int], object]
"""Takes the frames done and the frames to do, which is 0 if nothing tells."""


class Watch(Protocol):
    """Looks at frames for a preview."""

    cuts: tuple[int, ...]
    """Is set in the end: the frames that begin a shot."""

    def begin(self, make: Callable[..., Any], arguments: dict[str, Any]) -> None:
        """Prepare for frames of which `arguments` tells; `make` makes equalizers."""

    def before(self, frame: Any) -> None:
        """Take notice of a frame that was decoded."""

    def after(self, frame: Any) -> None:
        """Take notice of the same frame, equalized."""


def run(source: Any, sink: Any, job: Any) -> tuple[Any, int, tuple[int, int]]:
    """Equalize all frames of a source into a sink, if there is one.

    Returns
    -------
    equalizer, frames, size
        The equalizer, the number of frames, and the height and width of each.
    """
    equalizer: Any = None
    fresh: deque[Any] = deque()  # frames that were not counted yet
    waiting: deque[Any] = deque()  # frames that were, and not mapped
    frames, size, ahead = 0, (0, 0), 0

    def count_and_emit() -> None:
        nonlocal frames
        stop.check()
        if fresh:
            frame = fresh.popleft()
            equalizer.update(frame.array)
            if job.watch is not None:
                job.watch.before(frame)
            waiting.append(frame)
            if len(waiting) <= equalizer.lag:
                return
        _emit(waiting.popleft(), equalizer, sink, job)
        frames = _told(frames + 1, source, job)

    with threads(1):  # the codecs' threads hold the processors
        for item in _read(source, job.source):
            if not hasattr(item, "array"):
                stop.check()
                if sink is not None:
                    _write(sink.copy, item, job.target)
                continue
            if equalizer is None:
                equalizer, size = job.make(**source.arguments), item.array.shape[:2]
                ahead = max(0, source.settled_after - equalizer.lag)
                if job.watch is not None:
                    job.watch.begin(job.make, source.arguments)
            fresh.append(item)
            if len(fresh) > ahead:
                count_and_emit()
        while fresh:
            count_and_emit()
        if equalizer is not None:
            equalizer.finish()
        while waiting:
            count_and_emit()
    if job.watch is not None and equalizer is not None:
        job.watch.cuts = tuple(equalizer.cut_frames)
    return equalizer, frames, size


def _emit(frame: Any, equalizer: Any, sink: Any, job: Any) -> None:
    """Map a frame, and write it."""
    frame.make_writable()
    equalizer.apply(frame.array, out=frame.array)
    frame.store()
    if job.watch is not None:
        job.watch.after(frame)
    if sink is not None:
        _write(sink.write, frame, job.target)


def _told(frames: int, source: Any, job: Any) -> int:
    if job.progress is not None:
        job.progress(frames, max(source.announced, frames) if source.announced else 0)
    return frames


def _read(source: Any, name: Any) -> Iterator[Any]:
    """Yield the source's items; what goes wrong is an error that names its file."""
    items = source.items()
    while True:
        with _files.reading(name, "video"):
            item = next(items, None)
        if item is None:
            return
        yield item


def _write(write: Callable[[Any], None], item: Any, name: Any) -> None:
    with _files.writing(name):
        write(item)
