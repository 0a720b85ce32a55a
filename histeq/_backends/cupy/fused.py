"""Whole images equalized in one launch on a CUDA device, where that is faster than two."""

from typing import Any

import numpy as np
from histeq_kernels.cuda.interface import CLUSTER, COUNTERS_U8, KEPT, RESULTS, SCRATCH, STRETCH

from histeq._backends.cupy import device as _device
from histeq._backends.cupy.device import Device, address, structure
from histeq._backends.cupy.layout import Region, merged_region_of, tables_of
from histeq._backends.cupy.rules import rule_of
from histeq._core.backend import Pixels
from histeq._core.rules import OutRange

Array = Any


def equalize(pixels: Pixels, rule: str, out_range: OutRange | None, out: Array) -> bool:
    """Equalize uint8 images in one launch where that is faster than two; tell whether it was done."""
    image = pixels.image
    if image.dtype != np.uint8 or out.dtype != np.uint8 or pixels.mask is not None or pixels.luma:
        return False
    gpu = _device.device(image.device.id)
    planes = image.shape[0] * image.shape[1]
    is_small = planes == 1 and gpu.has_cooperative_launches and gpu.fits_one_stretch(image.size)
    if image.size == 0 or not (is_small or gpu.fits_clusters(planes, image.size // planes)):
        return False
    region = merged_region_of(image, None, out)
    if not region.is_contiguous:
        return False
    rule_struct, tables = rule_of(rule, 256, image.dtype, out_range, pixels), tables_of(None, pixels)
    if is_small:
        _equalize_small(gpu, region, rule_struct, tables)
    else:
        _equalize_batch(gpu, region, rule_struct, tables)
    return True


def _equalize_small(gpu: Device, region: Region, rule: np.ndarray, tables: np.ndarray) -> None:
    """Launch as many blocks as there are stretches, which wait for one another."""
    workspace = gpu.workspace()
    counts = workspace.zeros("counts", 256, np.uint64)
    tickets = workspace.zeros("tickets", 2, np.uint32)
    results = structure(RESULTS, address(counts), address(tickets), 0, 0)
    grid = (gpu.blocks_per_plane(region.plane_size, 1, region.plane_size),)
    arguments = (region.layout, region.image, rule, results, tables, region.out)
    gpu.launch("fused", "equalize_u8", grid, arguments, SCRATCH + COUNTERS_U8, cooperative=True)


def _equalize_batch(gpu: Device, region: Region, rule: np.ndarray, tables: np.ndarray) -> None:
    """Launch a cluster of blocks for each frame."""
    kept = gpu.kept_stretches()
    grid = (CLUSTER, min(region.planes, _device.GRID_Y))
    arguments = (region.layout, region.image, rule, tables, np.int64(kept), region.out)
    shared = SCRATCH + KEPT + kept * STRETCH
    gpu.launch("fused_clusters", "equalize_u8_clusters", grid, arguments, shared)
