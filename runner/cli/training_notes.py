"""What the loss did over a run of training steps, for the lines under a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def training_notes(facts: Mapping[str, Any]) -> list[str]:
    """A remark on a measurement with these facts; none where it made no training steps."""
    loss = facts.get("loss")
    if not isinstance(loss, Mapping):
        return []
    skipped = facts.get("skipped_steps")
    told = f"loss {loss['held_before']:.3g} → {loss['held_after']:.3g} in {loss['steps']} steps"
    return [told + (f", {skipped} of them skipped by the loss scale" if skipped else "")]
