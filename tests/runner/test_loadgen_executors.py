"""Ladders, packing and the systems under test, with sessions that note what they are given, and LoadGen itself in front of them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchrun.backends.contract import Inputs, Session
from benchrun.runner.bench import VERIFIED_TOKENS
from benchrun.runner.loadgen.answers import answer_size, compare_logged, find_damage, read_answers, spread_places
from benchrun.runner.loadgen.build import plan_shapes
from benchrun.runner.loadgen.calls import LEAST_CALLS, measure_pace
from benchrun.runner.loadgen.executors import Ladder, Packing, Shape, rung_sizes
from benchrun.runner.loadgen.library import ONCE, Library, pick_answer
from benchrun.runner.loadgen.measurement import MOST_ATTACHED
from benchrun.runner.loadgen.minima import OFFICIAL_SAMPLES
from benchrun.runner.loadgen.systems import Batching, Direct, Reply
from benchrun.runner.loadgen.traffic import Traffic
from benchrun.runner.loadgen.trial import Demand, Logs, import_loadgen, run_test

LENGTHS = (3, 8, 1, 5, 2, 7, 4, 6)
SEQ = 8


def library(lengths: Sequence[int] = LENGTHS) -> Library:
    """Sample i holds the number i, zeros behind its end."""
    true = np.arange(SEQ)[None, :] < np.array(lengths)[:, None]
    ids = np.where(true, np.arange(len(lengths))[:, None] + 1, 0).astype(np.int64)
    return Library.of(Inputs(0, {"input_ids": ids, "attention_mask": true.astype(np.int64)}, tuple(lengths)))


class NotingSession(Session):
    """Its answer for a sequence is the number in it; `fails_at` says which call raises."""

    def __init__(self, pause_s: float = 0.0, fails_at: int = -1) -> None:
        self.bound: list[Inputs] = []
        self.closed = False
        self._pause_s, self._fails_at, self._calls = pause_s, fails_at, 0

    def bind(self, inputs: Inputs) -> None:
        self.bound.append(inputs)

    def enqueue(self) -> None:
        self._calls += 1
        if self._calls == self._fails_at:
            raise MemoryError("out of memory on purpose")

    def synchronize(self) -> None:
        time.sleep(self._pause_s)

    def outputs(self) -> Mapping[str, Any]:
        return {"logits": self.bound[-1].arrays["input_ids"][:, :1].astype(np.float32)}

    def facts(self) -> Mapping[str, Any]:
        return {}

    @property
    def packed(self) -> bool:
        return True


def ladder(sizes: Sequence[int], widths: Sequence[int] = (SEQ,), **given: Any) -> Ladder:
    sessions = {Shape(size, width): NotingSession(**given) for size in sizes for width in widths}
    return Ladder(library(), sessions, answers=True)


def places(*given: int) -> Any:
    return np.array(given, dtype=np.int64)


# --- the library ---


def test_samples_are_gathered_and_once_only() -> None:
    samples = library()
    inputs = samples.gather(places(6, 0), 4)
    assert inputs.index == ONCE < 0 and inputs.lengths == (4, 3)
    assert inputs.arrays["input_ids"].tolist() == [[7, 7, 7, 7], [1, 1, 1, 0]]
    one = samples.one(1, SEQ)
    assert one.lengths == (8,) and np.shares_memory(one.arrays["input_ids"], samples.arrays["input_ids"])
    assert (samples.count, samples.seq, samples.mean_length) == (8, SEQ, 4.5)


def test_the_logged_answer_is_of_true_tokens() -> None:
    outputs = {"start_logits": np.arange(6.0).reshape(2, 3), "end_logits": -np.arange(6.0).reshape(2, 3)}
    assert pick_answer(outputs, 1, 2).tolist() == [3, 4, -3, -4]  # type: ignore[arg-type]
    hidden = {"last_hidden_state": np.arange(12.0, dtype=np.float32).reshape(2, 3, 2)}
    assert pick_answer(hidden, 1, 3).tolist() == [6, 7]
    assert pick_answer({"logits": np.ones((2, 3), np.float32)}, 0, 9).tolist() == [1, 1, 1]


# --- executors ---


def test_a_batch_goes_up_to_the_next_rung_with_copies() -> None:
    executor = ladder((1, 2, 4), (4, SEQ))
    call = executor.stage(places(0, 2, 4))  # of 3, 1 and 2 tokens
    assert call.session is executor.sessions[Shape(4, 4)] and (call.count, call.true, call.computed) == (3, 6, 16)
    assert call.inputs.arrays["input_ids"][:, 0].tolist() == [1, 3, 5, 5] and call.inputs.lengths == (3, 1, 2, 2)
    assert executor.stage(places(3, 1)).session is executor.sessions[Shape(2, SEQ)]
    executor.start(call)
    answers = executor.finish(call)
    assert answers is not None and answers["logits"][:3, 0].tolist() == [1, 3, 5]
    assert (executor.tally.calls, executor.tally.samples) == (1, 3)
    assert executor.tally.padding == pytest.approx(10 / 16)


def test_single_samples_are_made_beforehand() -> None:
    executor = ladder((1,), (4, SEQ))
    executor.load(range(8))
    call = executor.stage([1])
    assert call is executor.stage([1]) and call.session is executor.sessions[Shape(1, SEQ)] and call.computed == SEQ
    assert executor.stage([0]).session is executor.sessions[Shape(1, 4)]
    larger = ladder((2,))
    larger.load(range(8))
    assert larger.stage([1]).inputs.lengths == (8, 8)


def test_bucketed_samples_are_ordered_by_length_and_others_are_not() -> None:
    given = places(0, 1, 2, 3)
    assert ladder((4,)).order(given).tolist() == [0, 1, 2, 3]
    assert ladder((4,), (4, SEQ)).order(given).tolist() == [1, 3, 0, 2]


def test_what_waits_goes_by_bucket_the_oldest_ones_first() -> None:
    """Lengths 3, 8, 1, 5, 2, 7, 4, 6: samples 0, 2, 4 and 6 are of at most 4 tokens."""
    assert ladder((1, 2, 4)).choose(places(0, 1, 2, 3, 4)).tolist() == [0, 1, 2, 3]
    bucketed = ladder((1, 2, 4), (4, SEQ))
    assert bucketed.choose(places(0, 1, 2, 3, 4, 5, 6)).tolist() == [0, 2, 4, 6]
    assert bucketed.choose(places(0, 1, 2, 3, 4)).tolist() == [0, 2], "three do not fill a rung of four"
    assert bucketed.choose(places(1, 0, 2, 4, 6)).tolist() == [0], "the oldest goes, however few are like it"
    assert ladder((2, 4), (4, SEQ)).choose(places(1, 0)).tolist() == [0]


def test_no_sample_is_left_behind_by_its_bucket() -> None:
    executor = ladder((1, 2, 4), (4, SEQ), pause_s=0.002)
    read = ask("server", executor, qps=800.0, queries=600, limit_ms=2000).read()
    assert read.status == "ok" and executor.tally.samples == 600
    padded = ladder((1, 2, 4), pause_s=0.002)
    ask("server", padded, qps=800.0, queries=600, limit_ms=2000)
    assert (executor.tally.padding or 0) < (padded.tally.padding or 0) - 0.1


def test_packing_fills_calls_up_to_their_tokens() -> None:
    sessions = {Shape(4, SEQ, tokens): NotingSession() for tokens in (8, 16)}
    executor = Packing(library(), sessions, answers=False)
    assert executor.fit(places(1, 5, 0)) == 2 and executor.fit(places(2, 4, 0, 6, 3)) == 4
    assert executor.fit(places(1)) == 1
    small, large = executor.stage(places(0, 3)), executor.stage(places(1, 5))
    assert (small.session, large.session) == (sessions[Shape(4, SEQ, 8)], sessions[Shape(4, SEQ, 16)])
    assert (small.computed, large.true, large.computed) == (8, 15, 16)
    executor.exact = True
    assert executor.stage(places(1, 5)).computed == 15
    order = executor.order(places(*range(8))).tolist()
    assert sorted(order) == list(range(8))
    assert [LENGTHS[each] for each in order] == [1, 8, 2, 7, 3, 6, 4, 5]
    executor.load([1])
    executor.start(large)
    assert executor.finish(large) is None and executor.tally.true_tokens == 15


def test_the_sessions_of_a_traffic() -> None:
    samples = library((1, 2, 3, 8))
    assert rung_sizes(1) == [1] and rung_sizes(6) == [1, 2, 4, 6] and rung_sizes(64, 4) == [1, 4, 16, 64]
    assert plan_shapes(Traffic("single-stream"), 1, samples) == [Shape(1, SEQ)]
    assert plan_shapes(Traffic("multi-stream"), 3, samples) == [Shape(3, SEQ)]
    assert plan_shapes(Traffic("offline"), 4, samples) == [Shape(1, SEQ), Shape(2, SEQ), Shape(4, SEQ)]
    assert plan_shapes(Traffic("server", lengths="x", layout="bucketed"), 4, samples) == [Shape(1, SEQ), Shape(4, SEQ)]
    wide = library((1, 2, 3, 8))
    long = Library({name: np.repeat(array, 8, axis=1) for name, array in wide.arrays.items()}, places(5, 9, 17, 60))
    assert [each.seq for each in plan_shapes(Traffic("single-stream", lengths="x", layout="bucketed"), 1, long)] == [
        16,
        32,
        64,
    ]
    packed = [each.tokens for each in plan_shapes(Traffic("offline", lengths="x", layout="packed"), 16, long)]
    assert packed == [64, 128, 192, 384] and {
        each.batch for each in plan_shapes(Traffic("offline", lengths="x", layout="packed"), 16, long)
    } == {32}
    streams = plan_shapes(Traffic("multi-stream", lengths="x", layout="packed"), 4, long)
    assert streams[-1] == Shape(4, 64, 256)


def test_the_pace_is_of_calls_with_everything_in_them() -> None:
    executor = ladder((1, 4), pause_s=0.002)
    pace = measure_pace(executor, library(), 4, window_s=0.0)
    assert pace.calls == LEAST_CALLS and 0.002 <= pace.least_s <= pace.median_s
    assert pace.samples_s == pytest.approx(4 / pace.median_s, rel=0.5)


# --- systems, with LoadGen ---


def test_every_sample_gets_its_own_answer() -> None:
    """LoadGen's accuracy log: batches, copies and order must not mix answers up."""
    for scenario, executor in (
        ("single-stream", ladder((1,), (4, SEQ))),
        ("multi-stream", ladder((3,))),
        ("offline", ladder((1, 2, 4), (4, SEQ))),
        ("server", ladder((1, 2, 4))),
        ("offline", Packing(library(), {Shape(4, SEQ, 16): NotingSession()}, answers=True)),
        ("server", Packing(library(), {Shape(4, SEQ, 8): NotingSession()}, answers=True)),
    ):
        logs = ask(scenario, executor, accuracy=True)
        answers = read_answers(logs.accuracy)
        assert {place: each.tolist() for place, each in answers.items()} == {i: [i + 1] for i in range(8)}, scenario


def test_the_answers_that_are_compared_are_spread_over_the_library() -> None:
    places_of = spread_places(10_833, 170)
    assert len(places_of) == 170 and (places_of[0], places_of[-1]) == (0, 10_832)
    assert set(np.diff(places_of)) <= {64, 65}
    assert spread_places(5, 170).tolist() == [0, 1, 2, 3, 4] and spread_places(5, 0).tolist() == [4]


def test_every_logged_answer_has_the_size_of_its_sample_and_is_finite() -> None:
    qa = {name: np.zeros((2, 8), np.float32) for name in ("start_logits", "end_logits")}
    assert answer_size(qa, 5) == 10
    assert answer_size({"last_hidden_state": np.zeros((2, 8, 16), np.float32)}, 5) == 16
    assert answer_size({"logits": np.zeros((2, 3), np.float32)}, 5) == 3
    for outputs in (
        qa,
        {"last_hidden_state": np.ones((2, 8, 16), np.float32)},
        {"logits": np.ones((2, 3), np.float32)},
    ):
        assert pick_answer(outputs, 1, 5).size == answer_size(outputs, 5)
    sizes = [10, 4, 6]
    logged = {n: np.zeros(size, np.float32) for n, size in enumerate(sizes)}
    assert find_damage(logged, sizes) is None
    short = logged | {2: np.zeros(5, np.float32)}
    assert find_damage(short, sizes) == (
        "1 of 3 logged answers have another size than their sample asks for (the first is sample 2)"
    )
    broken = logged | {1: np.array([0, 1, np.inf, 0], np.float32), 2: np.full(6, np.nan, np.float32)}
    assert find_damage(broken, sizes) == "2 of 3 logged answers are not finite (the first is sample 1)"


def test_the_answers_of_the_official_library_are_kept_whole() -> None:
    entry = len('{ "seq_id" : 10833, "qsl_idx" : 10833, "data" : "", "token_count" : 0 },\n')
    assert OFFICIAL_SAMPLES * (entry + 2 * 4 * 2 * 384) <= MOST_ATTACHED


def test_damage_beyond_the_compared_answers_is_a_wrong_answer() -> None:
    """Of 64 long sequences 7 are compared; the others are looked at too."""
    count, seq = 64, VERIFIED_TOKENS // 7
    samples = Library.of(Inputs(0, {"input_ids": np.zeros((count, seq), np.int64)}, (2,) * count))
    asked: list[tuple[int, ...]] = []

    def expected(inputs: Inputs, dtype: str) -> Any:
        asked.append(inputs.arrays["input_ids"].shape)
        return {"logits": np.ones((inputs.arrays["input_ids"].shape[0], 3), np.float32)}, None

    bench: Any = SimpleNamespace(answers=SimpleNamespace(expected=expected))
    point: Any = SimpleNamespace(dtype="fp32")

    def log(damaged: int | None = None, value: float = 1.0) -> str:
        rows = [np.full(3, value if place == damaged else 1.0, np.float32) for place in range(count)]
        return json.dumps([{"qsl_idx": place, "data": row.tobytes().hex()} for place, row in enumerate(rows)])

    parity, facts = compare_logged(bench, point, samples, log())
    assert parity["ok"] and facts == {"answers": count, "compared": 7} and asked[0] == (7, seq)
    assert not compare_logged(bench, point, samples, log(63, 3.0))[0]["ok"]  # the last one is among the compared
    parity, _ = compare_logged(bench, point, samples, log(5, np.nan))
    assert not parity["ok"] and "1 of 64 logged answers are not finite (the first is sample 5)" in parity["reason"]
    with pytest.raises(ValueError, match="1 of 64 samples have no answer"):
        compare_logged(bench, point, samples, json.dumps(json.loads(log())[:-1]))


def test_server_batches_what_waits_and_offline_fills_its_calls() -> None:
    executor = ladder((1, 2, 4), pause_s=0.003)
    read = ask("server", executor, qps=600.0, queries=600, limit_ms=2000).read()
    assert read.status == "ok" and read.facts["validity"] == "VALID"
    assert executor.tally.samples == 600 and executor.tally.calls < 500
    executor = ladder((1, 2, 4))
    read = ask("offline", executor, qps=1000.0, queries=101).read()
    assert read.host is None and executor.tally.samples == 101 and executor.tally.calls == 26
    assert read.throughput_seq_s is not None and read.throughput_seq_s > 100


def test_a_batch_is_held_back_for_more_no_longer_than_said() -> None:
    executor = ladder((1, 8))
    replies: list[tuple[float, int]] = []
    system = Batching(executor, lambda ids, *_: replies.append((time.perf_counter(), len(ids))), wait_s=0.05)  # type: ignore[arg-type]
    began = time.perf_counter()

    def start() -> None:
        system.issue([1], [0])
        time.sleep(0.01)
        system.issue([2], [1])
        time.sleep(0.15)
        system.issue([3], [2])

    system.run(start)
    assert [count for _, count in replies] == [2, 1]
    assert 0.045 <= replies[0][0] - began <= 0.14
    assert executor.tally.calls == 2 and system.failure is None


@pytest.mark.parametrize("scenario", ["single-stream", "server", "offline"])
def test_an_engine_that_fails_ends_the_test_with_its_error(scenario: str) -> None:
    executor = ladder((1, 2), fails_at=4)
    with pytest.raises(MemoryError, match="on purpose"):
        ask(scenario, executor, qps=2000.0, queries=50)


def test_the_engine_runs_in_the_thread_that_prepared_it() -> None:
    """Engines keep a current device and stream for each thread."""
    for scenario in ("single-stream", "server", "offline"):
        executor = ladder((1, 2))
        threads: set[int] = set()
        for each in executor.sessions.values():
            each.enqueue = lambda kept=threads: kept.add(threading.get_ident())  # type: ignore[method-assign, misc]
        ask(scenario, executor, queries=20)
        assert threads == {threading.get_ident()}


def test_a_test_that_cannot_start_ends_with_its_error() -> None:
    system = Batching(ladder((1,)), lambda *_: None)  # type: ignore[arg-type]

    def start() -> None:
        raise ValueError("no start")

    system.run(start)
    assert isinstance(system.failure, ValueError)


def test_offline_fails_where_ordering_does() -> None:
    executor = ladder((1, 2))
    executor.order = None  # type: ignore[assignment, method-assign]
    with pytest.raises(TypeError):
        ask("offline", executor, queries=20)


def ask(
    scenario: str,
    executor: Ladder | Packing,
    *,
    accuracy: bool = False,
    qps: float = 500.0,
    queries: int = 20,
    limit_ms: float = 100.0,
) -> Logs:
    samples = library()
    reply = Reply(import_loadgen(), samples, log_answers=accuracy)
    system: Direct | Batching = Direct(executor, reply)
    if scenario in ("server", "offline"):
        system = Batching(executor, reply, wait_s=0.001, ahead=scenario == "offline")
    most = 3 if scenario == "multi-stream" else 1
    demand = Demand(scenario, accuracy, 0.01, queries, qps, limit_ms, samples_per_query=most)
    return run_test(demand, samples.count, system, executor.load)
