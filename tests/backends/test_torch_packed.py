"""Packed execution on the CPU: real sessions against the padded fp32 reference, and packings that must not pass."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from benchrun.backends import torch_packed
from benchrun.backends.catalogue import resolve_spec
from benchrun.backends.contract import HEADS, BackendError, Inputs, Point, Session, Unsupported
from benchrun.backends.models import Model, copy_module, load_model
from benchrun.backends.reference import Reference
from benchrun.backends.torch import TorchBackend
from benchrun.backends.torch_packed import choose_kernel, pack, unpack
from benchrun.runner.bench import verify
from benchrun.runner.inputs import make_mixed_inputs
from benchrun.runner.parity import compare, true_tokens
from tests.backends.build_double import RecordingBuild
from tests.backends.minilm import MINILM

SEQ = 48
LENGTHS = (5, 48, 17, 1, 2)
SMALL = {"num_hidden_layers": 2, "vocab_size": 2000}


def point_of(**changes: Any) -> Point:
    point = Point(
        "m", "random:0", "encoder", "torch", "eager", "cpu", "fp32", 5, SEQ, "lengths:uniform:1-48:packed", "v1"
    )
    return replace(point, **changes)


def sets_of(model: Model, lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> list[Inputs]:
    return make_mixed_inputs(model.spec.shape, model.spec.head, lengths, SEQ, seed)


def open_session(model: Model, point: Point) -> Session:
    return TorchBackend().prepare(model, point, RecordingBuild.shared())


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tiny() -> Model:
    return load_model(resolve_spec("tiny"), 64)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", ["tiny", "roberta-base", str(MINILM)])
def test_packed_answers_equal_padded_ones(name: str, head: str) -> None:
    model = load_model(resolve_spec(name, head, overrides=SMALL if name == "roberta-base" else {}), 64)
    sets = sets_of(model)
    session = open_session(model, point_of(head=head))
    assert session.packed
    for each in reversed(sets):
        session.bind(each)
        session.enqueue()
    exact = Reference(model, "cpu").exact(sets[0])
    parity, _ = verify(session, point_of(head=head), exact, None, 5, LENGTHS)
    assert parity["ok"] and parity["rel_l2"] < 1e-5, parity
    facts = session.facts()
    assert (facts["layout"], facts["attention"], facts["tokens"]) == ("packed", "packed_attention", sum(LENGTHS))
    assert facts["compute_dtypes"]["matmul"] == "fp32"
    blank = np.arange(SEQ)[None, :] >= np.array(LENGTHS)[:, None]
    for output, array in session.outputs().items():
        if output not in torch_packed.PER_SEQUENCE:
            assert not array[blank].any()
    session.close()


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_low_precisions_stay_within_their_tolerance(dtype: str, tiny: Model) -> None:
    sets = sets_of(tiny)
    reference = Reference(tiny, "cpu")
    session = open_session(tiny, point_of(dtype=dtype))
    session.bind(sets[0])
    parity, distance = verify(
        session, point_of(dtype=dtype), reference.exact(sets[0]), reference.rounded(sets[0], dtype), 5, LENGTHS
    )
    assert parity["ok"] and distance is not None and distance > 1e-5


def check_any_samples(model: Model, session: Session, point: Point, lengths: tuple[int, ...], seed: int) -> None:
    """A set that comes once, of fewer sequences than the batch."""
    inputs = replace(sets_of(model, lengths, seed)[0], index=-1)
    session.bind(inputs)
    session.enqueue()
    session.synchronize()
    found = session.outputs()
    exact = Reference(model, "cpu").exact(inputs)
    assert all(array.shape[0] == len(lengths) for array in found.values())
    parity = compare(true_tokens(found, lengths, SEQ), true_tokens(exact, lengths, SEQ), point.dtype)
    assert parity.ok, parity


def test_a_session_takes_any_samples_up_to_its_batch(tiny: Model) -> None:
    session = open_session(tiny, point_of())
    for seed, lengths in enumerate(((3,), (48,) * 5, (1, 2), (48, 47, 3, 1))):
        check_any_samples(tiny, session, point_of(), lengths, seed)
    inputs = sets_of(tiny, (48,) * 6)[0]
    with pytest.raises(
        BackendError, match="room for 5 sequences of 48 tokens, 240 together, not for 6 of up to 48, 288"
    ):
        session.bind(inputs)


@pytest.mark.parametrize("head", ["pooler"])
def test_compiled_code_has_a_capacity_and_takes_any_samples(head: str) -> None:
    model = load_model(resolve_spec("tiny", head, overrides={"num_hidden_layers": 1}), 64)
    point = point_of(head=head, variant="compile").with_capacity(100)
    session = open_session(model, point)
    sets = sets_of(model)
    for each in reversed(sets):
        session.bind(each)
        session.enqueue()
    parity, _ = verify(session, point, Reference(model, "cpu").exact(sets[0]), None, 5, LENGTHS)
    assert parity["ok"], parity
    for seed, lengths in enumerate(((3,), (48, 48, 4), (20, 20, 20, 20, 20))):
        check_any_samples(model, session, point, lengths, seed)
    facts = session.facts()  # says by the compiler's own counters that nothing was compiled again
    assert (facts["compiled_graphs"], facts["tokens"], facts["attention"]) == (1, 100, "packed_attention")
    with pytest.raises(BackendError, match="100 together, not for 3 of up to 48, 101 together"):
        session.bind(replace(sets_of(model, (48, 48, 5))[0], index=-1))
    session.close()


def test_a_capacity_is_an_option_that_replaces_the_one_before() -> None:
    point = point_of(options=(("threads", 2),))
    assert point.with_capacity(5).with_capacity(7).options == (("packed_tokens", 7), ("threads", 2))
    assert point.layout == "packed" and point_of(workload="lengths:uniform:1-9").layout == "padded"


# --- what must not pass ---


def answers_of(model: Model, spoil: Any) -> Any:
    """Parity of a session whose packed set was spoilt."""
    session: Any = open_session(model, point_of())
    inputs = sets_of(model)[0]
    session.bind(inputs)
    names = session._module.input_names
    session._args = tuple(spoil(name, tensor.clone()) for name, tensor in zip(names, session._args, strict=True))
    parity, _ = verify(session, point_of(), Reference(model, "cpu").exact(inputs), None, 5, LENGTHS)
    return parity


def test_nothing_spoilt_passes(tiny: Model) -> None:
    assert answers_of(tiny, lambda name, tensor: tensor)["ok"]


def test_positions_that_run_on_are_found(tiny: Model) -> None:
    def run_on(name: str, tensor: torch.Tensor) -> torch.Tensor:
        return torch.arange(tensor.shape[1])[None] % 64 if name == "position_ids" else tensor

    assert "relative L2 error" in answers_of(tiny, run_on)["reason"]


def test_attention_over_the_ends_is_found(tiny: Model) -> None:
    def one_sequence(name: str, tensor: torch.Tensor) -> torch.Tensor:
        return torch.tensor([0, *[sum(LENGTHS)] * 5], dtype=torch.int32) if name == "cumulated" else tensor

    assert "relative L2 error" in answers_of(tiny, one_sequence)["reason"]


def test_swapped_sequences_are_found(tiny: Model) -> None:
    session = open_session(tiny, point_of())
    inputs = sets_of(tiny)[0]
    exact = Reference(tiny, "cpu").exact(inputs)
    same = sets_of(tiny, (7, 7, 9, 9, 9))[0]
    swapped = replace(same, arrays={name: array[[1, 0, 2, 3, 4]] for name, array in same.arrays.items()})
    session.bind(swapped)
    parity, _ = verify(session, point_of(), Reference(tiny, "cpu").exact(same), None, 5, same.lengths)
    assert not parity["ok"] and "relative L2 error" in parity["reason"]
    shifted = replace(inputs, index=9, lengths=(48, 5, 17, 1, 2))  # the ends of other sequences
    session.bind(shifted)
    assert not verify(session, point_of(), exact, None, 5, LENGTHS)[0]["ok"]


def test_attending_to_padding_is_found(tiny: Model) -> None:
    point = point_of(workload="lengths:uniform:1-48:padded")
    inputs = sets_of(tiny)[0]
    exact = Reference(tiny, "cpu").exact(inputs)
    session = open_session(tiny, point)
    for mask, right in ((inputs.arrays["attention_mask"], True), (np.ones((5, SEQ), dtype=np.int64), False)):
        session.bind(replace(inputs, index=-1, arrays={**inputs.arrays, "attention_mask": mask}))
        assert verify(session, point, exact, None, 5, LENGTHS)[0]["ok"] is right


# --- its parts ---


def test_packing_and_unpacking_are_inverse() -> None:
    arrays = {"input_ids": np.array([[7, 8, 0], [9, 0, 0]]), "attention_mask": np.array([[1, 1, 0], [1, 0, 0]])}
    packed = pack(Inputs(3, arrays, (2, 1)), ("input_ids", "position_ids", "cumulated"), 4, 5, 2)
    assert packed.index == 3 and packed.arrays["input_ids"].tolist() == [[7, 8, 9, 0, 0]]
    assert packed.arrays["position_ids"].tolist() == [[2, 3, 2, 0, 0]]
    assert packed.arrays["cumulated"].tolist() == [0, 2, 3, 3, 3] and packed.arrays["cumulated"].dtype == np.int32
    states = np.arange(10, dtype=np.float32).reshape(5, 2)
    assert unpack(states, (2, 1), 3, per_token=True).tolist() == [[[0, 1], [2, 3], [0, 0]], [[4, 5], [0, 0], [0, 0]]]
    assert unpack(states, (2, 1), 3, per_token=False).tolist() == [[0, 1], [2, 3]]


def test_each_device_and_dtype_has_its_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_kernel("cpu", torch.bfloat16, 33) == "one by one"
    assert choose_kernel("cuda", torch.float32, 33) == "efficient"
    assert choose_kernel("cuda", torch.bfloat16, 64) == "varlen_attn"
    for size in (33, 512):
        with pytest.raises(Unsupported, match=f"multiples of 8 up to 256, not {size}: use the layout bucketed"):
            choose_kernel("cuda", torch.float16, size)
    monkeypatch.setattr(torch_packed, "varlen", None)
    assert choose_kernel("cuda", torch.bfloat16, 64) == "flash"
    monkeypatch.setattr(torch.version, "hip", "7.1")
    with pytest.raises(Unsupported, match="not for ROCm"):
        choose_kernel("cuda", torch.bfloat16, 64)


@pytest.mark.parametrize("kernel", ["varlen_attn", "flash", "efficient"])
@pytest.mark.parametrize("device", ["meta", "cuda"])
def test_the_kernels_of_cuda_are_called_as_this_pytorch_has_them(kernel: str, device: str) -> None:
    """Without a GPU: PyTorch's own shape functions take the call, and say what comes back."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True) if device == "cuda" else torch.inference_mode():
        one, two, three = (torch.empty(20, 4, 32, dtype=torch.bfloat16, device=device) for _ in range(3))
        ends = torch.empty(6, dtype=torch.int32, device=device)
        found = torch_packed.KERNELS[kernel](one, two, three, ends, 16)
        assert found.shape == (20, 4, 32) and found.dtype == torch.bfloat16 and found.device.type == device


@pytest.mark.parametrize("kernel", ["varlen_attn", "efficient"])
def test_the_kernels_of_cuda_can_be_compiled_into_one_graph(kernel: str) -> None:
    """Traced on the meta device: no graph break around an attention that this machine cannot run."""
    model = load_model(resolve_spec("tiny", "classification", overrides={"num_hidden_layers": 1}), 64)
    encoder = copy_module(model, torch.device("meta"), torch.bfloat16)
    encoder.config._attn_implementation = torch_packed.register_packed_attention()
    module = torch_packed.PackedEncoder(encoder, SEQ, kernel).eval()
    rows = [torch.zeros(1, 100, dtype=torch.long, device="meta") for _ in module.input_names[:-1]]
    seen: list[str] = []

    def note(graph: torch.fx.GraphModule, _: Any) -> Any:
        seen.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return graph.forward

    torch._dynamo.reset()
    call = torch.compile(module, backend=note, fullgraph=True, dynamic=False)
    with torch.inference_mode():
        (logits,) = call(*rows, torch.zeros(6, dtype=torch.int32, device="meta"))
    torch._dynamo.reset()
    operator = {"varlen_attn": "torch_attn._varlen_attn", "efficient": "aten._efficient_attention_forward"}[kernel]
    assert logits.shape == (5, 2) and sum(operator in each for each in seen) == 1


def test_eager_attention_cannot_be_packed(tiny: Model) -> None:
    with pytest.raises(Unsupported, match="leave out --opt attention=eager"):
        open_session(tiny, point_of(options=(("attention", "eager"),)))


def test_layouts_of_one_worker_keep_to_their_own_attention(tiny: Model) -> None:
    backend, inputs = TorchBackend(), sets_of(tiny)[0]
    exact = Reference(tiny, "cpu").exact(inputs)
    for layout in ("packed", "padded", "packed"):
        point = point_of(workload=f"lengths:uniform:1-48:{layout}")
        session = backend.prepare(tiny, point, RecordingBuild.shared())
        session.bind(inputs)
        assert verify(session, point, exact, None, 5, LENGTHS)[0]["ok"]
        assert session.packed == (layout == "packed")
        assert ("masked" in session.facts()["attention"]) == (layout == "padded")
        session.close()


def test_packed_is_faster_where_most_is_padding() -> None:
    model = load_model(resolve_spec(str(MINILM), overrides={"num_hidden_layers": 2}), 256)
    lengths = (32, 24, 40, 256)
    times = {}
    for layout in ("padded", "packed"):
        workload = f"lengths:uniform:1-256:{layout}"
        point = point_of(batch=4, seq=256, workload=workload, options=(("threads", 1),))
        session = open_session(model, point)
        session.bind(make_mixed_inputs(model.spec.shape, "encoder", lengths, 256, 0)[0])
        session.enqueue()
        taken = []
        for _ in range(9):
            started = time.process_time()
            session.enqueue()
            taken.append(time.process_time() - started)
        times[layout] = min(taken)
    assert times["packed"] < 0.8 * times["padded"]  # 66 % is padding: ideally a third, in seconds of processor time
