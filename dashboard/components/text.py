"""Text that may come from the database, made safe for the two places that would interpret it."""

from __future__ import annotations

import html
import re
from typing import Any

from benchrun.dashboard.formats import short

# What the page's Markdown makes a link of by itself, escaped or not; an invisible word joiner in its middle keeps it text.
_LINK_LIKE = re.compile(r"(https?|ftp|xmpp|mailto|www|@)", re.IGNORECASE)
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~:$&^=/@])")


def markdown(value: Any, length: int = 300) -> str:
    """Text for a place that reads Markdown (captions, labels, notices): on one line, every special character escaped, no link."""
    text = _LINK_LIKE.sub("\\1\N{WORD JOINER}", short(value, length))
    return _MARKDOWN.sub(r"\\\1", text)


def escaped(value: Any, length: int = 300) -> str:
    """Text for HTML: shortened and escaped."""
    return html.escape(short(value, length), quote=True)
