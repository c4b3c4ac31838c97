"""Databases and the pages run on them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.dashboard.stores import BUILDS, make

Databases = Callable[[str], Path]


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Databases:
    """The database of a name in `stores.BUILDS`, made once and never written again."""
    folder = tmp_path_factory.mktemp("databases")
    made: dict[str, Path] = {}

    def find(name: str) -> Path:
        if name not in made:
            assert name in BUILDS
            made[name] = make(folder / f"{name}.db", name)
        return made[name]

    return find


@pytest.fixture(autouse=True)
def _fresh_caches() -> Iterator[None]:
    """Every test opens its database itself."""
    import streamlit as st

    main = sys.modules["__main__"]
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()
    sys.modules["__main__"] = (
        main  # AppTest leaves its script there, which a process pool would start again in its children
    )
