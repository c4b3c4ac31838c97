from __future__ import annotations

import gc
from collections.abc import Iterable
from itertools import chain, cycle, repeat

import numpy as np
import pytest

from benchrun.runner import loops
from benchrun.runner.loops import Latency, Throughput, Timer, agree, measure_latency, measure_throughput, quiet, warm_up
from benchrun.runner.protocol import Protocol
from tests.runner.scripted import MS, ScriptedClock, ScriptedSession, ScriptedTime, growing, input_sets

Ticks = list[tuple[int, int]]


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> ScriptedTime:
    scripted = ScriptedTime()
    monkeypatch.setattr(loops, "now_ns", scripted)
    return scripted


def timer_of(time: ScriptedTime, durations: Iterable[int], stream: int | None = None) -> tuple[Timer, ScriptedSession]:
    session = ScriptedSession(time, durations, stream)
    return Timer(session, input_sets(), ScriptedClock(session) if stream is not None else None), session


def nothing(n: int, ns: int) -> None:
    """A tick that nobody looks at."""


def test_a_sample_on_the_host_clock(time: ScriptedTime) -> None:
    timer, session = timer_of(time, [3 * MS])
    assert timer.sample() == (3 * MS, None)
    assert session.log == ["bind 0", "synchronize", "enqueue", "synchronize"]


def test_a_sample_on_both_clocks_keeps_their_order(time: ScriptedTime) -> None:
    timer, session = timer_of(time, [9 * MS], stream=0x7F00_1234_5678)
    assert timer.sample() == (9 * MS, 7 * MS)
    stream = str(0x7F00_1234_5678)
    assert session.log == [
        "bind 0", "synchronize", f"start {stream}", "enqueue", f"stop {stream}", "synchronize", "elapsed",
    ]  # fmt: skip


def test_input_sets_rotate_and_binding_is_not_timed(time: ScriptedTime) -> None:
    timer, session = timer_of(time, [MS])
    bind = session.bind

    def slow_bind(inputs: object) -> None:
        time.pass_by(500 * MS)
        bind(inputs)  # type: ignore[arg-type]

    session.bind = slow_bind  # type: ignore[method-assign]
    assert [timer.sample()[0] for _ in range(6)] == [MS] * 6
    assert [each for each in session.log if each.startswith("bind")] == [f"bind {i}" for i in (0, 1, 2, 3, 0, 1)]


def test_a_session_without_a_stream_on_a_device_uses_the_default_one(time: ScriptedTime) -> None:
    session = ScriptedSession(time, [MS])
    Timer(session, input_sets(), ScriptedClock(session)).sample()
    assert "start 0" in session.log and "stop 0" in session.log


def test_back_to_back_waits_once(time: ScriptedTime) -> None:
    timer, session = timer_of(time, [2 * MS], stream=5)
    assert timer.back_to_back(7) == 14 * MS
    assert session.log == ["synchronize", *["enqueue"] * 7, "synchronize"]


# --- warm-up ---


def warm(
    time: ScriptedTime, durations: Iterable[int], warmup: int = 10, device: str = "cpu"
) -> tuple[loops.Warmup, Ticks]:
    ticks: Ticks = []
    timer, _ = timer_of(time, durations)
    done = warm_up(timer, Protocol(warmup=warmup), device, lambda n, ns: ticks.append((n, ns)))
    return done, ticks


def test_a_steady_call_settles_after_two_windows(time: ScriptedTime) -> None:
    done, ticks = warm(time, [10 * MS])
    assert done == loops.Warmup(40, 0.4, True)
    assert ticks == [(n, 10 * MS) for n in range(1, 41)]


def test_a_slow_start_takes_more_windows(time: ScriptedTime) -> None:
    done, _ = warm(time, chain(repeat(50 * MS, 20), repeat(30 * MS, 20), repeat(20 * MS, 20), [10 * MS]))
    assert (done.n, done.settled) == (20 * 5, True)


def test_the_asked_number_of_calls_is_the_least(time: ScriptedTime) -> None:
    done, _ = warm(time, [MS], warmup=90)
    assert (done.n, done.settled) == (100, True)  # the first end of a window from the 90th call on


def test_long_calls_make_windows_of_two_seconds(time: ScriptedTime) -> None:
    done, _ = warm(time, [500 * MS], warmup=3)
    assert (done.n, done.settled) == (8, True)
    slow, _ = warm(time, [30_000 * MS], warmup=1)
    assert (slow.n, slow.settled) == (2, True)


@pytest.mark.parametrize(("device", "limit_s"), [("cpu", 10.0), ("cuda", 5.0), ("rocm", 5.0)])
def test_what_never_settles_ends_after_some_seconds_more(time: ScriptedTime, device: str, limit_s: float) -> None:
    done, ticks = warm(time, growing(MS, 1.01), warmup=10, device=device)
    asked = sum(ns for _, ns in ticks[:10]) / 1e9
    assert not done.settled
    assert limit_s <= done.seconds - asked < limit_s + ticks[-1][1] / 1e9
    assert done.seconds == pytest.approx(sum(ns for _, ns in ticks) / 1e9)


def test_the_limit_counts_from_the_last_asked_call(time: ScriptedTime) -> None:
    restless = cycle([*[500 * MS] * 4, *[400 * MS] * 5])  # windows of two seconds whose medians never agree
    done, ticks = warm(time, restless, warmup=90)  # the asked calls alone take 40 s
    assert not done.settled
    assert done.seconds == pytest.approx(40 + 10, abs=0.5) and done.n == len(ticks) > 90


def test_no_warm_up_is_none_at_all(time: ScriptedTime) -> None:
    done, ticks = warm(time, [MS], warmup=0)
    assert done == loops.Warmup(0, 0.0, False) and ticks == []


def test_medians_agree_within_a_hundredth_or_two_standard_errors() -> None:
    flat = np.full(20, 1000, np.int64)
    assert agree(flat, flat + 10)
    assert not agree(flat, flat + 11)
    assert not agree(flat, flat - 11)
    wide = np.linspace(500, 1500, 20).astype(np.int64)  # MAD 250: standard error of a median about 104
    assert agree(wide, wide + 280)
    assert not agree(wide, wide + 310)


# --- latency ---


def test_samples_are_kept_in_order(time: ScriptedTime) -> None:
    durations = [(5 + i) * MS for i in range(12)]
    ticks: Ticks = []
    timer, _ = timer_of(time, durations)
    latency = measure_latency(timer, Protocol(iterations=12), lambda n, ns: ticks.append((n, ns)))
    assert latency.host.tolist() == durations and latency.host.dtype == np.int64
    assert latency.device is None and not latency.timed_out
    assert ticks == list(enumerate(durations, 1))


def test_both_clocks_are_kept(time: ScriptedTime) -> None:
    timer, _ = timer_of(time, [9 * MS], stream=1)
    latency = measure_latency(timer, Protocol(iterations=11), nothing)
    assert latency.device is not None
    assert latency.host.tolist() == [9 * MS] * 11 and latency.device.tolist() == [7 * MS] * 11


def test_max_time_ends_the_loop_and_says_so(time: ScriptedTime) -> None:
    timer, _ = timer_of(time, [100 * MS])
    latency = measure_latency(timer, Protocol(iterations=200, max_time_s=2.0), nothing)
    assert latency.host.size == 20 and latency.timed_out


def test_ten_samples_are_taken_whatever_the_limit(time: ScriptedTime) -> None:
    timer, _ = timer_of(time, [5000 * MS])
    latency = measure_latency(timer, Protocol(iterations=200, max_time_s=1.0), nothing)
    assert latency.host.size == 10 and latency.timed_out
    fewer = measure_latency(timer, Protocol(iterations=3, max_time_s=1.0), nothing)
    assert fewer.host.size == 3 and not fewer.timed_out


def test_time_that_ticks_take_is_not_in_the_samples(time: ScriptedTime) -> None:
    timer, _ = timer_of(time, [MS])
    latency = measure_latency(timer, Protocol(iterations=10), lambda n, ns: time.pass_by(900 * MS))
    assert latency.host.tolist() == [MS] * 10


# --- throughput ---


def latency_of(ns: int, device_ns: int | None = None, n: int = 20) -> Latency:
    device = None if device_ns is None else np.full(n, device_ns, np.int64)
    return Latency(np.full(n, ns, np.int64), device, False)


def test_without_asynchrony_the_isolated_rate_is_reported_as_such(time: ScriptedTime) -> None:
    timer, session = timer_of(time, [MS])
    found = measure_throughput(timer, latency_of(10 * MS), asynchronous=False)
    assert found == Throughput(20, 0.2, True) and session.log == []
    assert found.sequences_per_second(batch=8) == pytest.approx(800)


def test_the_window_is_half_a_second_and_ten_batches(time: ScriptedTime) -> None:
    quick, _ = timer_of(time, [MS], stream=1)
    assert measure_throughput(quick, latency_of(2 * MS, MS), asynchronous=True) == Throughput(550, 0.55, False)
    slow, _ = timer_of(time, [200 * MS], stream=1)
    assert measure_throughput(slow, latency_of(200 * MS, 200 * MS), asynchronous=True) == Throughput(10, 2.0, False)


def test_a_window_that_came_out_short_is_taken_again(time: ScriptedTime) -> None:
    timer, session = timer_of(time, [MS], stream=1)  # isolated calls took 4 ms, queued ones overlap
    found = measure_throughput(timer, latency_of(4 * MS), asynchronous=True)
    assert found.seconds >= 0.5 and not found.isolated
    assert found.batches == 550 and session.log.count("enqueue") == 138 + 550
    assert found.sequences_per_second(batch=1) == pytest.approx(1000)


def test_queued_calls_that_overlap_a_little_do_not_cost_a_second_window(time: ScriptedTime) -> None:
    timer, session = timer_of(time, [MS], stream=1)
    found = measure_throughput(timer, latency_of(1_080_000), asynchronous=True)
    assert found.seconds >= 0.5 and session.log.count("enqueue") == found.batches


# --- quiet ---


def test_no_garbage_is_collected_between_samples(time: ScriptedTime) -> None:
    timer, session = timer_of(time, [MS])
    enabled: list[bool] = []
    enqueue = session.enqueue

    def spying() -> None:
        enabled.append(gc.isenabled())
        enqueue()

    session.enqueue = spying  # type: ignore[method-assign]
    assert gc.isenabled()
    measure_latency(timer, Protocol(iterations=10), nothing)
    warm_up(timer, Protocol(warmup=10), "cpu", nothing)
    measure_throughput(Timer(session, input_sets(), None), latency_of(100 * MS), asynchronous=True)
    assert set(enabled) == {False} and gc.isenabled()


def test_garbage_collection_comes_back_as_it_was() -> None:
    with pytest.raises(ZeroDivisionError), quiet():
        raise ZeroDivisionError
    assert gc.isenabled()
    gc.disable()
    try:
        with quiet():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
