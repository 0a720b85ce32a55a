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

_EXTRAS = {"zarr": "zarr", "av": "video", "pydicom": "dicom", "rasterio": "geo", "distributed": "dask"}
"""Which extra brings a library; "cli" brings all others."""


def missing(error: ImportError) -> ImportError:
    """Return an error that says what to install."""
    if "pip install" in str(error):
        return error
    library = (error.name or str(error)).partition(".")[0]
    what, upgrade = f"{library} is missing", ""
    if not isinstance(error, ModuleNotFoundError):  # it is there, but old or broken
        what, upgrade = " ".join(str(error).split()), "--upgrade "
    extra = _EXTRAS.get(library, "cli")
    text = f'{what}: pip install {upgrade}"histeq[{extra}]" (documentation: start)'
    return type(error)(text, name=error.name, path=error.path)


@contextlib.contextmanager
def reading(file: File, kind: str = "picture") -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into a `FileError` that names it."""
    name = name_of(file)
    try:
        yield
    except FileError:
        raise
    except ImportError as error:  # a missing library is not an error in the file
        raise missing(error) from error
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
    except FileError:
        raise
    except ImportError as error:
        raise missing(error) from error
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
