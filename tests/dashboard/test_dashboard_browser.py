"""End to end: the server started as a user does, looked at in a real headless Chromium.

BENCHRUN_SCREENSHOTS names a folder that gets a picture of each page. Skipped where Debian's Chromium or Playwright is missing, unless
BENCHRUN_NEED_CHROMIUM is set (.ci/run sets it): then it fails.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from benchrun.dashboard.application import PAGES
from benchrun.dashboard.formats import token
from benchrun.dashboard.pages.explore import VIEWS
from tests.dashboard.conftest import Databases
from tests.dashboard.serving import CHROMIUM, browser, server
from tests.dashboard.stores import HOSTILE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

MISSING = [
    name
    for name, there in (
        ("Debian's chromium", CHROMIUM.exists()),
        ("playwright", importlib.util.find_spec("playwright") is not None),
    )
    if not there
]
pytestmark = pytest.mark.skipif(
    bool(MISSING) and "BENCHRUN_NEED_CHROMIUM" not in os.environ, reason=f"not installed: {', '.join(MISSING)}"
)
IDLE = "[data-testid=stApp][data-test-script-state=notRunning]"
# On a deep link Streamlit's own front end first looks for its server below the page's path: three answers "404" that are no defects.
PROBE = re.compile(r"/\w+/_stcore/(health|host-config)$")


@dataclass
class Visit:
    """A page with everything that went wrong on it."""

    page: Page
    address: str
    problems: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        self.page.goto(f"{self.address}/{path}")
        self.settle()

    def settle(self) -> None:
        self.page.wait_for_selector("h1", timeout=30_000)
        self.page.wait_for_timeout(250)
        self.page.wait_for_selector(IDLE, timeout=30_000)
        self.page.wait_for_timeout(250)

    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.page.url).query)

    def choose(self, label: str, option: str) -> None:
        self.page.get_by_role("combobox", name=label, exact=True).click()
        self.page.get_by_role("option", name=option, exact=True).click()
        self.settle()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def addresses(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """The address of a server on a database; each is started once."""
    from contextlib import ExitStack

    folder = tmp_path_factory.mktemp("servers")
    found: dict[str, str] = {}
    with ExitStack() as stack:

        def start(name: str) -> str:
            if name not in found:
                found[name] = stack.enter_context(server(databases(name), folder / f"{name}.log"))
            return found[name]

        yield start


@pytest.fixture
def visit(chromium: Browser, addresses: Callable[[str], str]) -> Iterator[Callable[..., Visit]]:
    """Opens a browser window on a database's dashboard; at the end nothing may have gone wrong in any of them."""
    visits: list[tuple[BrowserContext, Visit]] = []

    def start(name: str = "several", **options: Any) -> Visit:
        context = chromium.new_context(
            **({"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"} | options)
        )
        page = context.new_page()
        found = Visit(page, addresses(name))
        page.on(
            "console",
            lambda message: (
                found.problems.append(f"console: {message.text}")
                if message.type in ("error", "warning") and not PROBE.search(message.location.get("url", ""))
                else None
            ),
        )
        page.on("pageerror", lambda error: found.problems.append(f"script: {error}"))
        page.on("dialog", lambda dialog: found.problems.append(f"dialog: {dialog.message}"))
        page.on(
            "request",
            lambda request: (
                found.problems.append(f"network: {request.url}")
                if not request.url.startswith((found.address, found.address.replace("http", "ws"), "data:", "blob:"))
                else None
            ),
        )
        visits.append((context, found))
        return found

    yield start
    problems = [problem for _, each in visits for problem in each.problems]
    for context, _ in visits:
        context.close()
    assert problems == []


def picture(page: Page, name: str) -> None:
    """Keep a picture of the whole page where BENCHRUN_SCREENSHOTS asks for one."""
    folder = os.environ.get("BENCHRUN_SCREENSHOTS")
    if folder is None:
        return
    size = page.viewport_size or {"width": 1280, "height": 900}
    height = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    page.set_viewport_size({"width": size["width"], "height": min(int(height) + 20, 5000)})
    page.wait_for_timeout(500)
    Path(folder).mkdir(parents=True, exist_ok=True)
    page.screenshot(path=Path(folder) / f"{name}.png")
    page.set_viewport_size(size)


def widths(page: Page) -> tuple[int, int]:
    """What the page needs and what it has."""
    found: list[int] = page.evaluate(
        "(() => { const m = document.querySelector('[data-testid=stMain]'); return [m.scrollWidth, m.clientWidth]; })()"
    )
    return found[0], found[1]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_click_through_every_page(scheme: str, visit: Callable[..., Visit]) -> None:
    """Nothing fails, nothing is wider than the page, and the computed colours of all text against the nearest background have WCAG 2.2's
    4.5:1 (large text 3:1)."""
    contrast = (Path(__file__).parent / "contrast.js").read_text()
    seen = visit(color_scheme=scheme)
    seen.open("")
    for name, (title, _, _) in PAGES.items():
        seen.page.get_by_role("link", name=title, exact=True).first.click()
        seen.page.wait_for_selector(f"h1:has-text('{title}')", timeout=30_000)
        seen.settle()
        assert seen.page.locator("[data-testid=stException], [data-testid=stAlertContentError]").count() == 0
        needed, there = widths(seen.page)
        assert needed <= there, name
        assert seen.page.evaluate(contrast) == [], name
        picture(seen.page, f"{name}-{scheme}")


def test_filters_deep_links_and_download(visit: Callable[..., Visit], tmp_path: Path) -> None:
    seen = visit()
    seen.open("explore?model=tiny&head=encoder&workload=padded")
    seen.choose("Sequence length", "128")
    seen.choose("Figure", "p99")
    query = seen.query()
    assert query["seq"] == ["128"] and query["figure"] == ["p99"] and query["band"] == ["1"]
    assert seen.page.locator("svg.marks").first.get_by_text("latency p99, ms").count() == 1
    link = seen.page.url
    other = visit()
    other.page.goto(link)
    other.settle()
    assert other.query() == query
    assert [other.page.locator("svg.marks").inner_html()] == [seen.page.locator("svg.marks").inner_html()]
    with other.page.expect_download() as waiting:
        other.page.get_by_role("button", name="Data as CSV").click()
    waiting.value.save_as(tmp_path / "data.csv")
    lines = (tmp_path / "data.csv").read_text(encoding="utf-8").splitlines()
    assert (
        waiting.value.suggested_filename == "benchrun-explore.csv"
        and lines[0].startswith("point_key,model,")
        and len(lines) == 25
    )


def test_a_legend_toggles_and_a_chart_is_saved(visit: Callable[..., Visit], tmp_path: Path) -> None:
    seen = visit()
    seen.open("explore?model=tiny&head=encoder&workload=padded&seq=32")
    page = seen.page
    faint = "path[aria-roledescription='point'][opacity='0.06']"
    assert page.locator(faint).count() == 0
    page.locator("svg.marks .role-legend-label text").first.click()
    page.wait_for_selector(faint, state="attached")
    page.locator("[data-testid=stVegaLiteChart]").first.hover()
    page.locator("path[aria-roledescription='point']").first.hover(force=True)
    page.wait_for_selector("#vg-tooltip-element.visible")
    tip = page.locator("#vg-tooltip-element").inner_text()
    assert "interval of p50" in tip and re.search(r"\d+ samples in \d launch", tip)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Chart as SVG").click()
    waiting.value.save_as(tmp_path / "chart.svg")
    drawn = (tmp_path / "chart.svg").read_text(encoding="utf-8")
    assert (
        waiting.value.suggested_filename == "benchrun-explore.svg"
        and drawn.startswith("<svg")
        and "latency p50, ms" in drawn
    )
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download as PNG").first.click()
    waiting.value.save_as(tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_a_dot_opens_its_run_and_back_leads_back(visit: Callable[..., Visit]) -> None:
    seen = visit()
    seen.open("trends?model=tiny&head=encoder&workload=padded&batch=4&seq=32")
    page = seen.page
    page.locator("path[aria-roledescription='point']").nth(2).click(force=True)
    page.get_by_text("Its samples").click()
    page.wait_for_selector("h1:has-text('Distribution')")
    seen.settle()
    assert seen.query()["run"][0].startswith("202603") and seen.query()["batch"] == ["4"]
    page.get_by_role("link", name="Compare", exact=True).first.click()
    page.wait_for_selector("h1:has-text('Compare')")
    seen.settle()
    for _ in range(4):  # a bare address and its filled-in form are two steps
        page.go_back()
        page.wait_for_timeout(800)
        if page.locator("h1:has-text('Distribution')").count():
            break
    assert page.locator("h1:has-text('Distribution')").count() == 1


@pytest.mark.parametrize("name", PAGES)
def test_a_phone(name: str, visit: Callable[..., Visit]) -> None:
    seen = visit(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True, color_scheme="dark")
    seen.open("" if name == "overview" else name)
    needed, there = widths(seen.page)
    assert needed <= there == 390
    assert (
        seen.page.evaluate("getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor")
        == "rgb(16, 21, 28)"
    )
    picture(seen.page, f"{name}-phone-dark")


def test_the_keyboard_reaches_everything(visit: Callable[..., Visit]) -> None:
    seen = visit()
    seen.open("explore")
    focused = (
        "((e) => (e.getAttribute('aria-label') || e.innerText || e.className).slice(0, 40))(document.activeElement)"
    )
    wanted = {"Overview", "Machine", "Hardware", "Latency", "Frontier", "Data as CSV", "Chart as SVG"}
    reached: set[str] = set()
    for _ in range(120):  # twice around, for a focus that went with what was drawn anew
        seen.page.keyboard.press("Tab")
        reached.add(seen.page.evaluate(focused))
        if "Latency" in reached and "Frontier" not in reached:  # one stop of its own, arrows move inside
            for _ in range(2):
                seen.page.keyboard.press("ArrowRight")
            reached.add(seen.page.evaluate(focused))
            seen.settle()
        if all(any(each in stop for stop in reached) for each in wanted):
            return
    raise AssertionError(f"not reached: {[each for each in wanted if not any(each in stop for stop in reached)]}")


HOSTILE_VIEWS = [
    "",
    "compare",
    "distribution",
    "published",
    "machine",
    "trends",
    *(f"explore?view={view}" for view in VIEWS),
]


@pytest.mark.parametrize("path", HOSTILE_VIEWS)
def test_hostile_names_stay_text(path: str, visit: Callable[..., Visit]) -> None:
    seen = visit("hostile")
    name = path.partition("?")[0]
    asked = {"hardware": token(f"{HOSTILE}/cpu{HOSTILE}")} if name in ("explore", "trends") else {}
    seen.open(f"{path}{'&' if '?' in path else '?'}{urlencode(asked)}")
    page = seen.page
    assert page.evaluate("window.pwned") is None
    assert (
        page.locator(
            "[data-testid=stMain] img, [data-testid=stMain] script, [data-testid=stMain] a[href^=javascript], "
            "[data-testid=stMain] a[href^='http']:not([href^='http://127.0.0.1']), [data-testid=stMain] a[href^='mailto:']"
        ).count()
        == 0
    )
    assert page.locator("[data-testid=stException], [data-testid=stAlertContentError]").count() == 0
    assert "<script>" in page.locator("[data-testid=stMain]").inner_text() or name == "published"
    needed, there = widths(page)
    assert needed <= there
    if name in ("explore", "trends") and "table" not in path:
        page.locator("svg.marks").first.wait_for()
    picture(page, f"{re.sub('[^a-z]+', '-', path) or 'overview'}-hostile")


def test_a_run_in_progress_refreshes_by_itself(chromium: Browser, tmp_path: Path) -> None:
    from benchrun.results.store import open_store
    from tests.dashboard.stores import cost, make, measurement, run, sweep

    path = make(tmp_path / "running.db", "running")
    with server(path, tmp_path / "log") as address:
        page = chromium.new_page()
        page.goto(address)
        page.get_by_text("3 of 6 points done").wait_for(timeout=30_000)
        with open_store(path) as store:
            store.add_measurement(run(1).id, None, measurement(sweep()[3].key, run(1).started, cost(sweep()[3])))
        page.get_by_text("4 of 6 points done").wait_for(timeout=15_000)
        with open_store(path) as store:
            store.finish_run(run(1).id, "finished")
        page.get_by_text("points done").wait_for(state="detached", timeout=15_000)
        page.close()


def test_a_database_that_appears_and_one_that_cannot_be_read(chromium: Browser, tmp_path: Path) -> None:
    from tests.dashboard.stores import make

    path = tmp_path / "secret-folder" / "later.db"
    path.parent.mkdir()
    with server(path, tmp_path / "log") as address:
        page = chromium.new_page()
        page.goto(address)
        page.get_by_text("No database yet").wait_for(timeout=30_000)
        make(path, "one")
        page.reload()
        page.get_by_text("Latest runs", exact=True).wait_for(timeout=30_000)
        for each in path.parent.iterdir():
            each.unlink()
        path.write_bytes(b"this is not a database, but somebody's notes")
        page.reload()
        page.get_by_text("The database cannot be read").wait_for(timeout=30_000)
        assert "secret-folder" not in page.locator("body").inner_text()
        page.close()
    assert "secret-folder" in (tmp_path / "log").read_text(errors="replace")  # the terminal may know
