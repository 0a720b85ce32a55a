"""Counting the valid 8-bit pixels of an image as bit planes: the mask is one more bit that they must have."""

import numpy as np

from histeq_kernels.cpu.core.kernel import inline
from histeq_kernels.cpu.core.views import address_in, address_of
from histeq_kernels.cpu.histogram.bitplane_vectors import (
    BLOCKS,
    MASKS,
    TALL,
    WIDE,
    fill_block,
    split_valid_block,
)
from histeq_kernels.cpu.histogram.bitplanes import as_rectangles, count_blocks, fetch_ahead, fold_counters
from histeq_kernels.cpu.histogram.workspace import ZEROS


@inline
def count_masked(image, mask, workspace, scratch, counts):
    """Add the counts of the pixels, in contiguous rows, whose mask is not zero; `workspace` is not used."""
    height, width = np.uint64(image.shape[1]), np.uint64(image.shape[2])
    pitch, mask_pitch = np.uint64(image.strides[1]), np.uint64(mask.strides[1])
    joined = pitch == width and mask_pitch == width
    images, rows, columns, end, apart = as_rectangles(height, width, joined)
    if apart:
        pitch = mask_pitch = np.uint64(WIDE)
    for z in range(np.uint64(image.shape[0])):
        for i in range(images):
            pixels, valid = (address_of(image, z, i), pitch), (address_of(mask, z, i), mask_pitch)
            count_valid(pixels, valid, rows, columns, end, scratch)
    fold_counters(scratch, counts)


@inline
def count_valid(image, mask, height, width, end, scratch):
    """Count rows of a width, the last of them up to column `end`; image and mask are address and stride."""
    wide, tall, zero, filled = np.uint64(WIDE), np.uint64(TALL), np.uint64(0), np.uint64(0)
    masks = address_in(scratch, np.uint64(ZEROS))
    groups = masks + np.uint64(MASKS * 64 * BLOCKS)
    block = groups + np.uint64(16 * BLOCKS)
    valid_block = block + wide * tall
    for y in range(zero, height, tall):
        rows = min(tall, height - y)
        for x in range(zero, width, wide):
            (source, pitch), (valid, valid_pitch) = image, mask
            fetch_ahead(source, pitch, height, width, y, x)
            fetch_ahead(valid, valid_pitch, height, width, y, x)
            columns = min(wide, width - x)
            last = min(columns, max(end, x) - x) if y + rows == height else columns
            source, valid = source + y * pitch + x, valid + y * valid_pitch + x
            if rows < tall or last < wide:
                value = fill_block(source, pitch, rows, columns, last, block)
                repeated = fill_block(valid, valid_pitch, rows, columns, last, valid_block)
                if repeated:  # as valid, and is therefore counted
                    scratch[value] -= np.uint32(wide * tall - (rows - np.uint64(1)) * columns - last)
                source, pitch, valid, valid_pitch = block, wide, valid_block, wide
            filled += split_valid_block(source, pitch, valid, valid_pitch, masks, groups, filled)
            if filled == np.uint64(BLOCKS):
                count_blocks(masks, groups, filled, scratch, zero)
                filled = zero
    count_blocks(masks, groups, filled, scratch, zero)
