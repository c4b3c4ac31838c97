"""Turning an exception into the one line that a user sees."""

from __future__ import annotations


def complaint(error: Exception) -> str:
    """One sentence for errors that a user can mend; for anything else its type and a hint at --debug."""
    from benchrun.backends.contract import BackendError
    from benchrun.results.errors import ResultsError
    from benchrun.runner.errors import UsageError

    text = " ".join(str(error).split())
    if isinstance(error, UsageError | ResultsError | BackendError):
        return text
    return f"unexpected {type(error).__name__}: {text} (run again with --debug for the traceback, and please report it)"
