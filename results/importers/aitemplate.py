"""AITemplate's examples/03_bert: the text that `benchmark_ait.py` and its twin `benchmark_pt.py` append or print.

    batch_size: 1, seq_length: 64, latency: 0.7143
    batch_size: 1, seq_length: 64 latency: 7.958 ms          (benchmark_pt.py)

The latency is the mean over back-to-back launches between one pair of device events, in milliseconds: a rate, and no
percentile. Encoder layers only is the default of both scripts, but the file does not say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from benchrun.results.importers import values
from benchrun.results.importers.foreign import (
    ForeignMeasurement,
    ForeignPoint,
    ForeignResult,
    Source,
    protocol_id,
)
from benchrun.results.importers.limits import collect, split_lines
from benchrun.results.importers.sidecar import NO_SIDECAR, Sidecar
from benchrun.results.statistics import ReportedSummary

FORMAT = "aitemplate"
_AIT = re.compile(r"batch_size: (\S+), seq_length: (\S+), latency: (\S+)$")
_PT = re.compile(r"batch_size: (\S+), seq_length: (\S+) latency: (\S+) (\S+)$")
_PT_PRINTED = re.compile(r"bert (?:encoders )?pt: batch_size: (\S+), seq_length: (\S+), (\S+) (\S+)$")
_RECOGNISED = re.compile(
    rb"^(?:bert (?:encoders )?pt: )?batch_size: \d+, seq_length: \d+,? (?:latency: )?\d", re.MULTILINE
)


def recognise(source: Source) -> bool:
    """Is this text of benchmark_ait.py's or benchmark_pt.py's?"""
    return _RECOGNISED.search(source.data[:1_000_000]) is not None


def parse(source: Source, sidecar: Sidecar = NO_SIDECAR) -> ForeignResult:
    """Read all lines of results; a line that starts like one must be whole."""
    measurements = collect(source, _measurements(source, sidecar))
    if not measurements:
        raise source.failed("has no lines 'batch_size: …, seq_length: …, latency: …'")
    warnings = ["a mean over back-to-back launches: no percentile, no spread, and not a latency of one inference"]
    if sidecar.model is None or sidecar.head is None:
        warnings.append(
            "model and head are not known; the scripts' defaults are bert-base, layers: say so in a sidecar"
        )
    return ForeignResult(
        format=FORMAT,
        tool="AITemplate examples/03_bert",
        tool_version=None,
        sha256=source.sha256,
        measurements=measurements,
        warnings=tuple(warnings),
    )


def _measurements(source: Source, sidecar: Sidecar) -> Iterator[ForeignMeasurement]:
    for number, raw in enumerate(split_lines(source), 1):
        line = raw.strip()
        fail = source.failing(number, "latency")
        if (ait := _AIT.match(line)) is not None:
            shape, time, engine = (ait[1], ait[2]), values.to_ms(ait[3], "ms", fail), "ait"
        elif (pt := _PT.match(line) or _PT_PRINTED.match(line)) is not None:
            shape, time, engine = (pt[1], pt[2]), values.to_ms(pt[3], values.to_unit(pt[4], fail), fail), "torch"
        elif line.startswith(("batch_size:", "bert pt:", "bert encoders pt:")):
            raise source.failed("is cut off or damaged", line=number)
        else:
            continue
        batch = values.to_count(shape[0], source.failing(number, "batch_size"), least=1)
        seq = values.to_count(shape[1], source.failing(number, "seq_length"), least=1)
        yield _measurement(source, number, engine, batch, seq, time, sidecar)


def _measurement(
    source: Source, line: int, engine: str, batch: int, seq: int, mean_ms: float, sidecar: Sidecar
) -> ForeignMeasurement:
    graph = sidecar.condition("graph") if engine == "ait" else False
    point = ForeignPoint(
        backend=engine,
        variant="benchmark" if engine == "ait" else "eager",
        protocol=protocol_id("ait-bert", clock="events", window="100-launches", graph=graph, pct="none"),
        batch=batch,
        seq=seq,
        workload="padded",
    )
    return ForeignMeasurement(
        point=sidecar.complete(point, source),
        trust="mean",
        place=f"line {line}",
        device=ReportedSummary(mean_ms=mean_ms),
        throughput_seq_s=batch * 1e3 / mean_ms if mean_ms > 0 else None,
        throughput_isolated=False if mean_ms > 0 else None,
        flags=("mean-of-launches",),
    )
