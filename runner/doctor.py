"""What will make a measurement noisy on this machine, and how to mend it. Pure: readings in, findings out. Nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchrun.runner.telemetry.judgement import LIMITS, noisy, shared, throttled
from benchrun.runner.telemetry.state import DeviceState, HostState, MachineState

OK, WARN, UNKNOWN = "ok", "warn", "unknown"
WARM_C = 75.0  # a device that is idle and this warm has just been busy, or is cooled badly


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: `state` is `ok`, `warn` or `unknown`; `mend` says what a person can do about it."""

    check: str
    state: str
    found: str
    mend: str = ""


def diagnose(before: MachineState, after: MachineState) -> list[Finding]:
    """All checks of a machine from two readings some time apart, in which we did nothing."""
    found = list(_host(before.host, after.host))
    if before.device and after.device:
        found += _device(before, after, after.device)
    return found


def _host(before: HostState, host: HostState) -> Iterator[Finding]:
    noise = noisy(before, host, LIMITS)
    if host.busy_s is None or not host.cores:
        yield Finding("other processes", UNKNOWN, why(host, "busy_s"), "look at them with top before a run")
    else:
        yield judged("other processes", noise, "the host is quiet", "stop them, or wait")
    if host.governor is None:
        yield Finding(
            "frequency governor", UNKNOWN, why(host, "governor"), "on your own machine: cpupower frequency-info"
        )
    elif host.governor == "performance":
        yield Finding("frequency governor", OK, host.governor)
    else:
        yield Finding("frequency governor", WARN, host.governor, "sudo cpupower frequency-set -g performance")
    if host.turbo is None:
        yield Finding("turbo", UNKNOWN, why(host, "turbo"))
    else:
        mend = "for steadier clocks: echo 1 > …/intel_pstate/no_turbo, or echo 0 > …/cpufreq/boost (as root)"
        on = Finding("turbo", WARN, "on: clocks depend on heat and neighbours", mend)
        yield on if host.turbo else Finding("turbo", OK, "off")
    yield from _quota(host)
    if (host.numa_nodes or 1) > 1:
        mend = "bind to one node: numactl --cpunodebind=0 --membind=0 benchrun …"
        yield Finding("NUMA", WARN, f"{host.numa_nodes} nodes: memory may be far from its core", mend)
    if host.smt:
        yield Finding("SMT", OK, "on: two threads share a core; --threads counts threads")


def _quota(host: HostState) -> Iterator[Finding]:
    quota = host.quota_cores
    if "quota_cores" in host.notes:
        yield Finding("container quota", UNKNOWN, f"cannot be known: {host.notes['quota_cores']}")
        return
    if quota is None:
        yield Finding("container quota", OK, "no CPU limit")
        return
    cores = host.usable_cores or host.cores or 1
    whole = abs(quota - round(quota)) < 1e-6
    if quota < cores or not whole:
        mend = "pin instead of limiting: docker run --cpuset-cpus=…, or a whole number of cores and --threads as many"
        yield Finding(
            "container quota", WARN, f"{quota:g} of {cores} cores: threads are stopped when it is used up", mend
        )
    else:
        yield Finding("container quota", OK, f"{quota:g} cores")


def _device(before: MachineState, after: MachineState, device: DeviceState) -> Iterator[Finding]:
    if "all" in device.notes:
        yield Finding(device.vendor, UNKNOWN, device.notes["all"])
        return
    others = shared(before.device, device)
    if device.foreign is None:
        yield Finding("processes on the device", UNKNOWN, why(device, "processes"))
    else:
        yield judged("processes on the device", others, "none", "stop them, or take another device")
    hot = throttled(before, after, LIMITS)
    yield judged("throttling", hot, "none", "cool it, or lower the load")
    if device.temperature_c is not None and device.temperature_c > WARM_C:
        yield Finding("temperature", WARN, f"{device.temperature_c:.0f} °C", "let it cool down")
    if device.persistence is False:
        yield Finding("persistence mode", WARN, "off: the driver unloads between runs", "sudo nvidia-smi -pm 1")
    elif device.persistence:
        yield Finding("persistence mode", OK, "on")
    if device.partition == "MIG":
        yield Finding("partition", WARN, "MIG: the device is shared with other instances", "sudo nvidia-smi -mig 0")
    yield from _clocks(device)
    cap, default = device.power_cap_w, device.default_power_cap_w
    if cap and default and cap < default:
        yield Finding(
            "power cap",
            WARN,
            f"{cap:.0f} W of {default:.0f} W",
            "results hold for this cap only: it is in the fingerprint",
        )


def _clocks(device: DeviceState) -> Iterator[Finding]:
    target, default = device.target_clock_mhz, device.default_clock_mhz
    fixed = bool(device.locked) or bool(target and default and target != default)
    if fixed:
        yield Finding("clocks", OK, f"set to {target or device.clock_mhz:.0f} MHz")
        return
    if device.clock_mhz is None:
        yield Finding("clocks", UNKNOWN, why(device, "clock_mhz"))
        return
    top = device.max_clock_mhz or device.clock_mhz
    mend = "sudo amd-smi set -l STABLE_PEAK, afterwards -l AUTO"
    if device.vendor == "nvidia":
        mend = f"sudo nvidia-smi -lgc {0.75 * top:.0f} (below the power cap), afterwards -rgc"
    # NVML does not tell a locked clock: one that rests at its maximum may be locked
    if device.clock_mhz < top:
        yield Finding("clocks", WARN, f"free to move: {device.clock_mhz:.0f} of {top:.0f} MHz now", mend)
    else:
        yield Finding("clocks", UNKNOWN, f"at {top:.0f} MHz; the driver does not say whether they are locked", mend)


def judged(check: str, problem: str, fine: str, mend: str) -> Finding:
    """A warning where there is a problem."""
    return Finding(check, WARN, problem, mend) if problem else Finding(check, OK, fine)


def why(state: HostState | DeviceState, name: str) -> str:
    """Why a value is missing."""
    return f"cannot be known: {state.notes.get(name, 'not provided here')}"
