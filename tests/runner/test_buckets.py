"""Bucketed execution: the buckets, and the session made of one for each, for real engines and for ones with streams of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchrun.backends.catalogue import resolve_spec
from benchrun.backends.contract import Backend, BuildFailed, Inputs, Point, Session
from benchrun.backends.models import load_model
from benchrun.backends.onnxruntime import OrtBackend
from benchrun.backends.reference import Reference
from benchrun.backends.torch import TorchBackend
from benchrun.runner.bench import verify
from benchrun.runner.inputs import make_mixed_inputs
from benchrun.runner.lengths.buckets import Bucket, bucket_edges, open_buckets, plan_buckets, split_rows
from tests.backends.build_double import RecordingBuild

LENGTHS = (5, 48, 17, 1, 40, 8)
POINT = Point(
    "tiny", "random:0", "encoder", "torch", "eager", "cpu", "fp32", 6, 48, "lengths:uniform:1-48:bucketed", "v1"
)


def test_edges_are_equal_steps() -> None:
    assert bucket_edges(384) == (64, 128, 192, 256, 320, 384)
    assert bucket_edges(512) == (96, 192, 288, 384, 480, 512)
    assert bucket_edges(48) == (8, 16, 24, 32, 40, 48)
    assert bucket_edges(5) == (5,)


@given(st.integers(1, 600), st.data())
def test_every_sequence_is_in_the_least_bucket_that_holds_it(seq: int, data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, seq), min_size=1, max_size=40))
    edges = bucket_edges(seq)
    assert len(edges) <= 6 and edges[-1] == seq
    split = split_rows(lengths, seq)
    assert sorted(row for rows in split.values() for row in rows) == list(range(len(lengths)))
    for edge, rows in split.items():
        below = max((each for each in edges if each < edge), default=0)
        assert all(below < lengths[row] <= edge for row in rows)
    assert plan_buckets(lengths, seq) == plan_buckets(lengths[::-1], seq)


@pytest.mark.parametrize(
    ("backend", "variant", "head"),
    [
        (TorchBackend, "eager", "qa"),
        (TorchBackend, "eager", "pooler"),
        (OrtBackend, "cpu", "qa"),
        (OrtBackend, "cpu", "pooler"),
    ],
)
def test_the_answer_is_that_of_padding(backend: type[Backend], variant: str, head: str) -> None:
    model = load_model(resolve_spec("tiny", head), 64)
    point = replace(POINT, backend=backend.description.name, variant=variant, head=head)
    sets = make_mixed_inputs(model.spec.shape, head, LENGTHS, 48, 0)
    engine = backend()
    buckets = plan_buckets(LENGTHS, 48)
    assert buckets == (Bucket(8, 3), Bucket(24, 1), Bucket(40, 1), Bucket(48, 1))
    session = open_buckets(
        lambda each, build: engine.prepare(model, each, build), point, buckets, RecordingBuild.shared()
    )
    for each in (*reversed(sets), replace(sets[1], index=-1)):
        session.bind(each)
        parity, _ = verify(session, point, Reference(model, "cpu").exact(each), None, 6, each.lengths)
        assert parity["ok"] and parity["rel_l2"] < 1e-4, parity
    facts = session.facts()
    assert facts["layout"] == "bucketed" and facts["buckets"] == [[3, 8], [1, 24], [1, 40], [1, 48]]
    assert session.stream is None and not session.packed
    with pytest.raises(ValueError, match="the same lengths in another order"):
        session.bind(replace(make_mixed_inputs(model.spec.shape, head, (48,) * 6, 48, 0)[0], index=-1))
    session.close()


def test_compiled_buckets_share_the_compiler() -> None:
    model = load_model(resolve_spec("tiny", overrides={"num_hidden_layers": 1}), 64)
    point = replace(POINT, variant="compile", batch=3)
    lengths = (5, 48, 3)
    inputs = make_mixed_inputs(model.spec.shape, "encoder", lengths, 48, 0)[0]
    engine = TorchBackend()
    session = open_buckets(
        lambda each, build: engine.prepare(model, each, build),
        point,
        plan_buckets(lengths, 48),
        RecordingBuild.shared(),
    )
    session.bind(inputs)
    parity, _ = verify(session, point, Reference(model, "cpu").exact(inputs), None, 3, lengths)
    assert parity["ok"], parity
    assert session.facts()["compiled_graphs"] == 2  # raises where one was compiled again
    session.close()


class Recorder(Session):
    """Notes its calls. `handle` is its stream."""

    def __init__(self, name: str, handle: int | None, calls: list[str]) -> None:
        self._name, self._handle, self._calls = name, handle, calls

    def bind(self, inputs: Inputs) -> None:
        self._calls.append(f"bind {self._name} {inputs.arrays['input_ids'].tolist()}")

    def enqueue(self) -> None:
        self._calls.append(f"enqueue {self._name}")

    def synchronize(self) -> None:
        self._calls.append(f"wait {self._name}")

    def outputs(self) -> Mapping[str, Any]:
        return {"logits": np.full((1, 2), float(self._name))}

    def facts(self) -> Mapping[str, Any]:
        return {"cuda_graph": self._name == "8"}

    def poison(self) -> None:
        self._calls.append(f"poison {self._name}")

    def close(self) -> None:
        self._calls.append(f"close {self._name}")

    @property
    def stream(self) -> int | None:
        return self._handle


@pytest.mark.parametrize("one_stream", [True, False])
def test_sessions_with_streams_of_their_own_are_waited_for(one_stream: bool) -> None:
    calls: list[str] = []
    handles = iter((7, 7) if one_stream else (7, 8))
    point = replace(POINT, batch=2, seq=16)
    build = RecordingBuild.shared()
    heard: list[Any] = []

    def prepare(each: Point, own: Any) -> Session:
        heard.append((each.batch, each.seq, [(one.batch, one.seq) for one in own.sweep()]))
        with own.phase("load"):
            own.artefact(5, hit=True)
        assert own.cache is build.cache
        return Recorder(str(each.seq), next(handles), calls)

    session = open_buckets(prepare, point, (Bucket(8, 1), Bucket(16, 1)), build)
    assert heard == [(1, 8, [(1, 8), (1, 16)]), (1, 16, [(1, 8), (1, 16)])] and build.artefacts[-1] == (5, True)
    ids = np.arange(32).reshape(2, 16)
    session.bind(Inputs(0, {"input_ids": ids}, (16, 3)))
    session.poison()
    session.enqueue()
    session.synchronize()
    bound = [f"bind 8 {[list(range(16, 24))]}", f"bind 16 {[list(range(16))]}", "poison 8", "poison 16"]
    ran = (
        ["enqueue 8", "enqueue 16", "wait 16"]
        if one_stream
        else ["enqueue 8", "wait 8", "enqueue 16", "wait 16", "wait 8", "wait 16"]
    )
    assert calls == bound + ran
    assert session.stream == 7  # the first one's: events on it enclose the call
    assert session.outputs()["logits"].tolist() == [[16, 16], [8, 8]]  # in the order of the set
    assert session.facts()["cuda_graph"] is False
    assert session.facts()["streams"] == ("one" if one_stream else "one a bucket: each is waited for")
    session.close()
    assert calls[-2:] == ["close 8", "close 16"]


def test_what_was_prepared_is_closed_where_a_bucket_fails() -> None:
    calls: list[str] = []

    def prepare(each: Point, _: Any) -> Session:
        if each.seq == 16:
            raise BuildFailed("no")
        return Recorder(str(each.seq), None, calls)

    with pytest.raises(BuildFailed):
        open_buckets(prepare, POINT, (Bucket(8, 1), Bucket(16, 1)), RecordingBuild.shared())
    assert calls == ["close 8"]
