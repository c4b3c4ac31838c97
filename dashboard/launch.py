"""Starting the dashboard's server."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path


def launch(db: str | None, port: int, host: str, browser: bool) -> int:
    """Run the dashboard on a database until Ctrl-C; returns the server's exit status."""
    environment = dict(os.environ)
    if db is not None:
        environment["BENCHRUN_DB"] = db
    return subprocess.call(command(port, host, browser), env=environment)


def command(port: int, host: str, browser: bool) -> list[str]:
    """The server's command line."""
    from benchrun.dashboard.style import theme_options

    script = Path(__file__).parent / "start" / "app.py"
    options = {
        "server.port": str(port),
        "server.address": host,
        "server.headless": str(not browser).lower(),
        "server.fileWatcherType": "none",
        "server.showEmailPrompt": "false",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        **theme_options(),
    }
    return [sys.executable, "-m", "streamlit", "run", str(script), *(f"--{name}={value}" for name, value in options.items())]
