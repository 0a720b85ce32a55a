"""The tier "portable": instructions that every processor has."""

from histeq_kernels.cpu.clahe import blend_packed, tile_pairs
from histeq_kernels.cpu.core.views import as_one_row
from histeq_kernels.cpu.fused import tables
from histeq_kernels.cpu.histogram import gathered, pairs
from histeq_kernels.cpu.lut import lookup
from histeq_kernels.cpu.tiers.tier import Tier
from histeq_kernels.cpu.ycrcb import arithmetic, blocks, rows
from histeq_kernels.cpu.ycrcb.vectors import color_operations

TIER = Tier(
    name="portable",
    needs=frozenset(),
    joins_rows=True,
    bypasses_caches=False,
    min_pixels_equalized_by_rows=pairs.MIN_PIXELS,
    operations={
        # 8-bit grey pixels
        "min_pixels_counted_by_rows": pairs.MIN_PIXELS,
        "count_rows": pairs.count_rows_by_pairs,
        "count_piece": pairs.count_piece_by_pairs,
        "fold_rows": pairs.fold_pairs,
        "count_masked": gathered.count_gathered,
        "rows_to_count": as_one_row,
        "table_of_image": tables.table_of_rows,
        "min_pixels_mapped_by_rows": lookup.MIN_PIXELS,
        "prepare_table": lookup.fill_pairs,
        "map_row": lookup.map_row_by_pairs,
        "map_rows": lookup.map_rows_by_pairs,
        # Parts of colour images
        "prepare_steps": lookup.prepare_nothing,
        "map_chunk": lookup.map_chunk,
        "block_pixels": rows.CHUNK,
        "block_rows": blocks.one_row,
        "count_block": blocks.count_block_by_rows,
        "fold_blocks": blocks.fold_blocks_by_rows,
        "table_of_blocks": tables.table_of_small,
        **color_operations(arithmetic.PORTABLE),
        # CLAHE
        "min_pixels_of_counted_tile": tile_pairs.MIN_PIXELS,
        "count_tile": tile_pairs.count_tile,
        "blend_plane": blend_packed.blend_plane,
    },
)
