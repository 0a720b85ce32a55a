"""Search for the interval, of many with nearly equal widths, that holds a value: the bins of floating images.

A product guesses the interval, and a comparison with the borders between the intervals, the knots, decides.
Most guesses need no comparison: the product increases with the value, and `doubt_of` bounds its distance from
a whole number at the knots. A guess that is farther than that from every whole number is right. So the
intervals of a block of values are guessed in vectors, and only the few doubtful ones are found one by one.
"""

import numpy as np

from histeq_kernels.cpu.core.kernel import inline, inline_per_pixel

BLOCK = 512
"""The number of values that are guessed together."""


@inline
def scale_of(knots):
    """Return the number of intervals per unit of value, or 0 if the range overflows."""
    width = np.float64(knots[knots.size - 1]) - np.float64(knots[0])
    return (knots.size - 1) / width if width < np.inf else 0.0


@inline
def doubt_of(knots, scale):
    """Return the largest distance between a knot's guess and its index, or 1 if guesses are useless."""
    worst, first = 0.0, np.float64(knots[0])
    for i in range(np.uint64(knots.size)):
        error = abs((np.float64(knots[i]) - first) * scale - np.float64(i))
        if not error < 0.5:
            return 1.0
        worst = max(worst, error)
    return worst


@inline
def guess(values, start, size, nodata, knots, scale, doubt, found):
    """Write the interval of each of `size` values, or -1 if it is doubtful or the value is `nodata`."""
    first, last = np.float64(knots[0]), np.float64(knots.size - 1)
    for i in range(size):
        value = np.float64(values[start + i])
        place = (value - first) * scale
        place = place if (place > 0.0) & (place < last) & (value != nodata) else 0.0
        whole = np.int32(place)
        rest = place - np.float64(whole)
        found[i] = whole if (rest > doubt) & (rest < 1.0 - doubt) else np.int32(-1)


@inline_per_pixel
def bin_of(value, edges, scale):
    """Return the last bin whose left edge is not above `value`, which lies between the outer edges.

    The product only guesses; the edges decide, so that rounding cannot put a value into the wrong bin. One
    step either way is taken without a branch; more are needed where bins are as narrow as the precision, and
    may be as many as there are bins.
    """
    last = np.int64(edges.size - 2)
    guess = np.int64((np.float64(value) - np.float64(edges[0])) * scale)
    index = max(min(guess, last), 0)  # below 0 where the range is so narrow that the scale overflows
    index -= np.int64(value < edges[np.uint64(index)])
    index += np.int64((index < last) & (value >= edges[np.uint64(index + 1)]))
    if value < edges[np.uint64(index)] or (index < last and value >= edges[np.uint64(index + 1)]):
        index, above = np.int64(0), last + 1
        while above - index > 1:
            middle = (index + above) // 2
            if value < edges[np.uint64(middle)]:
                above = middle
            else:
                index = middle
    return np.uint64(index)
