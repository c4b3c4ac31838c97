"""Paths of a request: found again on this machine, and in no database, export, merge or document."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchrun.backends.catalogue import named_spec
from benchrun.runner.errors import UsageError
from benchrun.runner.places import FOLDER, book_requests, read_requests
from benchrun.runner.plan import SweepRequest
from tests.conftest import Bench

NAME = "minilm-of-ann"
PRIVATE = "ann-private"  # a folder that must not be told


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCHRUN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_path_is_remembered_beside_the_database(cache: Path) -> None:
    asked = SweepRequest(
        models=("/data/ann/minilm", "bert-base", "./here"), weights="/data/ann/w", settings={"file": "/data/ann/q"}
    )
    stored = json.loads(json.dumps(book_requests([asked, replace(asked, weights=None)])))
    assert "ann" not in json.dumps(stored)
    first = stored["sweeps"][0]
    assert first["models"][0].endswith("/minilm") and first["models"][1:] == ["bert-base", "./here"]
    assert read_requests(stored) == [asked, replace(asked, weights=None)]
    assert all((each.stat().st_mode & 0o077) == 0 for each in (cache / FOLDER).iterdir())


def test_a_place_that_is_not_known_is_said_in_one_sentence(cache: Path) -> None:
    stored = book_requests([SweepRequest(models=("/data/ann/minilm",))])
    (kept,) = (cache / FOLDER).iterdir()
    for spoil in (lambda: kept.write_text("/somewhere/else"), kept.unlink):
        spoil()
        with pytest.raises(
            UsageError, match=r"measured with 'minilm', and where that lay is not known on this machine"
        ):
            read_requests(stored)
    stored["sweeps"][0]["models"] = ["place:../../etc/passwd"]
    with pytest.raises(UsageError, match="is not known on this machine"):
        read_requests(stored)


def test_a_cache_that_cannot_be_written_stops_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BENCHRUN_CACHE", str(tmp_path / "file"))
    stored = book_requests([SweepRequest(models=("/data/ann/minilm",))])
    with pytest.raises(UsageError, match="is not known on this machine"):
        read_requests(stored)


def test_requests_of_older_databases_are_read(cache: Path) -> None:
    asked = SweepRequest(models=("/data/ann/minilm",))
    assert read_requests({"sweeps": [json.loads(json.dumps(asked.to_json()))]}) == [asked]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(
    parts=st.lists(
        st.text(min_size=1).filter(lambda each: "/" not in each and "\x00" not in each), min_size=1, max_size=4
    )
)
def test_any_path_is_found_again(cache: Path, parts: list[str]) -> None:
    asked = SweepRequest(models=("/" + "/".join(parts),))
    assert read_requests(json.loads(json.dumps(book_requests([asked])))) == [asked]


@pytest.mark.parametrize("again", ["here", "without the folder"])
def test_no_full_path_leaves_this_machine(make_bench: Callable[[], Bench], tmp_path: Path, again: str) -> None:
    """A model from an absolute folder: measured, interrupted by nothing, resumed, exported in every format, merged."""
    bench = make_bench()
    folder = tmp_path / PRIVATE / NAME
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **named_spec("tiny").config}))
    quick = (
        "--model",
        str(folder),
        "--weights",
        "random",
        "--seq",
        "16",
        "--iterations",
        "10",
        "--warmup",
        "0",
        "--repeats",
        "0",
        "--threads",
        "1",
    )
    measured = bench("--model", str(folder), "--weights", "random", *quick, "--json")
    assert measured.status == 0, measured.err
    assert PRIVATE not in json.dumps(without_db(measured.document))
    if again == "without the folder":
        shutil.rmtree(bench.folder / "cache" / FOLDER)
        refused = bench("--resume", "last", "--launches", "2")
        assert refused.status == 2 and f"measured with {NAME!r}" in refused.err and "Traceback" not in refused.err
        return
    resumed = bench("--resume", "last", "--launches", "2", "--json")
    assert resumed.status == 0 and resumed.document["points"][0]["launches"] == 2
    for form in ("csv", "markdown", "json"):
        assert PRIVATE not in bench("export", "last", "--format", form).out
    other = bench.folder / "merged.db"
    assert bench("merge", str(bench.db), "--db", str(other)).status == 0
    for database in (bench.db, other):
        assert PRIVATE.encode() not in database.read_bytes() and NAME.encode() in database.read_bytes()


def without_db(document: dict[str, object]) -> dict[str, object]:
    """The document without the line that says which database it is of, for the person who asked."""
    run = document["run"]
    assert isinstance(run, dict)
    return document | {"run": {name: value for name, value in run.items() if name != "db"}}
