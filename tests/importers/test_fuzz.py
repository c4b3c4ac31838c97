"""Mutations of valid files: each is read or refused in one sentence, and nothing else happens.

2,000 a format in CI; 100,000 behind the marker `long` (docs/importing.md has the figures of the last time). Seeded, so that a
failure comes again.
"""

from __future__ import annotations

import json
import math
import random
import re
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchrun.results import open_store
from benchrun.results.importers import NO_SIDECAR, ImportFailed, Sidecar, Source, detect, parse, parse_sidecar
from benchrun.results.importers.mapping import ForeignRows, to_rows
from benchrun.results.importers.writing import write_rows
from benchrun.results.plain import plain_json
from benchrun.results.rows import STATUSES
from benchrun.results.statistics import ReportedSummary

DATA = Path(__file__).parent / "data"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
FILES = {
    "trtexec": ("trtexec/times_v8.json", "trtexec/times_v7.json", "trtexec/log_v11.txt", "trtexec/log_v8_implicit.txt"),
    "pytest-benchmark": ("pytest_benchmark/saved.json", "pytest_benchmark/measured.json"),
    "optimum-benchmark": ("optimum/benchmark.json", "optimum/benchmark_report.json"),
    "mlperf": ("mlperf/singlestream_summary.txt", "mlperf/offline_summary.txt", "mlperf/server_detail.txt"),
    "onnxruntime-benchmark": ("ort_benchmark/detail.csv", "ort_benchmark/results.csv"),
    "onnxruntime-perf-test": ("ort_perf_test/printed.txt", "ort_perf_test/runs.csv"),
    "migraphx": ("migraphx/perf.txt",),
    "aitemplate": ("aitemplate/bert_ait_benchmark_dev_-1.txt", "aitemplate/bert_encoders_pt_benchmark.txt"),
    "google-benchmark": ("google_benchmark/out.json",),
    "nvbench": ("nvbench/out.json",),
    "csv": ("csv/summary.csv", "csv/samples.csv"),
}
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
WORD = re.compile(rb"[A-Za-z_]{2,}")
ODD_NUMBERS = (
    *(b"-1", b"0", b"-0.0", b"NaN", b"Infinity", b"-inf", b"1e999", b"1e-400", b"1e30", b"9" * 30, b"9" * 5000, b"1_0"),
    *(b"0x10", b"1,5", b"", b"null", b"true", b'"7"', b"[]", b"{}", b"18446744073709551616", b"2147483648", b"1e9"),
    "\u0663".encode(),
)
ODD_TEXT = (
    *(
        b"",
        b"=1+1",
        b"@SUM(A1)",
        b'"',
        b"'",
        b"\\u0000",
        b"\\ud800",
        b"\x00",
        b"\xff\xfe",
        b"\xe4",
        b"\r\n",
        b"\t",
        b",",
    ),
    *("\U0001f600".encode(), "\u2028".encode(), b"x" * 400, b"../../etc/passwd", b"[[[[[[[[", b"ns", b"us", b"h", b"s"),
    *(b"INVALID", b"Offline", b"cuda", b"AMD", b"oom", b"__import__('os').system('false')", b"${HOME}", b"%s%n"),
)


def mutate(data: bytes, dice: random.Random) -> bytes:
    """One to three small changes: of numbers, words, bytes, lines, or the end."""
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        data = dice.choice(MUTATIONS)(data, dice)
    return data


def _replace_number(data: bytes, dice: random.Random) -> bytes:
    return _replace(NUMBER, data, dice, dice.choice(ODD_NUMBERS))


def _replace_word(data: bytes, dice: random.Random) -> bytes:
    found = _pick(WORD, data, dice)
    other = _pick(WORD, data, dice)
    new = dice.choice(ODD_TEXT) if dice.random() < 0.6 or other is None else other.group()
    return data if found is None else data[: found.start()] + new + data[found.end() :]


def _change_byte(data: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(data) + 1)
    new = bytes([dice.randrange(256)]) if dice.random() < 0.5 else dice.choice(ODD_TEXT)
    return data[:at] + new + data[at + dice.choice((0, 1, 1, 4)) :]


def _change_lines(data: bytes, dice: random.Random) -> bytes:
    lines = data.split(b"\n")
    one, two = dice.randrange(len(lines)), dice.randrange(len(lines))
    match dice.randrange(4):
        case 0:
            lines[one], lines[two] = lines[two], lines[one]
        case 1:
            lines.insert(two, lines[one])
        case 2:
            del lines[one]
        case _:
            lines[one] = lines[one][: dice.randrange(len(lines[one]) + 1)]
    return b"\n".join(lines)


def _cut_off(data: bytes, dice: random.Random) -> bytes:
    return data[: dice.randrange(len(data) // 2, len(data) + 1)] if data else data


def _repeat(data: bytes, dice: random.Random) -> bytes:
    start = dice.randrange(len(data) + 1)
    part = data[start : start + dice.randrange(1, 200)]
    return data[:start] + part * dice.choice((2, 3, 40)) + data[start + len(part) :]


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(_replace_number,) * 5,
    *(_replace_word,) * 3,
    *(_change_byte, _change_lines, _change_lines, _cut_off, _repeat),
)


def _pick(pattern: re.Pattern[bytes], data: bytes, dice: random.Random) -> re.Match[bytes] | None:
    """A match near a random place: cheap in a large file."""
    start = dice.randrange(len(data) + 1)
    return pattern.search(data, start) or pattern.search(data)


def _replace(pattern: re.Pattern[bytes], data: bytes, dice: random.Random, new: bytes) -> bytes:
    found = _pick(pattern, data, dice)
    return data if found is None else data[: found.start()] + new + data[found.end() :]


@dataclass
class Tally:
    tried: int = 0
    recognised: int = 0
    read: int = 0
    slowest_s: float = 0.0


def check_rows(rows: ForeignRows) -> None:
    """What a store must be able to rely on."""
    assert {each.point_key for each in rows.measurements} == {point.key for point in rows.points}
    json.dumps(plain_json([rows.run.request, rows.run.environment.details]), allow_nan=False).encode()
    for point in rows.points:
        assert point.batch is None or 1 <= point.batch < 2**31
        assert point.seq is None or 1 <= point.seq < 2**31
        for name in (point.model, point.head, point.dtype, point.device, point.backend, point.variant, point.protocol):
            assert name is None or (name.isprintable() and len(name) < 1000)
    for row in rows.measurements:
        assert row.status in STATUSES
        json.dumps(plain_json([row.facts, row.flags, row.settings]), allow_nan=False).encode()
        for figure in (row.throughput_seq_s, row.load_s, row.first_run_s, row.throughput_window_s):
            assert figure is None or (math.isfinite(figure) and figure >= 0)
        for summary in (row.host, row.device):
            if summary is None:
                continue
            for each in fields(ReportedSummary):
                value = getattr(summary, each.name)
                assert value is None or math.isfinite(value)
                assert value is None or not each.name.endswith("_ms") or value >= 0
            assert summary.n is None or 0 < summary.n < 2**31


def fuzz(name: str, count: int, seed: int, folder: Path) -> Tally:
    dice = random.Random(f"{seed}:{name}")
    sources = [(DATA / each).read_bytes() for each in FILES[name]]
    headers = [each.partition(b"\n")[0] for each in sources]
    mappings = {"csv/summary.csv": "csv/summary.toml", "csv/samples.csv": "csv/samples.toml"}
    sidecars: list[Sidecar] = [
        parse_sidecar(Source("side.toml", (DATA / mappings[each]).read_bytes())) if each in mappings else NO_SIDECAR
        for each in FILES[name]
    ]
    tally = Tally()
    written = 0
    with open_store(folder / f"{name}.db") as store:
        while tally.tried < count:
            # Large files are slower: they get their turn less often.
            which = dice.choices(range(len(sources)), [1 / math.sqrt(len(each)) for each in sources])[0]
            source = Source("mutant.txt", mutate(sources[which], dice))
            tally.tried += 1
            known = source.data.startswith(headers[which]) if name == "csv" else detect(source) == name
            tally.recognised += known
            started = time.perf_counter()
            try:
                rows = to_rows(parse(source, sidecars[which], name), "mutant.txt", NOW, sidecars[which])
            except ImportFailed as failure:
                message = str(failure)
                assert message.startswith(("mutant.txt", "side.toml")) and len(message) < 900, message
                assert message.isprintable(), message
            else:
                tally.read += 1
                check_rows(rows)
                if tally.read % 50 == 1:
                    written += write_rows(store, rows)
            tally.slowest_s = max(tally.slowest_s, time.perf_counter() - started)
        assert len(store.runs()) == written
        for run in store.runs():
            store.run(run.id, samples=True)
    return tally


@pytest.mark.parametrize("name", FILES)
def test_mutations_are_read_or_refused(name: str, tmp_path: Path) -> None:
    tally = fuzz(name, 2_000, 1, tmp_path)
    assert tally.recognised >= tally.tried / 2, tally  # most get past the door, so the reader is what is tested
    assert 0.05 * tally.tried < tally.read < 0.95 * tally.tried, tally
    assert tally.slowest_s < 5, tally


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("name", FILES)
def test_a_hundred_thousand_mutations(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    started = time.perf_counter()
    tally = fuzz(name, 100_000, 2, tmp_path)
    assert tally.recognised >= tally.tried / 2
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # of the process: run each format in its own
    assert peak_mib < 1024 and tally.slowest_s < 30
    with capsys.disabled():
        print(f"\n{name}: {tally.tried:,} tried, {tally.recognised:,} recognised, {tally.read:,} read, "
              f"{tally.tried - tally.read:,} refused, slowest {tally.slowest_s:.2f} s, {time.perf_counter() - started:.0f} s, "
              f"peak {peak_mib:.0f} MiB")  # fmt: skip


@pytest.mark.parametrize("name", ["csv/summary.toml", "csv/samples.toml", "trtexec/sidecar_v11.toml"])
def test_mutated_sidecars(name: str, tmp_path: Path) -> None:
    dice = random.Random(name)
    data = (DATA / name).read_bytes()
    files = {"csv/summary.toml": "csv/summary.csv", "csv/samples.toml": "csv/samples.csv"}
    source = Source("f.csv", (DATA / files.get(name, "csv/summary.csv")).read_bytes())
    read, messages = 0, list[str]()
    for _ in range(1_000):
        try:
            sidecar = parse_sidecar(Source("mutant.toml", mutate(data, dice).replace(b"log =", b"label =")))
            check_rows(to_rows(parse(source, sidecar, "csv"), "f.csv", NOW, sidecar))
            read += 1
        except ImportFailed as failure:
            messages.append(str(failure))
    assert all(map(str.isprintable, messages)) and len(messages) + read == 1_000
    assert name.startswith("trtexec") or read > 50
