"""Git refs as sides: a commit in a work tree of its own, with a virtual environment of its own, kept in the cache.

Layout below the cache's root::

    sides/<hash>/tree      the work tree, detached at the commit
    sides/<hash>/venv      its virtual environment; what it lacks comes from the environment that runs the gate
    sides/<hash>/ready     written last; its mtime orders the sides for eviction
    sides/<hash>.lock      held while one is made

The hash is of commit, install command and the gate's own environment, so that a change of any makes a new one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from benchrun.runner.errors import UsageError
from benchrun.runner.gate.interpreters import clean_variables
from benchrun.runner.last_words import find_last_words

INSTALL = "pip install --quiet ."
INSTALL_S = 3600.0
KEPT = 8  # sides in the cache
LAYOUT = 2  # of a side's folder: another one is never reused
_LINK = "_benchrun_gate.pth"


@dataclass(frozen=True, slots=True)
class Checkout:
    """A commit, ready to run. `environment`: what its processes' variables differ in; `note`: what to be told of it."""

    commit: str
    tree: Path
    python: str
    environment: Mapping[str, str | None]
    reused: bool
    note: str = ""


def find_commit(repository: Path, ref: str) -> str:
    """The full id of a ref's commit. Raises UsageError."""
    done = _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if done.returncode:
        inside = _git(repository, "rev-parse", "--is-inside-work-tree").returncode == 0
        if not inside:
            raise UsageError(f"{repository} is no git repository: run the gate where {ref!r} is known")
        raise UsageError(f"git knows no commit {ref!r} here: fetch it first (in CI, a checkout with its whole history)")
    return done.stdout.strip()


def contains(repository: Path, commit: str, ancestor: str) -> bool | None:
    """Whether `ancestor` (a commit or tag) is part of the history of `commit`; None where git does not know one."""
    done = _git(repository, "merge-base", "--is-ancestor", ancestor, commit)
    return {0: True, 1: False}.get(done.returncode)


def list_added(repository: Path, base: str, new: str) -> frozenset[str]:
    """Files that commit `new` has and commit `base` has not, but for those that were moved; from the repository's root."""
    # beyond a limit, which a configuration may set to 1, git takes moved files for added ones
    moved = ("--find-renames", "-l0")
    done = _git(repository, "diff", *moved, "--diff-filter=A", "--no-relative", "--name-only", "-z", base, new)
    return frozenset(filter(None, done.stdout.split("\0"))) if done.returncode == 0 else frozenset()


def has_path(repository: Path, commit: str, path: str) -> bool:
    """Whether a commit has this file or folder."""
    return _git(repository, "cat-file", "-e", f"{commit}:{path}").returncode == 0


def is_dirty(repository: Path) -> bool:
    """Whether tracked files differ from the commit that is checked out."""
    done = _git(repository, "status", "--porcelain", "--untracked-files=no")
    return done.returncode == 0 and bool(done.stdout.strip())


def check_out(repository: Path, commit: str, install: str | None, root: Path) -> Checkout:
    """A commit with its environment, from the cache below `root` or made now.

    `install` runs in the tree by the shell, with the new environment's `bin` first in PATH; None is `INSTALL`. Raises
    UsageError where git or the command fails, with its last words.
    """
    from filelock import FileLock

    command = INSTALL if install is None else install
    recipe = {"layout": LAYOUT, "commit": commit, "install": command, "environment": _own_environment()}
    name = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:24]
    sides = root / "sides"
    sides.mkdir(parents=True, exist_ok=True)
    folder = sides / name
    with FileLock(sides / f"{name}.lock"):
        ready = folder / "ready"
        reused = ready.exists()
        if not reused:
            _remove(repository, folder)
            try:
                note = _make(repository, commit, command, folder)
            except BaseException:
                _remove(repository, folder)
                raise
            ready.write_text(note, encoding="utf-8")
        os.utime(ready)
        note = ready.read_text(encoding="utf-8")
    _evict(repository, sides, keep=name)
    return Checkout(commit, folder / "tree", str(_python(folder)), _variables(folder), reused, note)


def _make(repository: Path, commit: str, command: str, folder: Path) -> str:
    folder.mkdir(parents=True)
    tree = folder / "tree"
    done = _git(repository, "worktree", "add", "--force", "--detach", str(tree), commit)
    if done.returncode:
        raise UsageError(f"git cannot check out {commit[:12]}: {_said(done.stderr)}")
    # a copy of its own would take seconds; asked of the metadata, for find_spec("pip") makes setuptools give up its distutils
    inherits_pip = any(metadata.distributions(name="pip"))
    options = ["--without-pip"] if inherits_pip else []
    done = _run([sys.executable, "-m", "venv", *options, str(folder / "venv")], folder, None)
    if done.returncode:
        raise UsageError(f"no virtual environment can be made for {commit[:12]}: {_said(done.stderr or done.stdout)}")
    _inherit(folder)
    _write_scripts(folder)
    if not command.strip():
        return ""
    before = _installed(folder)
    done = _run(["/bin/sh", "-c", command], tree, _variables(folder))
    if done.returncode:
        raise UsageError(
            f"the install command failed for {commit[:12]} (exit status {done.returncode}): "
            f"{_said(done.stderr or done.stdout)}; give another one with --install"
        )
    if _installed(folder) == before:
        return (
            f"the install command added no package to the environment of {commit[:12]}: "
            "what it runs may come from the gate's own environment"
        )
    return ""


def _inherit(folder: Path) -> None:
    """What the side does not install itself is found in the gate's own environment, after its own packages."""
    own = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    lines = [f"import site; site.addsitedir({path!r})" for path in own]
    for site in _site_folders(folder):
        (site / _LINK).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_scripts(folder: Path) -> None:
    """The programs of the inherited packages (pip, pytest, …) under the side's interpreter: a bare `pip` never changes
    the gate's own environment, and a bare `pytest` never measures what is installed there. What the side installs itself
    takes their place.
    """
    code = (
        "import sys; from importlib.metadata import EntryPoint; sys.argv[0] = {0!r}; "
        "sys.exit(EntryPoint({0!r}, {1!r}, {2!r}).load()())"
    )
    for each in metadata.entry_points(group="console_scripts"):
        script = folder / "venv" / "bin" / each.name
        if Path(each.name).name != each.name or script.exists():
            continue
        program = code.format(each.name, each.value, each.group)
        script.write_text(
            f'#!/bin/sh\nexec {shlex.quote(str(_python(folder)))} -P -c {shlex.quote(program)} "$@"\n', encoding="utf-8"
        )
        script.chmod(0o755)


def _site_folders(folder: Path) -> list[Path]:
    return sorted((folder / "venv" / "lib").glob("python*/site-packages"))


def _installed(folder: Path) -> set[str]:
    return {each.name for site in _site_folders(folder) for each in site.iterdir() if each.name != "__pycache__"}


def _python(folder: Path) -> Path:
    return folder / "venv" / "bin" / "python"


def _variables(folder: Path) -> dict[str, str | None]:
    venv = folder / "venv"
    path = os.pathsep.join([str(venv / "bin"), os.environ.get("PATH", os.defpath)])
    return {**clean_variables(), "VIRTUAL_ENV": str(venv), "PATH": path}


def _own_environment() -> list[str]:
    """This environment, so that a side made in another one is not reused."""
    found = sorted({f"{each.name}=={each.version}" for each in metadata.distributions()})
    return [sys.prefix, sys.version, *found]


def _evict(repository: Path, sides: Path, keep: str) -> None:
    """Remove the sides that were used longest ago, except those that another gate is making."""
    from filelock import FileLock, Timeout

    ready = sorted(sides.glob("*/ready"), key=lambda each: each.stat().st_mtime, reverse=True)
    for each in ready[KEPT:]:
        name = each.parent.name
        if name == keep:
            continue
        try:
            with FileLock(sides / f"{name}.lock", timeout=0):
                _remove(repository, each.parent)
        except Timeout:
            continue


def _remove(repository: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    _git(repository, "worktree", "prune")


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=INSTALL_S, check=False
        )
    except OSError as error:
        raise UsageError("git is not installed: install it, or compare interpreters or commands") from error


def _run(
    command: list[str], folder: Path, changes: Mapping[str, str | None] | None
) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if name not in (changes or {})}
    variables |= {name: value for name, value in (changes or {}).items() if value is not None}
    with subprocess.Popen(
        command,
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, said = process.communicate(timeout=INSTALL_S)
        except BaseException as error:  # too slow, or interrupted: what it started ends with it
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise UsageError(
                    f"setting up a side took longer than {INSTALL_S:g} s: give a quicker --install"
                ) from error
            raise
    return subprocess.CompletedProcess(command, process.wait(), out, said)


def _said(output: str) -> str:
    return find_last_words(output) or "it said nothing"
