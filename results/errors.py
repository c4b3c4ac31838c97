"""What can go wrong with results, as one sentence for the user.

Exceptions::

    ResultsError
    ├── StoreError         the database cannot be used; names it, never a password
    │   └── NoDatabase     there is nothing there yet (only where it was opened for reading)
    └── ExportError        the format is unknown, or its library is not installed
"""

from __future__ import annotations


class ResultsError(Exception):
    """Something a user can mend."""


class StoreError(ResultsError):
    """The database cannot be used, or does not hold what was asked for."""


class NoDatabase(StoreError):
    """There is no database yet."""


class ExportError(ResultsError):
    """A run cannot be written in the format that was asked for."""
