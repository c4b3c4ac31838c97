"""Frames of launches: one row for one launch of one point, with what is needed to judge and to draw it.

Columns: those of the point (`POINT_COLUMNS`), of its run (`RUN_COLUMNS`), of the measurement (`MEASUREMENT_COLUMNS`) and
`threads`. Times end in `_ms`, rates in `_s`. A planned launch without a row has status NaN.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, cast

from benchrun.results.schema import CLOCKS, Environment, Measurement, Point, Run

if TYPE_CHECKING:
    import pandas as pd

    from benchrun.results.records import MeasurementRecord, RunRecord

POINT_COLUMNS = (
    *("model", "weights", "head", "backend", "variant", "device", "dtype", "batch", "seq", "workload", "protocol"),
    *("overrides", "options"),
)
RUN_COLUMNS = ("run_id", "run_label", "run_started", "run_state", "commit", "fingerprint", "environment_id")
CLOCK_COLUMNS = (
    *("n", "mean_ms", "min_ms", "max_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms"),
    *("p50_low_ms", "p50_high_ms", "p95_upper_ms", "p99_upper_ms", "steady", "drift", "autocorrelation"),
)
FIGURE_COLUMNS = (
    *("throughput_seq_s", "throughput_isolated", "tokens_s", "padding_fraction", "parity_ok", "parity_rel_l2"),
    *("settled", "timed_out", "build_s", "peak_device_bytes", "peak_host_bytes"),
)
MEASUREMENT_COLUMNS = (
    *("measurement_id", "replicate", "status", "phase", "error", "started", "parity_reason", "flags"),
    *(f"{clock}_{name}" for clock in CLOCKS for name in CLOCK_COLUMNS),
    *FIGURE_COLUMNS,
)
COLUMNS = ("point_key", *POINT_COLUMNS, *RUN_COLUMNS, *MEASUREMENT_COLUMNS, "threads")
_NUMBERS = (
    *(f"{clock}_{name}" for clock in CLOCKS for name in CLOCK_COLUMNS if name != "steady"),
    *("throughput_seq_s", "tokens_s", "padding_fraction", "parity_rel_l2", "build_s"),
    *("peak_device_bytes", "peak_host_bytes", "batch", "seq"),
)
_TEXT_OF_JSON = ("overrides", "options")  # as text: equal documents are equal values, which frames can group by


def point_select(*names: str) -> list[Any]:
    """The columns of a point, labelled as in the frames; all of them, or `names`."""
    return [
        (cast(getattr(Point, name), Text) if name in _TEXT_OF_JSON else getattr(Point, name)).label(name)
        for name in names or POINT_COLUMNS
    ]


def run_select() -> list[Any]:
    """The columns of a run and its environment."""
    return [
        Run.id.label("run_id"),
        Run.label.label("run_label"),
        Run.started.label("run_started"),
        Run.state.label("run_state"),
        Run.git_commit.label("commit"),
        Run.environment_id.label("environment_id"),
        Environment.fingerprint.label("fingerprint"),
    ]


def measurement_select() -> list[Any]:
    """The columns of a measurement; `settings` becomes `threads` in the frame."""
    names = [name for name in MEASUREMENT_COLUMNS if name != "measurement_id"]
    return [
        Measurement.id.label("measurement_id"),
        *(getattr(Measurement, name).label(name) for name in names),
        Measurement.settings.label("settings"),
    ]


def launches_frame(rows: Iterable[Mapping[Any, Any]]) -> pd.DataFrame:
    """A frame with `COLUMNS` from rows selected with the functions above; empty, but with all columns, without rows."""
    import pandas as pd

    frame = to_frame([dict(row) | {"threads": _threads(row)} for row in rows], COLUMNS)
    for name in _NUMBERS:
        frame[name] = pd.to_numeric(frame[name], errors="coerce").astype("float64")
    return frame


def record_frame(record: RunRecord) -> pd.DataFrame:
    """The launches frame of a run that was read whole: the same columns, in the order of the plan."""
    import json

    run = record.run
    of_run = {
        "run_id": run.id,
        "run_label": run.label,
        "run_started": run.started,
        "run_state": run.state,
        "commit": run.commit,
        "fingerprint": run.environment.fingerprint,
        "environment_id": None,
    }
    rows: list[dict[str, Any]] = []
    for planned in record.points:
        point = {name: getattr(planned.point, name) for name in POINT_COLUMNS}
        point |= {name: json.dumps(dict(point[name]), separators=(",", ":")) for name in _TEXT_OF_JSON}
        base = {"point_key": planned.point.key, **point, **of_run}
        rows += [base | _measured(each) for each in record.by_point[planned.point.key]] or [base]
    return launches_frame(rows)


def _measured(record: MeasurementRecord) -> dict[str, Any]:
    row = record.row
    found: dict[str, Any] = {"measurement_id": record.id, "settings": dict(row.settings), "flags": list(row.flags)}
    for clock, summary in (("host", row.host), ("device", row.device)):
        found |= {f"{clock}_{name}": getattr(summary, name, None) for name in CLOCK_COLUMNS}
    for name in ("ok", "rel_l2", "reason"):
        found[f"parity_{name}"] = getattr(row.parity, name, None)
    rest = [name for name in MEASUREMENT_COLUMNS if name not in found]
    return found | {name: getattr(row, name) for name in rest}


def to_frame(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """A frame with exactly these columns; text stays Python text, nothing becomes NaN text."""
    import pandas as pd

    return pd.DataFrame({name: pd.Series([row.get(name) for row in rows], dtype=_dtype(name)) for name in columns})


def rows_of(frame: pd.DataFrame) -> Iterable[Any]:
    """The rows of a frame, columns as attributes: what a column holds is not in pandas' types."""
    return frame.itertuples(index=False)


def _dtype(name: str) -> str | None:
    return "object" if name not in _NUMBERS else None


def _threads(row: Mapping[Any, Any]) -> int | None:
    settings = row.get("settings")
    found = settings.get("threads") if isinstance(settings, dict) else None
    return found if isinstance(found, int) else None
