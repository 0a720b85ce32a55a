"""What other libraries do with the same images on the GPU: uint8, grey, a batch where there are several.

A peer is a function of the images and of arrays for its results, one each; it returns a job (see `timing`)
and who captures that into a graph: "cupy", "torch", or None where it waits for the device or takes no stream
of ours. It raises ImportError where its library is not installed, OneAtATimeError where it takes no batch.
"""

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.gpu.timing import Job

Capture = str | None
Peer = Callable[[Sequence[Any], Sequence[Any]], tuple[Job, Capture]]


class OneAtATimeError(Exception):
    """A batch was given to a peer that takes single images."""


def _check_single(images: Sequence[Any]) -> None:
    if images[0].ndim != 2:
        raise OneAtATimeError("it takes single images")


def naive_equalize(images: Sequence[Any], outs: Sequence[Any]) -> tuple[Job, Capture]:
    """Equalize one image with CuPy's functions, as one would without a library."""
    cupy: Any = importlib.import_module("cupy")

    def call(image: Any, out: Any) -> None:
        counts = cupy.bincount(image.ravel(), minlength=256)
        cumulative = cupy.cumsum(counts)
        first = counts[cupy.argmax(counts > 0)]
        scale = cupy.float32(255) / (image.size - first).astype(cupy.float32)
        table = cupy.clip(cupy.rint((cumulative - first).astype(cupy.float32) * scale), 0, 255)
        cupy.take(table.astype(cupy.uint8), image, out=out)

    _check_single(images)
    return _job(call, images, outs), None  # bincount asks for the largest value, and waits


def torchvision_equalize(images: Sequence[Any], outs: Sequence[Any]) -> tuple[Job, Capture]:
    functional: Any = importlib.import_module("torchvision.transforms.v2.functional")
    return _job(functional.equalize, _tensors(images)), "torch"


def kornia_equalize(images: Sequence[Any], outs: Sequence[Any]) -> tuple[Job, Capture]:
    kornia: Any = importlib.import_module("kornia")
    return _job(kornia.enhance.equalize, [image.float() / 255 for image in _tensors(images)]), "torch"


def cvcuda_equalize(images: Sequence[Any], outs: Sequence[Any]) -> tuple[Job, Capture]:
    cvcuda: Any = importlib.import_module("cvcuda")
    frames, targets = (
        [cvcuda.as_tensor(array.reshape(-1, *array.shape[-2:], 1), "NHWC") for array in arrays]
        for arrays in (images, outs)
    )
    return _job(cvcuda.histogrameq_into, targets, frames), None


def cucim_equalize(images: Sequence[Any], outs: Sequence[Any]) -> tuple[Job, Capture]:
    exposure: Any = importlib.import_module("cucim.skimage.exposure")
    _check_single(images)
    return _job(exposure.equalize_hist, images), None


def cupy_histogram(images: Sequence[Any], outs: Sequence[Any]) -> tuple[Job, Capture]:
    cupy: Any = importlib.import_module("cupy")
    return _job(lambda image: cupy.bincount(image.ravel(), minlength=256), images), None


def torch_histogram(images: Sequence[Any], outs: Sequence[Any]) -> tuple[Job, Capture]:
    torch: Any = importlib.import_module("torch")
    return _job(lambda tensor: torch.bincount(tensor.view(-1), minlength=256), _tensors(images)), None


def cupy_apply(images: Sequence[Any], outs: Sequence[Any]) -> tuple[Job, Capture]:
    cupy: Any = importlib.import_module("cupy")
    table = cupy.arange(256, dtype=cupy.uint8)[::-1].copy()
    return _job(lambda image, out: cupy.take(table, image, out=out), images, outs), "cupy"


def kornia_clahe(images: Sequence[Any], outs: Sequence[Any]) -> tuple[Job, Capture]:
    kornia: Any = importlib.import_module("kornia")
    fractions = [image.float() / 255 for image in _tensors(images)]
    return _job(lambda image: kornia.enhance.equalize_clahe(image, 2.0, (8, 8)), fractions), "torch"


def cucim_clahe(images: Sequence[Any], outs: Sequence[Any]) -> tuple[Job, Capture]:
    exposure: Any = importlib.import_module("cucim.skimage.exposure")
    _check_single(images)
    return _job(lambda image: exposure.equalize_adapthist(image, clip_limit=2 / 256), images), None


PEERS: dict[str, dict[str, Peer]] = {
    "equalize": {
        "CV-CUDA": cvcuda_equalize, "torchvision": torchvision_equalize, "kornia": kornia_equalize,
        "cuCIM": cucim_equalize, "naive CuPy": naive_equalize,
    },
    "histogram": {"CuPy bincount": cupy_histogram, "PyTorch bincount": torch_histogram},
    "apply": {"CuPy take": cupy_apply},
    "clahe": {"kornia": kornia_clahe, "cuCIM": cucim_clahe},
}  # fmt: skip
"""The peers of each operation."""


def _job(function: Callable[..., Any], *arguments: Sequence[Any]) -> Job:
    """Return a call of the function for each set of arguments."""
    return [functools.partial(function, *each) for each in zip(*arguments, strict=True)]


def _tensors(images: Sequence[Any]) -> list[Any]:
    """Return PyTorch tensors (N, 1, H, W) in the images' memory."""
    torch: Any = importlib.import_module("torch")
    return [torch.from_dlpack(image).reshape(-1, 1, *image.shape[-2:]) for image in images]
