"""The documentation: links lead somewhere, every page and public name is in it, its commands exist."""

import importlib.util
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from click.shell_completion import get_completion_class
from click.testing import CliRunner

import histeq
from histeq._cli import cli

ROOT = Path(__file__).parents[1]
PAGES = sorted(ROOT.glob("docs/*.md"))
TEXTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + PAGES
COMMANDS = sorted(cli.commands)


def prose(path):
    """Return a Markdown file without its blocks of code."""
    return re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(path):
    """Return the anchors of a page: those that have names, and those made of headings by GitHub and MyST."""
    named = re.findall(r"^\((\S+)\)=$", prose(path), re.MULTILINE)
    headings = re.findall(r"^#+ +(.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings} | {
        *named
    }


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.name)
def test_links(text):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if re.match(r"[a-z]+:", link):
            continue  # elsewhere: python -m sphinx -b linkcheck
        name, _, anchor = link.partition("#")
        target = text.parent / name if name else text
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_in_the_contents():
    contents = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    trees = re.findall(r"```{toctree}\n(.*?)```", contents, re.DOTALL)
    named = [line for tree in trees for line in tree.splitlines() if not line.startswith(":")]
    pages = {page.stem for page in [*PAGES, *ROOT.glob("docs/*.ipynb")]} - {"index"}
    assert sorted(named) == sorted(pages)


def test_every_public_name_is_in_the_reference():
    reference = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^   (\w+)$", reference, re.MULTILINE)) == sorted(histeq.__all__)


def test_extras_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for text in TEXTS:
        for names in re.findall(r"(?:histeq|[\"`]\.)\[([a-z0-9,]+)\]", text.read_text(encoding="utf-8")):
            assert set(names.split(",")) <= set(extras), (text.name, names)


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_of_help(name):
    command = cli.commands[name]
    shown = CliRunner().invoke(cli, [name, "--help"]).output.partition("Examples:\n")[2]
    assert shown
    for line in shown.splitlines():
        given, *arguments = shlex.split(line.partition("histeq ")[2].partition(" < ")[0])
        assert given == name
        command.make_context(name, arguments)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion(shell):
    completion = get_completion_class(shell)(cli, {}, "histeq", "_HISTEQ_COMPLETE")
    assert f"_HISTEQ_COMPLETE={shell}_complete" in completion.source()
    options = completion.get_completions(["equalize"], "--over")
    assert [option.value for option in options] == ["--overwrite", "--overviews"]
    assert [command.value for command in completion.get_completions([], "")] == COMMANDS


@pytest.mark.parametrize(
    ("command", "shown", "fails"),
    [
        ("histeq backends", "", False),
        ("histeq backends", "backend ... numpy ...", False),
        ("histeq backends", "backend ... numpyro ...", True),
        ("histeq info absent.tif", "", True),
        ("histeq info absent.tif", "histeq: error: absent.tif: ...", False),
        ("histeq info absent.tif", "histeq: error: present.tif: ...", True),
        ("histeq backends --json | histeq info -", "", True),
        ("pip install histeq", "anything", False),
    ],
)
def test_commands_of_pages_are_run(command, shown, fails):
    spec = importlib.util.spec_from_file_location("docs_conftest", ROOT / "docs" / "conftest.py")
    conftest = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conftest)
    assert bool(conftest.failure(command, shown)) is fails
