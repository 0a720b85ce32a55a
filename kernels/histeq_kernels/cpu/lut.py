"""Mapping pixels through a lookup table."""

import numpy as np

from histeq_kernels.cpu._kernel import flat, kernel, plane, plane_out
from histeq_kernels.cpu.histogram import bin_of, bin_scale, load_8


@kernel(u8=f"void({flat('uint8')}, uint16[::1])")
def pair_table(table, pairs):
    """Write the table of every two neighbouring 8-bit pixels: 65,536 entries, the first pixel lowest."""
    for high in range(np.uint64(256)):
        top = np.uint16(table[high]) << np.uint16(8)
        for low in range(np.uint64(256)):
            pairs[high * np.uint64(256) + low] = top | np.uint16(table[low])


@kernel(u8=f"void({flat('uint8')}, {flat('uint16')}, uint8[::1])")
def apply_pairs(pixels, pairs, out):
    """Map contiguous 8-bit pixels, two a lookup, through `pairs` (of `pair_table`)."""
    whole = np.uint64(pixels.size - pixels.size % 8)
    mask, byte = np.uint64(0xFFFF), np.uint64(8)
    for i in range(np.uint64(0), whole, np.uint64(8)):
        word = load_8(pixels, i)
        new = (
            np.uint64(pairs[word & mask])
            | np.uint64(pairs[(word >> np.uint64(16)) & mask]) << np.uint64(16)
            | np.uint64(pairs[(word >> np.uint64(32)) & mask]) << np.uint64(32)
            | np.uint64(pairs[word >> np.uint64(48)]) << np.uint64(48)
        )
        out[i] = new & np.uint64(0xFF)
        out[i + np.uint64(1)] = (new >> byte) & np.uint64(0xFF)
        out[i + np.uint64(2)] = (new >> np.uint64(16)) & np.uint64(0xFF)
        out[i + np.uint64(3)] = (new >> np.uint64(24)) & np.uint64(0xFF)
        out[i + np.uint64(4)] = (new >> np.uint64(32)) & np.uint64(0xFF)
        out[i + np.uint64(5)] = (new >> np.uint64(40)) & np.uint64(0xFF)
        out[i + np.uint64(6)] = (new >> np.uint64(48)) & np.uint64(0xFF)
        out[i + np.uint64(7)] = new >> np.uint64(56)
    for i in range(whole, np.uint64(pixels.size)):
        out[i] = pairs[pixels[i]] & np.uint16(0xFF)


@kernel(
    u8=f"void({flat('uint8')}, {flat('uint8')}, uint8[::1])",
    u16=f"void({flat('uint16')}, {flat('uint16')}, uint16[::1])",
    u8_f64=f"void({flat('uint8')}, {flat('float64')}, float64[::1])",
    u16_f64=f"void({flat('uint16')}, {flat('float64')}, float64[::1])",
    u16_f32=f"void({flat('uint16')}, {flat('float32')}, float32[::1])",
)
def apply_lut(pixels, table, out):
    """Map contiguous pixels, one by one."""
    for i in range(np.uint64(pixels.size)):
        out[i] = table[pixels[i]]


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
    f32=(
        f"void({plane('float32')}, float64, {flat('float32')}, {flat('float64')}, {flat('float64')}, "
        f"{flat('float64')}, {plane_out('float32')})"
    ),
    f64=(
        f"void({plane('float64')}, float64, {flat('float64')}, {flat('float64')}, {flat('float64')}, "
        f"{flat('float64')}, {plane_out('float64')})"
    ),
)
def apply_interpolated(image, nodata, edges, centres, table, slopes, out):
    """Map a floating image through a table given at the bins' centres, as np.interp does.

    `slopes` has the rise from each centre to the next. NaN, infinities and `nodata` (NaN: none) pass.
    """
    last = centres.size - 1
    scale = bin_scale(edges)
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            for x in range(np.uint64(image.shape[2])):
                raw = image[z, y, x]
                value = np.float64(raw)
                if not np.isfinite(value) or value == nodata:
                    out[z, y, x] = raw
                elif value < centres[0]:
                    out[z, y, x] = table[0]
                elif value >= centres[last]:
                    out[z, y, x] = table[last]
                else:
                    index = np.int64(bin_of(raw, edges, scale))
                    while index > 0 and value < centres[index]:
                        index -= 1
                    out[z, y, x] = slopes[index] * (value - centres[index]) + table[index]
