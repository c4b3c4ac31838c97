"""`benchrun train`: what it takes, and what it measures with real workers and a real database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchrun_hostile_training import TRAINING

from benchrun.backends.catalogue import named_spec, resolve_spec
from benchrun.runner.cli.train_command import as_sweep
from benchrun.runner.cli.training_notes import training_notes
from benchrun.runner.errors import UsageError
from benchrun.runner.estimate import call_seconds
from benchrun.runner.flops import least_work, training_work
from benchrun.runner.plan import SweepRequest, make_plan
from benchrun.runner.presets import BUILT_IN, make_request
from benchrun.runner.workloads import canonical
from benchrun.runner.workloads.train import make_recipe, parse
from tests.conftest import Bench, Outcome

SMALL = ("--override", "num_hidden_layers=1", "--override", "hidden_size=32", "--override", "intermediate_size=64")
QUICK = (
    "--model",
    "tiny",
    *SMALL,
    "--seq",
    "16",
    "--device",
    "cpu",
    "--threads",
    "1",
    "--repeats",
    "0",
    "--warmup",
    "2",
)
REQUEST = SweepRequest(models=("tiny",), heads=("qa",), device="cpu", workloads=("train",))


# --- what it takes ---


@pytest.mark.parametrize(
    ("text", "spelt"),
    [
        ("train", "train:adamw"),
        ("train:lamb", "train:lamb"),
        ("train:accumulate=1:dropout=on", "train:adamw"),
        ("train:adamw:dropout=off:clip=1.0:accumulate=02", "train:adamw:accumulate=2:clip=1:dropout=off"),
    ],
)
def test_a_workload_has_one_spelling(text: str, spelt: str) -> None:
    assert canonical(text) == spelt == canonical(spelt)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train:sgd", "unknown optimizer 'sgd': choose from adamw, lamb"),
        ("train:adamw:colour=red", "unknown setting 'colour=red' in workload"),
        ("train:adamw:dropout=maybe", "unknown setting 'dropout=maybe'"),
        ("train:accumulate=0", "accumulate=0: give a whole number of batches from 1 to 1024"),
        ("train:accumulate=2.5", "accumulate=2.5: give a whole number"),
        ("train:clip=0", "clip=0: give the largest gradient norm, a number above 0"),
        ("train:clip=inf", "clip=inf: give"),
        ("train:clip=x", "clip=x: give"),
    ],
)
def test_a_workload_that_is_none(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=f"^{said}"):
        canonical(text)


def test_own_settings_become_workloads() -> None:
    assert as_sweep({"batch": 4}) == {"head": "qa", "batch": 4, "workload": ["train:adamw:accumulate=1"]}
    found = as_sweep(
        {
            "optimizer": ["adamw", "lamb"],
            "accumulate": "1,2",
            "clip": 1.0,
            "dropout": False,
            "steps": 7,
            "head": "classification",
        }
    )
    assert found["head"] == "classification" and found["iterations"] == 7
    assert make_plan(make_request({"model": "tiny", "device": "cpu"}, found)).request.workloads == (
        "train:adamw:clip=1:dropout=off", "train:adamw:accumulate=2:clip=1:dropout=off",
        "train:lamb:clip=1:dropout=off", "train:lamb:accumulate=2:clip=1:dropout=off",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"workload": "padded"}, "benchrun train makes its workload from --optimizer"),
        ({"optimizer": ","}, "--optimizer is empty: give adamw or lamb"),
        ({"dropout": "maybe"}, "--dropout maybe: choose from on, off"),
        ({"steps": 0}, "--steps 0: give a whole number of steps, at least 1"),
        ({"steps": True}, "--steps True: give"),
        ({"steps": "many"}, "--steps many: give"),
        ({"accumulate": "0"}, "--accumulate 0: '0' must be 1 or more"),
    ],
)
def test_settings_that_are_none(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=f"^{said}"):
        as_sweep(given)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (
            replace(REQUEST, heads=("encoder",)),
            "head encoder has no loss for train:adamw to train by: use --head qa or classification",
        ),
        (replace(REQUEST, dtypes=("fp16",)), "unknown dtype 'fp16': choose from fp32, tf32, bf16, fp16-amp"),
        (replace(REQUEST, dtypes=("tf32",)), "dtype tf32 exists on NVIDIA GPUs only"),
        (replace(REQUEST, backends=("ort:cpu",)), "ort:cpu makes no training steps: torch:eager and torch:compile do"),
        (
            replace(REQUEST, backends=("hostile:trainer",), dtypes=("fp16-amp",)),
            "hostile:trainer trains in fp32, bf16, not fp16-amp",
        ),
        (
            replace(REQUEST, workloads=("padded",), dtypes=("fp16-amp",)),
            "unknown dtype 'fp16-amp': choose from fp32, tf32, fp16, bf16, int8, fp8",
        ),
        (
            replace(REQUEST, workloads=("padded", "train"), dtypes=("x",)),
            "unknown dtype 'x': choose from fp32, tf32, fp16, bf16, int8, fp8, fp16-amp",
        ),
    ],
)
def test_points_that_no_engine_could_train(request_: SweepRequest, said: str) -> None:
    with pytest.raises(UsageError, match=f"^{said}"):
        make_plan(request_)


def test_a_sweep_may_mix_training_with_inference() -> None:
    plan = make_plan(replace(REQUEST, workloads=("padded", "train"), dtypes=("fp16-amp", "bf16")))
    refusals = {(each.point.workload, each.point.dtype): each.refusal for each in plan.points}
    assert refusals.pop(("padded", "fp16-amp")) == "torch:eager runs fp32, tf32, fp16, bf16, not fp16-amp"
    assert set(refusals.values()) == {None} and len(refusals) == 3


def test_the_dtype_that_nobody_gave() -> None:
    cuda = replace(REQUEST, device="cuda")
    assert make_plan(REQUEST).request.dtypes == ("fp32",)
    assert make_plan(cuda, ahead=True).request.dtypes == ("bf16",)
    assert make_plan(replace(cuda, workloads=("padded",)), ahead=True).request.dtypes == ("fp16",)


def test_the_preset_is_the_published_benchmark() -> None:
    plan = make_plan(
        make_request(as_sweep(BUILT_IN["deeplearningexamples-train"].settings), {"device": "cuda"}), ahead=True
    )
    assert {(p.point.model, p.point.head, p.point.batch, p.point.seq) for p in plan.points} == {
        ("bert-large", "qa", 32, 384)
    }
    assert {p.point.dtype for p in plan.points} == {"fp16-amp", "bf16", "tf32"} and not any(
        p.refusal for p in plan.points
    )
    assert {p.point.workload for p in plan.points} == {"train:adamw:clip=1"} and plan.request.protocol.iterations == 100


def test_the_work_and_the_time_of_a_step() -> None:
    spec = named_spec("bert-base")
    one, two = (training_work(spec.shape, "qa", 8, 128, accumulate) for accumulate in (1, 2))
    assert one.flops == 3 * least_work(spec.shape, "qa", "fp32", (128,) * 8).flops and two.flops == 2 * one.flops
    weights = 108_893_186  # of transformers' BertForQuestionAnswering with these sizes
    assert 24 * weights < one.least_bytes < 31 * weights and two.launches == 2 * one.launches - 1
    first, second, padded = make_plan(replace(REQUEST, workloads=("train", "train:accumulate=2", "padded"))).points
    assert (
        call_seconds(second, 1)
        == pytest.approx(2 * call_seconds(first, 1))
        == pytest.approx(6 * call_seconds(padded, 1))
    )


def test_a_recipe_depends_on_the_width() -> None:
    base, large = (make_recipe(parse("train"), named_spec(name).shape, 3) for name in ("bert-base", "bert-large"))
    assert large.learning_rate == 3e-5 and base.learning_rate == pytest.approx(4e-5) and base.seed == 3
    lamb = make_recipe(parse("train:lamb:accumulate=4:clip=2:dropout=off"), named_spec("bert-base").shape, 0)
    assert (lamb.optimizer, lamb.learning_rate, lamb.accumulate, lamb.clip, lamb.dropout) == (
        "lamb",
        6e-3,
        4,
        2.0,
        False,
    )


def test_operations_of_a_step_are_those_that_pytorch_counts() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    from benchrun.backends.models import load_model
    from benchrun.backends.training_reference import reference_step
    from benchrun.runner.inputs import make_inputs
    from benchrun.runner.training_checks import with_labels

    for head in ("qa", "classification"):
        model = load_model(resolve_spec("tiny", head), 32)
        model.module.config._attn_implementation = (
            "eager"  # fused attention computes its scores again in the backward pass
        )
        inputs = with_labels(make_inputs(model.spec.shape, head, 4, 32, 0)[0], head)
        with FlopCounterMode(display=False) as counter:
            reference_step(model, "cpu", inputs)
        assert counter.get_total_flops() == training_work(model.spec.shape, head, 4, 32, 1).flops


def test_a_remark_tells_of_the_loss() -> None:
    loss = {"held_before": 5.987, "held_after": 1.2344, "steps": 110}
    assert training_notes({"loss": loss, "skipped_steps": 0}) == ["loss 5.99 → 1.23 in 110 steps"]
    assert training_notes({"loss": loss, "skipped_steps": 2}) == [
        "loss 5.99 → 1.23 in 110 steps, 2 of them skipped by the loss scale"
    ]
    assert training_notes({}) == []


# --- what it measures ---


@pytest.fixture(scope="module")
def trained_bench(make_bench: Callable[[], Bench]) -> Bench:
    bench = make_bench()
    return Bench(bench.folder, {"COLUMNS": "80"})


@pytest.fixture(scope="module")
def trained(trained_bench: Bench) -> Outcome:
    return trained_bench(
        "train", *QUICK, "--batch", "4", "--dtype", "fp32,bf16,fp16-amp", "--accumulate", "1,2", "--clip", "1", "--steps", "30", "--json"
    )  # fmt: skip


def test_every_dtype_trains(trained: Outcome) -> None:
    assert trained.status == 0, trained.err
    points = trained.document["points"]
    assert len(points) == 6
    for point in points:
        facts, sequences = point["facts"], 4 * (2 if "accumulate=2" in point["workload"] else 1)
        assert (point["status"], point["n"], point["head"]) == ("ok", 30, "qa")
        assert point["throughput_seq_s"] == pytest.approx(sequences * 1000 / point["host_ms"]["mean"], rel=1e-3)
        assert facts["loss"]["held_after"] < facts["loss"]["held_before"] and facts["loss"]["steps"] >= 40
        assert facts["training"]["sequences_a_step"] == sequences and facts["training"]["optimizer"] == "adamw"
        assert facts["compute_dtypes"]["matmul"] == {"fp16-amp": "fp16"}.get(point["dtype"], point["dtype"])
        assert point["parity"]["ok"] and point["peak_host_bytes"] > 0


def test_the_table_fits_a_narrow_terminal(trained: Outcome, trained_bench: Bench) -> None:
    assert trained.status == 0
    shown = trained_bench("show", "last")
    assert all(len(line) <= 80 for line in shown.out.splitlines() if "loss" not in line)
    assert shown.out.count("loss ") >= 6 and "train:adamw:accumulate=2:clip=1" in shown.out


def test_classification_with_lamb_and_without_dropout(bench: Bench) -> None:
    found = bench(
        "train",
        *QUICK,
        "--head",
        "classification",
        "--optimizer",
        "lamb",
        "--dropout",
        "off",
        "--batch",
        "4",
        "--steps",
        "10",
    )
    assert found.status == 0, found.err
    assert "train:lamb:dropout=off" in found.out and "✓" in found.out


MISDEEDS = {
    "scaled": r"wrong answer: .*gradient",
    "idle": "wrong answer: the timed step called no optimizer",
    "nan": "wrong answer: the loss of step ",
    "exact": "more exact than bf16 can be",
    "forgets": "wrong answer: gradient",
    "climbs": "wrong answer: update of .* in the timed step: relative L2 error 2.00e\\+00 to adamw's",
}


@pytest.fixture(scope="module")
def misdeeds(make_bench: Callable[[], Bench]) -> dict[str, dict[str, Any]]:
    found = make_bench()(
        "train",
        *QUICK,
        "--backend",
        "hostile:trainer",
        "--batch",
        f"1..{len(TRAINING)}",
        "--dtype",
        "bf16",
        "--steps",
        "10",
        "--json",
    )
    assert found.status == 1
    return {TRAINING[point["batch"]]: point for point in found.document["points"]}


@pytest.mark.parametrize("misdeed", MISDEEDS)
def test_steps_that_are_wrong_are_invalid(misdeeds: dict[str, dict[str, Any]], misdeed: str) -> None:
    import re

    point = misdeeds[misdeed]
    assert point["status"] == "invalid" and re.search(MISDEEDS[misdeed], point["error"]), point["error"]
    assert point["n"] == 10  # its times are kept


def test_a_worker_that_dies_while_it_trains(misdeeds: dict[str, dict[str, Any]]) -> None:
    assert (misdeeds["dies"]["status"], misdeeds["dies"]["error"]) == ("crashed", "the worker was ended by SIGSEGV")
    assert misdeeds["nothing"]["status"] == "ok"


def test_a_preset_of_ones_own(bench: Bench) -> None:
    settings = (
        '[presets.mine]\ncommand = "train"\nmodel = "tiny"\ndevice = "cpu"\noptimizer = "lamb"\naccumulate = [1, 2]\n'
    )
    settings += "dropout = false\n"
    (bench.folder / "benchrun.toml").write_text(settings, encoding="utf-8")
    plan = bench("train", "--preset", "mine", "--dry-run", "--json").document["plan"]
    assert [each["workload"] for each in plan["points"]] == [
        "train:lamb:dropout=off",
        "train:lamb:accumulate=2:dropout=off",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--preset", "quick"), "preset quick is for 'benchrun run'"),
        (("--optimizer", "sgd"), "unknown optimizer 'sgd'"),
        (("--head", "pooler"), "head pooler has no loss"),
        (("--dtype", "int8"), "unknown dtype 'int8'"),
        (("--backend", "trt:rtx"), "trt:rtx runs on cuda"),
        (("--workload", "padded"), "No such option: --workload"),
    ],
)
def test_a_bad_option_is_one_sentence_and_nothing_is_stored(
    bench: Bench, arguments: tuple[str, ...], said: str
) -> None:
    found = bench("train", "--model", "tiny", "--device", "cpu", *arguments)
    assert (found.status, found.out) == (2, "") and said in found.err and len(found.err.splitlines()) == 1
    assert not bench.db.exists() or not rows(bench.db)


def rows(db: Path) -> list[Any]:
    with sqlite3.connect(db) as connection:
        return connection.execute("select * from runs").fetchall()
