"""DICOM, through pydicom: the values as they are stored, within the bits that are in use.

The result is a derived image, in Explicit VR Little Endian: it has a UID of its own, names the image that it
comes from, and loses what no longer holds, such as the rescaling to Hounsfield units.
"""

from collections.abc import Sequence
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from histeq._files.blocks import Damage, Header, Item, Level, Options, Whole, Window
from histeq._files.picture import Unfit, check_size

_DTYPES = {(8, 0): "u1", (8, 1): "i1", (16, 0): "u2", (16, 1): "i2"}
_DEPENDENT = {
    "ModalityLUTSequence": "the modality LUT",
    "VOILUTSequence": "the VOI LUT",
    "PresentationLUTSequence": "the presentation LUT",
    "RealWorldValueMappingSequence": "the mapping to real-world values",
    "IconImageSequence": "the icon",
    "DigitalSignaturesSequence": "digital signatures",
}
"""What holds for the old pixels only."""
_SILENT = (
    "SmallestImagePixelValue", "LargestImagePixelValue", "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries", "WindowCenterWidthExplanation", "VOILUTFunction", "MACParametersSequence",
    "ExtendedOffsetTable", "ExtendedOffsetTableLengths",
)  # fmt: skip


def open(file: BinaryIO, limit: int, damage: Damage) -> Whole:
    """Return the source that a DICOM file is."""
    import pydicom

    data = pydicom.dcmread(BytesIO(file.read()))
    if "PixelData" not in data:
        raise Unfit("the DICOM file holds no image of integers")
    frames, height, width = int(data.get("NumberOfFrames") or 1), int(data.Rows), int(data.Columns)
    check_size(frames * height * width, limit)
    photometric = str(data.get("PhotometricInterpretation", ""))
    dtype = _dtype(data)
    palette = photometric == "PALETTE COLOR"
    grey = photometric in ("MONOCHROME1", "MONOCHROME2")
    if data.SamplesPerPixel != (1 if grey or palette else 3) or not (
        grey or palette or photometric == "RGB" or photometric.startswith("YBR_")
    ):
        raise Unfit(f"DICOM images with {data.SamplesPerPixel} samples of {photometric} are not handled")
    low, high = _range(data, dtype)
    inverted = photometric == "MONOCHROME1"
    nodata = _padding(data, dtype) if grey else None
    if palette:
        dtype = np.dtype(np.uint16 if data.RedPaletteColorLookupTableDescriptor[2] > 8 else np.uint8)
    several = ("N" if frames > 1 else "") + ("HW" if grey else "HWC")
    lost = [_DEPENDENT[name] for name in _DEPENDENT if name in data]
    if "RescaleSlope" in data:
        lost.append("the rescaling of values to physical units")
    header = Header(
        format="DICOM",
        pages=frames,
        height=height,
        width=width,
        channels=1 if grey else 3,
        dtype=dtype,
        layout=several,
        nodata=low + high - nodata if inverted and nodata is not None else nodata,
        value_range=(low, high) if grey and (low, high) != _limits(dtype) else None,
        own=tuple(map(Item, lost)),
        keep={"dataset": data, "inverted": inverted, "range": (low, high)},
    )

    def decode() -> NDArray[Any]:
        pixels = _decoded(data, damage)
        if palette:
            from pydicom.pixels import apply_color_lut

            pixels = apply_color_lut(pixels, data)
        pixels = pixels.astype(dtype).reshape(
            *((frames,) if frames > 1 else ()), *header.shape(height, width)
        )
        return _inverted(pixels, low, high) if inverted else pixels

    return Whole(header, decode, damage)


def _dtype(data: Any) -> np.dtype[Any]:
    kind = int(data.BitsAllocated), int(data.get("PixelRepresentation") or 0)
    if kind not in _DTYPES:
        raise Unfit(f"DICOM images of {kind[0]} bits are not handled; there are 8 and 16")
    return np.dtype(_DTYPES[kind])


def _limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def _range(data: Any, dtype: np.dtype[Any]) -> tuple[int, int]:
    """Return the values that the bits in use can have."""
    bits = int(data.BitsStored)
    if not 1 <= bits <= 8 * dtype.itemsize:
        raise ValueError(f"{bits} of {8 * dtype.itemsize} bits are in use")
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if dtype.kind == "i" else (0, (1 << bits) - 1)


def _padding(data: Any, dtype: np.dtype[Any]) -> int | None:
    """Return the value of pixels that are outside of what was seen."""
    value = data.get("PixelPaddingValue")
    if value is None:
        return None
    if data.get("PixelPaddingRangeLimit") not in (None, value):
        raise Unfit("DICOM images with a range of padding values are not handled")
    return int(np.array(int(value)).astype(dtype))  # it may be written unsigned


def _decoded(data: Any, damage: Damage) -> NDArray[Any]:
    """Return the pixels, those of YCbCr as RGB."""
    syntax = data.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        frames = int(data.get("NumberOfFrames") or 1)
        pixels = frames * data.Rows * data.Columns * data.SamplesPerPixel
        if data.PhotometricInterpretation == "YBR_FULL_422":
            pixels = pixels * 2 // 3
        need = pixels * data.BitsAllocated // 8
        if len(data.PixelData) < need:
            damage.found(f"it has {len(data.PixelData)} of {need} bytes of pixels")
            data.PixelData = data.PixelData.ljust(need + need % 2, b"\0")
    try:
        return np.asarray(data.pixel_array)
    except (ImportError, NotImplementedError, RuntimeError) as error:
        if "missing" in str(error) or "plugin" in str(error):
            raise Unfit(f"pydicom lacks a decoder of {syntax.name}: pip install pylibjpeg[all]") from error
        raise


def _inverted(pixels: NDArray[Any], low: int, high: int) -> NDArray[Any]:
    return (low + high - pixels.astype(np.int32)).clip(*_limits(pixels.dtype)).astype(pixels.dtype)


class DicomSink:
    """The only level of a file that is written as a whole."""

    def __init__(self, file: BinaryIO, header: Header) -> None:
        if header.format != "DICOM":
            raise Unfit("a DICOM file is made from a DICOM file only, whose patient and study it is to have")
        self.header, self.height, self.width = header, header.height, header.width
        self.levels: Sequence[Level] = (self,)
        self._file = file
        self._dataset = header.keep["dataset"]
        self._pixels: NDArray[Any] = np.empty(
            (header.pages, *header.shape(header.height, header.width)), header.dtype
        )
        self.notes: list[str] = []
        self.masks: Sequence[Level] = ()

    def blocks(self, page: int) -> tuple[int, int]:
        """Return a size that is worth a task."""
        return min(256, self.height), self.width

    def write(self, window: Window, pixels: NDArray[Any]) -> None:
        """Keep the pixels of a window."""
        self._pixels[window.page][window.slices] = pixels

    def read(self, window: Window) -> NDArray[Any]:
        """Return a view of what was written."""
        return self._pixels[window.page][window.slices]

    def finish(self) -> None:
        """Write the file."""
        import copy

        import pydicom
        from pydicom.uid import ExplicitVRLittleEndian

        header, pixels = self.header, self._pixels
        data = copy.deepcopy(self._dataset)
        data.preamble = bytes(128)  # of a TIFF file, it would lead to the old pixels
        low, high = header.keep["range"]
        if pixels.dtype != _dtype(data) or header.channels > 1:
            low, high = _limits(pixels.dtype)
        photometric = "RGB" if header.channels == 3 else str(data.PhotometricInterpretation)
        if header.keep["inverted"]:
            pixels = _inverted(pixels, low, high)
        _derive(data)
        for name in [*_DEPENDENT, *_SILENT]:
            _delete(data, name)
        for name in [element.keyword for element in data if "PaletteColor" in element.keyword]:
            _delete(data, name)
        if "PixelPaddingValue" in data:  # its type is that of the pixels
            value = int(np.array(int(data.PixelPaddingValue)).astype(pixels.dtype))
            del data.PixelPaddingValue
            data.add_new("PixelPaddingValue", "SS" if pixels.dtype.kind == "i" else "US", value)
        _describe_values(data, low, high, grey=header.channels == 1)
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        shown = pixels if header.pages > 1 else pixels[0]
        bits = int(high - low).bit_length()
        data.set_pixel_data(np.ascontiguousarray(shown), photometric, bits)
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
        if self._dataset.original_encoding[1] is False:  # pydicom swaps numbers, but no arrays of bytes
            for element in data.iterall():
                if element.VR == "OW" and element.keyword != "PixelData":
                    element.value = np.frombuffer(element.value, np.uint16).byteswap().tobytes()
        self._file.seek(0)
        encoding = {"implicit_vr": False, "little_endian": True, "force_encoding": True}
        pydicom.dcmwrite(self._file, data, **encoding)


def create(file: BinaryIO, header: Header, options: Options) -> DicomSink:
    """Create a file with the data of the one that the image comes from."""
    return DicomSink(file, header)


def _delete(data: Any, name: str) -> None:
    if name and name in data:
        delattr(data, name)


def _derive(data: Any) -> None:
    """Say what the image is, and what it comes from."""
    from pydicom.dataset import Dataset

    source = Dataset()
    source.ReferencedSOPClassUID = data.get("SOPClassUID")
    source.ReferencedSOPInstanceUID = data.get("SOPInstanceUID")
    if source.ReferencedSOPInstanceUID:
        data.SourceImageSequence = [source]
    kinds = data.get("ImageType")
    rest = [kinds] if isinstance(kinds, str) else list(kinds or ["", "PRIMARY"])
    data.ImageType = ["DERIVED", *rest[1:]]
    data.DerivationDescription = "Histogram equalized"


def _describe_values(data: Any, low: int, high: int, *, grey: bool) -> None:
    """Let viewers show the whole range of values, which are no longer physical ones."""
    shared = data.get("SharedFunctionalGroupsSequence") or []
    for group in (*shared, *(data.get("PerFrameFunctionalGroupsSequence") or [])):
        for name in ("FrameVOILUTSequence", "PixelValueTransformationSequence", *_DEPENDENT):
            _delete(group, name)
    if "RescaleSlope" in data:
        data.RescaleSlope, data.RescaleIntercept, data.RescaleType = 1, 0, "US"
    if grey:
        data.WindowCenter, data.WindowWidth = (low + high + 1) / 2, high - low + 1
    else:
        for name in ("WindowCenter", "WindowWidth"):
            _delete(data, name)
