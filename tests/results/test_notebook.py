"""Frames for notebooks, and the example of docs/python-api.md as it stands."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from benchrun.results import Store, open_store
from benchrun.results.published import published_tables
from benchrun.results.rows import Score
from benchrun.results.views.frames import COLUMNS
from benchrun.results.views.scores import COLUMNS as SCORE_FRAME
from tests.results.conftest import NewMeasurement, NewPoint, NewRun

PAGE = Path(__file__).parent.parent.parent / "docs" / "python-api.md"


@pytest.fixture
def full(store: Store, new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement) -> Store:
    """Two runs of two engines at two batches in two launches; in the second, one runs out of memory."""
    points = [
        new_point(f"{v}{b}", variant=v, batch=b, head="layers", seq=64, dtype="fp16")
        for v in ("eager", "compile")
        for b in (1, 8)
    ]
    for number, run_id in enumerate(("run-1", "run-2")):
        start = new_run().started + timedelta(days=number)
        store.add_run(new_run(run_id, started=start), points, 2)
        for replicate in range(2):
            for at, point in enumerate(points):
                ms = (at + 1) * (1 + number) + replicate
                failed = run_id == "run-2" and point.key == "compile8"
                given = (
                    {"error": "no memory"}
                    if failed
                    else {"samples": [ms * 10**6] * 20, "throughput_seq_s": 1000.0 / ms}
                )
                row = new_measurement(point.key, "oom" if failed else "ok", replicate=replicate, started=start, **given)
                store.add_measurement(run_id, None, row)
        store.finish_run(run_id, "finished")
    return store


def test_runs(full: Store) -> None:
    table = full.frames.runs()
    assert list(table.id) == ["run-2", "run-1"] and list(table.failed) == [1, 0]


def test_launches_with_filters(full: Store) -> None:
    frames = full.frames
    assert tuple(frames.launches().columns) == COLUMNS and len(frames.launches()) == 16
    assert len(frames.launches("run-1")) == 8 and len(frames.launches(["run-1", "run-2"])) == 16
    assert set(frames.launches("last").run_id) == {"run-2"}
    assert set(frames.launches(backend="torch:compile").variant) == {"compile"}
    assert len(frames.launches(backend=["torch"], batch=8, status=["ok"])) == 6
    assert len(frames.launches(model="nosuch")) == 0
    with pytest.raises(ValueError, match="there is no filter 'colour'; there are run, backend, model"):
        frames.launches(colour="red")


def test_points(full: Store) -> None:
    table = full.frames.points("run-1").set_index(["variant", "batch"])
    assert table.loc[("eager", 1), "p50_ms"] == pytest.approx(1.5)  # launches of 1 and 2 ms
    assert table.loc[("eager", 1), "launches"] == 2 and table.loc[("eager", 1), "interval"] == "range"
    failed = full.frames.points("run-2", backend="torch:compile", batch=8)
    assert list(failed.status) == ["oom"] and failed.p50_ms.isna().all()
    with pytest.raises(ValueError, match="there is no clock 'wall'; there are host, device"):
        full.frames.points(clock="wall")


def test_samples(full: Store) -> None:
    table = full.frames.samples("run-1", backend="torch:compile", batch=8)
    assert len(table) == 40 and set(table.ms) == {4.0, 5.0} and list(table["index"][:20]) == list(range(20))
    assert len(full.frames.samples("run-1", clock="device")) == 0


def test_published_and_beside(full: Store) -> None:
    table = full.frames.published()
    assert len(table) == sum(len(each.rows) for each in published_tables()) and set(
        table[table.table == "aitemplate_a100"].condition_graph
    ) == {"on", "off"}
    beside = full.frames.beside("run-1", "aitemplate_a100")
    assert len(beside) == 8  # two engines beside two, at two batches
    row = beside[(beside.engine == "torch:eager") & (beside.published_engine == "ait") & (beside.batch == 1)].iloc[0]
    assert row.avg_ratio == pytest.approx(1.5 / 0.71) and any("hardware" in each for each in row.differs)
    assert full.frames.beside("run-1", "single_figures").empty


def test_the_example_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_run: NewRun, new_point: NewPoint,
                                      new_measurement: NewMeasurement, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    with open_store("runs.db") as store:
        store.add_run(new_run("run-1"), [new_point("a"), new_point("b", variant="compile")], 1)
        for key in ("a", "b"):
            store.add_measurement("run-1", None, new_measurement(key, samples=[10**6] * 30, throughput_seq_s=1000.0))
    exec(compile(example, str(PAGE), "exec"), {})  # the page's own code
    text = capsys.readouterr().out
    assert "run-1" in text and "torch" in text and "eager" in text


def test_scores(full: Store, new_run: NewRun, new_point: NewPoint, new_measurement: NewMeasurement) -> None:
    assert list(full.frames.scores().columns) == list(SCORE_FRAME) and full.frames.scores().empty
    full.add_run(new_run("run-3"), [new_point("scored", overrides={"num_hidden_layers": 3})], 1)
    scores = (Score("squad", "f1", 90.5, 4, 91.0), Score("squad", "exact", 75.0, 4))
    row = new_measurement("scored", samples=[2_000_000], throughput_seq_s=500.0, scores=scores)
    full.add_measurement("run-3", None, row)
    table = full.frames.scores(backend="torch")
    assert list(table.metric) == ["exact", "f1"] and list(table.value) == [75.0, 90.5] and list(table.n) == [4, 4]
    assert list(table.host_p50_ms) == [2.0, 2.0] and list(table.throughput_seq_s) == [500.0, 500.0]
    assert set(table.overrides) == {'{"num_hidden_layers":3}'}
    assert full.frames.scores(backend="ort").empty
