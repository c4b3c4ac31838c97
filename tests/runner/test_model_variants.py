"""Variants of a model through the command line: overrides and a smaller checkpoint, by every engine that runs here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchrun.backends.overrides import ACTIVATIONS, NAMES
from tests.backends.minilm import MINILM
from tests.backends.pruned import prune
from tests.conftest import Bench

SHORT = ("--seq", "16", "--iterations", "10", "--warmup", "1", "--max-time", "2", "--dtype", "fp32", "--json")


def test_a_pruned_checkpoint_with_overrides_runs_on_every_engine(bench: Bench, tmp_path: Path) -> None:
    pruned = prune(tmp_path / "pruned", {0: (0, 7), 3: tuple(range(10)), 5: (1,)})
    overrides = ("--override", "num_hidden_layers=4", "--override", "hidden_act=fast_gelu")
    found = bench("--backend", "torch,ort", "--model", str(pruned), *overrides, *SHORT)
    assert found.status == 0, found.err
    points = found.document["points"]
    assert len({each["key"] for each in points}) == 2
    for each in points:
        assert (each["status"], each["parity"]["ok"]) == ("ok", True)
        assert each["overrides"] == {"hidden_act": "gelu_pytorch_tanh", "num_hidden_layers": 4}
        assert each["facts"]["model_layers"] == "the first 4 of the 6 that the weights have"
        assert each["facts"]["model_pruned_heads"] == {"0": [0, 7], "3": list(range(10))}
        assert "fast_gelu" in str(each["facts"])
    table, exported = bench("show", "last").out, bench("export", "last").out.replace("\\", "")
    assert "hidden_act=gelu_pytorch_tanh, num_hidden_layers=4" in " ".join(table.split())
    assert "num_hidden_layers=4" in exported


@pytest.mark.parametrize(
    ("model", "override", "said"),
    [
        ("tiny", "hidden_size=129", "hidden_size 129 is not a multiple of num_attention_heads 2"),
        ("tiny", "layers=2", "cannot override 'layers': choose from attention_probs_dropout_prob"),
        ("tiny", "num_hidden_layers=2.5", "--override num_hidden_layers takes a positive whole number, not 2.5"),
        ("tiny", "hidden_act=gelo", "--override hidden_act takes one of gelu, fast_gelu"),
        (str(MINILM), "num_hidden_layers=8", "have 6 layers, not 8"),
        (str(MINILM), "num_attention_heads=6", "were made for 12 attention heads"),
    ],
)
def test_an_impossible_override_is_one_sentence(bench: Bench, model: str, override: str, said: str) -> None:
    found = bench("--model", model, "--override", override, "--dry-run")
    assert found.status == 2 and said in found.err and found.err.count("\n") == 1


def test_the_commands_and_names_of_the_page(bench: Bench) -> None:
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text("utf-8")
    (block,) = re.findall(r"```\n(.*?)```", page, flags=re.DOTALL)
    for line in block.strip().splitlines():
        command, *arguments = line.split()
        found = bench(*arguments)
        assert command == "benchrun" and found.status == 0, found.err
    assert all(f"`{name}`" in page for name in (*NAMES, *ACTIVATIONS))
