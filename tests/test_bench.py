"""`histeq bench`: the statistics with made-up clocks and libraries, the path with a tiny real run."""

import dataclasses
import json
import os
import signal
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

import histeq
from histeq._bench import (
    calibrate,
    compare,
    machine,
    peers,
    phases,
    pixels,
    plan,
    plot,
    report,
    session,
    verdict,
)
from histeq._bench.cases import Case, size_of
from histeq._bench.remote import LibraryError, Remote
from histeq._bench.result import BenchRecord, BenchResult, LeftOut
from histeq._bench.session import Candidate, Session
from histeq._bench.statistics import Side, Summary, judge, take_turns
from histeq._bench.worker import Worker, on_device
from histeq._cli import cli
from histeq._core import memory, tuning

CASE = Case("equalize", "u8", "64", 64, 64)


def run(*arguments, code=0):
    result = CliRunner().invoke(cli, ["bench", *map(str, arguments)], prog_name="histeq")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    return result


class Clock:
    """Time that passes when somebody says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def call(self, *takes):
        """Return a call that takes these times in turn."""
        times = iter([])

        def made():
            nonlocal times
            took = next(times, None)
            if took is None:
                times = iter(takes)
                took = next(times)
            self.now += took
            return took

        return made


class TestStatistics:
    def test_turns_alternate_and_another_begins_each_round(self):
        clock, order = Clock(), []

        def called(name, took):
            def call():
                order.append(name)
                clock.now += took
                return took

            return call

        times = take_turns({"a": called("a", 1), "b": called("b", 2)}, 9, clock=clock)
        assert order[:6] == ["a", "b", "b", "a", "a", "b"]
        assert set(times["a"]) == {1}
        assert set(times["b"]) == {2}

    def test_known_medians_end_it_early(self):
        clock = Clock()
        times = take_turns({"steady": clock.call(1.0), "loud": clock.call(1.0, 2.0, 3.0)}, 1000, clock=clock)
        assert len(times["steady"]) == 5
        assert len(times["loud"]) == 40

    def test_time_ends_it_after_one_call_each(self):
        clock = Clock()
        times = take_turns({"slow": clock.call(50.0), "quick": clock.call(0.1)}, 0.0, clock=clock)
        assert times == {"slow": [50.0], "quick": [0.1]}

    def test_slow_ones_sit_out(self):
        clock = Clock()
        times = take_turns({"slow": clock.call(40.0), "quick": clock.call(0.1, 0.2)}, 100, clock=clock)
        assert len(times["slow"]) == 2  # 80 of its 50 seconds
        assert len(times["quick"]) == 40

    def test_outliers_move_nothing(self):
        assert Summary.of([1.0] * 9 + [100.0]).median == 1.0
        assert Summary.of([1.0] * 9 + [100.0]).uncertainty == 0

    def test_clearly_less(self):
        quick, slow, between = Summary(1, 0.9, 1.1, 9), Summary(2, 1.8, 2.2, 9), Summary(1.5, 1.0, 1.9, 9)
        assert quick.is_clearly_less(slow)
        assert not slow.is_clearly_less(quick)
        assert not quick.is_clearly_less(between)
        assert not dataclasses.replace(quick, samples=2).is_clearly_less(slow)

    @pytest.mark.parametrize(
        ("median", "lows", "others", "outcome"),
        [
            (1.00, (1.00, 1.01, 0.99), (1.0,), "same"),
            (1.60, (1.02, 1.00, 1.03), (1.0,), "same"),  # it was busier
            (1.50, (1.50, 1.52, 1.49), (1.0,), "slower"),
            (0.60, (0.60, 0.61, 0.60), (1.0,), "faster"),
            (1.30, (1.30, 1.30, 1.30), (1.3, 1.28, 1.31), "same"),  # the whole machine was slower
            (1.00, (1.00, 1.00, 1.00), (0.7, 0.72, 0.71), "same"),  # the others alone were faster
            (1.30, (1.30, 1.30, 1.30), (), "slower"),
            (1.00, (1.30, 1.30, 1.30), (), "unclear"),  # the medians do not agree
            (1.40, (1.20, 1.45, 1.60), (1.0,), "unclear"),  # it drifts more than it changed
            (1.30, (1.00, 1.40, 1.30), (1.0,), "same"),  # it was disturbed twice
            (1.70, (1.70, 1.70, 1.70), (1.38, 1.4, 1.37), "unclear"),  # not beyond what the machine did
            (3.00, (2.60, 3.00, 3.40), (1.1,), "slower"),  # that much cannot be noise
            (1.12, (1.12, 1.12, 1.12), (1.0,), "slower"),
        ],
    )
    def test_comparison(self, median, lows, others, outcome):
        old = Side(1.0, 30, (1.0, 1.0, 1.01))
        assert judge(old, Side(median, 30, lows), others) == outcome

    def test_comparison_in_noise(self):
        old, new = Side(1.0, 30, (1.0, 1.0, 1.0)), Side(1.12, 30, (1.12, 1.12, 1.12))
        assert judge(old, new) == "slower"
        assert judge(old, new, is_noisy=True) == "same"
        new = Side(1.5, 30, (1.5, 1.5, 1.5))
        assert judge(old, new, is_noisy=True) == "slower"
        assert judge(old, new, (1.0, 1.0, 1.6), is_noisy=True) == "unclear"
        assert judge(old, dataclasses.replace(new, samples=6), is_noisy=True) == "unclear"
        assert judge(old, new, threads=2) == "slower"
        assert judge(old, new, threads=2, is_noisy=True) == "unclear"

    def test_comparison_of_few_samples_is_unclear(self):
        few = Side(1.0, 1, (1.0,))
        assert judge(few, few) == "unclear"

    def test_noise(self):
        class Ticks:
            """A clock whose intervals are 1 and, now and then, 3."""

            def __init__(self):
                self.count, self.now = 0, 0.0

            def __call__(self):
                self.count += 1
                self.now += 3.0 if self.count % 5 == 0 else 1.0
                return self.now

        assert machine.noise(100, Ticks()) == pytest.approx(2.0)
        assert "noisy" in machine.noise_in_words(0.3)
        assert "quiet" in machine.noise_in_words(0.01)


class FakeLibrary:
    """A library in no process: calls that take what it is told, of pixels that are right or not."""

    def __init__(self, clock, takes, change=None, fails=()):
        self.clock, self.takes, self.change, self.fails = clock, takes, change, dict(fails)
        self.start_seconds, self.requests, self.closed = 0.5, [], 0

    def ask(self, do, limit, **arguments):
        self.requests.append(do)
        if do in self.fails and self.requests.count(do) >= self.fails[do][0]:
            raise self.fails[do][1]
        if do == "turn":
            self.clock.now += self.takes
            return {"seconds": self.takes, "host": None, "device": None}
        if arguments["result"]:
            case = Case(**arguments["case"])
            inputs = [np.load(path) for path in arguments["inputs"]]
            result = case.call(np.load(arguments["image"]), None, inputs)()
            np.save(arguments["result"], result if self.change is None else self.change(result))
        return {"first": 0.01}

    def close(self):
        self.closed += 1


def measured(libraries, cases=(CASE,), **options):
    """Run a session with made-up libraries; return its result. A list of libraries: one after a restart."""
    kinds = {"numba": "backend", "numpy": "backend", "memcpy": "ceiling"}
    candidates = [Candidate(name, kinds.get(name, "peer"), 1) for name in libraries]
    clock = next(iter(libraries.values()))
    clock = (clock[0] if isinstance(clock, list) else clock).clock

    def connect(name, limit):
        library = libraries[name]
        library = library.pop(0) if isinstance(library, list) else library
        if isinstance(library, Exception):
            raise library
        return library

    made = Session(cases, candidates, seconds=options.pop("seconds", 10), connect=connect, clock=clock,
                   noise=lambda: 0.01, **options)  # fmt: skip
    made.run()
    return made.result()


class TestSession:
    def test_records(self):
        clock = Clock()
        libraries = {"numba": FakeLibrary(clock, 0.001), "opencv": FakeLibrary(clock, 0.002),
                     "memcpy": FakeLibrary(clock, 0.0005)}  # fmt: skip
        seen = []
        result = measured(libraries, progress=lambda what, share: seen.append(share))
        ours, theirs, copy = result
        assert (ours.candidate, ours.seconds, ours.pixels) == ("numba", 0.001, "identical")
        assert ours.mpixels_per_second == pytest.approx(4096 / 0.001 / 1e6)
        assert (ours.share_of_copy, theirs.share_of_copy) == pytest.approx((0.5, 0.25))
        assert ours.cold_start_seconds == pytest.approx(0.51)
        assert len(ours.visits) == 3
        assert copy.kind == "ceiling"
        assert verdict.winner([*result]) == "fastest: numba, 2.00x as fast as opencv"
        assert all(library.closed for library in libraries.values())
        assert seen == sorted(seen)
        assert 0 <= seen[0] <= seen[-1] < 1

    def test_the_rule_in_which_pixels_differ(self):
        clock = Clock()
        image = CASE.image()
        theirs = FakeLibrary(clock, 1, lambda ours: histeq.equalize(image, rule="pillow"))
        fractions = FakeLibrary(clock, 1, lambda ours: histeq.equalize(image, rule="skimage"))
        libraries = {"numba": FakeLibrary(clock, 1), "pillow": theirs, "skimage": fractions}
        found = {record.candidate: record.pixels for record in measured(libraries)}
        assert found == {"numba": "identical", "pillow": "rule pillow", "skimage": "rule skimage"}

    def test_other_pixels_are_reported_and_skipped(self):
        clock = Clock()

        def change(result):
            result[0, 0] ^= 3
            return result

        result = measured({"numba": FakeLibrary(clock, 1), "opencv": FakeLibrary(clock, 1, change)})
        assert [record.candidate for record in result] == ["numba"]
        (left,) = result.left_out
        assert left.what == "opencv: equalize u8 64, natural"
        assert left.why == "other pixels: 0.0% differ from histeq's, by up to 3"
        assert result.wrong == []

    def test_a_backend_with_other_pixels_is_a_fault(self):
        clock = Clock()
        result = measured({"numba": FakeLibrary(clock, 1), "numpy": FakeLibrary(clock, 1, np.invert)})
        assert len(result.wrong) == 1
        assert "numpy" in result.wrong[0]
        assert "please report" in report.table(result)

    def test_what_hangs_is_ended_and_started_again_for_the_other_cases(self):
        clock, hang = Clock(), LibraryError("took longer than 30 s and was ended", dead=True)
        cases = [CASE, dataclasses.replace(CASE, op="histogram")]
        first = FakeLibrary(clock, 1, fails={"turn": (2, hang)})
        second = FakeLibrary(clock, 1)
        result = measured({"numba": FakeLibrary(clock, 1), "opencv": [first, second]}, cases, seconds=100)
        assert LeftOut("opencv: equalize u8 64, natural", str(hang)) in result.left_out
        found = {(record.op, record.candidate) for record in result}
        assert found == {("equalize", "numba"), ("histogram", "numba"), ("histogram", "opencv")}
        assert first.closed
        assert second.requests[0] == "prepare"  # what the first one had prepared is prepared again

    def test_what_ends_twice_is_left_out(self):
        clock, crash = Clock(), LibraryError("its process was ended by SIGSEGV", dead=True)
        cases = [CASE, dataclasses.replace(CASE, op="histogram"), dataclasses.replace(CASE, op="lut")]
        crashing = [FakeLibrary(clock, 1, fails={"prepare": (1, crash)}) for _ in range(2)]
        result = measured({"numba": FakeLibrary(clock, 1), "opencv": crashing}, cases)
        assert {record.candidate for record in result} == {"numba"}
        assert any("ended twice" in left.why for left in result.left_out)

    def test_what_cannot_be_imported(self):
        clock, missing = Clock(), LibraryError("ModuleNotFoundError: no", missing=True)
        result = measured(
            {"numba": FakeLibrary(clock, 1), "pillow": [missing], "opencv": [LibraryError("broken")]}
        )
        assert result.left_out == [
            LeftOut("pillow", "not installed; to add it: pip install pillow"),
            LeftOut("opencv", "broken"),
        ]

    def test_failing_calls_are_told(self):
        clock = Clock()
        wrong = FakeLibrary(clock, 1, fails={"prepare": (1, LibraryError("TypeError: no"))})
        result = measured({"numba": FakeLibrary(clock, 1), "opencv": wrong})
        assert result.left_out == [LeftOut("opencv: equalize u8 64, natural", "TypeError: no")]
        assert not wrong.requests.count("turn")

    def test_what_takes_too_long_a_call_is_not_timed_on(self):
        clock = Clock()
        slow = FakeLibrary(clock, 30)
        slow.ask, asked = (lambda do, limit, **a: {**asked(do, limit, **a), "first": 30}), slow.ask
        result = measured({"numba": FakeLibrary(clock, 0.01), "opencv": slow}, seconds=60)
        assert [record.candidate for record in result] == ["numba"]
        assert "a call takes 30.0 s" in result.left_out[0].why

    def test_no_memory_for_a_size(self, monkeypatch):
        monkeypatch.setattr(memory, "available_memory", lambda unsaid: 1 << 20)
        clock = Clock()
        large = Case("equalize", "u8", "16k", 16384, 16384)
        result = measured({"numba": FakeLibrary(clock, 1)}, [CASE, large])
        assert [record.size for record in result] == ["64"]
        (left,) = result.left_out
        assert left.what == "equalize u8 16k, natural"
        assert "not enough memory: " in left.why

    def test_memory_that_runs_out(self, monkeypatch):
        def fail(self):
            raise MemoryError

        monkeypatch.setattr(Case, "image", fail)
        result = measured({"numba": FakeLibrary(Clock(), 1)})
        assert result.left_out == [LeftOut("equalize u8 64, natural", "not enough memory")]

    def test_an_interrupt_leaves_what_was_measured(self):
        clock = Clock()
        numba = FakeLibrary(clock, 1, fails={"turn": (4, KeyboardInterrupt())})
        made = Session([CASE], [Candidate("numba", "backend", 1)], seconds=5, connect=lambda *_: numba,
                       clock=clock, noise=lambda: 0.0)  # fmt: skip
        with pytest.raises(KeyboardInterrupt):
            made.run()
        result = made.result(interrupted=True)
        assert [record.samples for record in result] == [3]
        assert "interrupted" in report.table(result)
        assert numba.closed


class TestProcesses:
    """With real ones: a second each."""

    def test_the_path(self):
        result = histeq.bench(
            ops=["equalize", "lut"], sizes=["64"], backends=["numba"], peers=["opencv", "pillow"],
            threads=[1], seconds=0.2,
        )  # fmt: skip
        found = {(record.op, record.candidate): record.pixels for record in result}
        assert found == {
            ("equalize", "numba"): "identical", ("equalize", "opencv"): "identical",
            ("equalize", "pillow"): "rule pillow", ("lut", "numba"): "identical",
            ("lut", "opencv"): "identical", ("lut", "pillow"): "identical",
            ("equalize", "memcpy"): "", ("lut", "memcpy"): "",
        }  # fmt: skip
        assert result.left_out == []
        assert all(record.seconds > 0 and record.samples >= 3 for record in result)
        assert BenchResult.from_json(result.to_json()) == result
        assert result.environment["cpu"]
        assert result.verdict().endswith(".")

    def test_a_process_that_hangs_and_one_that_is_killed(self):
        if not hasattr(signal, "SIGSTOP"):
            pytest.skip("processes cannot be stopped here")
        hanging = Remote("memcpy", 60)
        assert hanging.about["version"] == np.__version__
        with pytest.raises(LibraryError, match="FileNotFoundError") as failure:
            hanging.ask(
                "prepare",
                60,
                key="",
                case=dataclasses.asdict(CASE),
                image="no",
                inputs=[],
                threads=1,
                result="",
            )
        assert not failure.value.dead
        os.kill(hanging._process.pid, signal.SIGSTOP)
        with pytest.raises(LibraryError, match=r"took longer than 0\.05 s and was ended") as failure:
            hanging.ask("turn", 0.05, key="")
        assert failure.value.dead
        assert hanging._process.poll() is not None
        killed = Remote("memcpy", 60)
        os.kill(killed._process.pid, signal.SIGKILL)
        with pytest.raises(LibraryError, match="its process was ended by SIGKILL"):
            killed.ask("turn", 60, key="")


class TestWorker:
    """In this process."""

    @pytest.fixture
    def paths(self, tmp_path):
        image = CASE.image()
        np.save(tmp_path / "image.npy", image)
        return {"image": str(tmp_path / "image.npy"), "inputs": [], "result": str(tmp_path / "result.npy")}

    @pytest.mark.parametrize("name", ["numba", "numpy", "opencv", "vips", "recipe", "memcpy"])
    def test_turns(self, name, paths):
        worker = Worker()
        worker.open(name)
        assert worker.prepare("k", dataclasses.asdict(CASE), threads=1, **paths)["first"] > 0
        assert worker.turn("k")["seconds"] > 0
        if name != "memcpy":
            judge = pixels.Judge(CASE, CASE.image(), [])
            assert judge.compare(np.load(paths["result"])) in ("identical", "rule vips", "rule numpy")

    def test_counts_are_compared_as_far_as_opencv_has_them(self):
        theirs = np.array([[3], [2**24 + 4]], np.float32)
        assert pixels.same(theirs, np.array([3, 2**24 + 5]))  # no float32
        assert not pixels.same(theirs, np.array([3, 2**24 + 7]))
        assert not pixels.same(theirs, np.array([4, 2**24 + 4]))

    def test_every_way_gives_pixels_of_ours(self):
        for library in peers.PEERS.values():
            if not peers.installed(library.name) or library.name in (
                "torchvision",
                "kornia",
                "cvcuda",
                "cucim",
            ):
                continue
            if library.setup:
                library.setup()
            for (op, kind), way in library.ways.items():
                for dtype in way.dtypes.split():
                    for layout, batch in (("HW", 0), ("NHW", 3)):
                        if op == "match" and batch:
                            continue
                        layout = layout if kind == "grey" else f"{layout}C"
                        color = "luma" if kind == "grey" else kind
                        case = Case(op, dtype, "30x50", 30, 50, layout=layout, batch=batch, color=color)
                        image = case.image()
                        inputs = case.inputs(image)
                        judge = pixels.Judge(case, image, inputs)
                        out = np.empty_like(image)
                        call = library.prepare(way, image, out, inputs, batch)
                        found = judge.compare(peers.as_array(call()), way.rule)
                        assert found == "identical" or found == f"rule {way.rule}", (case, library.name)

    def test_device(self, gpu, paths):
        """Device and host times apart, transfers by themselves: as far as the stand-in can tell."""

        class Event:
            """The stand-in has none."""

            def record(self):
                pass

            def synchronize(self):
                gpu.cuda.Device().synchronize()

        if not hasattr(gpu.cuda, "Event"):
            gpu.cuda.Event = Event
            gpu.cuda.get_elapsed_time = lambda began, ended: 2000.0
        worker = Worker()
        worker.open("cupy-device")
        reply = worker.prepare("k", dataclasses.asdict(CASE), threads=1, **paths)
        assert reply["upload"] > 0
        assert reply["download"] > 0
        pixels.Judge(CASE, CASE.image(), []).compare(np.load(paths["result"]))
        times = worker.turn("k")
        assert times["seconds"] >= times["host"] > 0
        assert times["device"] > 0
        times = on_device(lambda: None, gpu, Clock())
        assert times.seconds == 0


def record(op="equalize", candidate="numba", seconds=1.0, spread=0.02, threads=1, batch=0, **others):
    kinds = {"numba": "backend", "numpy": "backend", "cupy": "backend", "cupy-device": "backend",
             "memcpy": "ceiling"}  # fmt: skip
    names = {
        "op": op, "dtype": "u8", "size": "4k", "rows": 2160, "columns": 3840, "content": "natural",
        "layout": "NHW" if batch else "HW", "batch": batch, "color": "luma", "candidate": candidate,
        "kind": kinds.get(candidate, "peer"), "threads": threads, "pixels": "identical", "seconds": seconds,
        "q1": seconds * (1 - spread), "q3": seconds * (1 + spread), "samples": 20, "visits": (seconds,) * 3,
        "lows": (seconds,) * 3,
        "mpixels_per_second": 8.3 / seconds, "bytes_per_second": 16.6e6 / seconds,
        "share_of_copy": 0.1 / seconds,
        "first_call_seconds": 0.3,
    }  # fmt: skip
    return BenchRecord(**{**names, **others})


def result_of(*records, **others):
    environment = {
        "cpu": "A CPU", "microarchitecture": "cpu1", "tier": "avx2", "affinity": 2, "logical_cpus": 2,
        "gpu": "",
        "histeq": "1", "python": "3", "versions": {}, "threads": 2, "quota": 1.5, "commit": "abc",
    }  # fmt: skip
    return BenchResult(records=list(records), **{"environment": environment, "noise": 0.02, **others})


class TestReport:
    def test_table(self):
        result = result_of(
            record(threads=2, seconds=0.001), record(candidate="opencv", seconds=0.0025),
            record(candidate="cupy-device", seconds=0.003, host_seconds=1e-5, device_seconds=2e-3,
                   upload_seconds=1e-3, download_seconds=2e-3),
            record(candidate="memcpy", seconds=0.0001, pixels=""),
            left_out=[LeftOut("kornia", "not installed; to add it: pip install kornia")],
        )  # fmt: skip
        text = report.table(result)
        assert "equalize u8 4k, natural (2160 x 3840)" in text
        assert "fastest: numba (2 threads), 2.50x as fast as opencv" in text
        assert (
            "the host is free after 10 us, the device takes 2 ms; not in it: 1 ms there and 2 ms back" in text
        )
        assert "kornia: not installed; to add it: pip install kornia" in text
        assert "quota 1.5" in text
        assert "noise of the machine: 2.0%, quiet" in text
        assert text.splitlines()[-1] == result.verdict()
        rows = [line for line in report.markdown(result).splitlines() if line.startswith("|")]
        assert {row.count("|") for row in rows} == {9}
        assert len(rows) == 2 + 4

    def test_no_clear_winner(self):
        records = [record(threads=2, spread=0.3), record(candidate="opencv", seconds=1.1, spread=0.3)]
        assert verdict.winner(records) == "no clear winner: numba (2 threads), opencv"
        assert verdict.fastest(records) is None
        assert verdict.fastest([record(pixels="rule pillow"), record(seconds=3.0)]).seconds == 3.0

    def test_csv(self):
        lines = report.comma_separated(result_of(record(), record(candidate="numpy"))).splitlines()
        assert lines[0].startswith("op,dtype,size")
        assert len(lines) == 3
        assert ",1.0 1.0 1.0,1.0 1.0 1.0," in lines[1]

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (2.5e-6, "2.5 us"), (1e-3, "1 ms"), (0.99951e-3, "1 ms"), (0.9999, "1 s"), (12.34, "12.3 s"),
            (1234.5, "1234 s"), (0.0, "0 us"), (123e-9, "0.123 us"),
        ],
    )  # fmt: skip
    def test_durations(self, seconds, text):
        assert report.duration(seconds) == text

    def test_verdict(self):
        right = result_of(record(threads=2), record(seconds=2.0), record(candidate="numpy", seconds=9.0))
        assert right.verdict() == (
            "For arrays in host memory the automatic choice would take numba, 2 threads, and nothing of "
            "histeq's was clearly faster in any case."
        )
        wrong = result_of(record(threads=2, seconds=3.0), record(seconds=2.0), *right.records[:0])
        assert (
            "right in 0 of 1 cases; faster would be equalize u8 4k, natural (numba: 1.50x)."
            in wrong.verdict()
        )
        assert "was not measured beside others" in result_of(record()).verdict()

    @pytest.mark.parametrize(
        ("device", "text"),
        [
            ({1: 3.0, 4: 0.5, 16: 0.3}, "the GPU pays from 4 images a call"),
            ({1: 0.5}, "the GPU pays from 1 image a call"),
            ({1: 0.5, 4: 3.0}, "the GPU did not pay with up to 4 images a call"),
        ],
    )
    def test_when_the_gpu_pays(self, device, text):
        records = [record(threads=2, batch=n if n > 1 else 0) for n in device]
        records += [record(candidate="cupy", seconds=t, batch=n if n > 1 else 0) for n, t in device.items()]
        assert text in result_of(*records).verdict()

    def test_plot(self, tmp_path):
        records = [
            record(op, candidate, 0.01 / n, threads=n, size=size, rows=rows)
            for op in ("equalize", "clahe", "lut")
            for candidate in ("numba", "opencv", "memcpy")
            for n in (1, 2)
            for size, rows in (("256", 256), ("4k", 2160))
        ]
        plot.draw(result_of(*records), tmp_path / "plot.png")
        assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
        with pytest.raises(ValueError, match="no records"):
            plot.draw(result_of(), tmp_path / "none.png")


class TestCompare:
    def test_outcomes(self):
        peer = record(candidate="opencv", seconds=3.0)
        old = result_of(record(), record("clahe"), record("histogram"), record("lut"), peer)
        new = result_of(
            record(seconds=2.0), record("clahe", seconds=0.5), record("histogram"), record("match"), peer
        )
        outcomes = {change.new.key[:2]: change.outcome for change in compare.changes(old, new)}
        assert outcomes == {
            ("equalize u8 4k, natural", "numba"): "slower", ("equalize u8 4k, natural", "opencv"): "same",
            ("clahe u8 4k, natural", "numba"): "faster", ("histogram u8 4k, natural", "numba"): "same",
        }  # fmt: skip
        text = compare.text(old, new)
        assert text.splitlines()[0] == "slower   equalize u8 4k, natural: numba: 1 s -> 2 s (2.00x)"
        assert text.splitlines()[-1] == "1 slower, 1 faster, 2 same, 0 unclear"
        assert "in one run only: match u8 4k, natural: numba" in text

    def test_a_machine_that_slowed_down_is_no_regression(self):
        names = ("numba", "opencv", "pillow", "vips")
        old, new = (result_of(*(record(candidate=n, seconds=s) for n in names)) for s in (1.0, 1.3))
        assert {change.outcome for change in compare.changes(old, new)} == {"same"}

    def test_other_versions_are_told(self):
        old, new = result_of(record()), result_of(record())
        new.environment = {**new.environment, "versions": {"opencv": "5"}, "tier": "portable"}
        assert "other libraries have other versions" in compare.text(old, new)
        assert "tier was 'avx2' and is 'portable'" in compare.text(old, new)


class TestPlan:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"ops": ["equalise"]}, "ops must be of equalize, clahe, histogram, lut, match, got 'equalise'"),
            ({"dtypes": ["u32"]}, "dtypes must be of u8, u16, f32, got 'u32'"),
            ({"sizes": ["8mp"]}, "size must be one of 64, 256, 1080p, 4k, 8k, 16k, or ROWSxCOLUMNS"),
            ({"contents": ["cats"]}, "contents must be of natural, constant, two-valued, noise, got 'cats'"),
            ({"backends": ["cuda"]}, "backends must be of numba, numpy, cupy, got 'cuda'"),
            ({"peers": ["matlab"]}, "peers must be of opencv, skimage, pillow, vips, recipe, torchvision"),
            ({"layout": "CHW"}, "layout must be one of HW, HWC, NHW, NHWC, got 'CHW'"),
            ({"color": "red"}, "color must be one of luma, channels, got 'red'"),
            ({"threads": [0]}, "threads must be whole numbers from 1 to 4096, got 0"),
            ({"batch": 4}, "batch needs a layout with N"),
            ({"ops": []}, "ops must name at least one of"),
            ({"image": np.zeros((3, 3), np.int32)}, "image must be of dtype uint8, uint16, float32"),
            ({"image": np.zeros((3, 3, 3), np.uint8)}, "layout must be one of HW, HWC, NHW, NHWC, got ''"),
            ({"image": np.zeros((0, 3), np.uint8)}, "image must not be empty"),
            ({"image": np.zeros((3, 3), np.uint8), "sizes": ["4k"]}, "sizes is the image's own"),
            ({"seconds": 0}, "seconds must be a number above 0"),
        ],
    )  # fmt: skip
    def test_wrong_arguments(self, arguments, message):
        with pytest.raises((ValueError, TypeError)) as error:
            histeq.bench(**arguments)
        assert str(error.value).startswith(message)

    def test_defaults(self):
        found = plan.plan()
        assert [case.size for case in found.cases] == ["256", "1080p", "4k"] * 4
        assert {c.library for c in found.candidates} >= {"numba", "numpy", "opencv", "pillow", "memcpy"}
        missing = {left.what: left.why for left in found.left_out}
        assert missing["cvcuda"] == "not installed; to add it: pip install cvcuda-cu12"

    def test_own_image(self):
        image = np.zeros((5, 7, 9, 3), np.uint16)
        found = plan.plan(image, layout="NHWC", ops=["equalize"], peers=[])
        (case,) = found.cases
        assert (case.batch, case.rows, case.columns, case.dtype, case.shape) == (5, 7, 9, "u16", image.shape)
        assert found.given[case] is image

    def test_sizes(self):
        assert size_of("1000x1500") == (1000, 1500)
        assert size_of("4K") == (2160, 3840)

    @pytest.mark.parametrize("photographs", [True, False])
    def test_images(self, photographs, monkeypatch):
        from histeq._bench import images

        if not photographs:
            monkeypatch.setattr(images, "_folder", lambda: None)
        for layout in ("HW", "HWC", "NHWC"):
            for dtype in ("u8", "u16", "f32"):
                case = Case(
                    "equalize", dtype, "50x70", 50, 70, layout=layout, batch=2 if "N" in layout else 0
                )
                image = case.image()
                assert image.shape == case.shape
                assert image.nbytes == case.bytes
                assert len(np.unique(image)) > 50
                images.make.cache_clear()


class TestCommand:
    @pytest.fixture
    def kept(self, tmp_path):
        old, new = tmp_path / "old.json", tmp_path / "new.json"
        old.write_text(result_of(record(), record(candidate="numpy", seconds=2.0)).to_json())
        new.write_text(result_of(record(seconds=1.6), record(candidate="numpy", seconds=2.0)).to_json())
        return old, new

    def test_runs_of_before(self, kept, tmp_path):
        old, new = kept
        assert "since" not in run("--load", old).stdout
        assert "2 same" in run("--load", old, "--compare", old).stdout
        assert "1 slower" in run("--load", new, "--compare", old, code=3).stdout
        assert "1 faster" in run("--load", old, "--compare", new).stdout
        run("--load", old, "--plot", tmp_path / "plot.png")
        assert (tmp_path / "plot.png").exists()
        assert json.loads(run("--load", old, "--output", "json").stdout)["format"] == "histeq bench 1"
        result = run("--load", new, "--compare", old, "--output", "json", code=3)
        json.loads(result.stdout)  # and nothing else
        assert "1 slower" in result.stderr

    def test_what_cannot_be_written_is_noticed_first(self, tmp_path, monkeypatch):
        monkeypatch.setattr(session, "Session", None)  # nothing is measured
        there = tmp_path / "there.json"
        there.write_text("mine")
        broken = tmp_path / "broken.json"
        broken.write_text(result_of(record(lows=(0.0,))).to_json())
        for arguments, says in (
            (("--save", tmp_path / "no" / "a.json"), "a.json: No such file or directory"),
            (("--save", tmp_path), "exists already"),
            (("--save", there), "there.json: exists already; --overwrite replaces it"),
            (("--plot", tmp_path / "no" / "a.png"), "a.png: No such file or directory"),
            (("--compare", tmp_path / "no.json"), "no.json: No such file or directory"),
            (("--compare", there), "there.json: it holds no result of histeq bench"),
            (("--load", there), "there.json: it holds no result of histeq bench"),
            (
                ("--load", broken),
                "broken.json: it holds no result of histeq bench (the times of numba are none)",
            ),
            (("--ops", "equalise"), "ops must be of equalize"),
            ((tmp_path / "no.png",), "no.png: No such file"),
        ):
            result = run(*arguments, code=1)
            assert says in result.stderr
            assert result.stderr.count("\n") == 1
        assert there.read_text() == "mine"
        assert sorted(tmp_path.iterdir()) == [broken, there]

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("--threads", "x"), "'x' is not one or more whole numbers"),
            (("--plot", "a.bmp"), "must end in .png, .svg or .pdf"),
            (("--write",), "--write belongs to --calibrate"),
            (("--file", "a.tif", "--calibrate"), "exclude each other"),
            (("--file", "a.tif", "--size", "4k"), "--size does not go with --file"),
            (("--load", "a.json", "image.png"), "IMAGE does not go with --load"),
            (("--seconds", "0"), "not in the range"),
        ],
    )
    def test_usage(self, arguments, says):
        assert says in run(*arguments, code=2).stderr

    def test_own_image_and_interrupt(self, tmp_path, monkeypatch):
        clock = Clock()
        libraries = {"numba": FakeLibrary(clock, 1, fails={"turn": (3, KeyboardInterrupt())})}

        def connect(name, limit):
            return libraries.setdefault(name, FakeLibrary(clock, 1))

        made = []

        def made_up(*arguments, **keywords):
            made.append(Session(*arguments, **keywords, connect=connect, clock=clock, noise=lambda: 0.0))
            return made[-1]

        monkeypatch.setattr(session, "Session", made_up)
        tifffile.imwrite(tmp_path / "a.tif", np.arange(1200, dtype=np.uint16).reshape(30, 40))
        result = run(
            tmp_path / "a.tif", "--ops", "equalize", "--peers", "none", "--threads", "1", "--save",
            tmp_path / "kept.json", code=130,
        )  # fmt: skip
        assert "equalize u16 30x40, a.tif (30 x 40)" in result.stdout
        assert "interrupted: these are the times until then" in result.stdout
        assert BenchResult.load(tmp_path / "kept.json").interrupted


class TestPhases:
    def test_inner_phases_are_taken_out(self):
        clock = Clock()
        told = phases.PhaseClock(clock)
        with told.phase("encode"):
            clock.now += 1
            with told.phase("write"):
                clock.now += 5
            clock.now += 2
        assert told.seconds == {"read": 0, "decode": 0, "count": 0, "map": 0, "encode": 3, "write": 5}

    @pytest.mark.parametrize("op", ["equalize", "clahe"])
    def test_a_file(self, op, tmp_path, monkeypatch):
        from histeq._passes import run as passes

        monkeypatch.setattr(passes, "SMALL", 1)  # in blocks, however small
        image = np.random.default_rng(0).integers(0, 255, (200, 300), dtype=np.uint8)
        tifffile.imwrite(tmp_path / "a.tif", image, tile=(64, 64), compression="zlib")
        before = passes.Run.step
        found = phases.time_file(tmp_path / "a.tif", op, rounds=1)
        assert all(seconds > 0 for seconds in found.phases.values())
        assert (found.width, found.height, found.pages) == (300, 200, 1)
        assert "of the threads' time" in found.table()
        assert passes.Run.step is before
        assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]

    def test_command(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", np.zeros((20, 30), np.uint8))
        text = run("--file", tmp_path / "a.tif", "--ops", "equalize,clahe").stdout
        assert text.count("most of it is") == 2
        (found,) = json.loads(run("--file", tmp_path / "a.tif", "--output", "json").stdout)
        assert found["op"] == "equalize"
        assert "No such file" in run("--file", tmp_path / "no.tif", code=1).stderr
        assert (
            "equalize and clahe, got 'lut'"
            in run("--file", tmp_path / "a.tif", "--ops", "lut", code=1).stderr
        )

    def test_video(self, tmp_path):
        import av

        path = tmp_path / "a.mp4"
        with av.open(path, "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for n in range(5):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * n, np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        (found,) = json.loads(run("--video", path, "--output", "json").stdout)
        assert (found["pages"], found["width"], found["height"]) == (5, 64, 48)
        assert all(seconds > 0 for seconds in found["phases"].values())
        assert "--ops does not go with --video" in run("--video", path, "--ops", "clahe", code=2).stderr
        assert "No such file" in run("--video", tmp_path / "no.mp4", code=1).stderr


class TestCalibration:
    def test_crossover(self):
        sizes = [1, 2, 4, 8]
        assert calibrate.crossover(sizes, [False, False, True, True]) == 4
        assert calibrate.crossover(sizes, [True, False, True, True]) == 4  # one lucky size is none
        assert calibrate.crossover(sizes, [True] * 4) == 1
        assert calibrate.crossover(sizes, [True, True, True, False]) is None

    @pytest.fixture
    def two_processors(self, monkeypatch):
        monkeypatch.setattr(calibrate, "usable_cpus", lambda: 2)

    def test_thresholds(self, two_processors):
        def timed(op, side, threads):
            """Two threads take half the time, and as long as 300,000 pixels take one."""
            return side * side / threads + (300_000 if threads > 1 else 0)

        found = calibrate.calibrate(0.1, timed=timed)
        assert [each.measured for each in found[:3]] == [1024 * 1024] * 3
        assert [each.agrees for each in found[:3]] == [True, True, True]
        assert calibrate.to_keep(found) == {}

    def test_what_differs_is_kept(self, two_processors, tmp_path, monkeypatch):
        where = tmp_path / "new" / "tuning.json"
        monkeypatch.setenv("HISTEQ_TUNING", str(where))
        monkeypatch.setattr(calibrate, "_timed", lambda op, side, threads: 1 / threads)
        text = run("--calibrate", "--seconds", "1000").stdout
        assert "(differs)" in text
        assert "--write would keep what differs" in text
        assert not where.exists()
        assert f"kept in {where}" in run("--calibrate", "--write", "--seconds", "1000").stdout
        assert tuning.read(where)[tuning.machine()] == {
            "equalize": 128 * 128, "piece": 128 * 64, "clahe piece": 128 * 64,
        }  # fmt: skip

    def test_what_never_pays_is_not_kept(self, two_processors, monkeypatch, tmp_path):
        monkeypatch.setenv("HISTEQ_TUNING", str(tmp_path / "tuning.json"))
        monkeypatch.setattr(calibrate, "_timed", lambda op, side, threads: float(threads))
        text = run("--calibrate", "--write", "--seconds", "1000").stdout
        assert text.count("pays at no size") >= 3
        assert text.splitlines()[-1].startswith("nothing to keep: more threads paid at no size")
        assert not list(tmp_path.iterdir())

    def test_real_calls_leave_the_thresholds_as_they_are(self):
        before = [calibrate._in_use(name) for name in calibrate._places()]
        for op in ("equalize", "lut", "clahe"):
            assert calibrate._timed(op, 64, 2) > 0
        assert [calibrate._in_use(name) for name in calibrate._places()] == before


class TestTuning:
    @pytest.fixture
    def where(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HISTEQ_TUNING", str(tmp_path / "tuning.json"))
        tuning._measured.cache_clear()
        yield tmp_path / "tuning.json"
        tuning._measured.cache_clear()

    def test_none(self, where):
        assert tuning.threshold("equalize", 7) == 7

    def test_kept_and_deleted(self, where):
        where.write_text(json.dumps({"format": tuning.FORMAT, "machines": {"another": {"equalize": 3}}}))
        assert tuning.threshold("equalize", 7) == 7
        tuning.write({"equalize": 5})
        tuning._measured.cache_clear()
        assert tuning.threshold("equalize", 7) == 5
        assert tuning.threshold("piece", 7) == 7
        tuning.write({"piece": 6})
        assert tuning.read(where) == {
            "another": {"equalize": 3},
            tuning.machine(): {"equalize": 5, "piece": 6},
        }
        assert [path.name for path in where.parent.iterdir()] == ["tuning.json"]

    @pytest.mark.parametrize(
        "text",
        [
            b"", b"{", b"[]", b"\xff\xfe", b"null",
            b'{"format": "histeq tuning 1", "machines": {"a": {"b": 0}}}',
            b'{"format": "histeq tuning 1", "machines": {"a": {"b": 1e3}}}',
            b'{"format": "2", "machines": {}}',
            b'{"format": "histeq tuning 1", "machines": {"a": {"b": true}}}',
            b" " * (1 << 21), b"[" * 100_000,
        ],
        ids=range(11),
    )  # fmt: skip
    def test_damaged_files_give_one_warning(self, where, text):
        where.write_bytes(text)
        with pytest.warns(RuntimeWarning, match=r"tuning.json is ignored: .*delete it"):
            assert tuning.threshold("equalize", 7) == 7
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert tuning.threshold("piece", 8) == 8
        tuning.write({"equalize": 5})  # made anew
        assert tuning.read(where) == {tuning.machine(): {"equalize": 5}}

    def test_what_is_no_file_is_none(self, where):
        where.mkdir()
        assert tuning.threshold("equalize", 7) == 7

    def test_where(self, monkeypatch):
        monkeypatch.setenv("HISTEQ_TUNING", "")
        assert tuning.path() is None
        with pytest.raises(ValueError, match="no place"):
            tuning.write({})
        assert "no place for the thresholds" in run("--calibrate", "--write", code=1).stderr
        monkeypatch.delenv("HISTEQ_TUNING")
        if sys.platform == "linux":
            monkeypatch.setenv("XDG_CONFIG_HOME", "/somewhere")
            assert tuning.path() == Path("/somewhere/histeq/tuning.json")
