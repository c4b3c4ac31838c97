"""HTML as a browser's parser sees it: tags with their attributes."""

from __future__ import annotations

from html.parser import HTMLParser


class Tags(HTMLParser):
    """All opening tags of a text, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    handle_startendtag = handle_starttag
