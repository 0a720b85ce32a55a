"""JPEG, WebP and BMP, through Pillow; the pixels of JPEG through simplejpeg, which tells of damage.

Pillow's readers are called directly, not through `Image.open`, which warns about or rejects large pictures
by a limit of its own, whatever --max-pixels allows.
"""

import struct
import warnings
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from histeq._files import jpeg, photoshop
from histeq._files.blocks import Damage, Header, Item, Whole
from histeq._files.picture import Picture, Unfit, check_size

_GIF_COLOURS = 256
_WEBP_QUALITY = 85
"""Of lossy WebP from lossy WebP, which does not tell its own: files become up to twice as large as at 80."""


def open_jpeg(file: BinaryIO, limit: int, damage: Damage) -> Whole:
    """Return the source that a JPEG file is."""
    from PIL import JpegImagePlugin

    data = file.read()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow looks for a resolution in EXIF, which may be broken
        image = JpegImagePlugin.JpegImageFile(BytesIO(data))
    check_size(image.width * image.height, limit)
    keep = {
        "qtables": image.quantization,
        "subsampling": JpegImagePlugin.get_sampling(image),
        "progressive": "progressive" in image.info,
        "comment": image.info.get("comment"),
    }
    prefix = photoshop.PREFIX
    resources = b"".join(part[len(prefix) :] for _, part in image.applist if part.startswith(prefix))
    # Pillow takes 72 dpi for EXIF that says nothing: what EXIF says is found out with that of other formats.
    dpi = image.info.get("dpi") if image.info.get("jfif_unit") in (1, 2) else None
    own = _own_of_jpeg(image)
    grey = image.mode == "L"

    def decode() -> NDArray[Any]:
        pixels = jpeg.decode(data, grey, damage) if image.mode in ("L", "RGB") else None
        return _pixels(image, "L" if grey else "RGB") if pixels is None else pixels

    return _source(image, "JPEG", keep, damage, decode, dpi=dpi, resources=resources or None, own=own)


_KNOWN = (
    *(b"JFIF\0", b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0", photoshop.PREFIX),
    b"Adobe",  # how colours are encoded
)
"""What segments begin with that are taken care of."""
_NAMED = {
    b"MPF\0": "the other pictures in the file (MPO)",
    b"http://ns.adobe.com/xmp/extension/\0": "extended XMP",
    b"JFXX\0": "the thumbnail in JFIF",
    b"urn:iso:std:iso:ts:21496:-1\0": "the HDR gain map",
    b"JP": "the content credentials (C2PA)",
}


def _own_of_jpeg(image: Any) -> tuple[Item, ...]:
    """Return what only JPEG files have."""
    found = []
    for name, content in image.applist:
        if name == "COM":
            found.append(Item("the comment", ("JPEG",)))
        elif not content.startswith(_KNOWN):
            known = (words for start, words in _NAMED.items() if content.startswith(start))
            found.append(Item(next(known, f"the segment {name}")))
    x, y = image.info.get("jfif_density", (1, 1))
    if image.info.get("jfif_unit") == 0 and x != y:
        found.append(Item("the aspect ratio of the pixels"))
    return tuple(dict.fromkeys(found))


def open_webp(file: BinaryIO, limit: int, damage: Damage) -> Whole:
    """Return the source that a WebP file is."""
    from PIL import WebPImagePlugin

    data = file.read()
    width, height, lossless, others = _webp_header(data)
    check_size(width * height, limit)
    own = tuple(Item(f"the chunk {name}") for name in others)
    image = WebPImagePlugin.WebPImageFile(BytesIO(data))
    return _source(image, "WebP", {"lossless": lossless}, damage, own=own)


def _webp_header(data: bytes) -> tuple[int, int, bool, list[str]]:
    """Return the width, the height, whether it is lossless, and the names of unknown chunks.

    Pillow reports the size only after it has allocated the canvas.
    """
    size, position, lossless, others = None, 12, False, []
    while position + 18 <= len(data):
        name, length = struct.unpack_from("<4sI", data, position)
        body = data[position + 8 : position + 18]
        if name == b"VP8X":
            if body[0] & 2:
                raise Unfit("animated WebP files are not handled")
            size = (int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1)
        elif name == b"VP8L":
            bits = int.from_bytes(body[1:5], "little")
            size = size or ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
            lossless = True
        elif name == b"VP8 ":
            width, height = struct.unpack_from("<HH", body, 6)
            size = size or (width & 0x3FFF, height & 0x3FFF)
        elif name not in (b"ALPH", b"ICCP", b"EXIF", b"XMP "):
            others.append(name.decode("latin1").strip())
        position += 8 + length + length % 2
    if size is None:
        raise EOFError("the file is truncated")
    return *size, lossless, others


def open_bmp(file: BinaryIO, limit: int, damage: Damage) -> Whole:
    """Return the source that a BMP file is."""
    from PIL import BmpImagePlugin

    data = file.read()
    image = BmpImagePlugin.BmpImageFile(BytesIO(data))
    check_size(image.width * image.height, limit)
    # Version 5 of the header may say that there is a profile within, or in another file; Pillow ignores it.
    has_profile = data[14:15] >= b"\x7c" and data[70:74] in (b"DEBM", b"KNIL")

    def decode() -> NDArray[Any]:
        mode = _MODES[image.mode]
        try:
            return _pixels(image, mode)
        except OSError as error:
            damage.found(error)
        longer = BytesIO(data + bytes(8 * image.width * image.height))  # what is missing is black
        return _pixels(BmpImagePlugin.BmpImageFile(longer), mode)

    return _source(image, "BMP", {}, damage, decode, own=(Item("the ICC profile"),) if has_profile else ())


def open_gif(file: BinaryIO, limit: int, damage: Damage) -> Whole:
    """Return the source that a GIF file of one picture is."""
    from PIL import GifImagePlugin

    data = file.read()
    image = GifImagePlugin.GifImageFile(BytesIO(data))
    check_size(image.width * image.height, limit)
    if image.n_frames > 1:
        raise Unfit(
            "animated GIF files are pictures in a row: make a video of it, which `histeq video` takes"
        )
    image.seek(0)
    mode = "RGBA" if "transparency" in image.info else "L" if image.mode == "L" else "RGB"

    def decode() -> NDArray[Any]:
        try:
            return _pixels(image, mode)
        except (OSError, ValueError) as error:
            damage.found(error)
        raise EOFError("nothing can be decoded")

    return _source(image, "GIF", {}, damage, decode, mode)


def _pixels(image: Any, mode: str) -> NDArray[Any]:
    with image:
        return np.array(image.convert(mode))  # a copy: Pillow's own memory is read-only


_MODES = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB", "RGBA": "RGBA"}


def _source(
    image: Any,
    kind: str,
    keep: Mapping[str, Any],
    damage: Damage,
    decode: Callable[[], NDArray[Any]] | None = None,
    mode: str | None = None,
    dpi: Any = None,
    **found: Any,
) -> Whole:
    mode = mode or _MODES.get(image.mode)
    if mode is None:
        raise Unfit(f"{image.mode} pictures are not handled; convert it to grey or RGB")
    exif = image.info.get("exif")
    dpi = dpi if kind == "JPEG" else image.info.get("dpi")
    header = Header(
        format=kind,
        pages=1,
        height=image.height,
        width=image.width,
        channels=len(mode),
        dtype=np.dtype(np.uint8),
        layout="HW" if mode == "L" else "HWC",
        alpha=mode == "RGBA",
        icc=image.info.get("icc_profile"),
        exif=exif.removeprefix(b"Exif\0\0") if exif else None,
        xmp=image.info.get("xmp"),
        dpi=(float(dpi[0]), float(dpi[1])) if dpi and all(dpi) else None,
        keep=keep,
        **found,
    )
    return Whole(header, decode or (lambda: _pixels(image, mode)), damage)


def write_jpeg(picture: Picture, file: BinaryIO, quality: int | None) -> None:
    """Encode a JPEG file; by default a picture from a JPEG file keeps its quantization tables."""
    options: dict[str, Any] = {"quality": quality or 95}
    if picture.format == "JPEG":
        options = {name: value for name, value in picture.keep.items() if value is not None}
        if quality is not None:
            del options["qtables"]
            options["quality"] = quality
    resources = photoshop.joined(picture.resources, picture.iptc)
    if resources:
        content = photoshop.PREFIX + resources
        options["extra"] = b"\xff\xed" + struct.pack(">H", len(content) + 2) + content
    _save(picture, picture.first, file, "JPEG", options)


def write_webp(picture: Picture, file: BinaryIO, quality: int | None) -> None:
    """Encode a WebP file, lossy if the picture came from a lossy one."""
    lossy = picture.format == "JPEG" or picture.keep.get("lossless") is False
    # exact: keep the colour of transparent pixels.
    usual = _WEBP_QUALITY if picture.format == "WebP" else 95
    options = {"lossless": quality is None and not lossy, "quality": quality or usual, "exact": True}
    pixels = picture.batch[0]
    if picture.channels < 3:  # WebP has no grey format
        pixels = np.concatenate([pixels[..., :1]] * 3 + [pixels[..., 1:]], axis=-1)
    _save(picture, np.ascontiguousarray(pixels), file, "WEBP", options)


def write_bmp(picture: Picture, file: BinaryIO, quality: int | None) -> None:
    """Encode a BMP file."""
    _save(picture, picture.first, file, "BMP", {})


def write_gif(picture: Picture, file: BinaryIO, quality: int | None) -> None:
    """Encode a GIF file of the colours that the picture has."""
    from PIL import Image

    pixels = picture.first
    if picture.channels == 1:
        _save(picture, pixels, file, "GIF", {})
        return
    flat = pixels.reshape(-1, picture.channels)
    colours, index = np.unique(flat, axis=0, return_inverse=True)
    opaque = colours[:, 3] if picture.alpha else np.full(len(colours), 255)
    if len(colours) > _GIF_COLOURS or not np.isin(opaque, (0, 255)).all() or (opaque == 0).sum() > 1:
        raise Unfit(f"GIF holds 256 colours, each opaque or not, and the picture has {len(colours)}")
    image = Image.fromarray(index.reshape(pixels.shape[:2]).astype(np.uint8), "P")
    image.putpalette(colours[:, :3].tobytes())
    options = {"transparency": int(np.argmin(opaque))} if (opaque == 0).any() else {}
    image.save(file, "GIF", **options)


def _save(picture: Picture, pixels: NDArray[Any], file: BinaryIO, kind: str, options: dict[str, Any]) -> None:
    from PIL import Image

    carried = {"icc_profile": picture.icc, "xmp": picture.xmp, "dpi": picture.dpi}
    if picture.exif:
        carried["exif"] = b"Exif\0\0" + picture.exif
    options |= {name: value for name, value in carried.items() if value}
    Image.fromarray(pixels).save(file, kind, **options)
