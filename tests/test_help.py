"""Help where people are: --help, --version, help(), and errors that name a page of the documentation."""

import inspect
import pydoc
import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import histeq
from histeq._cli import cli, examples, version
from histeq._files.errors import missing

ROOT = Path(__file__).parents[1]


def shown(*arguments):
    result = CliRunner().invoke(cli, arguments, prog_name="histeq", terminal_width=80)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_examples_are_commands(name, tmp_path, monkeypatch):
    """Each line of --help is taken by the command's parser, with files where it wants some."""
    monkeypatch.chdir(tmp_path)
    lines = examples.of(name)
    assert 3 <= len(lines) <= 5
    for line in lines:
        assert f"\n    {line}\n" in shown(name, "--help") + "\n"
        words = shlex.split(line.partition(" < ")[0])
        words = words[1:] if "=" in words[0] else words
        assert words[:2] == ["histeq", name]
        cli.commands[name].make_context(name, words[2:])


def test_a_stale_example_would_be_noticed():
    with pytest.raises(click.UsageError):
        cli.commands["equalize"].make_context("equalize", ["a.tif", "b.tif", "--no-such-option"])


def test_help_names_the_documentation():
    text = " ".join(shown("--help").split())
    assert "docs/ of the source" in text
    assert "help(histeq.equalize)" in text


def test_version_is_what_a_report_needs(monkeypatch):
    lines = shown("--version").splitlines()
    assert lines[0] == f"histeq {histeq.__version__}"
    assert re.search(r"\bnumpy \d+\.\d", lines[2])
    assert re.search(r"\bnumba \d+\.\d", lines[2])
    assert [line.split()[0] for line in lines[4:]] == [backend.name for backend in histeq.backends()]

    def unknown(name):
        raise version.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(version.metadata, "requires", unknown)  # as in a frozen program
    assert shown("--version").splitlines()[0] == lines[0]


def test_errors_name_pages_that_exist():
    named = set()
    for path in (ROOT / "histeq").rglob("*.py"):
        named |= set(re.findall(r"\(documentation: (\w+)\)", path.read_text(encoding="utf-8")))
    assert {"layouts", "start"} <= named
    assert not [page for page in named if not (ROOT / "docs" / f"{page}.md").exists()]


def test_what_is_missing_and_what_is_old():
    absent = missing(ModuleNotFoundError("No module named 'av.error'", name="av.error"))
    assert str(absent) == 'av is missing: pip install "histeq[video]" (documentation: start)'
    assert missing(absent) is absent
    old = missing(ImportError("cannot import name 'AvifImagePlugin' from 'PIL'", name="PIL"))
    assert str(old).startswith("cannot import name 'AvifImagePlugin' from 'PIL': pip install --upgrade")


@pytest.mark.parametrize("name", histeq.__all__)
def test_help_in_python_can_be_read(name):
    """Of every public name: lines fit a terminal of 110 columns, and functions have an example."""
    subject = getattr(histeq, name)
    text = inspect.getdoc(subject)
    assert text
    assert max(map(len, text.splitlines())) <= 106
    assert text.splitlines()[0].endswith(".")
    assert text.splitlines()[0] in pydoc.plain(pydoc.render_doc(subject))
    if inspect.isfunction(subject) and inspect.signature(subject).parameters:
        assert "Parameters\n" in text
        assert ">>> " in text
