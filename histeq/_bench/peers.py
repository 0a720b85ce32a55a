"""The other libraries, each called as its experienced user would call it; and histeq's backends.

A function of `WAYS` takes an image and an output array of the result's shape (which some libraries cannot
use), prepares what a program would prepare once, and returns the call that is timed. A library is imported
when it is opened, in a process of its own.
"""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Call = Callable[[], Any]
Prepare = Callable[..., Call]


@dataclass(frozen=True, slots=True)
class Way:
    """How a library does an operation."""

    prepare: Prepare
    dtypes: str = "u8"
    rule: str = ""
    """The rule with which histeq gives the same pixels; empty: its default."""


@dataclass(frozen=True, slots=True)
class Library:
    """A library to compare with."""

    name: str
    """As `--peers` takes it."""
    title: str
    """As its makers write it."""
    module: str
    """What is imported to see whether it is installed."""
    install: str
    ways: Mapping[tuple[str, str], Way]
    """By operation and kind of image: "grey", "luma" or "channels"."""
    set_threads: Callable[[int], object] | None = None
    """Tells it how many threads to use; None where it has one."""
    batches: bool = False
    """Whether it takes a batch in one call. Others are called for each image."""
    setup: Callable[[], object] | None = None
    """Called once after the import."""

    def way(self, op: str, kind: str, dtype: str) -> Way | None:
        """Return how it does an operation, or None where it does not."""
        found = self.ways.get((op, kind))
        return found if found and dtype in found.dtypes.split() else None

    def prepare(
        self, way: Way, image: Array, out: Array | None, inputs: tuple[Array, ...], batch: int
    ) -> Call:
        """Return the call that is timed, on one image or on a batch."""
        if not batch or self.batches:
            return way.prepare(image, out, *inputs)
        each = [way.prepare(image[n], None if out is None else out[n], *inputs) for n in range(batch)]
        return lambda: [call() for call in each]


def as_array(result: Any) -> Array:
    """Return a library's result as an array of NumPy's."""
    if isinstance(result, list | tuple) and result and not isinstance(result[0], int | float):
        return np.stack([as_array(each) for each in result])
    if hasattr(result, "cpu"):  # PyTorch's, CV-CUDA's
        result = result.cpu()
    if type(result).__module__.partition(".")[0] == "cupy":
        result = result.get()
    return np.asarray(result)


# OpenCV ---------------------------------------------------------------------------------------------


def _cv2() -> Any:
    return importlib.import_module("cv2")


def _cv2_equalize(image: Array, out: Array) -> Call:
    return partial(_cv2().equalizeHist, image, out)


def _cv2_histogram(image: Array, out: Array | None) -> Call:
    levels = np.iinfo(image.dtype).max + 1
    return partial(_cv2().calcHist, [image], [0], None, [levels], [0, levels])


def _cv2_apply(image: Array, out: Array, table: Array) -> Call:
    return partial(_cv2().LUT, image, table, out)


def _cv2_luma(image: Array, out: Array) -> Call:
    return _cv2_on_luma(image, out, _cv2().equalizeHist)


def _cv2_on_luma(image: Array, out: Array, change: Callable[[Array, Array], Any]) -> Call:
    cv2 = _cv2()
    ycrcb, luma = np.empty_like(image), np.empty(image.shape[:2], image.dtype)

    def call() -> Array:
        cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb, ycrcb)
        change(cv2.extractChannel(ycrcb, 0, luma), luma)
        cv2.insertChannel(luma, ycrcb, 0)
        return cv2.cvtColor(ycrcb, cv2.COLOR_YCrCb2RGB, out)

    return call


def _cv2_channels(image: Array, out: Array) -> Call:
    cv2 = _cv2()
    planes = [np.empty(image.shape[:2], image.dtype) for _ in range(3)]

    def call() -> Array:
        cv2.split(image, planes)
        for plane in planes:
            cv2.equalizeHist(plane, plane)
        return cv2.merge(planes, out)

    return call


def _cv2_clahe(image: Array, out: Array) -> Call:
    return partial(_cv2().createCLAHE(2.0, (8, 8)).apply, image, out)


def _cv2_clahe_luma(image: Array, out: Array) -> Call:
    return _cv2_on_luma(image, out, _cv2().createCLAHE(2.0, (8, 8)).apply)


_OPENCV = Library(
    "opencv", "OpenCV", "cv2", "pip install opencv-python-headless",
    {
        ("equalize", "grey"): Way(_cv2_equalize),
        ("equalize", "luma"): Way(_cv2_luma),
        ("equalize", "channels"): Way(_cv2_channels),
        ("histogram", "grey"): Way(_cv2_histogram, "u8 u16"),
        ("lut", "grey"): Way(_cv2_apply, "u8 u16"),
        ("clahe", "grey"): Way(_cv2_clahe, "u8 u16"),
        ("clahe", "luma"): Way(_cv2_clahe_luma),
    },
    set_threads=lambda n: _cv2().setNumThreads(n),
)  # fmt: skip


# NumPy ----------------------------------------------------------------------------------------------


def _numpy_equalize(image: Array, out: Array) -> Call:
    """Prepare the textbook recipe."""
    top = np.iinfo(image.dtype).max

    def call() -> Array:
        cdf = np.cumsum(np.bincount(image.ravel(), minlength=top + 1))
        darkest = cdf[np.argmax(cdf > 0)]
        if darkest == cdf[-1]:
            np.copyto(out, image)
            return out
        table = np.maximum(cdf - darkest, 0) * float(top) / float(cdf[-1] - darkest)
        return _take(table.astype(image.dtype), image, out)

    return call


def _numpy_histogram(image: Array, out: Array | None) -> Call:
    return partial(np.bincount, image.ravel(), minlength=np.iinfo(image.dtype).max + 1)


def _numpy_apply(image: Array, out: Array, table: Array) -> Call:
    return partial(_take, table, image, out)


def _take(table: Array, image: Array, out: Array) -> Array:
    return np.take(table, image, out=out, mode="clip")  # the other modes go through a buffer: 20 % slower


_RECIPE = Library(
    "recipe", "NumPy", "numpy", "pip install numpy",
    {
        ("equalize", "grey"): Way(_numpy_equalize, "u8 u16", "numpy"),
        ("histogram", "grey"): Way(_numpy_histogram, "u8 u16"),
        ("lut", "grey"): Way(_numpy_apply, "u8 u16"),
    },
)  # fmt: skip


# Pillow ---------------------------------------------------------------------------------------------


def _pillow(image: Array) -> Any:
    return importlib.import_module("PIL.Image").fromarray(image)


def _pillow_equalize(image: Array, out: Array) -> Call:
    return partial(importlib.import_module("PIL.ImageOps").equalize, _pillow(image))


def _pillow_histogram(image: Array, out: Array | None) -> Call:
    histogram: Call = _pillow(image).histogram
    return histogram


def _pillow_apply(image: Array, out: Array, table: Array) -> Call:
    return partial(_pillow(image).point, table.tolist())


_PILLOW = Library(
    "pillow", "Pillow", "PIL", "pip install pillow",
    {
        ("equalize", "grey"): Way(_pillow_equalize, rule="pillow"),
        ("equalize", "channels"): Way(_pillow_equalize, rule="pillow"),
        ("histogram", "grey"): Way(_pillow_histogram),
        ("lut", "grey"): Way(_pillow_apply),
    },
)  # fmt: skip


# scikit-image ---------------------------------------------------------------------------------------


def _exposure() -> Any:
    return importlib.import_module("skimage.exposure")


def _skimage_equalize(image: Array, out: Array) -> Call:
    return partial(_exposure().equalize_hist, image)


def _skimage_histogram(image: Array, out: Array | None) -> Call:
    exposure = _exposure()
    return lambda: exposure.histogram(image, source_range="dtype")[0]


def _skimage_match(image: Array, out: Array, reference: Array) -> Call:
    """Prepare the form that returns the image's dtype, which the one without channels does not."""
    return partial(_exposure().match_histograms, image[..., None], reference[..., None], channel_axis=-1)


def _skimage_match_channels(image: Array, out: Array, reference: Array) -> Call:
    return partial(_exposure().match_histograms, image, reference, channel_axis=-1)


_SKIMAGE = Library(
    "skimage", "scikit-image", "skimage", "pip install scikit-image",
    {
        ("equalize", "grey"): Way(_skimage_equalize, "u8 u16 f32", "skimage"),
        ("histogram", "grey"): Way(_skimage_histogram),
        ("match", "grey"): Way(_skimage_match, "u8 u16"),
        ("match", "channels"): Way(_skimage_match_channels, "u8 u16"),
    },
)  # fmt: skip


# libvips --------------------------------------------------------------------------------------------


def _vips() -> Any:
    return importlib.import_module("pyvips")


def _vips_equalize(image: Array, out: Array) -> Call:
    source = _vips().Image.new_from_array(image)
    return lambda: source.hist_equal().copy_memory()  # it computes when pixels are asked for


_VIPS = Library(
    "vips", "libvips", "pyvips", 'pip install "pyvips[binary]"',
    {("equalize", "grey"): Way(_vips_equalize, rule="vips")},
    set_threads=lambda n: _vips().concurrency_set(n),
    setup=lambda: _vips().cache_set_max(0),  # it remembers results: the second round would cost nothing
)  # fmt: skip


# PyTorch: torchvision and kornia ---------------------------------------------------------------------


def _torch() -> Any:
    return importlib.import_module("torch")


def _tensor(image: Array) -> Any:
    """Return a tensor (N, C, H, W) of grey images, on the GPU where there is one."""
    torch = _torch()
    tensor = torch.from_numpy(image).reshape(-1, 1, *image.shape[-2:])
    return tensor.cuda() if torch.cuda.is_available() else tensor


def _finished(function: Callable[..., Any], *arguments: Any) -> Call:
    """Return a call that ends when the result is there."""
    torch = _torch()
    if not torch.cuda.is_available():
        return partial(function, *arguments)

    def call() -> Any:
        result = function(*arguments)
        torch.cuda.synchronize()
        return result

    return call


def _torchvision_equalize(image: Array, out: Array) -> Call:
    functional = importlib.import_module("torchvision.transforms.v2.functional")
    return _finished(functional.equalize, _tensor(image))


def _kornia_equalize(image: Array, out: Array) -> Call:
    kornia = importlib.import_module("kornia")
    return _finished(kornia.enhance.equalize, _tensor(image).float() / 255)


def _torch_threads(n: int) -> None:
    _torch().set_num_threads(n)


_TORCHVISION = Library(
    "torchvision", "torchvision", "torchvision", "pip install torchvision",
    {("equalize", "grey"): Way(_torchvision_equalize, rule="pillow")},
    set_threads=_torch_threads, batches=True,
)  # fmt: skip
_KORNIA = Library(
    "kornia", "kornia", "kornia", "pip install kornia",
    {("equalize", "grey"): Way(_kornia_equalize, rule="pillow")},
    set_threads=_torch_threads, batches=True,
)  # fmt: skip


# On the GPU: CV-CUDA and cuCIM -------------------------------------------------------------------------


def _cvcuda_equalize(image: Array, out: Array) -> Call:
    cvcuda, cupy = importlib.import_module("cvcuda"), importlib.import_module("cupy")
    shape = (-1, *image.shape[-2:], 1)
    source, target = (cvcuda.as_tensor(cupy.asarray(array).reshape(shape), "NHWC") for array in (image, out))

    def call() -> Any:
        cvcuda.histogrameq_into(target, source)
        cupy.cuda.Device().synchronize()
        return cupy.asarray(target.cuda())

    return call


def _cucim_equalize(image: Array, out: Array) -> Call:
    exposure, cupy = importlib.import_module("cucim.skimage.exposure"), importlib.import_module("cupy")
    lent = cupy.asarray(image)

    def call() -> Any:
        result = exposure.equalize_hist(lent)
        cupy.cuda.Device().synchronize()
        return result

    return call


_CVCUDA = Library(
    "cvcuda", "CV-CUDA", "cvcuda", "pip install cvcuda-cu12",
    {("equalize", "grey"): Way(_cvcuda_equalize)}, batches=True,
)  # fmt: skip
_CUCIM = Library(
    "cucim", "cuCIM", "cucim", "pip install cucim-cu12",
    {("equalize", "grey"): Way(_cucim_equalize, "u8 u16", "skimage")},
)  # fmt: skip


PEERS: dict[str, Library] = {
    library.name: library
    for library in (
        _OPENCV, _SKIMAGE, _PILLOW, _VIPS, _RECIPE, _TORCHVISION, _KORNIA, _CVCUDA, _CUCIM,
    )
}  # fmt: skip
"""Every library, by the name that `--peers` takes."""


def installed(name: str) -> bool:
    """Tell whether a library is there, without importing it."""
    try:
        return importlib.util.find_spec(PEERS[name].module) is not None
    except (ImportError, ValueError):
        return False
