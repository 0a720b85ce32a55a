"""Files of kinds that are not read: what they are, by their first bytes, and what makes a picture of them."""

SIZE = 512
"""How many bytes of a file are looked at."""

_RAW = "a raw photograph ({}): develop it first, with darktable, RawTherapee or dcraw, into TIFF"
_FILM = "a film ({}), not a picture: histeq video takes films"
_CONVERT = "{}: convert it to TIFF or PNG first"
_ARRAY = "{}: save the image in it as TIFF, Zarr or NPY first"
_PACKED = "a packed file ({}): unpack it first"

# An offset, the bytes there, and what they say. What looks like another format comes before it.
_SIGNATURES = (
    (8, b"CR\x02", _RAW.format("Canon CR2")),
    (4, b"ftypcrx", _RAW.format("Canon CR3")),
    (0, b"FUJIFILMCCD-RAW", _RAW.format("Fujifilm RAF")),
    *((0, magic, _RAW.format("Olympus ORF")) for magic in (b"IIRO", b"IIRS", b"MMOR")),
    (0, b"IIU\0", _RAW.format("Panasonic RW2")),
    (0, b"FOVb", _RAW.format("Sigma X3F")),
    *(
        (4, b"ftyp" + brand, _CONVERT.format("a HEIF photograph, as of a phone"))
        for brand in (b"hei", b"hev")
    ),
    *((4, b"ftyp" + brand, _CONVERT.format("a HEIF photograph")) for brand in (b"mif1", b"msf1")),
    *((4, b"ftyp" + brand, _FILM.format("MP4")) for brand in (b"iso", b"mp4", b"M4V", b"avc1", b"3gp")),
    (4, b"ftypqt", _FILM.format("QuickTime")),
    (0, b"\x1aE\xdf\xa3", _FILM.format("Matroska or WebM")),
    (8, b"AVI ", _FILM.format("AVI")),
    (0, b"%PDF-", "a PDF file: take its pictures out first, with pdfimages, or its pages, with pdftoppm"),
    (0, b"%!PS", _CONVERT.format("a PostScript file")),
    (0, b"8BPS", _CONVERT.format("a Photoshop file (PSD)")),
    (0, b"gimp xcf", _CONVERT.format("a GIMP file (XCF)")),
    (0, b"\x76\x2f\x31\x01", _CONVERT.format("an OpenEXR file")),
    (0, b"#?RADIANCE", _CONVERT.format("a Radiance file (HDR)")),
    (0, b"\0\0\1\0", _CONVERT.format("an icon (ICO)")),
    (0, b"AT&TFORM", _CONVERT.format("a DjVu file")),
    (0, b"FORM", _CONVERT.format("an IFF file")),
    (0, b"<svg", _CONVERT.format("a drawing (SVG)")),
    (0, b"SIMPLE  =", _ARRAY.format("a FITS file")),
    (0, b"\x89HDF\r\n\x1a\n", _ARRAY.format("an HDF5 file (or netCDF, Imaris, ...)")),
    (0, b"CDF", _ARRAY.format("a netCDF file")),
    (0, b"MATLAB 5.0", _ARRAY.format("a MATLAB file")),
    (0, b"NRRD", _ARRAY.format("an NRRD file")),
    (344, b"n+1\0", _ARRAY.format("a NIfTI file")),
    (0, b"EHFA_HEADER_TAG", _ARRAY.format("an ERDAS file (IMG)")),
    (0, b"ZISRAWFILE", _ARRAY.format("a Zeiss file (CZI)")),
    (0, b"\xda\xce\xbe\x0a", _ARRAY.format("a Nikon file (ND2)")),
    (0, b"\x70\0\0\0", _ARRAY.format("a Leica file (LIF)")),
    (0, b"\x1f\x8b", _PACKED.format("gzip")),
    (0, b"BZh", _PACKED.format("bzip2")),
    (0, b"\xfd7zXZ", _PACKED.format("xz")),
    (0, b"7z\xbc\xaf", _PACKED.format("7z")),
    (0, b"Rar!", _PACKED.format("RAR")),
    (257, b"ustar", _PACKED.format("tar")),
    (0, b"\xd0\xcf\x11\xe0", "a file of Windows, such as Thumbs.db, not a picture"),
    (0, b"version https://git-lfs", "a pointer of Git LFS, not the file itself: git lfs pull fetches it"),
    *((0, text, "a web page, not a picture") for text in (b"<!DOCTYPE html", b"<!doctype html", b"<html")),
    (0, b"<?xml", "an XML file, not a picture"),
)


def described(start: bytes) -> str | None:
    """Return what a file is that begins with these bytes, and what to do; None if that is not known."""
    if start[:1] == b"P" and start[1:2] in b"1234567" and start[2:3].isspace():
        return _CONVERT.format("a Netpbm file")
    for offset, magic, says in _SIGNATURES:
        if start.startswith(magic, offset):
            return says
    return None
