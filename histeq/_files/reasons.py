"""What errors of libraries say, in words. Where they speak of Python, nobody can make sense of it."""

import re
import struct

_MISTAKES = (
    *(AssertionError, AttributeError, LookupError, NameError, TypeError, ArithmeticError, UnicodeError),
    struct.error,
)
"""What libraries raise where they find what they did not expect."""
_PYTHON = re.compile(
    "NoneType|object has no|not subscriptable|not iterable|requires a buffer|codec can't|index out of range|"
    "slice indices|unsupported operand|invalid literal for|bytes-like|unexpected keyword|positional argument|"
    "not enough values|too many values|buffer is smaller|buffer size|reshape"
)
_NAMES = re.compile(r"<\w+(?:\.\w+)*(?: at 0x\w+| [^<>]*)?>|\b(?:\w+\.)*\w+(?:Error|Exception)\b:?")
"""Of objects and of exceptions."""


def reason(error: object) -> str:
    """Return what an error says, or a text, in one line."""
    text = " ".join(_NAMES.sub("", str(error)).split()).strip(" :,")
    if isinstance(error, EOFError) and not text:
        return "the file ends early"
    return (
        "its content makes no sense"
        if isinstance(error, _MISTAKES) or not text or _PYTHON.search(text)
        else text
    )
