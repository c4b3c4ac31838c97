"""The command that measures ours for a published table. Pure text; a test sends each through the command line's own parser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchrun.results.published import PublishedRow, PublishedTable

OWN = "benchrun_"  # how the names of our own published tables begin
NOT_OURS = ("bert-large-pruned",)  # models of published tables whose weights or shape their vendor did not give away
_SCENARIOS = {
    "Offline": "offline", "Server": "server", "SingleStream": "single-stream", "MultiStream": "multi-stream",
}  # fmt: skip
_ENGINES = {"int8": "ort", "fp8": "trt"}  # PyTorch runs neither
_MOST_BATCHES = 6
_LENGTHS = "lengths:"


def command_for(table: PublishedTable, rows: Sequence[PublishedRow]) -> str | None:
    """What to measure to lay ours beside rows of one model, dtype and length of a table; None where benchrun has no such model."""
    if not rows or rows[0].model in NOT_OURS:
        return None
    first = rows[0]
    scenario = _SCENARIOS.get(first.scenario or "")
    kind = "train " if first.scenario == "training" else f"loadgen --scenario {scenario} " if scenario else ""
    head = next((row.head for row in rows if row.head), "encoder")
    seq = next((row.seq for row in rows if row.seq), 128)
    about = f"--backend {_ENGINES.get(first.dtype, 'torch')} --model {first.model} --head {head} --dtype {first.dtype}"
    # LoadGen's scenarios say themselves how many samples a call may hold
    batches = ",".join(map(str, sorted({row.batch for row in rows if row.batch})[:_MOST_BATCHES])) or "1"
    sizes = f" --seq {seq}" if scenario else f" --batch {batches} --seq {seq}"
    device = " --device cuda" if first.dtype == "tf32" else ""  # it exists nowhere else
    return f"benchrun {kind}{about}{sizes}{device}{_lengths(table, loadgen=scenario is not None)}"


def _lengths(table: PublishedTable, *, loadgen: bool) -> str:
    """The mix of lengths of one of our own tables; those of others name a file that a reader need not have."""
    mix = table.protocol.workload or ""
    if not (mix.startswith(_LENGTHS) and table.name.startswith(OWN)):
        return ""
    return f" {f'--lengths {mix.removeprefix(_LENGTHS)}' if loadgen else f'--workload {mix}'} --layout padded,packed"
