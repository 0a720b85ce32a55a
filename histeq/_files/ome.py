"""The metadata of OME-Zarr: which arrays of a group are one image, and what their axes are.

Version 0.4 (https://ngff.openmicroscopy.org/0.4) keeps them among the attributes of a group of Zarr 2,
version 0.5 under "ome" among those of Zarr 3.
"""

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from histeq._files.axes import Axes

NAMES = {"T": "t", "C": "c", "D": "z", "H": "y", "W": "x"}
_TYPES = {"T": "time", "C": "channel"}
_OLD = ("t", "c", "z", "y", "x")  # until 0.3 no axes were named: there were five


@dataclasses.dataclass(frozen=True, slots=True)
class Scales:
    """The arrays of an image, the largest first."""

    paths: tuple[str, ...]
    axes: tuple[str, ...]


def scales(attributes: Mapping[str, Any]) -> Scales | None:
    """Return the arrays that a group's attributes name, or None if they name none; ValueError if broken."""
    try:
        image = _image(attributes)
        if image is None:
            return None
        paths = tuple(dataset["path"] for dataset in image["datasets"])
        axes = tuple(_axis(axis) for axis in image.get("axes", _OLD))
        if not paths or not all(isinstance(text, str) for text in (*paths, *axes)):
            raise TypeError
    except (AttributeError, IndexError, KeyError, TypeError):
        raise ValueError("the metadata of its multiscales are broken") from None
    return Scales(paths, axes)


def _body(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    body = attributes.get("ome", attributes)
    return body if isinstance(body, Mapping) else {}


def _image(attributes: Mapping[str, Any]) -> Any:
    """Return the first of the multiscales, which is the image."""
    images = _body(attributes).get("multiscales")
    return images[0] if images else None


def _axis(axis: Any) -> str:
    """Return an axis's name; a type says more than an unusual name."""
    if isinstance(axis, str):
        return axis
    return {"time": "t", "channel": "c"}.get(axis.get("type"), axis["name"])


def updated(
    attributes: Mapping[str, Any], levels: Sequence[Axes], old: Sequence[Axes], dtype: np.dtype[Any]
) -> dict[str, Any]:
    """Return the attributes of a group whose pixels have changed.

    The arrays keep their pixel sizes, but along axes whose length is no longer the old array's.
    """
    changed, image = _changed(attributes, dtype)
    del image["datasets"][len(levels) :]
    first = image["datasets"][0].get("coordinateTransformations", [])
    for dataset, new, before in zip(image["datasets"], levels, old, strict=False):
        others = [axis for axis, size in enumerate(new.shape) if size != before.shape[axis]]
        for step, of_first in zip(dataset.get("coordinateTransformations", []), first, strict=False):
            kind = step.get("type")
            for axis in others if kind == of_first.get("type") and kind in step else ():
                step[kind][axis] = of_first[kind][axis]
    return changed


def extended(
    attributes: Mapping[str, Any], levels: Sequence[Axes], names: Sequence[str], dtype: np.dtype[Any]
) -> dict[str, Any]:
    """Return the attributes of a group of one array to which reduced copies are added."""
    changed, image = _changed(attributes, dtype)
    steps = {step.get("type"): step for step in image["datasets"][0].get("coordinateTransformations", [])}
    ndim = len(levels[0].letters)
    scale = steps.get("scale", {}).get("scale", [1.0] * ndim)
    shift = steps.get("translation", {}).get("translation", [0.0] * ndim)
    image["datasets"] = _datasets(levels, names, scale, shift)
    return changed


def new(version: int, levels: Sequence[Axes], names: Sequence[str]) -> dict[str, Any]:
    """Return the attributes of a group for an image that had none, in Zarr's format 2 or 3."""
    letters = levels[0].letters
    ndim = len(letters)
    image = {
        "axes": [{"name": NAMES[letter], "type": _TYPES.get(letter, "space")} for letter in letters],
        "datasets": _datasets(levels, names, [1.0] * ndim, [0.0] * ndim),
    }
    if version == 2:
        return {"multiscales": [{"version": "0.4"} | image]}
    return {"ome": {"version": "0.5", "multiscales": [image]}}


def _changed(attributes: Mapping[str, Any], dtype: np.dtype[Any]) -> tuple[dict[str, Any], Any]:
    """Return a copy of the attributes without what was said of the old pixels, and its image."""
    changed = copy.deepcopy(dict(attributes))
    image = _image(changed)
    for name in ("type", "metadata"):  # how the reduced copies were made
        image.pop(name, None)
    omero = _body(changed).get("omero")
    channels = omero.get("channels") if isinstance(omero, dict) else None
    for channel in channels if isinstance(channels, list) else ():
        if isinstance(channel, dict) and channel.pop("window", None) is not None and dtype.kind != "f":
            low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
            channel["window"] = {"min": low, "max": high, "start": low, "end": high}
    return changed, image


def _datasets(
    levels: Sequence[Axes], names: Sequence[str], scale: Sequence[float], shift: Sequence[float]
) -> list[dict[str, Any]]:
    """Return the arrays of an image that is halved again and again."""
    datasets = []
    for level, (axes, name) in enumerate(zip(levels, names, strict=True)):
        factors = [2.0**level if letter in "HW" else 1.0 for letter in axes.letters]
        sizes = [size * factor for size, factor in zip(scale, factors, strict=True)]
        # The centre of the first pixel is that of the pixels it was made of.
        starts = [
            start + size * (factor - 1) / 2 for start, size, factor in zip(shift, scale, factors, strict=True)
        ]
        steps: list[dict[str, Any]] = [{"type": "scale", "scale": sizes}]
        if any(starts):
            steps.append({"type": "translation", "translation": starts})
        datasets.append({"path": name, "coordinateTransformations": steps})
    return datasets
