"""Which files a command reads and writes: standard input and output, folders, patterns, what exists."""

import json
import os
import sys
from io import BytesIO, StringIO

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from PIL import Image

import histeq
from histeq._cli import batch, cli, options, report
from histeq._files import read

RANDOM = np.random.default_rng(8)
GREY = RANDOM.integers(20, 90, (30, 40), np.uint8)
COLOUR = RANDOM.integers(20, 90, (30, 40, 3), np.uint8)
EQUAL = histeq.equalize(GREY)


def run(*arguments, code=0, data=None):
    backend = () if arguments[0] == "info" else ("--backend", "numpy")  # nothing is compiled
    result = CliRunner().invoke(cli, [str(argument) for argument in (*arguments, *backend)], input=data)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    return result


def encoded(pixels, kind="PNG"):
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def photos(tmp_path):
    """A folder as people have them: folders in it, a hidden one, and files that are no pictures."""
    folder = tmp_path / "photos"
    for name in ("a.png", "b.tif", "2024/c.png", "2024/raw/d.png", ".hidden/e.png", ".f.png"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(GREY).save(path)
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    return folder


class TestStandard:
    @pytest.mark.parametrize("command", ["equalize", "clahe"])
    def test_input_and_output(self, command):
        result = run(command, "-", "-", data=encoded(GREY))
        assert result.stderr == ""
        np.testing.assert_array_equal(
            read(BytesIO(result.stdout_bytes)).pixels, getattr(histeq, command)(GREY, backend="numpy")
        )

    @pytest.mark.parametrize(("format", "kind"), [("tif", "TIFF"), ("JPG", "JPEG"), (".npy", "NPY")])
    def test_formats(self, tmp_path, format, kind):
        output = run("equalize", "/dev/stdin", "-", "--format", format, data=encoded(GREY)).stdout_bytes
        assert read(BytesIO(output)).format == kind
        assert run("equalize", "-", tmp_path / "a.tif", data=encoded(GREY)).stdout == ""
        np.testing.assert_array_equal(read(tmp_path / "a.tif").pixels, EQUAL)
        assert "TIFF" in run("info", "-", data=(tmp_path / "a.tif").read_bytes()).stdout

    def test_match(self, tmp_path):
        (tmp_path / "m.png").write_bytes(encoded(GREY + 9))
        output = run("match", "-", tmp_path / "m.png", "-", data=encoded(GREY)).stdout_bytes
        np.testing.assert_array_equal(read(BytesIO(output)).pixels, GREY + 9)

    @pytest.mark.parametrize(
        ("arguments", "says", "code"),
        [
            (("-", "new/"), "what comes from standard input has no name", 2),
            (("-", "a.png", "new/"), "what comes from standard input has no name", 2),
            (("a.png", "a.png", "-"), "OUT must be a folder", 2),
            (("-", "-", "--json"), "would both be written to standard output", 2),
            (("-", "-", "--format", "zarr"), "Zarr is written into a folder or a ZIP file with a name", 1),
            (("-", "-", "--format", "xyz"), "must end in one of .png", 1),
            (("-", "b.xyz"), "b.xyz: the name must end in one of .png", 1),
        ],
    )
    def test_wrong(self, tmp_path, monkeypatch, arguments, says, code):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "a.png").write_bytes(encoded(GREY))
        assert says in run("equalize", *arguments, data=encoded(GREY), code=code).stderr
        assert everything(tmp_path) == ["a.png"]

    @pytest.mark.parametrize(("data", "says"), [(b"", "the file is empty"), (b"text", "not a picture")])
    def test_broken_input(self, data, says):
        result = run("equalize", "-", "-", data=data, code=1)
        assert result.stdout_bytes == b""
        assert result.stderr.startswith("histeq: error: ")
        assert says in result.stderr

    def test_terminals(self, monkeypatch):
        class Terminal(BytesIO):
            def isatty(self):
                return True

        class Stream:
            buffer = Terminal()

        monkeypatch.setattr(sys, "stdin", Stream)
        with pytest.raises(report.Failure, match="standard input is a terminal"):
            options.standard_input()
        monkeypatch.setattr(sys, "stdout", Stream)
        with pytest.raises(report.Failure, match="not written to a terminal"):
            options.standard_output()


@pytest.mark.parametrize("total", [3, 0])
def test_progress(monkeypatch, total):
    class Terminal(StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(batch, "_PATIENCE", -1)
    with batch.progress_of("frames") as show:
        for done in (1, 2, 3):
            show(done, total)
    text = sys.stderr.getvalue()
    assert "frames/s" in text
    assert ("100%" in text) == bool(total)
    monkeypatch.setattr(sys, "stderr", StringIO())
    with batch.progress_of("frames") as show:
        assert show is None


class TestFolders:
    def test_what_is_in_it(self, tmp_path, photos):
        assert run("equalize", photos, tmp_path / "out").output == ""
        assert everything(tmp_path / "out") == ["a.png", "b.tif"]
        np.testing.assert_array_equal(read(tmp_path / "out/a.png").pixels, EQUAL)

    def test_recursive(self, tmp_path, photos):
        out = photos / "out"
        for more in ((), ("--overwrite", "-j", "2")):  # what is in OUT already is not read
            run("clahe", photos, out, "--recursive", *more)
            assert everything(out) == ["2024/c.png", "2024/raw/d.png", "a.png", "b.tif"]

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            (("--pattern", "*.tif"), ["b.tif"]),
            (("--pattern", "?.png", "--recursive"), ["2024/c.png", "2024/raw/d.png", "a.png"]),
            (("--pattern", "[bc]*", "--recursive"), ["2024/c.png", "b.tif"]),
            (("--pattern", "b*", "--format", "webp"), ["b.webp"]),
        ],
    )
    def test_patterns(self, tmp_path, photos, options, expected):
        (tmp_path / "m.png").write_bytes(encoded(GREY + 9))
        run("match", photos, tmp_path / "m.png", tmp_path / "out", *options)
        assert everything(tmp_path / "out") == expected

    def test_several(self, tmp_path, photos):
        """Beside other files a folder keeps its name, and is not taken by accident."""
        inputs = sorted(path for path in photos.iterdir() if not path.name.startswith("."))
        result = run("equalize", *inputs, f"{tmp_path}/out/", code=1)
        folder, database = result.stderr.splitlines()
        assert folder.startswith(f"histeq: error: {photos}/2024: a folder among other files")
        assert database.startswith(f"histeq: error: {photos}/Thumbs.db: the name must end in one of .png")
        assert everything(tmp_path / "out") == ["a.png", "b.tif"]
        run("equalize", *inputs, f"{tmp_path}/new/", "--recursive", code=1)
        assert everything(tmp_path / "new") == ["2024/c.png", "2024/raw/d.png", "a.png", "b.tif"]

    def test_stores_are_pictures(self, tmp_path):
        import zarr

        for name in ("a.zarr", "sub/b"):
            zarr.create_array(tmp_path / "in" / name, data=GREY)
        run("equalize", tmp_path / "in", tmp_path / "out", "--recursive", "--pattern", "*", "--format", "tif")
        assert everything(tmp_path / "out") == ["a.tif", "sub/b.tif"]

    def test_names_without_suffix(self, tmp_path):
        folder = tmp_path / "in"
        folder.mkdir()
        for name in ("scan", "IM.0001", "IM.0002", "a.b.png"):
            (folder / name).write_bytes(encoded(GREY))
        result = run("equalize", folder, tmp_path / "out", "--pattern", "*", code=1)
        assert result.stderr.count("; or --format names it") == 3
        run("equalize", folder, tmp_path / "new", "--pattern", "*", "--format", "tif")
        assert everything(tmp_path / "new") == ["IM.0001.tif", "IM.0002.tif", "a.b.tif", "scan.tif"]

    def test_nothing_to_do(self, tmp_path, photos):
        for more, says in (((), "no picture is in this folder"), (("--pattern", "*.x"), "matches *.x")):
            (tmp_path / "empty").mkdir(exist_ok=True)
            assert says in run("equalize", tmp_path / "empty", tmp_path / "out", *more, code=1).stderr
        assert not (tmp_path / "out").exists()
        (tmp_path / "file").touch()
        assert "file: is no folder" in run("equalize", photos, tmp_path / "file", code=1).stderr

    def test_names_that_collide(self, tmp_path, photos):
        (photos / "a.jpg").write_bytes(encoded(GREY, "JPEG"))
        result = run("equalize", photos, tmp_path / "out", "--format", "tif", code=2)
        assert "would both be written to" in result.stderr

    @pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may do everything")
    def test_a_folder_that_cannot_be_read(self, tmp_path, photos):
        (photos / "2024").chmod(0)
        assert "a.png: cannot write it: Permission denied" in (
            run("equalize", photos / "a.png", photos / "2024/a.png", code=1).stderr
        )
        assert "2024: Permission denied" in run("equalize", photos / "2024", tmp_path / "x", code=1).stderr
        assert "c.png: Permission denied" in run("info", photos / "2024/c.png", code=1).stderr
        result = run("equalize", photos, tmp_path / "out", "--recursive", code=1)
        assert "2024: Permission denied" in result.stderr
        (photos / "2024").chmod(0o700)


class TestSkipExisting:
    def test_a_second_run(self, tmp_path, photos):
        out = tmp_path / "out"
        out.mkdir()
        (out / "a.png").write_bytes(b"kept")
        result = run("equalize", photos, out, "--skip-existing", "--json")
        assert [entry.get("skipped") for entry in json.loads(result.stdout)] == [True, None]
        assert result.stderr == "histeq: note: 1 of 2 skipped: they exist already\n"
        assert (out / "a.png").read_bytes() == b"kept"
        before = (out / "b.tif").stat()
        run("equalize", photos, out, "--skip-existing")
        assert (out / "b.tif").stat() == before

    def test_not_with_overwrite(self, tmp_path, photos):
        for other in ("--overwrite", "--together"):
            run("equalize", photos, tmp_path, "--skip-existing", other, code=2)


class TestDryRun:
    def test_says_what_would_be_done(self, tmp_path, photos):
        (tmp_path / "m.tif").write_bytes(encoded(GREY, "TIFF"))
        for command, how in (
            (("equalize", photos), "equalize, rule opencv"),
            (("clahe", photos), "clahe, clip limit 2.0"),
            (("match", photos, tmp_path / "m.tif"), f"match, reference {tmp_path}/m.tif"),
        ):
            lines = run(*command, tmp_path / "out", "--dry-run").stdout.splitlines()
            assert lines == [
                f"{photos}/{name} -> {tmp_path}/out/{name}: 40 x 30 uint8; {how}"
                for name in ("a.png", "b.tif")
            ]
        (entry, _) = json.loads(run("equalize", photos, tmp_path / "out", "--dry-run", "--json").stdout)
        assert (entry["width"], entry["dtype"], entry["rule"]) == (40, "uint8", "opencv")
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("target", "options", "says"),
        [
            ("out.jpg", (), "JPEG holds 8-bit"),
            ("out.tif", ("--compression", "nonsense"), "no compression 'nonsense'"),
            ("out.zarr", ("--compression", "nonsense"), "nonsense"),
            ("out.tif", ("--nodata", "99999"), "nodata must be"),
            ("none/out.tif", (), "none/out.tif: cannot write it: No such file or directory"),
            ("a.tif/out.tif", (), "a.tif/out.tif: cannot write it: Not a directory"),
            ("a.tif", (), "exists already"),
        ],
    )
    def test_checks_everything(self, tmp_path, target, options, says):
        tifffile.imwrite(tmp_path / "a.tif", GREY.astype(np.uint16))
        before = (tmp_path / "a.tif").read_bytes()
        result = run("equalize", tmp_path / "a.tif", tmp_path / target, "--dry-run", *options, code=1)
        assert says in result.stderr
        assert result.stdout == ""
        assert everything(tmp_path) == ["a.tif"]
        run("equalize", tmp_path / "a.tif", tmp_path / "a.tif", "--dry-run", "--overwrite")
        assert (tmp_path / "a.tif").read_bytes() == before

    def test_together_and_function(self, tmp_path, photos):
        run("equalize", photos, f"{tmp_path}/out/", "--together", "--dry-run")
        result = histeq.clahe_file(photos / "a.png", tmp_path / "c.npy", dry_run=True)
        assert (result.width, result.seconds["read"]) == (40, 0)
        assert not (tmp_path / "c.npy").exists()


class TestChannels:
    def test_luma_bgr(self, tmp_path):
        np.save(tmp_path / "a.npy", COLOUR)
        for command in ("equalize", "clahe"):
            run(command, tmp_path / "a.npy", tmp_path / f"{command}.npy", "--color", "luma-bgr")
            expected = getattr(histeq, command)(COLOUR, layout="HWC", color="luma-bgr", backend="numpy")
            np.testing.assert_array_equal(np.load(tmp_path / f"{command}.npy"), expected)

    def test_alpha(self, tmp_path):
        four = np.concatenate([COLOUR, GREY[..., None]], axis=-1)
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, four, photometric="minisblack", planarconfig="contig", metadata=None)
        run("equalize", path, tmp_path / "b.tif", "--alpha", "--color", "channels")
        np.testing.assert_array_equal(
            read(tmp_path / "b.tif").pixels, histeq.equalize(four, layout="HWC", color="channels", alpha=True)
        )
        (tmp_path / "a.png").write_bytes(encoded(four))
        run("equalize", tmp_path / "a.png", tmp_path / "b.png", "--no-alpha", "--color", "channels")
        np.testing.assert_array_equal(
            read(tmp_path / "b.png").pixels,
            histeq.equalize(four, layout="HWC", color="channels", alpha=False),
        )
        assert read(tmp_path / "b.png").alpha
        result = run("equalize", tmp_path / "a.png", tmp_path / "c.png", "--no-alpha", code=1)
        assert "none of them alpha: use --color channels" in result.stderr
