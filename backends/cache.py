"""The artefact cache: exported graphs, compiled engines and the like, stored once and checked on every use.

An entry is addressed by what went into it: its kind and its *ingredients* (weights hash, options, library versions,
device…) as canonical JSON. Layout below the root::

    entries/<key>/manifest.json    kind, ingredients, SHA-256 and size of every file
    entries/<key>/used             touched at every use; its mtime orders the entries for eviction
    entries/<key>/artefact/…       what `make` wrote; read-only
    building/<key>[.trash-…]       work in progress; only ever touched by who holds the entry's lock
    locks/<key>.lock               an OS lock between processes, released by the kernel when its holder dies

A folder under `building` whose lock is free belongs to a process that died, so cleaning up needs no process ids and is
right across containers that share a cache. An entry is moved into place by one `rename`, manifest included; whatever is
found later that does not match its manifest to the byte is discarded and made again. Nothing here is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from benchrun.backends.contract import BuildFailed

CACHE_VARIABLE = "BENCHRUN_CACHE"
LIMIT_VARIABLE = "BENCHRUN_CACHE_LIMIT_GIB"
DEFAULT_LIMIT_BYTES = 50 * 1024**3
ALL = "all"
_FORMAT = 1
_KIND = re.compile(r"[a-z][a-z0-9_]*\Z")
_KEY = re.compile(r"[a-z][a-z0-9_]*-[0-9a-f]{32}\Z")


class CacheError(BuildFailed):
    """The cache's folder cannot be used, or an entry that was named is not there or is in use."""


@dataclass(frozen=True, slots=True)
class Artefact:
    """What `obtain` gives: a read-only folder, its size, and whether it was there already."""

    path: Path
    hit: bool
    n_bytes: int
    key: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored artefact. `used`: time of the last use, seconds since 1970; `ingredients`: what it was made from."""

    key: str
    kind: str
    n_bytes: int
    used: float
    path: Path
    ingredients: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Fault:
    """An entry that is not what was stored, and how it shows."""

    key: str
    problem: str


class ArtefactCache:
    """Content-addressed artefacts under `root`, at most `limit_bytes` in all.

    The limit is kept after each new entry by removing the entries that were used longest ago. The entry just made stays
    even where it alone is larger, and so does whatever was used within `grace_seconds`: another process may be about to
    open it.
    """

    def __init__(self, root: Path, limit_bytes: int = DEFAULT_LIMIT_BYTES, grace_seconds: float = 600.0) -> None:
        self.root = Path(root)
        self.limit_bytes = limit_bytes
        self.grace_seconds = grace_seconds

    def obtain(self, kind: str, ingredients: Mapping[str, object], make: Callable[[Path], None]) -> Artefact:
        """The artefact of that kind and those ingredients; `make` fills an empty folder with it where it is not stored.

        Blocks while another process makes the same artefact, then uses that one. What `make` raises is passed on and
        nothing is stored. Ingredients must be plain JSON values, else TypeError or ValueError.
        """
        recipe = _canonical(kind, ingredients)
        key = f"{kind}-{hashlib.sha256(recipe.encode()).hexdigest()[:32]}"
        entry = self._entries / key
        with self._locked(key):
            with _cache_errors(self.root):
                self._sweep_building(key)
                if entry.exists():
                    if _problem(entry) is None:
                        os.utime(entry / "used")
                        return Artefact(entry / "artefact", True, _manifest(entry).n_bytes, key)
                    self._discard(key)
            self._make(key, recipe, make)
            artefact = Artefact(entry / "artefact", False, _manifest(entry).n_bytes, key)
        with _cache_errors(self.root):
            self._evict(keep=key)
        return artefact

    def entries(self) -> tuple[Entry, ...]:
        """All entries with a readable manifest, the last used first. Their files are not checked: see `verify`."""
        found = []
        for folder in self._folders():
            try:
                manifest = _manifest(folder)
                used = (folder / "used").stat().st_mtime
            except (OSError, ValueError):
                continue
            found.append(
                Entry(folder.name, manifest.kind, manifest.n_bytes, used, folder / "artefact", manifest.ingredients)
            )
        return tuple(sorted(found, key=lambda entry: (-entry.used, entry.key)))

    def remove(self, key: str = ALL) -> tuple[str, ...]:
        """Remove one entry, or with "all" every entry and what dead processes left. Returns the keys that were removed.

        Raises CacheError where that one entry does not exist or is being made right now; "all" passes over the latter.
        """
        if key != ALL and not (_KEY.match(key) and (self._entries / key).exists()):
            raise CacheError(f"the cache has no entry {key!r}; `benchrun cache ls` lists them")
        removed = []
        with _cache_errors(self.root):
            for name in [folder.name for folder in self._folders()] if key == ALL else [key]:
                try:
                    with self._locked(name, wait=False):
                        if self._discard(name):
                            removed.append(name)
                except Timeout:
                    if key != ALL:
                        raise CacheError(f"cache entry {key} is in use by another process; try again later") from None
            self._sweep_dead()
        return tuple(removed)

    def verify(self, *, discard: bool = True) -> tuple[Fault, ...]:
        """Compare every file of every entry with its checksum. Faulty entries are removed unless `discard` is false."""
        faults = []
        with _cache_errors(self.root):
            for folder in self._folders():
                with self._locked(folder.name):
                    problem = _problem(folder) if folder.exists() else None
                    if problem is None:
                        continue
                    faults.append(Fault(folder.name, problem))
                    if discard:
                        self._discard(folder.name)
            self._sweep_dead()
        return tuple(faults)

    @property
    def _entries(self) -> Path:
        return self.root / "entries"

    @property
    def _building(self) -> Path:
        return self.root / "building"

    def _folders(self) -> list[Path]:
        if not self._entries.is_dir():
            return []
        return sorted(path for path in self._entries.iterdir() if _KEY.match(path.name))

    @contextmanager
    def _locked(self, key: str, *, wait: bool = True) -> Iterator[None]:
        folder = self.root / "locks"
        # Lock files stay: removing one while another process waits on it would give two holders.
        lock = FileLock(folder / f"{key}.lock", timeout=-1 if wait else 0)
        with _cache_errors(self.root):
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _make(self, key: str, recipe: str, make: Callable[[Path], None]) -> None:
        """Have an entry made aside, under its lock, and move it into place."""
        work = self._building / key
        with _cache_errors(self.root):
            (work / "artefact").mkdir(parents=True)
        try:
            make(work / "artefact")
            with _cache_errors(self.root):
                _seal(work, recipe)
                self._entries.mkdir(exist_ok=True)
                work.rename(self._entries / key)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise

    def _discard(self, key: str) -> bool:
        """Remove an entry whose lock is held: out of sight by one rename, then for good."""
        entry = self._entries / key
        trash = self._building / f"{key}.trash-{uuid.uuid4().hex[:8]}"
        self._building.mkdir(exist_ok=True)
        try:
            entry.rename(trash)
        except FileNotFoundError:
            return False
        shutil.rmtree(trash, ignore_errors=True)
        return True

    def _sweep_building(self, key: str) -> None:
        """Remove what a dead process left of an entry whose lock is held."""
        if self._building.is_dir():
            for path in self._building.iterdir():
                if path.name.partition(".")[0] == key:
                    shutil.rmtree(path, ignore_errors=True)

    def _sweep_dead(self) -> None:
        """Remove what dead processes left of any entry: work whose lock is free."""
        if not self._building.is_dir():
            return
        for key in {path.name.partition(".")[0] for path in self._building.iterdir()}:
            if _KEY.match(key):
                try:
                    with self._locked(key, wait=False):
                        self._sweep_building(key)
                except Timeout:
                    continue

    def _evict(self, keep: str) -> None:
        self._sweep_dead()
        entries = self.entries()
        excess = sum(entry.n_bytes for entry in entries) - self.limit_bytes
        for entry in reversed(entries):
            if excess <= 0:
                return
            if entry.key == keep:
                continue
            try:
                with self._locked(entry.key, wait=False):
                    if self._is_idle(entry.key) and self._discard(entry.key):
                        excess -= entry.n_bytes
            except Timeout:
                continue

    def _is_idle(self, key: str) -> bool:
        try:
            used = (self._entries / key / "used").stat().st_mtime
        except FileNotFoundError:
            return False
        return time.time() - used >= self.grace_seconds


def default_cache() -> ArtefactCache:
    """The user's cache: in `$BENCHRUN_CACHE`, else in the platform's cache folder.

    `$BENCHRUN_CACHE_LIMIT_GIB` sets its size limit; CacheError where that is not a positive number.
    """
    import platformdirs

    root = os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("benchrun", appauthor=False)
    text = os.environ.get(LIMIT_VARIABLE)
    limit = DEFAULT_LIMIT_BYTES
    if text:
        try:
            limit = int(float(text) * 1024**3)
        except (ValueError, OverflowError):
            limit = 0
        if limit <= 0:
            raise CacheError(f"{LIMIT_VARIABLE} is {text!r}; it must be a number of GiB above 0, such as 50")
    return ArtefactCache(Path(root).expanduser(), limit)


@dataclass(frozen=True, slots=True)
class _Manifest:
    kind: str
    ingredients: Mapping[str, object]
    recipe: str
    files: Mapping[str, tuple[int, str]]

    @property
    def n_bytes(self) -> int:
        return sum(size for size, _ in self.files.values())


def _canonical(kind: str, ingredients: Mapping[str, object]) -> str:
    if not _KIND.match(kind):
        raise ValueError(f"artefact kind {kind!r} must be lower-case letters, digits and underscores")
    recipe = {"format": _FORMAT, "kind": kind, "ingredients": dict(ingredients)}
    # once through JSON first: it makes keys strings, which sort differently from numbers
    return _compact(json.loads(json.dumps(recipe, allow_nan=False)))


def _compact(recipe: object) -> str:
    return json.dumps(recipe, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _manifest(entry: Path) -> _Manifest:
    """Read an entry's manifest. Raises OSError or ValueError where it is not one."""
    text = json.loads((entry / "manifest.json").read_text(encoding="utf-8"))
    try:
        recipe = text["recipe"]
        files = {str(name): (int(each["bytes"]), str(each["sha256"])) for name, each in text["files"].items()}
        return _Manifest(
            kind=str(recipe["kind"]),
            ingredients=dict(recipe["ingredients"]),
            recipe=_compact(recipe),
            files=files,
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not a manifest: {error!r}") from error


def _problem(entry: Path) -> str | None:
    """What is wrong with an entry, or None where every file is what was stored."""
    try:
        manifest = _manifest(entry)
    except (OSError, ValueError) as error:
        return f"its manifest cannot be read ({error})"
    if entry.name != f"{manifest.kind}-{hashlib.sha256(manifest.recipe.encode()).hexdigest()[:32]}":
        return "its manifest belongs to another entry"
    artefact = entry / "artefact"
    try:
        present = {path.relative_to(artefact).as_posix(): path for path in _files(artefact)}
        if not (entry / "used").exists():
            return "its time of use is missing"
        for name in sorted(present.keys() ^ manifest.files.keys()):
            return f"{name} is missing" if name in manifest.files else f"{name} was added"
        for name, (size, checksum) in manifest.files.items():
            if present[name].stat().st_size != size:
                return f"{name} has {present[name].stat().st_size} bytes, not {size}"
            if _checksum(present[name]) != checksum:
                return f"{name} does not match its checksum"
    except (OSError, BuildFailed) as error:
        return f"its files cannot be read ({error})"
    return None


def _files(folder: Path) -> Iterator[Path]:
    """The regular files below a folder. Links and devices are refused: they could not be checked."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise BuildFailed(f"{path.name} is not a regular file: the cache stores only those")
        if path.is_file():
            yield path


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _seal(work: Path, recipe: str) -> None:
    """Write the manifest of what `make` left in `work`, and make its files read-only."""
    artefact = work / "artefact"
    files = {}
    for path in _files(artefact):
        path.chmod(0o444)
        files[path.relative_to(artefact).as_posix()] = {"bytes": path.stat().st_size, "sha256": _checksum(path)}
    if not files:
        raise BuildFailed(f"nothing was written for cache entry {work.name}")
    manifest = {"recipe": json.loads(recipe), "files": files}
    (work / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")
    (work / "used").touch()


@contextmanager
def _cache_errors(root: Path) -> Iterator[None]:
    """Turn an operating system's error about the cache folder into a sentence."""
    try:
        yield
    except Timeout:
        raise
    except (OSError, NotImplementedError) as error:  # filelock raises the latter where a file system has no locks
        raise CacheError(
            f"the artefact cache at {root} cannot be used ({getattr(error, 'strerror', None) or error}); "
            f"free room there, or set {CACHE_VARIABLE} to another folder"
        ) from error
