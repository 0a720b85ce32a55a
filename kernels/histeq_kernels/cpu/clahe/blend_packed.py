"""Interpolation of 8-bit pixels on any processor, with four tables packed into one to save loads."""

import numpy as np

from histeq_kernels.cpu.clahe.blend_vectors import blend_16, blend_one
from histeq_kernels.cpu.clahe.runs import end_of_run
from histeq_kernels.cpu.core.kernel import inline
from histeq_kernels.cpu.core.views import line, part_32, row

CHUNK = 1024
"""Pixels of a row whose entries are in the workspace at the same time."""
FOUND = (3, CHUNK + 16)
"""Shape of the workspace for entries, uint32: two rows that alternate, and the ends of the cells. The rows
are not 4096 bytes apart, since loads would wait for stores at that distance."""
_ENDS = np.uint64(2 * FOUND[1])
GROUP = 16
"""Cells whose packed 8-bit tables are in the first-level cache at the same time."""


@inline
def blend_plane(image, down, across, tables, packed, found, out):
    """Map (1, rows, columns); `down` and `across` are the tiles around rows and columns, with weights."""
    (ys, y_weights), (xs, x_weights) = down, across
    height, width, one = np.uint64(image.shape[1]), np.uint64(image.shape[2]), np.uint64(1)
    cells, workspace = part_32(packed, 0, 131072), line(found)  # no slices: reference counting takes as long
    columns = (x_weights[0], x_weights[1])
    top = np.uint64(0)
    while top < height:
        bottom = end_of_run(ys, top, height)
        left = np.uint64(0)
        while left < width:
            right, count = pack_group(xs, left, width, ys[0, top], ys[1, top], tables, cells, workspace)
            look_up(row(image, np.uint64(0), top), left, count, cells, workspace)
            for y in range(top, bottom):
                here = ((y - top) & one) * np.uint64(FOUND[1])
                new, rows = row(out, np.uint64(0), y), (y_weights[0, y], y_weights[1, y])
                if y + one < bottom:
                    following = row(image, np.uint64(0), y + one)
                    blend_and_look_up(following, left, count, cells, workspace, here, columns, rows, new)
                else:
                    blend_row(workspace, here, left, right, columns, rows, new)
            left = right
        top = bottom


@inline
def pack_group(xs, left, width, upper, lower, tables, cells, workspace):
    """Pack the tables of the cells from column `left` on, up to `GROUP` cells or `CHUNK` pixels.

    Return the column after these cells, and their number; write where each ends, relative to `left`, to the
    workspace.
    """
    right, count, most = left, np.uint64(0), min(width, left + np.uint64(CHUNK))
    while right < most and count < np.uint64(GROUP):
        before, after = xs[0, right], xs[1, right]
        pack(tables, upper, lower, before, after, cells, np.uint64(256) * count)
        right = end_of_run(xs, right, most)
        workspace[_ENDS + count] = np.uint32(right - left)
        count += np.uint64(1)
    return right, count


@inline
def pack(tables, upper, lower, before, after, cells, start):
    """Pack the entries of four 8-bit tables into a 32-bit table."""
    above, below, left, right = np.uint64(upper), np.uint64(lower), np.uint64(before), np.uint64(after)
    for i in range(np.uint64(256)):
        ab = np.uint32(tables[above, left, i]) | np.uint32(tables[above, right, i]) << np.uint32(8)
        cd = np.uint32(tables[below, left, i]) << np.uint32(16)
        cells[start + i] = ab | cd | np.uint32(tables[below, right, i]) << np.uint32(24)


@inline
def look_up(pixels, left, count, cells, workspace):
    """Write the packed entries of the pixels of a row; one load gets the entries of all four tables."""
    start = np.uint64(0)
    for cell in range(count):
        end, table = np.uint64(workspace[_ENDS + cell]), np.uint64(256) * cell
        for i in range(start, end):
            workspace[i] = cells[table + pixels[left + i]]
        start = end


@inline
def blend_and_look_up(pixels, left, count, cells, workspace, here, columns, rows, new):
    """Blend a row and look up the next one: vector instructions and loads run in parallel."""
    (before, after), (above, below) = columns, rows
    start, step, ahead = np.uint64(0), np.uint64(16), np.uint64(FOUND[1]) - here
    for cell in range(count):
        end, table = np.uint64(workspace[_ENDS + cell]), np.uint64(256) * cell
        stop = start + (end - start) // step * step
        for i in range(start, stop, step):
            for j in range(i, i + step):
                workspace[ahead + j] = cells[table + pixels[left + j]]
            blend_16(workspace, here + i, before, after, left + i, above, below, new)
        for i in range(stop, end):
            workspace[ahead + i] = cells[table + pixels[left + i]]
            new[left + i] = blend_one(workspace[here + i], before[left + i], after[left + i], above, below)
        start = end


@inline
def blend_row(workspace, here, left, right, columns, rows, new):
    """Blend a row; `columns` are the weights of left and right tiles, `rows` of upper and lower ones."""
    (before, after), (above, below) = columns, rows
    step = np.uint64(16)
    stop = (right - left) // step * step
    for i in range(np.uint64(0), stop, step):
        blend_16(workspace, here + i, before, after, left + i, above, below, new)
    for i in range(stop, right - left):
        new[left + i] = blend_one(workspace[here + i], before[left + i], after[left + i], above, below)
