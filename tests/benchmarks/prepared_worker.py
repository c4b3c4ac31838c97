"""A worker that has its libraries imported and its model loaded before it takes up its first point, so that a bank of
launches is made in a fraction of the time: `python -P prepared_worker.py MODEL -P -m benchrun.runner.worker FD`, as
`runner.launcher` starts any worker. MODEL is a pickle of the one model's specification and its longest sequence.
"""

from __future__ import annotations

import pickle
import runpy
import sys
from pathlib import Path

import benchrun.backends.models as models
import benchrun.backends.reference
import benchrun.backends.torch_sessions
import benchrun.runner.environment
import benchrun.runner.loops
import benchrun.runner.parity  # noqa: F401 - for what importing them takes

if __name__ == "__main__":
    loaded = models.load_model(*pickle.loads(Path(sys.argv[1]).read_bytes()))
    models.load_model = lambda *_: loaded
    sys.argv = sys.argv[sys.argv.index("-m") + 1 :]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
