"""Counting in 65,536 counters: 16-bit pixels, and pairs of neighbouring 8-bit pixels as one 16-bit index.

In most images neighbours are similar, and the counters in use fit into the first-level cache. If they are
scattered, as in noise, one-byte counters are faster: they take a quarter of the memory, and overflows are
rare.
"""

import numpy as np

from histeq_kernels.cpu.core.kernel import inline
from histeq_kernels.cpu.core.likelihood import unlikely
from histeq_kernels.cpu.core.views import load_64, part_8, part_16, row

ENTRIES = (1 << 16) + 256 + (1 << 14)
"""Entries of the scratch, uint32, zero before and after: counters of pairs, sums, one-byte counters."""
_COLUMNS, _BYTES = 1 << 16, (1 << 16) + 256
MIN_PIXELS = 1 << 15
"""The number of pixels from which counting pairs saves more time than folding takes, 3 to 10 microseconds."""
_SCATTERED, _SOME_SCATTERED = 192, 64
"""The numbers of cache lines, needed by a sample of 256 pairs, from which one-byte counters are used. A
sample needs about 245 in noise, 30 to 220 in photographs and at most 4 in drawings. Between 180 and 220
either way of counting may be the faster. In a row of fewer than `_LONG` pixels, one-byte counters are faster
from fewer lines on, because they are folded faster."""
_LONG = 1 << 18


@inline
def count_rows_by_pairs(image, scratch, counts):
    """Count the pairs of all rows; `fold_pairs` completes the counting."""
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            pixels = row(image, z, y)
            enough = _SCATTERED if pixels.size >= _LONG else _SOME_SCATTERED
            count_long_row(pixels, enough, scratch, counts)


@inline
def count_piece_by_pairs(image, scratch, counts):
    """Count some of many rows: the counters of pairs are folded but once, and so pay as in long rows."""
    for z in range(np.uint64(image.shape[0])):
        for y in range(np.uint64(image.shape[1])):
            count_long_row(row(image, z, y), _SCATTERED, scratch, counts)


@inline
def fold_pairs(scratch, counts):
    """Add the counters of pairs to `counts`, and reset them."""
    fold_counters(scratch[:_COLUMNS], scratch[_COLUMNS:_BYTES], counts)


@inline
def count_long_row(pixels, enough, scratch, counts):
    """Count a row of any length, in one-byte counters if a sample needs `enough` cache lines."""
    if pixels.size >= MIN_PIXELS and cache_lines_of_sample(pixels, scratch[_COLUMNS:_BYTES]) >= enough:
        count_scattered_row(pixels, scratch, counts)
    else:
        count_row_by_pairs(pixels, scratch, counts)


@inline
def cache_lines_of_sample(pixels, seen):
    """Return how many cache lines of counters (64 bytes, 16 counters) a sample of 256 pairs of a row needs.

    `seen` has one bit per line, all 0 before and after.
    """
    lines, one = 0, np.uint32(1)
    for k in range(np.uint64(64)):
        word = load_64(pixels, np.uint64(pixels.size // 64) * k)
        for shift in range(np.uint64(4), np.uint64(64), np.uint64(16)):
            line = (word >> shift) & np.uint64(0xFFF)
            bit = np.uint32(one << np.uint32(line & np.uint64(31)))
            lines += (seen[line >> np.uint64(5)] & bit) == 0
            seen[line >> np.uint64(5)] |= bit
    seen[:128] = 0
    return lines


@inline
def count_row_by_pairs(pixels, scratch, counts):
    """Count the pairs of a row, and the remaining pixels one by one; `fold_pairs` completes the counting."""
    half = np.uint64(pixels.size // 16 * 8)
    count_words(pixels, half, np.uint64(8), scratch)
    count_rest(pixels, half + half, counts)


@inline
def count_scattered_row(pixels, scratch, counts):
    """Count the pairs of a row in one-byte counters, and fold these into `counts`."""
    half, counters = np.uint64(pixels.size // 16 * 8), part_8(scratch, _BYTES, 1 << 16)
    count_words_in_bytes(pixels, half, np.uint64(8), counters, counts, count_256_pairs)
    count_rest(pixels, half + half, counts)
    fold_counters(counters, part_16(scratch, _COLUMNS, 256), counts)


@inline
def count_256_pairs(pair, counts):
    """Add 256 to the counts of both pixels of a pair."""
    counts[pair & np.uint64(0xFF)] += 256
    counts[pair >> np.uint64(8)] += 256


@inline
def count_long_row_16(pixels, scratch):
    """Count a row of 16-bit pixels, of any length, in the first 65,536 entries of the scratch."""
    if pixels.size >= _LONG and cache_lines_of_sample(pixels, scratch[_COLUMNS:_BYTES]) >= _SCATTERED:
        half, counters = np.uint64(pixels.size // 8 * 4), part_8(scratch, _BYTES, 1 << 16)
        count_words_in_bytes(pixels, half, np.uint64(4), counters, scratch, count_256_pixels)
        for value in range(np.uint64(1 << 16)):
            scratch[value] += counters[value]
            counters[value] = 0
        count_rest(pixels, half + half, scratch)
    else:
        count_row_16(pixels, scratch)


@inline
def count_row_16(pixels, counters):
    """Count a row of 16-bit pixels."""
    half = np.uint64(pixels.size // 8 * 4)
    count_words(pixels, half, np.uint64(4), counters)
    count_rest(pixels, half + half, counters)


@inline
def count_256_pixels(value, counts):
    """Add 256 to the count of a value."""
    counts[value] += np.uint32(256)


@inline
def count_words_in_bytes(pixels, half, per_word, counters, counts, count_256):
    """Count the 16-bit parts of the first 2 * `half` elements in one-byte counters.

    `per_word` elements make a 64-bit word. When a counter overflows, `count_256` adds 256 to `counts`.
    """
    mask = np.uint64(0xFFFF)
    for i in range(np.uint64(0), half, per_word):
        a, b = load_64(pixels, i), load_64(pixels, half + i)
        count_in_byte(a & mask, counters, counts, count_256)
        count_in_byte(b & mask, counters, counts, count_256)
        count_in_byte((a >> np.uint64(16)) & mask, counters, counts, count_256)
        count_in_byte((b >> np.uint64(16)) & mask, counters, counts, count_256)
        count_in_byte((a >> np.uint64(32)) & mask, counters, counts, count_256)
        count_in_byte((b >> np.uint64(32)) & mask, counters, counts, count_256)
        count_in_byte(a >> np.uint64(48), counters, counts, count_256)
        count_in_byte(b >> np.uint64(48), counters, counts, count_256)


@inline
def count_in_byte(index, counters, counts, count_256):
    """Add one to a one-byte counter; carry an overflow to `counts`."""
    count = np.uint8((np.uint64(counters[index]) + np.uint64(1)) & np.uint64(0xFF))
    counters[index] = count
    if unlikely(count == 0):
        count_256(index, counts)


@inline
def count_rest(pixels, start, counts):
    """Count the pixels from `start` on one by one."""
    one = counts.dtype.type(1)
    for i in range(start, np.uint64(pixels.size)):
        counts[pixels[i]] += one


@inline
def fold_counters(counters, columns, counts):
    """Add counters of pairs to `counts`, once for each of the two pixels, and reset them.

    `columns` are 256 zeros, of a type that holds the sum of 256 counters. Sums have this type, too, since
    vectors hold more of narrow numbers.
    """
    number = columns.dtype.type
    for high in range(np.uint64(256)):
        pairs = counters[high * np.uint64(256) : (high + np.uint64(1)) * np.uint64(256)]
        total = number(0)
        for low in range(np.uint64(256)):
            total = number(total + number(pairs[low]))
        if total:
            counts[high] += total
            for low in range(np.uint64(256)):
                columns[low] = number(columns[low] + number(pairs[low]))
                pairs[low] = 0
    for low in range(np.uint64(256)):
        counts[low] += columns[low]
        columns[low] = 0


@inline
def count_words(pixels, half, per_word, counters):
    """Count the 16-bit parts of the first 2 * `half` elements; `per_word` elements make a 64-bit word.

    The two halves alternate: in smooth areas neighbours are equal, and incrementing a counter that has just
    been stored waits for that store. Consecutive equal words are counted together, by their number.
    """
    one = np.uint32(1)
    last_a, last_b, times = np.uint64(0), np.uint64(0), np.uint32(0)
    for i in range(np.uint64(0), half, per_word):
        a, b = load_64(pixels, i), load_64(pixels, half + i)
        if a == last_a and b == last_b:
            times = np.uint32(times + one)
            continue
        count_two_words(last_a, last_b, times, counters)
        last_a, last_b, times = a, b, one
    count_two_words(last_a, last_b, times, counters)


@inline
def count_two_words(a, b, times, scratch):
    """Count the four 16-bit parts of each of two words `times` times."""
    mask = np.uint64(0xFFFF)
    scratch[a & mask] += times
    scratch[b & mask] += times
    scratch[(a >> np.uint64(16)) & mask] += times
    scratch[(b >> np.uint64(16)) & mask] += times
    scratch[(a >> np.uint64(32)) & mask] += times
    scratch[(b >> np.uint64(32)) & mask] += times
    scratch[a >> np.uint64(48)] += times
    scratch[b >> np.uint64(48)] += times
