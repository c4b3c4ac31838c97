"""Accepted slowdowns: the FAIL stays visible and stored, and no longer makes the run fail."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchrun.runner.errors import UsageError


@dataclass(frozen=True, slots=True)
class Acceptance:
    """`point` is a key or a label. `expiry` names what ends it (a commit, a date); whether that has come, `expired`,
    is for the caller to find out.
    """

    point: str
    reason: str
    expiry: str = ""
    expired: bool = False

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise UsageError(
                f"accepting {self.point!r} needs a reason: say in one sentence why the slowdown is intended"
            )


def find_acceptance(key: str, label: str, acceptances: Iterable[Acceptance]) -> tuple[str, tuple[str, ...]]:
    """The reason why a point's FAIL is accepted, empty where it is not, and notes on acceptances that have expired."""
    reason, notes = "", []
    for each in acceptances:
        if each.point not in (key, label):
            continue
        if each.expired:
            notes.append(f"an acceptance has expired ({each.expiry}): {each.reason}")
        else:
            reason = reason or each.reason
    return reason, tuple(notes)


def find_strangers(names: Iterable[tuple[str, str]], acceptances: Sequence[Acceptance]) -> tuple[str, ...]:
    """Warnings on acceptances that name no point of the plan; `names` are (key, label) pairs."""
    known = {name for pair in names for name in pair}
    return tuple(
        f"an acceptance names {each.point!r}, which is no point of this gate"
        for each in acceptances
        if each.point not in known
    )
