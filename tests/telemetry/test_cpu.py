"""The host from trees of files: a bare-metal machine, containers, a machine that shows nothing; and this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchrun.runner.attempts import measure_once
from benchrun.runner.devices import cgroup_quota
from benchrun.runner.loops import Timer
from benchrun.runner.protocol import Protocol
from benchrun.runner.telemetry import cgroup
from benchrun.runner.telemetry.cpu import Host, cpu_seconds, rapl, turbo_on
from benchrun.runner.telemetry.energy import Energy
from benchrun.runner.telemetry.interface import open_telemetry
from benchrun.runner.telemetry.judgement import judge
from tests.runner.scripted import ScriptedSession, ScriptedTime, input_sets

CPU = "sys/devices/system/cpu"
POLICY = f"{CPU}/cpufreq/policy"
TICKS = os.sysconf("SC_CLK_TCK")
# As a two-socket Xeon with intel_pstate shows itself to root.
BARE_METAL = {
    f"{CPU}/online": "0-3\n",
    f"{CPU}/smt/active": "1\n",
    f"{CPU}/intel_pstate/no_turbo": "0\n",
    f"{CPU}/cpu0/thermal_throttle/package_throttle_count": "7\n",
    **{f"{POLICY}{i}/scaling_governor": "performance\n" for i in range(4)},
    **{f"{POLICY}{i}/scaling_cur_freq": f"{2_000_000 + 100_000 * i}\n" for i in range(4)},
    **{f"{POLICY}{i}/cpuinfo_max_freq": "3700000\n" for i in range(4)},
    "sys/devices/system/node/online": "0-1\n",
    "proc/stat": f"cpu  {100 * TICKS} {2 * TICKS} {30 * TICKS} 9000 50 {TICKS} {TICKS} {3 * TICKS} 0 0\ncpu0 1 2 3\n",
    "proc/loadavg": "0.52 0.58 0.59 1/597 12345\n",
    "proc/meminfo": "MemTotal: 100 kB\nMemAvailable:   2048 kB\n",
    "proc/self/task/1/schedstat": "5000000000 250000000 10\n",
    "proc/self/task/2/schedstat": "1000000000 750000000 10\n",
    "proc/self/cgroup": "0::/system.slice/job\n",
    "sys/fs/cgroup/cgroup.procs": "1\n",
    "sys/fs/cgroup/system.slice/cgroup.procs": "2\n",
    "sys/class/powercap/intel-rapl:0/name": "package-0\n",
    "sys/class/powercap/intel-rapl:0/energy_uj": "5000000\n",
    "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "262143328850\n",
    "sys/class/powercap/intel-rapl:0:0/name": "core\n",
    "sys/class/powercap/intel-rapl:0:0/energy_uj": "1\n",
}
Plant = Callable[[dict[str, str]], Path]


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    def make(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return make


def test_bare_metal(plant: Plant) -> None:
    state = Host(plant(BARE_METAL)).read()
    assert (state.cores, state.numa_nodes, state.smt, state.turbo, state.governor) == (4, 2, True, True, "performance")
    assert (state.clock_mhz, state.max_clock_mhz, state.load_1m, state.overheated_n) == (2150, 3700, 0.52, 7)
    assert state.busy_s == 100 + 2 + 30 + 1 + 1 and state.stolen_s == 3
    assert state.waited_s == 1.0 and state.memory_available_bytes == 2048 * 1024
    assert state.quota_cores is None and state.throttled_s is None and state.notes == {}
    assert state.own_s is not None and state.own_s > 0 and state.preempted is not None


def test_governors_that_differ_are_all_named(plant: Plant) -> None:
    root = plant(BARE_METAL | {f"{POLICY}2/scaling_governor": "powersave\n"})
    assert Host(root).read().governor == "performance+powersave"


def test_turbo_by_either_switch(plant: Plant) -> None:
    assert turbo_on(plant({f"{CPU}/cpufreq/boost": "1\n"}))
    assert not turbo_on(plant({f"{CPU}/intel_pstate/no_turbo": "1\n"}))


def test_a_container_without_sys_and_proc(tmp_path: Path) -> None:
    state = Host(tmp_path).read()
    unknown = (
        "cores",
        "load_1m",
        "governor",
        "turbo",
        "clock_mhz",
        "smt",
        "numa_nodes",
        "busy_s",
        "waited_s",
        "quota_cores",
    )
    assert all(getattr(state, name) is None and state.notes[name] == "not provided here" for name in unknown)
    assert state.usable_cores == len(os.sched_getaffinity(0))
    host = Host(tmp_path)
    assert host.energy() is None
    telemetry = open_telemetry("cpu", tmp_path)
    assert judge(telemetry.read(), telemetry.read()).flags == ()


def test_a_container_without_sys_still_counts_its_processors(plant: Plant) -> None:
    root = plant({"proc/stat": "cpu  1 0 0 9 0 0 0 0\ncpu0 1 0 0 4 0 0 0 0\ncpu1 0 0 0 5 0 0 0 0\nintr 7\n"})
    state = Host(root).read()
    assert state.cores == 2 and state.notes["governor"] == "not provided here" and "cores" not in state.notes


def test_files_of_another_shape_are_notes_and_no_errors(plant: Plant) -> None:
    state = Host(plant({name: "nonsense\n" for name in BARE_METAL if "governor" not in name})).read()
    assert state.busy_s is None and state.notes["busy_s"] == "not understood (ValueError)"
    assert state.load_1m is None and state.cores is None


def test_a_file_that_may_not_be_read_is_a_note(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    root = plant(BARE_METAL)
    real = Path.read_text

    def refuse(path: Path) -> str:
        if path.name in ("scaling_governor", "energy_uj"):
            raise PermissionError
        return real(path)

    monkeypatch.setattr(Path, "read_text", refuse)
    host = Host(root)
    assert host.read().notes == {"governor": "not readable without more rights"} and host.energy() is None


@pytest.mark.parametrize(
    ("files", "quota", "held"),
    [
        # version 2: the container's own group at the mount's root
        ({"cpu.max": "50000 100000\n", "cpu.stat": "usage_usec 5\nthrottled_usec 1500000\n"}, 0.5, 1.5),
        ({"cpu.max": "max 100000\n", "cpu.stat": "usage_usec 5\n"}, None, None),
        # on the host: the group of a service, and a tighter one around it
        ({"cpu.max": "max 100000", "a/cpu.max": "150000 100000", "a/b/cpu.max": "300000 100000"}, 1.5, None),
        # version 1, nanoseconds
        (
            {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000", "cpu/cpu.stat": "throttled_time 2000000000\n"},
            0.5,
            2.0,
        ),
        (
            {"cpu,cpuacct/cgroup.procs": "", "cpu,cpuacct/a/b/cpu.cfs_quota_us": "250000", "cpu,cpuacct/a/b/cpu.cfs_period_us": "100000"},
            2.5,
            None,
        ),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None, None),
        ({"cpu.max": "nonsense", "cpu.stat": "throttled_usec many"}, None, None),
        ({"cpu.max": "1 0", "cpu.stat": "three words here"}, None, None),
    ],
)  # fmt: skip
def test_quotas_of_control_groups(plant: Plant, files: dict[str, str], quota: float | None, held: float | None) -> None:
    groups = {"proc/self/cgroup": "0::/a/b\n3:cpu,cpuacct:/a/b\n2:memory:/elsewhere\n"}
    root = plant(groups | {f"sys/fs/cgroup/{name}": text for name, text in files.items()})
    assert cgroup.quota_cores(root) == quota
    assert cgroup.throttled_s(root) == held


def test_a_group_never_leads_out_of_its_mount(plant: Plant) -> None:
    root = plant({"proc/self/cgroup": "0::/../..\nnonsense", "sys/fs/cgroup/cpu.max": "max 1", "cpu.max": "1 100"})
    assert cgroup.quota_cores(root) is None


def test_energy_of_the_packages(plant: Plant) -> None:
    root = plant(BARE_METAL)
    count = rapl(root)
    assert count is not None and (count.joules, count.wraps_j) == (5.0, pytest.approx(262143.32885))
    plant(
        {
            f"sys/class/powercap/intel-rapl:1/{name}": text
            for name, text in (("name", "package-1"), ("energy_uj", "7000000"), ("max_energy_range_uj", "10"))
        }
    )
    both = rapl(root)
    assert both is not None and both.joules == 12.0 and both.wraps_j is None
    assert open_telemetry("cpu", root).energy() == both


def test_why_there_is_no_energy(tmp_path: Path) -> None:
    assert open_telemetry("cpu", tmp_path).energy_note() == "this host has no RAPL"
    (tmp_path / "sys/class/powercap/intel-rapl:0").mkdir(parents=True)
    telemetry = open_telemetry("cpu", tmp_path)
    assert telemetry.energy_note() == "RAPL is not readable without more rights"
    timer = Timer(ScriptedSession(ScriptedTime(), [1_000_000]), input_sets(), None)
    attempt = measure_once(timer, Protocol(iterations=3), telemetry, lambda n, ns: None, asynchronous=False)
    assert attempt.energy == Energy(None, "RAPL is not readable without more rights")


def test_seconds_by_kind_on_this_machine() -> None:
    before = cpu_seconds()
    ends = time.monotonic() + 0.3
    while time.monotonic() < ends:
        pass
    assert cpu_seconds()["user"] - before["user"] >= 0.2


def test_a_sandbox_that_counts_nothing_is_unknown_and_not_quiet(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text("cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\nbtime 0\n")
    state = Host(tmp_path).read()
    assert state.busy_s is state.stolen_s is None and state.notes["busy_s"] == "not provided here" and state.cores == 1


def test_this_process_is_told_from_the_others() -> None:
    host = Host()
    before = host.read()
    ends = time.monotonic() + 0.3
    while time.monotonic() < ends:
        pass
    after = host.read()
    assert (
        before.own_s is not None and after.own_s is not None and after.busy_s is not None and before.busy_s is not None
    )
    own = after.own_s - before.own_s
    assert 0.02 < own < 0.5 and after.busy_s - before.busy_s >= own - 0.05


BUSY_IN_GROUP = """
import json, os, sys, time
from pathlib import Path
(Path(sys.argv[1]) / "cgroup.procs").write_text(str(os.getpid()))
from benchrun.runner.devices import usable_cores
from benchrun.runner.telemetry.interface import open_telemetry
from benchrun.runner.telemetry.judgement import judge
telemetry = open_telemetry("cpu")
before = telemetry.read()
ends = time.monotonic() + 0.6
os.fork(), os.fork()  # four together want more than half a core on a busy machine too
while time.monotonic() < ends:
    pass
if os.getppid() != int(sys.argv[2]):
    os._exit(0)
after = telemetry.read()
print(json.dumps([after.host.quota_cores, usable_cores(), after.host.throttled_s - before.host.throttled_s, judge(before, after).flags]))
"""


def test_a_real_group_of_half_a_core(half_core: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BUSY_IN_GROUP, str(half_core), str(os.getpid())],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    quota, cores, stopped, flags = json.loads(done.stdout)
    assert (quota, cores) == (0.5, 1) and stopped > 0.1
    assert flags == ["noisy_host"]


def test_the_quota_that_threads_go_by_is_the_groups(
    half_core: Path, monkeypatch: pytest.MonkeyPatch, plant: Plant
) -> None:
    mount = half_core.parent
    root = plant({"proc/self/cgroup": f"0::/{half_core.name}\n1:cpu:/{half_core.name}\n"})
    assert cgroup.quota_cores(root, mounted=mount.parent if mount.name == "cpu" else mount) == 0.5
    assert cgroup_quota() in (None, cgroup.quota_cores())
