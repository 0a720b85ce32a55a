"""Which encoder writes a video, with which pixels and options."""

import dataclasses
import os
from fractions import Fraction
from typing import Any

from histeq._files.picture import Unfit
from histeq._video.pixels import FULL, Recipe

# The encoder of a codec, where it has another name.
_ENCODERS = {
    "h264": "libx264", "hevc": "libx265", "h265": "libx265", "av1": "libsvtav1", "vp8": "libvpx",
    "vp9": "libvpx-vp9", "prores": "prores_ks",
}  # fmt: skip
# What `quality` and `preset` set, and the default quality, which is a little better than the encoder's own:
# equalized footage shows more.
_CRF = {"libx264": 20, "libx264rgb": 20, "libx265": 22, "libsvtav1": 28, "libvpx-vp9": 28, "libvpx": 10}
_PRESET = {"libx264": "preset", "libx264rgb": "preset", "libx265": "preset", "libsvtav1": "preset",
           "libvpx-vp9": "cpu-used", "libvpx": "cpu-used"}  # fmt: skip
_DEFAULTS = {
    "libvpx-vp9": {"b": "0", "row-mt": "1", "cpu-used": "4"},
    "libvpx": {"b": "100M", "cpu-used": "4"},
    "libsvtav1": {"preset": "8"},
    "ffv1": {"level": "3"},
}
_SCALED = (
    "mpeg4",
    "mpeg2video",
    "mpeg1video",
    "mjpeg",
    "flv",
    "h263p",
    "msmpeg4",
    "msmpeg4v2",
    "wmv1",
    "wmv2",
)
_SCALE = 3  # of those: 1 (best) to 31
_PROFILES = {
    "prores_ks": {"Proxy": "proxy", "LT": "lt", "Standard": "standard", "HQ": "hq", "4444": "4444",
                  "XQ": "4444xq", "4444XQ": "4444xq"},
    "dnxhd": {"DNXHR LB": "dnxhr_lb", "DNXHR SQ": "dnxhr_sq", "DNXHR HQ": "dnxhr_hq",
              "DNXHR HQX": "dnxhr_hqx", "DNXHR 444": "dnxhr_444"},
}  # fmt: skip
# Whose times are multiples of one duration.
_CONSTANT_CODECS = ("mpeg4", "mpeg2video", "mpeg1video", "h263p", "msmpeg4", "msmpeg4v2", "wmv1", "wmv2")
_CONSTANT_FORMATS = ("avi", "yuv4mpegpipe")
_RAW_FORMATS = {"yuv4mpegpipe": "wrapped_avframe", "nut": "rawvideo"}
"""What is written to a pipe: frames as they are."""

# Pixel formats that containers tell apart when frames are stored as they are; from others they make noise.
_YUV = "yuv420p yuv422p yuv444p"
_DEEP_YUV = " ".join(
    f"yuv{sampling}p{bits}le" for sampling in (420, 422, 444) for bits in (9, 10, 12, 14, 16)
)
_RAW_PIXELS = {
    "nut": f"gray gray10le gray12le gray14le gray16le gray16be ya8 yuv410p yuv411p {_YUV} yuv440p yuva420p "
    "yuva422p yuva444p nv12 nv21 yuyv422 uyvy422 rgb24 bgr24 rgba bgra argb abgr rgb0 bgr0 rgb48le "
    f"rgb48be rgba64le gbrp gbrap gbrp9le gbrp10le gbrp12le gbrp14le gbrp16le gbrap10le gbrap12le gbrap16le "
    f"{_DEEP_YUV} yuva420p10le yuva422p10le yuva444p10le yuva420p16le yuva422p16le yuva444p16le",
    "yuv4mpegpipe": f"gray gray10le gray12le gray16le yuv411p {_YUV} {_DEEP_YUV}",
    "avi": "gray yuv410p yuv411p yuv420p yuv422p nv12 nv21 yuyv422 uyvy422 bgr24 rgba bgra",
    "matroska": "gray yuv410p yuv411p yuv420p yuv422p nv12 nv21 yuyv422 uyvy422 rgba",
    "mov": "gray16be yuyv422 uyvy422 rgb24 bgr24 rgba bgra argb abgr rgb48be",
}

# What containers hold that FFmpeg does not ask.
_HELD = {
    "mpegts": ("libx264", "libx265", "mpeg1video", "mpeg2video", "mpeg4"),
    "vob": ("mpeg2video", "mpeg1video", "libx264"),
    "yuv4mpegpipe": ("wrapped_avframe",),
    "mxf": ("mpeg2video", "prores_ks", "dnxhd", "libx264"),
    "ogv": ("libvpx",),
}

_FIELDS = ("libx264", "libx264rgb", "mpeg2video", "mpeg4", "prores_ks", "dnxhd")
"""Encoders that keep the two fields of interlaced frames apart."""
_LOSSLESS = ("ffv1", "rawvideo", "wrapped_avframe", "utvideo", "huffyuv", "ffvhuff", "magicyuv")

_LIMITED = ("yuv420p", "yuv422p", "yuv444p")
"""Formats of limited range, of which those with yuvj in place of yuv have the full one."""
_DNXHR = {
    "yuv422p": "dnxhr_hq",
    "yuv422p10le": "dnxhr_hqx",
    "yuv444p10le": "dnxhr_444",
    "gbrp10le": "dnxhr_444",
}
"""The profile of DNxHR for a pixel format. It takes frames of any size, and DNxHD only some."""

_COLORS = ("color_range", "color_primaries", "color_trc", "colorspace")
_FLAGS = {"frame_duration": 1 << 8, "interlaced_dct": 1 << 18, "interlaced_me": 1 << 29}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the caller asks of the encoder."""

    codec: str | None = None
    quality: int | None = None
    preset: str | None = None


def choose(
    container: Any, codec: str | None, how: Recipe, wanted: Wanted, raw: bool
) -> tuple[str, list[str]]:
    """Return the encoder to use, and notes about the choice.

    That of the input's codec, if there is one and the container can hold it; else the container's default.
    A sequence of images has no codec.

    Parameters
    ----------
    raw : bool
        Whether frames go into a pipe, uncompressed unless a codec is named.
    """
    if wanted.codec is not None:
        name = _encoder(wanted.codec, how)
        if name is None:
            raise Unfit(f"there is no video encoder named {wanted.codec}")
        if not _holds(container, name):
            raise Unfit(f"{container.format.name} cannot hold {wanted.codec}")
        return name, []
    if container.format.name == "yuv4mpegpipe" or (raw and container.format.name in _RAW_FORMATS):
        return _RAW_FORMATS[container.format.name], []
    name = _encoder(codec, how) if codec else None
    if name is not None and _holds(container, name):
        return name, []
    if codec is None and container.default_video_codec == "h264":
        return "libx264", []  # and not RGB, which few players show
    fallback = _encoder(container.default_video_codec, how)
    if fallback is None or not _holds(container, fallback):
        raise Unfit(f"{container.format.name} holds no video that can be written")
    if codec is None:
        return fallback, []
    why = "there is no encoder" if name is None else f"{container.format.name} cannot hold it"
    return fallback, [f"the codec {codec}: {why}, so it became {container.default_video_codec}"]


def _encoder(codec: str, how: Recipe) -> str | None:
    from av.codec import Codec

    name = _ENCODERS.get(codec, codec)
    if name == "libx264" and how.layout == "HWC":
        name = "libx264rgb"
    if name == "libvpx-vp9" and how.bits > 8:
        name = "libsvtav1"
    try:
        found = Codec(name, "w")
    except ValueError:
        return None
    return name if found.type == "video" else None


def _holds(container: Any, encoder: str) -> bool:
    """Tell whether a container can hold what an encoder writes; FFmpeg takes anything into some of them."""
    import av

    name = container.format.name
    if name in _HELD:
        return encoder in _HELD[name]
    with av.open("none", "w", format=name) as other:  # no file is made before the first packet
        try:
            other.add_stream(encoder)
        except ValueError:
            return False
    return True


def _offered(encoder: str, container: str) -> list[str]:
    """Return the pixel formats that an encoder takes; none: all."""
    from av.codec import Codec

    if encoder in ("rawvideo", "wrapped_avframe"):
        return _RAW_PIXELS.get(container, "").split()
    return [format.name for format in Codec(encoder, "w").video_formats or ()]


def pixel_format(encoder: str, container: str, how: Recipe) -> tuple[str, list[str]]:
    """Return the pixel format for an encoder that is nearest to the frames', and notes on what changes."""
    from av.codec.codec import PixFmtLoss, find_best_pix_fmt_of_list

    offered = _offered(encoder, container)
    if encoder == "mjpeg":
        offered = [name for name in offered if name not in _LIMITED]
        if how.format in _LIMITED and how.value_range[0]:
            name = how.format.replace("yuv", "yuvj")
            return name, [f"the limited range: {encoder} stores the full one"]
    if not offered or how.format in offered:
        return how.format, []
    if how.format.endswith("be") and how.format[:-2] + "le" in offered:
        return how.format[:-2] + "le", []
    best, loss = find_best_pix_fmt_of_list(offered, how.format, "a" in how.format)
    if best is None or best.has_palette or best.components[0].bits < 8:
        raise Unfit(f"{encoder} writes palettes only, and what is equalized has none: choose another --codec")
    lossless = not loss & ~PixFmtLoss.NONE
    return best.name, [] if lossless else [f"the pixel format {how.format}: {encoder} writes {best.name}"]


def pixel_format_of_images(encoder: str, container: str, how: Recipe, first: Any) -> str:
    """Return the pixel format of a video made of images: what most players show, where that is possible."""
    offered = _offered(encoder, container)
    if encoder == "mjpeg":
        return "yuvj444p" if how.layout == "HWC" else "gray" if "gray" in offered else "yuvj420p"
    if how.layout == "HWC" and "yuv420p" in offered and how.format not in offered:
        even = first.width % 2 == 0 and first.height % 2 == 0
        deep = "10le" if how.bits > 8 else ""
        for name in (("yuv420p" if even else "yuv444p") + deep, "yuv420p" if even else "yuv444p", "yuv420p"):
            if name in offered:
                return name
    return pixel_format(encoder, container, how)[0]


def has_constant_rate(container: Any, encoder: str) -> bool:
    """Tell whether all frames last equally long in the output."""
    return encoder in _CONSTANT_CODECS or container.format.name in _CONSTANT_FORMATS


def options(
    encoder: str, container: str, pixels: str, wanted: Wanted, stream: Any, first: Any
) -> dict[str, str]:
    """Return the options of an encoder; `pixels` is the pixel format that it is given."""
    chosen = dict(_DEFAULTS.get(encoder, {}))
    if encoder in _CRF:
        chosen["crf"] = str(_CRF[encoder] if wanted.quality is None else wanted.quality)
    elif encoder in _SCALED:  # global_quality would do nothing: it is each frame's that they go by
        chosen["qmin"] = chosen["qmax"] = str(wanted.quality or _SCALE)
    elif wanted.quality is not None:
        raise Unfit(f"{encoder} takes no --quality")
    if wanted.preset is not None:
        if encoder not in _PRESET:
            raise Unfit(f"{encoder} takes no --preset")
        chosen[_PRESET[encoder]] = wanted.preset
    profile = "" if stream is None else _PROFILES.get(encoder, {}).get(stream.codec_context.profile or "", "")
    if encoder == "dnxhd" and (stream is None or stream.codec_context.name != "dnxhd"):
        profile = _DNXHR.get(pixels, "")
    if profile:
        chosen["profile"] = profile
    if encoder == "libx265":
        chosen["x265-params"] = ":".join(["log-level=none", *_hdr10(first), *_fields(stream, first)])
    if encoder == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "0")  # it prints to standard error
    if container == "avi":
        chosen["bf"] = "0"  # it stores no times: frames must come in the order in which they are shown
    if encoder == "dnxhd" and not profile and stream is not None and stream.bit_rate:
        chosen["b"] = str(stream.bit_rate)
    return chosen


def configure(target: Any, encoder: str, stream: Any, first: Any) -> None:
    """Set up the context of the output's video stream: size, colours, fields."""
    context = target.codec_context
    context.width, context.height = first.width, first.height
    context.flags |= _FLAGS["frame_duration"]
    for name in _COLORS:
        context_of_source = first if stream is None else stream.codec_context
        setattr(context, name, getattr(first, name) or getattr(context_of_source, name))
    if target.pix_fmt.startswith("yuvj"):
        context.color_range = FULL
    if stream is not None and stream.sample_aspect_ratio:
        context.sample_aspect_ratio = stream.sample_aspect_ratio
    if first.interlaced_frame and encoder in _FIELDS:
        context.flags |= _FLAGS["interlaced_dct"] | _FLAGS["interlaced_me"]
        context.field_order = stream.codec_context.field_order
    context.thread_type = "AUTO"


def loses_fields(encoder: str, first: Any) -> bool:
    """Tell whether interlaced frames become whole ones."""
    return first.interlaced_frame and encoder not in (*_FIELDS, *_LOSSLESS, "libx265")


def _fields(stream: Any, first: Any) -> list[str]:
    if not first.interlaced_frame:
        return []
    return ["interlace=bff" if stream.codec_context.field_order in (3, 5) else "interlace=tff"]


def _hdr10(first: Any) -> list[str]:
    """Return x265's parameters for a frame's mastering display and light level, if it has them."""
    from av.sidedata.sidedata import Type

    texts = []
    mastering = first.side_data.get(Type.MASTERING_DISPLAY_METADATA)
    if mastering is not None:
        numbers = memoryview(bytes(mastering)[:80]).cast("i")
        values = [Fraction(numbers[i], numbers[i + 1] or 1) for i in range(0, 20, 2)]
        r, g, b, white = ([round(v * 50000) for v in values[i : i + 2]] for i in range(0, 8, 2))
        low, high = (round(v * 10000) for v in values[8:])
        primaries = f"G({g[0]},{g[1]})B({b[0]},{b[1]})R({r[0]},{r[1]})WP({white[0]},{white[1]})"
        texts += ["hdr10=1", "repeat-headers=1", f"master-display={primaries}L({high},{low})"]
    light = first.side_data.get(Type.CONTENT_LIGHT_LEVEL)
    if light is not None:
        most, average = memoryview(bytes(light)[:8]).cast("I")
        texts += [f"max-cll={most},{average}"]
    return texts
