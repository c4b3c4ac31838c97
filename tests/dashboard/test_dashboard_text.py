"""Figures, names and HTML as text: pure functions."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchrun.dashboard import formats
from benchrun.dashboard.components.text import markdown
from benchrun.dashboard.labels import add_series
from benchrun.dashboard.markup import Cell, Column, pairs, table
from benchrun.dashboard.selection import differing_protocol, explain_missing
from benchrun.dashboard.sentences import findings
from benchrun.dashboard.tabular import csv_bytes, public


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0.12345, "0.123"),
        (12.345, "12.35"),
        (123.45, "123.5"),
        (1234.5, "1234"),
        (123456.7, "123,457"),
    ],
)
def test_figure(value: float | None, text: str) -> None:
    assert formats.figure(value) == text


def test_small_texts() -> None:
    assert (formats.ratio(1.234), formats.ratio(None)) == ("1.23×", "–")
    assert (formats.percent(1.07), formats.percent(0.5), formats.percent(3.0), formats.percent(None)) == (
        "+7.0 %",
        "−50.0 %",
        "+200 %",
        "–",
    )
    assert (formats.count(1, "point"), formats.count(1234, "launch", "launches")) == ("1 point", "1,234 launches")
    assert (formats.size(None), formats.size(512), formats.size(25 * 2**30), formats.size(2**45)) == (
        "–",
        "512 B",
        "25.0 GiB",
        "32.0 TiB",
    )
    now = datetime(2026, 1, 2, tzinfo=UTC)
    assert formats.moment(now) == "2026-01-02 00:00 UTC" and formats.moment(None) == "–"
    assert [formats.ago(now - timedelta(seconds=s), now) for s in (-5, 59, 60, 7200, 90000)] == [
        "just now",
        "just now",
        "1 minute ago",
        "2 hours ago",
        "1 day ago",
    ]
    assert formats.engine_text("torch", "eager") == "torch:eager" and formats.engine_text("trtexec", "") == "trtexec"


@given(st.text(max_size=300), st.integers(min_value=10, max_value=80))
def test_short_is_short_and_one_line(text: str, length: int) -> None:
    found = formats.short(text, length)
    assert len(found) <= length and "\n" not in found and "\r" not in found


@given(st.lists(st.text(max_size=120), max_size=8))
def test_distinct_names_stay_distinct(values: list[str]) -> None:
    found = formats.distinct_short(values, 12)
    assert len(set(found.values())) == len(set(values)) == len(found)


@given(st.one_of(st.none(), st.text(max_size=300)))
def test_tokens_are_short_and_tell_values_apart(value: str | None) -> None:
    found = formats.token(value)
    assert 0 <= len(found) <= 80 and found == formats.token(value)
    assert (found == "-") == (value is None)
    if value is not None:
        assert found != formats.token(value + "x")


def test_hardware_names() -> None:
    details = {"hardware": {"cpu": "EPYC", "gpu": {"name": "H200"}}}
    assert (
        formats.hardware(details) == "H200"
        and formats.hardware(details, "cpu") == "EPYC"
        and formats.hardware(details, "cuda:0") == "H200"
    )
    for odd in ({}, {"hardware": "text"}, {"hardware": {"gpu": "text"}}, {"hardware": {"gpu": {}}}):
        assert formats.hardware(odd) == "unknown hardware"


def test_settings_are_read_or_empty() -> None:
    assert formats.settings('{"a":1}') == {"a": 1}
    assert formats.settings("[1]") == formats.settings("{") == formats.settings(None) == {}


def test_protocols_are_told_apart_by_what_differs() -> None:
    assert (
        differing_protocol("v1;transfers=exclude;cache=warm", "v1;transfers=include;cache=warm") == "transfers=include"
    )
    assert differing_protocol("v1;a=1", "v1;a=1") == "v1;a=1" and differing_protocol("v1;a=1", "v1") == "a=not said"


class Parsed(HTMLParser):
    """Text and tags of a piece of HTML."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.tags = "", []
        self.feed(text)

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags: list[tuple[str, dict[str, str | None]]]
        self.tags.append((tag, dict(attrs)))


@given(st.text(max_size=150), st.text(max_size=900))
def test_a_cell_is_its_text(text: str, note: str) -> None:
    parsed = Parsed(
        table(
            [Column("a", text[:20], group=text[:10])],
            [[Cell(text, "strike", note, "explore?" + "x=%3C")]],
            caption=text,
        )
    )
    assert {tag for tag, _ in parsed.tags} <= {
        "div",
        "table",
        "caption",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "small",
        "s",
        "a",
    }
    assert formats.short(text, 160) in parsed.text
    for tag, attributes in parsed.tags:
        assert set(attributes) <= {"class", "tabindex", "scope", "colspan", "title", "href", "target"}
        if tag == "a":
            assert attributes["href"] == "explore?x=%3C"


def test_groups_of_columns_share_a_heading() -> None:
    found = table(
        [Column("a"), Column("b", group="g"), Column("c", group="g"), Column("d", group="h")], [["1", "2", "3", "4"]]
    )
    assert 'colspan="2" scope="colgroup" class="group">g<' in found and "<dt>x</dt><dd>y</dd>" in pairs([("x", "y")])


@given(st.text(max_size=100))
def test_markdown_is_escaped(text: str) -> None:
    found = markdown(text)
    for i, letter in enumerate(found):
        if letter in "`*_[]<>:$!~|#":
            before = len(found[:i]) - len(found[:i].rstrip("\\"))
            assert before % 2 == 1, found


def test_markdown_makes_no_link_of_an_address() -> None:
    """Seen in a screenshot: an address in an error message had become a link, though every special character was escaped."""
    for text in ("http://a.invalid/x", "HTTPS://a.invalid", "www.a.invalid", "me@a.invalid", "mailto:me@a.invalid"):
        bare = markdown(text).replace("\\", "")
        assert bare != text and bare.replace("\N{WORD JOINER}", "") == text
        assert not re.search(r"https?:|www\.|@a|mailto:", bare, re.IGNORECASE)


def test_csv_defuses_formulas_and_lists() -> None:
    frame = pd.DataFrame({"name": ["=1+1", "@x", "fine", ("a", "b"), None], "log_p50_ms": 1.0, "n": [1, 2, 3, 4, 5]})
    lines = csv_bytes(public(frame)).decode().splitlines()
    assert lines == ["name,n", "'=1+1,1", "'@x,2", "fine,3", "a b,4", ",5"]


def points(**columns: list[object]) -> pd.DataFrame:
    size = len(next(iter(columns.values())))
    usual = {"backend": "torch", "variant": "eager", "dtype": "fp32", "weights": "random:0", "options": "{}"}
    return pd.DataFrame({name: [value] * size for name, value in usual.items()} | columns)


def test_series_name_only_what_differs() -> None:
    assert set(add_series(points(batch=[1, 2]))["series"]) == {"torch:eager"}
    assert add_series(points(dtype=["fp32", "bf16"]))["series"].tolist() == ["torch:eager · fp32", "torch:eager · bf16"]
    several = points(options=['{"threads":1,"same":2}', '{"threads":4,"same":2}'], weights=["random:0", "sha256:ab"])
    assert add_series(several)["series"].tolist() == [
        "torch:eager · threads=1 · weights random:0",
        "torch:eager · threads=4 · weights sha256:ab",
    ]
    assert add_series(several, ignored=("threads",))["series"].tolist() == [
        "torch:eager · weights random:0",
        "torch:eager · weights sha256:ab",
    ]
    assert add_series(points(batch=[1]).iloc[:0])["series"].tolist() == []


def test_findings_and_gaps_in_words() -> None:
    assert findings(["slower", "slower", "same", None]) == "3 points: 2 slower, 1 within 5 %."
    assert findings([]) == "No point to compare."
    frame = pd.DataFrame({"status": ["ok", "ok", "oom", "invalid", "strange"], "p50_ms": [1.0, None, None, 2.0, None]})
    assert explain_missing(frame, ["p50_ms"]) == [
        "1 point with a wrong answer: struck through in the table, never drawn or compared.",
        "2 points without figures: 1 ran out of memory, 1 strange.",
        "1 point without this figure.",
    ]


def test_an_interval_has_one_notation_and_an_end_may_lie_anywhere() -> None:
    words = formats.interval_words
    assert words(0.98, 1.04) == "−2.0 % to +4.0 %" and words(1 / 8.9, 1.03) == "8.9× faster to 1.0× slower"
    assert words(None, 1.0) == words(1.0, float("nan")) == "–"
    assert words(0.0, 3.0) == "−100 % to +200 %" and "inf×" not in words(1.5, float("inf"))
