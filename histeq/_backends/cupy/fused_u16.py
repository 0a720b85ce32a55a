"""An image of 16 bits equalized in one launch on a CUDA device: see fused_u16.cu."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from histeq_kernels.cuda.interface import (
    CHUNK,
    SCRATCH,
    TABLE_U16,
    THREADS,
    VECTOR,
    VECTORS,
    WARP,
    WIDE_COUNTS,
    WIDE_WORK,
)

from histeq._backends.cupy import device as _device
from histeq._backends.cupy.device import Device, address, structure
from histeq._backends.cupy.layout import Region, is_aligned, merged_region_of, tables_of
from histeq._backends.cupy.rules import rule_of
from histeq._core.backend import Pixels
from histeq._core.rules import OutRange

Array = Any

_WARPS = THREADS // WARP


def equalize(pixels: Pixels, rule: str, out_range: OutRange | None, out: Array) -> bool:
    """Equalize one grey image of 16 bits in one launch where that is possible; tell whether it was done."""
    image = pixels.image
    if pixels.mask is not None or pixels.luma or out.dtype != image.dtype or image.shape[:2] != (1, 1):
        return False
    if image.itemsize != 2 or image.dtype.kind == "f" or image.size == 0:
        return False
    if not (is_aligned(image) and is_aligned(out)):
        return False
    region = merged_region_of(image, None, out)
    if not region.is_contiguous:
        return False
    gpu = _device.device(image.device.id)
    plan, workspace = plan_of(gpu, region), gpu.workspace()
    work = structure(
        WIDE_WORK, plan.stretches, gpu.slices(), plan.in_shared,
        address(workspace.zeros("counts", WIDE_COUNTS, np.uint64)),
        address(workspace.empty("table", (65536,), image.dtype)),
        address(workspace.zeros("tickets", 4, np.uint32)),
    )  # fmt: skip
    of_rule, tables = rule_of(rule, 65536, image.dtype, out_range, pixels), tables_of(None, pixels)
    arguments = (region.layout, region.image, of_rule, tables, work, region.out)
    shared = max(gpu.shared_of_slices(), SCRATCH + TABLE_U16 if plan.in_shared else 0)
    gpu.launch("fused_u16", "equalize_u16", (plan.blocks,), arguments, shared)
    return True


@dataclass(frozen=True, slots=True)
class Plan:
    """How a launch is cut into blocks and items of work."""

    blocks: int
    stretches: int
    """Stretches of a part that is mapped; one that is counted has as many for every slice of the values."""
    in_shared: bool
    """Each block loads the table into its shared memory."""


def plan_of(gpu: Device, region: Region) -> Plan:
    """Cut the work into one item of each kind for every multiprocessor: its shared memory holds one block."""
    stretches, slices = region.stretches(WARP * VECTORS * VECTOR, 2), gpu.slices()
    most = _device.MOST_COUNTED // (WARP * VECTORS * VECTOR)  # that a block can count
    part = min(max(-(-stretches // gpu.multiprocessors), _WARPS // slices, 1), most // slices)
    mapping = -(-stretches // part)
    items = -(-stretches // (part * slices)) * slices + 65536 // CHUNK // _WARPS + mapping
    blocks = min(gpu.multiprocessors, items)
    return Plan(blocks, part, gpu.holds_wide_table(2 * region.plane_size // min(blocks, mapping)))
