"""The tier "avx512": counting as bit planes, lookups by byte permutations."""

from typing import Any

from histeq_kernels.cpu.clahe import blend_permute, tile_bitplanes
from histeq_kernels.cpu.core.views import as_one_slice
from histeq_kernels.cpu.fused import tables
from histeq_kernels.cpu.histogram import bitplanes
from histeq_kernels.cpu.histogram.bitplane_vectors import split_block_gfni
from histeq_kernels.cpu.lut import byte_permute, lookup
from histeq_kernels.cpu.tiers import portable
from histeq_kernels.cpu.tiers.tier import Tier
from histeq_kernels.cpu.ycrcb import arithmetic, bitplane_blocks, blocks
from histeq_kernels.cpu.ycrcb.vectors import luma_operations

COUNTING: dict[str, Any] = {
    "min_pixels_counted_by_rows": bitplanes.MIN_PIXELS,
    "count_rows": bitplanes.count_rows,
    "fold_rows": bitplanes.fold_rows,
    "rows_to_count": as_one_slice,
    "split_block": split_block_gfni,
    "block_pixels": blocks.LARGEST_BLOCK,
    "block_rows": bitplane_blocks.block_rows,
    "count_block": bitplane_blocks.count_block,
    "fold_blocks": bitplane_blocks.fold_blocks,
    "table_of_blocks": tables.table_of_bitplanes,
    "min_pixels_of_counted_tile": bitplanes.MIN_PIXELS,
    "count_tile": tile_bitplanes.count_tile,
}
"""The operations that count. With another `split_block` they run on any processor, as they do in tests."""

TIER = Tier(
    name="avx512",
    needs=frozenset({"avx2", "avx512f", "avx512bw", "avx512vbmi", "avx512vpopcntdq", "gfni"}),
    joins_rows=False,
    min_pixels_equalized_by_rows=0,
    max_ranked_tile=65535,
    operations={
        **portable.TIER.operations,
        **COUNTING,
        "min_pixels_mapped_by_rows": 0,
        "prepare_table": lookup.prepare_nothing,
        "map_row": byte_permute.map_row,
        "map_rows": byte_permute.map_rows,
        "prepare_steps": lookup.prepare_nothing,
        "map_chunk": byte_permute.map_chunk,
        **luma_operations(arithmetic.AVX512),
        "blend_plane": blend_permute.blend_plane,
    },
)
