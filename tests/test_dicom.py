"""DICOM: pixels within their bits, and a derived image whose attributes hold for them."""

import pathlib

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRLittleEndian

import histeq
from histeq._files import FileError, opened
from histeq._files.blocks import Window

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def named(name):
    found = get_testdata_file(name, download=False)
    assert found
    return pathlib.Path(found)


def equalized(path, target, **options):
    result = histeq.equalize_file(path, target, backend="numpy", overwrite=True, **options)
    return result, pydicom.dcmread(target)


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm",
        "MR_small_jp2klossless.dcm",
        "693_J2KI.dcm", "examples_overlay.dcm", "image_dfl.dcm", "J2K_pixelrep_mismatch.dcm",
    ],
)  # fmt: skip
def test_grey(tmp_path, name):
    source = pydicom.dcmread(named(name))
    result, written = equalized(named(name), tmp_path / "b.dcm")
    pixels = source.pixel_array.astype(source.pixel_array.dtype.newbyteorder("="))
    bits = int(source.BitsStored)
    limits = (-(1 << bits - 1), (1 << bits - 1) - 1) if source.PixelRepresentation else (0, (1 << bits) - 1)
    whole = bits == source.BitsAllocated
    padding = source.get("PixelPaddingValue")
    expected = histeq.equalize(pixels, value_range=None if whole else limits, nodata=padding, backend="numpy")
    np.testing.assert_array_equal(written.pixel_array, expected)
    assert (written.pixel_array.min(), written.pixel_array.max()) <= limits
    assert written.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert (written.Rows, written.Columns, written.BitsStored) == (source.Rows, source.Columns, bits)
    assert written.PatientID == source.PatientID
    assert written.WindowWidth == limits[1] - limits[0] + 1
    assert written.WindowCenter == (limits[0] + limits[1] + 1) / 2
    if "RescaleSlope" in source:
        assert (written.RescaleSlope, written.RescaleIntercept, written.RescaleType) == (1, 0, "US")
        assert "the rescaling of values to physical units not carried" in result.notes
    assert written.SOPInstanceUID != source.SOPInstanceUID
    assert written.file_meta.MediaStorageSOPInstanceUID == written.SOPInstanceUID
    assert written.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert written.ImageType[0] == "DERIVED"
    again, _ = equalized(tmp_path / "b.dcm", tmp_path / "c.dcm")
    assert again.width == source.Columns


@pytest.mark.parametrize(
    "name",
    ["SC_rgb_rle.dcm", "SC_rgb_rle_16bit_2frame.dcm",
             "SC_ybr_full_422_uncompressed.dcm", "SC_rgb_dcmtk_+eb+cy+np.dcm",
             "examples_palette.dcm", "SC_rgb_small_odd.dcm",
             "SC_rgb_small_odd_big_endian.dcm", "SC_rgb_rle_2frame.dcm"],
)  # fmt: skip
def test_colour(tmp_path, name):
    from pydicom.pixels import apply_color_lut

    source = pydicom.dcmread(named(name))
    pixels = source.pixel_array
    if source.PhotometricInterpretation == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, source)
    _, written = equalized(named(name), tmp_path / "b.dcm")
    assert written.PhotometricInterpretation == "RGB"
    layout = "NHWC" if pixels.ndim == 4 else "HWC"
    expected = histeq.equalize(pixels, color="luma", layout=layout, backend="numpy")
    np.testing.assert_array_equal(written.pixel_array, expected)
    assert not [element for element in written if "Palette" in element.keyword]


def changed(path, target, **attributes):
    data = pydicom.dcmread(path)
    for name, value in attributes.items():
        setattr(data, name, value)
    data.save_as(target)
    return target


def test_monochrome1_is_equalized_as_it_is_seen(tmp_path):
    path = changed(named("examples_overlay.dcm"), tmp_path / "a.dcm", PhotometricInterpretation="MONOCHROME1")
    stored = pydicom.dcmread(path).pixel_array
    _, written = equalized(path, tmp_path / "b.dcm")
    assert written.PhotometricInterpretation == "MONOCHROME1"
    expected = 4095 - histeq.equalize(4095 - stored, value_range=(0, 4095), backend="numpy")
    np.testing.assert_array_equal(written.pixel_array, expected)


def test_padding_is_not_counted_and_stays(tmp_path):
    data = pydicom.dcmread(named("CT_small.dcm"))
    pixels = data.pixel_array.copy()
    pixels[:40] = -2000
    data.set_pixel_data(pixels, "MONOCHROME2", 16)
    data.save_as(tmp_path / "a.dcm")
    _, written = equalized(tmp_path / "a.dcm", tmp_path / "b.dcm")
    np.testing.assert_array_equal(written.pixel_array == -2000, pixels == -2000)
    assert written.PixelPaddingValue == -2000
    np.testing.assert_array_equal(written.pixel_array, histeq.equalize(pixels, nodata=-2000, backend="numpy"))


def test_to_8_bits_and_to_other_formats(tmp_path):
    _, written = equalized(named("MR_small.dcm"), tmp_path / "b.dcm", out_dtype="uint8")
    assert (written.BitsAllocated, written.BitsStored, written.PixelRepresentation) == (8, 8, 0)
    assert (written.pixel_array.min(), written.pixel_array.max()) == (0, 255)
    assert (written.WindowCenter, written.WindowWidth) == (128, 256)
    histeq.clahe_file(named("MR_small.dcm"), tmp_path / "b.tif", backend="numpy")
    histeq.equalize_file(named("examples_palette.dcm"), tmp_path / "b.png", backend="numpy")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("rtdose.dcm", "32 bits are not handled"),
        ("liver_1frame.dcm", "1 bits are not handled"),
        ("test-SR.dcm", "no image of integers"),
        ("MR_truncated.dcm", "it has 8130 of 8192 bytes of pixels; --lenient"),
    ],
)
def test_what_is_refused(tmp_path, name, says):
    with pytest.raises(FileError, match=says):
        histeq.equalize_file(named(name), tmp_path / "b.dcm", backend="numpy")
    assert not (tmp_path / "b.dcm").exists()


def test_a_truncated_file_leniently(tmp_path):
    result, written = equalized(named("MR_truncated.dcm"), tmp_path / "b.dcm", lenient=True)
    assert result.damage == ("it has 8130 of 8192 bytes of pixels",)
    assert written.pixel_array.shape == (64, 64)


def test_no_dicom_is_made_of_other_formats(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((9, 9), np.uint8))
    with pytest.raises(FileError, match="made from a DICOM file only"):
        histeq.equalize_file(tmp_path / "a.npy", tmp_path / "b.dcm")


def test_the_limit_on_pixels(tmp_path):
    with pytest.raises(FileError, match="4096 pixels are more than --max-pixels 4000"):
        histeq.equalize_file(named("MR_small.dcm"), tmp_path / "b.dcm", max_pixels=4000)


def test_frames_are_pages():
    with opened(named("SC_rgb_rle_16bit_2frame.dcm")) as source:
        assert (source.header.pages, source.header.layout) == (2, "NHWC")
        assert source.read(Window(1, 3, 4, 5, 6)).shape == (5, 6, 3)
