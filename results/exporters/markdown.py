"""Markdown tables in the shape of the published ones: sequence length and batch size down, engines across.

One block for each model, weights, head, dtype, device, workload and protocol, because figures of different ones do not belong side by
side. Failures stand in their cells; a wrong answer's time is struck through; among several engines the best right one is bold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchrun.results.document import run_document
from benchrun.results.records import RunRecord
from benchrun.results.statistics import BOUND_SAMPLES

_CAPTIONS = ("Average (ms)", "95th Percentile (ms)", "99th Percentile (ms)", "Sequences/s")
_OF_CEILING, _ENERGY = "Of Ceiling (%)", "J/Sequence"  # columns that stand only where a block has such a figure
_TOO_SMALL = "†"
_NEEDED = {name: BOUND_SAMPLES[name] for name in ("p95", "p99")}  # samples of a launch, for the columns that there are
_UNKNOWN = "unknown"  # what an imported file could not say


@dataclass(frozen=True, slots=True)
class Cell:
    """What one engine did at one batch and length; `figures` are those of `_CAPTIONS`, None where there is none."""

    status: str
    figures: tuple[float | None, ...]
    unsure: tuple[bool, ...]  # too few samples for a bound of that figure
    extras: tuple[str, ...] = ()  # texts of the columns about the machine that the block has

    def texts(self, best: Sequence[bool]) -> list[str]:
        """The cells, `best` ones bold."""
        if self.status not in ("ok", "invalid"):
            return ["OOM" if self.status == "oom" else self.status] * (len(_CAPTIONS) + len(self.extras))
        texts = []
        for value, unsure, bold in zip(self.figures, self.unsure, best, strict=True):
            text = "" if value is None else figure(value) + _TOO_SMALL * unsure
            if text and self.status == "invalid":
                text = f"~~{text}~~"
            texts.append(f"**{text}**" if text and bold else text)
        return [*texts, *self.extras]


def export_markdown(record: RunRecord) -> str:
    """The tables of a run, with what did not go well listed below each."""
    document = run_document(record, "")
    run = record.run
    lines = [f"# {escape(run.label or run.id)}", ""]
    lines += [f"Run `{run.id}`, started {run.started:%Y-%m-%d %H:%M} UTC, {run.state}."]
    lines += [*_environment(document["run"]["environment"]), ""]
    blocks: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for point in document["points"]:
        blocks.setdefault(_block_of(point), []).append(point)
    for block, points in blocks.items():
        lines += [*_block(block, points), ""]
    return "\n".join(lines)


def _block_of(point: Mapping[str, Any]) -> tuple[str, ...]:
    model = (point["model"] or _UNKNOWN) + _settings(point["overrides"])
    names = ("head", "dtype", "device", "weights", "workload", "protocol")
    return (model, *(point[name] or _UNKNOWN for name in names))


def _engine_of(point: Mapping[str, Any], common: Mapping[str, Any]) -> str:
    own = {name: value for name, value in point["options"].items() if name not in common}
    return f"{point['backend']}:{point['variant']}{_settings(own)}"


def _common_options(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The options that all points of a block share: said once above it, not in each caption."""
    first, *others = (point["options"] for point in points)
    return {name: value for name, value in first.items() if all(each.get(name) == value for each in others)}


def _with_options(common: Mapping[str, Any]) -> str:
    return escape(f", options{_settings(common)}") if common else ""


def _settings(values: Mapping[str, Any]) -> str:
    return f" ({', '.join(f'{name}={value}' for name, value in sorted(values.items()))})" if values else ""


def _block(block: tuple[str, ...], points: Sequence[Mapping[str, Any]]) -> list[str]:
    model, head, dtype, device, weights, workload, protocol = (escape(part) for part in block)
    common = _common_options(points)
    engine_of = {point["key"]: _engine_of(point, common) for point in points}
    engines = list(dict.fromkeys(engine_of.values()))
    measured = [point for point in points if point["host_ms"] is not None or point["device_ms"] is not None]
    clock = "device_ms" if measured and all(point["device_ms"] is not None for point in measured) else "host_ms"
    extras = [
        name for name, field in ((_OF_CEILING, "ceiling_share"), (_ENERGY, "joules_per_seq")) if _has(points, field)
    ]
    cells = {(point["seq"], point["batch"], engine_of[point["key"]]): _cell(point, clock, extras) for point in points}
    lines = [f"## {model}, {head}, {dtype}, {device}", ""]
    lines += [f"Weights {weights}, workload {workload}, protocol {protocol}{_with_options(common)}."]
    lines += [f"Times of the {clock.removesuffix('_ms')} clock; {_n(measured)}."]
    isolated = dict.fromkeys(engine_of[point["key"]] for point in measured if point["throughput_isolated"])
    if isolated:
        which = escape(", ".join(isolated))
        lines += [
            f"Sequences/s of {which}: the rate of the isolated calls, since the device runs them one by one anyway."
        ]
    captions = [f"{escape(engine)} {caption}" for engine in engines for caption in (*_CAPTIONS, *extras)]
    lines += ["", _row(["Sequence Length", "Batch Size", *captions]), "|" + "---:|" * (2 + len(captions))]
    shapes = {(point["seq"], point["batch"]) for point in points}
    for seq, batch in sorted(shapes, key=lambda shape: (shape[0] or 0, shape[1] or 0)):
        across = [cells.get((seq, batch, engine)) for engine in engines]
        lines.append(_row([str(seq or ""), str(batch or ""), *_texts(across, len(extras))]))
    notes = []
    if any(any(cell.unsure) for cell in cells.values() if cell.status in ("ok", "invalid")):
        needed = f"95th: {_NEEDED['p95']}, 99th: {_NEEDED['p99']} are needed"
        notes += [f"{_TOO_SMALL} too few samples to bound this percentile ({needed})."]
    notes += [note for point in points for note in _notes(point, engine_of[point["key"]])]
    return [*lines, "", *(f"- {note}" for note in notes)] if notes else lines


def _has(points: Iterable[Mapping[str, Any]], field: str) -> bool:
    return any(point[field] is not None for point in points)


def _texts(across: Sequence[Cell | None], extras: int) -> list[str]:
    """The cells of one row; the best right figure of each kind is bold where several engines have it."""
    texts: list[str] = []
    for cell in across:
        if cell is None:
            texts += [""] * (len(_CAPTIONS) + extras)
            continue
        best = [cell.status == "ok" and _is_best(across, cell, kind) for kind in range(len(_CAPTIONS))]
        texts += cell.texts(best)
    return texts


def _is_best(across: Iterable[Cell | None], cell: Cell, kind: int) -> bool:
    values = [each.figures[kind] for each in across if each is not None and each.status == "ok"]
    there = [value for value in values if value is not None]
    best = max if _CAPTIONS[kind] == "Sequences/s" else min
    return len(there) > 1 and cell.figures[kind] == best(there)


def _cell(point: Mapping[str, Any], clock: str, extras: Sequence[str]) -> Cell:
    found = point[clock]
    share, joules = point["ceiling_share"], point["joules_per_seq"]
    shown = {
        _OF_CEILING: "" if share is None else f"{100 * share:.0f} ({point['ceiling']})",
        _ENERGY: "" if joules is None else figure(joules),
    }
    more = tuple(shown[name] for name in extras)
    if found is None:
        return Cell(point["status"], (None, None, None, point["throughput_seq_s"]), (False,) * 4, more)
    launches = max(1, len(found["launch_p50_ms"]))
    unsure = tuple(
        found["intervals"][name][1] is None and 0 < point["n"] < needed * launches for name, needed in _NEEDED.items()
    )
    figures = (found["mean"], found["p95"], found["p99"], point["throughput_seq_s"])
    return Cell(point["status"], figures, (False, *unsure, False), more)


def _n(measured: Sequence[Mapping[str, Any]]) -> str:
    if not measured:
        return "nothing measured"
    counts = sorted({point["n"] for point in measured})
    launches = sorted({point["launches"] for point in measured})
    return f"{_span(launches, 'launch', 'launches')}, {_span(counts, 'sample', 'samples')} a cell"


def _span(counts: Sequence[int], one: str, several: str) -> str:
    if counts[0] == counts[-1]:
        return f"{counts[0]} {one if counts[0] == 1 else several}"
    return f"{counts[0]} to {counts[-1]} {several}"


def _notes(point: Mapping[str, Any], engine: str) -> list[str]:
    where = escape(engine)
    where += f", batch {point['batch'] or _UNKNOWN}, sequence length {point['seq'] or _UNKNOWN}"
    notes = []
    if point["status"] != "ok":
        phase = f" ({point['phase']})" if point["phase"] else ""
        notes.append(f"{where}: {point['status']}{phase}" + (f": {escape(point['error'])}" if point["error"] else ""))
    if point["flags"]:
        notes.append(f"{where}: flagged {escape(', '.join(point['flags']))}")
    return notes


def _environment(environment: Mapping[str, Any]) -> list[str]:
    """The environment's plain entries; what is nested more than once stays in the JSON document."""
    lines = []
    for name, value in environment.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {each}" for key, each in value.items() if _is_scalar(each))
        elif isinstance(value, list):
            value = ", ".join(str(each) for each in value if _is_scalar(each))
        if value not in (None, ""):
            lines.append(f"- {escape(name)}: {escape(str(value))}")
    return ["", *lines] if lines else []


def _is_scalar(value: Any) -> bool:
    return value is not None and not isinstance(value, dict | list)


def figure(value: float) -> str:
    """Two decimals, as the published tables have them; below 1 three significant digits."""
    return f"{value:.2f}" if value >= 1 else f"{value:.3g}"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escape(text: str) -> str:
    """Text that Markdown and HTML show as it is, on one line."""
    line = " ".join(text.split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]~|#])", r"\\\1", line)
