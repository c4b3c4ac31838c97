"""MLPerf LoadGen, onnxruntime's two tools, MIGraphX, AITemplate, generic CSV."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from benchrun.results.importers import ForeignResult, ImportFailed, Source

Read = Callable[..., ForeignResult]
Load = Callable[[str], Source]


class TestMlperf:
    def test_summary_and_detail_agree(self, read: Read) -> None:
        for scenario in ("singlestream", "server"):
            summary = read(f"mlperf/{scenario}_summary.txt").measurements[0]
            detail = read(f"mlperf/{scenario}_detail.txt").measurements[0]
            assert summary.host is not None and detail.host is not None
            for name in ("min_ms", "max_ms", "mean_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "p99_9_ms"):
                assert getattr(summary.host, name) == getattr(detail.host, name)
            assert summary.point == detail.point and summary.status == detail.status == "ok"
            assert summary.throughput_seq_s == pytest.approx(detail.throughput_seq_s, rel=1e-4)
            assert summary.host.n is None  # only the detail log counts the queries
            assert detail.host.n == detail.host.n is not None

    def test_single_stream(self, read: Read, load: Load) -> None:
        result = read("mlperf/singlestream_detail.txt")
        (found,) = result.measurements
        text = load("mlperf/singlestream_summary.txt").data.decode()
        p90 = re.search(r"90.00 percentile latency \(ns\) +: (\d+)", text)
        assert p90 and found.host is not None and found.host.p90_ms == int(p90[1]) / 1e6
        assert found.point.batch == 1 and found.throughput_isolated is True
        assert found.point.protocol == "mlperf:scenario=singlestream,clock=loadgen,pct=floor"
        assert result.tool_version == "6.0.17" and result.started is not None
        assert any("no timezone" in each for each in result.warnings)

    def test_the_estimate_of_early_stopping_is_mlperfs_result(self, read: Read, load: Load) -> None:
        """Equal to the nanosecond; the percentile that MLPerf takes, of the two that SingleStream's log has."""
        for log in ("singlestream_summary", "singlestream_detail"):
            facts = read(f"mlperf/{log}.txt").measurements[0].facts
            assert round(facts["early_stopping_p90_ms"] * 1e6) == 903_388 and "early_stopping_p99_ms" not in facts
        assert facts["early_stopping_result"].startswith("* Processed at least 64 queries (1100).")
        assert "903388" in facts["early_stopping_result"]
        facts = read("mlperf/multistream_summary.txt").measurements[0].facts
        assert round(facts["early_stopping_p99_ms"] * 1e6) == 7_993_489 and "early_stopping_p90_ms" not in facts
        server = read("mlperf/server_detail.txt").measurements[0].facts
        assert server["early_stopping_result"] == "* Run successful." and "early_stopping_p99_ms" not in server
        few = load("mlperf/singlestream_detail.txt").data.decode().replace('_ss", "value": 903388', '_ss", "value": 0')
        assert "early_stopping_p90_ms" not in read("d.txt", text=few).measurements[0].facts

    def test_server_latency_has_the_queue_in_it(self, read: Read) -> None:
        found = read("mlperf/server_summary.txt").measurements[0]
        assert found.flags == ("queueing",) and found.point.batch is None and found.throughput_isolated is False

    def test_multistream_queries_have_several_samples(self, read: Read) -> None:
        found = read("mlperf/multistream_summary.txt").measurements[0]
        assert found.point.batch == 8 and found.throughput_seq_s is None

    def test_offline_latency_and_its_overflowed_mean_stay_out(self, read: Read) -> None:
        found = read("mlperf/offline_overflowed_summary.txt").measurements[0]
        assert found.host is None and found.throughput_seq_s == 73309.5
        assert found.facts["mean_overflowed"] is True
        assert read("mlperf/offline_summary.txt").measurements[0].facts["mean_overflowed"] is False

    def test_the_overflow_is_the_one_of_the_published_log(self) -> None:
        """v4.1, 8 x H200: printed 49.7 s, really 421.4 s."""
        samples, printed = 49_632_000, 49_709_272_792
        assert (samples * printed + 2**64) / samples / 1e9 == pytest.approx(421.4, abs=0.1)

    def test_invalid_runs_are_invalid(self, read: Read) -> None:
        found = read("mlperf/offline_summary.txt").measurements[0]
        assert found.status == "invalid"
        assert found.error == "LoadGen calls the run INVALID: min_duration_met failed"

    @pytest.mark.parametrize(
        ("pattern", "replacement", "message"),
        [
            (
                r"Mean latency \(ns\) +: \d+",
                "Mean latency (ns) : 99",
                "Mean latency .ns.: the mean 9.9e-05 ms is not between minimum",
            ),
            (r"Mean latency \(ns\) +: \d+", "Mean latency (ns) : -5", "Mean latency .ns.: '-5' is negative"),
            (r"50.00 percentile latency \(ns\) +: \d+", "50.00 percentile latency (ns) : 9999999999", "above"),
            (r"Scenario : \w+", "Scenario : Interactive", "Scenario: 'Interactive' is not one of SingleStream"),
            (r"Mode     : \w+", "Mode     : AccuracyOnly", "'AccuracyOnly' measures no speed"),
            (r"Result is : \w+", "", "there is no result: the run did not finish"),
            (r"QPS w/ loadgen overhead +: .*", "QPS w/ loadgen overhead : inf", "'inf' is not a finite number"),
        ],
    )
    def test_damaged_summaries(self, read: Read, load: Load, pattern: str, replacement: str, message: str) -> None:
        text = load("mlperf/singlestream_summary.txt").data.decode()
        assert re.search(pattern, text)
        with pytest.raises(ImportFailed, match=message):
            read("s.txt", text=re.sub(pattern, replacement, text))

    def test_damaged_detail_logs_name_the_line(self, read: Read, load: Load) -> None:
        lines = load("mlperf/singlestream_detail.txt").data.decode().splitlines()
        for damage, message in (
            ("not a record", "line 5: does not start with ':::MLLOG'"),
            (':::MLLOG {"key": ', "line 5: ends too early"),
            (':::MLLOG {"value": 3}', "line 5: 'key' is missing"),
            (":::MLLOG [1]", "line 5: 'key' is missing"),
        ):
            with pytest.raises(ImportFailed, match=message):
                read("d.txt", text="\n".join([*lines[:4], damage, *lines[5:]]))

    def test_logs_cut_off(self, read: Read, load: Load) -> None:
        text = load("mlperf/singlestream_detail.txt").data.decode()
        with pytest.raises(ImportFailed, match="the run did not finish"):
            read("d.txt", text=text[: text.index(':::MLLOG {"key": "result_validity"')])
        with pytest.raises(ImportFailed, match=r"line \d+: ends too early"):
            read("d.txt", text=text[: text.index("result_validity")])
        summary = load("mlperf/singlestream_summary.txt").data.decode()
        with pytest.raises(ImportFailed, match="has no figures: the log is cut off"):
            read("s.txt", text=summary[: summary.index("Additional Stats")])

    def test_neither_log(self, read: Read) -> None:
        with pytest.raises(ImportFailed, match="neither a summary nor a detail log"):
            read("s.txt", text="hello", as_="mlperf")


class TestOrtBenchmark:
    def test_headers_between_the_rows(self, read: Read, load: Load) -> None:
        assert load("ort_benchmark/detail.csv").data.count(b"engine,version") == 2
        result = read("ort_benchmark/detail.csv")
        assert [(m.point.batch, m.point.seq) for m in result.measurements] == [(1, 128), (1, 512), (4, 128), (4, 512)]
        first = result.measurements[0]
        assert first.host is not None and first.trust == "summary"
        assert (first.host.n, first.host.mean_ms, first.host.p99_ms) == (50, 0.02, 0.05)
        assert first.host.std_ms is None  # latency_variance is in no unit
        assert (first.host.p50_ms, first.host.min_ms) == (None, None)
        assert first.throughput_seq_s == 58062.64 and first.throughput_isolated is True
        assert (first.point.backend, first.point.variant, first.point.dtype) == ("ort", "cpu", "fp32")
        assert result.started == datetime(2026, 11, 22, 2, 19, 46, 230977, tzinfo=UTC)
        assert [each.place for each in result.measurements] == ["line 2", "line 3", "line 5", "line 6"]

    def test_results_have_averages_only(self, read: Read) -> None:
        result = read("ort_benchmark/results.csv")
        assert [(m.point.batch, m.point.seq) for m in result.measurements] == [(1, 128), (1, 512), (4, 128), (4, 512)]
        assert all(m.trust == "mean" and m.throughput_seq_s is None for m in result.measurements)
        assert "pct=none" in result.measurements[0].point.protocol

    def test_pytorch_on_a_gpu_is_launch_time(self, read: Read, load: Load) -> None:
        text = load("ort_benchmark/detail.csv").data.decode()
        text = text.replace("onnxruntime,1.31.1,CPUExecutionProvider,cpu", "torch,2.13.0,NA,cuda", 1)
        result = read("d.csv", text=text)
        torch, ort = result.measurements[:2]
        assert torch.status == "invalid" and torch.error is not None and "without a synchronise" in torch.error
        assert torch.host is not None and torch.point.variant == "eager" and "sync=none" in torch.point.protocol
        assert ort.status == "ok"

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            (",0.02,0.00,", ",-0.02,0.00,", "line 2, average_latency_ms: '-0.02' is negative"),
            (",0.02,0.00,", ",nan,0.00,", "line 2, average_latency_ms: 'nan' is not a finite number"),
            (",0.02,0.00,", ",,0.00,", "line 2, average_latency_ms: is empty"),
            (",0.02,0.00,", ",0.02 ms,0.00,", "line 2, average_latency_ms: '0.02 ms' is not a time"),
            (",0.02,0.00,", ",1_0,0.00,", "line 2, average_latency_ms: '1_0' is not a time"),
            (",fp32,", ',"=cmd()",', r"line 2, precision: '=cmd\(\)' is a formula, not text"),
            ("bert-base-cased", "@SUM(A1)", "line 2, model_name: .* is a formula, not text"),
            ("bert-base-cased", "", "line 2, model_name: is empty"),
            (",1,128,", ",0,128,", "line 2, batch_size: '0' is not between 1 and"),
            ("onnxruntime,", "onnxruntime,x,", "line 2: has 22 cells under 21 columns"),
            ("2026-11-22 02", "22.11.2026 02", "line 2, datetime: .* is not an ISO 8601 date"),
        ],
    )
    def test_damaged_rows(self, read: Read, load: Load, old: str, new: str, message: str) -> None:
        text = load("ort_benchmark/detail.csv").data.decode()
        assert old in text
        with pytest.raises(ImportFailed, match=f"^d.csv, {message}"):
            read("d.csv", text=text.replace(old, new, 1))

    def test_other_csvs_of_the_same_tool(self, read: Read) -> None:
        with pytest.raises(ImportFailed, match="fusion counts, which has no times"):
            read("f.csv", text="model_filename,datetime,Attention\nm.onnx,2026,12\n", as_="onnxruntime-benchmark")
        with pytest.raises(ImportFailed, match="there is no column 'average_latency_ms'"):
            read("f.csv", text="a,b\n1,2\n", as_="onnxruntime-benchmark")
        with pytest.raises(ImportFailed, match="has no rows of data"):
            read("f.csv", text="a,b\n", as_="onnxruntime-benchmark")

    def test_rows_of_several_versions(self, read: Read, load: Load) -> None:
        text = load("ort_benchmark/detail.csv").data.decode().replace("1.31.1", "1.20.0", 1)
        result = read("d.csv", text=text)
        assert result.tool_version is None and any("1.20.0, 1.31.1" in each for each in result.warnings)


class TestOrtPerfTest:
    def test_printed(self, read: Read) -> None:
        found = read("ort_perf_test/printed.txt", side="batch = 4").measurements[0]
        assert found.host is not None and found.trust == "summary"
        assert (found.host.n, found.host.mean_ms) == (200, 8.02105)
        assert found.host.p99_ms == pytest.approx(10.4321)  # printed in seconds
        assert found.host.p99_9_ms == pytest.approx(11.2345)
        assert found.throughput_seq_s == pytest.approx(4 * 124.603)  # an inference is a whole batch
        assert (found.load_s, found.first_run_s) == (pytest.approx(0.412345), pytest.approx(0.012))
        assert found.peak_host_bytes == 734003200 and found.flags == ()

    def test_without_a_batch_there_is_no_throughput(self, read: Read) -> None:
        result = read("ort_perf_test/printed.txt")
        assert result.measurements[0].throughput_seq_s is None and "give the batch" in result.warnings[0]

    def test_result_file(self, read: Read, load: Load) -> None:
        found = read("ort_perf_test/runs.csv").measurements[0]
        lines = load("ort_perf_test/runs.csv").data.decode().split("\n\n")[0].splitlines()
        assert found.host_ns == tuple(round(float(line.split(",")[1]) * 1e9) for line in lines)
        assert found.trust == "samples" and len(lines) == 100
        assert "pct=linear" in found.point.protocol

    def test_concurrent_requests_are_flagged(self, read: Read, load: Load) -> None:
        text = load("ort_perf_test/printed.txt").data.decode().replace("run time: 1.6051 s", "run time: 0.8 s")
        assert read("p.txt", text=text).measurements[0].flags == ("concurrent-requests",)

    @pytest.mark.parametrize(
        ("name", "old", "new", "message"),
        [
            ("printed.txt", "P95 Latency: 0.00856789 s", "P95 Latency: -1 s", "P95 Latency: '-1' is negative"),
            ("printed.txt", "P95 Latency: 0.00856789 s", "P95 Latency: 1 h", "'h' is no unit of time"),
            ("printed.txt", "Average inference time cost: 8.02105 ms", "Average inference time cost:", "cut off"),
            ("runs.csv", "98,3\n", "98,4\n", "line 4: is run 4, but 3 was expected"),
            ("runs.csv", "98,3\n", "98\n", "line 4: is not a line of a result file"),
            ("runs.csv", "bert-base,0.0", "bert-base,-0.0", "line 1, seconds: '-0.0.*' is negative"),
        ],
    )
    def test_damaged(self, read: Read, load: Load, name: str, old: str, new: str, message: str) -> None:
        text = load(f"ort_perf_test/{name}").data.decode()
        assert old in text
        with pytest.raises(ImportFailed, match=message):
            read(name, text=text.replace(old, new, 1), as_="onnxruntime-perf-test")

    def test_nanoseconds_of_old_versions(self, read: Read) -> None:
        with pytest.raises(ImportFailed, match=r"before 1.0 wrote nanoseconds"):
            read("runs.csv", text="m,8018940,1,98,0\n", as_="onnxruntime-perf-test")
        with pytest.raises(ImportFailed, match="has no runs"):
            read("runs.csv", text="Min Latency: 1 s\n", as_="onnxruntime-perf-test")


class TestMigraphx:
    def test_mean_not_total_time(self, read: Read) -> None:
        result = read("migraphx/perf.txt")
        (found,) = result.measurements
        assert found.host is not None
        assert (found.host.mean_ms, found.host.p50_ms, found.host.n) == (71.4244, 72.2723, 200)
        assert (found.host.min_ms, found.host.max_ms, found.host.p99_ms) == (69.616, 72.7298, 72.7098)
        assert found.throughput_seq_s == pytest.approx(64e3 / 71.4244)  # not the trimmed rate
        assert found.facts["trimmed_rate_s"] == 893.571 and found.facts["trimmed_mean_ms"] == 71.6228
        assert (found.point.batch, found.point.dtype, found.point.device) == (64, "fp16", "rocm")
        assert result.software["migraphx"] == "2.12.0.db302aeb"

    def test_trimmed_total_only_is_refused(self, read: Read) -> None:
        with pytest.raises(ImportFailed, match=r"old.txt, line 5: has only 'Total time', the mean of the middle half"):
            read("migraphx/old.txt")

    def test_several_reports(self, read: Read, load: Load) -> None:
        text = load("migraphx/perf.txt").data.decode()
        second = text.replace("Batch size: 64", "Batch size: 1").replace("--fp16 -n 200", "--iterations 50")
        found = read("p.txt", text=text + second).measurements
        assert [(m.point.batch, m.point.dtype, m.host and m.host.n) for m in found] == [
            (64, "fp16", 200),
            (1, None, 50),
        ]

    def test_other_units_are_converted(self, read: Read, load: Load) -> None:
        text = load("migraphx/perf.txt").data.decode().replace("ms", "us")
        host = read("p.txt", text=text).measurements[0].host
        assert host is not None and host.mean_ms == pytest.approx(0.0714244)

    def test_without_the_last_line_the_command_is_not_known(self, read: Read, load: Load) -> None:
        text = load("migraphx/perf.txt").data.decode().partition("[ MIGraphX")[0]
        found = read("p.txt", text=text).measurements[0]
        assert found.host is not None and found.host.n is None
        assert found.point.dtype is None and "xfer=?" in found.point.protocol

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("Mean: 71.4244ms", "Mean: 71.4244s", "Total time: the mean 71424.4.* ms is not between"),  # mixed units
            ("Mean: 71.4244ms", "Mean: -71.4244ms", "line 13, Total time: '-71.4244' is negative"),
            ("Median: 72.2723ms)", "Median: 72.2723ms", "line 13, Total time: is cut off or damaged"),
            ("(72.6301ms, 72.6594ms, 72.7098ms)", "(72.6301ms, 72.6594ms", "line 14.*: is cut off or damaged"),
            ("Median: 72.2723ms", "Median: 99.0ms", "p50_ms 99.0 is above p90_ms 72.6301"),
            ("Batch size: 64", "Batch size: x", "line 11, Batch size: 'x' is not a whole number"),
            ("Total instructions time", "Total time of instructions", "has no complete report"),
            ("-n 200", "-n many", "'many' is not a whole number"),
        ],
    )
    def test_damaged(self, read: Read, load: Load, old: str, new: str, message: str) -> None:
        text = load("migraphx/perf.txt").data.decode()
        assert old in text
        with pytest.raises(ImportFailed, match=message):
            read("p.txt", text=text.replace(old, new), as_="migraphx")


class TestAITemplate:
    def test_lines(self, read: Read) -> None:
        result = read("aitemplate/bert_ait_benchmark_dev_-1.txt", side='model = "bert-base"\nhead = "layers"')
        assert [(m.point.batch, m.point.seq) for m in result.measurements] == [(1, 64), (2, 64), (128, 384), (4, 4096)]
        third = result.measurements[2]
        assert third.device is not None and third.device.mean_ms == 51.60 and third.device.p95_ms is None
        assert third.host is None and third.trust == "mean"
        assert third.throughput_seq_s == pytest.approx(128e3 / 51.6) and third.throughput_isolated is False
        assert third.point.protocol == "ait-bert:clock=events,window=100-launches,graph=?,pct=none"
        assert (third.point.backend, third.point.head, third.point.dtype) == ("ait", "layers", None)
        assert len(result.warnings) == 1

    def test_pytorch_twin(self, read: Read) -> None:
        result = read("aitemplate/bert_encoders_pt_benchmark.txt")
        assert [(m.point.backend, m.device and m.device.mean_ms) for m in result.measurements] == [
            ("torch", 7.958),
            ("torch", 8.382),
        ]
        assert any("say so in a sidecar" in each for each in result.warnings)
        printed = read("o.txt", text="x\nbert encoders pt: batch_size: 8, seq_length: 64, 8.51 ms\n")
        assert printed.measurements[0].point.batch == 8

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("batch_size: 1, seq_length: 64, latency: ", "line 2: is cut off or damaged"),
            ("batch_size: 1, seq_length: 64, latency: -3", "line 2, latency: '-3' is negative"),
            ("batch_size: x, seq_length: 64, latency: 3", "line 2, batch_size: 'x' is not a whole number"),
            ("batch_size: 1, seq_length: 64 latency: 3 h", "line 2, latency: 'h' is no unit of time"),
        ],
    )
    def test_damaged(self, read: Read, line: str, message: str) -> None:
        with pytest.raises(ImportFailed, match=message):
            read("a.txt", text=f"batch_size: 1, seq_length: 64, latency: 0.7\n{line}\n")

    def test_none(self, read: Read) -> None:
        with pytest.raises(ImportFailed, match="has no lines"):
            read("a.txt", text="hello\n", as_="aitemplate")


class TestGenericCsv:
    def test_summaries_in_mixed_units(self, read: Read) -> None:
        result = read("csv/summary.csv", "csv/summary.toml", as_="csv")
        first, second, third = result.measurements
        assert first.device is not None and second.device is not None
        assert (first.device.mean_ms, second.device.mean_ms) == (0.78, 1.43)  # us and ms, by the unit column
        assert (first.device.p99_ms, second.device.p99_ms) == (0.81, 1.5)
        assert first.host is None and result.trust == "mapped"
        assert (third.status, third.error, third.device) == ("oom", "did not fit", None)
        assert first.error is None
        assert (first.point.head, first.point.backend, first.point.dtype) == ("layers", "ait", "fp16")
        assert first.point.protocol == "csv-team-harness:clock=device,pct=nearest"

    def test_a_row_for_each_sample(self, read: Read, load: Load) -> None:
        result = read("csv/samples.csv", "csv/samples.toml", as_="csv")
        assert [(m.point.batch, len(m.host_ns or ())) for m in result.measurements] == [(1, 50), (2, 50)]
        first = load("csv/samples.csv").data.decode().splitlines()[1].split(";")[1]
        assert result.measurements[0].host_ns is not None
        assert result.measurements[0].host_ns[0] == round(float(first) * 1e9)
        assert "pct=linear" in result.measurements[0].point.protocol

    @pytest.mark.parametrize(
        ("side", "message"),
        [
            ("", "a CSV needs a column mapping"),
            ("[columns]\nlatency = 'a'", "columns.'latency': is not known; a column may be model"),
            ("[columns]\nbatch = 'a'", "columns: maps no figure"),
            ("[columns]\nmean_ms = 'z'", "columns.mean_ms: c.csv has no column 'z'; it has 'a', 'b'"),
            ("[columns]\nmean_ms = {column = 'a', unit = 'h'}", "'h' is no unit of time"),
            ("[columns]\nmean_ms = {unit = 'ms'}", "names no column"),
            ("[columns]\nmean_ms = 3", "is neither a column's name nor a table"),
            ("[columns]\nbatch = {column = 'a', unit = 'ms'}\nmean_ms = 'b'", "nor a table of column"),
            ("[columns]\nmean_ms = 'a'\nsample_ms = 'b'", "rows are either samples or summaries"),
            (
                "[columns]\nmean_ms = 'a'\n[protocol]\nclock = 'sun'",
                "protocol.clock: 'sun' is not one of 'host', 'device'",
            ),
            ("[columns]\nmean_ms = 'a'\n[protocol]\nname = 'a b'", "protocol.name: 'a b' is not a short name"),
            ("[columns]\nmean_ms = 'a'\n[protocol]\nx = 1.5", "protocol.'x': is neither text"),
            ("[columns]\nmean_ms = 'a'\n[protocol]\nx = 'a,b'", "protocol.x: 'a,b' is not a short word"),
        ],
    )
    def test_mappings_that_cannot_be_used(self, read: Read, side: str, message: str) -> None:
        with pytest.raises(ImportFailed, match=message):
            read("c.csv", side=side or "label = 'x'", text="a,b\n1,2\n", as_="csv")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("m,ms\n=1+1,2\n", "line 2, m: '=1.1' is a formula, not text"),
            ("m,ms\n-x,2\n", "line 2, m: '-x' is a formula"),
            ("m,ms\nx,=1+1\n", "line 2, ms: '=1.1' is not a time"),
            ("m,ms\nx,1e999\n", "line 2, ms: '1e999' is not a finite number"),
            ("m,ms\nx,-1\n", "line 2, ms: '-1' is negative"),
            ("m,ms\nx,1;5\n", "line 2, ms: '1;5' is not a time"),
            ("m,ms\nx,\n", "line 2: has no figure, though its status is ok"),
            ("m,ms,ms\nx,1,2\n", "line 1: names the column 'ms' twice"),
            ('m,ms\n"x,1\n', "line 2: is not CSV"),
            ("m,ms\n", "has no rows of data"),
            ("m,ms\n\n \nx,1\ny\n", "line 5: has 1 cells under 2 columns"),
            ("m,ms\nx\ty,1\n", "line 2, m: holds characters that cannot be printed"),
            (f"m,ms\n{'x' * 301},1\n", "line 2, m: is longer than 300 characters"),
            (f"m,ms\n{'x' * 10_001},1\n", "line 2: has a cell of over 10,000 characters"),
            (f"{','.join(map(str, range(501)))}\n1\n", "line 1: has over 500 columns"),
        ],
    )
    def test_damaged_rows(self, read: Read, text: str, message: str) -> None:
        with pytest.raises(ImportFailed, match=f"^c.csv, {message}|^c.csv: {message}"):
            read("c.csv", side="[columns]\nmodel = 'm'\nmean_ms = 'ms'", text=text, as_="csv")

    def test_words_of_a_row(self, read: Read) -> None:
        side = "[columns]\ndtype = 'd'\nstatus = 's'\nthroughput_seq_s = 'r'\nstarted = 't'\nn = 'n'"
        text = "d,s,r,t,n\nfp16,ok,12.5,2026-01-02T03:04:05+01:00,7\n"
        found = read("c.csv", side=side, text=text, as_="csv")
        assert found.started == datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC)
        assert found.measurements[0].throughput_seq_s == 12.5 and found.measurements[0].host is None
        for bad, message in (
            ("half,ok,1,,", "'half' is not one of fp32"),
            ("fp16,fine,1,,", "'fine' is not one of ok"),
        ):
            with pytest.raises(ImportFailed, match=message):
                read("c.csv", side=side, text=f"d,s,r,t,n\n{bad}\n", as_="csv")

    def test_empty_sample(self, read: Read) -> None:
        side = "[columns]\nbatch = 'b'\nsample_ms = 's'"
        with pytest.raises(ImportFailed, match="line 3, s: is empty"):
            read("c.csv", side=side, text="b,s\n1,2\n1,\n", as_="csv")
