"""Every cell of the shipped tables against the sources' own text, parsed here by other means than when transcribed."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest

from benchrun.results.published import (
    Conditions,
    UnknownTable,
    find_odd_cells,
    load,
    published_tables,
    table_names,
)
from benchrun.results.published.tables import COLUMNS, FIGURES, STATUSES, PublishedRow

DATA = Path(__file__).parent / "data"


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]


def printed(row: PublishedRow) -> dict[str, str]:
    return dict(row.printed)


class TestDemoBert:
    """Two GPUs, two tables each; the two sentences above the tables say which GPU."""

    @staticmethod
    def read_source() -> dict[tuple[str, str, str, str, str], dict[str, str]]:
        text = (DATA / "demobert_trt7.txt").read_text()
        found: dict[tuple[str, str, str, str, str], dict[str, str]] = {}
        sections = re.split(r"^Our results were obtained .* NVIDIA (T4|V100) with .*$", text, flags=re.MULTILINE)[1:]
        for gpu, body in zip(sections[::2], sections[1::2], strict=True):
            tables = body.split("| Sequence Length |")[1:]
            for model, table in zip(("bert-base", "bert-large"), tables, strict=True):
                first, _, head, *lines = table.strip().splitlines()
                assert cells(first)[1:3] == ["TensorRT Mixed Precision Latency (ms)", "TensorRT FP32 Latency (ms)"]
                words = {"95th Percentile": "p95_ms", "99th Percentile": "p99_ms", "Average": "avg_ms"}
                names = [words[name] for name in cells(head)[:6]]
                for line in lines:
                    seq, batch, *values = cells(line)
                    for label, at in (("Mixed Precision", 0), ("FP32", 3)):
                        figures = dict(zip(names[at : at + 3], values[at : at + 3], strict=True))
                        assert (gpu, model, label, seq, batch) not in found
                        found[gpu, model, label, seq, batch] = figures
        return found

    def test_every_cell_as_printed_and_no_other(self) -> None:
        source = self.read_source()
        shipped = {
            (gpu, row.model, str(row.precision), str(row.seq), str(row.batch)): printed(row)
            for gpu in ("T4", "V100")
            for row in load(f"demobert_trt7_{gpu.lower()}").rows
        }
        assert len(source) == 2 * 2 * 2 * 2 * 10
        assert shipped == source

    def test_which_table_is_large_is_plain_from_the_figures(self) -> None:
        for gpu in ("t4", "v100"):
            rows = {(r.model, r.dtype, r.seq, r.batch): r.avg_ms for r in load(f"demobert_trt7_{gpu}").rows}
            for (model, dtype, seq, batch), base in rows.items():
                if model == "bert-base":
                    large = rows["bert-large", dtype, seq, batch]
                    assert base and large and 2.3 < large / base < 4.2


class TestAITemplate:
    @staticmethod
    def read_source() -> dict[tuple[str, str, int, int], tuple[str, str]]:
        found: dict[tuple[str, str, int, int], tuple[str, str]] = {}
        name, seq = "", 0
        for line in (DATA / "aitemplate_bert.txt").read_text().splitlines():
            if line.startswith("#"):
                title = line.lstrip("# ")
                name = {"A100-40GB / CUDA 11.6.2": "a100", "1 GCD": "mi250_1gcd", "2 GCDs": "mi250_2gcd"}.get(title, "")
            elif line.startswith("- Sequence length"):
                seq = int(line.rpartition(" ")[2])
            elif line.startswith("| Batch size"):
                assert cells(line)[1:] == ["PT Latency (ms)", "PT QPS (seq/s)", "AIT Latency (ms)", "AIT QPS (seq/s)"]
            elif line.startswith("| ") and name:
                batch, pt_ms, pt_rate, ait_ms, ait_rate = cells(line)
                found[name, "torch:eager", seq, int(batch)] = (pt_ms, pt_rate)
                found[name, "ait", seq, int(batch)] = (ait_ms, ait_rate)
        return found

    def test_every_cell_as_printed_and_no_other(self) -> None:
        source = self.read_source()
        words = {"oom": "OOM", "blank": ""}
        shipped = {}
        for name in ("a100", "mi250_1gcd", "mi250_2gcd"):
            for row in load(f"aitemplate_{name}").rows:
                assert row.seq is not None and row.batch is not None
                gap = words.get(row.status, "missing")
                figures = (row.printed.get("avg_ms", gap), row.printed.get("throughput_seq_s", gap))
                shipped[name, row.engine, row.seq, row.batch] = figures
        assert len(source) == 3 * 2 * 5 * 9
        assert shipped == source

    def test_out_of_memory_and_blank_are_kept_apart(self) -> None:
        counts = {
            name: [sum(row.status == status for row in load(f"aitemplate_{name}").rows) for status in STATUSES]
            for name in ("a100", "mi250_1gcd", "mi250_2gcd")
        }
        assert counts == {"a100": [80, 8, 2], "mi250_1gcd": [81, 5, 4], "mi250_2gcd": [74, 4, 12]}

    def test_order_is_the_page_s(self) -> None:
        rows = load("aitemplate_a100").rows
        first = [(row.seq, row.batch, row.engine) for row in rows[:3]]
        assert first == [(64, 1, "torch:eager"), (64, 1, "ait"), (64, 2, "torch:eager")]
        assert [r.order for r in rows] == list(range(1, 91))


class TestLoadGen:
    def test_every_figure(self) -> None:
        text = (DATA / "mlperf_open_nvidia.txt").read_text()
        shipped = {row.scenario: row for row in load("mlperf_open_nvidia").rows}
        assert set(shipped) == set(re.findall(r"^(\w+):$", text, flags=re.MULTILINE))
        assert shipped["Offline"].printed == {"throughput_seq_s": re.findall(r"Samples per second: (\S+)", text)[0]}
        completed = re.findall(r"Completed samples per second +: (\S+)", text)[0]
        assert shipped["Server"].printed == {"throughput_seq_s": completed}
        latencies = {
            "p" + quantile.rstrip("0").rstrip(".").replace(".", "_") + "_ms": Decimal(ns).scaleb(-6)
            for quantile, ns in re.findall(r"(\S+) percentile latency \(ns\) +: (\d+)", text)
        }
        assert len(latencies) == 6
        stream = {k: Decimal(v) for k, v in shipped["SingleStream"].printed.items()}
        assert stream == latencies

    def test_the_gpu_is_not_guessed(self) -> None:
        assert all(row.hardware is None for row in load("mlperf_open_nvidia").rows)


class TestNewerFigures:
    @staticmethod
    def read_blocks() -> list[list[list[str]]]:
        lines = (DATA / "newer_figures.txt").read_text().splitlines()
        starts = [n for n, line in enumerate(lines) if line.startswith("|---")]
        ends = [*(start - 1 for start in starts[1:]), len(lines)]
        return [[cells(x) for x in lines[a + 1 : b] if x.startswith("|")] for a, b in zip(starts, ends, strict=True)]

    def test_mlperf_closed(self) -> None:
        blocks = self.read_blocks()
        rows = load("mlperf_closed_nvidia").rows
        assert len(blocks[0]) == len(rows) == 9
        for row, (version, system, target, scenario, rate, per_gpu, precision) in zip(rows, blocks[0], strict=True):
            assert row.section == f"{version}, bert-{target}"
            assert row.scenario == scenario
            count, gpu = re.fullmatch(r"(\d+)x (\w+?)(?:-SXM.*)?", system).groups()  # type: ignore[union-attr]
            assert row.devices == int(count) and row.hardware is not None and f" {gpu}-SXM" in row.hardware
            assert row.printed["throughput_seq_s"] == re.findall(r"[\d.]+", rate.replace(",", ""))[0]
            assert row.printed["throughput_per_device_seq_s"] == per_gpu.replace(",", "")
            assert precision.startswith(str(row.precision))
            assert ("inferred" in row.note) == ("[I]" in precision or "Offline I" in precision)
        p99 = re.search(r"p99 ([\d.]+) ms", blocks[0][2][4])
        assert p99 and rows[2].printed["p99_ms"] == p99[1]
        assert "F1 90.357" in rows[0].note and "F1 90.357" in blocks[0][0][6]

    def test_demobert_of_tensorrt_10(self) -> None:
        blocks = self.read_blocks()
        expected: dict[tuple[str, str, int, int, str], tuple[str, str | None]] = {}
        for gpu, shape, *columns in blocks[1]:
            model, seq, batches = re.fullmatch(r"(base|large) (\d+) (.*)", shape).groups()  # type: ignore[union-attr]
            for dtype, column in zip(("int8", "fp16"), columns, strict=True):
                for batch, value in zip(batches.split(" / "), column.split(" / "), strict=True):
                    found = re.fullmatch(r"([\d.]+)(?: \(([\d,]+)\))?", value)
                    assert found
                    rate = found[2].replace(",", "") if found[2] else None
                    expected[gpu, f"bert-{model}", int(seq), int(batch[1:]), dtype] = (found[1], rate)
        shipped = {
            (str(r.hardware).removeprefix("NVIDIA "), r.model, r.seq, r.batch, r.dtype): (
                r.printed["avg_ms"],
                r.printed.get("throughput_seq_s"),
            )
            for r in load("demobert_trt10").rows
        }
        assert len(expected) == 20
        assert shipped == expected
        assert [(r.order, r.printed["p95_ms"]) for r in load("demobert_trt10").rows if r.p95_ms] == [(1, "0.67")]

    def test_aitemplate_excerpt_is_the_full_table_rounded(self) -> None:
        blocks = self.read_blocks()
        rate = "throughput_seq_s"
        columns = [(128, 1, "avg_ms"), (128, 128, rate), (384, 128, rate), (1024, 64, rate)]
        checked = 0
        for (_, *values), name in zip(blocks[2], ("a100", "mi250_1gcd", "mi250_2gcd"), strict=True):
            rows = {(r.engine, r.seq, r.batch): r for r in load(f"aitemplate_{name}").rows}
            for (seq, batch, figure), value in zip(columns, values, strict=True):
                if value == "-":
                    continue
                for engine, text in zip(("torch:eager", "ait"), value.split(" / "), strict=True):
                    full = Decimal(rows[engine, seq, batch].printed[figure])
                    rounded = Decimal(text.replace(",", ""))
                    assert full.quantize(rounded) == rounded
                    checked += 1
        assert checked == 22

    def test_single_figures(self) -> None:
        line = (DATA / "newer_figures.txt").read_text().splitlines()[-1]
        large = r"A100-80G BERT-large s384 b32: (\d+) AMP / (\d+) TF32 seq/s\. "
        found = re.search(large + r"MIGraphX bert-large fp16 b64 s384: ([\d.]+) seq/s", line)
        assert found
        rows = load("single_figures").rows
        assert [row.printed["throughput_seq_s"] for row in rows] == list(found.groups())
        shapes = [(row.batch, row.seq, row.dtype) for row in rows]
        assert shapes == [(32, 384, "fp16"), (32, 384, "tf32"), (64, 384, "fp16")]

    def test_real_lengths_run_over_twice_as_fast_as_padded_ones(self) -> None:
        shape = ("NVIDIA A100-40G", "bert-large", 384, 128)
        padded = {r.dtype: r for r in load("demobert_trt10").rows if (r.hardware, r.model, r.seq, r.batch) == shape}
        closed = load("mlperf_closed_nvidia").rows
        real = {r.dtype: r for r in closed if r.hardware == "NVIDIA A100-SXM-80GB"}
        for dtype, factor in (("int8", 2.4), ("fp16", 2.2)):
            per_device = real[dtype].throughput_per_device_seq_s
            rate = padded[dtype].throughput_seq_s
            assert per_device and rate and round(per_device / rate, 1) == factor


class TestConsistency:
    @pytest.mark.parametrize("name", table_names())
    def test_odd_cells_are_listed_not_mended(self, name: str) -> None:
        table = load(name)
        assert sorted(table.odd) == sorted((cell.order, cell.what) for cell in find_odd_cells(table))

    def test_the_checks_find_what_they_are_for(self) -> None:
        from dataclasses import replace

        table = load("aitemplate_a100")
        row = table.rows[0]

        def kinds(changed: PublishedRow) -> list[str]:
            return [cell.kind for cell in find_odd_cells(replace(table, rows=(changed,)))]

        def with_figures(**figures: float) -> PublishedRow:
            gone = dict.fromkeys(FIGURES) | figures
            return replace(row, **gone, printed={k: str(v) for k, v in figures.items()})  # type: ignore[arg-type]

        assert kinds(row) == []
        assert kinds(with_figures(avg_ms=7.96, throughput_seq_s=126.65)) == ["throughput"]
        assert kinds(with_figures(avg_ms=2.0, p95_ms=1.9, throughput_seq_s=500.0)) == ["percentiles"]
        assert kinds(with_figures(avg_ms=2.0, p95_ms=2.1, p99_ms=2.05, throughput_seq_s=500.0)) == ["percentiles"]
        assert kinds(with_figures(avg_ms=2.0, p95_ms=2.3, throughput_seq_s=500.0)) == ["tail"]
        assert kinds(with_figures(avg_ms=2.0, p95_ms=2.1, p99_ms=2.6, throughput_seq_s=500.0)) == ["tail"]
        two = replace(with_figures(throughput_seq_s=100.0, throughput_per_device_seq_s=51.0), devices=2)
        assert kinds(two) == ["devices"]

    def test_rows_are_well_formed(self) -> None:
        for table in published_tables():
            assert [row.order for row in table.rows] == list(range(1, len(table.rows) + 1))
            for row in table.rows:
                assert row.status in STATUSES
                assert (row.status == "ok") == bool(row.printed)
                assert all(float(text) == getattr(row, name) for name, text in row.printed.items())
                assert row.hardware is None or row.hardware in table.hardware


class TestSidecars:
    @pytest.mark.parametrize("name", table_names())
    def test_conditions_are_stated_or_known_to_be_unknown(self, name: str) -> None:
        table = load(name)
        assert table.title and table.caveats and table.source["document"] and table.source["figures"]
        conditions = [table.protocol, *table.engine_protocol.values()]
        for each in conditions:
            assert isinstance(each, Conditions)
            for what in ("graph", "transfers", "clocks"):  # where the source is silent, the sidecar says so in words
                assert getattr(each, what) is not None or what in table.evidence
            assert each.graph in (None, "on", "off") and each.transfers in (None, "included", "excluded")
        assert set(table.derived) <= set(FIGURES)

    def test_engine_protocol_wins(self) -> None:
        table = load("aitemplate_a100")
        eager, ait = table.rows[0], table.rows[1]
        assert (table.conditions(eager).graph, table.conditions(ait).graph) == ("off", "on")
        assert table.conditions(ait).transfers == table.conditions(eager).transfers == "excluded"

    def test_csv_headers_are_the_documented_ones(self) -> None:
        from importlib import resources

        folder = resources.files("benchrun.results.published")
        for name in table_names():
            assert (folder / f"{name}.csv").read_text().splitlines()[0].split(",") == list(COLUMNS)

    def test_unknown_table(self) -> None:
        with pytest.raises(UnknownTable, match="there is no published table 'a100'; there are: aitemplate_a100, "):
            load("a100")
