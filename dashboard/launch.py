"""Starting the dashboard's server: a child process that listens on this machine only, unless told otherwise, and sends nothing home."""

from __future__ import annotations

import errno
import importlib.util
import ipaddress
import os
import socket
import subprocess
import sys
from pathlib import Path

from benchrun.dashboard.errors import DashboardError

DATABASE = "BENCHRUN_DB"  # names the database to the child: an argument would show in `ps`, password included
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def launch(db: str | None, port: int = 8501, host: str = "127.0.0.1", browser: bool = True) -> int:
    """Run the dashboard on a database (a file, a URL, None for the default one) until Ctrl-C; returns the exit status.

    Raises `DashboardError` where it cannot start and `StoreError` where `db` cannot be meant. A database that does not
    exist (yet) is no error: the pages say so and look again.
    """
    from benchrun.results.target import locate

    _check_installed()
    locate(db)
    _check_address(host, port)
    environment = dict(os.environ)
    if db is not None:
        environment[DATABASE] = db
    if not _is_loopback(host):
        print(
            f"everybody who reaches {host}:{port} can read this database; --host 127.0.0.1 keeps it to this machine",
            file=sys.stderr,
        )
    print(f"dashboard at {address_of(host, port)} in a moment; Ctrl-C ends it", flush=True)
    child = subprocess.Popen(command(port, host, browser), env=environment)
    try:
        return child.wait()
    except KeyboardInterrupt:
        return _end(child)


def address_of(host: str, port: int) -> str:
    """What to type into a browser: an address that stands for all of them is none to go to."""
    name = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://{f'[{name}]' if ':' in name else name}:{port}"


def command(port: int, host: str, browser: bool) -> list[str]:
    """The server's command line."""
    from benchrun.dashboard.style import theme_options

    script = Path(__file__).parent / "start" / "app.py"
    options = {
        "server.port": str(port),
        "server.address": host,
        "server.headless": str(not browser).lower(),
        "server.fileWatcherType": "none",
        "server.runOnSave": "false",
        "server.showEmailPrompt": "false",
        "browser.gatherUsageStats": "false",
        "browser.serverAddress": host,
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "client.showErrorLinks": "false",
        "runner.magicEnabled": "false",
        "logger.hideWelcomeMessage": "true",
        "logger.level": "warning",
        **theme_options(),
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    if _is_loopback(host):  # a web site that points its own name at this machine gets no answer
        flags += [f"--server.allowedHosts={name}" for name in LOOPBACK]
    return [sys.executable, "-P", "-m", "benchrun.dashboard.start", "run", str(script), *flags]


def _check_installed() -> None:
    missing = [name for name in ("streamlit", "altair", "pandas") if importlib.util.find_spec(name) is None]
    if missing:
        raise DashboardError(f"the dashboard needs {', '.join(missing)}: pip install 'benchrun-inference[dashboard]'")


def _check_address(host: str, port: int) -> None:
    if not 0 < port < 65536:
        raise DashboardError(f"--port is a number from 1 to 65535, not {port}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise DashboardError(f"--host {host} is no address of this machine; 127.0.0.1 is the usual one") from None
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            reason = (
                "is in use (another dashboard?)"
                if error.errno == errno.EADDRINUSE
                else f"cannot be used: {error.strerror}"
            )
            raise DashboardError(f"port {port} of {host} {reason}; give another one with --port") from None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _end(child: subprocess.Popen[bytes]) -> int:
    """After Ctrl-C, which the child got too: give it a moment, then insist."""
    child.terminate()
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    return 0
