"""What must not be recorded: credentials, user names, full paths. Pure text in, text out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

HIDDEN = "[hidden]"
# scheme://user:password@host or scheme://token@host
CREDENTIALS = re.compile(r"(?P<scheme>\b[a-zA-Z][a-zA-Z0-9+.-]*://)[^\s/@]+@")
# keys of services by their published prefixes
TOKENS = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{8,}|gh[opsru]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{12,}|sk-[\w-]{16,}|xox[abp]-[\w-]{10,}"
    r"|AKIA[A-Z0-9]{12,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)"
)
# name=value and name: value, where the name says that the value is a secret
NAMED = re.compile(
    r"(?P<name>\b[\w.-]*(?:token|secret|passw(?:or)?d|passwd|api[_-]?key|access[_-]?key|authorization)[\w.-]*[\"']?\s*[=:]\s*)"
    r"(?:(?:Bearer|Basic)\s+)?[\"']?[^\s\"',;&)]+",
    re.IGNORECASE,
)
# an absolute path of two parts or more, or one below the home folder; not the path of a URL
PATH = re.compile(r"(?:file://|(?<![\w/.~]))(?:~[\w.-]*|/[^\s/:\"'`<>|,;()\[\]]+)(?:/[^\s/:\"'`<>|,;()\[\]]+)+/?")


def redact(text: str) -> str:
    """The text without credentials, and with each absolute path cut to its last part: `…/model.safetensors`."""
    text = CREDENTIALS.sub(rf"\g<scheme>{HIDDEN}@", text)
    text = NAMED.sub(rf"\g<name>{HIDDEN}", text)
    text = TOKENS.sub(HIDDEN, text)
    return PATH.sub(lambda found: f"…/{PurePosixPath(found.group()).name}", text)


def redact_values(values: Any) -> Any:
    """The same for every text in a JSON value."""
    if isinstance(values, str):
        return redact(values)
    if isinstance(values, Mapping):
        return {name: redact_values(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [redact_values(value) for value in values]
    return values


def hide_home(values: Any, home: str | None = None) -> Any:
    """JSON values whose texts begin with `~` where they began with the user's home folder; other texts stay as they are."""
    home = str(Path.home()) if home is None else home
    if isinstance(values, str):
        inside = home != "/" and (values == home or values.startswith(home.rstrip("/") + "/"))
        return "~" + values[len(home.rstrip("/")) :] if inside else values
    if isinstance(values, Mapping):
        return {name: hide_home(value, home) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return type(values)(hide_home(value, home) for value in values)
    return values
