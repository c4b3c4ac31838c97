"""Finding backends: built-in ones and third parties' come through the same entry-point group."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from benchrun.backends.contract import ENTRY_POINT_GROUP, Backend, BackendError, Description


class UnknownBackend(BackendError):
    """No installed distribution offers a backend of that name, or the one that does is broken."""


def backend_entries() -> dict[str, EntryPoint]:
    """Entry points by backend name, sorted."""
    return {entry.name: entry for entry in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda e: e.name)}


def load_backend(name: str) -> type[Backend]:
    """The backend class of that name. Its module must not import its engine when it is imported."""
    entries = backend_entries()
    if name not in entries:
        raise UnknownBackend(
            f"unknown backend {name!r}: choose from {', '.join(entries)} ('benchrun backends' tells more)"
        )
    try:
        found = entries[name].load()
    except (Exception, SystemExit) as error:  # somebody else's code: anything can happen
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnknownBackend(f"backend {name!r} ({entries[name].value}) cannot be imported: {reason}") from error
    if not (isinstance(found, type) and issubclass(found, Backend)):
        raise UnknownBackend(f"backend {name!r} ({entries[name].value}) is not a benchrun.backends.contract.Backend")
    if not isinstance(getattr(found, "description", None), Description):
        raise UnknownBackend(
            f"backend {name!r} ({entries[name].value}) has no description: a benchrun.backends.contract.Description is needed"
        )
    return found


def find_missing(name: str, variant: str) -> str | None:
    """What this interpreter lacks for a variant of a backend, as a sentence; None where it lacks nothing.

    Raises UnknownBackend where there is no such backend.
    """
    backend = load_backend(name)
    try:
        return backend.missing(variant)
    except (Exception, SystemExit) as error:  # somebody else's code: anything can happen
        reason = " ".join(str(error).split())
        said = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
        return f"{name}:{variant} cannot be asked whether it is installed, since its own check failed ({said})"
