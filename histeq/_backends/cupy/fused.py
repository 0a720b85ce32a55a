"""Planes of 8 bits equalized in one launch on a CUDA device: see fused.cu."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from histeq_kernels.cuda.interface import (
    COUNTERS_U8,
    RESIDENT_BLOCKS,
    SCRATCH,
    THREADS,
    VECTOR,
    VECTORS,
    WARP,
    WORK,
)

from histeq._backends.cupy import device as _device
from histeq._backends.cupy.device import Device, address, image_groups, structure
from histeq._backends.cupy.layout import Region, merged_region_of, tables_of
from histeq._backends.cupy.rules import rule_of
from histeq._core.backend import Pixels
from histeq._core.rules import OutRange

Array = Any

ITEMS = 6
"""Items of work of each kind that every block gets where there is enough to do: fewer leave some blocks idle
in the end. By reckoning, not by measurement."""
MOST_STRETCHES = 4
"""The most stretches that each warp takes of an item. To clear and fold the counters of an item costs as much
as a quarter of a stretch; what all blocks have in hand is to stay in the L2 cache. By reckoning, too."""
_SHARED = SCRATCH + COUNTERS_U8 + 256


def equalize(pixels: Pixels, rule: str, out_range: OutRange | None, out: Array) -> bool:
    """Equalize images of 8 bits in one launch where that is possible; tell whether it was done."""
    image = pixels.image
    if image.itemsize != 1 or out.itemsize != 1 or pixels.mask is not None or pixels.luma or image.size == 0:
        return False
    region = merged_region_of(image, None, out)
    if not region.is_contiguous:
        return False
    gpu = _device.device(image.device.id)
    images, planes = pixels.histograms
    structures = (rule_of(rule, 256, image.dtype, out_range, pixels), tables_of(None, pixels))
    for part in image_groups(images, 8 * 256 * planes):
        if part != slice(0, images):
            region = merged_region_of(image[part], None, out[part])
        _launch(gpu, region, *structures)
    return True


def _launch(gpu: Device, region: Region, rule: np.ndarray, tables: np.ndarray) -> None:
    plan = plan_of(gpu, region)
    workspace = gpu.workspace()
    work = structure(
        WORK, region.planes, plan.lag, plan.stretches,
        address(workspace.zeros("counts", 256 * region.planes, np.uint64)),
        address(workspace.zeros("tickets", 1 + 2 * region.planes, np.uint32)),
    )  # fmt: skip
    arguments = (region.layout, region.image, rule, tables, work, region.out)
    gpu.launch("fused", "equalize_u8", (plan.blocks,), arguments, _SHARED, threads=plan.threads)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a launch is cut into blocks and items of work."""

    threads: int
    blocks: int
    stretches: int
    """Stretches of a warp in an item."""
    lag: int
    """Planes that are counted before the first one is mapped."""


def plan_of(gpu: Device, region: Region) -> Plan:
    """Cut the work so that all multiprocessors have some, and what is mapped is in the L2 cache."""
    stretches = region.stretches(WARP * VECTORS * VECTOR, 1)
    # Blocks of half the size where those of full size would leave multiprocessors idle.
    small = region.planes * stretches <= gpu.multiprocessors * (THREADS // 2 // WARP)
    threads = THREADS // 2 if small else THREADS
    warps, resident = threads // WARP, gpu.multiprocessors * RESIDENT_BLOCKS * (THREADS // threads)
    turns = region.planes * stretches // (resident * warps * ITEMS)
    per_item = warps * min(max(turns, 1), MOST_STRETCHES)
    parts = -(-stretches // per_item)
    blocks = min(resident, region.planes * parts)
    # Each block has one item at work, and about every other one more that it has drawn. Between the last item
    # to count of a plane and its first to map there are twice as many as `lag` planes have parts. Where that
    # is as many as the blocks have, the plane is counted by then.
    return Plan(threads, blocks, per_item, min(-(-3 * blocks // (4 * parts)), region.planes))
