"""Everything in a video file but the pictures: audio, subtitles, attachments, chapters, metadata."""

from collections.abc import Iterator, Sequence
from typing import Any

from histeq._files.picture import Unfit

# What describes the file that is read, and is made anew for the one that is written.
_OWN = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "bps", "number_of_frames",
        "number_of_bytes", "alpha_mode", "stereo_mode"}  # fmt: skip
# What MP4 stores in atoms of its own; for other names there is a table, which not every player reads.
_ATOMS = {"title", "artist", "album_artist", "author", "composer", "album", "date", "comment", "genre",
          "copyright", "grouping", "lyrics", "description", "synopsis", "show", "episode_id", "network",
          "keywords", "creation_time", "timecode", "language", "encoder", "handler_name", "track",
          "disc"}  # fmt: skip
_MP4 = ("mp4", "mov", "3gp")
_TEXT = {"subrip", "srt", "mov_text", "text"}
_ATTACHING = ("matroska",)


class Copied:
    """A stream whose packets are written as they are read."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def packets(self, packet: Any) -> Iterator[Any]:
        """Yield what is to be written for a packet."""
        packet.stream = self._target
        yield packet


class Subtitles(Copied):
    """Plain text between Matroska's subtitles and MP4's, which have the text's length before it."""

    def __init__(self, target: Any, to_mp4: bool) -> None:
        super().__init__(target)
        self._to_mp4 = to_mp4

    def packets(self, packet: Any) -> Iterator[Any]:
        """Yield the packet with its text in the other form; none where MP4 has an empty one for a pause."""
        from av.packet import Packet

        text = bytes(packet)
        if self._to_mp4:
            text = len(text).to_bytes(2, "big") + text
        else:
            text = text[2 : 2 + int.from_bytes(text[:2], "big")]
            if not text:
                return
        other = Packet(text)
        other.pts, other.dts, other.duration = packet.pts, packet.dts, packet.duration
        other.time_base, other.is_keyframe = packet.time_base, True
        other.stream = self._target
        yield other


def muxer_options(format: str, source: Any) -> dict[str, str]:
    """Return the options of a container."""
    if format == "yuv4mpegpipe":
        return {"strict": "-1"}  # more than 8 bits
    if format not in _MP4:
        return {}
    own = source.container is not None and own_names(source) and not _has_cover(source)
    return {"movflags": "+faststart" + ("+use_metadata_tags" if own else "")}


def own_names(source: Any) -> list[str]:
    """Return the names of a file's metadata that MP4 has no place of its own for."""
    return [name for name in kept_metadata(source.container.metadata) if name.lower() not in _ATOMS]


def _has_cover(source: Any) -> bool:
    """Tell whether a picture is attached: MP4 stores it beside the metadata it knows, or the other names."""
    from av.stream import Disposition

    return any(stream.disposition & Disposition.attached_pic for stream in source.container.streams)


def kept_metadata(metadata: dict[str, str]) -> dict[str, str]:
    """Return what stays true of a file or a stream."""
    return {
        name: value
        for name, value in metadata.items()
        if name.lower().split("-")[0] not in _OWN and not name.startswith("_STATISTICS")
    }


def add(container: Any, stream: Any, source: Any, drop: Sequence[str]) -> tuple[Copied | None, str]:
    """Add a stream like one of the source's; return it, or None and what is said about that.

    Raises
    ------
    Unfit
        If the container cannot hold it.
    """
    if stream.type in drop:
        return None, ""
    if stream.type in ("data", "unknown"):
        return None, _about_data(stream, source)
    if stream.type == "attachment":
        if container.format.name.split(",")[0] not in _ATTACHING:
            return None, f"the attachment {stream.metadata.get('filename', stream.index)}"
        container.add_stream_from_template(stream)
        return None, ""
    try:
        target = container.add_stream_from_template(stream, opaque=True)
        kept = Copied(target)
    except (ValueError, AttributeError) as error:
        converted = _converted(container, stream)
        if converted is None:
            raise Unfit(
                f"{container.format.name} cannot hold stream {stream.index} ({_named(stream)}): choose "
                f"another container, or leave it out with --drop {stream.type}"
            ) from error
        kept, target = converted
    target.metadata.update(kept_metadata(stream.metadata))
    target.disposition = stream.disposition
    return kept, ""


def _converted(container: Any, stream: Any) -> tuple[Copied, Any] | None:
    """Add a stream of subtitles in the container's own kind of text, if they are plain text."""
    if stream.type != "subtitle" or stream.codec_context.name not in _TEXT:
        return None
    to_mp4 = container.format.name in _MP4
    other = "mov_text" if to_mp4 else "subrip"
    if other not in container.supported_codecs:
        return None
    target = container.add_mux_stream(other, time_base=stream.time_base)
    return Subtitles(target, to_mp4), target


def _named(stream: Any) -> str:
    codec = stream.codec_context.name if stream.codec_context is not None else "unknown codec"
    return f"{stream.type}, {codec}"


def _about_data(stream: Any, source: Any) -> str:
    """Return what is lost with a stream of data: nothing if it holds chapters or a time code."""
    if (
        source.container.chapters()
        and stream.metadata.get("handler_name", "SubtitleHandler") == "SubtitleHandler"
    ):
        return ""
    if "timecode" in stream.metadata:
        return ""
    return f"the data of stream {stream.index}"


def describe(container: Any, source: Any, video: Any) -> list[str]:
    """Copy the metadata of the file and of its video, and the chapters; return notes on what is not kept."""
    container.metadata.update(kept_metadata(source.container.metadata))
    video.metadata.update(kept_metadata(source.stream.metadata))
    for stream in source.container.streams:
        if stream.type == "data" and "timecode" in stream.metadata:
            container.metadata.setdefault("timecode", stream.metadata["timecode"])
    video.disposition = source.stream.disposition
    chapters = source.container.chapters()
    if chapters:
        container.set_chapters(chapters)
    lost = own_names(source) if container.format.name in _MP4 and _has_cover(source) else []
    return [f"the metadata {', '.join(lost)}"] if lost else []
