from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchrun.results.importers import ForeignResult, ImportFailed, Source
from benchrun.results.importers.trtexec import default_condition
from benchrun.results.importers.trtexec_log import parse_log, read_version

Read = Callable[..., ForeignResult]
Load = Callable[[str], Source]


def records(data: Path, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((data / "trtexec" / name).read_text())
    return found


def test_times_with_their_log(read: Read, data: Path) -> None:
    result = read("trtexec/times_v11.json", "trtexec/sidecar_v11.toml")
    (found,) = result.measurements
    assert result.format == "trtexec" and result.tool_version == "11.1.0" and result.trust == "samples"
    assert dict(result.hardware) == {"device": "NVIDIA H200"} and dict(result.software) == {"tensorrt": "11.1.0"}
    point = found.point
    assert (point.model, point.head, point.dtype, point.batch, point.seq) == ("bert-large", "qa", "fp16", 8, 128)
    assert point.protocol == "trtexec-11:graph=on,xfer=off,spin=on,clock=device-compute,pct=linear"
    assert found.device_ns == tuple(round(each["computeMs"] * 1e6) for each in records(data, "times_v11.json"))
    assert found.host_ns is None and found.host is None and found.device is None
    assert found.facts["precision_allowed"] == "Strongly Typed"  # not a dtype that ran
    assert result.warnings == ()


def test_queries_are_batches(read: Read) -> None:
    explicit = read("trtexec/times_v11.json", "trtexec/sidecar_v11.toml").measurements[0]
    assert explicit.throughput_seq_s == pytest.approx(510.66 * 8)
    assert explicit.throughput_isolated is False and explicit.throughput_window_s == 3.00512
    implicit = read("trtexec/times_v8.json", "trtexec/sidecar_v8.toml").measurements[0]
    assert implicit.throughput_seq_s == 4018.5  # --batch=8 is counted by the tool already
    assert implicit.point.batch == 8


def test_times_alone_know_nothing_else(read: Read) -> None:
    result = read("trtexec/times_v11.json")
    (found,) = result.measurements
    point = found.point
    assert (point.model, point.head, point.dtype, point.batch, point.seq) == (None,) * 5
    assert point.protocol == "trtexec:graph=?,xfer=?,spin=?,clock=device-compute,pct=linear"
    assert found.throughput_seq_s is None and result.tool_version is None and not result.hardware
    assert [warning.partition(":")[0] for warning in result.warnings] == ["not known", "no throughput"]


def test_names_of_tensorrt_7(read: Read, data: Path) -> None:
    found = read("trtexec/times_v7.json").measurements[0]
    old = records(data, "times_v7.json")
    assert found.facts["schema"] == "TensorRT 7"
    assert found.device_ns == tuple(round(each["computeMs"] * 1e6) for each in old)
    assert found.facts["h2d_mean_ms"] == pytest.approx(sum(each["inMs"] for each in old) / len(old), rel=1e-5)


def test_log_alone_gives_the_tools_own_percentiles(read: Read) -> None:
    result = read("trtexec/log_v11.txt")
    (found,) = result.measurements
    assert found.trust == "summary" and found.device_ns is None and found.device is not None
    assert (found.device.mean_ms, found.device.p95_ms, found.device.p99_ms) == (1.95112, 2.05, 2.2)
    assert (found.device.n, found.device.std_ms, found.device.mad_ms) == (None, None, None)
    assert "pct=exclusion" in found.point.protocol
    assert (found.point.batch, found.point.seq) == (8, 128)
    assert set(found.flags) == {"unstable-clock", "enqueued-ahead"}


@pytest.mark.parametrize(
    ("side", "protocol"),
    [
        ('command = "trtexec --useCudaGraph"\n[software]\ntensorrt = "10.3"', "trtexec-10:graph=on,xfer=on,spin=off"),
        ('command = "trtexec --useCudaGraph"\n[software]\ntensorrt = "11.0"', "trtexec-11:graph=on,xfer=off,spin=on"),
        ('command = "trtexec --noCudaGraph"\n[software]\ntensorrt = "11.0"', "trtexec-11:graph=off,xfer=off,spin=on"),
        (
            'command = "trtexec --noDataTransfers"\n[software]\ntensorrt = "8.6"',
            "trtexec-8:graph=off,xfer=off,spin=off",
        ),
        ('[software]\ntensorrt = "11.0"', "trtexec-11:graph=?,xfer=?,spin=?"),  # the flags are not known
        ('[protocol]\ngraph = true\ntransfers = "off"', "trtexec:graph=on,xfer=off,spin=?"),
    ],
)
def test_defaults_changed_with_version_11(read: Read, side: str, protocol: str) -> None:
    found = read("trtexec/times_v11.json", side=side).measurements[0]
    assert found.point.protocol.startswith(f"{protocol},")


def test_the_same_command_is_another_quantity_in_11() -> None:
    assert not default_condition("graph", [], 10) and default_condition("graph", [], 11)
    assert default_condition("transfers", [], 10) and not default_condition("transfers", [], 11)
    assert default_condition("transfers", ["--includeDataTransfers"], 11)
    assert default_condition("spin", ["--useSpinWait"], 8) and not default_condition("spin", ["--noSpinWait"], 11)


@pytest.mark.parametrize(
    ("digits", "version"), [("8401", "8.4.1"), ("8601", "8.6.1"), ("100300", "10.3.0"), ("110100", "11.1.0")]
)
def test_versions(digits: str, version: str) -> None:
    assert read_version(digits) == version


def test_several_streams_have_a_rate_but_no_latency(read: Read, load: Load) -> None:
    text = load("trtexec/log_v11.txt").data.decode().replace("Inference Streams: 1", "Inference Streams: 2")
    found = read("log.txt", text=text).measurements[0]
    assert found.device is None and found.trust == "mean" and found.throughput_seq_s == pytest.approx(4085.28)
    assert "several-streams" in found.flags


def test_shapes_that_are_not_batch_and_length(read: Read, load: Load) -> None:
    text = load("trtexec/log_v11.txt").data.decode().replace("=8x128", "=1x3x224x224")
    result = read("log.txt", text=text)
    assert (result.measurements[0].point.batch, result.measurements[0].point.seq) == (None, None)
    assert any("not [batch, seq]" in warning for warning in result.warnings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("computeMs", "computeUs"), r"t.json, line 2, \[0\]: 'computeMs' is missing"),
        (('"computeMs" : 1', '"computeMs" : -1'), r"t.json, line 2, \[0\].computeMs: -1\.\d+ is negative"),
        (('"latencyMs" : 1', '"latencyMs" : 7'), r"latencyMs: 7\.\d+ ms is not h2dMs \+ computeMs \+ d2hMs"),
        (('"computeMs" : 1', '"computeMs" : "1'), "is not JSON|not h2d|unterminated"),
    ],
)
def test_damaged_times(read: Read, load: Load, change: tuple[str, str], message: str) -> None:
    text = load("trtexec/times_v11.json").data.decode().replace(*change, 1)
    with pytest.raises(ImportFailed, match=message):
        read("t.json", text=text, as_="trtexec")


def test_a_log_of_another_run_is_refused(load: Load, tmp_path: Path, data: Path) -> None:
    from benchrun.results.importers import parse, read_sidecar

    log = (data / "trtexec/log_v11.txt").read_text().replace("has 120 queries", "has 121 queries")
    (tmp_path / "log_v11.txt").write_text(log)
    (tmp_path / "side.toml").write_text('log = "log_v11.txt"')
    with pytest.raises(
        ImportFailed, match=r"speaks of 121 queries, times_v11.json has 120: it is the log of another run"
    ):
        parse(load("trtexec/times_v11.json"), read_sidecar(tmp_path / "side.toml"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Throughput: 510.66 images", "Throughput: the unit is 'images', not qps"),
        ("Throughput: nan qps", "is not a finite number"),
        ("Latency: min = 1 s, max = 2 ms", "the unit is 's', not ms"),
        ("Latency: min = 1 ms, most = 2 ms", "is not a figure of trtexec's summary"),
        ("Inference Streams: many", "'many' is not a whole number"),
        ("Host Latency", "this is TensorRT 7's summary"),
    ],
)
def test_damaged_logs_name_the_line(line: str, message: str) -> None:
    text = f"[I] === Performance summary ===\n[11/02/2026-10:15:33] [I] {line}\n"
    with pytest.raises(ImportFailed, match=f"^l.txt, line 2.*{message}"):
        parse_log(Source("l.txt", text.encode()))


def test_a_version_of_thousands_of_digits_is_none() -> None:
    """Found by fuzzing: Python refuses to read such a number."""
    log = parse_log(Source("l.txt", b"[I] TensorRT version: " + b"9" * 5000))
    assert log.version is None and log.major is None


def test_a_failed_run_has_no_summary(read: Read) -> None:
    head = "&&&& RUNNING TensorRT.trtexec [TensorRT v110100] # trtexec --onnx=m.onnx\n"
    with pytest.raises(ImportFailed, match="has no performance summary: the run failed"):
        read("l.txt", text=head + head.replace("RUNNING", "FAILED"))
    with pytest.raises(ImportFailed, match="not the log of a finished run"):
        read("l.txt", text=head)


@pytest.mark.parametrize(
    ("side", "message"),
    [
        ("batch = 16", "says 16, but log_v11.txt says 8"),
        ("[protocol]\ngraph = false", "protocol.graph: contradicts the log, which says on"),
        ('[protocol]\ngraph = "maybe"', "'maybe' is neither true nor false"),
        ('[software]\ntensorrt = "8.6"', "says 8.6, but the log says 11.1.0"),
        ("[software]\ntensorrt = 8.6", "8.6 is not a version"),
    ],
)
def test_sidecars_that_contradict(read: Read, side: str, message: str) -> None:
    with pytest.raises(ImportFailed, match=f"^side.toml.*{message}"):
        read("trtexec/log_v11.txt", side=side)


def test_empty_export(read: Read) -> None:
    with pytest.raises(ImportFailed, match="has no records"):
        read("t.json", text="[\n]\n", as_="trtexec")
    with pytest.raises(ImportFailed, match=r"t.json, line 1, \[0\]: 3 is not an object"):
        read("t.json", text="[3]", as_="trtexec")
