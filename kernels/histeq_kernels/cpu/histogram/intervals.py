"""Search for the interval, of many with nearly equal widths, that holds a value: the bins of floating images.

A product guesses the interval, and a comparison with the borders between the intervals, the knots, decides.
Most guesses need no comparison: however it is rounded, the product increases with the value, and the guesses
of the knots themselves tell how far one may be off. A guess that is farther than that from every whole number
is right. So the intervals of a block of values are guessed in vectors, with the precision of the image, and
only where a guess is doubtful the values are looked at one by one.
"""

import numpy as np

from histeq_kernels.cpu.core.kernel import inline, inline_per_pixel

BLOCK = 128
"""The number of values that are guessed together."""


@inline
def scale_of(knots):
    """Return the number of intervals per unit of value, or 0 if the range overflows."""
    width = np.float64(knots[knots.size - 1]) - np.float64(knots[0])
    return (knots.size - 1) / width if width < np.inf else 0.0


@inline
def line_of(knots, before, image):
    """Return the origin, the scale and the doubt of guesses, in the dtype of the image.

    The guess of a value is ``(value - origin) * scale``, that of the i-th knot about ``i + before``. Where
    guesses are useless the doubt is 1.
    """
    kind, exact = image.dtype.type, scale_of(knots)
    origin, scale, worst = kind(np.float64(knots[0]) - before / exact), kind(exact), 0.0
    for i in range(np.uint64(knots.size)):
        error = abs(np.float64((kind(knots[i]) - origin) * scale) - (np.float64(i) + before))
        if not error < 0.2:
            return origin, scale, kind(1)
        worst = max(worst, error)
    return origin, scale, kind(2 * worst)  # twice: sums of the doubt are rounded


@inline
def guess(values, start, size, line, ends, valid, nodata, found):
    """Write the interval of each of `size` values, or -1; return whether there is no -1.

    That stands for doubtful guesses, `nodata`, and values that are not `valid`, from a lowest to a highest
    one. Guesses are kept between the `ends`.
    """
    (origin, scale, doubt), (least, most), (lowest, highest) = line, ends, valid
    upto, worst = values.dtype.type(1) - doubt, np.int32(0)
    for i in range(size):
        value = values[start + i]
        place = (value - origin) * scale
        place = place if place > least else least  # also in place of NaN
        place = place if place < most else most
        whole = np.int32(place)
        rest = place - values.dtype.type(whole)
        certain = (rest > doubt) & (rest < upto) & (value >= lowest) & (value <= highest) & (value != nodata)
        index = whole if certain else np.int32(-1)
        found[i] = index
        worst = min(worst, index)
    return worst == 0


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
