"""The tier "avx2": lookups by byte shuffles, YCrCb by 16-bit products."""

from dataclasses import replace

from histeq_kernels.cpu.lut import byte_shuffle
from histeq_kernels.cpu.tiers import portable
from histeq_kernels.cpu.ycrcb import arithmetic
from histeq_kernels.cpu.ycrcb.vectors import color_operations

TIER = replace(
    portable.TIER,
    name="avx2",
    needs=frozenset({"avx2"}),
    operations={
        **portable.TIER.operations,
        "min_pixels_mapped_by_rows": 0,
        "prepare_table": byte_shuffle.prepare_table,
        "map_row": byte_shuffle.map_row,
        "map_rows": byte_shuffle.map_rows,
        "prepare_steps": byte_shuffle.fill_steps,
        "map_chunk": byte_shuffle.map_chunk,
        **color_operations(arithmetic.AVX2),
    },
)
