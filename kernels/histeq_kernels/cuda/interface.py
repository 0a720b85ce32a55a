"""What the host and the kernels agree on: constants, and the structures that kernels take by value.

The constants are written here alone. Every compiler gets them as macros (`DEFINES`). A test compiles each
structure's size and the offset of every field against the dtypes below.
"""

import numpy as np

# Launches ---------------------------------------------------------------------------------------------

WARP = 32
"""Lanes of a warp."""
THREADS = 512
"""Threads of every block. Four blocks fill the 2048 threads of an sm_80, sm_90 or sm_100 multiprocessor, two
the 1024 of an sm_75; and sixteen warps share the 32 KB of counters that each block has."""
RESIDENT_BLOCKS = 2
"""Blocks that a multiprocessor holds at once: every kernel keeps within 64 registers a thread."""

# Loads ------------------------------------------------------------------------------------------------

VECTOR = 16
"""Bytes of one load."""
VECTORS = 4
"""Loads that a thread has in flight: 4 of 16 bytes each keep 128 KB under way in a full multiprocessor, more
than bandwidth times latency asks for (4.8 TB/s x 0.7 us / 132 = 26 KB)."""
SINGLES = 8
"""Pixels of a stretch that a thread takes where they are loaded one by one. The loop over them is unrolled by
two: more makes the code large for little, since each pixel costs more than its load."""
STRETCH = THREADS * VECTORS * VECTOR
"""Bytes that a block loads at once."""

# Shared memory ----------------------------------------------------------------------------------------

SCRATCH = 1024
"""Bytes at the start of every block's shared memory, through which its threads talk to each other."""
LANE_BITS = 7
"""A word of 4 bytes for each lane of a warp: 1 << 7 bytes of shared memory, each in its own bank."""
COUNTERS_U8 = 256 << LANE_BITS
"""Bytes of the counters of uint8, 32 of each, one a lane."""
COUNTERS_U16 = 65536 * 4
"""Bytes of the 65,536 counters of 16 bits, before they are cut into slices."""
CHUNK = 256
"""Bins of 16 bits that a warp makes the table of. The counts of a plane in a workspace are followed by the
sums of its chunks."""
WIDE_COUNTS = 65536 + 65536 // CHUNK
"""Numbers of a plane of 16 bits in a workspace."""
TABLE_U8 = COUNTERS_U8
"""Bytes of a table of uint8, of words like the counters."""
TABLE_U16 = 65536 * 2
"""Bytes of a table of 16 bits."""

# Frames of a video ------------------------------------------------------------------------------------

WINDOW_STATE = ("frames", "mapped", "low", "high", "judged", "cuts")
"""What a window knows of its frames, in this order: see window.cu."""
DISTANCES = 8
"""Distances of frames that a window keeps: those of a frame, of three before it and of three after it."""

# Rules ------------------------------------------------------------------------------------------------

RULES = {"none": 0, "opencv": 1, "numpy": 2, "pillow": 3, "vips": 4, "skimage": 5}
"""The numbers of the rules; "none" makes no table."""

DEFINES = tuple(
    f"-D{name}={value}"
    for name, value in (
        ("WARP", WARP),
        ("THREADS", THREADS),
        ("RESIDENT_BLOCKS", RESIDENT_BLOCKS),
        ("VECTOR", VECTOR),
        ("VECTORS", VECTORS),
        ("SINGLES", SINGLES),
        ("SCRATCH", SCRATCH),
        ("LANE_BITS", LANE_BITS),
        ("COUNTERS_U8", COUNTERS_U8),
        ("CHUNK", CHUNK),
        ("DISTANCES", DISTANCES),
        *((f"STATE_{name.upper()}", i) for i, name in enumerate(WINDOW_STATE)),
        *((f"RULE_{name.upper()}", number) for name, number in RULES.items()),
    )
)
"""Compiler options that define the constants above as macros."""

# Structures -------------------------------------------------------------------------------------------


def _fields(kind: type, *names: str) -> list[tuple[str, type]]:
    return [(name, kind) for name in names]


_STRIDES = _fields(np.int64, "image", "plane", "layer", "row", "column")

LAYOUT = np.dtype(
    [
        *_fields(np.int64, "images", "planes", "layers", "rows", "columns"),
        ("image", _STRIDES),
        ("mask", _STRIDES),
        ("out", _STRIDES),
    ]
)
RULE = np.dtype(
    [
        *_fields(np.int64, "name", "bins", "width", "nodata", "first", "last", "low", "span"),
        *_fields(np.int64, "to_brightest", "floating"),
        *_fields(np.float64, "fraction_low", "fraction_span"),
    ]
)
RESULTS = np.dtype(_fields(np.uint64, "counts", "tickets", "tables", "counts_out"))
TABLES = np.dtype(
    [
        ("entries", np.uint64),
        *_fields(np.int64, "image", "plane", "nodata"),
        *_fields(np.float64, "nodata_level", "beside_nodata"),
        ("flip", np.uint32),
    ],
    align=True,
)
POINT = np.dtype(_fields(np.float64, "centre", "level", "slope"))
TILES = np.dtype([(name, np.int64, 3) for name in ("count", "size", "shape", "origin", "first", "held")])
LEVELS = np.dtype(
    [
        *_fields(np.int64, "bins", "width", "bin_shift", "flip", "first"),
        *_fields(np.int64, "lowest", "span", "shift", "offset", "narrow", "nodata", "beside_nodata"),
        *_fields(np.float64, "nodata_value", "beside_nodata_value", "low", "range", "clip_limit"),
    ]
)
WINDOW = np.dtype(
    [
        *_fields(np.int64, "counters", "levels", "slots", "before", "after", "ahead", "around", "most_cuts"),
        *_fields(np.float64, "least", "times", "unit"),
        *_fields(np.uint64, "ring", "total", "shares", "distances", "cuts", "state", "tickets"),
    ]
)
PLANES_OF_COUNTS = np.dtype([("first", np.uint64), *_fields(np.int64, "bins", "stride")])
WIDE_WORK = np.dtype(
    [
        *_fields(np.int64, "stretches", "slices", "in_shared"),
        *_fields(np.uint64, "counts", "table", "tickets"),
    ]
)
WORK = np.dtype([*_fields(np.int64, "planes", "lag", "stretches"), *_fields(np.uint64, "counts", "tickets")])

STRUCTURES = {
    "Layout": LAYOUT,
    "Rule": RULE,
    "Results": RESULTS,
    "Tables": TABLES,
    "Point": POINT,
    "Tiles": TILES,
    "Levels": LEVELS,
    "Window": WINDOW,
    "PlanesOfCounts": PLANES_OF_COUNTS,
    "WideWork": WIDE_WORK,
    "Work": WORK,
}
"""The C++ structures, by name; what their fields mean is said where they are defined."""
