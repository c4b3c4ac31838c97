"""The measurement protocol: how a number is made. See docs/measuring.md.

What changes the *quantity* is in the protocol id; what only changes how well it is known (iterations, warm-up, time limits) is
stored beside the measurement.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from benchrun.runner.telemetry.judgement import LIMITS

VERSION = 1
MIN_SAMPLES = 10
WARMUP_WINDOW = 20  # samples in a settling window …
WARMUP_WINDOW_S = 2.0  # … or seconds, whichever is reached first
WARMUP_EXTRA_S = {"cpu": 10.0, "gpu": 5.0}  # most seconds of warm-up beyond the asked iterations
SETTLED_SHARE = 0.01
THROUGHPUT_WINDOW_S = 0.5
THROUGHPUT_BATCHES = 10
INPUT_SETS = 4
LOADGEN = "loadgen"  # definition of percentiles: LoadGen's own, the order statistic at n · p rounded down


@dataclass(frozen=True, slots=True)
class Protocol:
    """Settings of one measurement. Seconds and milliseconds as named."""

    iterations: int = 200
    warmup: int = 10
    max_time_s: float = 20.0
    transfers: str = "exclude"
    cold_cache: bool = False
    percentiles: str = "linear"
    input_seed: int = 0
    energy: bool = True  # joules of the throughput window, which is then as long as the counter's step asks for
    repeats: int = LIMITS.repeats  # how often a point is measured again that the machine's state spoilt

    @property
    def id(self) -> str:
        """Two measurements with different ids are never compared without saying so."""
        if self.percentiles == LOADGEN:  # its clock is LoadGen's, and what it times holds the copies to the device
            return (
                f"v{VERSION};clock=loadgen;transfers=include;inputs=library/seed{self.input_seed};percentiles={LOADGEN}"
            )
        cache = "cold" if self.cold_cache else "warm"
        return (
            f"v{VERSION};sync=iteration;streams=1;transfers={self.transfers};cache={cache};"
            f"inputs=uniform/{INPUT_SETS}/seed{self.input_seed};percentiles={self.percentiles}"
        )

    def settings(self) -> dict[str, Any]:
        """All settings as plain JSON values."""
        return asdict(self)
