"""What a worker says to its parent while it measures: events, and how far a point is."""

from __future__ import annotations

import json
import os
import time
from typing import Any, TextIO

EXIT_ORPHANED = 3


class Channel:
    """Events to the parent, and its answers."""

    def __init__(self, events: TextIO, answers: TextIO) -> None:
        self._events = events
        self._answers = answers

    def send(self, event: str, **fields: Any) -> None:
        """Report and go on."""
        try:
            self._events.write(json.dumps({"event": event, **fields}) + "\n")
            self._events.flush()
        except BrokenPipeError:
            os._exit(EXIT_ORPHANED)

    def ask(self, event: str, **fields: Any) -> None:
        """Report and wait until the parent has dealt with it."""
        self.send(event, **fields)
        if not self._answers.readline():
            os._exit(EXIT_ORPHANED)


class Progress:
    """Tells the parent how far a point is, at most every `interval_s` seconds and only between samples."""

    def __init__(self, channel: Channel, ordinal: int, interval_s: float) -> None:
        self._channel = channel
        self._ordinal = ordinal
        self._interval_s = interval_s
        self._last = time.monotonic()
        self.phase = "build"

    def enter(self, phase: str) -> None:
        """A new phase begins."""
        self.phase = phase
        self._channel.ask("progress", ordinal=self._ordinal, phase=phase, n=0, last_ns=0)

    def tick(self, n: int, last_ns: int) -> None:
        """After each sample."""
        if self._interval_s and time.monotonic() - self._last >= self._interval_s:
            self._channel.ask("progress", ordinal=self._ordinal, phase=self.phase, n=n, last_ns=last_ns)
            self._last = time.monotonic()

    def done(self, found: dict[str, Any]) -> None:
        """The point is measured. Called before its session is closed: a crash in there is not the point's fault."""
        self._channel.ask("measured", ordinal=self._ordinal, found=found)
