"""Tables as HTML: for the app's pages and for the report. All text is escaped here, and nowhere else is HTML made from data."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from benchrun.dashboard.formats import short

Tone = Literal["", "strike", "faster", "slower", "muted", "failed", "strong", "ok"]
_LIMIT = 160  # characters of a cell; the whole text is in its tooltip, up to the next limit
_TOOLTIP = 600


@dataclass(frozen=True, slots=True)
class Cell:
    """Text with a tone; `note` is a tooltip, `href` a link inside the dashboard."""

    text: str
    tone: Tone = ""
    note: str = ""
    href: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A heading, with a unit on a second line. `group` puts neighbours with the same text under one heading."""

    title: str
    unit: str = ""
    number: bool = False
    group: str = ""


def table(columns: Sequence[Column], rows: Iterable[Sequence[Cell | str]], *, caption: str = "") -> str:
    """An HTML table, in a box that scrolls sideways where the screen is narrow."""
    head = _group_row(columns) + "<tr>" + "".join(_heading(column) for column in columns) + "</tr>"
    body = "".join(
        "<tr>" + "".join(_cell(column, cell) for column, cell in zip(columns, row, strict=True)) + "</tr>"
        for row in rows
    )
    title = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return f'<div class="br-scroll" tabindex="0"><table class="br">{title}<thead>{head}</thead><tbody>{body}</tbody></table></div>'


def pairs(entries: Iterable[tuple[str, Cell | str]]) -> str:
    """A list of names and values."""
    rows = "".join(f"<dt>{html.escape(short(name, 80))}</dt><dd>{_content(value)}</dd>" for name, value in entries)
    return f'<dl class="br">{rows}</dl>'


def sections(groups: Iterable[tuple[str, Sequence[tuple[str, Cell | str]]]]) -> str:
    """Lists of names and values under headings, in two columns where the screen is wide."""
    parts = (
        f"<section><h4>{html.escape(short(title, 80))}</h4>{pairs(entries)}</section>" for title, entries in groups
    )
    return f'<div class="br-facts">{"".join(parts)}</div>'


def _group_row(columns: Sequence[Column]) -> str:
    if not any(column.group for column in columns):
        return ""
    cells: list[str] = []
    start = 0
    while start < len(columns):
        end = start + 1
        while end < len(columns) and columns[end].group and columns[end].group == columns[start].group:
            end += 1
        group = columns[start].group
        css = ' class="group"' if group else ""
        cells.append(
            f'<th colspan="{end - start}" scope="colgroup"{css}>{html.escape(short(group, 80)) if group else ""}</th>'
        )
        start = end
    return f"<tr>{''.join(cells)}</tr>"


def _heading(column: Column) -> str:
    unit = f"<small>{html.escape(column.unit)}</small>" if column.unit else ""
    css = ' class="number"' if column.number else ""
    return f'<th scope="col"{css}>{html.escape(short(column.title, 80))}{unit}</th>'


def _cell(column: Column, cell: Cell | str) -> str:
    css = ' class="number"' if column.number else ""
    return f"<td{css}>{_content(cell)}</td>"


def _content(given: Cell | str) -> str:
    cell = given if isinstance(given, Cell) else Cell(given)
    text = html.escape(short(cell.text, _LIMIT)) if cell.text else ""
    note = cell.note or (cell.text if len(cell.text) > _LIMIT else "")
    tooltip = f' title="{html.escape(short(note, _TOOLTIP), quote=True)}"' if note else ""
    if cell.tone == "strike":
        text = f"<s{tooltip}>{text}</s>"
    elif cell.tone or tooltip:
        text = f'<span class="{cell.tone or "plain"}"{tooltip}>{text}</span>'
    if cell.href:
        text = f'<a href="{html.escape(cell.href, quote=True)}" target="_self">{text}</a>'
    return text
