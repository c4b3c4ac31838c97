"""Errors that end a command with one sentence and exit status 2."""

from __future__ import annotations


class UsageError(Exception):
    """What the user asked for cannot be done as asked: the message says what was wrong, what is allowed and what to try."""
