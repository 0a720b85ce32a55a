"""The tier "avx512": counting as bit planes, lookups by byte permutations, YCrCb of 64 pixels at a time."""

from histeq_kernels.cpu.clahe import blend_permute, tile_bitplanes
from histeq_kernels.cpu.core.views import as_one_slice
from histeq_kernels.cpu.fused import tables
from histeq_kernels.cpu.histogram import bitplanes, masked_bitplanes
from histeq_kernels.cpu.lut import byte_permute, lookup
from histeq_kernels.cpu.tiers import portable
from histeq_kernels.cpu.tiers.tier import Tier
from histeq_kernels.cpu.ycrcb import arithmetic, bitplane_blocks, blocks
from histeq_kernels.cpu.ycrcb.vectors import color_operations

TIER = Tier(
    name="avx512",
    needs=frozenset({"avx2", "avx512f", "avx512bw", "avx512vbmi", "avx512vnni", "avx512vpopcntdq", "gfni"}),
    joins_rows=False,
    bypasses_caches=True,
    min_pixels_equalized_by_rows=0,
    operations={
        **portable.TIER.operations,
        "min_pixels_counted_by_rows": bitplanes.MIN_PIXELS,
        "count_rows": bitplanes.count_rows,
        "count_piece": bitplanes.count_rows,
        "fold_rows": bitplanes.fold_rows,
        "count_masked": masked_bitplanes.count_masked,
        "rows_to_count": as_one_slice,
        "table_of_image": tables.table_of_bitplanes,
        "block_pixels": blocks.LARGEST_BLOCK,
        "block_rows": bitplane_blocks.block_rows,
        "count_block": bitplane_blocks.count_block,
        "fold_blocks": bitplane_blocks.fold_blocks,
        "table_of_blocks": tables.table_of_bitplane_blocks,
        "min_pixels_of_counted_tile": bitplanes.MIN_PIXELS,
        "count_tile": tile_bitplanes.count_tile,
        "min_pixels_mapped_by_rows": 0,
        "prepare_table": lookup.prepare_nothing,
        "map_row": byte_permute.map_row,
        "map_rows": byte_permute.map_rows,
        "prepare_steps": lookup.prepare_nothing,
        "map_chunk": byte_permute.map_chunk,
        **color_operations(arithmetic.AVX512),
        "blend_plane": blend_permute.blend_plane,
    },
)
