"""Messages of the Python functions in the words of the command line: its options instead of arguments."""

import re

_OPTIONS = {
    "alpha": "--alpha",
    "backend": "--backend",
    "bins": "--bins",
    "clip_limit": "--clip",
    "cluster": "--cluster",
    "color": "--color",
    "compression": "--compression",
    "format": "--format",
    "layout": "--layout",
    "lenient": "--lenient",
    "mask": "--mask",
    "max_pixels": "--max-pixels",
    "memory": "--memory",
    "nodata": "--nodata",
    "out_dtype": "--out-dtype",
    "out_range": "--out-range",
    "overviews": "--overviews",
    "overwrite": "--overwrite",
    "pages": "--pages",
    "quality": "--quality",
    "resume": "--resume",
    "rule": "--rule",
    "strict": "--strict",
    "tile_size": "--tile-size",
    "tiles": "--tiles",
    "value_range": "--value-range",
}
_NAMES = "|".join(_OPTIONS)
_VALUE = r"'([^']*)'|\(([^()]*)\)|([\w.+-]+)"
_ARGUMENT = re.compile(rf"(?<![\w./-])({_NAMES})=(?:{_VALUE})")
# A name of several words is an argument; another one only where a sentence is about it.
_SUBJECT = re.compile(rf"(?<![\w./-])({_NAMES})(?=(?: must\b| is for\b| takes\b| gives\b|, and\b))")
_SEVERAL_WORDS = re.compile(rf"(?<![\w./-])({'|'.join(name for name in _OPTIONS if '_' in name)})\b")


def in_words(message: str) -> str:
    """Return a message of one line with options for arguments: color='channels' is --color channels."""

    def argument(found: re.Match[str]) -> str:
        value = next(group for group in found.groups()[1:] if group is not None)
        if value in ("True", "False"):
            return _OPTIONS[found[1]].replace("--", "--no-" if value == "False" else "--")
        return f"{_OPTIONS[found[1]]} {value.replace(',', '')}"

    text = _ARGUMENT.sub(argument, " ".join(message.split()))
    for names in (_SUBJECT, _SEVERAL_WORDS):
        text = names.sub(lambda found: _OPTIONS[found[1]], text)
    if ".astype(" in text:  # advice for arrays, a clause or a sentence of its own
        before = text[: text.index(".astype(")]
        text = text[: max(before.rfind("; "), before.rfind(". "))] + "; convert it first"
    text = re.sub(r"\bimage must\b", "the picture must", text)
    text = re.sub(r"\bgot (None|'NoneType')", "got nothing", text)
    return re.sub(r"\bgot \(([^()]*)\)", lambda found: f"got {found[1].replace(',', '')}", text)
