"""pytest-benchmark, optimum-benchmark, Google Benchmark, nvbench."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from benchrun.results.importers import ForeignResult, ImportFailed, Source

Read = Callable[..., ForeignResult]
Load = Callable[[str], Source]


def changed(source: Source, change: Callable[[Any], None]) -> str:
    document = json.loads(source.data)
    change(document)
    return json.dumps(document, indent=1)


class TestPytestBenchmark:
    def test_samples_of_single_iterations(self, read: Read, load: Load) -> None:
        result = read("pytest_benchmark/measured.json")
        document = json.loads(load("pytest_benchmark/measured.json").data)
        one, four, short = result.measurements
        assert one.host_ns == tuple(round(s * 1e9) for s in document["benchmarks"][0]["stats"]["data"])
        assert (one.trust, one.device_ns, one.host) == ("samples", None, None)
        point = one.point
        assert (point.backend, point.variant, point.model, point.batch, point.seq) == ("torch", "eager", "tiny", 1, 16)
        assert (point.dtype, point.device, point.head, point.workload) == ("fp32", "cpu", None, None)
        assert four.point.batch == 4
        assert four.throughput_seq_s == pytest.approx(4 / document["benchmarks"][1]["stats"]["mean"])
        assert short.point.batch is None and short.throughput_seq_s is None
        assert result.started == datetime.fromisoformat(document["datetime"]).astimezone(UTC)
        assert result.tool_version == "5.3.1"
        assert result.hardware["node"] == "host" and "hz_actual" not in result.hardware

    def test_rounds_of_several_iterations_are_means(self, read: Read, load: Load) -> None:
        short = read("pytest_benchmark/measured.json").measurements[2]
        stats = json.loads(load("pytest_benchmark/measured.json").data)["benchmarks"][2]["stats"]
        assert stats["iterations"] > 1
        assert short.trust == "mean" and short.host_ns is None and short.host is not None
        assert short.host.mean_ms == pytest.approx(stats["mean"] * 1e3)
        assert (short.host.n, short.host.p50_ms, short.host.min_ms, short.host.std_ms) == (None,) * 4
        assert short.flags == ("averaged-rounds",)

    def test_saved_without_data(self, read: Read, load: Load) -> None:
        one = read("pytest_benchmark/saved.json").measurements[0]
        stats = json.loads(load("pytest_benchmark/saved.json").data)["benchmarks"][0]["stats"]
        assert one.trust == "summary" and one.host is not None and one.host_ns is None
        assert one.host.n == stats["rounds"]
        assert one.host.p50_ms == pytest.approx(stats["median"] * 1e3)
        assert (one.host.p95_ms, one.host.p99_ms, one.host.mad_ms) == (None, None, None)  # it has none

    def test_parameters_speak_where_extra_info_does_not(self, read: Read, load: Load) -> None:
        def change(document: Any) -> None:
            document["benchmarks"][0]["extra_info"] = {"model": "bert-base"}
            document["benchmarks"][0]["params"] = {"batch_size": 2, "sequence_length": 64, "model": "other"}
            document["datetime"] = "2026-11-22T01:02:03"

        result = read("m.json", text=changed(load("pytest_benchmark/measured.json"), change), side='head = "qa"')
        point = result.measurements[0].point
        assert (point.model, point.batch, point.seq, point.head) == ("bert-base", 2, 64, "qa")
        assert any("no timezone" in each for each in result.warnings)

    @pytest.mark.parametrize(
        ("field", "value", "message"),
        [
            ("mean", -1.0, r"benchmarks\[0\].stats.mean: -1.0 is negative"),
            ("mean", None, r"benchmarks\[0\].stats: 'mean' is missing"),
            ("mean", 1e9, r"1000000000.0 s is longer than any measurement"),
            ("rounds", 3, r"benchmarks\[0\].stats.data: has 49 times, but there were 3 rounds"),
            ("data", [1e-3, "x"], r"benchmarks\[0\].stats.data\[1\]: 'x' is not a time"),
            ("data", [1e-3, True], r"benchmarks\[0\].stats.data\[1\]: True is not a time"),
            ("data", [], r"benchmarks\[0\].stats.data: is empty"),
            ("data", 5, r"benchmarks\[0\].stats.data: 5 is not a list"),
            ("iterations", 0, r"0 is not between 1 and"),
        ],
    )
    def test_damage_names_line_and_field(self, read: Read, load: Load, field: str, value: Any, message: str) -> None:
        def change(document: Any) -> None:
            document["benchmarks"][0]["stats"][field] = value

        with pytest.raises(ImportFailed, match=rf"^m.json, line \d+, {message}|^m.json, line \d+.*{message}"):
            read("m.json", text=changed(load("pytest_benchmark/measured.json"), change))

    def test_line_numbers_are_right(self, read: Read, load: Load) -> None:
        text = load("pytest_benchmark/measured.json").data.decode()
        lines = text.splitlines()
        line = next(n for n, each in enumerate(lines, 1) if '"mean"' in each and n > 100)
        lines[line - 1] = '                "mean": -1.0,'
        with pytest.raises(
            ImportFailed, match=rf"^m.json, line {line}, benchmarks\[\d\].stats.mean: -1.0 is negative$"
        ):
            read("m.json", text="\n".join(lines))

    def test_no_benchmarks(self, read: Read, load: Load) -> None:
        text = changed(load("pytest_benchmark/measured.json"), lambda d: d.update(benchmarks=[]))
        with pytest.raises(ImportFailed, match="no benchmark ran"):
            read("m.json", text=text)

    def test_unknown_dtype_is_not_taken_over(self, read: Read, load: Load) -> None:
        text = changed(
            load("pytest_benchmark/measured.json"), lambda d: d["benchmarks"][0]["extra_info"].update(dtype="half")
        )
        with pytest.raises(ImportFailed, match=r"benchmarks\[0\]: the dtype 'half' is not one of fp32"):
            read("m.json", text=text)


class TestOptimum:
    def test_report_with_configuration(self, read: Read, load: Load) -> None:
        both = read("optimum/benchmark.json")
        apart = read("optimum/benchmark_report.json", "optimum/sidecar.toml")
        assert both.measurements == apart.measurements
        (found,) = both.measurements
        latency = json.loads(load("optimum/benchmark_report.json").data)["forward"]["latency"]
        assert found.host_ns == tuple(round(s * 1e9) for s in latency["values"])
        assert found.device_ns is None and found.trust == "samples"
        point = found.point
        assert (point.backend, point.variant, point.model, point.head) == ("torch", "eager", "tiny", "pooler")
        assert (point.batch, point.seq, point.device, point.dtype) == (2, 16, "cpu", None)
        assert point.protocol == "optimum-benchmark-0.6:clock=host,sync=call,pct=linear"
        assert found.throughput_isolated is True and found.warmup_n == 2
        assert found.load_s is not None and found.first_run_s is not None
        assert both.software["transformers"] == "4.53.3"

    def test_report_alone(self, read: Read) -> None:
        result = read("optimum/benchmark_report.json")
        point = result.measurements[0].point
        assert (point.batch, point.seq, point.model) == (None, None, None)
        assert "clock=?" in point.protocol and "no configuration" in result.warnings[0]

    def test_pytorch_on_a_gpu_is_another_clock(self, read: Read, load: Load) -> None:
        def change(document: Any) -> None:
            document["config"]["backend"] |= {"device": "cuda", "torch_dtype": "float16", "torch_compile": True}

        found = read("b.json", text=changed(load("optimum/benchmark.json"), change)).measurements[0]
        assert found.host_ns is None and found.device_ns is not None
        assert found.point.protocol == "optimum-benchmark-0.6:clock=events,sync=none,pct=linear"
        assert (found.point.dtype, found.point.variant, found.flags) == ("fp16", "compile", ("queued",))
        assert found.throughput_isolated is False

    def test_onnxruntime_and_folders(self, read: Read, load: Load) -> None:
        def change(document: Any) -> None:
            document["config"]["backend"] |= {
                "name": "onnxruntime", "provider": "CUDAExecutionProvider", "device": "cuda",
                "model": "/home/someone/models/bert-x/", "task": "question-answering",
            }  # fmt: skip

        point = read("b.json", text=changed(load("optimum/benchmark.json"), change)).measurements[0].point
        assert (point.backend, point.variant, point.model, point.head) == ("ort", "cuda", "bert-x", "qa")
        assert "clock=host" in point.protocol

    def test_memory_but_not_amds(self, read: Read, load: Load) -> None:
        def change(document: Any) -> None:
            document["report"]["forward"]["memory"] = {
                "unit": "MB", "max_ram": 900.5, "max_global_vram": 80000, "max_process_vram": 700, "max_allocated": 300,
            }  # fmt: skip
            document["config"]["environment"]["gpu"] = gpus

        gpus = ["NVIDIA A100-SXM4-80GB"]
        nvidia = read("b.json", text=changed(load("optimum/benchmark.json"), change))
        found = nvidia.measurements[0]
        assert (found.peak_host_bytes, found.peak_device_bytes, found.peak_allocator_bytes) == (
            900_500_000,
            700_000_000,
            300_000_000,
        )
        assert nvidia.hardware["device"] == gpus[0]
        gpus = ["Advanced Micro Devices, Inc. [AMD/ATI]"]
        amd = read("b.json", text=changed(load("optimum/benchmark.json"), change))
        assert amd.measurements[0].peak_device_bytes is None and "device" not in amd.hardware
        assert any("AMD" in each for each in amd.warnings)

    def test_other_units_are_converted_unknown_ones_refused(self, read: Read, load: Load) -> None:
        def change(document: Any) -> None:
            latency = document["report"]["forward"]["latency"]
            latency |= {"unit": unit, "values": [1500.0, 1600.0], "count": 2}

        unit = "us"
        found = read("b.json", text=changed(load("optimum/benchmark.json"), change)).measurements[0]
        assert found.host_ns == (1_500_000, 1_600_000)
        unit = "h"
        with pytest.raises(ImportFailed, match=r"report.forward.latency.unit: 'h' is no unit of time"):
            read("b.json", text=changed(load("optimum/benchmark.json"), change))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda d: d["report"].update(prefill=d["report"].pop("forward")), "is a report of 'prefill'"),
            (lambda d: d["report"].pop("forward"), "'forward' is missing"),
            (lambda d: d["report"]["forward"]["latency"].update(count=3), "3 is not the number of values, 30"),
            (lambda d: d["report"]["forward"]["latency"].update(values=[], count=0), "values: is empty"),
            (lambda d: d["report"]["forward"]["throughput"].update(unit="tokens/s"), "'tokens/s' is not samples/s"),
            (lambda d: d["report"]["forward"].update(memory={"unit": "MiB", "max_ram": 1}), "'MiB' is not MB"),
            (lambda d: d["report"]["forward"].update(memory={"unit": "MB", "max_ram": 1e30}), "not believable"),
        ],
    )
    def test_refused(self, read: Read, load: Load, change: Callable[[Any], None], message: str) -> None:
        with pytest.raises(ImportFailed, match=message):
            read("b.json", text=changed(load("optimum/benchmark.json"), change), as_="optimum-benchmark")


class TestGoogleBenchmark:
    def test_mean_over_all_iterations(self, read: Read, load: Load) -> None:
        result = read("google_benchmark/out.json")
        rows = json.loads(load("google_benchmark/out.json").data)["benchmarks"]
        first = result.measurements[0]
        same = [r for r in rows if r["run_name"] == rows[0]["run_name"] and r["run_type"] == "iteration"]
        assert len(same) == 5
        counts, times = [r["iterations"] for r in same], [r["real_time"] / 1e3 for r in same]
        assert first.host is not None
        assert first.host.mean_ms == pytest.approx(np.average(times, weights=counts))
        assert first.host.n == sum(counts)
        assert (first.host.p50_ms, first.host.p99_ms, first.host.std_ms, first.host.min_ms) == (None,) * 4
        assert first.trust == "mean" and first.host_ns is None
        assert first.facts["repetitions_ms"] == pytest.approx(times)
        assert first.point.batch is None and first.throughput_seq_s is None
        assert any("debug build" in each for each in result.warnings)

    def test_errors_are_rows(self, read: Read) -> None:
        failed = read("google_benchmark/out.json").measurements[-1]
        assert (failed.status, failed.error, failed.host) == ("error", "no device", None)

    def test_newer_spelling_of_a_skip(self, read: Read, load: Load) -> None:
        def change(document: Any) -> None:
            row = document["benchmarks"][-1]
            row.pop("error_occurred"), row.pop("error_message")
            row |= {"skipped": True, "skip_message": "no GPU"}

        failed = read("g.json", text=changed(load("google_benchmark/out.json"), change)).measurements[-1]
        assert (failed.status, failed.error) == ("skipped", "no GPU")

    def test_aggregates_only(self, read: Read, load: Load) -> None:
        def change(document: Any) -> None:
            document["benchmarks"] = [r for r in document["benchmarks"] if r["run_type"] == "aggregate"]

        result = read("g.json", text=changed(load("google_benchmark/out.json"), change))
        host = result.measurements[0].host
        assert host is not None and host.n is None and host.mean_ms is not None and host.std_ms is None

    def test_batch_from_the_sidecar(self, read: Read) -> None:
        first = read("google_benchmark/out.json", side="batch = 4").measurements[0]
        assert first.host is not None and first.host.mean_ms is not None
        assert first.throughput_seq_s == pytest.approx(4e3 / first.host.mean_ms)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda d: d["benchmarks"][0].update(time_unit="min"), "'min' is no unit of time"),
            (lambda d: d["benchmarks"][0].update(real_time=-1), r"benchmarks\[0\].real_time: -1 is negative"),
            (lambda d: d["benchmarks"][0].pop("iterations"), r"benchmarks\[0\]: 'iterations' is missing"),
            (lambda d: d.update(benchmarks=[]), "no benchmark ran"),
            (
                lambda d: d.update(benchmarks=[{"run_name": "x", "run_type": "aggregate", "aggregate_name": "cv"}]),
                "neither a repetition nor a mean",
            ),
        ],
    )
    def test_refused(self, read: Read, load: Load, change: Callable[[Any], None], message: str) -> None:
        with pytest.raises(ImportFailed, match=message):
            read("g.json", text=changed(load("google_benchmark/out.json"), change), as_="google-benchmark")


class TestNvbench:
    def test_states(self, read: Read) -> None:
        result = read("nvbench/out.json")
        one, eight, skipped, empty = result.measurements
        assert (one.point.batch, one.point.seq, one.point.device) == (1, 128, "cuda:0")
        assert one.device is not None and one.host is not None
        assert one.device.n == 120 and one.device.mean_ms == pytest.approx(0.0123)  # numbers are strings, in seconds
        assert one.device.p50_ms == pytest.approx(0.0122877) and one.device.p95_ms is None
        assert one.host.mean_ms == pytest.approx(0.0223)
        assert eight.throughput_seq_s == pytest.approx(8 / (4.5e-5 * 0.97)) and eight.throughput_isolated is False
        assert (skipped.status, skipped.error, skipped.device) == ("skipped", "not enough memory", None)
        assert (empty.status, empty.error) == ("error", "no sample was accepted (throttling?)")
        assert result.hardware["device"] == "NVIDIA H200" and result.tool_version == "0.1.0"
        assert one.point.options["benchmark"] == "attention"

    @pytest.mark.parametrize(
        ("tag", "value", "message"),
        [
            ("nv/cold/time/gpu/mean", "nan", "'nan' is not a finite number"),
            ("nv/cold/time/gpu/mean", "-1e-5", "'-1e-5' is negative"),
            ("nv/cold/time/gpu/min", "1,5", "'1,5' is not a time"),
            ("nv/cold/sample_size", "ten", "'ten' is not a whole number"),
        ],
    )
    def test_damage(self, read: Read, load: Load, tag: str, value: str, message: str) -> None:
        def change(document: Any) -> None:
            summaries = document["benchmarks"][0]["states"][0]["summaries"]
            next(each for each in summaries if each["tag"] == tag)["data"][0]["value"] = value

        place = r"benchmarks\[0\]\.states\[0\]\.summaries\[\d+\]\.data\[0\]\.value"
        with pytest.raises(ImportFailed, match=rf"^n.json, line \d+, {place}: {message}"):
            read("n.json", text=changed(load("nvbench/out.json"), change))

    def test_without_figures(self, read: Read, load: Load) -> None:
        text = changed(load("nvbench/out.json"), lambda d: d["benchmarks"][0]["states"][0].update(summaries=[]))
        with pytest.raises(ImportFailed, match="has no 'nv/cold/time/gpu/mean', and is not skipped"):
            read("n.json", text=text)
        text = changed(load("nvbench/out.json"), lambda d: d["benchmarks"][0].update(states=[]))
        with pytest.raises(ImportFailed, match="no benchmark ran"):
            read("n.json", text=text, as_="nvbench")

    def test_states_of_several_devices(self, read: Read, load: Load) -> None:
        text = changed(load("nvbench/out.json"), lambda d: d["benchmarks"][0]["states"][1].update(device=1))
        result = read("n.json", text=text)
        assert not result.hardware and any("devices 0, 1" in each for each in result.warnings)
