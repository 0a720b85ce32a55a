"""Rasters that GDAL reads and nothing else here does: VRT, IMG, ..., and its virtual file systems.

rasterio is imported here only, when such a file is opened: TIFF files on the disk are tifffile's. What GDAL
says of the bands, of valid pixels and of the place on Earth comes along, into a GeoTIFF.
"""

import contextlib
import dataclasses
import importlib.util
import io
import os
import re
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histeq._files.blocks import Damage, Header, Item, Source, Window
from histeq._files.picture import Unfit, check_size
from histeq._files.tiff import settings

_REMOTE = ("s3:/", "gs:/", "az:/", "oss:/", "http:/", "https:/")
_SCHEMES = "s3|gs|az|oss|http|https|zip|tar|gzip"
_CACHE = 64
"""MiB that GDAL keeps of decoded blocks, instead of a twentieth of the machine's memory."""
_OPENING = threading.Lock()  # warnings are silenced for the whole process


def address(file: Any) -> str | None:
    """Return the name of a file in one of GDAL's virtual file systems, None for any other file."""
    if not isinstance(file, str | os.PathLike):
        return None
    name = os.fspath(file)
    found = re.match(rf"(/vsi\w+/|(?:{_SCHEMES}):/)(/*)(.*)", name, re.DOTALL)
    if found is None:
        return None
    start, slashes, rest = found.groups()
    first = rest.split("/")[0]
    # A path has lost all but one of its slashes: that of a scheme, and that of an absolute path behind it.
    is_absolute = not Path(first).exists() and Path("/", first).exists()
    if start[0] != "/":
        return f"{start}/{'/' * (is_absolute and start not in _REMOTE)}{rest}"
    return f"{start}{'/' * is_absolute or slashes}{rest}"


def available() -> bool:
    """Tell whether rasterio is installed."""
    return importlib.util.find_spec("rasterio") is not None


class Unreadable(Unfit):
    """Raised for what GDAL cannot open."""


class GdalSource:
    """A raster, each thread with a dataset of its own."""

    in_blocks = True

    def __init__(self, name: str, limit: int, damage: Damage) -> None:
        self.damage = damage
        self._datasets = _Datasets(name)
        try:
            first = self._datasets.get()
            if first.count == 0:
                parts = ", ".join(first.subdatasets[:3])
                raise Unfit(f"it has no bands of its own; of its parts name one: {parts}")
            check_size(first.width * first.height * -(-first.count // 4), limit)
            self._palette = _palette(first)
            self.mask: Source | None = None
            indexes = _masked_bands(first)
            self.header = _header(first, self._palette, bool(indexes))
            if indexes:
                self.mask = _Mask(self._datasets, indexes, self.header, damage)
            self._blocks = _blocks(first)
        except BaseException:
            self.close()
            raise

    def blocks(self, page: int) -> tuple[int, int]:
        """Return the rows and columns of GDAL's blocks."""
        return self._blocks

    def read(self, window: Window) -> NDArray[Any]:
        """Return the pixels of a window, an array of their own; from any thread."""
        with self._datasets.reading(window) as (dataset, part):
            bands = dataset.read(window=part)
        if self._palette is not None:
            return self._palette[bands[0]]
        return bands[0] if len(bands) == 1 else np.ascontiguousarray(np.moveaxis(bands, 0, -1))

    def close(self) -> None:
        """Close the datasets of all threads."""
        self._datasets.close()


class _Mask:
    """Where all of some bands are valid, as GDAL says."""

    in_blocks = True
    mask: Source | None = None

    def __init__(self, datasets: "_Datasets", bands: list[int], header: Header, damage: Damage) -> None:
        self.damage = damage
        self._datasets, self._bands = datasets, bands
        self._blocks = _blocks(datasets.get())
        self.header = Header(
            format="GDAL", pages=1, height=header.height, width=header.width, channels=1,
            dtype=np.dtype(np.uint8), layout="HW",
        )  # fmt: skip

    def blocks(self, page: int) -> tuple[int, int]:
        """Return the rows and columns of GDAL's blocks."""
        return self._blocks

    def read(self, window: Window) -> NDArray[Any]:
        """Return what is not zero where pixels are valid."""
        with self._datasets.reading(window) as (dataset, part):
            masks = dataset.read_masks(self._bands, window=part)
        return np.asarray((masks != 0).all(axis=0).view(np.uint8))

    def close(self) -> None:
        """Leave the datasets open, which are the image's."""


class _Datasets:
    """A dataset a thread: GDAL's are not to be shared."""

    def __init__(self, name: str) -> None:
        self._name, self._own, self._all = name, threading.local(), list[Any]()

    def get(self) -> Any:
        """Return this thread's."""
        import rasterio
        from rasterio.errors import RasterioError

        if not hasattr(self._own, "dataset"):
            with _OPENING, warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=_CACHE):
                warnings.simplefilter("ignore")  # that there are no coordinates, for instance
                try:
                    self._own.dataset = rasterio.open(self._name, sharing=False)
                except RasterioError as error:
                    raise Unreadable(f"GDAL cannot read it: {error}") from error
                self._all.append(self._own.dataset)
        return self._own.dataset

    @contextlib.contextmanager
    def reading(self, window: Window) -> Iterator[tuple[Any, Any]]:
        """Yield this thread's dataset, and a window as rasterio takes it."""
        import rasterio
        import rasterio.windows

        part = rasterio.windows.Window(window.left, window.top, window.width, window.height)
        dataset = self.get()
        with rasterio.Env(GDAL_CACHEMAX=_CACHE):
            yield dataset, part

    def close(self) -> None:
        """Close all."""
        while self._all:
            self._all.pop().close()


def _blocks(dataset: Any) -> tuple[int, int]:
    rows, columns = dataset.block_shapes[0]
    return min(rows, dataset.height), min(columns, dataset.width)


def _masked_bands(dataset: Any) -> list[int]:
    """Return the bands whose masks say what is valid: of a mask for all, or of several nodata values."""
    flags = [[flag.name for flag in of_band] for of_band in dataset.mask_flag_enums]
    if any("per_dataset" in names and "alpha" not in names for names in flags):
        return [1]
    several = len({str(value) for value in dataset.nodatavals}) > 1
    return list(dataset.indexes) if several else []


def _palette(dataset: Any) -> NDArray[np.uint8] | None:
    """Return the colours of the only band's values, (number, 3), or (number, 4) with alpha."""
    if dataset.count != 1 or dataset.colorinterp[0].name != "palette":
        return None
    bits = 8 * np.dtype(dataset.dtypes[0]).itemsize
    colours = np.zeros((2**bits, 4), np.uint8)
    colours[:, 3] = 255
    for index, colour in dataset.colormap(1).items():
        colours[index] = colour
    if dataset.nodata is not None and dataset.nodata in range(len(colours)):
        colours[int(dataset.nodata), 3] = 0
    return colours if (colours[:, 3] < 255).any() else colours[:, :3].copy()


def _header(dataset: Any, palette: NDArray[Any] | None, masked: bool) -> Header:
    names = [kind.name for kind in dataset.colorinterp]
    try:
        (dtype,) = {np.dtype(name) for name in dataset.dtypes}
    except (TypeError, ValueError):
        raise Unfit(f"its bands are of types that are not handled: {', '.join(dataset.dtypes)}") from None
    channels, alpha = dataset.count, names[-1] == "alpha"
    if "alpha" in names[:-1]:
        raise Unfit("rasters whose alpha is not the last band are not handled: reorder its bands")
    nodata = None if masked else settings.nodata_of(dataset.nodata, dtype)
    is_color = names[:3] == ["red", "green", "blue"]
    if palette is not None:
        channels, dtype, nodata = palette.shape[1], palette.dtype, None
        alpha, is_color = channels == 4, True
    header = Header(
        format="GDAL",
        pages=1,
        height=dataset.height,
        width=dataset.width,
        channels=channels,
        dtype=dtype,
        layout="HW" if channels == 1 else "HWC",
        alpha=alpha,
        nodata=nodata,
        levels=tuple((-(-dataset.height // n), -(-dataset.width // n)) for n in dataset.overviews(1)),
    )
    colours = 3 if is_color else 1
    page = {
        **settings.new_settings(header),
        "photometric": settings.RGB if is_color else settings.BLACK_IS_ZERO,
        "extrasamples": [0] * (channels - colours - alpha) + [settings.UNASSOCIATED] * alpha,
        "tags": _geotags(dataset),
    }
    own = [Item("the place on Earth", ("TIFF",))] if dataset.crs else []
    if any(scale != 1 for scale in dataset.scales) or any(dataset.offsets):
        own.append(Item("the scale and offset of its values"))
    if masked:
        own.append(Item("the mask of valid pixels", ("TIFF",)))
    keep = {
        "pages": [page],
        "color": is_color or (False if channels - alpha > 1 else None),
        "masks": {0: None} if masked else {},
    }
    return dataclasses.replace(header, own=tuple(own), keep=keep)


def _geotags(dataset: Any) -> dict[int, Any]:
    """Return the tags by which a GeoTIFF says what GDAL knows of the dataset: those of one that it writes."""
    import rasterio
    import tifffile
    from rasterio.io import MemoryFile

    points, of_points = dataset.gcps
    place: dict[str, Any] = {"crs": dataset.crs}
    if not dataset.transform.is_identity:
        place["transform"] = dataset.transform
    with _OPENING, warnings.catch_warnings(), rasterio.Env(), MemoryFile() as memory:
        warnings.simplefilter("ignore")
        size = {"width": 1, "height": 1, "count": dataset.count, "dtype": dataset.dtypes[0]}
        with memory.open(driver="GTiff", SPARSE_OK=True, **size, **place) as model:
            model.update_tags(**dataset.tags())
            if any(dataset.descriptions):
                model.descriptions = dataset.descriptions
            if points:
                model.gcps = (points, of_points)
            if dataset.rpcs:
                model.rpcs = dataset.rpcs
        with tifffile.TiffFile(io.BytesIO(memory.read())) as file:
            tags: dict[int, Any] = settings.settings_of(file.pages[0], file.pages[0])["tags"]
    return tags
