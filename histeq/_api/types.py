"""The types of the public functions' arguments and results."""

import os
from typing import Any, BinaryIO, Literal, Protocol, TypeVar

import numpy as np


class AnyArray(Protocol):
    """An array of any library: NumPy, CuPy, PyTorch, JAX, xarray, or whatever has a shape and a dtype."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""

    @property
    def dtype(self) -> object:
        """The type of the elements."""


class ArraySet(Protocol):
    """Arrays by name: a Dataset of xarray's."""

    @property
    def data_vars(self) -> Any:
        """The arrays."""


class ZarrNode(Protocol):
    """An array or a group of zarr's, as far as types tell."""

    @property
    def store_path(self) -> Any:
        """Where it is stored."""

    @property
    def metadata(self) -> Any:
        """What describes it."""


FileLike = str | os.PathLike[str] | BinaryIO | ZarrNode
"""What is read or written as an image file."""

Images = AnyArray | ArraySet
ArrayT = TypeVar("ArrayT", bound=Images)
"""An array type: that of the image is that of the result."""
FrameT = TypeVar("FrameT", bound=AnyArray)
"""The array type of a frame, which is that of the mapped frame."""

Rule = Literal["opencv", "pillow", "numpy", "skimage", "vips"]
IntegerRule = Literal["opencv", "pillow", "numpy", "vips"]
Color = Literal["luma", "luma-bgr", "channels"]
BackendName = Literal["numba", "numpy", "cupy"]
Range = tuple[float, float]
Uint8 = type[np.uint8] | np.dtype[np.uint8] | Literal["uint8"]
"""What stands for the dtype uint8."""
