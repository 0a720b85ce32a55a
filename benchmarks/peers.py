"""The other libraries, each called as its experienced user would call it.

Every function takes an image and an output array of its shape (which some libraries cannot use),
prepares what a program would prepare once, and returns the call that is timed.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np
import pyvips
from numpy.typing import NDArray
from PIL import Image, ImageOps
from skimage import exposure

Array = NDArray[Any]
Call = Callable[[], Any]

pyvips.cache_set_max(0)  # libvips remembers results: the second round would cost nothing


def set_num_threads(threads: int) -> None:
    """Tell every library that has threads how many to use."""
    cv2.setNumThreads(threads)
    pyvips.concurrency_set(threads)


# OpenCV ---------------------------------------------------------------------------------------------


def cv2_equalize(image: Array, out: Array) -> Call:
    return partial(cv2.equalizeHist, image, out)


def cv2_histogram(image: Array, out: Array) -> Call:
    levels = np.iinfo(image.dtype).max + 1
    return partial(cv2.calcHist, [image], [0], None, [levels], [0, levels])


def cv2_apply(image: Array, out: Array, table: Array) -> Call:
    return partial(cv2.LUT, image, table, out)


def cv2_luma(image: Array, out: Array) -> Call:
    return _cv2_on_luma(image, out, cv2.equalizeHist)


def _cv2_on_luma(image: Array, out: Array, change: Callable[[Array, Array], Any]) -> Call:
    ycrcb, luma = np.empty_like(image), np.empty(image.shape[:2], image.dtype)

    def call() -> Array:
        cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb, ycrcb)
        change(cv2.extractChannel(ycrcb, 0, luma), luma)
        cv2.insertChannel(luma, ycrcb, 0)
        return cv2.cvtColor(ycrcb, cv2.COLOR_YCrCb2RGB, out)

    return call


def cv2_channels(image: Array, out: Array) -> Call:
    planes = [np.empty(image.shape[:2], image.dtype) for _ in range(3)]

    def call() -> Array:
        cv2.split(image, planes)
        for plane in planes:
            cv2.equalizeHist(plane, plane)
        return cv2.merge(planes, out)

    return call


def cv2_clahe(image: Array, out: Array) -> Call:
    return partial(cv2.createCLAHE(2.0, (8, 8)).apply, image, out)


def cv2_clahe_luma(image: Array, out: Array) -> Call:
    return _cv2_on_luma(image, out, cv2.createCLAHE(2.0, (8, 8)).apply)


# NumPy ----------------------------------------------------------------------------------------------


def numpy_equalize(image: Array, out: Array) -> Call:
    """Prepare the textbook recipe."""
    top = np.iinfo(image.dtype).max

    def call() -> Array:
        cdf = np.cumsum(np.bincount(image.ravel(), minlength=top + 1))
        darkest = cdf[np.argmax(cdf > 0)]
        if darkest == cdf[-1]:
            np.copyto(out, image)
            return out
        table = np.maximum(cdf - darkest, 0) * float(top) / float(cdf[-1] - darkest)
        return _take(table.astype(image.dtype), image, out)

    return call


def numpy_histogram(image: Array, out: Array) -> Call:
    return partial(np.bincount, image.ravel(), minlength=np.iinfo(image.dtype).max + 1)


def numpy_apply(image: Array, out: Array, table: Array) -> Call:
    return partial(_take, table, image, out)


def _take(table: Array, image: Array, out: Array) -> Array:
    return np.take(table, image, out=out, mode="clip")  # the other modes go through a buffer: 20 % slower


# Pillow ---------------------------------------------------------------------------------------------


def pillow_equalize(image: Array, out: Array) -> Call:
    return partial(ImageOps.equalize, Image.fromarray(image))


def pillow_histogram(image: Array, out: Array) -> Call:
    return Image.fromarray(image).histogram


def pillow_apply(image: Array, out: Array, table: Array) -> Call:
    return partial(Image.fromarray(image).point, table.tolist())


# scikit-image ---------------------------------------------------------------------------------------


def skimage_equalize(image: Array, out: Array) -> Call:
    return partial(exposure.equalize_hist, image)


def skimage_histogram(image: Array, out: Array) -> Call:
    return lambda: exposure.histogram(image, source_range="dtype")[0]


def skimage_match(image: Array, out: Array, reference: Array) -> Call:
    """Prepare the form that returns the image's dtype, which the one without channels does not."""
    return partial(exposure.match_histograms, image[..., None], reference[..., None], channel_axis=-1)


# libvips --------------------------------------------------------------------------------------------


def vips_equalize(image: Array, out: Array) -> Call:
    source = pyvips.Image.new_from_array(image)
    return lambda: source.hist_equal().copy_memory()  # it computes when pixels are asked for
