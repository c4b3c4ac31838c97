from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchrun.backends.torch import TorchBackend
from benchrun.runner import plan as planning
from benchrun.runner.errors import UsageError
from benchrun.runner.plan import Plan, SweepRequest, choose_options, make_plan
from benchrun.runner.protocol import Protocol


@pytest.fixture(autouse=True)
def _a_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "list_devices", lambda: ("cpu",))
    monkeypatch.setattr(planning, "usable_cores", lambda: 2)


def with_devices(monkeypatch: pytest.MonkeyPatch, *devices: str) -> None:
    monkeypatch.setattr(planning, "list_devices", lambda: devices)


def tiny(**settings: Any) -> SweepRequest:
    return SweepRequest(models=("tiny",), **settings)


def keys(plan: Plan) -> list[str]:
    return [planned.point.key for planned in plan.points]


def test_defaults_on_a_cpu() -> None:
    plan = make_plan(SweepRequest())
    (planned,) = plan.points
    point = planned.point
    assert (point.model, point.head, point.batch, point.seq) == ("bert-base", "encoder", 1, 128)
    assert (point.engine, point.device, point.dtype, point.workload) == ("torch:eager", "cpu", "fp32", "padded")
    assert point.weights == "random:0" and point.options == (("threads", 2),) and point.protocol == Protocol().id
    assert (plan.request.device, plan.request.dtypes, plan.request.threads) == ("cpu", ("fp32",), 2)


def test_defaults_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    with_devices(monkeypatch, "cuda:0", "cuda:1", "cpu")
    (planned,) = make_plan(SweepRequest()).points
    assert (planned.point.device, planned.point.dtype, planned.point.options) == ("cuda:0", "fp16", ())
    assert make_plan(tiny(device="cuda:1")).points[0].point.device == "cuda:1"
    assert make_plan(tiny(device="cuda")).points[0].point.device == "cuda:0"


def test_lists_multiply_and_batches_ascend() -> None:
    plan = make_plan(tiny(heads=("encoder", "qa"), dtypes=("fp32", "bf16"), batches=(8, 1, 2), seqs=(64, 32)))
    shapes = [(p.point.head, p.point.dtype, p.point.seq, p.point.batch) for p in plan.points]
    assert len(set(keys(plan))) == len(shapes) == 2 * 2 * 2 * 3
    assert shapes[:6] == [("encoder", "fp32", seq, batch) for seq in (64, 32) for batch in (1, 2, 8)]


def test_the_same_engine_spelled_twice_is_measured_once() -> None:
    assert len(make_plan(tiny(backends=("torch", "torch:eager"))).points) == 1


def test_points_that_share_an_engine_share_a_worker() -> None:
    plan = make_plan(tiny(backends=("torch", "example"), heads=("encoder", "qa"), batches=(1, 2), seqs=(16, 32)))
    groups = plan.groups()
    assert [len(group) for group in groups] == [4, 4, 4, 4]
    assert [(group[0].point.head, group[0].point.engine) for group in groups] == [
        ("encoder", "torch:eager"),
        ("encoder", "example:export"),
        ("qa", "torch:eager"),
        ("qa", "example:export"),
    ]
    some = {keys(plan)[0], keys(plan)[-1]}
    assert [[planned.point.key for planned in group] for group in plan.groups(some)] == [
        [keys(plan)[0]],
        [keys(plan)[-1]],
    ]


def test_a_variant_that_cannot_do_it_is_skipped_beside_one_that_can() -> None:
    able, unable = make_plan(tiny(backends=("torch", "torch:cudagraph"))).points
    assert able.refusal is None and unable.refusal == "torch:cudagraph runs on cuda, rocm, not on cpu"
    fp32, bf16 = make_plan(tiny(backends=("example",), dtypes=("fp32", "bf16"))).points
    assert fp32.refusal is None and bf16.refusal == "example:export runs fp32, not bf16"


def test_a_missing_engine_is_skipped_beside_others_and_refused_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    description = replace(TorchBackend.description, distributions=("no-such-engine",), install="pip install it")
    monkeypatch.setattr(TorchBackend, "description", description)
    said = "torch:eager needs no-such-engine, which is not installed: pip install it"
    absent, present = make_plan(tiny(backends=("torch", "example"))).points
    assert absent.refusal == said and present.refusal is None
    with pytest.raises(UsageError, match=said):
        make_plan(tiny(backends=("torch",), batches=(1, 2)))


def test_without_a_variant_the_first_one_for_the_device_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    description = TorchBackend.description
    monkeypatch.setattr(
        TorchBackend, "description", replace(description, variants=tuple(reversed(description.variants)))
    )
    assert make_plan(tiny()).points[0].point.variant == "compile"  # cudagraph, now first, does not run on a CPU
    monkeypatch.setattr(TorchBackend, "description", replace(description, variants=description.variants[2:]))
    with pytest.raises(UsageError, match="torch:cudagraph runs on cuda, rocm, not on cpu"):
        make_plan(tiny())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"backends": ("nosuch",)}, r"unknown backend 'nosuch': choose from .*torch.*'benchrun backends'"),
        ({"backends": ("torch:nosuch",)}, "unknown variant 'torch:nosuch': choose from torch:eager, torch:compile"),
        ({"backends": ("hostile-broken",)}, "'hostile-broken' .* cannot be imported: .*libhostile.so.1"),
        ({"backends": ("hostile-stranger",)}, "is not a benchrun.backends.contract.Backend"),
        ({"backends": ()}, "--backend is empty"),
        ({"seqs": ()}, "--seq is empty"),
        ({"heads": ("nosuch",)}, "unknown head 'nosuch': choose from layers, encoder, pooler, qa, classification"),
        ({"dtypes": ("fp64",)}, "unknown dtype 'fp64': choose from fp32, tf32, fp16"),
        ({"dtypes": ("tf32",)}, "dtype tf32 exists on NVIDIA GPUs only: on a CPU pass --dtype fp32"),
        ({"dtypes": ("int8",)}, "torch:eager runs fp32, tf32, fp16, bf16, not int8"),
        ({"device": "cuda:7"}, "there is no device 'cuda:7' here: choose from cpu"),
        ({"device": "tpu"}, "there is no device 'tpu' here"),
        ({"workloads": ("nosuch",)}, "unknown workload 'nosuch': choose from padded"),
        ({"protocol": Protocol(transfers="sometimes")}, "unknown transfers 'sometimes': choose from exclude"),
        ({"protocol": Protocol(transfers="include")}, "--transfers include is not offered yet: copies to and from"),
        ({"protocol": Protocol(iterations=0)}, "--iterations 0 is too small: it must be at least 1"),
        ({"protocol": Protocol(warmup=-1)}, "--warmup -1 is too small"),
        ({"protocol": Protocol(max_time_s=0)}, "--max-time 0 is too small"),
        ({"protocol": Protocol(max_time_s=float("nan"))}, "--max-time nan is too small"),
        ({"protocol": Protocol(max_time_s=float("inf"))}, "--max-time inf is too large: it must be at most 2147483647"),
        ({"timeout_s": 0.5}, "--timeout 0.5 is too small: it must be at least 1"),
        ({"launches": 0}, "--launches 0 is too small"),
        ({"threads": -2}, "--threads -2 is too small"),
        ({"overrides": {"num_hidden_layers": 0}}, "num_hidden_layers takes a positive whole number, not 0"),
        ({"overrides": {"colour": 1}}, "cannot override 'colour'"),
        ({"options": {"colour": 1}}, "unknown option 'colour': choose from torch.attention, torch.compile_mode"),
        (
            {"options": {"attention": "none"}},
            "unknown value 'none' for option torch.attention: choose from sdpa, eager",
        ),
    ],
)
def test_what_no_point_could_do_is_refused_in_one_sentence(settings: Mapping[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        make_plan(tiny(**settings))
    assert "\n" not in str(refused.value)


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown model 'nosuch': choose bert-base"):
        make_plan(SweepRequest(models=("nosuch",)))


def test_options_name_their_backend_or_not_and_defaults_leave_no_trace() -> None:
    torch = TorchBackend.description

    def chosen(**asked: str) -> dict[str, object]:
        given = {name.replace("__", "."): value for name, value in asked.items()}
        return dict(choose_options(torch, given, 4, "cuda", "fp32"))

    assert chosen(attention="eager") == chosen(torch__attention="eager") == {"attention": "eager"}
    assert chosen(attention="sdpa") == {}
    assert chosen(attention="eager", torch__attention="sdpa") == {}  # the more particular one wins
    assert dict(choose_options(torch, {}, 4, "cpu", "fp32")) == {"threads": 4}
    with pytest.raises(UsageError, match=r"unknown option 'ort.level'"):
        make_plan(tiny(options={"ort.level": 2}))


def test_an_option_is_carried_where_it_is_of_use_and_refused_where_it_is_of_none() -> None:
    ort = {"backends": ("ort:cpu", "torch"), "options": {"ort.quantisation": "static"}}
    found = {
        (each.point.backend, each.point.dtype): each.point
        for each in make_plan(tiny(dtypes=("fp32", "int8"), **ort), missing=lambda *_: None).points
    }
    assert found["ort", "int8"].option("quantisation") == "static"
    plain = make_plan(tiny(backends=("ort:cpu",)), missing=lambda *_: None)
    assert found["ort", "fp32"].key == plain.points[0].point.key  # the same series as without the option
    for name in ("ort.quantisation", "quantisation"):
        with pytest.raises(
            UsageError, match=rf"^--opt {name} changes nothing in fp32: ask for --dtype int8 too, or leave"
        ):
            make_plan(tiny(backends=("ort:cpu", "torch"), options={name: "static"}), missing=lambda *_: None)
    make_plan(
        tiny(backends=("ort:cpu",), options={"ort.quantisation": "dynamic"}), missing=lambda *_: None
    )  # the default


def test_a_request_survives_the_store() -> None:
    request = make_plan(
        tiny(
            backends=("torch", "example"),
            overrides={"num_hidden_layers": 1},
            options={"torch.attention": "eager"},
            batches=(1, 2),
            launches=3,
            protocol=Protocol(iterations=7, max_time_s=1.5),
        )
    ).request
    stored = json.loads(json.dumps(request.to_json()))
    again = SweepRequest.from_json(stored | {"something": "newer"})
    assert again == request
    assert keys(make_plan(again)) == keys(make_plan(request))


def test_the_key_is_stable_and_depends_on_every_part() -> None:
    point = make_plan(tiny(threads=2)).points[0].point
    # what earlier versions stored is found again only if this never changes
    assert point.key == "c2149d3822aefb65"
    changes: dict[str, Any] = {
        "model": "x", "weights": "x", "head": "qa", "backend": "x", "variant": "x", "device": "cuda:0", "dtype": "fp16", "batch": 2,
        "seq": 2, "workload": "x", "protocol": "x", "overrides": (("a", 1),), "options": (("threads", 3),),
    }  # fmt: skip
    assert set(changes) == set(type(point).__dataclass_fields__)
    assert len({point.key, *(replace(point, **{name: value}).key for name, value in changes.items())}) == 14


def test_a_folder_is_named_without_its_path(tmp_path: Path) -> None:
    folder = tmp_path / "secret-customer" / "my-model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "num_hidden_layers": 1}))
    (planned,) = make_plan(SweepRequest(models=(str(folder),))).points
    assert planned.point.model.startswith("my-model@") and "secret" not in json.dumps(planned.point.model)
