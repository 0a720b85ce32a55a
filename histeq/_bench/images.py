"""The images that are timed: photographs and the contents that histograms find easy or hard.

Counting depends on content. Equal neighbours wait for each other's counter, which is what a constant
image does all the time and noise never; noise in 16 bits misses the cache instead.
"""

import functools
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

CONTENTS = ("natural", "constant", "two-valued", "noise")
DEEP = "12-bit"
"""A photograph in uint16 as many sensors give it: the four top bits are 0."""

# A photograph of 512 x 512 enlarged more than this is a blur; larger images are it and its mirror images.
_LARGEST_PHOTOGRAPH = 2048


@functools.lru_cache(maxsize=1)  # the runs on one image follow each other; the largest takes 0.5 GB
def make(content: str, size: tuple[int, int], dtype: str, channels: int = 0) -> Array:
    """Return an image of (rows, columns), and RGB where `channels` is 3; the same each time.

    Floating images are from 0 to 1.
    """
    if np.dtype(dtype).kind == "f":
        return (make.__wrapped__(content, size, "uint16", channels) / 65535).astype(dtype)
    shape = (*size, channels) if channels else size
    rng = np.random.default_rng(0)
    levels = np.iinfo(dtype).max + 1
    if content == "natural":
        return natural("astronaut" if channels else "camera", size, dtype)
    if content == "constant":
        return np.full(shape, levels // 3, dtype)
    if content == "two-valued":
        return rng.choice(np.array([levels // 3, levels // 2], dtype), shape)
    if content == "noise":
        return rng.integers(0, levels, shape, dtype)
    if content == DEEP:
        return natural("camera", size, dtype) >> 4
    raise ValueError(f"content must be one of {', '.join(CONTENTS)}, got {content!r}")


def natural(name: str, size: tuple[int, int], dtype: str) -> Array:
    """Return one of scikit-image's photographs at any size, with the noise that a sensor would add.

    Without scikit-image it is a drawn scene.
    """
    photograph = _photograph(name, *(min(n, _LARGEST_PHOTOGRAPH) for n in size))
    rng = np.random.default_rng(0)
    tile = _raw(photograph, rng) if dtype == "uint16" else photograph + rng.normal(0, 2, photograph.shape)
    tile = np.clip(tile, 0, np.iinfo(dtype).max).astype(dtype)
    missing = [(0, n - have) for n, have in zip(size, tile.shape, strict=False)]
    return np.pad(tile, [*missing, (0, 0)][: tile.ndim], mode="symmetric")


def source() -> str:
    """Name where the natural images come from: times on different images are not compared."""
    return "photographs" if _folder() else "drawn"


@functools.cache
def _folder() -> Path | None:
    """Return scikit-image's folder of photographs. Importing the package would import SciPy."""
    found = importlib.util.find_spec("skimage"), importlib.util.find_spec("PIL")
    if found[0] is None or found[1] is None or not found[0].submodule_search_locations:
        return None
    folder = Path(next(iter(found[0].submodule_search_locations)), "data")
    return folder if (folder / "astronaut.png").exists() and (folder / "camera.png").exists() else None


def _photograph(name: str, rows: int, columns: int) -> NDArray[np.float64]:
    folder = _folder()
    if folder is None:
        return _drawn(name, rows, columns)
    from PIL import Image

    with Image.open(folder / f"{name}.png") as image:
        resized = image.resize((columns, rows), Image.Resampling.BICUBIC)
    return np.asarray(resized).astype(np.float64)


def _drawn(name: str, rows: int, columns: int) -> NDArray[np.float64]:
    """Return a scene in which neighbours are alike, as photographs have it."""
    y, x = np.linspace(0, 512, rows)[:, None, None], np.linspace(0, 512, columns)[None, :, None]
    phases = np.arange(3 if name == "astronaut" else 1) + sum(name.encode())
    scene = 0.45 + 0.25 * np.sin(x / 97 + phases) * np.cos(y / 61)
    scene = 255 * np.clip(scene + 0.12 * np.sin((x + 2 * y) / 23 + phases) + 0.15 * (x > y), 0, 1)
    return scene if name == "astronaut" else scene[..., 0]


def _raw(photograph: Array, rng: np.random.Generator) -> Array:
    """Return what a camera's 16-bit raw file holds of this photograph.

    Light on a linear scale, up to 40,000 electrons; the noise of counting them and of reading them out;
    a black level. Of a megapixel or more, some 40,000 values occur, the dark ones far more often.
    """
    electrons = 40_000 * (photograph / 255) ** 2.2
    noise = rng.normal(0, 1, photograph.shape) * np.sqrt(electrons + 8.0**2)
    return electrons + noise + 512
