"""Histogram matching on a CUDA device: tables of integer images, and floating images value by value."""

from typing import Any

import cupy
import numpy as np
from histeq_kernels.cuda.interface import SCRATCH

from histeq._backends.cupy import device as _device
from histeq._backends.cupy.device import grid_of, grid_of_elements, on, refuse_capture
from histeq._backends.cupy.rules import rule_of
from histeq._core.backend import Pixels

Array = Any


def match_table(counts: Array, reference: Array, dtype: Any, first: int) -> Array:
    """Return the table that gives `counts`, from value `first` up, the distribution of `reference`."""
    with on(counts):
        _refuse_capture()
        counts = cupy.ascontiguousarray(counts)
        reference = cupy.ascontiguousarray(cupy.broadcast_to(reference, counts.shape))
        table = cupy.empty(counts.shape, dtype)
        bins = counts.shape[-1]
        histograms = counts.size // bins
        if histograms:
            quantiles, values = (cupy.empty(counts.shape, np.float64) for _ in range(2))
            rule = rule_of("none", bins, np.dtype(dtype), None)
            rule["first"] = first
            arguments = (counts, reference, np.int64(histograms), rule, quantiles, values, table)
            gpu = _device.device(counts.device.id)
            gpu.launch("match", "match_table", grid_of(histograms), arguments, SCRATCH)
    return table


def match_values(pixels: Pixels, reference: Pixels, out: Array) -> None:
    """Match a floating image to a floating reference, value by value (scikit-image's match_histograms).

    Sorting needs the number of distinct values on the host: this function waits for the device.
    """
    with on(pixels.image):
        _refuse_capture()
        images, planes = pixels.image.shape[:2]
        for n in range(images):
            for p in range(planes):
                target = _counted(reference, min(n, len(reference.image) - 1), p)
                _match_plane(pixels, n, p, target, out[n, p])


def _refuse_capture() -> None:
    """Refuse what makes counts and tables that nobody holds, or waits for the device."""
    refuse_capture("match", "call it before the capture, or on another stream")


def _match_plane(pixels: Pixels, n: int, p: int, target: Array, out: Array) -> None:
    """Match the plane p of image n to the values `target`."""
    plane = pixels.image[n, p].copy()
    counted = _counted(pixels, n, p)
    if counted.size == 0 or target.size == 0:
        out[...] = plane
        return
    values, counts = cupy.unique(counted, return_counts=True)
    target_values, target_counts = cupy.unique(target, return_counts=True)
    quantiles = cupy.cumsum(counts) / float(counted.size)
    target_quantiles = cupy.cumsum(target_counts) / float(target.size)
    matched = _interpolate(quantiles, target_quantiles, target_values.astype(np.float64)).astype(out.dtype)
    if pixels.nodata is not None:
        beside = matched.dtype.type(pixels.beside_nodata)
        matched = cupy.where(matched == pixels.nodata, beside, matched)
    at = cupy.searchsorted(values, plane.ravel(), side="right").reshape(plane.shape) - 1
    is_mapped = cupy.isfinite(plane)
    if pixels.nodata is not None:
        is_mapped &= plane != pixels.nodata
    out[...] = cupy.where(is_mapped, matched[cupy.maximum(at, 0)], plane)


def _counted(pixels: Pixels, n: int, p: int) -> Array:
    """Return all finite counted values of a plane, 1-D."""
    plane = pixels.image[n, p]
    is_counted = cupy.isfinite(plane)
    if pixels.nodata is not None:
        is_counted &= plane != pixels.nodata
    mask = pixels.mask_of(n)
    if mask is not None:
        is_counted &= mask
    return plane[is_counted]


def _interpolate(x: Array, xs: Array, ys: Array) -> Array:
    """Return np.interp(x, xs, ys), bit for bit; all are float64."""
    y = cupy.empty(x.shape, np.float64)
    arguments = (x, np.int64(x.size), xs, ys, np.int64(xs.size), y)
    _device.device(x.device.id).launch("match", "interpolate_f64", grid_of_elements(x.size), arguments)
    return y
