"""Secrets are never recorded: the redaction itself, and everything that describes the environment, with secrets planted where it looks."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from benchrun.backends.catalogue import find_weights
from benchrun.runner import environment
from benchrun.runner.environment import read_environment
from benchrun.runner.plan import SweepRequest
from benchrun.runner.privacy import ROOTS, hide_home, redact, redact_values, root_folders
from tests.telemetry.nvml_double import Nvml

WORDS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=12, max_size=30).map(
    "Zq9".__add__
)
AROUND = st.text("abc xyz,.;()\n", max_size=20)


@given(secret=WORDS, before=AROUND, after=AROUND, form=st.sampled_from([
    "https://user:{}@host.example/x", "postgresql://{}@db/runs", "token={}", 'api_key: "{}"', "HF_TOKEN={}", "password: {}",
    "Authorization: Bearer {}", "hf_{}", "ghp_{}abcdefgh", "sk-{}abcdefgh", "/home/{}/models/bert", "/srv/{}/a.bin", "~{}/models",
    "file:///home/{}/x", "AWS_SECRET_ACCESS_KEY={}", "'/home/{}/x.py'", "glpat-{}", "--password={}", "C=/opt/{}/lib:/usr/lib",
    "A=/usr/lib:/opt/{}/lib", "host:/home/{}/x",
]))  # fmt: skip
def test_no_form_of_a_secret_survives(secret: str, before: str, after: str, form: str) -> None:
    assert secret not in redact(f"{before} {form.format(secret)} {after}")


@pytest.mark.parametrize(
    "text",
    [
        "out of memory: tried to allocate 2.00 GiB",
        "no kernel for fp16/int8 and 3/4 of the layers",
        "24h² + 4sh FLOPs a token; p50 1.23 ms at b8 s128",
        "see https://pytorch.org/docs/stable/notes.html",
        "the tokenizer has 30522 tokens",
        "NVIDIA H200 580.159.04",
        "took longer than --timeout 300 s",
        "1e-3 … 5e-3, max|min",
    ],
)
def test_plain_sentences_stay_as_they_are(text: str) -> None:
    assert redact(text) == text


NODES = [
    "/bert/encoder/layer.0/attention/self/MatMul",
    "/embeddings/LayerNormalization",
    "/model/layers.11/self_attn/Add_output_0",
    "/encoder/layer.3/output/dense/MatMul_quant_weight",
    "/layer.0/intermediate/intermediate_act_fn/Erf",
]


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize(
    "sentence", ["no kernel for {} on this device", "node '{}' failed.", "{}: {}", "see {}.", "[{} + {}]"]
)
def test_a_node_of_a_graph_keeps_its_name(node: str, sentence: str) -> None:
    assert redact(sentence.replace("{}", node)) == sentence.replace("{}", node)


MODULES = st.lists(st.from_regex(r"[a-z]{3,8}(_[a-z]{2,6})?(\.[0-9]{1,2})?", fullmatch=True), min_size=1, max_size=6)
OPERATORS = st.from_regex(r"[A-Z][a-z]{2,8}([A-Z][a-z]{2,8})?(_[0-9]{1,3})?(_output_0)?", fullmatch=True)


@given(modules=MODULES, operator=OPERATORS, secret=WORDS, words=AROUND)
def test_node_or_path_depends_on_the_folders_there_are(
    modules: list[str], operator: str, secret: str, words: str
) -> None:
    """Whatever begins like a folder of this machine, or of usual ones, is a path, even if it looks like a node."""
    assume(modules[0] not in ROOTS | root_folders())
    node = "/" + "/".join([*modules, operator])
    assert node in redact(f"{words} {node} {words}", roots=())
    for root in (*sorted(root_folders()), "home", "Users", "scratch"):
        assert secret not in redact(f"{words} /{root}/{secret}/layer.0/{operator}")
    assert redact(f"{words} {node}", roots=[modules[0]]) == redact(f"{words} ") + f"…/{operator}"


@given(secret=WORDS, name=st.sampled_from(["model.onnx", "a.safetensors", "notes", "run-1"]))
def test_a_mistyped_path_is_still_a_path(secret: str, name: str) -> None:
    """Its folder is not there, and it does not look like a node either."""
    assert secret not in redact(f"no file /hoem/{secret}/{name}", roots=())


def test_of_a_path_its_last_part_stays() -> None:
    assert redact("cannot read '/home/alice/models/bert/model.safetensors': no such file") == (
        "cannot read '…/model.safetensors': no such file"
    )
    assert redact_values({"a": ["/home/alice/x", 3, None, {"b": ("/root/y/z",)}]}) == {
        "a": ["…/x", 3, None, {"b": ["…/z"]}]
    }


def test_a_stored_request_names_no_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And finds the model again."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.safetensors").write_bytes(b"")
    request = SweepRequest(models=(f"{tmp_path}/m", "bert-base"), weights=f"{tmp_path}/m", device="cpu")
    stored = json.loads(json.dumps(request.to_json()))
    assert str(tmp_path) not in json.dumps(stored) and stored["models"] == ["~/m", "bert-base"]
    again = SweepRequest.from_json(stored)
    assert again.weights is not None and find_weights(again.weights) == find_weights(f"{tmp_path}/m")
    assert hide_home(["/home/ann", "/home/anna/x", 1, "/"], "/home/ann") == ["~", "/home/anna/x", 1, "/"]
    assert hide_home("/root/x", "/") == "/root/x"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(secret=WORDS)
def test_planted_secrets_do_not_reach_the_environment(
    secret: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In variables, the working folder, the home folder, the user's and the host's name, and in what drivers and metadata say."""
    folder = tmp_path / secret
    folder.mkdir(exist_ok=True)
    nvml = Nvml("busy", name=f"NVIDIA H200 token={secret}", driver=f"580.1 /home/{secret}/driver")
    real = Nvml._answer

    def leak(self: Nvml, name: str, arguments: tuple[Any, ...]) -> Any:
        if name == "nvmlDeviceGetEccMode":
            raise OSError(13, "Permission denied", f"/home/{secret}/nvml")
        return real(self, name, arguments)

    with monkeypatch.context() as patch:
        for variable in ("HF_TOKEN", "USER", "HOME", "HOSTNAME", "DATABASE_URL", "PYTHONPATH", "CUDA_HOME"):
            patch.setenv(variable, f"/home/{secret}" if variable in ("HOME", "PYTHONPATH") else secret)
        patch.setenv("BENCHRUN_DB", f"postgresql://{secret}:{secret}@host/db")
        patch.chdir(folder)
        patch.setitem(sys.modules, "pynvml", nvml)
        patch.setattr(Nvml, "_answer", leak)
        patch.setattr(environment, "list_devices", lambda: ("cuda:0", "cpu"))
        patch.setattr(environment, "cpu_model", lambda: f"CPU of https://{secret}@host/")
        for name in ("torch", "numpy"):
            patch.setattr(environment, "LIBRARIES", (name,))
            for device in ("cuda:0", "cpu"):
                row = read_environment(device)
                text = json.dumps([row.fingerprint, row.details])
                assert secret not in text and os.environ["HOME"] not in text
                assert "hostname" not in text.lower() and "430" not in json.dumps(row.details.get("settings"))


def test_the_driver_is_recorded_and_not_part_of_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    for driver in ("580.10", "580.20", "590.10"):
        monkeypatch.setitem(sys.modules, "pynvml", Nvml("idle", driver=driver))
        rows.append(read_environment("cuda:0"))
    assert [row.details["driver"] for row in rows] == ["580.10", "580.20", "590.10"]
    assert rows[0].fingerprint == rows[1].fingerprint != rows[2].fingerprint  # the driver's major version is
    assert (
        rows[0].details["settings"]["device"]["ecc"] is True
        and rows[0].details["settings"]["device"]["partition"] == "whole"
    )


def test_what_moves_by_itself_is_not_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every run would have an environment of its own."""
    rows = []
    for state in ("idle", "busy"):
        monkeypatch.setitem(sys.modules, "pynvml", Nvml(state))
        rows.append(read_environment("cuda:0"))
    assert rows[0] == rows[1]


def test_an_amd_gpu_is_described_by_amdsmi(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.telemetry.test_amd import Smi

    smi: ModuleType = Smi()
    monkeypatch.setitem(sys.modules, "amdsmi", smi)
    gpu = read_environment("rocm:1").details["hardware"]["gpu"]
    assert gpu == {
        "kind": "rocm", "name": "AMD Instinct MI250", "partition": "SPX/NPS1", "power_cap_w": 500.0,
        "driver_major": "6",
    }  # fmt: skip
