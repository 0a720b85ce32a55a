"""Pictures through histeq: alpha stays as it was, bands that are no colour go one by one."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import histeq
from histeq import _files
from histeq._cli.report import one_line
from histeq._core.ycrcb import alpha_for
from histeq._files import Picture


def equalized(picture: Picture, *, color: str, nodata: Any = None, **options: Any) -> Picture:
    """Return the picture with its colours equalized."""
    return _through(histeq.equalize, picture, color=color, nodata=nodata, **options)


def localized(picture: Picture, *, color: str, nodata: Any = None, **options: Any) -> Picture:
    """Return the picture with its colours equalized locally."""
    return _through(histeq.clahe, picture, color=color, nodata=nodata, **options)


def _through(
    function: Callable[..., Any], picture: Picture, *, color: str, nodata: Any, **options: Any
) -> Picture:
    options |= {"layout": "NHWC", "color": color, "nodata": nodata_of(picture, nodata)}

    def part(channels: slice) -> NDArray[Any]:
        return np.asarray(function(picture.batch[..., channels], **options))

    return _mapped(picture, color, part)


def matched(picture: Picture, model: Picture, *, color: str, nodata: Any, **options: Any) -> Picture:
    """Return the picture with the model's histograms."""
    ours, theirs = (each.channels - each.alpha for each in (picture, model))
    if ours != theirs:
        raise ValueError(f"the reference has {theirs} channels and the picture {ours} (alpha not counted)")
    options |= {"layout": "NHWC", "color": color, "nodata": nodata_of(picture, nodata)}

    def part(channels: slice) -> NDArray[Any]:
        pair = (picture.batch[..., channels], model.batch[..., channels])
        return np.asarray(histeq.match(*pair, **options))

    return _mapped(picture, color, part)


def _mapped(picture: Picture, color: str, part: Callable[[slice], NDArray[Any]]) -> Picture:
    """Put a picture together from its mapped channels."""
    mapped = [part(channels) for channels in channel_groups(picture, color)]
    if picture.alpha:
        mapped.append(alpha_for(mapped[0].dtype, picture.batch[..., -1:]))
    pixels = mapped[0] if len(mapped) == 1 else np.concatenate(mapped, axis=-1)
    return dataclasses.replace(picture, pixels=pixels.reshape(picture.pixels.shape))


def channel_groups(picture: Picture, color: str) -> list[slice]:
    """Say which channels go through histeq together; alpha does not.

    To histeq a fourth channel is alpha, so that four bands without alpha go one by one.
    """
    channels = picture.channels - picture.alpha
    if channels != 4:
        return [slice(0, channels)]
    if color == "luma":
        raise ValueError("the picture has four bands, none of them alpha: use --color channels")
    return [slice(band, band + 1) for band in range(4)]


def nodata_of(picture: Picture, asked: Any) -> Any:
    """Return what --nodata asks for, or else what the file says."""
    if asked is None:
        return picture.nodata
    return None if asked == "none" else asked


def valid(pixels: NDArray[Any], nodata: Any) -> NDArray[Any]:
    """Return the values that count: finite and not nodata."""
    values = pixels[np.isfinite(pixels)]
    return values if nodata is None else values[values != pixels.dtype.type(nodata)]


def read_mask(path: Path | None, max_pixels: int) -> NDArray[np.bool_] | None:
    """Return where a picture is not zero in any of its colours, (H, W) or (N, H, W)."""
    if path is None:
        return None
    with one_line(path):
        mask = _files.read(path, max_pixels=max_pixels)
        counted = (mask.batch[..., : mask.channels - mask.alpha] != 0).any(axis=-1)
        return counted if "N" in mask.layout else counted[0]
