"""What --help shows below the options: examples of every command, each of which a test parses."""

import click

_EXAMPLES = {
    "equalize": """
        histeq equalize scan.tif out.tif
        histeq equalize *.jpg equalized/ --rule pillow
        histeq equalize scene.tif out.tif --color channels --nodata 0
        histeq equalize a.tif b.tif mosaic/ --together
        histeq equalize scan.tif out.zarr --memory 512M --cluster local:2
    """,
    "clahe": """
        histeq clahe photo.jpg out.jpg
        histeq clahe scan.tif out.tif --clip 3 --tile-size 256
        histeq clahe ct.dcm out.dcm --value-range -1024 3071
        histeq clahe photos/ local/ --recursive --skip-existing
    """,
    "match": """
        histeq match photo.jpg reference.jpg out.jpg
        histeq match *.tif reference.tif matched/ --color luma
        histeq match scene.tif reference.tif out.tif --mask land.tif
    """,
    "info": """
        histeq info scan.tif
        histeq info *.jpg --json
        histeq info scene.tif --nodata 0
    """,
    "plot": """
        histeq plot photo.jpg comparison.png
        histeq plot scan.tif comparison.pdf --rule numpy --clip 3
        histeq plot xray.dcm comparison.png --value-range 0 4095 --dpi 200
    """,
    "video": """
        histeq video in.mp4 out.mp4
        histeq video in.mkv out.mkv --method clahe --quality 18
        histeq video in.mp4 --preview picture.png
        histeq video 'frames/*.png' equalized/
        histeq video - out.mkv < pipe.y4m
    """,
    "backends": """
        histeq backends
        histeq backends --json
        HISTEQ_CPU_TIER=portable histeq backends
    """,
    "bench": """
        histeq bench photo.jpg
        histeq bench --size 1080p,4k --dtypes u8,u16 --ops equalize,clahe
        histeq bench --save before.json
        histeq bench --compare before.json
        histeq bench --file scan.tif
    """,
}


def of(command: str) -> list[str]:
    """Return the lines that a shell would take."""
    return [line.strip() for line in _EXAMPLES[command].strip().splitlines()]


def add(command: click.Command) -> None:
    """Show the examples below the options of a command."""
    lines = "\n".join(["Examples:", *(f"  {line}" for line in of(command.name or ""))])
    command.epilog = f"\b\n{lines}"
