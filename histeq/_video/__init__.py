"""Video: decoded by PyAV, equalized in place, encoded again, with everything else in the file kept.

Nothing but this package imports PyAV, and only when a video is opened. A `Source` yields frames, and packets
of streams that are copied; a `Sink` takes them; `run` is the loop between them.
"""
