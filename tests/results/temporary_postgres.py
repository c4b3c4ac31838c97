"""Runs a command with a PostgreSQL server of its own, whose database BENCHRUN_TEST_POSTGRES names; both end together.

    python tests/results/temporary_postgres.py python -m pytest tests/results

Needs PostgreSQL's own programs (Debian: the package `postgresql`). As root, the server runs as the user `postgres`, since it
refuses to run as root.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def find_programs() -> Path:
    """The folder of `initdb` and `pg_ctl`: on the PATH, or where Debian puts the newest version."""
    on_path = shutil.which("initdb")
    found = [Path(on_path)] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        sys.exit("PostgreSQL is not installed here: no initdb on the PATH nor under /usr/lib/postgresql")
    return found[-1].parent


@contextmanager
def serving() -> Iterator[str]:
    """The URL of the database of a new server, until the block ends."""
    programs, user = find_programs(), "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="benchrun-postgres-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        password = secrets.token_hex(8)
        (folder / "password").write_text(password)
        if user is not None:
            shutil.chown(folder, user)
            shutil.chown(folder / "password", user)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        data, log = folder / "data", folder / "log"

        def call(program: str, *arguments: object) -> None:
            command = [str(programs / program), *map(str, arguments)]
            subprocess.run(command, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)

        call(
            "initdb",
            "-D",
            data,
            "-U",
            "benchrun",
            "-A",
            "scram-sha-256",
            f"--pwfile={folder / 'password'}",
            "--no-sync",
        )
        call(
            "pg_ctl", "-D", data, "-l", log, "-w", "-o", f"-p {port} -k {folder} -c listen_addresses=127.0.0.1", "start"
        )
        try:
            yield f"postgresql://benchrun:{password}@127.0.0.1:{port}/postgres"
        finally:
            call("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


def main() -> int:
    """Run the command given on the command line; its exit status."""
    with serving() as url:
        return subprocess.run(sys.argv[1:], env=os.environ | {"BENCHRUN_TEST_POSTGRES": url}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
