"""Files with metadata, made on the fly, and what independent readers find in files: Pillow and tifffile."""

import io
import struct
import zlib

import numpy as np
import tifffile
from PIL import Image, ImageCms, TiffImagePlugin
from PIL.PngImagePlugin import PngInfo

RANDOM = np.random.default_rng(3)
RGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY = RGB[:16] + b"GRAY" + RGB[20:]
XMP = (
    b'<?xpacket begin=""?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/'
    b'22-rdf-syntax-ns#"><rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format='
    b'"image/x"/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
IPTC = b"\x1c\x02\x78\x00\x09a caption" + b"\x1c\x02\x19\x00\x04word"
ARTIST = "Ünïcode".encode()
HEIGHT, WIDTH = 48, 64
PLACE = b"\0\x01ab"


def pixels(channels=3, dtype="uint8", contrast=60):
    """Return something smooth of low contrast."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    planes = [(y * (i + 1) + x) % 120 * contrast // 120 + 90 for i in range(channels)]
    image = np.stack(planes, -1).astype(dtype)
    return image[..., 0] if channels == 1 else image


def jpeg(image, **options):
    """Return a JPEG file."""
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG", **options)
    return data.getvalue()


def exif(*, orientation=6, thumbnail=True, order="<"):
    """Return an EXIF block with its own directory, GPS, the maker's notes and a thumbnail."""
    big = order == ">"
    head = b"MM\0*\0\0\0\x08" if big else b"II*\0\x08\0\0\0"

    def directory(**tags):
        ifd = TiffImagePlugin.ImageFileDirectory_v2(head)
        for name, (kind, value) in tags.items():
            ifd.tagtype[int(name[1:])] = kind
            ifd[int(name[1:])] = value
        return ifd

    def rational(number):
        return TiffImagePlugin.IFDRational(*number)

    own = directory(
        t33434=(5, rational((1, 250))), t36867=(2, b"2020:01:02 03:04:05"), t37380=(10, rational((-1, 3))),
        t36864=(7, b"0232"), t37500=(7, b"maker's own notes"), t40962=(4, WIDTH), t40963=(4, HEIGHT),
    )  # fmt: skip
    gps = directory(
        t1=(2, b"N"), t2=(5, (rational((48, 1)), rational((12, 1)), rational((5, 2)))),
    )  # fmt: skip
    first = directory(
        t271=(2, b"a camera"), t274=(3, orientation), t315=(2, ARTIST), t34665=(4, 0), t34853=(4, 0)
    )
    start = 8 + len(first.tobytes(8))
    first[34665], after = start, own.tobytes(start)
    first[34853] = start + len(after)
    block = head + first.tobytes(8) + after + gps.tobytes(start + len(after))
    if not thumbnail:
        return block
    small = jpeg(np.zeros((12, 16, 3), np.uint8))
    second = directory(t259=(3, 6), t513=(4, 0), t514=(4, len(small)))
    block += b"\0" * (len(block) % 2)
    second[513] = len(block) + len(second.tobytes(len(block)))
    link = 8 + 2 + 12 * 5
    block = block[:link] + struct.pack(order + "I", len(block)) + block[link + 4 :]
    return block + second.tobytes(len(block)) + small


def resource(number, content):
    """Return one of Photoshop's resources."""
    return struct.pack(">4sHHI", b"8BIM", number, 0, len(content)) + content + b"\0" * (len(content) % 2)


RESOURCES = resource(0x040A, b"\1")  # whether there is a copyright
OLD_RESOURCES = RESOURCES + resource(0x040C, b"\0" * 40) + resource(0x0404, IPTC)


def segment(marker, content):
    """Return a segment of a JPEG file."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def chunk(name, content):
    """Return a chunk of a PNG file."""
    return struct.pack(">I4s", len(content), name) + content + struct.pack(">I", zlib.crc32(name + content))


def make_jpeg(path):
    """A camera's JPEG file, edited in Photoshop, with an HDR gain map."""
    app13 = segment(0xED, b"Photoshop 3.0\0" + OLD_RESOURCES)
    mpf = segment(0xE2, b"MPF\0" + b"II*\0\x08\0\0\0\0\0")
    path.write_bytes(
        jpeg(
            pixels(),
            quality=70,
            subsampling=0,
            exif=b"Exif\0\0" + exif(),
            icc_profile=RGB,
            xmp=XMP,
            dpi=(300, 300),
            comment=b"a word",
            extra=app13 + mpf,
        )
    )


def make_png(path):
    """A PNG file with all kinds of chunks."""
    texts = PngInfo()
    texts.add_text("Author", "someone")
    texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
    data = io.BytesIO()
    Image.fromarray(pixels()).save(
        data, "PNG", exif=b"Exif\0\0" + exif(), icc_profile=RGB, dpi=(300, 300), pnginfo=texts
    )
    more = chunk(b"gAMA", struct.pack(">I", 45455)) + chunk(b"tIME", struct.pack(">H5B", 2001, 2, 3, 4, 5, 6))
    more += chunk(b"bKGD", struct.pack(">3H", 1, 2, 3)) + chunk(b"teSt", b"safe to copy")
    path.write_bytes(data.getvalue()[:33] + more + data.getvalue()[33:])


def make_webp(path):
    """A lossy WebP file."""
    Image.fromarray(pixels()).save(path, exif=exif(), icc_profile=RGB, xmp=XMP, quality=80)


def make_bmp(path):
    """A BMP file, which has a resolution."""
    Image.fromarray(pixels()).save(path, dpi=(300, 300))


GDAL = (
    b'<GDALMetadata><Item name="STATISTICS_MAXIMUM" sample="0">9</Item><Item name="OFFSET" sample="0" '
    b'role="offset">-10</Item><Item name="SCALE" sample="0" role="scale">0.5</Item><Item name="a">b</Item>'
    b"</GDALMetadata>\0"
)
GEO = [
    (33550, 12, 3, (30.0, 30.0, 0.0), True),
    (33922, 12, 6, (0.0, 0.0, 0.0, 5e5, 4.1e6, 0.0), True),
    (34735, 3, 8, (1, 1, 0, 1, 1024, 0, 1, 1), True),
]


def make_tiff(path):
    """A TIFF file of a photograph, by Pillow, which writes EXIF as directories of their own."""
    found = Image.Exif()
    found.load(b"Exif\0\0" + exif(thumbnail=False))
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for code, kind, value in (
        (700, 1, XMP), (33723, 7, IPTC), (274, 3, 6), (34377, 7, OLD_RESOURCES), (34675, 7, RGB),
        (271, 2, b"a camera"), (315, 2, ARTIST), (37724, 7, b"layers"), (65000, 7, b"mine, all mine"),
        (65001, 4, 8), (34665, 4, found.get_ifd(34665)), (34853, 4, found.get_ifd(34853)),
    ):  # fmt: skip
        tags.tagtype[code] = kind
        tags[code] = value
    Image.fromarray(pixels()).save(path, tiffinfo=tags, dpi=(300, 300))


def make_geotiff(path):
    """A GeoTIFF file as GDAL writes it."""
    tags = [*GEO, (42112, 2, len(GDAL), GDAL, True), (42113, 2, 4, b"200\0", True)]
    tifffile.imwrite(path, pixels(1), extratags=tags, metadata=None)
    path.with_suffix(".prj").write_text("LOCAL_CS")


def make_imagej(path):
    """An ImageJ stack of one image with what was displayed, a label and an overlay."""
    tifffile.imwrite(
        path, pixels(1), imagej=True, resolution=(2, 2),
        metadata={"min": 90.0, "max": 150.0, "Info": "a note", "Ranges": (90.0, 150.0), "unit": "um",
                  "LUTs": [np.tile(np.arange(256, dtype=np.uint8), (3, 1))], "Overlays": b"Iout" * 9},
    )  # fmt: skip


def make_ome(path):
    """An OME-TIFF file."""
    tifffile.imwrite(path, pixels(1, "uint16"), ome=True, metadata={"axes": "YX", "PhysicalSizeX": 0.5})
