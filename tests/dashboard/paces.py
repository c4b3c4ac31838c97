"""How long pages take, in rounds over all of them, so that a busy moment of the machine spreads over all.

A time is that of one whole run of the server's script, from the request to its last message, over the websocket that a browser uses. A
*first* load follows a change of the database, so that nothing the server read before is of use; *again* is another visitor's
load right after it; *change* is a filter changed by a visitor who has the page open.
"""

from __future__ import annotations

import random
import re
import sqlite3
import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from tests.dashboard.sessions import Visitor

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

Times = dict[str, list[float]]
FILTERS: list[dict[str, str]] = [
    {"seq": "128"}, {"seq": "384"}, {"figure": "p99"}, {"x": "seq", "batch": "8"},
    {"view": "throughput"}, {"view": "frontier", "limit": "20"}, {"view": "heat"}, {"view": "table"},
    {"engine": "torch:compile · fp16"}, {"band": "0"}, {"log": "0"}, {"dtype": "fp16"},
]  # fmt: skip
CHART = "svg.marks path[aria-roledescription=point]"
BROKEN = "[data-testid=stException], [data-testid=stAlertContentError]"


def page_path(name: str) -> str:
    """What the front end calls a page; the first one has no name."""
    return "" if name == "overview" else name


def warm_up(address: str, pages: Sequence[str]) -> float:
    """Seconds that a new server's first visitor waits: it imports the libraries then. All pages are opened once."""
    with Visitor(address) as visitor:
        first = visitor.run(page_path(pages[0]))
        for name in pages[1:]:
            visitor.run(page_path(name))
    return first


def change_database(db: Path) -> None:
    """A change that every page takes notice of, and that changes no figure: the last run ends now."""
    with closing(sqlite3.connect(db, timeout=10)) as connection, connection:
        connection.execute(
            "UPDATE runs SET finished = ? WHERE id = (SELECT id FROM runs ORDER BY started DESC LIMIT 1)",
            (f"2026-01-01 00:00:00.{random.randrange(10**6):06d}",),
        )


def pace(address: str, db: Path, pages: Sequence[str], rounds: int) -> Times:
    """Times of `pages`; filters are changed on the first two of them. An error on a page is an `AssertionError`."""
    times: Times = {}
    for _ in range(rounds):
        for name in pages:
            change_database(db)
            for kind in ("first", "again"):
                with Visitor(address) as visitor:
                    times.setdefault(f"{name}, {kind}", []).append(visitor.run(page_path(name)))
                    assert visitor.errors == [], (name, visitor.errors)
        for name in pages[:2]:
            with Visitor(address) as visitor:
                visitor.run(page_path(name))
                changes = [visitor.run(page_path(name), query) for query in FILTERS]
                times.setdefault(f"{name}, change", []).extend(changes)
                assert visitor.errors == [], (name, visitor.errors)
    return times


def crowd(
    address: str, visitors: int, rounds: int, pause_s: float, *, together: bool = False
) -> tuple[list[float], list[str]]:
    """Visitors who each change a filter of Explore every `pause_s` seconds, evenly spread over time or all `together`.

    Returns all times of these changes, and all errors.
    """
    times: list[float] = []
    errors: list[str] = []

    def visit(number: int) -> None:
        try:
            with Visitor(address) as visitor:
                visitor.run("explore")
                time.sleep(0 if together else pause_s * number / visitors)
                for turn in range(rounds):
                    started = time.monotonic()
                    times.append(visitor.run("explore", FILTERS[(number + turn) % len(FILTERS)]))
                    time.sleep(max(0.0, pause_s - (time.monotonic() - started)))
                errors.extend(visitor.errors)
        except Exception as error:  # a thread's error must reach the test
            errors.append(repr(error))

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(visitors)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times, errors


def first_charts(opened: Browser, address: str, db: Path, rounds: int) -> list[float]:
    """Seconds from the navigation of a browser without any cache to Explore's first chart, after a change of the database."""
    times = []
    for _ in range(rounds):
        context = opened.new_context(viewport={"width": 1280, "height": 900})
        change_database(db)
        page = context.new_page()
        started = time.monotonic()
        page.goto(f"{address}/explore", wait_until="commit")
        page.wait_for_selector(CHART, timeout=60_000)
        times.append(time.monotonic() - started)
        context.close()
    return times


def watch_one(page: Page, address: str, changes: int, pause_s: float) -> list[str]:
    """A visitor with a browser among the others: opens Explore, changes the sequence length again and again. What went wrong."""
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if _is_error(message) else None)
    page.goto(f"{address}/explore")
    page.wait_for_selector(CHART, timeout=60_000)
    box = page.get_by_role("combobox", name="Sequence length", exact=True)
    for turn in range(changes):
        started = time.monotonic()
        label = ("128", "256", "64", "384", "32")[turn % 5]
        box.click()
        page.get_by_role("option", name=label, exact=True).click()
        page.wait_for_url(f"**seq={label}*")
        page.wait_for_selector(CHART)
        wrong += page.locator(BROKEN).all_inner_texts()
        page.wait_for_timeout(max(0.0, 1000 * (pause_s - (time.monotonic() - started))))
    return wrong


def _is_error(message: ConsoleMessage) -> bool:
    """On a deep link Streamlit's front end looks for its server below the page's path first: answers "404" that are no defects."""
    probe = re.search(r"/_stcore/(health|host-config)$", str(message.location.get("url", "")))
    return message.type == "error" and probe is None


def ten_sessions(opened: Browser, address: str, *, together: bool = False) -> list[float]:
    """Nine websocket clients and a browser, each with a change every 5 s for a minute: the nine's times."""
    found: list[tuple[list[float], list[str]]] = []
    thread = threading.Thread(target=lambda: found.append(crowd(address, 9, 12, 5.0, together=together)))
    page = opened.new_page(viewport={"width": 1280, "height": 900})
    thread.start()
    wrong = watch_one(page, address, 12, 5.0)
    thread.join()
    page.close()
    ((times, errors),) = found
    assert not wrong and not errors, (wrong, errors)
    return times


def describe(times: Mapping[str, Sequence[float]]) -> str:
    """One line for each kind: median, p95, largest, number of runs."""
    lines = []
    for name, values in times.items():
        told = f"median {statistics.median(values):.3f} s, p95 {p95(values):.3f} s, largest {max(values):.3f} s, n = {len(values)}"
        lines.append(f"{name}: {told}")
    return "\n".join(lines)


def p95(values: Sequence[float]) -> float:
    """The smallest value that 95 % of the values do not exceed."""
    ordered = sorted(values)
    return ordered[-(-95 * len(ordered) // 100) - 1]
