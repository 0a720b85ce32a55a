"""Mapping pixels through a lookup table.

The kernels for uint8 come in tiers (`tiers.py`): `mapping` names the one in use. They take planes whose rows
are contiguous; `apply_lut_strided` takes any strides. An image may be its own output.
"""

from collections.abc import Callable

import numpy as np

from histeq_kernels.cpu import _vector, intervals
from histeq_kernels.cpu._kernel import flat, inline, inline_per_pixel, kernel, plane, plane_out
from histeq_kernels.cpu._vector import address_in, address_of, load_64, look_up_8, row, store_64
from histeq_kernels.cpu.tiers import tier

SCRATCH = 1 << 16
"""Entries of the scratch: uint16, of any content."""
SMALL = 1 << 14
"""Below this many pixels a table of pairs is not worth filling."""
PAST_CACHES = 1 << 25
"""From this many pixels on the tier avx512 writes straight to memory: the result would not stay in a cache,
and reading its lines before they are overwritten is a third of the traffic."""


_CURVE = ", ".join([flat("float64")] * 3)
_TABLE = f"void({plane('uint8')}, {flat('uint8')}, uint16[::1], {plane_out('uint8')})"


def mapping(pixels: int) -> Callable[..., None]:
    """Return the fastest kernel that maps this many contiguous 8-bit pixels."""
    if tier() != "portable":
        return {"avx2": apply_avx2, "avx512": apply_avx512}[tier()].u8
    return apply_small.u8 if pixels < SMALL else apply_pairs.u8


@kernel(u8=_TABLE)
def apply_small(image, table, scratch, out):
    """Map 8-bit pixels, one a lookup."""
    map_small(image, table, out)


@kernel(u8=_TABLE)
def apply_pairs(image, table, scratch, out):
    """Map 8-bit pixels, two a lookup."""
    map_pairs(image, table, scratch, out)


@kernel(u8=_TABLE)
def apply_avx2(image, table, scratch, out):
    """Map 8-bit pixels, 64 at a time by sixteen times `vpshufb`."""
    map_avx2(image, table, scratch, out)


@kernel(u8=_TABLE)
def apply_avx512(image, table, scratch, out):
    """Map 8-bit pixels, 64 at a time by `vpermb`."""
    map_avx512(image, table, image.size >= PAST_CACHES, out)


@kernel(u8_f64=f"void({plane('uint8')}, {flat('float64')}, {plane_out('float64')})")
def apply_lut(image, table, out):
    """Map 8-bit pixels in contiguous rows to fractions."""
    map_small(image, table, out)


@kernel(
    u16=f"void({plane('uint16')}, {flat('uint16')}, {plane_out('uint16')})",
    u16_f64=f"void({plane('uint16')}, {flat('float64')}, {plane_out('float64')})",
    u16_f32=f"void({plane('uint16')}, {flat('float32')}, {plane_out('float32')})",
)
def apply_direct(image, table, out):
    """Map 16-bit pixels in contiguous rows."""
    map_direct(image, table, out)


@kernel(
    u8=f"void({plane('uint8')}, {flat('uint8')}, {plane_out('uint8')})",
    u16=f"void({plane('uint16')}, {flat('uint16')}, {plane_out('uint16')})",
    u8_f64=f"void({plane('uint8')}, {flat('float64')}, {plane_out('float64')})",
    u16_f64=f"void({plane('uint16')}, {flat('float64')}, {plane_out('float64')})",
    u16_f32=f"void({plane('uint16')}, {flat('float32')}, {plane_out('float32')})",
)
def apply_lut_strided(image, table, out):
    """Map pixels of any strides."""
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            for x in range(np.uint64(image.shape[2])):
                out[z, y, x] = table[image[z, y, x]]


@kernel(
    f32=f"void({plane('float32')}, float64, {flat('float32')}, {_CURVE}, {plane_out('float32')})",
    f64=f"void({plane('float64')}, float64, {flat('float64')}, {_CURVE}, {plane_out('float64')})",
)
def apply_interpolated(image, nodata, edges, centres, table, slopes, out):
    """Map a floating image through a table given at the bins' centres, as np.interp does.

    `slopes` has the rise from each centre to the next. NaN, infinities and `nodata` (NaN: none) pass.
    """
    scale = intervals.scale_of(edges)
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            for x in range(np.uint64(image.shape[2])):
                value = image[z, y, x]
                out[z, y, x] = interpolated(value, nodata, edges, scale, centres, table, slopes)


@kernel(
    f32=f"void({plane('float32')}, float64, {flat('float32')}, {_CURVE}, int32[::1], {plane_out('float32')})",
    f64=f"void({plane('float64')}, float64, {flat('float64')}, {_CURVE}, int32[::1], {plane_out('float64')})",
)
def apply_interpolated_rows(image, nodata, edges, centres, table, slopes, found, out):
    """Do the same with contiguous rows."""
    scale, steps = intervals.scale_of(edges), intervals.scale_of(centres)
    doubt = intervals.doubt_of(centres, steps)
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            values, new = row(image, z, y), row(out, z, y)
            for start in range(np.uint64(0), np.uint64(values.size), np.uint64(intervals.BLOCK)):
                size = min(np.uint64(intervals.BLOCK), np.uint64(values.size) - start)
                intervals.guess(values, start, size, nodata, centres, steps, doubt, found)
                for i in range(size):
                    raw, index = values[start + i], np.uint64(found[i])
                    if found[i] >= 0:
                        new[start + i] = slopes[index] * (np.float64(raw) - centres[index]) + table[index]
                    else:
                        new[start + i] = interpolated(raw, nodata, edges, scale, centres, table, slopes)


@inline_per_pixel
def interpolated(raw, nodata, edges, scale, centres, table, slopes):
    """Return the level of one value."""
    value, last = np.float64(raw), np.uint64(centres.size - 1)
    if not np.isfinite(value) or value == nodata:
        return value
    if value < centres[0]:
        return table[0]
    if value >= centres[last]:
        return table[last]
    index = intervals.bin_of(raw, edges, scale)
    index -= np.uint64(value < centres[index])  # either half of a bin: a branch would be guessed wrong
    return slopes[index] * (value - centres[index]) + table[index]


@inline
def map_small(image, table, out):
    """Look up one pixel at a time."""
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            map_row_small(row(image, z, y), table, row(out, z, y))


@inline
def map_row_small(pixels, table, new):
    """Look up a row."""
    for i in range(np.uint64(pixels.size)):
        new[i] = table[pixels[i]]


@inline
def map_direct(image, table, out):
    """Look up 16-bit pixels."""
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            map_row_direct(row(image, z, y), table, row(out, z, y))


@inline
def map_row_direct(pixels, table, new):
    """Look up a row of 16-bit pixels, stored eight at a time."""
    whole = np.uint64(pixels.size - pixels.size % 8)
    for i in range(np.uint64(0), whole, np.uint64(8)):
        look_up_8(pixels, i, table, new)
    for i in range(whole, np.uint64(pixels.size)):
        new[i] = table[pixels[i]]


@inline
def map_pairs(image, table, pairs, out):
    """Look up two neighbours at a time, in a table of all 65,536 pairs."""
    fill_pairs(table, pairs)
    rows_mapped_by_pairs(image, table, pairs, out)


@inline
def fill_pairs(table, pairs):
    """Write the table of all pairs."""
    for high in range(np.uint64(256)):
        top = np.uint16(table[high]) << np.uint16(8)
        for low in range(np.uint64(256)):
            pairs[high * np.uint64(256) + low] = top | np.uint16(table[low])


@inline
def rows_mapped_by_pairs(image, table, pairs, out):
    """Look up the pairs of all rows."""
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            map_row_pairs(row(image, z, y), table, pairs, row(out, z, y))


@inline
def map_row_pairs(pixels, table, pairs, new):
    """Look up the pairs of a row, and the few pixels left over one by one."""
    mask = np.uint64(0xFFFF)
    whole = np.uint64(pixels.size - pixels.size % 8)
    for i in range(np.uint64(0), whole, np.uint64(8)):
        word = load_64(pixels, i)
        store_64(
            new,
            i,
            np.uint64(pairs[word & mask])
            | np.uint64(pairs[(word >> np.uint64(16)) & mask]) << np.uint64(16)
            | np.uint64(pairs[(word >> np.uint64(32)) & mask]) << np.uint64(32)
            | np.uint64(pairs[word >> np.uint64(48)]) << np.uint64(48),
        )
    for i in range(whole, np.uint64(pixels.size)):
        new[i] = table[pixels[i]]


@inline
def map_avx2(image, table, scratch, out):
    """Look up 64 pixels at a time; the scratch holds the steps between the table's sixteenths."""
    steps = scratch[:128].view(np.uint8)
    fill_steps(table, steps)
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            map_row_avx2(row(image, z, y), table, steps, row(out, z, y))


@inline
def fill_steps(table, steps):
    """Write the differences (xor) between the table's successive sixteenths, in each half."""
    for i in range(np.uint64(256)):
        first = i & np.uint64(127) < np.uint64(16)
        steps[i] = table[i] if first else table[i] ^ table[i - np.uint64(16)]


@inline
def map_row_avx2(pixels, table, steps, new):
    """Look up a row."""
    whole = np.uint64(pixels.size - pixels.size % 64)
    for i in range(np.uint64(0), whole, np.uint64(64)):
        _vector.lookup_64_avx2(pixels, i, steps, new)
    for i in range(whole, np.uint64(pixels.size)):
        new[i] = table[pixels[i]]


@inline
def map_avx512(image, table, past_caches, out):
    """Look up 64 pixels at a time, the last row first; rows that follow each other in memory are one."""
    depth, height, width = np.uint64(image.shape[0]), np.uint64(image.shape[1]), np.uint64(image.shape[2])
    one, entries, beyond = np.uint64(1), address_in(table, np.uint64(0)), np.uint64(past_caches)
    if image.strides[1] == image.shape[2] == out.strides[1]:
        height, width = one, height * width
    for z in range(depth):
        for y in range(height):
            old = address_of(image, depth - one - z, height - one - y)
            new = address_of(out, depth - one - z, height - one - y)
            _vector.lookup_avx512(old, width, entries, new, beyond)


@inline
def map_row_avx512(pixels, table, past_caches, new):
    """Look up a row."""
    zero = np.uint64(0)
    source, entries, target = address_in(pixels, zero), address_in(table, zero), address_in(new, zero)
    _vector.lookup_avx512(source, np.uint64(pixels.size), entries, target, np.uint64(past_caches))
