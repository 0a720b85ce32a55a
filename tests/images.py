"""Random images of every class of content that rules treat differently; how the kernels run."""

import os

import numpy as np
from hypothesis import strategies as st

DTYPES = ("uint8", "int8", "uint16", "int16", "float16", "float32", "float64")
INTEGERS = DTYPES[:4]
FLOATS = DTYPES[4:]
# How the kernels run in this process: dev.py starts their tests in each of these ways.
INTERPRETED = os.environ.get("NUMBA_DISABLE_JIT", "0") != "0"
BOUNDS_CHECKED = os.environ.get("NUMBA_BOUNDSCHECK", "0") != "0"
_CHOSEN = os.environ.get("NUMBA_CPU_NAME") or os.environ.get("HISTEQ_CPU_TIER")
AS_SHIPPED = not (INTERPRETED or BOUNDS_CHECKED or _CHOSEN)
# A kernel is one source for several dtypes: each way but the shipped one takes some of them.
if AS_SHIPPED:
    SOME_INTEGERS, SOME_FLOATS = INTEGERS, FLOATS[1:]
elif INTERPRETED:
    SOME_INTEGERS, SOME_FLOATS = INTEGERS[:1], FLOATS[1:2]
elif BOUNDS_CHECKED:
    SOME_INTEGERS, SOME_FLOATS = INTEGERS[::2], FLOATS[1:2]
else:
    SOME_INTEGERS, SOME_FLOATS = INTEGERS[1::2], FLOATS[2:]
RULES = ("opencv", "pillow", "numpy", "skimage", "vips")


def random_values(rng, size, dtype):
    """Return `size` values of one class: full range, narrow, constant, two-valued, skewed, outliers."""
    limits = np.iinfo(dtype)
    levels = int(limits.max) - int(limits.min) + 1
    match rng.integers(7):
        case 0:
            values = rng.integers(0, levels, size)
        case 1:
            low = rng.integers(levels)
            values = rng.integers(low, min(levels, low + rng.integers(1, 20)), size)
        case 2:
            values = np.full(size, rng.integers(levels))
        case 3:
            values = rng.choice(rng.integers(0, levels, 2), size)
        case 4:
            values = np.minimum(rng.exponential(levels / 50, size), levels - 1)
        case 5:
            values = np.full(size, rng.integers(levels))
            values[rng.integers(size)] = rng.integers(levels)
        case _:
            values = np.clip(rng.normal(rng.integers(levels), levels / 30, size), 0, levels - 1)
    return (values.astype(np.int64) + int(limits.min)).astype(dtype)


def random_image(rng, dtype=np.uint8, most=3000):
    """Return a 2-D image of 1 to `most` pixels."""
    height = int(rng.integers(1, int(most**0.5) * 2))
    width = int(rng.integers(1, max(2, most // height + 1)))
    return random_values(rng, height * width, dtype).reshape(height, width)


def random_float(rng, dtype, shape):
    """Return a floating image with a few NaN and infinities."""
    image = (rng.normal(size=shape) * rng.choice([0.1, 1, 30]) + rng.choice([0, 0.5, 100])).astype(dtype)
    if image.size > 3:
        image.flat[rng.integers(image.size, size=2)] = rng.choice([np.nan, np.inf, -np.inf], 2)
    return image


def views(rng, image):
    """Return the same 2-D pixels in every kind of memory."""
    h, w = image.shape
    padded = np.zeros((h + 2, w + 3), image.dtype)
    padded[1:-1, 1:-2] = image
    spread = np.zeros((h * 2, w * 3), image.dtype)
    spread[::2, ::3] = image
    unaligned = np.zeros(image.nbytes + 1, np.uint8)[1:].view(image.dtype).reshape(image.shape)
    unaligned[...] = image
    read_only = image.copy()
    read_only.flags.writeable = False
    return {
        "contiguous": image,
        "fortran": np.asfortranarray(image),
        "window": padded[1:-1, 1:-2],
        "spread": spread[::2, ::3],
        "reversed": image[::-1, ::-1].copy()[::-1, ::-1],
        "unaligned": unaligned,
        "read-only": read_only,
        "foreign byte order": image.astype(image.dtype.newbyteorder()),
        "rows reversed": np.ascontiguousarray(image[::-1])[::-1],
    }


def number_of_images(backend, number):
    """Return how many random images to take: fewer where a CPU executes CUDA kernels, thread by thread."""
    return number // 5 if backend == "cupy" else number


def same(a, b):
    """Tell whether two arrays are equal in dtype, shape and every element, NaN included."""
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


@st.composite
def arrays(draw, dtypes=DTYPES, most_axes=5):
    """Draw (array, layout): any dtype, layout, small shape, axis order in memory and sign of stride."""
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    letters = draw(st.permutations("NCDHW"))
    layout = "".join(letters[: draw(st.integers(1, most_axes))])
    if not set(layout) & set("DHW"):
        layout += draw(st.sampled_from("DHW"))
    sizes = {"N": st.integers(0, 3), "C": st.sampled_from([1, 3, 4, 2])}
    shape = tuple(draw(sizes.get(letter, st.integers(0, 9))) for letter in layout)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    order = draw(st.permutations(range(len(shape))))
    inverse = np.argsort(order)
    memory = tuple(shape[i] for i in order)
    if dtype.kind == "f":
        array = random_float(rng, dtype, memory)
    else:
        array = random_values(rng, max(1, int(np.prod(memory))), dtype)[: int(np.prod(memory))].reshape(
            memory
        )
    step = tuple(slice(None, None, draw(st.sampled_from([1, -1, 2]))) for _ in memory)
    spread = np.zeros(tuple(2 * n for n in memory), dtype)
    view = spread[tuple(slice(None, None, 2) for _ in memory)]
    view[...] = array
    view = view if draw(st.booleans()) else array[step]
    return view.transpose(inverse), layout


def accepted(image, layout):
    """Return the pairs of color and alpha that this image can have."""
    channels = image.shape[layout.index("C")] if "C" in layout else 1
    colors = [channels - has_alpha for has_alpha in (channels in (2, 4), channels > 1, False)]
    return [
        (color, alpha)
        for alpha, count in zip((None, True, False), colors, strict=True)
        for color in ("luma", "luma-bgr", "channels")
        if (alpha is not True or channels > 1)
        and (color == "channels" or count == 1 or (count == 3 and image.dtype.kind == "u"))
    ]
