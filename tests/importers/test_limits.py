"""Damaged, hostile and oversized input: one sentence with file, line and field, quickly, in little memory."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from benchrun.results.importers import (
    FORMATS,
    ImportFailed,
    Source,
    detect,
    find_format,
    limits,
    parse,
    parse_sidecar,
    read_sidecar,
)
from benchrun.results.importers.documents import line_of, parse_json
from benchrun.results.importers.limits import MAX_BYTES, decode_text, read_bounded

Load = Callable[[str], Source]


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("times.json", b"[" * 50_000_000)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b" \n\t", "is empty"),
        (b"\x1f\x8b\x08rest", "is gzip-compressed, not text; unpack it first"),
        (b"PK\x05\x06", "is a ZIP archive"),
        (b"SQLite format 3\0", "is a SQLite database"),
        (b"\x80\x04\x95pickled", "is a Python pickle, which is never loaded"),
        ('{"a": 1}'.encode("utf-16"), "is UTF-16 or UTF-32 text; save it as UTF-8"),
        (b'{"a":\n"\xe4"}', "line 2: is not UTF-8 text; save it as UTF-8"),
        (b'{"a":\n\n"\0"}', "line 3: holds a NUL byte, so it is no text file"),
        (b'{"a": NaN}', "line 1: holds NaN, which is not a finite number"),
        (b'{"a":\n [1, -Infinity]}', "line 2: holds -Infinity, which is not a finite number"),
        (b'{"NaN": "NaN",\n "b": NaN}', "line 2: holds NaN"),
        (b'{"a":\n 1e999}', "line 2: holds 1e999, which is not a finite number"),
        (b'{"a":\n ' + b"9" * 5000 + b"}", "line 2: holds a number of thousands of digits"),
        (b'{"a":\n {"b": 1', "line 2: ends too early"),
        (b'{"a":\n "text', "line 2: ends too early"),
        (b'{"a":\n nul}', "line 2: is not JSON: expecting value"),
        (b'{"a": "\\ud800"}', "holds half a surrogate pair in a text"),
        (b'{"a": "x\\u0000"}', "holds a NUL character in a text"),
        (b"[" * 70 + b"]" * 70, "line 1: is nested more than 64 levels deep"),
        (b"\n" + b'{"a":' * 1000, "line 2: is nested more than 64 levels deep"),
    ],
)
def test_what_is_no_document(data: bytes, message: str) -> None:
    with pytest.raises(ImportFailed) as failure:
        parse_json(Source("f.json", data))
    assert str(failure.value).startswith(("f.json: ", "f.json, line ")) and message in str(failure.value)
    assert "\n" not in str(failure.value)


def test_paired_surrogates_and_a_byte_order_mark_are_fine() -> None:
    assert parse_json(Source("f.json", b'\xef\xbb\xbf{"a": "\\ud83d\\ude00"}')).value == {"a": "\U0001f600"}


@pytest.mark.parametrize(
    "data",
    [
        b"[" * MAX_BYTES,
        b'{"a":' * (MAX_BYTES // 5),
        b"[]," * (MAX_BYTES // 3),
        b'"' + b'\\"' * (MAX_BYTES // 2 - 1),
        b'[{"computeMs":' * 4_000_000,
        zipped(),
    ],
    ids=["brackets", "objects", "empty lists", "escaped quotes", "records", "zip bomb"],
)
def test_bombs_are_refused_in_a_moment(data: bytes) -> None:
    started = time.perf_counter()
    for name in FORMATS:
        if name != "csv":
            with pytest.raises(ImportFailed):
                parse(Source("bomb.json", data), format_name=name)
    assert time.perf_counter() - started < 20  # all formats one after the other


def test_files_are_bounded_before_they_are_read(tmp_path: Path) -> None:
    sparse = tmp_path / "bomb.json"
    with sparse.open("wb") as file:
        file.truncate(100 * 2**20)
    started = time.perf_counter()
    with pytest.raises(ImportFailed, match=r"^bomb.json: is larger than 64 MiB, the most that is read; split it$"):
        read_bounded(sparse)
    assert time.perf_counter() - started < 1
    with pytest.raises(ImportFailed, match="larger than 64 MiB"):
        decode_text(Source("b", b"x" * (MAX_BYTES + 1)))


def test_only_regular_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (tmp_path / "pipe", "pipe: is not a regular file"),
        (tmp_path, "is not a regular file"),
        (Path("/dev/zero"), "zero: is not a regular file"),
        (tmp_path / "none.json", "none.json: cannot be read: no such file or directory"),
    ):
        with pytest.raises(ImportFailed, match=message):
            read_bounded(path)


def test_memory_and_time_of_the_largest_document_that_is_read(tmp_path: Path) -> None:
    """Just below the limits: four million values in one document."""
    script = tmp_path / "largest.py"
    script.write_text(
        "from pathlib import Path\n"
        "from benchrun.results.importers import ImportFailed, Source, parse\n"
        'head = b\'{"machine_info":{},"commit_info":{},"benchmarks":[\'\n'
        "data = head + b'{\"\\xf0\\x9f\\x98\\x80\":1.5e-7},' * 1_990_000 + b'1]}'\n"
        "try:\n    parse(Source('w.json', data))\nexcept ImportFailed as failure:\n    print(failure)\n"
        # not ru_maxrss: that starts at what the parent held when it forked
        "lines = Path('/proc/self/status').read_text().splitlines()\n"
        "print(next(int(line.split()[1]) for line in lines if line.startswith('VmHWM')) // 1024)\n"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    message, megabytes = done.stdout.strip().splitlines()
    assert "benchmarks[0]: 'stats' is missing" in message
    assert int(megabytes) < 1000
    assert time.perf_counter() - started < 30


def test_too_many_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_MEASUREMENTS", 1000)
    text = b"batch_size: 1, seq_length: 64, latency: 7.1\n" * 1001
    with pytest.raises(ImportFailed, match="has over 1,000 measurements; split it"):
        parse(Source("a.txt", text))


def test_too_many_lines_and_too_long_ones() -> None:
    head = b"batch_size: 1, seq_length: 64, latency: 7.1\n"
    with pytest.raises(ImportFailed, match="has over 2,000,000 lines"):
        parse(Source("a.txt", head + b"\n" * 2_100_000))
    with pytest.raises(ImportFailed, match="line 2: is longer than 1,000,000 characters"):
        parse(Source("a.txt", head + b"x" * 1_100_000))
    with pytest.raises(ImportFailed, match="has over 4,000,000 cells"):
        parse(Source("a.csv", b"engine,model_name,batch_size,sequence_length,average_latency_ms" + b"," * 4_100_000))


def test_lines_of_paths() -> None:
    text = '{\n "a": [1,\n 2, {"b": "x,[{", "c":\n -3}],\n "d": {"a": 4},\n "e": []}'
    assert line_of(text, ()) == 1
    assert line_of(text, ("a",)) == 2
    assert line_of(text, ("a", 1)) == 3
    assert line_of(text, ("a", 2, "b")) == 3
    assert line_of(text, ("a", 2, "c")) == 4
    assert line_of(text, ("d", "a")) == 5
    assert line_of(text, ("e",)) == 6
    assert line_of(text, ("nowhere",)) is None
    assert line_of("", ("a",)) is None


class TestDetection:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("trtexec/times_v11.json", "trtexec"),
            ("trtexec/times_v7.json", "trtexec"),
            ("trtexec/log_v8_implicit.txt", "trtexec"),
            ("pytest_benchmark/saved.json", "pytest-benchmark"),
            ("optimum/benchmark.json", "optimum-benchmark"),
            ("optimum/benchmark_report.json", "optimum-benchmark"),
            ("mlperf/server_summary.txt", "mlperf"),
            ("mlperf/server_detail.txt", "mlperf"),
            ("ort_benchmark/detail.csv", "onnxruntime-benchmark"),
            ("ort_benchmark/results.csv", "onnxruntime-benchmark"),
            ("ort_perf_test/printed.txt", "onnxruntime-perf-test"),
            ("ort_perf_test/runs.csv", "onnxruntime-perf-test"),
            ("migraphx/perf.txt", "migraphx"),
            ("aitemplate/bert_encoders_pt_benchmark.txt", "aitemplate"),
            ("google_benchmark/out.json", "google-benchmark"),
            ("nvbench/out.json", "nvbench"),
            ("csv/summary.csv", None),
        ],
    )
    def test_each_format_is_told_from_all_others(self, load: Load, name: str, expected: str | None) -> None:
        assert detect(load(name)) == expected

    def test_unknown(self) -> None:
        assert detect(Source("x", b"hello")) is None
        with pytest.raises(ImportFailed, match="x: looks like none of the formats, so name one"):
            parse(Source("x", b"hello"))
        with pytest.raises(ImportFailed, match="there is no format 'excel'; there are trtexec, "):
            find_format("excel")


class TestSidecar:
    def test_toml_and_json_say_the_same(self) -> None:
        toml = b'model = "m"\nbatch = 2\nstarted = 2026-01-02T03:04:05Z\n[hardware]\ndevice = "x"\nclock = 1.5\n'
        text = b'{"model": "m", "batch": 2, "started": "2026-01-02T03:04:05+00:00", "hardware": {"device": "x", "clock": 1.5}}'
        one, two = parse_sidecar(Source("a.toml", toml)), parse_sidecar(Source("a.json", text))
        assert (one.model, one.batch, one.started, one.hardware) == (two.model, two.batch, two.started, two.hardware)

    def test_dates_of_toml(self) -> None:
        for text in (b"started = 2026-01-02", b"started = 2026-01-02T00:00:00", b'started = "2026-01-02"'):
            started = parse_sidecar(Source("a.toml", text)).started
            assert started is not None and started.isoformat() == "2026-01-02T00:00:00+00:00"
        tables = parse_sidecar(Source("a.toml", b"[hardware]\nbought = 2026-01-02\nparts = [1, true]")).hardware
        assert tables == {"bought": "2026-01-02", "parts": [1, True]}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (b"modle = 'x'", "'modle' is not known; a sidecar may have label, started"),
            (b"model = 3", "model: 3 is not text"),
            (b"batch = 0", "batch: 0 is not between 1 and"),
            (b"batch = 1.5", "batch: 1.5 is not a whole number"),
            (b"batch = true", "batch: True is not a whole number"),
            (b"dtype = 'half'", "dtype: 'half' is not one of fp32"),
            (b"hardware = 3", "hardware: 3 is not an object"),
            (b"[hardware]\nx = nan", "hardware.x: nan is not a finite number"),
            (b"[hardware]\nx = 99999999999999999999", "hardware.x: is too large a number"),
            (b"[hardware]\nx = " + b"[" * 12 + b"]" * 12, "is nested too deep"),
            (b"x = " + b"[" * 11_000, "is not a believable sidecar"),
            (b"a = ", "is not TOML"),
            (b"command = 'a\x07b'", "is not TOML|is not one line of text"),
            (b'command = "a\\nb"', "command: is not one line of text"),
            (b"started = 'yesterday'", "started: 'yesterday' is not an ISO 8601 date"),
            (b"started = 5", "started: 5 is not a date"),
            (b"started = '0001-01-01T00:00:00+10:00'", "is not a believable date"),
            (b'{"model": ""}', "model: is empty"),
            (b"log = 'a.txt'", "log: names a file, but the sidecar's folder is not known"),
        ],
    )
    def test_refused(self, text: bytes, message: str) -> None:
        with pytest.raises(ImportFailed, match=f"^s.toml(, line \\d+)?(, |: ).*({message})|^s.toml.*{message}"):
            parse_sidecar(Source("s.toml", text))

    def test_companions_stay_in_the_folder(self, tmp_path: Path) -> None:
        inside = tmp_path / "inside"
        inside.mkdir()
        (tmp_path / "secret.txt").write_text("secret")
        (inside / "link.txt").symlink_to(tmp_path / "secret.txt")
        (inside / "log.txt").write_text("log")
        side = inside / "side.toml"
        for given in ("../secret.txt", str(tmp_path / "secret.txt"), "link.txt", "../inside/../secret.txt"):
            side.write_text(f'log = "{given}"')
            with pytest.raises(ImportFailed, match="lies outside the sidecar's folder; copy it there"):
                read_sidecar(side)
        side.write_text('log = "log.txt"\nconfig = "../inside/log.txt"')
        assert {role: each.data for role, each in read_sidecar(side).companions.items()} == {
            "log": b"log",
            "config": b"log",
        }
        side.write_text('log = "none.txt"')
        with pytest.raises(ImportFailed, match=r"none.txt: cannot be read"):
            read_sidecar(side)

    def test_an_index_refines_a_kind_of_device(self, load: Load) -> None:
        side = parse_sidecar(Source("s.toml", b'device = "cuda:3"'))
        assert parse(load("trtexec/times_v11.json"), side).measurements[0].point.device == "cuda:3"
        side = parse_sidecar(Source("s.toml", b'device = "cpu"'))
        with pytest.raises(ImportFailed, match=r"device: says 'cpu', but times_v11.json says 'cuda'"):
            parse(load("trtexec/times_v11.json"), side)
