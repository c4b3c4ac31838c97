"""MLPerf's accuracy targets: a score has to reach 99 %, or 99.9 %, of what the same weights reach in fp32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchrun.results.rows import Score

PERCENTS = (99.0, 99.9)
# the metric that decides; the other one of a task is shown beside it
DECISIVE = {"squad": "f1", "retrieval": "mrr"}
SLACK = 1e-9  # of rounding, in percent


@dataclass(frozen=True, slots=True)
class Standing:
    """A score beside its fp32 reference."""

    score: Score
    reference: float

    @property
    def percent(self) -> float:
        """The score in percent of its reference; 0 where that is 0."""
        return 100.0 * self.score.value / self.reference if self.reference > 0 else 0.0

    def passes(self, percent: float) -> bool:
        """Whether the score reaches so much of its reference. A reference of 0 proves nothing, so nothing reaches it."""
        return self.reference > 0 and self.percent >= percent - SLACK


def find_standing(scores: Sequence[Score]) -> Standing | None:
    """The decisive score with its reference; None where there is none."""
    for each in scores:
        if DECISIVE.get(each.task) == each.metric and each.reference is not None:
            return Standing(each, each.reference)
    return None
