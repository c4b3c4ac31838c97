"""What an error message quotes of a program that failed, wherever it failed: a worker, a suite, an installer."""

from __future__ import annotations

import pytest

from benchrun.runner.last_words import LONGEST, find_last_words, quote_last_words
from benchrun.runner.launcher import Exit
from benchrun.runner.sweep import died


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("ran\nall done\n", "all done"),
        (" \n", ""),
        ("\n a\nb \x1b[1mc\udcff \n \n", "b [1mc"),
        (
            "collected 0\nE   ModuleNotFoundError: No module named 'tinylib'\nERROR bench\n==== 1 error in 2.88s ====\n",
            "E ModuleNotFoundError: No module named 'tinylib' … 1 error in 2.88s",
        ),
        (
            "ERROR: No matching distribution found for nothing\n\n[notice] To update, run: pip install --upgrade pip\n",
            "ERROR: No matching distribution found for nothing … [notice] To update, run: pip install --upgrade pip",
        ),
        ("ValueError: first\nthe above led to\nKeyError: 'x'\n", "KeyError: 'x'"),
        ("=====\n", "====="),
        ("x" * 400, "x" * (LONGEST - 3) + "..."),
    ],
)
def test_the_last_line_and_the_error_before_it(said: str, words: str) -> None:
    assert find_last_words(said) == words
    assert quote_last_words(said) == (f"; its last words: {words}" if words else "")


def test_a_worker_that_died_names_its_error() -> None:
    log = "RuntimeError: engine refused\nreleasing memory\n"
    said = "the worker exited with status 1; its last words: RuntimeError: engine refused … releasing memory"
    assert died(Exit("1", False, log)) == {"status": "crashed", "error": said}
