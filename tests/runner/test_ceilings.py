from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from benchrun.backends.ceilings import open_copy, open_launch, open_product, supported_dtypes, torch_device
from benchrun.results.rows import CeilingRow
from benchrun.runner import ceilings
from benchrun.runner.ceilings import Effort, describe, measure_ceilings, stale, time_kernel, to_json
from benchrun.runner.cli.ceilings_command import show_ceilings
from benchrun.runner.errors import UsageError
from benchrun.runner.telemetry.cpu import Host
from benchrun.runner.telemetry.interface import Telemetry
from tests.runner.scripted import MS, ScriptedClock, ScriptedSession, ScriptedTime

if TYPE_CHECKING:
    from tests.conftest import Bench

SHORT = {"cpu": Effort(0.02, 0.1), "gpu": Effort(0.02, 0.1)}
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_the_kernels_do_what_they_say() -> None:
    with open_product("cpu", "fp32", 1) as kernel:
        assert (kernel.quantity, kernel.dtype, kernel.work, kernel.stream) == ("matmul", "fp32", 2.0 * 1024**3, None)
        first = kernel.enqueue()
        assert isinstance(first, torch.Tensor) and first.shape == (1024, 1024) and 20 < float(first.float().std()) < 50
        kernel.synchronize()
    with open_copy("cpu") as kernel:
        copied = kernel.enqueue()
        assert (
            isinstance(copied, torch.Tensor)
            and kernel.work == 2.0 * copied.nbytes
            and copied[:100_000].unique().numel() == 256
        )
    with open_launch("cpu") as kernel:
        assert (kernel.enqueue(), kernel.enqueue())[1] == torch.tensor([2.0]) and kernel.work == 1
    assert "tf32" in supported_dtypes("cuda:0") and "tf32" not in supported_dtypes("cpu")
    assert torch_device("rocm:1") == torch.device("cuda", 1) and torch_device("cpu").type == "cpu"


def test_the_rates_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a loop written here: the ratio is wide, since others share this machine."""
    import time

    monkeypatch.setattr(ceilings, "EFFORTS", {"cpu": Effort(0.1, 0.4)})
    said: list[str] = []
    rows = measure_ceilings("cpu", 1, "f", {"torch": "2"}, said.append)
    assert [(row.quantity, row.dtype) for row in rows] == [
        ("matmul", "fp32"),
        ("matmul", "bf16"),
        ("copy", None),
        ("launch", None),
    ]
    assert said == ["matrix product, fp32", "matrix product, bf16", "copy", "launch"]
    assert all(row.threads == 1 and row.n >= 5 and row.fingerprint == "f" for row in rows)
    torch.set_num_threads(1)
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    taken = []
    for _ in range(8):
        started = time.perf_counter()
        torch.mm(a, b)
        taken.append(time.perf_counter() - started)
    assert 0.3 < rows[0].value / (2 * 1024**3 / sorted(taken)[3]) < 3
    assert 1e8 < rows[2].value < 1e12 and 1e-7 < rows[3].value < 1e-3


def test_device_events_time_products_and_the_host_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchrun.backends.ceilings import Kernel

    clock = ScriptedTime()
    monkeypatch.setattr(ceilings, "now_ns", clock)
    monkeypatch.setattr(ceilings.time, "perf_counter", lambda: clock() / 1e9)
    session = ScriptedSession(clock, [2 * MS], stream=5)
    events = ScriptedClock(session, elapsed=30 * MS)
    kernel = Kernel("matmul", "fp16", 1e9, 8, session.enqueue, session.synchronize, 5)
    found = time_kernel(kernel, events, SHORT["gpu"])
    assert found.spread == 0 and found.n >= 5 and session.log.count("start 5") == session.log.count("stop 5") >= 6
    calls = session.log.count("enqueue") / session.log.count("start 5")
    assert found.seconds == pytest.approx(0.03 / calls)
    session.log.clear()
    launched = time_kernel(Kernel("launch", None, 1, 1, session.enqueue, session.synchronize, 5), events, SHORT["gpu"])
    assert launched.seconds == pytest.approx(0.002) and "start 5" not in session.log


def test_a_kernel_that_cannot_run_is_said_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import benchrun.backends.ceilings as kernels

    def refuse(*_: object) -> None:
        raise NotImplementedError("no bf16 here")

    monkeypatch.setattr(ceilings, "EFFORTS", SHORT)
    monkeypatch.setattr(kernels, "open_product", refuse)
    said: list[str] = []
    rows = measure_ceilings("cpu", 1, "f", {}, said.append)
    assert [row.quantity for row in rows] == ["copy", "launch"]
    assert "matrix product, bf16: not measured (NotImplementedError)" in said


def test_pytorch_that_is_missing_or_cannot_see_the_device_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import benchrun.backends.ceilings as kernels

    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch", None)
        patch.delitem(sys.modules, "benchrun.backends.ceilings")
        with pytest.raises(UsageError, match="torch is not installed here: install torch"):
            measure_ceilings("cpu", 1, "f", {}, print)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    for device, named in (("cuda:0", "CUDA"), ("rocm:0", "ROCm")):
        with pytest.raises(UsageError, match=f"is built without {named}: .* --device cpu"):
            measure_ceilings(device, None, "f", {}, print)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert kernels.unseen("cuda:1") == kernels.unseen("cpu") == ""
    assert "sees 2 devices and not cuda:2" in kernels.unseen("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "sees 0 devices and not cuda:0" in kernels.unseen("cuda:0")


def test_telemetry_is_opened_before_our_own_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container our process has another number for the driver: what is on the device before us counts as others'."""
    import benchrun.backends.ceilings as kernels

    on_device: set[int] = set()
    found: list[set[int]] = []

    def clock(device: str) -> None:
        on_device.add(4711)  # our context, under the host's number

    def telemetry(device: str) -> Telemetry:
        found.append(set(on_device))
        return Telemetry(Host())

    monkeypatch.setattr(ceilings, "open_device_clock", clock)
    monkeypatch.setattr(ceilings, "open_telemetry", telemetry)
    monkeypatch.setattr(kernels, "supported_dtypes", lambda device: ())
    monkeypatch.setattr(kernels, "open_copy", lambda *_: fail())
    monkeypatch.setattr(kernels, "open_launch", lambda *_: fail())
    assert measure_ceilings("cpu", 1, "f", {}, lambda text: None) == [] and found == [set()]


def fail() -> None:
    raise RuntimeError("no kernel image")


def test_a_machine_of_which_nothing_can_be_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ceilings, "measure_ceilings", lambda *_: [])
    assert show_ceilings("cpu", 1, str(tmp_path / "a.db"), again=False, as_json=False) == 1
    said = capsys.readouterr()
    assert said.out == "" and "none of the ceilings of cpu could be measured" in said.err


def row(quantity: str, value: float, **conditions: object) -> CeilingRow:
    dtype = "fp16" if quantity == "matmul" else None
    return CeilingRow("f", "cuda:0", quantity, dtype, None, value, 7, NOW, 0.01, conditions)


def test_ceilings_are_measured_again_when_the_environment_changes() -> None:
    software = {"torch": "2.6", "driver": "580"}
    kept = [row("matmul", 7e14, software=software, flags=["power_capped"])]
    assert stale(kept, software) == ""
    assert stale([], software) == "none are stored for this machine"
    assert stale(kept, {"torch": "2.7", "driver": "580"}) == "torch was 2.6 and is 2.7"
    assert stale(kept, {"torch": "2.6"}) == "driver was 580 and is absent"
    assert (
        stale([row("copy", 1, software=software, flags=["noisy_host"])], software)
        == "they were measured under noisy_host"
    )


def test_figures_for_people_and_programs() -> None:
    rows = [
        row("matmul", 7.02e14),
        row("matmul", 9.1e10),
        row("copy", 4.29e12),
        row("copy", 1.2e10),
        row("launch", 4e-6),
    ]
    assert [describe(each)[1] for each in rows] == ["702 TFLOP/s", "91 GFLOP/s", "4.29 TB/s", "12.0 GB/s", "4.00 µs"]
    found = list(to_json(rows))
    assert found[0]["flop_s"] == 7.02e14 and found[2]["bytes_s"] == 4.29e12 and found[4]["launch_s"] == 4e-6
    assert found[0]["measured"] == "2026-03-01T00:00:00Z"


def test_the_commands(bench: Bench) -> None:
    """Ceilings are measured once, kept, and a sweep's points are placed under them; the environment of the run is this one's."""
    first = bench("ceilings", "--device", "cpu", "--threads", "1", "--json")
    assert first.status == 0, first.err
    document = json.loads(first.out)
    assert document["measured_now"] and {each["quantity"] for each in document["ceilings"]} == {
        "matmul",
        "copy",
        "launch",
    }
    with closing(sqlite3.connect(bench.db)) as connection, connection:
        connection.execute("UPDATE ceilings SET conditions = replace(conditions, 'noisy_host', 'unsteady')")
    again = bench("ceilings", "--device", "cpu", "--threads", "1")
    assert again.status == 0 and "measuring" not in again.err and "GFLOP/s" in again.out
    ran = bench(
        "--model", "tiny", "--device", "cpu", "--threads", "1", "--iterations", "30", "--repeats", "0", "--json"
    )
    assert ran.status == 0, ran.err
    (point,) = ran.document["points"]
    assert point["ceiling"] in ("compute", "bandwidth", "launch") and 0 < point["ceiling_share"] < 3
    assert point["flops"] > 0 and point["tflop_s"] > 0
    telemetry = point["telemetry"]
    assert telemetry["before"]["host"]["cores"] == telemetry["after"]["host"]["cores"] and "energy" in telemetry
    assert telemetry["after"]["host"]["at_s"] > telemetry["before"]["host"]["at_s"]
    shown = bench("show", "last")
    assert "ceiling" in shown.out and "TFLOP/s" in shown.out
    here = json.loads(bench("env", "--device", "cpu", "--json").out)
    assert here["fingerprint"] == ran.document["run"]["environment"]["fingerprint"] and "settings" in here
    assert "hardware.cpu" in bench("env", "--device", "cpu").out
    same = bench("env", "diff", "last", "here", "--device", "cpu")
    assert same.status == 0 and "same environment" in same.out
    with closing(sqlite3.connect(bench.db)) as connection, connection:
        connection.execute(
            "UPDATE environments SET details = json_set(details, '$.libraries.torch', '1.0'), fingerprint = 'other'"
        )
    other = bench("env", "diff", "last", "here", "--device", "cpu")
    assert other.status == 1 and "libraries.torch" in other.out and "never one series" in other.out
    plain = json.loads(bench("env", "diff", "here", "last", "--device", "cpu", "--json").out)
    assert {each["name"] for each in plain["differences"]} == {"libraries.torch", "fingerprint"} and not plain[
        "same_hardware"
    ]
