"""Image files of any size: check the arguments, and hand over to the passes."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from histeq import _files
from histeq._api.types import BackendName, Color, FileLike, Range, Rule
from histeq._cluster.client import check_workers, connected
from histeq._cluster.run import MEMORY, ClusterRun
from histeq._cluster.travel import absolute, travelling
from histeq._core import tile_grid
from histeq._core.arguments import is_integer, shown
from histeq._files import FileError, Options, name_of, urls
from histeq._files.blocks import Header, Whole
from histeq._passes import files
from histeq._passes.files import Done, Job, Work
from histeq._passes.image import Image, Selection, lasting_identity
from histeq._passes.methods import Clahe, Equalize, Match, Method
from histeq._passes.run import Progress, Run, default_memory

Sizes = int | Sequence[int]
Mask = FileLike | NDArray[Any] | None
SourceT = TypeVar("SourceT", bound=FileLike)
TargetT = TypeVar("TargetT", bound=FileLike)
Nodata = float | Literal["file"] | None
Cluster = Any
"""The address of a scheduler, "local:N", a client of dask.distributed's, or None."""


@dataclass(frozen=True, slots=True)
class FileResult:
    """What was done to a file.

    Attributes
    ----------
    source, target : str
        The names of the files that were read and written.
    width, height, pages, channels : int
        The size of the image; alpha is a channel.
    dtype : str
        The dtype of the result.
    seconds : dict of float
        How long the steps took: "read" (and decode), "compute", "write" (and encode), summed over the
        threads.
    notes : tuple of str
        What the source has and the target has not, each a few words such as "XMP not carried".
    damage : tuple of str
        What of the source could not be decoded: empty unless `lenient` was asked for.
    """

    source: str
    target: str
    width: int
    height: int
    pages: int
    channels: int
    dtype: str
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()
    damage: tuple[str, ...] = ()


@overload
def equalize_file(
    src: FileLike,
    dst: FileLike,
    *,
    rule: Rule = ...,
    color: Color | None = ...,
    alpha: bool | None = ...,
    mask: Mask = ...,
    nodata: Nodata = ...,
    count_transparent: bool = ...,
    bins: int | None = ...,
    value_range: Range | None = ...,
    out_range: Range | None = ...,
    out_dtype: DTypeLike | None = ...,
    pages: Literal["each", "together"] = ...,
    layout: str | None = ...,
    lenient: bool = ...,
    format: str | None = ...,
    quality: int | None = ...,
    compression: str | None = ...,
    overviews: bool | None = ...,
    strict: bool = ...,
    overwrite: bool = ...,
    dry_run: bool = ...,
    memory: int | str | None = ...,
    max_pixels: int = ...,
    progress: Callable[[int, int], object] | None = ...,
    backend: BackendName | None = ...,
    cluster: Cluster = ...,
    resume: bool = ...,
) -> FileResult: ...


@overload
def equalize_file(
    src: list[SourceT] | tuple[SourceT, ...],
    dst: list[TargetT] | tuple[TargetT, ...],
    *,
    rule: Rule = ...,
    color: Color | None = ...,
    alpha: bool | None = ...,
    mask: Mask = ...,
    nodata: Nodata = ...,
    count_transparent: bool = ...,
    bins: int | None = ...,
    value_range: Range | None = ...,
    out_range: Range | None = ...,
    out_dtype: DTypeLike | None = ...,
    pages: Literal["each", "together"] = ...,
    layout: str | None = ...,
    lenient: bool = ...,
    format: str | None = ...,
    quality: int | None = ...,
    compression: str | None = ...,
    overviews: bool | None = ...,
    strict: bool = ...,
    overwrite: bool = ...,
    dry_run: bool = ...,
    memory: int | str | None = ...,
    max_pixels: int = ...,
    progress: Callable[[int, int], object] | None = ...,
    backend: BackendName | None = ...,
    cluster: Cluster = ...,
    resume: bool = ...,
) -> list[FileResult]: ...


def equalize_file(
    src: FileLike | list[SourceT] | tuple[SourceT, ...],
    dst: FileLike | list[TargetT] | tuple[TargetT, ...],
    *,
    rule: Rule = "opencv",
    color: Color | None = None,
    alpha: bool | None = None,
    mask: Mask = None,
    nodata: Nodata = "file",
    count_transparent: bool = False,
    bins: int | None = None,
    value_range: Range | None = None,
    out_range: Range | None = None,
    out_dtype: DTypeLike | None = None,
    pages: Literal["each", "together"] = "each",
    layout: str | None = None,
    lenient: bool = False,
    format: str | None = None,
    quality: int | None = None,
    compression: str | None = None,
    overviews: bool | None = None,
    strict: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    memory: int | str | None = None,
    max_pixels: int = _files.MAX_PIXELS,
    progress: Callable[[int, int], object] | None = None,
    backend: BackendName | None = None,
    cluster: Cluster = None,
    resume: bool = False,
) -> FileResult | list[FileResult]:
    """Equalize the histogram of an image in a file, of any size.

    Parameters
    ----------
    src : path, binary file or zarr array
        The file to read: TIFF (BigTIFF, OME-TIFF, pyramids), Zarr (v2, v3, OME-Zarr), NPY, PNG, JPEG, WebP,
        BMP, GIF, JPEG 2000, JPEG XL, AVIF or DICOM, recognized by its content, and with rasterio what GDAL
        reads. A list or tuple of files is counted
        together: all are mapped through one table, so that the parts of a mosaic show no seams.
    dst : path, binary file or zarr array
        The file to write; a path's suffix names its format. A list or tuple where `src` is one. Nothing
        appears under this name before the file is complete. Everything of `src` that stays true is kept:
        tags, metadata, tiles, compression; the result's notes name the rest. Pixels are not turned: the
        orientation is kept.
    rule : {"opencv", "pillow", "numpy", "skimage", "vips"}
        Whose arithmetic to reproduce: see `histeq.equalize`. Floating-point images have scikit-image's only.
    color : {"luma", "luma-bgr", "channels"}, optional
        What to equalize of an image in colour: the Y of YCrCb, with Cr and Cb kept, or every channel by
        itself; "luma-bgr": of a file whose first channel is blue. By default the luma; an error where three
        bands are not said to be red, green and blue.
    alpha : bool, optional
        Whether the last channel is alpha, which is neither counted nor mapped. By default the file tells.
    mask : path, binary file, zarr array or numpy array of bool, optional
        Which pixels are counted: those where it is not zero. All pixels are mapped. It has the image's size,
        and one page or as many as the image.
    nodata : number, "file" or None
        The value that is not counted and passes through unchanged; no other pixel comes out as it. By default
        that of the file, if it names one; None: there is none.
    count_transparent : bool
        Whether pixels whose alpha is 0 are counted. All pixels are mapped. What a file's own mask excludes
        (of a TIFF, or in a file beside it that ends in .msk) is never counted; where there is such a mask,
        the file's nodata value is none.
    bins : int, optional
        The number of bins for floating-point images, 256 by default.
    value_range : (low, high), optional
        The values that are counted: see `histeq.equalize`. Of grey images of 32- and 64-bit integers, which
        need it, at most 65536 values.
    out_range : (low, high), optional
        The lowest and the highest output level; by default `value_range`, or the whole range of the dtype
        where that is not given. For fractions 0..1.
    out_dtype : dtype, optional
        uint8, for 8 bits from 16. By default the dtype of the image.
    pages : {"each", "together"}
        Whether every page has a histogram of its own, or all pages have one together.
    layout : str, optional
        One letter for each axis of an array in Zarr or NPY: H, W, C for channels; N (or T) and D make pages.
        By default its metadata or its shape tells.
    lenient : bool
        Whether what can be decoded of a damaged file is kept; the result's `damage` says what is lost. By
        default damage is an error.
    format : str, optional
        The format to write: "TIFF", "Zarr", "NPY", "PNG", "JPEG", "WebP", "BMP", "GIF", "JPEG 2000",
        "JPEG XL", "AVIF" or "DICOM". By default that of the path's suffix; of an open file that of `src`.
    quality : int, optional
        1 to 100, of JPEG, within TIFF too, WebP, JPEG 2000, JPEG XL, and AVIF of 8 bits in colour. By default
        JPEG has that of `src`, else 95. The others are lossless, but for WebP from JPEG, 95, and formats that
        are lossy in `src` and do not tell their quality: WebP 85, JPEG 2000 95, AVIF 90.
    compression : str, optional
        Of TIFF and Zarr: "none", "deflate", "lzw", "zstd", ... By default that of `src`, if it has the same
        format.
    overviews : bool, optional
        Whether reduced copies of the image are written, made from its new pixels. By default as many as `src`
        has.
    strict : bool
        Whether it is an error, before any work, that something of `src` cannot be carried to `dst`. By
        default the result's notes name it.
    overwrite : bool
        Whether a file that exists is replaced. It keeps its owner and its permissions.
    dry_run : bool
        Whether everything is checked that can be before pixels are read, and nothing is written.
    memory : int or str, optional
        About how many bytes the image may take in memory, such as "512M", beside the 150 MB of the program
        itself. By default a quarter of what is free.
    max_pixels : int
        The most pixels that an image may have; a larger one is refused before it is decoded.
    progress : callable, optional
        Is called with the pixels done and the pixels to do, those of all passes: from one thread at a time.
    backend : {"numba", "numpy", "cupy"}, optional
        Which backend does the work. "cupy": on the GPU, through pinned memory.
    cluster : str or distributed.Client, optional
        Whose workers read and write the blocks: the address of a Dask scheduler such as ``tcp://host:8786``,
        or "local:N" for N processes on this machine. Files are paths that all workers see, or URLs, and `dst`
        is a Zarr store; `memory` is a worker's for each of its threads, 512M by default. Needs
        ``histeq[dask]``.
    resume : bool
        Whether a run on a cluster goes on with what an earlier one, which was lost, has left of `dst`: a
        folder ``NAME.unfinished.zarr``, or a URL. An error if a file or an argument is another.

    Returns
    -------
    FileResult
        What was done, or a list of it for several files.

    Raises
    ------
    FileError
        If a file cannot be read or written, or exists already. The message is one line that begins with its
        name; a file that was there before is unchanged.
    TypeError, ValueError
        For a wrong argument, before anything is written; the message names the argument.
    RuntimeError
        If the backend asked for is not available here.

    Notes
    -----
    The image is read twice, block by block: to count its pixels, and to map them. Reading, decoding, mapping,
    encoding and writing take place on all threads (`histeq.threads` limits them), so that memory does not
    grow with the image. Formats other than TIFF, Zarr and NPY are decoded as wholes.

    Examples
    --------
    >>> import numpy as np
    >>> import histeq, pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> image = np.array([[50, 52, 52], [51, 52, 53], [52, 53, 54]], np.uint8)
    >>> np.save(folder / "a.npy", image)
    >>> result = histeq.equalize_file(folder / "a.npy", folder / "b.npy")
    >>> result.width, result.height, result.dtype
    (3, 3, 'uint8')
    >>> np.load(folder / "b.npy")
    array([[  0, 159, 159],
           [ 32, 159, 223],
           [159, 223, 255]], dtype=uint8)
    """
    what = value_range, backend, _checked_alpha(alpha), count_transparent
    selection = Selection(color, _checked_nodata(nodata), *what)
    method = Equalize(selection, rule, bins, out_range, out_dtype)
    options = _options(quality, compression, overviews, overwrite, strict)
    where = dry_run, cluster, resume
    with _Call(method, mask, memory, max_pixels, layout, lenient, progress, options, *where) as call:
        return call.transform(src, dst, format, pages)


@overload
def match_file(
    src: FileLike,
    reference: FileLike,
    dst: FileLike,
    *,
    color: Color = ...,
    alpha: bool | None = ...,
    mask: Mask = ...,
    nodata: Nodata = ...,
    count_transparent: bool = ...,
    value_range: Range | None = ...,
    pages: Literal["each", "together"] = ...,
    layout: str | None = ...,
    lenient: bool = ...,
    format: str | None = ...,
    quality: int | None = ...,
    compression: str | None = ...,
    overviews: bool | None = ...,
    strict: bool = ...,
    overwrite: bool = ...,
    dry_run: bool = ...,
    memory: int | str | None = ...,
    max_pixels: int = ...,
    progress: Callable[[int, int], object] | None = ...,
    backend: BackendName | None = ...,
    cluster: Cluster = ...,
    resume: bool = ...,
) -> FileResult: ...


@overload
def match_file(
    src: list[SourceT] | tuple[SourceT, ...],
    reference: FileLike,
    dst: list[TargetT] | tuple[TargetT, ...],
    *,
    color: Color = ...,
    alpha: bool | None = ...,
    mask: Mask = ...,
    nodata: Nodata = ...,
    count_transparent: bool = ...,
    value_range: Range | None = ...,
    pages: Literal["each", "together"] = ...,
    layout: str | None = ...,
    lenient: bool = ...,
    format: str | None = ...,
    quality: int | None = ...,
    compression: str | None = ...,
    overviews: bool | None = ...,
    strict: bool = ...,
    overwrite: bool = ...,
    dry_run: bool = ...,
    memory: int | str | None = ...,
    max_pixels: int = ...,
    progress: Callable[[int, int], object] | None = ...,
    backend: BackendName | None = ...,
    cluster: Cluster = ...,
    resume: bool = ...,
) -> list[FileResult]: ...


def match_file(
    src: FileLike | list[SourceT] | tuple[SourceT, ...],
    reference: FileLike,
    dst: FileLike | list[TargetT] | tuple[TargetT, ...],
    *,
    color: Color = "channels",
    alpha: bool | None = None,
    mask: Mask = None,
    nodata: Nodata = "file",
    count_transparent: bool = False,
    value_range: Range | None = None,
    pages: Literal["each", "together"] = "each",
    layout: str | None = None,
    lenient: bool = False,
    format: str | None = None,
    quality: int | None = None,
    compression: str | None = None,
    overviews: bool | None = None,
    strict: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    memory: int | str | None = None,
    max_pixels: int = _files.MAX_PIXELS,
    progress: Callable[[int, int], object] | None = None,
    backend: BackendName | None = None,
    cluster: Cluster = None,
    resume: bool = False,
) -> FileResult | list[FileResult]:
    """Give an image in a file the histogram of another, of any size.

    Parameters
    ----------
    src : path, binary file or zarr array
        The file to read: TIFF (BigTIFF, OME-TIFF, pyramids), Zarr (v2, v3, OME-Zarr), NPY, PNG, JPEG, WebP,
        BMP, GIF, JPEG 2000, JPEG XL, AVIF or DICOM, recognized by its content, and with rasterio what GDAL
        reads. A list or tuple of files is counted
        together: all are mapped through one table, so that the parts of a mosaic show no seams.
    reference : path, binary file or zarr array
        The file with the histogram. It has the image's dtype and channels (alpha not counted), and one page
        or as many as the image.
    dst : path, binary file or zarr array
        The file to write; a path's suffix names its format. A list or tuple where `src` is one. Nothing
        appears under this name before the file is complete. Everything of `src` that stays true is kept:
        tags, metadata, tiles, compression; the result's notes name the rest. Pixels are not turned: the
        orientation is kept.
    color : {"luma", "luma-bgr", "channels"}
        What to match of an image in colour: the Y of YCrCb, with Cr and Cb kept, or every channel by itself.
        "luma-bgr": of a file whose first channel is blue.
    alpha : bool, optional
        Whether the last channel, of the reference too, is alpha, which is neither counted nor mapped. By
        default the files tell.
    mask : path, binary file, zarr array or numpy array of bool, optional
        Which pixels are counted: those where it is not zero. All pixels are mapped. It has the image's size,
        and one page or as many as the image.
    nodata : number, "file" or None
        The value that is not counted and passes through unchanged; no other pixel comes out as it. By default
        that of the file, and of the reference its own, if it names one; None: there is none.
    count_transparent : bool
        Whether pixels whose alpha is 0 are counted. All pixels are mapped. What a file's own mask excludes
        (of a TIFF, or in a file beside it that ends in .msk) is never counted; where there is such a mask,
        the file's nodata value is none.
    value_range : (low, high), optional
        The values that are counted: see `histeq.match`. Of grey images of 32- and 64-bit integers, which
        need it, at most 65536 values.
    pages : {"each", "together"}
        Whether every page has a histogram of its own, or all pages have one together.
    layout : str, optional
        One letter for each axis of an array in Zarr or NPY: H, W, C for channels; N (or T) and D make pages.
        By default its metadata or its shape tells.
    lenient : bool
        Whether what can be decoded of a damaged file is kept; the result's `damage` says what is lost. By
        default damage is an error.
    format : str, optional
        The format to write: "TIFF", "Zarr", "NPY", "PNG", "JPEG", "WebP", "BMP", "GIF", "JPEG 2000",
        "JPEG XL", "AVIF" or "DICOM". By default that of the path's suffix; of an open file that of `src`.
    quality : int, optional
        1 to 100, of JPEG, within TIFF too, WebP, JPEG 2000, JPEG XL, and AVIF of 8 bits in colour. By default
        JPEG has that of `src`, else 95. The others are lossless, but for WebP from JPEG, 95, and formats that
        are lossy in `src` and do not tell their quality: WebP 85, JPEG 2000 95, AVIF 90.
    compression : str, optional
        Of TIFF and Zarr: "none", "deflate", "lzw", "zstd", ... By default that of `src`, if it has the same
        format.
    overviews : bool, optional
        Whether reduced copies of the image are written, made from its new pixels. By default as many as `src`
        has.
    strict : bool
        Whether it is an error, before any work, that something of `src` cannot be carried to `dst`. By
        default the result's notes name it.
    overwrite : bool
        Whether a file that exists is replaced. It keeps its owner and its permissions.
    dry_run : bool
        Whether everything is checked that can be before pixels are read, and nothing is written.
    memory : int or str, optional
        About how many bytes the image may take in memory, such as "512M", beside the 150 MB of the program
        itself. By default a quarter of what is free.
    max_pixels : int
        The most pixels that an image may have; a larger one is refused before it is decoded.
    progress : callable, optional
        Is called with the pixels done and the pixels to do, those of all passes: from one thread at a time.
    backend : {"numba", "numpy", "cupy"}, optional
        Which backend does the work. "cupy": on the GPU, through pinned memory.
    cluster : str or distributed.Client, optional
        Whose workers read and write the blocks: the address of a Dask scheduler such as ``tcp://host:8786``,
        or "local:N" for N processes on this machine. Files are paths that all workers see, or URLs, and `dst`
        is a Zarr store; `memory` is a worker's for each of its threads, 512M by default. Needs
        ``histeq[dask]``.
    resume : bool
        Whether a run on a cluster goes on with what an earlier one, which was lost, has left of `dst`: a
        folder ``NAME.unfinished.zarr``, or a URL. An error if a file or an argument is another.

    Returns
    -------
    FileResult
        What was done, or a list of it for several files.

    Raises
    ------
    FileError
        If a file cannot be read or written, or exists already. The message is one line that begins with its
        name; a file that was there before is unchanged.
    TypeError, ValueError
        For a wrong argument, before anything is written; the message names the argument.
    RuntimeError
        If the backend asked for is not available here.

    Notes
    -----
    Integer images are read twice, block by block: to count their pixels, and to map them; memory does not
    grow with them. Floating-point images are matched value by value, and so must fit into memory.

    Examples
    --------
    >>> import numpy as np
    >>> import histeq, pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> np.save(folder / "a.npy", np.array([[0, 1], [2, 3]], np.uint8))
    >>> np.save(folder / "model.npy", np.array([[0, 10], [20, 30]], np.uint8))
    >>> names = [folder / name for name in ("a.npy", "model.npy", "b.npy")]
    >>> result = histeq.match_file(*names)
    >>> np.load(folder / "b.npy")
    array([[ 0, 10],
           [20, 30]], dtype=uint8)
    """
    what = value_range, backend, _checked_alpha(alpha), count_transparent
    selection = Selection(color, _checked_nodata(nodata), *what)
    with ExitStack() as stack:
        limits = {"max_pixels": max_pixels, "memory": bytes_of(memory)}
        model = stack.enter_context(_files.opened(reference, layout=layout, lenient=lenient, **limits))
        method = Match(selection, Image(reference, model, selection))
        options = _options(quality, compression, overviews, overwrite, strict)
        where = dry_run, cluster, resume
        call = _Call(method, mask, memory, max_pixels, layout, lenient, progress, options, *where)
        return stack.enter_context(call).transform(src, dst, format, pages)


def clahe_file(
    src: FileLike,
    dst: FileLike,
    *,
    clip_limit: float = 2.0,
    tiles: Sizes = tile_grid.TILES,
    tile_size: Sizes | None = None,
    bins: int | None = None,
    color: Color | None = None,
    alpha: bool | None = None,
    mask: Mask = None,
    nodata: Nodata = "file",
    count_transparent: bool = False,
    value_range: Range | None = None,
    out_range: Range | None = None,
    out_dtype: DTypeLike | None = None,
    layout: str | None = None,
    lenient: bool = False,
    format: str | None = None,
    quality: int | None = None,
    compression: str | None = None,
    overviews: bool | None = None,
    strict: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    memory: int | str | None = None,
    max_pixels: int = _files.MAX_PIXELS,
    progress: Callable[[int, int], object] | None = None,
    backend: BackendName | None = None,
    cluster: Cluster = None,
    resume: bool = False,
) -> FileResult:
    """Equalize the contrast of an image in a file locally and within limits (CLAHE), of any size.

    Parameters
    ----------
    src : path, binary file or zarr array
        The file to read: TIFF (BigTIFF, OME-TIFF, pyramids), Zarr (v2, v3, OME-Zarr), NPY, PNG, JPEG, WebP,
        BMP, GIF, JPEG 2000, JPEG XL, AVIF or DICOM, recognized by its content, and with rasterio what GDAL
        reads.
    dst : path, binary file or zarr array
        The file to write; a path's suffix names its format. Nothing appears under this name before the
        file is complete. Everything of `src` that stays true is kept: tags, metadata, tiles, compression;
        the result's notes name the rest. Pixels are not turned: the orientation is kept.
    clip_limit : float
        How many times its even share of a tile's pixels a bin may hold before it is clipped: the limit on
        the amplification of contrast. 0, negative numbers and NaN mean no clipping.
    tiles : int or sequence of int
        The number of tiles: (rows, columns). By default 8 x 8.
    tile_size : int or sequence of int, optional
        The size of a tile in pixels, in place of `tiles`.
    bins : int, optional
        The number of bins of a tile's histogram; by default one for each value. A power of two for integers,
        whose lower bits are then ignored. Floating-point images are quantised to this many bins, 256 by
        default.
    color : {"luma", "luma-bgr", "channels"}, optional
        What to equalize of an image in colour: the Y of YCrCb, with Cr and Cb kept, or every channel by
        itself; "luma-bgr": of a file whose first channel is blue. By default the luma; an error where three
        bands are not said to be red, green and blue.
    alpha : bool, optional
        Whether the last channel is alpha, which is neither counted nor mapped. By default the file tells.
    mask : path, binary file, zarr array or numpy array of bool, optional
        Which pixels are counted: those where it is not zero. All pixels are mapped. It has the image's size,
        and one page or as many as the image.
    nodata : number, "file" or None
        The value that is not counted and passes through unchanged; no other pixel comes out as it. By default
        that of the file, if it names one; None: there is none.
    count_transparent : bool
        Whether pixels whose alpha is 0 are counted. All pixels are mapped. What a file's own mask excludes
        (of a TIFF, or in a file beside it that ends in .msk) is never counted; where there is such a mask,
        the file's nodata value is none.
    value_range : (low, high), optional
        The values that are counted: see `histeq.clahe`. Of grey images of 32- and 64-bit integers, which
        need it, at most 65536 values.
    out_range : (low, high), optional
        The lowest and the highest output level; by default `value_range`, or the whole range of the dtype
        where that is not given. For fractions 0..1.
    out_dtype : dtype, optional
        uint8, for 8 bits from 16. By default the dtype of the image.
    layout : str, optional
        One letter for each axis of an array in Zarr or NPY: H, W, C for channels; N (or T) and D make pages.
        By default its metadata or its shape tells.
    lenient : bool
        Whether what can be decoded of a damaged file is kept; the result's `damage` says what is lost. By
        default damage is an error.
    format : str, optional
        The format to write: "TIFF", "Zarr", "NPY", "PNG", "JPEG", "WebP", "BMP", "GIF", "JPEG 2000",
        "JPEG XL", "AVIF" or "DICOM". By default that of the path's suffix; of an open file that of `src`.
    quality : int, optional
        1 to 100, of JPEG, within TIFF too, WebP, JPEG 2000, JPEG XL, and AVIF of 8 bits in colour. By default
        JPEG has that of `src`, else 95. The others are lossless, but for WebP from JPEG, 95, and formats that
        are lossy in `src` and do not tell their quality: WebP 85, JPEG 2000 95, AVIF 90.
    compression : str, optional
        Of TIFF and Zarr: "none", "deflate", "lzw", "zstd", ... By default that of `src`, if it has the same
        format.
    overviews : bool, optional
        Whether reduced copies of the image are written, made from its new pixels. By default as many as `src`
        has.
    strict : bool
        Whether it is an error, before any work, that something of `src` cannot be carried to `dst`. By
        default the result's notes name it.
    overwrite : bool
        Whether a file that exists is replaced. It keeps its owner and its permissions.
    dry_run : bool
        Whether everything is checked that can be before pixels are read, and nothing is written.
    memory : int or str, optional
        About how many bytes the image may take in memory, such as "512M", beside the 150 MB of the program
        itself. By default a quarter of what is free.
    max_pixels : int
        The most pixels that an image may have; a larger one is refused before it is decoded.
    progress : callable, optional
        Is called with the pixels done and the pixels to do, those of all passes: from one thread at a time.
    backend : {"numba", "numpy", "cupy"}, optional
        Which backend does the work. "cupy": on the GPU, through pinned memory.
    cluster : str or distributed.Client, optional
        Whose workers read and write the blocks: the address of a Dask scheduler such as ``tcp://host:8786``,
        or "local:N" for N processes on this machine. Files are paths that all workers see, or URLs, and `dst`
        is a Zarr store; `memory` is a worker's for each of its threads, 512M by default. Needs
        ``histeq[dask]``.
    resume : bool
        Whether a run on a cluster goes on with what an earlier one, which was lost, has left of `dst`: a
        folder ``NAME.unfinished.zarr``, or a URL. An error if a file or an argument is another.

    Returns
    -------
    FileResult
        What was done.

    Raises
    ------
    FileError
        If a file cannot be read or written, or exists already. The message is one line that begins with its
        name; a file that was there before is unchanged.
    TypeError, ValueError
        For a wrong argument, before anything is written; the message names the argument.
    RuntimeError
        If the backend asked for is not available here.

    Notes
    -----
    The pixels are those of `histeq.clahe` for the whole image, bit for bit. Only the tables of a few rows of
    tiles are held at a time.

    Examples
    --------
    >>> import numpy as np
    >>> import histeq, pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    >>> np.save(folder / "a.npy", image)
    >>> result = histeq.clahe_file(folder / "a.npy", folder / "b.npy", tiles=(2, 2))
    >>> bool((np.load(folder / "b.npy") == histeq.clahe(image, tiles=(2, 2))).all())
    True
    """
    what = value_range, backend, _checked_alpha(alpha), count_transparent
    selection = Selection(color, _checked_nodata(nodata), *what)
    method = Clahe(selection, clip_limit, tiles, tile_size, bins, out_range, out_dtype)
    options = _options(quality, compression, overviews, overwrite, strict)
    where = dry_run, cluster, resume
    with _Call(method, mask, memory, max_pixels, layout, lenient, progress, options, *where) as call:
        return call.one(src, dst, format, "each")


def _options(
    quality: Any, compression: str | None, overviews: bool | None, overwrite: bool, strict: bool
) -> Options:
    if quality is not None and not (is_integer(quality) and 1 <= quality <= 100):
        raise ValueError(f"quality must be from 1 to 100, got {shown(quality)}")
    return Options(
        quality=quality,
        compression=compression,
        overviews=overviews,
        overwrite=overwrite,
        strict=bool(strict),
    )


class _Call:
    """The arguments that the functions of this module share, checked; the mask is open within the context."""

    def __init__(
        self,
        method: Method,
        mask: Any,
        memory: int | str | None,
        max_pixels: int,
        layout: str | None,
        lenient: bool,
        progress: Progress | None,
        options: Options,
        dry_run: bool,
        cluster: Any,
        resume: bool,
    ) -> None:
        if not is_integer(max_pixels) or max_pixels < 1:
            raise ValueError(f"max_pixels must be at least 1, got {shown(max_pixels)}")
        self._method, self._mask, self._layout, self._max_pixels = method, mask, layout, int(max_pixels)
        self._options, self._dry_run = options, dry_run
        if cluster is None and resume:
            raise ValueError("resume is for a cluster: cluster must be given with it")
        if cluster is not None and lenient:
            raise ValueError("lenient is for one machine, and not for a cluster")
        if cluster is not None and memory is None:
            memory = MEMORY
        self._memory, self._progress, self._lenient = bytes_of(memory), progress, bool(lenient)
        self._cluster, self._resume, self._client = cluster, bool(resume), None
        self._stack = ExitStack()

    def __enter__(self) -> "_Call":
        with ExitStack() as stack:
            self._stack = stack
            self._image = None if self._mask is None else self._opened_mask()
            if self._cluster is not None:
                self._spread()
            self._stack = stack.pop_all()
        return self

    def _spread(self) -> None:
        """Make the image of the mask and the reference such that workers open them, too."""
        limits: dict[str, Any] = {"max_pixels": self._max_pixels, "memory": self._memory}
        if isinstance(self._mask, np.ndarray):
            raise TypeError("mask must be a path or a URL for a cluster, got ndarray")
        if self._image is not None:
            self._image = travelling(self._image, "mask", layout=None, **limits)
        if isinstance(self._method, Match):
            model = travelling(self._method.reference, "reference", layout=self._layout, **limits)
            self._method = replace(self._method, reference=model)

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def _opened_mask(self) -> Image:
        if isinstance(self._mask, Image):
            return self._mask  # the command line opens it once for all files
        if isinstance(self._mask, np.ndarray):
            return Image("mask", _array_source(self._mask), Selection())
        return self._stack.enter_context(opened_mask(self._mask, self._max_pixels, self._memory))

    def transform(self, src: Any, dst: Any, format: str | None, pages: str) -> FileResult | list[FileResult]:
        """Serve one file, or a sequence of them together."""
        if pages not in ("each", "together"):
            raise ValueError(f"pages must be 'each' or 'together', got {shown(pages)}")
        if not isinstance(src, list | tuple):
            return self.one(src, dst, format, pages)
        if not isinstance(dst, list | tuple) or len(dst) != len(src) or not src:
            raise ValueError(f"dst must be a sequence of {len(src)} files as src is, got {shown(dst)}")
        jobs = [self._job(source, target, format) for source, target in zip(src, dst, strict=True)]
        work = self._work(jobs)
        every = files.together(jobs, work)
        return [_result(job, done, work) for job, done in zip(jobs, every, strict=True)]

    def one(self, src: Any, dst: Any, format: str | None, pages: str) -> FileResult:
        """Serve one file."""
        job = self._job(src, dst, format)
        work = self._work([job])
        return _result(job, files.each(job, work, pages_together=pages == "together"), work)

    def _job(self, src: Any, dst: Any, format: str | None) -> Job:
        """Return a file to be served; raise if another is in its place."""
        if format is not None and format not in _files.FORMATS:
            raise ValueError(f"format must be one of {', '.join(_files.FORMATS)}, got {shown(format)}")
        if dst is src and not isinstance(dst, str | os.PathLike):
            raise ValueError("dst must not be src: an open file cannot be replaced")
        src, dst = urls.local(src), urls.local(dst)
        if isinstance(dst, str | os.PathLike) and not self._options.overwrite:
            _files.check_absent(Path(dst))
        if self._cluster is not None:
            src, dst = absolute(src, "src"), absolute(dst, "dst")
            kind = format or _files.format_of(Path(dst))
            if kind != "Zarr" or Path(dst).suffix.lower() == ".zip":
                kind = kind if kind != "Zarr" else "a ZIP file"
                raise FileError(f"{dst}: a cluster writes Zarr, into a folder or at a URL, and not {kind}")
        return Job(_files.seekable(src, self._stack), dst, format)

    def _work(self, jobs: Sequence[Job]) -> Work:
        limits = self._memory, self._progress, self._method.selection.backend == "cupy"
        if self._cluster is None or self._dry_run:
            run = Run(*limits)
        else:
            run = ClusterRun(self._connected(jobs), *limits)
        return Work(
            run,
            self._method,
            self._options,
            self._max_pixels,
            self._layout,
            self._lenient,
            self._image,
            self._dry_run,
            self._resume,
        )

    def _connected(self, jobs: Sequence[Job]) -> Any:
        """Return a client of the cluster, whose workers see the files."""
        client = self._stack.enter_context(connected(self._cluster))
        files = [job.source for job in jobs]
        files += [] if self._image is None else [self._image.file]
        files += [self._method.reference.file] if isinstance(self._method, Match) else []
        names = [absolute(file, "src") for file in files]
        for name in names:
            if urls.address(name) is None and not Path(name).exists():
                raise FileError(f"{name}: No such file or directory")
        check_workers(client, {name: lasting_identity(name, shallow=True) for name in names})
        return client


def _result(job: Job, done: Done, work: Work) -> FileResult:
    header = done.header
    return FileResult(
        name_of(job.source),
        name_of(job.target),
        header.width,
        header.height,
        header.pages,
        header.channels,
        str(header.dtype),
        {name: round(seconds, 6) for name, seconds in work.run.seconds.items()},
        done.notes,
        done.damage,
    )


def _checked_nodata(nodata: Any) -> Any:
    if isinstance(nodata, str) and nodata != "file":
        raise ValueError(f"nodata must be a number, 'file' or None, got {shown(nodata)}")
    return nodata


def _checked_alpha(alpha: Any) -> bool | None:
    if alpha is not None and not isinstance(alpha, bool):
        raise TypeError(f"alpha must be True, False or None, got {shown(alpha)}")
    return alpha


@contextmanager
def opened_mask(mask: FileLike, max_pixels: int, memory: int | None = None) -> Iterator[Image]:
    """Open the file of a mask."""
    with _files.opened(mask, max_pixels=max_pixels, memory=memory) as source:
        yield Image(mask, source, Selection())


def _array_source(mask: NDArray[Any]) -> Whole:
    """Return a mask in memory as a source."""
    if mask.ndim not in (2, 3) or mask.dtype.kind not in "bu" or mask.size == 0:
        raise ValueError(
            f"mask must be (H, W) or (pages, H, W), bool or unsigned, got {mask.dtype} of shape {mask.shape}"
        )
    pages, height, width = mask.shape if mask.ndim == 3 else (1, *mask.shape)
    header = Header(
        format="NPY", pages=pages, height=height, width=width, channels=1, dtype=mask.dtype,
        layout="HW" if mask.ndim == 2 else "NHW",
    )  # fmt: skip
    return Whole(header, lambda: np.asarray(mask))


_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def bytes_of(memory: int | str | None) -> int:
    """Return a number of bytes, which may be text such as "512M"."""
    if memory is None:
        return default_memory()
    size = -1
    if isinstance(memory, str):
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", memory.strip(), re.IGNORECASE)
        size = int(float(found[1]) * _UNITS[found[2].upper()]) if found else -1
    elif is_integer(memory):
        size = int(memory)
    if size < 1 << 20:
        raise ValueError(f"memory must be a number of bytes such as '512M', at least 1M, got {shown(memory)}")
    return size
