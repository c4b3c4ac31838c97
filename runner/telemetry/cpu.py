"""The host, from the files of the Linux kernel below a root path; elsewhere and where files are missing, nulls with a reason."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Mapping
from pathlib import Path

from benchrun.runner.telemetry import cgroup
from benchrun.runner.telemetry.state import EnergyCount, HostState, Reader

BUSY = ("user", "nice", "system", "irq", "softirq")
STAT_FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
RAPL_STEP_S = 0.001  # Intel's documentation: brought up to date about once a millisecond


class Host:
    """Reads the host below `root`; nothing is kept between two readings."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def read(self) -> HostState:
        """The state now. A fraction of a millisecond on a small host; about 30 µs a processor more for its clock."""
        root, reader = self._root, Reader()
        stat = reader.read("busy_s", lambda: cpu_seconds(root)) or {}
        clocks = reader.read("clock_mhz", lambda: _clocks(root, "scaling_cur_freq"))
        limits = reader.read("max_clock_mhz", lambda: _clocks(root, "cpuinfo_max_freq"))
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return HostState(
            at_s=time.monotonic(),
            cores=reader.read("cores", lambda: online(root)),
            usable_cores=reader.read("usable_cores", lambda: len(os.sched_getaffinity(0))),
            quota_cores=reader.read("quota_cores", lambda: cgroup.visible_quota(root)),
            load_1m=reader.read("load_1m", lambda: float(_text(root / "proc/loadavg").split()[0])),
            governor=reader.read("governor", lambda: _governors(root)),
            turbo=reader.read("turbo", lambda: turbo_on(root)),
            clock_mhz=sum(clocks) / len(clocks) if clocks else None,
            max_clock_mhz=max(limits) if limits else None,
            smt=reader.read("smt", lambda: _text(root / "sys/devices/system/cpu/smt/active") == "1"),
            numa_nodes=reader.read("numa_nodes", lambda: len(_listed(_text(root / "sys/devices/system/node/online")))),
            memory_available_bytes=reader.read("memory_available_bytes", lambda: _available(root)),
            busy_s=sum(stat[name] for name in BUSY) if stat else None,
            stolen_s=stat.get("steal"),
            throttled_s=cgroup.throttled_s(root),
            own_s=usage.ru_utime + usage.ru_stime,
            waited_s=reader.read("waited_s", lambda: _waited(root)),
            preempted=usage.ru_nivcsw,
            overheated_n=reader.read(
                "overheated_n",
                lambda: int(_text(root / "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count")),
            ),
            notes=reader.notes,
        )

    def energy(self) -> EnergyCount | None:
        """Energy of all processor packages together (RAPL), other processes' share included; None where it is not readable,
        which without root it mostly is not."""
        return rapl(self._root)

    def energy_note(self) -> str:
        """Why there is no energy count, in a few words."""
        zones = sorted((self._root / "sys/class/powercap").glob("intel-rapl:?"))
        return "RAPL is not readable without more rights" if zones else "this host has no RAPL"


def cpu_seconds(root: Path = Path("/")) -> Mapping[str, float]:
    """Seconds since start by kind, all processors together, from /proc/stat (in steps of 10 ms a processor)."""
    first = _text(root / "proc/stat").splitlines()[0].split()
    if first[0] != "cpu":
        raise ValueError("not /proc/stat")
    if not any(int(value) for value in first[1:]):  # a sandbox that counts nothing, not a machine that did nothing
        raise FileNotFoundError
    tick = os.sysconf("SC_CLK_TCK")
    return {name: int(value) / tick for name, value in zip(STAT_FIELDS, first[1:], strict=False)}


def online(root: Path = Path("/")) -> int:
    """Processors that are online; from /proc/stat in a container without /sys."""
    try:
        return len(_listed(_text(root / "sys/devices/system/cpu/online")))
    except OSError:
        lines = _text(root / "proc/stat").splitlines()
        return sum(line.startswith("cpu") and line[3:4].isdigit() for line in lines)


def turbo_on(root: Path = Path("/")) -> bool:
    """Whether the clock may rise above its nominal value; Intel's switch, or the one of other drivers."""
    folder = root / "sys/devices/system/cpu"
    try:
        return _text(folder / "intel_pstate/no_turbo") == "0"
    except OSError:
        return _text(folder / "cpufreq/boost") == "1"


def rapl(root: Path = Path("/")) -> EnergyCount | None:
    """The packages' energy counters added up. With more than one package the sum has no common wrap, and a wrap of one shows as a
    step back."""
    joules, wraps, packages = 0.0, 0.0, 0
    for zone in sorted((root / "sys/class/powercap").glob("intel-rapl:*")):
        try:
            if zone.name.count(":") != 1 or not _text(zone / "name").startswith("package"):
                continue
            joules += int(_text(zone / "energy_uj")) / 1e6
            wraps = int(_text(zone / "max_energy_range_uj")) / 1e6
            packages += 1
        except (OSError, ValueError):
            return None
    return EnergyCount(joules, RAPL_STEP_S, wraps if packages == 1 else None) if packages else None


def _text(path: Path) -> str:
    return path.read_text().strip()


def _listed(text: str) -> list[int]:
    """Numbers of a kernel list such as `0-3,8`."""
    found: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def _clocks(root: Path, name: str) -> list[float]:
    paths = sorted((root / "sys/devices/system/cpu/cpufreq").glob(f"policy*/{name}"))
    if not paths:
        raise FileNotFoundError
    return [int(_text(path)) / 1000 for path in paths]


def _governors(root: Path) -> str:
    paths = sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*/scaling_governor"))
    if not paths:
        raise FileNotFoundError
    return "+".join(sorted({_text(path) for path in paths}))


def _available(root: Path) -> int:
    for line in (root / "proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise FileNotFoundError


def _waited(root: Path) -> float:
    """Time that the threads of this process were ready and not running, from the scheduler's own account."""
    tasks = list((root / "proc/self/task").glob("*/schedstat"))
    if not tasks:
        raise FileNotFoundError
    total = 0
    for task in tasks:
        try:
            total += int(task.read_text().split()[1])
        except (OSError, IndexError):
            continue  # a thread that ended meanwhile
    return total / 1e9
