"""Every wrong argument: the error's type and words, and nothing written."""

import numpy as np
import pytest

import histeq

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4)
RGB = np.zeros((3, 4, 3), np.uint8)
FLOAT = np.zeros((3, 4), np.float32)
READ_ONLY = np.zeros((3, 4), np.uint8)
READ_ONLY.flags.writeable = False
MASKED = np.ma.masked_array(GREY, GREY > 3)
DTYPES = "uint8, int8, uint16, int16, float16, float32, float64"
LETTERS = (
    "layout must name each axis once by one of the letters N (or T: independent images), C (channels), "
    "D H W (space)"
)
WIDER = (
    "; .astype(np.uint16) serves values of 0..65535, .astype(np.int16) those of -32768..32767, "
    ".astype(np.float64) all others, in bins"
)
RULES = "'opencv', 'numpy', 'pillow', 'vips', 'skimage'"

EQUALIZE = [
    # image, keywords, error, message
    ([[1, 2]], {}, TypeError, "image must be an array (numpy.asarray makes one), got list"),
    (None, {}, TypeError, "image must be an array (numpy.asarray makes one), got NoneType"),
    (
        MASKED, {}, TypeError,
        "image must not be a masked array: pass image.data with mask=~numpy.ma.getmaskarray(image)",
    ),
    (GREY.astype(np.int32), {}, TypeError, f"image must have one of the dtypes {DTYPES}, got int32{WIDER}"),
    (
        GREY.astype(bool), {}, TypeError,
        f"image must have one of the dtypes {DTYPES}, got bool; .astype(np.uint8) makes 0 and 1 of it",
    ),
    (GREY.astype(complex), {}, TypeError, f"image must have one of the dtypes {DTYPES}, got complex128"),
    (GREY.astype(object), {}, TypeError, f"image must have one of the dtypes {DTYPES}, got object"),
    (np.uint8(3), {}, TypeError, "image must be an array (numpy.asarray makes one), got uint8"),
    (np.array(3, np.uint8), {}, ValueError, "image must have at least one axis, got none"),
    (
        RGB, {}, ValueError,
        "layout must be given for an image of 3 axes, for example 'HWC' (color, channels last), 'CHW', "
        "'NHW' (a stack of images), 'DHW' (a volume); got None (documentation: layouts)",
    ),
    (
        RGB.transpose(2, 0, 1).repeat(3, axis=2), {}, ValueError,
        "layout must be given for an image of 3 axes, for example 'CHW', 'NHW' (a stack of images), "
        "'DHW' (a volume), 'HWC' (color, channels last); got None (documentation: layouts)",
    ),
    (
        RGB[None], {}, ValueError,
        "layout must be given for an image of 4 axes, for example 'NHWC' (color images, channels last), "
        "'NCHW', 'NDHW' (volumes); got None (documentation: layouts)",
    ),
    (
        RGB[None, None], {}, ValueError,
        "layout must be given for an image of 5 axes, for example 'NCDHW'; got None (documentation: layouts)",
    ),
    (RGB, {"layout": 3}, TypeError, "layout must be a string such as 'HWC', got int"),
    (
        RGB, {"layout": "HWX"}, ValueError,
        "layout must name each axis once by one of the letters N (or T: independent images), C (channels), "
        "D H W (space), got 'HWX'",
    ),
    (
        RGB, {"layout": "HHC"}, ValueError,
        "layout must name each axis once by one of the letters N (or T: independent images), C (channels), "
        "D H W (space), got 'HHC'",
    ),
    (
        RGB, {"layout": "NTH"}, ValueError,
        "layout must name each axis once by one of the letters N (or T: independent images), C (channels), "
        "D H W (space), got 'NTH'",
    ),
    (RGB, {"layout": "hwc"}, ValueError, f"{LETTERS}, got 'hwc'; use 'HWC'"),
    (RGB, {"layout": "YXC"}, ValueError, f"{LETTERS}, got 'YXC'; use 'HWC'"),
    (RGB, {"layout": "YXS"}, ValueError, f"{LETTERS}, got 'YXS'; use 'HWC'"),
    (RGB, {"layout": "h w c"}, ValueError, f"{LETTERS}, got 'h w c'; use 'HWC'"),
    (RGB[None], {"layout": "BHWC"}, ValueError, f"{LETTERS}, got 'BHWC'; use 'NHWC'"),
    (RGB[None], {"layout": "CTYX"}, ValueError, f"{LETTERS}, got 'CTYX'; use 'CTHW'"),
    (RGB[None, None], {"layout": "TCZYX"}, ValueError, f"{LETTERS}, got 'TCZYX'; use 'TCDHW'"),
    (RGB[None, None], {"layout": "BTHWC"}, ValueError, f"{LETTERS}, got 'BTHWC'"),
    (RGB, {"layout": "HW"}, ValueError, "layout must have one letter for each of the image's 3 axes, got 'HW'"),
    (GREY, {"layout": "NC"}, ValueError, "layout must have at least one of the axes D, H, W, got 'NC'"),
    (GREY, {"rule": "OpenCV"}, ValueError, f"rule must be one of {RULES}, got 'OpenCV'"),
    (GREY, {"rule": None}, TypeError, f"rule must be one of {RULES}, got NoneType"),
    (
        FLOAT, {"rule": "pillow"}, ValueError,
        "rule='pillow' is for integer images; float32 takes 'skimage' (the default there). "
        "(image * 255).astype(numpy.uint8) makes an integer image of one in 0..1",
    ),
    (
        RGB, {"layout": "HWC", "rule": "skimage"}, ValueError,
        "rule='skimage' gives fractions, which color='luma' cannot use; use color='channels'",
    ),
    (
        GREY, {"color": "rgb"}, ValueError,
        "color must be one of 'luma', 'luma-bgr', 'channels', got 'rgb'",
    ),
    (
        np.zeros((3, 4, 5), np.uint8), {"layout": "HWC"}, ValueError,
        "color='luma' takes 1 or 3 channels, with or without alpha, got 5; use color='channels'",
    ),
    (
        RGB.astype(np.float32), {"layout": "HWC"}, ValueError,
        "color='luma' takes uint8 and uint16 images, got float32; use color='channels'",
    ),
    (GREY, {"mask": [[True]]}, TypeError, "mask must be an array of the image's kind, got list"),
    (
        GREY, {"mask": GREY.astype(float)}, TypeError,
        "mask must be bool or unsigned (nonzero: counted), got float64",
    ),
    (
        GREY, {"mask": np.ones((3, 5), bool)}, ValueError,
        "mask must have the image's shape without its channels, (3, 4), got (3, 5)",
    ),
    (
        RGB, {"layout": "HWC", "mask": np.ones((3, 4, 3), bool)}, ValueError,
        "mask must have the image's shape without its channels, (3, 4), got (3, 4, 3)",
    ),
    (GREY, {"nodata": "0"}, TypeError, "nodata must be a number or None, got '0'"),
    (GREY, {"nodata": True}, TypeError, "nodata must be a number or None, got True"),
    (GREY, {"nodata": 256}, ValueError, "nodata must be a value that uint8 holds, got 256"),
    (GREY, {"nodata": 0.5}, ValueError, "nodata must be a value that uint8 holds, got 0.5"),
    (GREY, {"nodata": np.nan}, ValueError, "nodata must be a value that uint8 holds, got nan"),
    (GREY, {"bins": 10}, ValueError, "bins is for floating images: uint8 has one bin a value; got 10"),
    (
        GREY, {"value_range": (0, 256)}, ValueError,
        "value_range must be two values that uint8 holds, got (0, 256)",
    ),
    (FLOAT, {"bins": 2.5}, TypeError, "bins must be an int, got float"),
    (FLOAT, {"bins": True}, TypeError, "bins must be an int, got bool"),
    (FLOAT, {"bins": 0}, ValueError, "bins must be at least 1, got 0"),
    (FLOAT, {"value_range": 3}, TypeError, "value_range must be two numbers (low, high), got 3"),
    (FLOAT, {"value_range": (1, 2, 3)}, TypeError, "value_range must be two numbers (low, high), got (1, 2, 3)"),
    (FLOAT, {"value_range": (1, 1)}, ValueError, "value_range must be finite with low < high, got (1, 1)"),
    (FLOAT, {"value_range": (0, np.inf)}, ValueError, "value_range must be finite with low < high, got (0, inf)"),
    (FLOAT, {"value_range": (0, 1e300)}, ValueError, "value_range must be finite with low < high in float32, got (0, 1e+300)"),
    (FLOAT, {"value_range": (1, 1 + 1e-9)}, ValueError, "value_range must be finite with low < high in float32, got (1, 1.000000001)"),
    (GREY, {"out_range": (5, 5)}, ValueError, "out_range must be finite with low < high, got (5, 5)"),
    (GREY, {"out_range": (0, 256)}, ValueError, "out_range must be two values that uint8 holds, got (0, 256)"),
    (GREY, {"out_range": (-1, 9)}, ValueError, "out_range must be two values that uint8 holds, got (-1, 9)"),
    (GREY, {"out_range": (0.5, 9)}, ValueError, "out_range must be two values that uint8 holds, got (0.5, 9)"),
    (GREY, {"out_range": "ab"}, TypeError, "out_range must be two numbers (low, high), got 'ab'"),
    (GREY, {"out": [1]}, TypeError, "out must be an array of the image's kind, got list"),
    (GREY, {"out": GREY[:2].copy()}, ValueError, "out must have the image's shape (3, 4), got (2, 4)"),
    (GREY, {"out": FLOAT}, TypeError, "out must have the result's dtype uint8, got float32"),
    (
        GREY, {"out": GREY.copy(), "rule": "skimage"}, TypeError,
        "out must have the result's dtype float64, got uint8",
    ),
    (FLOAT, {"out_range": (0, 1e300)}, ValueError, "out_range must be finite in float32, got (0, 1e+300)"),
    (FLOAT.astype(float), {"out_range": (-1e308, 1e308)}, ValueError, "out_range must be finite in float64, got (-1e+308, 1e+308)"),
    (FLOAT, {"bins": 1 << 40}, ValueError, "bins must not give more than 134217728 bins in all, got 1 histograms of 1099511627776 bins"),
    (GREY, {"out": READ_ONLY}, ValueError, "out must be writable, got a read-only array"),
    (GREY, {"backend": "gpu"}, ValueError, "backend must be one of numba, numpy, cupy, got 'gpu'"),
    (GREY, {"backend": 3}, TypeError, "backend must be one of numba, numpy, cupy, got int"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("image", "keywords", "error", "message"), EQUALIZE, ids=[case[3][:60] for case in EQUALIZE]
)
def test_equalize(image, keywords, error, message):
    with pytest.raises(error) as caught:
        histeq.equalize(image, **keywords)
    assert str(caught.value) == message


COUNTS = np.ones(256, np.int64)
OTHERS = [
    (lambda: histeq.lookup_table([1], dtype="u1"), TypeError, "counts must be an array (numpy.asarray makes one), got list"),
    (lambda: histeq.lookup_table(COUNTS * 1.0, dtype="u1"), TypeError, "counts must be integers, got float64"),
    (lambda: histeq.lookup_table(COUNTS, dtype="u2"), ValueError, "counts must have 65536 entries on the last axis for uint16, got shape (256,)"),
    (lambda: histeq.lookup_table(-COUNTS, dtype="u1"), ValueError, "counts must not be negative, got -1"),
    (lambda: histeq.lookup_table(COUNTS << 45, dtype="u1"), ValueError, "counts must add up to less than 2**53, got more"),
    (lambda: histeq.lookup_table(COUNTS.astype("u8") << np.uint64(63), dtype="u1"), ValueError, "counts must add up to less than 2**53, got more"),
    (lambda: histeq.lookup_table(COUNTS, dtype=None), TypeError, f"dtype must have one of the dtypes {DTYPES}, got None"),
    (lambda: histeq.lookup_table(COUNTS, dtype=[]), TypeError, f"dtype must have one of the dtypes {DTYPES}, got []"),
    (lambda: histeq.lookup_table(COUNTS, dtype="i4"), TypeError, f"dtype must have one of the dtypes {DTYPES}, got int32{WIDER}"),
    (lambda: histeq.lookup_table(COUNTS, dtype="nonsense"), TypeError, f"dtype must have one of the dtypes {DTYPES}, got 'nonsense'"),
    (lambda: histeq.lookup_table(COUNTS, dtype="f4", rule="vips"), ValueError, "rule='vips' is for integer images; float32 takes 'skimage' (the default there). (image * 255).astype(numpy.uint8) makes an integer image of one in 0..1"),
    (lambda: histeq.apply(GREY, [1]), TypeError, "table must be an array (numpy.asarray makes one), got list"),
    (lambda: histeq.apply(GREY, np.zeros(256, np.uint16)), TypeError, "table must have dtype uint8 or float64 for uint8, got uint16"),
    (lambda: histeq.apply(RGB, np.zeros(256), layout="HWC"), TypeError, "table must have dtype uint8 for uint8, got float64"),
    (lambda: histeq.apply(GREY, np.zeros(255, np.uint8)), ValueError, "table must have shape (256,) or (256,) for this image, got (255,)"),
    (lambda: histeq.apply(RGB, np.zeros((2, 256), np.uint8), layout="HWC", color="channels"), ValueError, "table must have shape (256,) or (3, 256) for this image, got (2, 256)"),
    (lambda: histeq.apply(FLOAT, np.zeros(256, np.float32)), ValueError, "value_range must be given to apply a table to a floating image, got None"),
    (lambda: histeq.apply(FLOAT, np.zeros(0, np.float32), value_range=(0, 1)), ValueError, "table must have at least one entry, got none"),
    (lambda: histeq.apply(GREY, np.zeros(256, np.uint8), value_range=(0, 1)), ValueError, "table must have shape (2,) or (2,) for this image, got (256,)"),
    (lambda: histeq.match(GREY, [1]), TypeError, "reference must be an array (numpy.asarray makes one), got list"),
    (lambda: histeq.match(GREY, FLOAT), TypeError, "reference must have the image's dtype uint8, got float32"),
    (lambda: histeq.match(RGB, RGB[..., :2], layout="HWC"), ValueError, "reference must have 3 channels and 1 or 1 images, got shape (3, 4, 2)"),
    (lambda: histeq.match(RGB, RGB[:2], layout="NHW"), ValueError, "reference must have 1 channels and 1 or 3 images, got shape (2, 4, 3)"),
    (lambda: histeq.histogram(RGB), ValueError, "layout must be given for an image of 3 axes, for example 'HWC' (color, channels last), 'CHW', 'NHW' (a stack of images), 'DHW' (a volume); got None (documentation: layouts)"),
    (lambda: histeq.set_num_threads(0), ValueError, "n must be from 1 to 4096, got 0"),
    (lambda: histeq.set_num_threads(10**5000), ValueError, "n must be from 1 to 4096, got a value of type int"),
    (lambda: histeq.set_num_threads(1.5), TypeError, "n must be an int or None, got float"),
    (lambda: histeq.nonsense, AttributeError, "module 'histeq' has no attribute 'nonsense'"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), OTHERS, ids=[case[2][:60] for case in OTHERS])
def test_others(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message


def test_partial_overlap_is_refused():
    memory = np.arange(400, dtype=np.uint8)
    before = memory.copy()
    image = memory[:300].reshape(15, 20)
    for out in (memory[20:320].reshape(15, 20), image[::-1], memory[99::-1].reshape(5, 20)[::-1]):
        source = image[: len(out)]
        with pytest.raises(ValueError, match="out must be the image itself or share no memory with it"):
            histeq.equalize(source, out=out)
    assert np.array_equal(memory, before)
    interleaved = memory.reshape(20, 20)
    histeq.equalize(interleaved[:, ::2], out=interleaved[:, 1::2])  # no common element: allowed


def test_nothing_is_written_on_error():
    out = np.full((3, 4), 9, np.uint8)
    with pytest.raises(ValueError, match="nodata"):
        histeq.equalize(GREY, nodata=-1, out=out)
    assert (out == 9).all()


def test_environment_variables(environment):
    environment("HISTEQ_BACKEND", "abacus")
    with pytest.raises(ValueError, match="HISTEQ_BACKEND must be one of numba, numpy, cupy, got 'abacus'"):
        histeq.equalize(GREY)
    environment("HISTEQ_BACKEND", "numpy")
    assert np.array_equal(histeq.equalize(GREY), histeq.equalize(GREY, backend="numba"))
    environment("HISTEQ_BACKEND", "")
    for wrong in ("0", "-1", "two", "1.5", "5000", "9" * 5000):
        environment("HISTEQ_NUM_THREADS", wrong)
        with pytest.raises(ValueError, match="HISTEQ_NUM_THREADS must be a whole number from 1 to 4096"):
            histeq.equalize(np.zeros((1100, 1100), np.uint8))  # large enough for threads


def an_object_of(module, name="Array"):
    """Return an object of a class of another library."""
    return type(name, (), {"__module__": module})()


@pytest.mark.parametrize(
    ("module", "name", "does"),
    [
        ("dask.delayed", "Delayed", "computes it, all at once"),
        ("zarr.core.array", "Array", "reads it, all at once"),
        ("h5py._hl.dataset", "Dataset", "reads it, all at once"),
        (
            "xarray.core.variable",
            "Variable",
            "gives its values, and image.copy(data=result) labels the result",
        ),
        ("PIL.Image", "Image", "makes one, and PIL.Image.fromarray(result) an image of the result"),
        ("pandas", "DataFrame", "gives its values"),
    ],
)
def test_objects_of_other_libraries(module, name, does):
    library = module.partition(".")[0]
    message = f"image must be an array in memory, got {name} of {library}: numpy.asarray(image) {does}"
    for function in (histeq.equalize, histeq.clahe, histeq.histogram, histeq.tile_tables):
        with pytest.raises(TypeError) as caught:
            function(an_object_of(module, name))
        assert str(caught.value) == message


def test_the_remedy_for_pillow_works():
    from PIL import Image

    image = Image.fromarray(GREY)
    with pytest.raises(TypeError, match=r"numpy.asarray\(image\) makes one"):
        histeq.equalize(image)
    result = Image.fromarray(histeq.equalize(np.asarray(image)))
    assert np.array_equal(np.asarray(result), histeq.equalize(GREY))


def test_the_remedy_for_floats_works():
    image = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)
    assert histeq.equalize((image * 255).astype(np.uint8), rule="pillow").dtype == np.uint8
