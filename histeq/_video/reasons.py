"""What FFmpeg says about its errors."""

from collections.abc import Iterator
from contextlib import contextmanager

from histeq._files.picture import Unfit


@contextmanager
def reasons(about: str = "") -> Iterator[None]:
    """Say in errors what FFmpeg logs about them: the exceptions themselves say "Invalid argument"."""
    import av.logging
    from av.error import FFmpegError

    before = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as logs:
            yield
    except FFmpegError as error:
        said = [" ".join(text.split()) for level, _, text in logs if level <= av.logging.ERROR]
        if isinstance(error, OSError) and not said:
            raise
        raise Unfit(about + ("; ".join(dict.fromkeys(said[-2:])) or str(error.strerror))) from error
    finally:
        av.logging.set_level(before)


@contextmanager
def plainly() -> Iterator[None]:
    """Leave out of errors what a user does not know: FFmpeg's numbers and the temporary name."""
    from av.error import FFmpegError

    try:
        yield
    except FFmpegError as error:
        if isinstance(error, OSError):  # what the system says is told by its number
            raise
        raise Unfit(f"FFmpeg cannot write it: {error.strerror}") from error
