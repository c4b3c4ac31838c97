"""Pages on databases of every place: PostgreSQL too, where the tests have one, and a folder that cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchrun.dashboard.application import PAGES
from benchrun.results.store import open_store
from tests.dashboard.conftest import Databases
from tests.dashboard.stores import BUILDS
from tests.dashboard.test_dashboard_pages import charts, open_page, said
from tests.results.conftest import location  # noqa: F401 - a fixture

LOOK = """
import ctypes, os, struct, sys
if os.getuid() == 0:  # root may write everywhere until it gives its capabilities away
    header, nothing = struct.pack("Ii", 0x20080522, 0), bytes(24)
    assert ctypes.CDLL(None, use_errno=True).capset(header, nothing) == 0, os.strerror(ctypes.get_errno())
assert not os.access(os.path.dirname(sys.argv[1]), os.W_OK)
import pytest
from tests.dashboard.test_dashboard_pages import charts, open_page
with pytest.MonkeyPatch.context() as patch:
    page = open_page("explore", sys.argv[1], patch, model="tiny", head="encoder", workload="padded")
    assert not page.exception and charts(page) == 1, [each.value for each in page.error]
"""


def test_every_page_reads_every_kind_of_database(location: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    with open_store(location) as store:
        BUILDS["several"](store)
    for page in PAGES:
        test = open_page(page, location, monkeypatch)
        assert not test.exception and not test.error, page
        assert charts(test) or page in ("overview", "machine", "accuracy"), page  # nothing in it was scored
        assert "password" not in said(test)
    views = {"explore": ("frontier", "heat", "table"), "compare": ("engines", "machines")}
    for page, names in views.items():
        for name in names:
            test = open_page(page, location, monkeypatch, **{"view" if page == "explore" else "mode": name})
            assert not test.exception and not test.error, (page, name)


def test_a_database_in_a_folder_that_cannot_be_written_is_read(databases: Databases, tmp_path: Path) -> None:
    """SQLite could not open its log there: the page is made from a copy."""
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "several.db"
    path.write_bytes(databases("several").read_bytes())
    folder.chmod(0o555)
    root = Path(__file__).parents[2]
    try:
        ended = subprocess.run(
            [sys.executable, "-c", LOOK, str(path)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ended.returncode == 0, ended.stderr[-2000:]
        assert [each.name for each in folder.iterdir()] == ["several.db"]
    finally:
        folder.chmod(0o755)


def test_recorded_bytes_are_read_in_binary_units_and_in_full_where_they_would_read_alike() -> None:
    from benchrun.dashboard.pages.machine import detail_texts

    assert detail_texts("memory_bytes", "8589934592", "17179869184") == ("8.0 GiB", "16.0 GiB")
    assert detail_texts("memory_bytes", "8589934592", "8589934593") == ("8589934592", "8589934593")
    assert detail_texts("gpu.driver", "575.1", None) == ("575.1", "–")
    long = ["x" * 60 + end + "y" * 60 for end in "ab"]
    assert detail_texts("path", *long, 24) == tuple(long)
