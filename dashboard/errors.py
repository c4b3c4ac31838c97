"""What can go wrong before a page is shown, as one sentence for the user.

ResultsError
└── DashboardError     the dashboard cannot start here
"""

from __future__ import annotations

from benchrun.results.errors import ResultsError


class DashboardError(ResultsError):
    """The dashboard cannot start."""
