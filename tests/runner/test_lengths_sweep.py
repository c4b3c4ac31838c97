"""Real lengths from the command line to the store: every layout by real engines, real text, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.backends.minilm import MINILM
from tests.conftest import Bench, Outcome
from tests.runner.conftest import Inside

QUESTIONS = Path(__file__).parents[1] / "accuracy" / "questions.json"

QUICK = (
    "--iterations",
    "4",
    "--warmup",
    "1",
    "--max-time",
    "2",
    "--seq",
    "64",
    "--batch",
    "6",
    "--device",
    "cpu",
    "--threads",
    "1",
)


@pytest.fixture(scope="module")
def swept(make_bench: Callable[[], Bench]) -> Outcome:
    """All layouts of one mix, by an engine that packs and one that does not."""
    bench = make_bench()
    mix = ("--workload", "lengths:lognormal:20:4-64", "--layout", "padded,bucketed,packed")
    return bench("run", "--model", "tiny", "--backend", "torch:eager,ort:cpu", *mix, *QUICK, "--json")


def by_layout(swept: Outcome, backend: str) -> dict[str, dict[str, Any]]:
    return {
        each["facts"].get("layout", "none"): each for each in swept.document["points"] if each["backend"] == backend
    }


def test_every_layout_is_measured_and_right(swept: Outcome) -> None:
    points = by_layout(swept, "torch")
    assert {name: (each["status"], each["error"]) for name, each in points.items()} == dict.fromkeys(
        ("padded", "bucketed", "packed"), ("ok", None)
    )
    padded, bucketed, packed = (points[name] for name in ("padded", "bucketed", "packed"))
    true = padded["facts"]["true_tokens"]
    assert true / 6 == pytest.approx(20, abs=4)
    assert padded["padding_fraction"] == pytest.approx(1 - true / (6 * 64)) == packed["facts"]["padding_when_padded"]
    assert 0 < bucketed["padding_fraction"] < padded["padding_fraction"] and packed["padding_fraction"] == 0
    assert bucketed["facts"]["computed_tokens"] == sum(rows * edge for rows, edge in bucketed["facts"]["buckets"])
    for each in points.values():
        assert each["tokens_s"] == pytest.approx(each["throughput_seq_s"] * true / 6)
        assert each["flops"] == padded["flops"] and each["least_bytes"] == padded["least_bytes"]
    assert packed["layout_gain"]["ideal"] == pytest.approx(6 * 64 / true) and padded["layout_gain"] is None
    assert packed["facts"]["attention"] == "packed_attention" and "masked" in padded["facts"]["attention"]


def test_an_engine_that_cannot_pack_says_so(swept: Outcome) -> None:
    points = [each for each in swept.document["points"] if each["backend"] == "ort"]
    assert [each["status"] for each in points] == ["ok", "ok", "unsupported"] and swept.status == 1
    assert "use the layout padded or bucketed" in points[2]["error"]


def test_a_text_and_a_file_of_lengths(bench: Bench, inside: Inside) -> None:
    text, lengths = bench.folder / "a text.txt", bench.folder / "lengths.txt"
    text.write_text("The cat sat on the mat.\n\nWho, if I cried out, would hear me?\n" + "word " * 80 + "\n")
    lengths.write_text("\n".join(map(str, (3, 60, 7, 12))))
    found = bench(
        "run", "--model", str(MINILM), "--override", "num_hidden_layers=1", "--layout", "packed", *QUICK, "--json",
        "--workload", f"lengths:text:{text},lengths:lengths.txt",
    )  # fmt: skip
    points = found.document["points"]
    assert [each["status"] for each in points] == ["ok", "ok"], [each["error"] for each in points]
    assert points[0]["workload"].startswith("lengths:text@") and points[1]["workload"].startswith("lengths:file@")
    assert points[0]["facts"]["cut_to_seq"] == 2 and points[0]["facts"]["lengths"]["max"] == 64
    assert points[1]["facts"]["lengths"] == {
        "min": 3,
        "mean": pytest.approx(points[1]["facts"]["true_tokens"] / 6),
        "max": 60,
    }
    assert str(bench.folder) not in found.out.replace(found.document["run"]["db"], "")
    again = bench("run", "--resume", found.document["run"]["id"], "--json")
    assert again.status == 0, again.err  # it finds the files again
    lengths.write_text("9\n")
    changed = inside(bench, "run", "--resume", found.document["run"]["id"])
    assert changed.status == 2 and "has changed since this run was planned" in changed.err


def test_squad_windows_by_a_real_engine(bench: Bench, inside: Inside) -> None:
    (bench.folder / "squad.json").write_bytes(QUESTIONS.read_bytes())
    found = bench(
        "run", "--model", str(MINILM), "--override", "num_hidden_layers=1", "--layout", "padded,packed", *QUICK,
        "--seq", "96", "--backend", "torch:eager", "--workload", "lengths:squad:squad.json", "--json",
    )  # fmt: skip
    assert [each["status"] for each in found.document["points"]] == ["ok", "ok"], found.err
    padded, packed = found.document["points"]
    assert padded["workload"].startswith("lengths:squad@") and packed["padding_fraction"] == 0
    assert (padded["facts"]["questions"], padded["facts"]["windows"]) == (88, 112)
    assert padded["facts"]["true_tokens"] == packed["facts"]["true_tokens"] < 6 * 96
    assert str(bench.folder) not in found.out.replace(found.document["run"]["db"], "")
    again = bench("run", "--resume", found.document["run"]["id"], "--json")
    assert [each["status"] for each in again.document["points"]] == ["ok", "ok"], again.err
    (bench.folder / "squad.json").write_text("{}")
    changed = inside(bench, "run", "--resume", found.document["run"]["id"])
    assert changed.status == 2 and "lengths:squad:squad.json is not a SQuAD file" in " ".join(changed.err.split())


BAD = {
    "binary": ("lengths:text:binary.txt", ["binary.txt is no text"]),
    "no SQuAD": ("lengths:squad:words.txt", ["lengths:squad:words.txt is not JSON"]),
    "words": ("lengths:words.txt", ["line 1", "'alpha' is no length"]),
    "range": ("lengths:uniform:64-4", ["the range 64-4 is impossible"]),
    "mean": ("lengths:lognormal:99:4-64", ["a mean of 99 cannot come from lengths of 4 to 64"]),
    "too long": ("lengths:uniform:4-100", ["sequences of up to 100 tokens", "--seq 100 or more"]),
}


@pytest.fixture
def files(bench: Bench) -> Path:
    for name, content in {"binary.txt": b"\x00\xff\x01", "words.txt": b"alpha\nbeta\n"}.items():
        (bench.folder / name).write_bytes(content)
    return bench.folder


@pytest.mark.parametrize("case", BAD)
def test_bad_data_is_one_sentence_and_stores_nothing(case: str, bench: Bench, files: Path, inside: Inside) -> None:
    workload, said = BAD[case]
    given = ("--model", "tiny", "--backend", "torch:eager", "--layout", "packed", *QUICK, "--workload", workload)
    found = inside(bench, "run", *given)
    assert found.status == 2 and not found.out, found.err
    assert all(words in " ".join(found.err.split()) for words in said), found.err
    assert "Traceback" not in found.err and not bench.db.exists() and files == bench.folder


def test_a_third_partys_engine_is_not_believed_to_pack(bench: Bench) -> None:
    found = bench(
        "run", "--model", "tiny", "--backend", "hostile:wrong", *QUICK[:-2], "--json", "--workload", "lengths:uniform:4-64",
        "--layout", "packed", "--threads", "1",
    )  # fmt: skip
    (point,) = found.document["points"]
    assert point["status"] == "unsupported" and "hostile:wrong has no packed execution" in point["error"], point[
        "error"
    ]
