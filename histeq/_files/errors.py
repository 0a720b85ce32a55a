"""What goes wrong while files are read and written becomes a `FileError` that names the file."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from histeq._files import urls
from histeq._files.picture import FileError, Unfit
from histeq._files.reasons import reason as reason_of

File = Any
"""A path, an open binary file, or an array or group of zarr's."""


@contextlib.contextmanager
def reading(file: File, kind: str = "picture") -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into a `FileError` that names it."""
    name = name_of(file)
    try:
        yield
    except (ImportError, FileError):
        raise  # a missing library is not an error in the file
    except Unfit as error:
        raise FileError(f"{name}: {error}") from error
    except MemoryError as error:
        raise FileError(f"{name}: not enough memory to decode it") from error
    except Exception as error:  # decoders raise all kinds of exceptions for broken files
        if isinstance(error, OSError) and error.errno is not None:
            raise FileError(f"{name}: {error.strerror}") from error
        raise FileError(f"{name}: broken {kind} file: {reason_of(error)}") from error


@contextlib.contextmanager
def writing(file: File) -> Iterator[None]:
    """Turn whatever goes wrong while a file is written into a `FileError` that names it."""
    name = name_of(file)
    try:
        yield
    except (ImportError, FileError):
        raise
    except Unfit as error:
        raise FileError(f"{name}: {error}") from error
    except MemoryError as error:
        raise FileError(f"{name}: not enough memory to encode it") from error
    except Exception as error:  # encoders also raise all kinds of exceptions
        reason = error.strerror if isinstance(error, OSError) else None
        raise FileError(f"{name}: cannot write it: {reason or reason_of(error)}") from error


def name_of(file: File) -> str:
    """Return what a file is called in errors."""
    if isinstance(file, str | os.PathLike):
        return urls.address(file) or str(file)
    name = getattr(file, "name", None)
    return str(name) if isinstance(name, str) and name else f"<{type(file).__name__}>"
