from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchrun.runner.doctor import OK, UNKNOWN, WARN, Finding, diagnose
from benchrun.runner.telemetry.interface import Unreadable
from benchrun.runner.telemetry.nvidia import NvidiaDevice
from benchrun.runner.telemetry.state import DeviceState, HostState, MachineState
from tests.telemetry.nvml_double import Nvml

if TYPE_CHECKING:
    from tests.conftest import Bench

GOOD = HostState(
    at_s=10,
    cores=8,
    usable_cores=8,
    governor="performance",
    turbo=False,
    numa_nodes=1,
    busy_s=5.0,
    own_s=1.0,
    load_1m=0.1,
)


def examine(host: HostState, device: DeviceState | None = None, **after: float) -> dict[str, Finding]:
    later = replace(host, at_s=host.at_s + 1, **after)  # type: ignore[arg-type]
    return {each.check: each for each in diagnose(MachineState(host, device), MachineState(later, device))}


def states(found: dict[str, Finding]) -> dict[str, str]:
    return {check: each.state for check, each in found.items()}


def test_a_host_in_good_order() -> None:
    assert states(examine(GOOD)) == dict.fromkeys(
        ("other processes", "frequency governor", "turbo", "container quota"), OK
    )


@pytest.mark.parametrize(
    ("changes", "check", "mend"),
    [
        ({"governor": "powersave"}, "frequency governor", "cpupower frequency-set -g performance"),
        ({"turbo": True}, "turbo", "no_turbo"),
        ({"quota_cores": 0.5}, "container quota", "cpuset"),
        ({"quota_cores": 2.5}, "container quota", "cpuset"),
        ({"numa_nodes": 2}, "NUMA", "numactl"),
    ],
)
def test_what_makes_a_host_noisy_and_how_to_mend_it(changes: dict[str, object], check: str, mend: str) -> None:
    found = examine(replace(GOOD, **changes))[check]  # type: ignore[arg-type]
    assert found.state == WARN and mend in found.mend


def test_busy_neighbours() -> None:
    found = examine(GOOD, busy_s=9.0)["other processes"]
    assert found.state == WARN and "of 8 cores busy" in found.found


def test_what_cannot_be_seen_is_said_and_no_warning() -> None:
    found = examine(HostState(at_s=1, busy_s=1.0, notes={"governor": "not readable without more rights"}))
    assert found["other processes"].state == UNKNOWN
    assert set(states(found).values()) == {OK, UNKNOWN}
    assert found["frequency governor"].found == "cannot be known: not readable without more rights"


def test_quota_and_threads_that_fit() -> None:
    assert examine(replace(GOOD, quota_cores=8.0))["container quota"].state == OK
    assert examine(replace(GOOD, smt=True))["SMT"].state == OK


def test_an_idle_h200() -> None:
    found = examine(GOOD, NvidiaDevice(Nvml("idle"), "handle").read())
    assert states(found) | {"clocks": ""} == {
        **states(examine(GOOD)), "processes on the device": OK, "throttling": OK, "persistence mode": OK, "clocks": "",
    }  # fmt: skip
    assert found["clocks"].state == WARN and "nvidia-smi -lgc 1485" in found["clocks"].mend
    assert found["clocks"].found == "free to move: 345 of 1980 MHz now"


@pytest.mark.parametrize(
    ("changes", "check", "state"),
    [
        ({"persistence": 0}, "persistence mode", WARN),
        ({"mig": [1, 1]}, "partition", WARN),
        ({"temp": 80}, "temperature", WARN),
        ({"reasons": 0x20}, "throttling", WARN),
        ({"enforced_mw": 500_000}, "power cap", WARN),
        ({"app_sm": 1500}, "clocks", OK),
        ({"sm": 1980}, "clocks", UNKNOWN),
        ({"processes": [{"pid": 1}]}, "processes on the device", WARN),
    ],
)
def test_a_gpu(changes: dict[str, object], check: str, state: str) -> None:
    assert examine(GOOD, NvidiaDevice(Nvml("idle", **changes), "handle").read())[check].state == state


def test_an_amd_gpu_is_mended_by_its_own_tool() -> None:
    found = examine(GOOD, DeviceState("amd", clock_mhz=800, max_clock_mhz=1700, foreign=0))
    assert "amd-smi" in found["clocks"].mend


def test_a_gpu_that_cannot_be_read() -> None:
    assert examine(GOOD, Unreadable("nvidia", "install nvidia-ml-py").read())["nvidia"] == Finding(
        "nvidia", UNKNOWN, "install nvidia-ml-py"
    )
    blind = examine(GOOD, DeviceState("nvidia", notes={"clock_mhz": "Not Supported"}))
    assert blind["clocks"].found == "cannot be known: Not Supported"
    assert blind["processes on the device"].state == UNKNOWN


def test_the_command(bench: Bench) -> None:
    narrow = replace(bench, settings={"COLUMNS": "80"})("doctor", "--device", "cpu")
    assert narrow.status in (0, 1) and narrow.err == ""
    assert max(map(len, narrow.out.splitlines())) <= 80 and "other processes" in narrow.out
    found = bench("doctor", "--device", "cpu", "--json")
    document = json.loads(found.out)
    assert document["schema"] == 1 and document["quiet"] == (found.status == 0)
    assert {each["state"] for each in document["findings"]} <= {OK, WARN, UNKNOWN}
    assert bench("doctor", "--device", "cuda:9").status == 2


def test_a_busy_neighbour_is_seen_by_the_command(bench: Bench) -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as loop:
        try:
            found = bench("doctor", "--device", "cpu")
        finally:
            loop.kill()
    assert found.status == 1 and "other processes kept" in found.out


def test_it_changes_nothing() -> None:
    """No module of telemetry or of the doctor opens a file for writing or calls a setter of a vendor's library."""
    import benchrun.runner.telemetry.state as state

    folder = Path(state.__file__).parent
    for path in (*folder.glob("*.py"), folder.parent / "doctor.py", folder.parent / "cli" / "doctor_command.py"):
        text = path.read_text()
        for word in ("write_text", "open(", "DeviceSet", "amdsmi_set", "amdsmi_reset", "subprocess"):
            assert word not in text.replace("open_", ""), (path.name, word)
