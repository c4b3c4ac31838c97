"""Starting the server: its options, and what refuses to start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchrun.dashboard import launch as starting
from benchrun.dashboard.errors import DashboardError
from benchrun.dashboard.launch import command, launch
from benchrun.results.errors import StoreError
from tests.dashboard.conftest import Databases
from tests.dashboard.serving import command as started
from tests.dashboard.serving import free_port, server


def options(host: str = "127.0.0.1") -> list[str]:
    return command(8600, host, False)[4:]


def test_the_server_listens_here_and_sends_nothing_home() -> None:
    found = options()
    for wanted in (
        *(
            "--server.address=127.0.0.1",
            "--server.port=8600",
            "--browser.gatherUsageStats=false",
            "--server.headless=true",
        ),
        *("--client.showErrorDetails=none", "--runner.magicEnabled=false", "--server.allowedHosts=localhost"),
    ):
        assert wanted in found
    assert not any("allowedHosts" in each for each in options("0.0.0.0"))
    assert not any("allowedHosts" in each for each in options("example.invalid"))


def test_no_part_of_the_command_names_the_database() -> None:
    assert not any("postgres" in each or ".db" in each for each in command(8600, "127.0.0.1", True))


def test_a_used_port_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            DashboardError,
            match=rf"^port {port} of 127.0.0.1 is in use \(another dashboard\?\); give another one with --port$",
        ):
            launch(None, port, "127.0.0.1", False)


@pytest.mark.parametrize(
    ("host", "port", "words"),
    [
        ("127.0.0.1", 0, "--port is a number"),
        ("127.0.0.1", 70000, "--port is a number"),
        ("no.such.host.invalid", 8600, "no address of this machine"),
        ("192.0.2.1", 8600, "cannot be used"),
    ],
)
def test_odd_addresses_are_one_sentence(host: str, port: int, words: str) -> None:
    with pytest.raises(DashboardError, match=words):
        launch(None, port, host, False)


def test_odd_databases_are_one_sentence() -> None:
    with pytest.raises(StoreError, match="not supported"):
        launch("mysql://user:secret@host/name", free_port(), "127.0.0.1", False)


def test_missing_libraries_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        DashboardError, match=r"needs streamlit, altair, pandas: pip install 'benchrun-inference\[dashboard\]'"
    ):
        launch(None, free_port(), "127.0.0.1", False)


def test_another_host_name_gets_no_data(databases: Databases, tmp_path: Path) -> None:
    """A web site whose name points at this machine may load the empty frame, but all data comes through the socket."""
    with server(databases("one"), tmp_path / "log") as address:
        assert (tmp_path / "log").read_text() == f"dashboard at {address} in a moment; Ctrl-C ends it\n"
        port = int(address.rpartition(":")[2])
        for name, answer in (("attacker.invalid", "403"), ("localhost", "101")):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
                line.sendall(
                    f"GET /_stcore/stream HTTP/1.1\r\nHost: {name}:{port}\r\nOrigin: http://{name}:{port}\r\nUpgrade: websocket\r\n"
                    "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
                )
                assert line.recv(4096).decode("latin-1").split()[1] == answer, name


@pytest.mark.parametrize("ending", [signal.SIGINT])
def test_ctrl_c_ends_the_server_too(ending: signal.Signals, databases: Databases) -> None:
    port = free_port()
    process = subprocess.Popen(
        started(databases("one"), port),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    os.killpg(process.pid, ending)
    assert process.wait(30) == 0
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_public_address_is_said(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(
        starting, "command", lambda *_: [sys.executable, "-c", "import os; print(os.environ['BENCHRUN_DB'])"]
    )
    assert launch("some.db", free_port(), "0.0.0.0", False) == 0
    said = capfd.readouterr()
    assert "everybody who reaches 0.0.0.0" in said.err and said.out.endswith("; Ctrl-C ends it\nsome.db\n")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:8600"),
        ("::1", "http://[::1]:8600"),
        ("0.0.0.0", f"http://{socket.gethostname()}:8600"),
    ],
)
def test_the_address_can_be_gone_to(host: str, address: str) -> None:
    assert starting.address_of(host, 8600) == address
