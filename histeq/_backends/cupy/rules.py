"""Lookup tables on a CUDA device, from histograms that are there; and rules as the kernels take them."""

from typing import Any

import cupy
import numpy as np
from histeq_kernels.cuda.interface import RULE, RULES, SCRATCH

from histeq._backends.cupy import device as _device
from histeq._backends.cupy.device import grid_of, on, structure
from histeq._core import rules as _rules
from histeq._core.backend import Pixels
from histeq._core.rules import OutRange

Array = Any


def lookup_table(counts: Array, rule: str, dtype: Any, out_range: OutRange | None) -> Array:
    """Return the table of a rule for each histogram: (..., levels)."""
    with on(counts):
        if counts.dtype != np.int64 or not counts.flags.c_contiguous:
            _device.refuse_capture("counts that are not int64 and contiguous", "pass those of histogram")
            counts = cupy.ascontiguousarray(counts.astype(np.int64, copy=False))
        table = cupy.empty(counts.shape, _rules.table_dtype(rule, dtype, out_range))
        bins = counts.shape[-1]
        histograms = counts.size // bins if bins else 0
        if histograms:
            arguments = (counts, np.int64(histograms), rule_of(rule, bins, dtype, out_range), table)
            gpu = _device.device(counts.device.id)
            gpu.launch("rules", "lookup_table", grid_of(histograms), arguments, SCRATCH)
    return table


def rule_of(
    rule: str, bins: int, dtype: Any, out_range: OutRange | None, pixels: Pixels | None = None
) -> np.ndarray:
    """Return struct Rule of rules.cuh; "none" makes no table.

    With `pixels`, the bin of nodata does not count. Where there are floating or coloured images, the kernels
    leave nodata out themselves.
    """
    floating = dtype.kind == "f"
    bottom = 0 if floating else smallest(dtype)
    low, span, first, last, fractions = bottom, bins - 1, bottom, bottom + bins - 1, (0.0, 1.0)
    nodata = -1
    if out_range is not None:
        first, last = out_range.first, out_range.last
        if rule == "skimage":
            fractions = (float(out_range.low), float(out_range.high) - float(out_range.low))
        else:
            low, span = int(out_range.low), int(out_range.high) - int(out_range.low)
    if pixels is not None and pixels.luma is None and not floating:
        nodata = nodata_bin(pixels)
    to_brightest = rule == "vips" and out_range is None and bins != 256
    width = (dtype if rule == "none" else _rules.table_dtype(rule, dtype, out_range)).itemsize
    values = (
        RULES[rule], bins, width, nodata, first, last, low, span, to_brightest, floating, *fractions
    )  # fmt: skip
    return structure(RULE, *values)


def smallest(dtype: Any) -> int:
    """Return the value of an integer dtype that the first bin stands for."""
    return int(np.iinfo(dtype).min)


def nodata_bin(pixels: Pixels) -> int:
    """Return the bin of nodata in an integer image, -1 where there is none."""
    return -1 if pixels.nodata is None else int(pixels.nodata) - smallest(pixels.image.dtype)
