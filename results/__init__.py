"""What was measured: schema, store, queries, migrations, importers, exporters, published tables.

from benchrun.results import open_store
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchrun.results.store import Store, open_store

__all__ = ["Store", "open_store"]


def __getattr__(name: str) -> Any:  # lazy: a worker that only summarises samples must not load SQLAlchemy
    if name in __all__:
        from benchrun.results import store

        return getattr(store, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
