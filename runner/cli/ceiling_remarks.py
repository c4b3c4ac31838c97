"""What a reader must know of the ceilings that a run's shares are of: that there are none, or how they were measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.text import Text

from benchrun.results.roofline import ARITHMETIC, fitting_ceilings, spoilt, threads_of

if TYPE_CHECKING:
    from benchrun.results.records import RunRecord

MEASURABLE = ("fp32", "tf32", "fp16", "bf16")  # dtypes that 'benchrun ceilings' has products for


def ceiling_remarks(record: RunRecord) -> Iterator[Text]:
    """One line where ceilings are missing, were measured under a spoiling flag, or with another PyTorch than the run's; else none."""
    missing: dict[str, None] = {}
    spoiling: dict[str, None] = {}
    others: dict[str, None] = {}
    own = record.run.environment.details.get("libraries", {}).get("torch")
    for planned in record.points:
        point = planned.point
        if ARITHMETIC.get(point.dtype or "", point.dtype) not in MEASURABLE:
            continue
        for each in record.by_point[point.key]:
            if each.row.flops is None or each.row.status not in ("ok", "invalid"):
                continue
            used = fitting_ceilings(record.ceilings, point, each.row.started)
            if not {"matmul", "copy"} <= set(used):
                threads = threads_of(point)
                missing[f"--device {point.device}" + (f" --threads {threads}" if threads else "")] = None
            spoiling |= dict.fromkeys(flag for row in used.values() if (flag := spoilt(row)))
            versions = (row.conditions.get("software", {}).get("torch") for row in used.values())
            others |= dict.fromkeys(version for version in versions if own and version and version != own)
    said = []
    if missing:
        said.append(
            f"no share of the ceilings without them: measure them on that machine with 'benchrun ceilings {next(iter(missing))}'"
        )
    if spoiling:
        said.append(
            f"ceilings were measured under {', '.join(spoiling)}, so shares may be too high: 'benchrun ceilings --again'"
        )
    if others:
        said.append(f"ceilings were measured with torch {', '.join(others)}, this run with {own}")
    if said:
        yield Text("  " + "; ".join(said), style="dim")
