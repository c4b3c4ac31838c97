"""The artefact cache in one process: addressing, checking, evicting, removing."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchrun.backends.cache import DEFAULT_LIMIT_BYTES, ArtefactCache, CacheError, default_cache
from benchrun.backends.contract import BuildFailed

INGREDIENTS = {"weights": "abc", "options": {"batch": 1, "names": ["a", "b"]}}


def writer(content: bytes = b"engine", name: str = "model.onnx") -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    return make


def never(folder: Path) -> None:
    raise AssertionError(f"made again in {folder}")


@pytest.fixture
def cache(tmp_path: Path) -> ArtefactCache:
    return ArtefactCache(tmp_path / "cache")


def age(cache: ArtefactCache, key: str, seconds: float) -> None:
    """Set an entry's last use back."""
    then = time.time() - seconds
    os.utime(cache.root / "entries" / key / "used", (then, then))


def test_made_once_then_found(cache: ArtefactCache) -> None:
    first = cache.obtain("onnx", INGREDIENTS, writer(b"12345"))
    again = cache.obtain("onnx", dict(reversed(INGREDIENTS.items())), never)
    assert (first.hit, again.hit) == (False, True)
    assert first.key == again.key and first.path == again.path
    assert first.n_bytes == again.n_bytes == 5
    assert (again.path / "model.onnx").read_bytes() == b"12345"
    assert not os.access(again.path / "model.onnx", os.W_OK) or os.geteuid() == 0
    assert (again.path / "model.onnx").stat().st_mode & 0o222 == 0


@pytest.mark.parametrize(
    ("kind", "ingredients"),
    [("engine", INGREDIENTS), ("onnx", {**INGREDIENTS, "weights": "abd"}), ("onnx", {}), ("onnx", {"weights": 1})],
)
def test_another_recipe_is_another_entry(cache: ArtefactCache, kind: str, ingredients: dict[str, object]) -> None:
    first = cache.obtain("onnx", INGREDIENTS, writer())
    other = cache.obtain(kind, ingredients, writer())
    assert not other.hit and other.key != first.key


def test_keys_that_are_numbers_are_found_again(cache: ArtefactCache) -> None:
    ingredients = {"id2label": {number: f"LABEL_{number}" for number in range(12)}}
    assert not cache.obtain("onnx", ingredients, writer()).hit
    assert cache.obtain("onnx", ingredients, never).hit
    assert cache.verify() == ()


def test_ingredients_must_be_plain_json(cache: ArtefactCache) -> None:
    with pytest.raises(TypeError):
        cache.obtain("onnx", {"path": Path("/x")}, never)
    with pytest.raises(ValueError, match=r"[Nn]ot JSON|Out of range"):
        cache.obtain("onnx", {"scale": float("nan")}, never)
    with pytest.raises(ValueError, match="lower-case"):
        cache.obtain("../onnx", {}, never)


def test_a_failed_make_stores_nothing_and_its_error_passes(cache: ArtefactCache) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_bytes(b"x")
        raise FileNotFoundError("nvcc")

    with pytest.raises(FileNotFoundError, match="nvcc"):
        cache.obtain("onnx", INGREDIENTS, fail)
    assert cache.entries() == ()
    assert list((cache.root / "building").iterdir()) == []
    assert not cache.obtain("onnx", INGREDIENTS, writer()).hit


def test_an_empty_make_and_a_link_are_refused(cache: ArtefactCache) -> None:
    with pytest.raises(BuildFailed, match="nothing was written"):
        cache.obtain("onnx", INGREDIENTS, lambda folder: None)
    with pytest.raises(BuildFailed, match="not a regular file"):
        cache.obtain("onnx", INGREDIENTS, lambda folder: (folder / "x").symlink_to("/etc/hostname"))
    assert cache.entries() == ()


def spoil_byte(entry: Path) -> None:
    path = entry / "artefact" / "model.onnx"
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def truncate(entry: Path) -> None:
    path = entry / "artefact" / "model.onnx"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])


def spoil_recipe(entry: Path) -> None:
    manifest = json.loads((entry / "manifest.json").read_text())
    manifest["recipe"]["ingredients"]["weights"] = "other"
    (entry / "manifest.json").write_text(json.dumps(manifest))


def replace_file_by_link(entry: Path) -> None:
    (entry / "artefact" / "model.onnx").unlink()
    (entry / "artefact" / "model.onnx").symlink_to(entry / "manifest.json")


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "byte": (spoil_byte, "does not match its checksum"),
    "short": (truncate, "bytes, not"),
    "missing": (lambda entry: (entry / "artefact" / "model.onnx").unlink(), "is missing"),
    "added": (lambda entry: (entry / "artefact" / "extra").write_bytes(b"x"), "was added"),
    "link": (replace_file_by_link, "cannot be read"),
    "no manifest": (lambda entry: (entry / "manifest.json").unlink(), "manifest cannot be read"),
    "no json": (lambda entry: (entry / "manifest.json").write_text("{"), "manifest cannot be read"),
    "odd json": (lambda entry: (entry / "manifest.json").write_text('{"recipe": 3}'), "manifest cannot be read"),
    "another's": (spoil_recipe, "belongs to another entry"),
    "no use": (lambda entry: (entry / "used").unlink(), "time of use"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_entry_is_found_and_made_again(cache: ArtefactCache, fault: str) -> None:
    spoil, problem = FAULTS[fault]
    sound = cache.obtain("onnx", {"sound": True}, writer(b"sound"))
    key = cache.obtain("onnx", INGREDIENTS, writer(b"0123456789")).key
    spoil(cache.root / "entries" / key)

    assert [each.key for each in cache.verify(discard=False)] == [key]
    again = cache.obtain("onnx", INGREDIENTS, writer(b"0123456789"))
    assert not again.hit and (again.path / "model.onnx").read_bytes() == b"0123456789"
    assert cache.verify() == ()

    spoil(cache.root / "entries" / key)
    (found,) = cache.verify()
    assert found.key == key and problem in found.problem
    assert [entry.key for entry in cache.entries()] == [sound.key]
    assert list((cache.root / "building").iterdir()) == []


def test_entries_are_listed_by_last_use(cache: ArtefactCache) -> None:
    assert cache.entries() == ()
    old = cache.obtain("onnx", {"n": 1}, writer(b"x" * 10)).key
    new = cache.obtain("engine", {"n": 2}, writer(b"x" * 20)).key
    age(cache, old, 100)
    listed = cache.entries()
    assert [(e.key, e.kind, e.n_bytes, e.ingredients) for e in listed] == [
        (new, "engine", 20, {"n": 2}),
        (old, "onnx", 10, {"n": 1}),
    ]
    cache.obtain("onnx", {"n": 1}, never)
    age(cache, new, 50)
    assert [e.key for e in cache.entries()] == [old, new]


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    cache = ArtefactCache(tmp_path, limit_bytes=250)
    keys = [cache.obtain("onnx", {"n": n}, writer(bytes(100))).key for n in range(2)]
    age(cache, keys[0], 7200)
    age(cache, keys[1], 3600)
    cache.obtain("onnx", {"n": 0}, never)  # a use makes it young again
    third = cache.obtain("onnx", {"n": 2}, writer(bytes(100))).key
    assert {entry.key for entry in cache.entries()} == {keys[0], third}


def test_what_was_just_used_or_made_is_kept_over_the_limit(tmp_path: Path) -> None:
    cache = ArtefactCache(tmp_path, limit_bytes=50)
    first = cache.obtain("onnx", {"n": 0}, writer(bytes(100))).key
    second = cache.obtain("onnx", {"n": 1}, writer(bytes(100))).key
    assert {entry.key for entry in cache.entries()} == {first, second}
    age(cache, first, 3600)
    age(cache, second, 3600)
    third = cache.obtain("onnx", {"n": 2}, writer(bytes(100))).key
    assert [entry.key for entry in cache.entries()] == [third]


def test_remove(cache: ArtefactCache) -> None:
    keys = sorted(cache.obtain("onnx", {"n": n}, writer()).key for n in range(3))
    assert cache.remove(keys[0]) == (keys[0],)
    with pytest.raises(CacheError, match="benchrun cache ls"):
        cache.remove(keys[0])
    with pytest.raises(CacheError, match="no entry"):
        cache.remove("../../etc")
    assert cache.remove("all") == tuple(keys[1:])
    assert cache.entries() == () and cache.remove() == ()


def test_an_unusable_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CacheError, match=r"cannot be used .* set BENCHRUN_CACHE to another folder"):
        ArtefactCache(tmp_path / "file").obtain("onnx", {}, writer())


def test_default_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BENCHRUN_CACHE", raising=False)
    monkeypatch.delenv("BENCHRUN_CACHE_LIMIT_GIB", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache().root == tmp_path / "xdg" / "benchrun"
    assert default_cache().limit_bytes == DEFAULT_LIMIT_BYTES
    monkeypatch.setenv("BENCHRUN_CACHE", str(tmp_path / "mine"))
    monkeypatch.setenv("BENCHRUN_CACHE_LIMIT_GIB", "1.5")
    assert default_cache().root == tmp_path / "mine"
    assert default_cache().limit_bytes == 3 * 1024**3 // 2
    for wrong in ("0", "-1", "many", "inf", "nan"):
        monkeypatch.setenv("BENCHRUN_CACHE_LIMIT_GIB", wrong)
        with pytest.raises(CacheError, match="number of GiB above 0"):
            default_cache()
