"""What must not be recorded: credentials, user names, full paths. Pure text in, text out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
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
# where files lie on the machines of users, besides what there is on this one
ROOTS = frozenset(
    (
        *(
            "home",
            "root",
            "Users",
            "tmp",
            "var",
            "opt",
            "srv",
            "mnt",
            "media",
            "usr",
            "etc",
            "run",
            "proc",
            "sys",
            "dev",
            "boot",
        ),
        *(
            "data",
            "scratch",
            "work",
            "workspace",
            "workspaces",
            "lustre",
            "gpfs",
            "nfs",
            "net",
            "afs",
            "content",
            "kaggle",
            "app",
        ),
        *("private", "Volumes", "Library", "Applications", "snap", "nix", "lib", "lib64", "bin", "sbin"),
    )
)
# names in a graph, as exporters make them: modules, numbered in lists, and the kind of the operator last
MODULE = re.compile(r"[A-Za-z_][\w.:-]*")
NUMBERED = re.compile(r"\w+\.\d+")
OPERATOR = re.compile(r"[A-Z][A-Za-z0-9]*(?:_\w+)*")


def redact(text: str, roots: Iterable[str] | None = None) -> str:
    """The text without credentials, and with each absolute path cut to its last part: `…/model.safetensors`.

    The name of a node in a graph (`/bert/encoder/layer.0/attention/self/MatMul`) stays whole: it is no path where no folder of its
    first part is known, neither usually (`ROOTS`) nor among `roots`, by default the folders at the root of this machine.
    """
    folders = root_folders() if roots is None else frozenset(roots)
    text = CREDENTIALS.sub(rf"\g<scheme>{HIDDEN}@", text)
    text = NAMED.sub(rf"\g<name>{HIDDEN}", text)
    text = TOKENS.sub(HIDDEN, text)
    return PATH.sub(lambda found: _cut(found.group(), folders), text)


def _cut(path: str, roots: frozenset[str]) -> str:
    first, *rest = path.strip("/").rstrip(".").split("/")
    if path.startswith("/") and first not in ROOTS and first not in roots:
        named = all(MODULE.fullmatch(each) for each in (first, *rest))
        if named and (OPERATOR.fullmatch(rest[-1]) or any(NUMBERED.fullmatch(each) for each in (first, *rest))):
            return path
    return f"…/{PurePosixPath(path).name}"


@cache
def root_folders() -> frozenset[str]:
    """Names at the root of this machine's file system; none where it cannot be listed."""
    try:
        return frozenset(each.name for each in Path("/").iterdir())
    except OSError:
        return frozenset()


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
    home = (str(Path.home()) if home is None else home).rstrip("/")

    def hide(text: str) -> str:
        inside = home and (text == home or text.startswith(home + "/"))
        return "~" + text[len(home) :] if inside else text

    return map_texts(values, hide)


def map_texts(values: Any, change: Callable[[str], str]) -> Any:
    """JSON values with every text changed; the names in objects stay."""
    if isinstance(values, str):
        return change(values)
    if isinstance(values, Mapping):
        return {name: map_texts(value, change) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return type(values)(map_texts(value, change) for value in values)
    return values
