"""`benchrun dashboard`: the pages in a browser, until Ctrl-C."""

from __future__ import annotations


def open_dashboard(db: str | None, port: int, host: str, *, browser: bool) -> int:
    """Serve the dashboard; exit 0 after Ctrl-C. Raises `DashboardError` or `StoreError` where it cannot start."""
    from benchrun.dashboard.launch import launch

    return launch(db, port, host, browser)
