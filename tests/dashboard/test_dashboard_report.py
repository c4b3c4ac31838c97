"""The report: one file, no script, nothing fetched, and what the run measured."""

from __future__ import annotations

import base64
import gzip
import html
import re
from pathlib import Path

import pytest

from benchrun.dashboard.report import POLICY, write_report
from benchrun.results.errors import ExportError, StoreError
from benchrun.results.store import open_store
from tests.dashboard.conftest import Databases
from tests.dashboard.generated import generate
from tests.dashboard.markup import Tags
from tests.dashboard.stores import BUILDS

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


def test_a_large_run_stays_under_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchrun.dashboard import report
    from tests.dashboard.stores import cost, point, run, store_run

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
