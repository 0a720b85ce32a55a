"""What is released: one version everywhere, extras that mean what they say, and a wheel that works alone."""

import itertools
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import tifffile

import histeq
from histeq import _files

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def test_one_version():
    """pyproject.toml takes it from histeq/__init__.py; the citation and the changelog say the same."""
    assert "version" not in PROJECT
    assert metadata.version("histeq") == histeq.__version__
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.+)$", citation, re.MULTILINE)[1] == histeq.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+)", changelog, re.MULTILINE)[1] == histeq.__version__


def test_all_is_everything_but_cuda():
    (inside,) = EXTRAS["all"]
    names = set(re.fullmatch(r"histeq\[(.*)\]", inside)[1].split(","))
    assert names == {name for name in EXTRAS if name != "all" and not name.startswith("cuda")}


def test_same_bounds_everywhere():
    """A library that several extras or the tests ask for has one lowest version."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    every = [*PROJECT["dependencies"], *itertools.chain(*EXTRAS.values()), *groups["test"], *groups["docs"]]
    bounds = {}
    for text in (text for text in every if isinstance(text, str) and ">=" in text):
        name, bound = re.split(r"\[.*\]>=|>=", text.partition(";")[0])
        assert bounds.setdefault(name, bound) == bound, text


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return the wheel and the source distribution, made of a copy of what git has."""
    folder = tmp_path_factory.mktemp("built")
    archive = subprocess.run(["git", "stash", "create"], cwd=ROOT, capture_output=True, text=True, check=True)
    tree = archive.stdout.strip() or "HEAD"
    subprocess.run(["git", "archive", "-o", folder / "a.tar", tree], cwd=ROOT, check=True)
    with tarfile.open(folder / "a.tar") as tar:
        tar.extractall(folder / "source", filter="data")
    python = environment(folder / "build", "build")
    subprocess.run([python, "-m", "build", "--outdir", folder, folder / "source"], check=True)
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


def environment(folder, *packages):
    """Make a virtual environment with packages; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    subprocess.run([*pip, *packages], check=True)
    return python


def said(python, *arguments, folder, code=0):
    """Run Python in a folder, outside of the checkout; return what it says."""
    result = subprocess.run(
        [python, "-W", "error", *map(str, arguments)], cwd=folder, capture_output=True, text=True,
        check=False, env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
    )  # fmt: skip
    assert result.returncode == code, result.stderr
    return result.stdout + result.stderr


@pytest.mark.exhaustive
def test_contents(built):
    wheel, source = built
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0].split("-")[0] for name in names} == {"histeq", "histeq_kernels"}
    assert {"histeq/py.typed", "histeq_kernels/py.typed", "histeq_kernels/cuda/fused.cu"} <= names
    for path in [*ROOT.glob("histeq/**/*.py"), *(ROOT / "kernels").glob("**/*.[pc][yu]*")]:
        if "__pycache__" not in path.parts:
            assert str(path.relative_to(ROOT)).removeprefix("kernels/") in names
    with tarfile.open(source) as tar:
        inside = {name.partition("/")[2] for name in tar.getnames()}
    assert {
        "tests/test_release.py",
        "docs/index.md",
        "dev.py",
        "LICENSE",
        "SECURITY.md",
        "CITATION.cff",
    } <= inside
    assert not [name for name in inside if re.search(r"(^|/)(_build|__pycache__|\.venv|\.git)(/|$)", name)]


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["wheel", "source"])
def test_installs_and_works_alone(built, tmp_path, kind):
    """Without optional libraries arrays are served, and each absence is one line that says what to do."""
    package = built[kind == "source"]
    python = environment(tmp_path / "bare", package)
    call = "import numpy as np, histeq; print(histeq.equalize(np.arange(12, dtype=np.uint8)).max())"
    assert said(python, "-c", call, folder=tmp_path) == "255\n"
    told = said(python, "-m", "histeq", "backends", folder=tmp_path, code=1)
    assert told == 'histeq: error: the command line needs click: pip install "histeq[cli]"\n'
    pixels = np.random.default_rng(0).integers(40, 90, (60, 80), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    histeq.equalize_file(tmp_path / "a.tif", tmp_path / "a.png")
    for name, library in (("a.tif", "tifffile"), ("a.png", "imagecodecs")):
        call = f"import histeq; histeq.equalize_file('{name}', 'b{name[1:]}')"
        last = said(python, "-c", call, folder=tmp_path, code=1).splitlines()[-1]
        assert f'{library} is missing: pip install "histeq[cli]" (documentation: start)' in last
    environment(tmp_path / "bare", f"{package}[cli]")
    assert "numba" in said(python, "-m", "histeq", "backends", folder=tmp_path)
    said(python, "-m", "histeq", "equalize", "a.png", "b.png", folder=tmp_path)
    before, after = (_files.read(tmp_path / name).pixels for name in ("a.png", "b.png"))
    np.testing.assert_array_equal(after, histeq.equalize(before))
    for arguments, extra in (
        (["video", "a.png", "b.mkv"], "video"), (["equalize", "a.png", "b.zarr"], "zarr"),
    ):  # fmt: skip
        told = said(python, "-m", "histeq", *arguments, folder=tmp_path, code=1)
        assert told.count("\n") == 1
        assert f'pip install "histeq[{extra}]"' in told
