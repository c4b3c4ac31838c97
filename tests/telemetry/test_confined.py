"""The commands where a host shows little: in a real control group of half a core, and where /sys is not there at all."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import COMMAND, SECONDS, Bench

ENTER = 'echo $$ > "$1/cgroup.procs" && shift && '
WITHOUT_SYS = "mount -t tmpfs none /sys && "
QUICK = ("--model", "tiny", "--seq", "16", "--iterations", "30", "--warmup", "0", "--repeats", "0")


def confine(bench: Bench, group: Path, *arguments: str, sys: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the command in a control group; without `sys` in a mount namespace of its own, where /sys is empty."""
    script = ENTER + ("" if sys else WITHOUT_SYS) + 'exec "$@"'
    enter = () if sys else ("unshare", "-m")
    return subprocess.run(
        [*enter, "sh", "-c", script, "sh", str(group), str(COMMAND), *arguments],
        capture_output=True,
        text=True,
        cwd=bench.folder,
        env=bench.environment,
        timeout=SECONDS,
        check=False,
    )


def findings(told: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    return {each["check"]: each for each in json.loads(told.stdout)["findings"]}


@pytest.fixture
def namespace() -> None:
    """Skips where a mount namespace may not be made."""
    tried = subprocess.run(["unshare", "-m", "sh", "-c", WITHOUT_SYS + "true"], capture_output=True, check=False)
    if tried.returncode != 0:
        pytest.skip("no mount namespace may be created here")


def test_half_a_core_is_told_before_a_run(half_core: Path, bench: Bench) -> None:
    quota = findings(confine(bench, half_core, "doctor", "--device", "cpu", "--json"))["container quota"]
    assert quota["state"] == "warn" and quota["found"].startswith("0.5 of ") and "cpuset" in quota["mend"]
    told = confine(bench, half_core, "env", "--json")
    assert told.returncode == 0 and '"cgroup_quota": 0.5' in told.stdout


@pytest.mark.usefixtures("namespace")
def test_without_sys_a_limit_is_unknown_and_the_sweep_runs(half_core: Path, bench: Bench) -> None:
    """The limit is there, and nothing shows it: not to be known is not the same as none."""
    found = findings(confine(bench, half_core, "doctor", "--device", "cpu", "--json", sys=False))
    for check in ("container quota", "frequency governor", "turbo"):
        assert (found[check]["state"], found[check]["found"]) == ("unknown", "cannot be known: not provided here")
    told = confine(bench, half_core, "env", "--json", sys=False)
    assert told.returncode == 0 and '"cgroup_quota": null' in told.stdout
    swept = confine(bench, half_core, *QUICK, "--device", "cpu", "--json", sys=False)
    assert swept.returncode == 0 and "Traceback" not in swept.stderr, swept.stderr
    (point,) = json.loads(swept.stdout)["points"]
    assert point["status"] == "ok" and point["n"] == 30
