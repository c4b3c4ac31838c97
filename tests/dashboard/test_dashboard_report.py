"""The report: one file, no script, nothing fetched, and what the run measured."""

from __future__ import annotations

import base64
import gzip
import html
import re
from pathlib import Path
from typing import Any

import pytest

from benchrun.dashboard.report import POLICY, write_report
from benchrun.results.errors import ExportError, StoreError
from benchrun.results.rows import Parity
from benchrun.results.statistics import ReportedSummary
from benchrun.results.store import open_store
from tests.dashboard.conftest import Databases
from tests.dashboard.generated import generate
from tests.dashboard.markup import Tags
from tests.dashboard.stores import BUILDS, measurement, point, run

LIMIT = 5_000_000


def check(path: Path) -> str:
    """What holds of every report; its text."""
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) < LIMIT and html.escape(POLICY) in text
    for tag, attributes in Tags(text).found:
        assert tag not in (
            "script",
            "img",
            "iframe",
            "object",
            "embed",
            "link",
            "base",
            "form",
            "foreignobject",
            "use",
            "image",
        )
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("href", "src", "xlink:href"):
                assert value is not None and value.startswith(("data:text/csv;", "data:application/gzip;"))
    assert "url(http" not in text and "@import" not in text
    return text


@pytest.mark.parametrize("kind", [name for name in BUILDS if name != "empty"])
def test_every_kind_of_run(kind: str, databases: Databases, tmp_path: Path) -> None:
    path = databases(kind)
    with open_store(path, read_only=True) as store:
        runs = [each.id for each in store.runs()]
    for run_id in runs[: 4 if kind == "several" else 2]:
        text = check(write_report(path, run_id, tmp_path / "report.html").path)
        assert run_id in text
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


def test_what_the_run_measured_is_in_it(databases: Databases, tmp_path: Path) -> None:
    text = check(write_report(databases("several"), "20260306-120000-r005", tmp_path / "report.html").path)
    assert text.count("<svg") == 4 and "<title>batch, sequences per call" in text
    assert "torch:compile" in text and ">oom<" in text and "18 planned, 17 ok, 1 failed, 0 not measured" in text
    encoded = re.findall(r"base64,([A-Za-z0-9+/=]+)", text)
    assert len(base64.b64decode(encoded[0]).decode().splitlines()) == 19
    wrong = check(write_report(databases("several"), "20260311-120000-r010", tmp_path / "wrong.html").path)
    assert wrong.count("<s>") >= 6 and "wrong" in wrong


def test_shares_of_the_ceiling_energy_and_flags_stand_where_a_run_has_them(
    databases: Databases, tmp_path: Path
) -> None:
    roofed = check(write_report(databases("roofed"), "last", tmp_path / "roofed.html").path)
    assert "of ceiling" in roofed and re.search(r"\d+% (compute|bandwidth|launch)", roofed) and "J/seq" not in roofed
    plain = check(write_report(databases("one"), "last", tmp_path / "plain.html").path)
    assert "of ceiling" not in plain and "J/seq" not in plain


def test_scores_stand_in_the_report_of_an_accuracy_run(databases: Databases, tmp_path: Path) -> None:
    text = check(write_report(databases("workloads"), "20260304-120000-r003", tmp_path / "report.html").path)
    section = text.partition("<h2>Scores</h2>")[2].partition("<h2>")[0]
    assert section.count("<tr>") == 1 + 8 and "<caption>tiny · tokens 32 · batch 8</caption>" in section
    assert "98.89%" in section and "<s>88.00</s>" in section  # its answers were wrong
    assert "ort:cpu" in section and "1,000" in section
    fixed = check(write_report(databases("workloads"), "20260303-120000-r002", tmp_path / "report.html").path)
    assert "Scores" not in fixed and "LoadGen" not in fixed and "Layouts" not in fixed


def test_loadgen_says_its_word_and_layouts_what_they_gain(tmp_path: Path) -> None:
    told = {"scenario": "server", "qps": 90.0, "validity": "VALID", "setting": "quick", "p97_ms": 7.5}
    reported = ReportedSummary(
        n=1024, mean_ms=2.0, min_ms=1.0, max_ms=9.0, p50_ms=1.9, p90_ms=3.0, p99_ms=5.25, p99_9_ms=8.5
    )
    layouts = ("padded", "packed")
    served = [point(workload=f"loadgen:server:auto:130ms:fixed:{layout}", batch=64) for layout in layouts]
    mixed = [point(workload=f"lengths:uniform:4-64:{layout}", batch=8) for layout in layouts]
    about = run(1)
    with open_store(tmp_path / "a.db") as store:
        store.add_run(about, [*served, *mixed], 1)
        rows = [
            measurement(
                each.key, about.started, host=reported, host_samples=None, throughput_seq_s=91.5,
                status="invalid" if place else "ok",
                flags=("loadgen_invalid",) if place else (),
                facts={"loadgen": told | ({"validity": "INVALID"} if place else {})},
            )
            for place, each in enumerate(served)
        ]  # fmt: skip
        rows += [
            measurement(each.key, about.started, 10.0 / speed, padding_fraction=padding, throughput_seq_s=100.0 * speed)
            for each, speed, padding in zip(mixed, (1, 1.8), (0.5, 0.0), strict=True)
        ]
        store.add_measurements(about.id, [(None, row) for row in rows])
        store.finish_run(about.id, "finished")
    text = check(write_report(tmp_path / "a.db", "last", tmp_path / "report.html").path)
    section = text.partition("<h2>LoadGen</h2>")[2].partition("<h2>")[0]
    assert "server:auto:130ms:fixed · tiny · fp32 · tokens 32 · batch 64" in section
    assert ">VALID<" in section and '<span class="failed">INVALID<' in section and "torch:eager packed" in section
    assert all(
        f">{value}<" in section for value in ("90.00", "91.50", "1.900", "3.000", "7.500", "5.250", "8.500", "quick")
    )
    section = text.partition("<h2>Layouts</h2>")[2].partition("<h2>")[0]
    assert section.count("<tr>") == 3 and all(f">{value}<" in section for value in ("50.0%", "1.80×", "2.00×", "90%"))
    # the two layouts are series of one group: side by side in one chart and one table
    assert text.count("<h3>tiny · encoder · cpu · lengths:uniform:4-64 · 32 tokens</h3>") == 2  # latency, throughput
    assert text.count("<h3>tiny · encoder · cpu · lengths:uniform:4-64</h3>") == 1


def test_a_wrong_answer_is_never_valid(tmp_path: Path) -> None:
    told = {"scenario": "server", "qps": 90.0, "validity": "VALID", "setting": "quick", "p97_ms": 7.5}
    reported = ReportedSummary(n=1024, mean_ms=2.0, p50_ms=1.9, p99_ms=5.25)
    served = point(workload="loadgen:server:auto:130ms:fixed:padded", batch=64)
    answered = point(workload="loadgen:server:accuracy:auto:130ms:fixed:padded", batch=64)
    about = run(1)
    wrong: dict[str, Any] = {"status": "invalid", "parity": Parity(1.0, 1.0, 0.0, 0.0, 0.5, False)}
    given: dict[str, Any] = {"host": reported, "host_samples": None, "throughput_seq_s": 91.5}
    with open_store(tmp_path / "a.db") as store:
        store.add_run(about, [served, answered], 1)
        rows = [
            measurement(served.key, about.started, **given, **wrong, facts={"loadgen": told}),
            measurement(answered.key, about.started, **given, facts={"loadgen": {"answers": 64}}),
        ]
        store.add_measurements(about.id, [(None, row) for row in rows])
        store.finish_run(about.id, "finished")
    text = check(write_report(tmp_path / "a.db", "last", tmp_path / "report.html").path)
    section = text.partition("<h2>LoadGen</h2>")[2].partition("<h2>")[0]
    first, second = (line for line in section.split("<tr>") if "<td" in line)
    assert ">wrong answer<" in first and "VALID" not in section and ">done<" in second and "<s>" not in second
    assert all(f"<s>{value}</s>" in first for value in ("91.50", "1.900", "7.500", "5.250"))


def test_a_wrong_answer_gains_nothing(tmp_path: Path) -> None:
    sizes = ("4-64", "4-32")
    mixed = {
        (size, layout): point(workload=f"lengths:uniform:{size}:{layout}")
        for size in sizes
        for layout in ("padded", "packed")
    }
    about = run(1)
    with open_store(tmp_path / "a.db") as store:
        store.add_run(about, list(mixed.values()), 1)
        rows = [
            measurement(
                each.key, about.started, throughput_seq_s=111.0 if size == "4-64" else 55.0, padding_fraction=0.5,
                status="invalid" if (size, layout) == ("4-64", "padded") else "ok",
            )
            for (size, layout), each in mixed.items()
        ]  # fmt: skip
        store.add_measurements(about.id, [(None, row) for row in rows])
        store.finish_run(about.id, "finished")
    text = check(write_report(tmp_path / "a.db", "last", tmp_path / "report.html").path)
    section = text.partition("<h2>Layouts</h2>")[2].partition("<h2>")[0]
    assert "<s>111.0</s>" in section and "<s>6400</s>" in section and section.count("<s>") == 2


def test_a_large_run_stays_under_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchrun.dashboard import report
    from tests.dashboard.stores import cost, store_run

    points = [
        point(batch=batch, seq=seq, variant=f"v{v}")
        for v in range(50)
        for seq in (32, 64, 128, 256, 384)
        for batch in range(1, 13)
    ]
    with open_store(tmp_path / "large.db") as store:
        store_run(store, run(1), points, {each.key: [cost(each)] for each in points})
    text = check(write_report(tmp_path / "large.db", "last", tmp_path / "report.html").path)
    assert "only in the data below" not in text
    monkeypatch.setattr(report, "MOST_TABLE", len(text) // 4)
    text = check(write_report(tmp_path / "large.db", "last", tmp_path / "report.html").path)
    assert re.search(r"[\d,]+ more points only in the data below", text)
    (packed,) = re.findall(r"gzip;base64,([A-Za-z0-9+/=]+)", text)
    assert len(gzip.decompress(base64.b64decode(packed)).splitlines()) == 3001


def test_generated_runs_can_be_reported(tmp_path: Path) -> None:
    generate(tmp_path / "a.db", 1000)
    check(write_report(tmp_path / "a.db", "last", tmp_path / "report.html").path)


def test_errors_are_one_sentence(databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match="there is no run 'nonsense'"):
        write_report(databases("one"), "nonsense", tmp_path / "report.html")
    with pytest.raises(StoreError, match=r"the report cannot be written to .*: No such file or directory"):
        write_report(databases("one"), "last", tmp_path / "none" / "report.html")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="the report cannot be written"):
        write_report(databases("one"), "last", tmp_path / "folder")
    monkeypatch.setitem(__import__("sys").modules, "vl_convert", None)
    with pytest.raises(ExportError, match="pip install 'benchrun-inference"):
        write_report(databases("one"), "last", tmp_path / "report.html")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["folder"]
