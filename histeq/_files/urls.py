"""Zarr stores that are named by a URL: s3://, gs://, https://, ..., through fsspec, or else obstore.

Credentials and endpoints are those that these libraries find: in the environment and in their files.
"""

import contextlib
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from histeq._files.picture import Unfit

_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):/+(.*)", re.DOTALL)
_LIBRARIES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
"""What fsspec needs for some schemes beside itself; aiohttp for others."""
_OPTIONS = {"use_listings_cache": False}
"""Other processes write, too: what is listed is never kept."""


def address(file: Any) -> str | None:
    """Return the URL of a Zarr store, None for any other file.

    One of the names in it ends in .zarr, by which it differs from what GDAL reads. A path has lost all but
    one of a URL's slashes.
    """
    found = _URL.fullmatch(os.fspath(file)) if isinstance(file, str | os.PathLike) else None
    if found is None or found[1] == "file":
        return None
    names = found[2].split("?")[0].rstrip("/").split("/")
    return f"{found[1]}://{found[2]}" if any(name.endswith(".zarr") for name in names) else None


def local(file: Any) -> Any:
    """Return the path of a URL that begins with file://, and anything else as it is."""
    if isinstance(file, str | os.PathLike):
        found = re.fullmatch(r"file:/+(.*)", os.fspath(file), re.DOTALL)
        if found:
            return Path("/", unquote(found[1]))
    return file


def store(url: str, *, read_only: bool) -> Any:
    """Return zarr's store for a URL."""
    import zarr

    scheme = url.split(":")[0]
    with contextlib.suppress(ImportError):
        try:
            return zarr.storage.FsspecStore.from_url(url, _OPTIONS, read_only=read_only)
        except ValueError as error:
            raise Unfit(f"fsspec knows no {scheme}://: {error}") from error
    with contextlib.suppress(ImportError):
        import obstore.store

        options: dict[str, Any] = {"client_options": {"allow_http": True}} if scheme == "http" else {}
        return zarr.storage.ObjectStore(obstore.store.from_url(url, **options), read_only=read_only)
    library = _LIBRARIES.get(scheme, "fsspec aiohttp")
    raise Unfit(f"{scheme}:// needs a library that is missing: pip install {library} (or obstore)")


def state(url: str) -> str | None:
    """Return what changes when a store does; None where nothing tells.

    Of object stores that is the list of their objects; web servers have none, and tell of the metadata alone.
    """
    with contextlib.suppress(Exception):  # libraries raise all kinds of exceptions
        lines = map(repr, _of_metadata(url) if url.startswith("http") else _objects(url))
        return f"{sum(zlib.crc32(line.encode()) for line in lines):x}"
    return None


def _of_metadata(url: str) -> Iterator[Any]:
    from fsspec import url_to_fs

    system, path = url_to_fs(url, **_OPTIONS)
    names = [f"{path.rstrip('/')}/{name}" for name in ("zarr.json", ".zarray", ".zgroup", ".zattrs")]
    yield from system.cat(names, on_error="omit").items()


def _objects(url: str) -> Iterator[Any]:
    """Yield names, sizes and times of objects, as fsspec or obstore lists them."""
    marks = ("size", "ETag", "etag", "e_tag", "LastModified", "last_modified", "mtime", "created")
    try:
        from fsspec import url_to_fs

        system, path = url_to_fs(url, **_OPTIONS)
    except ImportError:
        import obstore.store

        for batch in obstore.list(obstore.store.from_url(url)):
            yield from ((about["path"], *map(about.get, marks)) for about in batch)
    else:
        for name, about in system.find(path, detail=True).items():
            yield name, *map(about.get, marks)
