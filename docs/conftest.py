"""The examples of the pages are tests, run in the order of the page in a temporary folder of its own.

Blocks of `python` are run, and what `>>>` shows is compared. In blocks of `console` the lines `$ histeq ...`
are run, in this process, by themselves or as a pipe of several; other programs are shown, not run. Output
that is shown is compared, `...` standing for any; a command must succeed unless an error is shown.
"""

import contextlib
import shlex
from collections.abc import Iterable
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE
from doctest import Example as Expectation
from pathlib import Path

import pytest
from click.testing import CliRunner
from sybil import Document, Example, Region, Sybil
from sybil.evaluators.doctest import OutputChecker
from sybil.parsers.myst import CodeBlockParser, PythonCodeBlockParser, SkipParser

from histeq._cli import cli

FLAGS = ELLIPSIS | NORMALIZE_WHITESPACE
python_blocks = PythonCodeBlockParser(doctest_optionflags=FLAGS)


def python(document: Document) -> Iterable[Region]:
    """Find the blocks of Python that are not executed when the site is built."""
    blocks = python_blocks(document)
    return (block for block in blocks if not document.text.startswith("```{code-cell}", block.start))


def console(example: Example) -> str:
    """Run the commands of a block; return what is wrong with them."""
    commands = ("\n" + example.parsed.replace("\\\n", " ")).split("\n$ ")[1:]
    return "".join(failure(*command.partition("\n")[::2]) for command in commands)


def failure(command: str, shown: str) -> str:
    """Run one command; return what is wrong with its exit code or output, or nothing."""
    if not command.startswith("histeq "):
        return ""
    piped = b""
    for part in command.split(" | "):
        result = CliRunner().invoke(cli, words(part)[1:], prog_name="histeq", input=piped)
        piped = result.stdout_bytes
        if result.exit_code:
            break
    if (result.exit_code != 0) != ("error:" in shown.lower()):
        return f"$ {command}\nExit code {result.exit_code}, {result.exception!r}:\n{result.output}"
    if shown.strip() and not OutputChecker().check_output(shown, result.output, FLAGS):
        return OutputChecker().output_difference(Expectation(command, shown), result.output, FLAGS)
    return ""


def words(command: str) -> list[str]:
    """Split a command as a shell does; patterns of files that are not in quotes are replaced by the files."""
    found: list[str] = []
    for word in shlex.split(command, comments=True):
        pattern = "*" in word and f"'{word}'" not in command and f'"{word}"' not in command
        found += sorted(map(str, Path().glob(word))) if pattern else [word]
    return found


@pytest.fixture(scope="module")
def working_folder(tmp_path_factory):
    """Work in a folder that belongs to the page, so that its examples can write files."""
    folder = tmp_path_factory.mktemp("page")
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("HISTEQ_TUNING", "")  # what was measured on this machine changes no example
        yield folder


pytest_collect_file = Sybil(
    parsers=[python, CodeBlockParser("console", console), SkipParser()],
    patterns=["*.md"],
    fixtures=["working_folder"],
).pytest()
