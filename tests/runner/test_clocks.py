"""The device clock against a driver of our own, compiled here: its calls, their arguments and its arithmetic, without a GPU."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

import pytest

from benchrun.runner import clocks, devices, loops
from benchrun.runner.clocks import ClockError, DriverClock, open_device_clock
from benchrun.runner.loops import Timer
from benchrun.runner.protocol import Protocol
from tests.runner.scripted import MS, ScriptedSession, ScriptedTime, input_sets

STREAM = 0x7F00_5555_6660


@pytest.fixture
def driver(driver_library: Path, monkeypatch: pytest.MonkeyPatch) -> ctypes.CDLL:
    monkeypatch.setattr(clocks, "CUDA_DRIVER", str(driver_library))
    monkeypatch.setattr(clocks, "HIP_RUNTIME", str(driver_library))
    monkeypatch.setattr(devices, "CUDA_DRIVER", str(driver_library))
    double = ctypes.CDLL(str(driver_library))
    for name in ("stream_seen", "records_seen"):
        getattr(double, name).restype = ctypes.c_uint64
    double.pass_ms.argtypes = [ctypes.c_double]
    double.restart()
    return double


@pytest.mark.parametrize("device", ["cuda:1", "rocm:1"])
def test_two_events_on_the_given_stream(driver: ctypes.CDLL, device: str) -> None:
    clock = open_device_clock(device)
    assert clock is not None and driver.device_seen() == 1
    clock.start(STREAM)
    driver.pass_ms(41.5)
    clock.stop(STREAM)
    assert clock.elapsed_ns() == 41_750_000  # the second record takes a quarter of a millisecond
    assert (driver.stream_seen(), driver.records_seen()) == (STREAM, 2)
    clock.stop(0)
    assert driver.stream_seen() == 0
    assert clock.memory() == (5 << 30, 141 << 30)


def test_the_cpu_has_no_device_clock() -> None:
    assert open_device_clock("cpu") is None


@pytest.mark.parametrize("device", ["cuda", "rocm"])
def test_without_an_index_the_first_device_is_meant(driver: ctypes.CDLL, device: str) -> None:
    assert open_device_clock(device) is not None
    assert driver.device_seen() == 0


@pytest.mark.parametrize(("kind", "call"), [("cuda", "cuDeviceGet"), ("rocm", "hipSetDevice")])
def test_a_device_that_is_not_there(driver: ctypes.CDLL, kind: str, call: str) -> None:
    with pytest.raises(ClockError, match=f"{call} failed with status 101"):
        DriverClock(kind, 7)


def test_a_driver_that_fails_says_where(driver: ctypes.CDLL) -> None:
    clock = DriverClock("cuda", 0)
    driver.fail_with(719)
    with pytest.raises(ClockError, match="cuEventElapsedTime failed with status 719"):
        clock.elapsed_ns()
    with pytest.raises(ClockError, match="cuMemGetInfo_v2 failed with status 719"):
        clock.memory()


def test_a_driver_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "CUDA_DRIVER", "libnosuchdriver.so.1")
    with pytest.raises(ClockError, match=r"the device clock needs libnosuchdriver.so.1"):
        open_device_clock("cuda:0")


def test_the_device_path_of_a_whole_measurement(driver: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = ScriptedTime()
    monkeypatch.setattr(loops, "now_ns", scripted)
    session = ScriptedSession(scripted, [3 * MS], stream=STREAM)
    enqueue = session.enqueue

    def launch() -> None:
        driver.pass_ms(2.0)
        enqueue()

    session.enqueue = launch  # type: ignore[method-assign]
    latency = loops.measure_latency(
        Timer(session, input_sets(), DriverClock("cuda", 0)), Protocol(iterations=25), lambda n, ns: None
    )
    assert latency.host.tolist() == [3 * MS] * 25
    assert latency.device is not None and latency.device.tolist() == [2_250_000] * 25
    assert (driver.stream_seen(), driver.records_seen()) == (STREAM, 50)


def test_recording_costs_little(driver: ctypes.CDLL) -> None:
    clock = DriverClock("cuda", 0)
    started = time.perf_counter()
    for _ in range(1000):
        clock.start(STREAM)
        clock.stop(STREAM)
    assert (time.perf_counter() - started) / 1000 < 100e-6  # some microseconds; both lie within the host's time


def test_devices_are_counted_by_the_driver(driver: ctypes.CDLL) -> None:
    count = devices.cuda_count.__wrapped__
    assert count() == 2
    driver.fail_with(3)
    assert count() == 0
