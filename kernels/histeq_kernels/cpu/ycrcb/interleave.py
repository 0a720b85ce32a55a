"""Separation and interleaving of the channels of 32 or 64 pixels."""

from histeq_kernels.cpu.core.llvm import I16, I8x64
from histeq_kernels.cpu.ycrcb.lanes import shuffle, unpacked, vector_of


def separate(builder, load, stride, width):
    """Return the three or four channels of `width` pixels, vectors of bytes.

    `load(c, byte, lanes)` loads a vector from row `c`, `byte` bytes beyond the first pixel. Pixels are
    `stride` bytes apart; 1 means three rows.
    """
    if stride == 1:
        return [load(c, 0, width) for c in range(3)]
    if width == 64:
        return _SEPARATE_64[stride](builder, [load(0, 64 * j, 64) for j in range(stride)])
    wide, lanes = load(0, 0, stride * width), range(0, stride * width, stride)
    return [shuffle(builder, wide, wide, [lane + channel for lane in lanes]) for channel in range(stride)]


def interleave(builder, channels):
    """Return the interleaved pixels of three or four channels, as vectors that follow each other."""
    stride, width = len(channels), channels[0].type.count
    if width == 64:
        return _INTERLEAVE_64[stride](builder, channels)
    both = list(range(2 * width))
    low = shuffle(builder, channels[0], channels[1], both)
    high = shuffle(builder, channels[2], channels[-1], both)
    order = [width * (b % stride) + b // stride for b in range(stride * width)]
    return [shuffle(builder, low, high, order)]


def _separate_rgb_64(builder, parts):
    """Return the channels of three vectors.

    Since 64 is 1 modulo 3, the bytes of a channel lie at different places in the three vectors: they are
    brought together without moving, and then in order.
    """
    result = []
    for c in range(3):
        source = [(c - p) % 3 for p in range(64)]  # which of the vectors has byte p of the channel
        mixed = shuffle(builder, parts[0], parts[1], [p + 64 * (source[p] == 1) for p in range(64)])
        mixed = shuffle(builder, mixed, parts[2], [p + 64 * (source[p] == 2) for p in range(64)])
        result.append(shuffle(builder, mixed, mixed, [(3 * i + c) % 64 for i in range(64)]))
    return result


def _interleave_rgb_64(builder, channels):
    """Return three vectors with the channels: the way back."""
    third = pow(3, -1, 64)
    spread = [
        shuffle(builder, channel, channel, [third * (p - c) % 64 for p in range(64)])
        for c, channel in enumerate(channels)
    ]
    result = []
    for j in range(3):
        source = [(j + p) % 3 for p in range(64)]  # which of the channels byte p belongs to
        mixed = shuffle(builder, spread[0], spread[1], [p + 64 * (source[p] == 1) for p in range(64)])
        result.append(shuffle(builder, mixed, spread[2], [p + 64 * (source[p] == 2) for p in range(64)]))
    return result


def _separate_rgba_64(builder, parts):
    """Return the channels of four vectors, two of them at a time."""
    result = {}
    for c in (0, 1):
        order = [4 * i + channel for channel in (c, c + 2) for i in range(32)]
        low, high = (shuffle(builder, *parts[j : j + 2], order) for j in (0, 2))
        result[c] = shuffle(builder, low, high, [*range(32), *range(64, 96)])
        result[c + 2] = shuffle(builder, low, high, [*range(32, 64), *range(96, 128)])
    return [result[c] for c in range(4)]


def _interleave_rgba_64(builder, channels):
    """Return four vectors with the channels."""
    return _in_turns(builder, [_regrouped(builder, channel) for channel in channels])


def _in_turns(builder, channels):
    """Return the bytes of four vectors in turns: of each 16 pixels, the next four in the next vector."""
    low, high = (unpacked(builder, *channels[c : c + 2]) for c in (0, 2))
    result = []
    for both in zip(low, high, strict=True):
        words = (builder.bitcast(part, vector_of(I16, 32)) for part in both)
        result += [builder.bitcast(part, I8x64) for part in unpacked(builder, *words)]
    return result


def _regrouped(builder, value):
    """Transpose 4 x 4 groups of four bytes, of which each 128 bits are a row."""
    return shuffle(
        builder, value, value, [16 * j + 4 * i + b for i in range(4) for j in range(4) for b in range(4)]
    )


def luma_quads(builder, load, stride):
    """Return 64 pixels as four vectors of 16 pixels with four bytes; the fourth byte is anything.

    Return also a function that puts in order what has a byte for each pixel, packed from four such vectors.
    """
    if stride == 4:
        return [load(0, 64 * j, 64) for j in range(4)], lambda packed: _regrouped(builder, packed)
    if stride == 3:
        quads = []
        for j in range(4):
            at = min(48 * j, 128)  # all within the pixels
            part, start = load(0, at, 64), 48 * j - at
            lanes = [start + 3 * i + min(b, 2) for i in range(16) for b in range(4)]
            quads.append(shuffle(builder, part, part, lanes))
        return quads, lambda packed: _regrouped(builder, packed)
    return _in_turns(builder, [load(c, 0, 64) for c in (0, 1, 2, 2)]), lambda packed: packed


_SEPARATE_64 = {3: _separate_rgb_64, 4: _separate_rgba_64}
_INTERLEAVE_64 = {3: _interleave_rgb_64, 4: _interleave_rgba_64}
