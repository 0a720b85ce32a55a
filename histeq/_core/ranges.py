"""The range of a floating image's values, found part by part, and the edges of the bins that divide it."""

import numpy as np

from histeq._core.backend import Array, Backend, Pixels


def extremes(pixels: Pixels) -> Array:
    """Return the smallest counted value of each plane and the negative of the largest, (2, N, C).

    Those of the parts of an image give its own by `np.minimum`. Infinity: no value is counted.
    """
    image = pixels.image
    axes, dtype = tuple(range(2, image.ndim)), image.dtype.newbyteorder("=")
    if 0 in image.shape[2:]:
        return np.full((2, *image.shape[:2]), np.inf, dtype, like=image)
    counted = np.isfinite(image)
    if pixels.nodata is not None:
        counted &= image != pixels.nodata
    if pixels.mask is not None:
        counted &= pixels.mask
    if isinstance(image, np.ndarray):  # without a copy, which CuPy cannot
        least = image.min(axes, initial=np.inf, where=counted)
        return np.stack([least, -image.max(axes, initial=-np.inf, where=counted)]).astype(dtype, copy=False)
    none = dtype.type(np.inf)
    return np.stack([np.where(counted, signed, none).min(axes) for signed in (image, -image)])


def edges_of(backend: Backend, found: Array, bins: int) -> Array:
    """Return the edges of bins between the extremes of planes, (N, C, bins + 1): those of two pixels each."""
    pairs = np.stack([found[0], -found[1]], axis=-1)
    pairs = np.where(np.isfinite(pairs), pairs, found.dtype.type(np.nan))
    return backend.bin_edges(Pixels(pairs[:, :, None, None, :]), bins, None)
