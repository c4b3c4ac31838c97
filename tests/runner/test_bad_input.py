"""What a user can get wrong: one clear sentence, exit status 2, no traceback, no row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchrun.runner import cli
from tests.conftest import Bench


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Model folders with something wrong with each."""
    config = json.dumps({"model_type": "bert", "num_hidden_layers": 1})
    files = {
        "empty/readme.txt": "",
        "pickled/config.json": config,
        "pickled/pytorch_model.bin": "",
        "foreign/config.json": json.dumps({"model_type": "gpt2"}),
        "broken/config.json": "{",
        "bare/config.json": config,
        "odd/config.json": json.dumps({"model_type": "bert", "hidden_size": 100}),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


BAD = {
    "backend": (["--backend", "nosuch"], ["unknown backend 'nosuch'", "choose from", "torch", "'benchrun backends'"]),
    "variant": (["--backend", "torch:nosuch"], ["unknown variant 'torch:nosuch'", "torch:eager", "torch:compile"]),
    "broken backend": (["--backend", "hostile-broken"], ["cannot be imported", "libhostile.so.1"]),
    "stranger": (["--backend", "hostile-stranger"], ["is not a benchrun.backends.contract.Backend"]),
    "model": (["--model", "nosuch"], ["unknown model 'nosuch'", "bert-base", "hub id"]),
    "head": (["--head", "nosuch"], ["unknown head 'nosuch'", "layers, encoder, pooler, qa, classification"]),
    "dtype": (["--dtype", "fp12"], ["unknown dtype 'fp12'", "fp32, tf32, fp16, bf16"]),
    "tf32 on a CPU": (["--dtype", "tf32", "--device", "cpu"], ["NVIDIA GPUs only", "fp32"]),
    "seq 0": (["--seq", "0"], ["--seq 0", "1 or more", "1,2,4"]),
    "batch a": (["--batch", "a"], ["--batch a", "'a' is not a number", "1,2,4"]),
    "device": (["--device", "cuda:99"], ["no device 'cuda:99' here", "cpu"]),
    "a GPU's variant alone": (["--backend", "torch:cudagraph", "--device", "cpu"], ["runs on cuda, rocm, not on cpu"]),
    "iterations": (["--iterations", "0"], ["--iterations 0 is too small"]),
    "iterations text": (["--iterations", "ten"], ["--iterations"]),
    "time": (["--max-time", "inf"], ["--max-time inf is too large"]),
    "option": (["--sequence", "128"], ["No such option", "--sequence"]),
    "command": (["measure"], ["No such command", "measure"]),
    "engine option": (["--opt", "torch.colour=1"], ["unknown option 'torch.colour'", "torch.attention"]),
    "override": (["--override", "num_hidden_layers"], ["--override num_hidden_layers", "NAME=VALUE"]),
    "preset": (["--preset", "nosuch"], ["unknown preset 'nosuch'", "nvidia-trt-bert"]),
    "configuration": (["--config", "nosuch.toml"], ["--config nosuch.toml", "no such file"]),
    "folder without config": (["--model", "./empty"], ["./empty has no config.json"]),
    "pickle": (["--model", "./pickled"], ["pytorch_model.bin", "run code", "safetensors", "--weights random"]),
    "pickled weights": (["--model", "tiny", "--weights", "pickled/pytorch_model.bin"], ["safetensors", "run code"]),
    "no weights": (["--model", "./bare", "--weights", "./bare"], ["./bare has no safetensors file"]),
    "weights": (["--weights", "nosuch"], ["no weights at 'nosuch'"]),
    "decoder": (["--model", "./foreign"], ["of type 'gpt2'", "bert, roberta"]),
    "broken config": (["--model", "./broken"], ["config.json in broken cannot be read as JSON"]),
    "odd shape": (["--model", "./odd"], ["hidden_size 100 is not a multiple of num_attention_heads 12"]),
    "file": (["--model", "empty/readme.txt"], ["is a file but not a config.json"]),
    "resume": (["--resume", "nosuch"], ["there is no run 'nosuch'"]),
}


@pytest.mark.parametrize(("arguments", "words"), BAD.values(), ids=BAD)
def test_one_clear_sentence_and_nothing_measured(
    arguments: list[str],
    words: list[str],
    folders: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folders)
    monkeypatch.setenv("BENCHRUN_DB", str(folders / "runs.db"))
    assert cli.run(arguments) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.startswith("benchrun: ") and err.count("\n") == 1
    assert len(err) < 500 and "Traceback" not in err and "unexpected" not in err
    for word in words:
        assert word in err
    if "--resume" not in arguments:  # which opens the database to look
        assert not (folders / "runs.db").exists()


def test_a_pickle_is_not_opened_even_with_weights_of_another_kind(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folders)
    assert cli.run(["--model", "./pickled", "--weights", "random", "--dry-run"]) == 0


@pytest.mark.parametrize(
    "settings",
    [
        {"HF_HUB_OFFLINE": "1"},
        {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_DISABLE_TELEMETRY": "1"},
    ],
    ids=["offline", "no answer"],
)
def test_an_unreachable_hub(tmp_path: Path, settings: dict[str, str]) -> None:
    bench = Bench(tmp_path, settings | {"HF_HOME": str(tmp_path / "hub")})
    outcome = bench("--model", "some-org/some-model")
    assert outcome.status == 2 and outcome.out == "" and not bench.db.exists()
    assert (
        outcome.err.startswith("benchrun: cannot reach the hub for 'some-org/some-model' (")
        and outcome.err.count("\n") == 1
    )
    assert "bert-base" in outcome.err and "local folder" in outcome.err


def test_the_traceback_is_there_for_those_who_ask(bench: Bench) -> None:
    plain, debug = bench("--model", "nosuch"), bench("--model", "nosuch", "--debug")
    assert plain.status == 2 and "Traceback" not in plain.err
    assert debug.status != 0 and "Traceback" in debug.err and "unknown model 'nosuch'" in debug.err
