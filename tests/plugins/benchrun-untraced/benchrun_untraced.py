"""A plugin of coverage that switches its tracer off while a large library is imported, in every process of the tests.

Coverage's tracer sees each line of every module, also of those whose lines it does not count. Importing PyTorch and
Transformers, which each worker does, takes a third longer by that. None of these libraries imports benchrun while it is
imported itself, so that nothing which is counted is missed. The garbage collector rests meanwhile: what an import makes
stays, and looking through it again and again takes a quarter of the time.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

LIBRARIES = frozenset({
    "alembic", "altair", "huggingface_hub", "jsonschema", "numpy", "onnx", "onnxruntime", "pandas", "pyarrow", "rich", "scipy",
    "sqlalchemy", "streamlit", "sympy", "tokenizers", "torch", "transformers", "typer",
})  # fmt: skip


class UntracedFinder:
    """Finds modules of the libraries as Python does, and has their code run without the tracer."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] not in LIBRARIES or not hasattr(sys.gettrace(), "start"):
            return None  # another finder's, or nobody traces, or what traces is no tracer of coverage
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or type(spec.loader) is not SourceFileLoader:
            return spec
        whole = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            tracer: Any = sys.gettrace()
            if not hasattr(tracer, "start"):
                return whole(module)
            sys.settrace(None)
            collecting = gc.isenabled()
            gc.disable()
            try:
                whole(module)
            finally:
                if collecting:
                    gc.enable()
                tracer.start()

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]  # the loader stays what it is to all others
        return spec


def coverage_init(reg: object, options: object) -> None:  # the names by which coverage calls it
    """Called by coverage in each process that it measures."""
    sys.meta_path.insert(0, UntracedFinder())
