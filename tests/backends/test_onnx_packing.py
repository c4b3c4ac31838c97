"""Packed graphs for ONNX Runtime: structure, answers with the packing operators written out in plain ONNX, sessions, and what is refused.

The operators themselves have kernels for CUDA only. Here the packed graph is checked by ONNX's checker and by ONNX Runtime's own schemas,
and run on the CPU with functions in their place (`packing_functions`).
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from benchrun.backends.contract import BackendError, Inputs, Point, Unsupported
from benchrun.backends.models import Model, load_model, named_spec
from benchrun.backends.onnx_export import FILE_NAME, export_onnx
from benchrun.backends.onnx_fusion import CONTRIB, fuse, save_graph
from benchrun.backends.onnx_packing import FORMS, check_packing, fuse_packed, pack, packed_form
from benchrun.backends.onnxruntime import OrtBackend
from benchrun.backends.onnxruntime_build import obtain_graph
from benchrun.backends.onnxruntime_sessions import Engine, PackedOrtSession, Setup, open_session
from benchrun.backends.onnxruntime_trace import CPU_PROVIDER, ExecutedNode, Trace
from benchrun.backends.reference import Reference
from benchrun.runner.bench import verify
from benchrun.runner.loadgen.executors import Packing, Shape
from benchrun.runner.loadgen.library import Library
from tests.backends import packing_functions
from tests.backends.build_double import RecordingBuild
from tests.backends.packing_functions import with_functions

SEQ, HIDDEN, HEADS = 64, 32, 4
SCALE = (HIDDEN // HEADS) ** -0.5
BATCHES = ((7, (7,)), (33, (33, 1, 20)), (SEQ, (5, SEQ, 2, 30)), (9, (1, 1)))
WORKLOAD = "lengths:uniform:1-64:packed"
OPERATORS = {
    "multihead": {"RemovePadding": 1, "PackedMultiHeadAttention": 2, "RestorePadding": 1},
    "packed": {"RemovePadding": 1, "PackedAttention": 2, "RestorePadding": 1},
}


def small(head: str = "encoder", family: str = "tiny", **overrides: str | int) -> Model:
    sizes = {"hidden_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": HEADS} | overrides
    return load_model(named_spec(family, head, **sizes), SEQ)


@pytest.fixture(scope="module")
def model() -> Model:
    return small()


def exported(model: Model, dtype: str = "fp32") -> ir.Model:
    return ir.load(export_onnx(model, dtype, RecordingBuild.shared()).path / FILE_NAME)


def packed_file(
    model: Model, folder: Path, form: str = "multihead", dtype: str = "fp32", *, strict: bool = True
) -> Path:
    graph = exported(model, dtype)
    fuse_packed(graph, form, 2, strict=strict)
    save_graph(graph, folder / "packed.onnx")
    return folder / "packed.onnx"


def runnable(path: Path) -> onnxruntime.InferenceSession:
    file = with_functions(path, path.with_name("runnable.onnx"), heads=HEADS, scale=SCALE)
    return onnxruntime.InferenceSession(file, providers=[CPU_PROVIDER])


def inputs_of(model: Model, lengths: Sequence[int], seq: int = SEQ, index: int = 0) -> Inputs:
    generator = np.random.default_rng(len(lengths) + seq)
    size = (len(lengths), seq)
    made: dict[str, np.ndarray[Any, Any]] = {
        "input_ids": generator.integers(3, model.config.vocab_size, size),
        "attention_mask": (np.arange(seq)[None, :] < np.array(lengths)[:, None]).astype(np.int64),
        "token_type_ids": generator.integers(0, 2, size),
        "hidden_states": generator.standard_normal((*size, HIDDEN)).astype(np.float32),
    }
    return Inputs(index, {name: made[name] for name in model.input_names}, tuple(lengths))


def reference(model: Model, inputs: Inputs) -> dict[str, np.ndarray[Any, Any]]:
    """fp32, padded, with its mask."""
    with torch.no_grad():
        found = model.module(*(torch.from_numpy(inputs.arrays[name]) for name in model.input_names))
    return {name: tensor.numpy() for name, tensor in zip(model.output_names, found, strict=True)}


def distance(found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any], inputs: Inputs) -> float:
    """Relative L2 error, at true tokens where an output is told for each token."""
    mask = inputs.arrays["attention_mask"] == 1
    if wanted.shape[:2] == mask.shape:
        found, wanted = found[mask], wanted[mask]
    return float(np.linalg.norm(found.astype(np.float64) - wanted) / np.linalg.norm(wanted))


def worst_error(model: Model, session: onnxruntime.InferenceSession) -> float:
    worst = 0.0
    for seq, lengths in BATCHES:
        inputs = inputs_of(model, lengths, seq)
        found = session.run(None, dict(inputs.arrays))
        for (_, wanted), array in zip(reference(model, inputs).items(), found, strict=True):
            worst = max(worst, distance(np.asarray(array), wanted, inputs))
    return worst


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("head", ["layers", "encoder", "qa", "classification"])
def test_answers_are_those_of_the_padded_reference(tmp_path: Path, head: str, form: str) -> None:
    model = small(head)
    assert worst_error(model, runnable(packed_file(model, tmp_path, form))) <= 1e-5


def test_another_activation_and_family(tmp_path: Path) -> None:
    model = small("classification", "roberta-base", hidden_act="gelu_new", intermediate_size=48, vocab_size=600)
    assert worst_error(model, runnable(packed_file(model, tmp_path, strict=False))) <= 1e-5


def test_half_precision(tmp_path: Path, model: Model) -> None:
    path = packed_file(model, tmp_path, dtype="fp16")
    assert {each.type.tensor_type.elem_type for each in onnx.load(path).graph.output} == {onnx.TensorProto.FLOAT16}
    assert 1e-5 < worst_error(model, runnable(path)) <= 5e-3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Equal (row, column)", "GreaterOrEqual (row, column)"),  # a sequence sees those before it
        ("Less (place, column)", "LessOrEqual (place, column)"),  # one token of the padding comes along
        (
            "used = Slice (order, zeros, tokens)",
            "one = Constant <value_int = 1> ()\n late = Add (order, one)\n used = Slice (late, zeros, tokens)",
        ),
    ],
)
def test_wrong_ends_would_show(
    tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    """Mistakes in what the operators are told, or in what they do, are at least a hundred times the tolerance."""
    path = packed_file(model, tmp_path)
    for name in ("REMOVE", "RESTORE", "ATTEND"):
        monkeypatch.setattr(packing_functions, name, getattr(packing_functions, name).replace(old, new))
    inputs = inputs_of(model, (33, 5, 20), 40)
    found = np.asarray(runnable(path).run(None, dict(inputs.arrays))[0])
    assert distance(found, reference(model, inputs)["last_hidden_state"], inputs) > 1e-3


@pytest.mark.parametrize("form", FORMS)
def test_structure(tmp_path: Path, model: Model, form: str) -> None:
    """Every attention is packed, one RemovePadding and one RestorePadding stand around the layers, and all between is [tokens, …]."""
    path = packed_file(model, tmp_path, form)
    onnx.checker.check_model(str(path), full_check=True)
    graph, before = onnx.load(path).graph, exported(model).graph
    operators = Counter(node.op_type for node in graph.node)
    assert {name: operators[name] for name in OPERATORS[form]} == OPERATORS[form]
    assert not {"Attention", "MultiHeadAttention", "Softmax", "Transpose", "Where"} & set(operators)
    assert [each.name for each in graph.input] == [each.name for each in before.inputs]
    assert [each.name for each in graph.output] == [each.name for each in before.outputs]
    order = [node.op_type for node in graph.node]
    assert order.index("LayerNormalization") < order.index("RemovePadding") < order.index("MatMul")
    assert order[-1] == "RestorePadding"
    shapes = {
        each.name: [dim.dim_value or dim.dim_param for dim in each.type.tensor_type.shape.dim]
        for each in graph.value_info
    }
    layers = graph.node[order.index("RemovePadding") : -1]
    assert all(len(shapes[name]) == 2 for node in layers[1:] for name in node.output if name in shapes)
    assert shapes["packed_states"] == ["tokens", HIDDEN]
    # lengths are the attention's and RemovePadding's only knowledge of the mask
    lengths = {node.input[1] for node in graph.node if node.op_type == "RemovePadding"}
    assert lengths == {"lengths"} and all("lengths" not in node.input for node in layers[1:])


@pytest.mark.parametrize("form", FORMS)
def test_only_the_packing_operators_keep_it_from_the_cpu(tmp_path: Path, model: Model, form: str) -> None:
    """ONNX Runtime accepts the graph by its own schemas (inputs, types, attributes) and then lacks one kernel after the other."""
    path, known = packed_file(model, tmp_path, form), list[str]()
    for name in OPERATORS[form]:
        file = with_functions(path, tmp_path / f"{name}.onnx", heads=HEADS, scale=SCALE, only=known)
        with pytest.raises(
            Exception, match=rf"NOT_IMPLEMENTED : Could not find an implementation for {name}\(1\) node"
        ):
            onnxruntime.InferenceSession(file, providers=[CPU_PROVIDER])
        known.append(name)
    assert with_functions(path, tmp_path / "all.onnx", heads=HEADS, scale=SCALE, only=known).exists()
    onnxruntime.InferenceSession(tmp_path / "all.onnx", providers=[CPU_PROVIDER])


@pytest.fixture
def library_converter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """ONNX Runtime's own converter, off the import path again afterwards: it brings modules named `constants` and the like."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    from onnxruntime.transformers import convert_to_packing_mode

    yield convert_to_packing_mode
    folder = str(Path(convert_to_packing_mode.__file__).parent)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(folder):
            del sys.modules[name]


@pytest.mark.parametrize("form", FORMS)
def test_the_librarys_own_converter_makes_the_same_graph(
    tmp_path: Path, model: Model, form: str, library_converter: Any
) -> None:
    fused = exported(model)
    fuse(fused, form, 2)
    theirs = library_converter.PackingMode(library_converter.OnnxModel(ir.to_proto(fused)))
    theirs.convert(use_symbolic_shape_infer=False)
    onnx.save(theirs.model.model, tmp_path / "theirs.onnx")
    ours = packed_file(model, tmp_path, form)

    def steps(path: Path) -> list[tuple[str, tuple[str, ...]]]:
        """Each node with the operators its inputs come from, whatever things are called."""
        nodes = onnx.load(path).graph.node
        makers = {name: f"{node.op_type}:{place}" for node in nodes for place, name in enumerate(node.output)}
        return sorted((node.op_type, tuple(makers.get(name, "") for name in node.input if name)) for node in nodes)

    assert steps(tmp_path / "theirs.onnx") == steps(ours)
    inputs = inputs_of(model, (33, 1, 20), 33)
    answers = [runnable(path).run(None, dict(inputs.arrays))[0] for path in (tmp_path / "theirs.onnx", ours)]
    np.testing.assert_array_equal(answers[0], answers[1])


# sessions


def point(model: Model, batch: int = 4, seq: int = SEQ, **changes: Any) -> Point:
    options = tuple(sorted(changes.pop("options", {}).items()))
    given: dict[str, Any] = {"variant": "cuda", "device": "cuda:0", "dtype": "fp32", "workload": WORKLOAD} | changes
    spec = model.spec
    return Point(
        spec.name, spec.weights, spec.head, "ort", batch=batch, seq=seq, protocol="p", options=options, **given
    )


def opened(model: Model, asked: Point, folder: Path) -> PackedOrtSession:
    """The session of ort:cuda for a point, on the CPU: graph and session are the product's, the packing operators are functions."""
    engine, notes = engine_of(model, asked, folder)
    return PackedOrtSession(engine, asked, notes | {"attention_form": packed_form(asked)}, torch.device("cpu"))


def engine_of(model: Model, asked: Point, folder: Path) -> tuple[Engine, dict[str, Any]]:
    graph, notes = obtain_graph(model, asked, packed_form(asked), RecordingBuild.shared())
    path = with_functions(graph.path / FILE_NAME, folder / "session.onnx", heads=HEADS, scale=SCALE)
    setup = Setup(path, CPU_PROVIDER, threads=1)
    executed = (ExecutedNode("one", "PackedMultiHeadAttention", CPU_PROVIDER, ("float",)),)
    return Engine(setup, open_session(setup), Trace(executed), takes_lengths=True), notes


def run(session: PackedOrtSession, inputs: Inputs) -> dict[str, np.ndarray[Any, Any]]:
    session.bind(inputs)
    session.poison()
    session.enqueue()
    session.synchronize()
    return dict(session.outputs())


@pytest.mark.parametrize("head", ["encoder", "qa", "classification"])
def test_a_session_takes_any_sequences_that_fit(tmp_path: Path, head: str) -> None:
    """Sets that are kept and sets that come once, fewer and narrower than the point says, in turns through the same buffers."""
    model = small(head)
    session = opened(model, point(model), tmp_path)
    assert session.packed and session.stream is None
    calls = [(index, seq, lengths) for seq, lengths in BATCHES for index in (BATCHES.index((seq, lengths)), -1)]
    for index, seq, lengths in [*calls, *reversed(calls)]:
        inputs = inputs_of(model, lengths, seq, index)
        found = run(session, inputs)
        for name, wanted in reference(model, inputs).items():
            assert found[name].shape == wanted.shape and distance(found[name], wanted, inputs) <= 1e-5
            if wanted.shape[:2] == (len(lengths), seq):
                assert not found[name][inputs.arrays["attention_mask"] == 0].any()
        assert session.facts()["tokens"] == sum(lengths)
    facts = session.facts()
    assert facts["layout"] == "packed" and facts["attention"] == "PackedMultiHeadAttention"
    assert facts["compute_dtypes"] == {"attention": "fp32", "matmul": "fp32"}
    assert facts["packing_verified"] == FORMS["multihead"]
    assert facts["fusions"]["packed_attention"] == 2
    session.close()


def test_the_runner_finds_its_answers_right(tmp_path: Path, model: Model) -> None:
    lengths = (5, SEQ, 2, 30)
    inputs = inputs_of(model, lengths)
    session = opened(model, point(model), tmp_path)
    session.bind(inputs)
    exact = Reference(model, "cpu").exact(inputs)
    parity, _ = verify(session, point(model), exact, None, len(lengths), lengths)
    assert parity["ok"] and parity["rel_l2"] <= 1e-5


def test_a_session_says_what_does_not_fit(tmp_path: Path, model: Model) -> None:
    asked = point(model, batch=2).with_capacity(40)
    session = opened(model, asked, tmp_path)
    assert run(session, inputs_of(model, (33, 7), 33))["last_hidden_state"].shape == (2, 33, HIDDEN)
    for lengths, seq in (((33, 8), 33), ((1, 1, 1), 8), ((5,), SEQ + 1)):
        with pytest.raises(BackendError, match="room for 2 sequences of 64 tokens, 40 together"):
            session.bind(inputs_of(model, lengths, seq))
    left = inputs_of(model, (5, 8), 8, -1)
    arrays = {**left.arrays, "attention_mask": np.ascontiguousarray(left.arrays["attention_mask"][:, ::-1])}
    with pytest.raises(Unsupported, match="pad on the right"):
        session.bind(Inputs(-1, arrays, left.lengths))


def test_calls_of_loadgen(tmp_path: Path, model: Model) -> None:
    """LoadGen's packed calls of any number of samples, through sessions for two capacities that share one engine."""
    library = Library.of(inputs_of(model, (5, SEQ, 2, 30, 11, 40, 1), SEQ))
    engine, _ = engine_of(model, point(model), tmp_path)
    facts = {"attention_form": "multihead"}
    shapes = [Shape(6, SEQ, tokens) for tokens in (64, 128)]
    sessions = {
        shape: PackedOrtSession(
            engine, point(model, batch=shape.batch).with_capacity(shape.tokens or 0), facts, torch.device("cpu")
        )
        for shape in shapes
    }
    executor = Packing(library, sessions, answers=True)
    for wanted in ([1], [0, 2, 3, 4, 6], [1, 5], [3, 0], [2]):
        places = np.array(wanted)
        assert executor.fit(places) == len(wanted)
        call = executor.stage(places)
        assert call.session is sessions[shapes[int(library.lengths[places].sum() > 64)]]
        executor.start(call)
        found = executor.finish(call)
        assert found is not None
        expected = reference(model, call.inputs)["last_hidden_state"]
        assert distance(found["last_hidden_state"], expected, call.inputs) <= 1e-5
        assert call.session.facts()["tokens"] == library.lengths[places].sum()


# what is refused, and where


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variant": "cpu", "device": "cpu"}, "run on its CUDA provider only, so ort:cpu cannot pack"),
        (
            {"variant": "cpu", "device": "cpu", "dtype": "int8"},
            "so ort:cpu cannot pack: use the layout padded or bucketed",
        ),
        ({"variant": "tensorrt"}, "so ort:tensorrt cannot pack"),
        ({"dtype": "bf16"}, "kernels for fp16 and fp32, not for bf16: use fp16"),
        ({"options": {"fusion": "off"}}, "packs fused attention only"),
        ({"options": {"attention": "onnx"}}, "ort.attention=onnx has no packed twin: choose auto, multihead"),
        ({"options": {"attention": "cumulated"}}, "no packed twin"),
        ({"options": {"cuda_graph": "on"}}, "cannot be captured, since RemovePadding waits"),
    ],
)
def test_points_that_are_refused(model: Model, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Unsupported, match=message) as caught:
        check_packing(point(model, **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("asked", "form"), [({}, "multihead"), ({"attention": "packed"}, "packed")])
def test_points_that_are_taken(model: Model, asked: dict[str, Any], form: str) -> None:
    for dtype in ("fp32", "tf32", "fp16"):
        wanted = point(model, dtype=dtype, options=asked)
        check_packing(wanted)
        assert packed_form(wanted) == form


def test_the_backend_refuses_and_builds(model: Model) -> None:
    """Without a GPU: `prepare` on the CPU refuses in one sentence; for CUDA the packed graph is built, beside the padded one."""
    backend, build = OrtBackend(), RecordingBuild.shared()
    with pytest.raises(Unsupported, match="so ort:cpu cannot pack"):
        backend.prepare(model, point(model, variant="cpu", device="cpu"), build)
    with pytest.raises(Unsupported, match="not for bf16"):
        backend.build_ahead(model, [point(model, dtype="bf16")], "", build)
    padded = point(model, workload="padded", options={"attention": "multihead"})
    graphs = backend.build_ahead(model, [point(model), padded, point(model).with_capacity(64)], "", build)
    assert graphs[0].path != graphs[1].path and graphs[0].path == graphs[2].path
    packed, plain = (
        Counter(node.op_type for node in onnx.load(each.path / FILE_NAME).graph.node) for each in graphs[:2]
    )
    assert packed["PackedMultiHeadAttention"] == plain["MultiHeadAttention"] == 2
    assert packed["MultiHeadAttention"] == plain["RemovePadding"] == 0


def test_layers_that_are_not_all_recognised(model: Model) -> None:
    with pytest.raises(Unsupported, match=r"packs only graphs whose layers it can all fuse .*2 of 3 attention"):
        fuse_packed(exported(model), "multihead", 3)
    with pytest.raises(Unsupported, match="no fused attention to pack"):
        pack(exported(model))


def fused(model: Model) -> tuple[ir.Model, list[ir.Node]]:
    graph = exported(model)
    fuse(graph, "multihead", 2)
    return graph, [node for node in graph.graph if node.domain == CONTRIB and node.op_type == "MultiHeadAttention"]


def between(graph: ir.Model, value: ir.Value | None, node: ir.Node) -> None:
    """Put `node`, which takes `value`, between it and all who took it."""
    assert value is not None
    maker = value.producer()
    assert maker is not None
    users = list(value.uses())
    graph.graph.insert_after(maker, node)
    for user, index in users:
        if user is not node:
            user.replace_input_with(index, node.outputs[0])


def test_layers_that_cannot_be_packed(model: Model) -> None:
    graph, attentions = fused(model)
    between(graph, value := attentions[0].outputs[0], ir.node("Transpose", [value], {"perm": [1, 0, 2]}, name="turn"))
    with pytest.raises(Unsupported, match="an operator Transpose in this model's layers cannot be packed"):
        pack(graph)

    graph, attentions = fused(model)
    given = ir.Value(name="given", type=ir.TensorType(ir.DataType.FLOAT))
    graph.graph.inputs.append(given)
    between(graph, value := attentions[1].outputs[0], ir.node("Add", [value, given], name="plus"))
    with pytest.raises(Unsupported, match="the input given in this model's layers cannot be packed"):
        pack(graph)

    graph, attentions = fused(model)
    graph.graph.outputs.append(attentions[0].outputs[0])
    with pytest.raises(Unsupported, match="uses what its layers compute on the way"):
        pack(graph)

    graph, attentions = fused(model)
    attentions[1].replace_input_with(4, ir.Value(name="other"))
    with pytest.raises(Unsupported, match="do not share one mask"):
        pack(graph)
