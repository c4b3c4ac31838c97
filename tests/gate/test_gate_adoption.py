"""The first pull request of a gate: its base has no benchmark suite yet. Real repositories, real commands."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from benchrun.results import Store, open_store
from benchrun.results.gates import list_gates, load_gate
from benchrun.runner.errors import UsageError
from benchrun.runner.gate.adoption import lacks_suite, named_paths
from benchrun.runner.gate.checkouts import find_commit, list_added
from benchrun.runner.gate.command_side import CommandFailed
from benchrun.runner.gate.limits import parse_limit
from benchrun.runner.gate.outcome import GateOutcome
from benchrun.runner.gate.reports.annotations import gate_annotations
from benchrun.runner.gate.reports.document import gate_document
from benchrun.runner.gate.reports.junit import junit_xml
from benchrun.runner.gate.reports.markdown import gate_markdown
from benchrun.runner.gate.reports.terminal import terminal_text
from benchrun.runner.gate.reports.wording import title
from benchrun.runner.gate.request import GateRequest, SideRequest
from benchrun.runner.gate.running import Surroundings, run_gate
from benchrun.runner.gate.settings import GateSettings
from tests.gate.suites import DOUBLE, decided_alike

# runs what is below bench/, like a test runner that finds its files itself: it ends well where there is nothing
RUNNER = """import json, pathlib, runpy, sys
found = sorted(pathlib.Path("bench").glob("*.py"))
pathlib.Path(sys.argv[1]).write_text(json.dumps({"machine_info": {}, "commit_info": {}, "benchmarks": []}))
for each in found:
    runpy.run_path(str(each), run_name="__main__")
"""
SUITE = DOUBLE.read_text().replace("bench.py::", "bench/speed.py::")
FAILURE = CommandFailed("error", "the command exited with status 4", "failure")
NOTHING = CommandFailed("error", "the command wrote no file", "nothing")
SPEED = ("bench/speed.py::test_one", "bench/speed.py::test_two")
NAMED = ("python", "-I", "bench/speed.py", "{out}", "/tmp/count")


@dataclass(frozen=True, slots=True)
class Repository:
    """Tags are states of a project: `plain` has no suite, `suite` brings one, the others lead elsewhere from these two."""

    folder: Path

    def git(self, *arguments: str) -> None:
        names = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
        subprocess.run(["git", *names, "-C", str(self.folder), *arguments], check=True, capture_output=True)

    def commit(self, tag: str, files: dict[str, str | None]) -> None:
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(exist_ok=True)
            path.unlink() if text is None else path.write_text(text)
        self.git("add", "--all")
        self.git("commit", "-q", "-m", tag)
        self.git("tag", tag)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    made = Repository(tmp_path_factory.mktemp("project"))
    made.git("init", "-q")
    made.commit("plain", {"runner.py": RUNNER, "lib/code.py": "VALUE = 1\n"})
    made.commit("suite", {"bench/speed.py": SUITE})
    made.git("checkout", "-q", "plain")
    made.commit("failing", {"bench/speed.py": "import sys\nsys.exit('cannot import name x')\n"})
    made.git("checkout", "-q", "plain")
    made.commit("elsewhere", {"old/speed.py": SUITE})
    made.commit("moved", {"old/speed.py": None, "bench/speed.py": SUITE + "\n# now here\n"})
    made.git("checkout", "-q", "plain")
    made.commit("helpers", {"bench/data.txt": "12\n"})
    made.commit("later", {"bench/speed.py": SUITE})
    made.git("checkout", "-q", "suite")
    return made


@dataclass(frozen=True, slots=True)
class Gates:
    """Runs gates between tags, with one cache for all."""

    repository: Path
    store: Store
    cache: Path
    told: list[str]

    def __call__(
        self, base: str, new: str, command: str, other: SideRequest | None = None, **changes: Any
    ) -> GateOutcome:
        side = SideRequest(ref=base, command=command)
        request = GateRequest(base=side, new=other or replace(side, ref=new), install="", seed=1)
        around = Surroundings(folder=self.repository, cache=self.cache, warn=self.told.append)
        return run_gate(replace(request, **changes), self.store, around)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def gates(repository: Repository, tmp_path: Path, cache: Path) -> Iterator[Gates]:
    with open_store(tmp_path / "gates.db") as store:
        yield Gates(repository.folder, store, cache, [])


def test_the_pull_request_that_brings_the_suite_is_green_and_says_that_nothing_was_compared(
    gates: Gates, bench: Any, tmp_path: Path
) -> None:
    outcome = gates("plain", "suite", f"python -I bench/speed.py {{out}} {tmp_path / 'count'}")
    assert (outcome.exit_code, outcome.verdict.verdict) == (0, "NEW")
    assert [each.verdict for each in outcome.points] == ["NEW", "NEW"]
    assert all(each.metrics[0].new > 0 for each in outcome.points)  # measured, for what comes after
    assert title(outcome) == "NEW: nothing was compared, no point has a base"
    (told,) = gates.told
    assert told.startswith("the base has no benchmarks yet: git has none of their files in plain ")
    assert "the command exited with status 2" in told and "bench/speed.py" in told  # as Python says it
    assert "Nothing was compared and every point is NEW" in told
    document = gate_document(outcome)
    assert (document["outcome"], document["remarks"][0]) == ("NEW", told)
    for text in (terminal_text(outcome, 1000), junit_xml(outcome), gate_markdown(outcome), *gate_annotations(outcome)):
        plain = text.replace("\\", "").replace("%0A", "\n")
        assert "nothing was compared, no point has a base" in plain
        assert "Nothing was compared and every point is NEW; the gate begins with the first base that has them" in plain
    assert gate_annotations(outcome)[0].startswith("::warning ")  # seen, should it come again and again
    assert 'skipped="2"' in junit_xml(outcome)
    record = load_gate(gates.store, outcome.id)
    assert [(each.side, each.stage) for each in record.launches] == [("new", 0), *[("new", 1)] * 3]
    assert record.sides["base"].run_id is None and record.sides["new"].run_id == f"{outcome.id}-new"
    assert {each.row.status for each in gates.store.run(f"{outcome.id}-new").measurements} == {"ok"}
    assert decided_alike(gates.store, outcome)
    again = bench("gate", "show", outcome.id, "--json", "--db", str(tmp_path / "gates.db"))
    assert again.status == 0 and "removed" not in again.err
    assert json.loads(again.out)["remarks"] == document["remarks"]


def test_limits_hold_there_all_the_same(gates: Gates, tmp_path: Path) -> None:
    command = f"python -I bench/speed.py {{out}} {tmp_path / 'count'}"
    met = gates("plain", "suite", command, limits=(parse_limit("p50_ms=1000"),))
    assert (met.exit_code, title(met)) == (0, "NEW: nothing was compared, no point has a base")
    broken = gates("plain", "suite", command, limits=(parse_limit("p50_ms=0.1"),))
    assert (broken.exit_code, title(broken)) == (1, "FAIL: 2 of 2 points FAIL")
    assert "Nothing was compared" in "".join(gate_annotations(broken))


def test_a_runner_that_finds_nothing_there_and_ends_well(gates: Gates, tmp_path: Path) -> None:
    """As pytest does where no test is a benchmark; the base may have the folder, and other files in it."""
    command = f"python -I runner.py {{out}} {tmp_path / 'count'}"
    outcome = gates("helpers", "later", command)
    assert (outcome.exit_code, outcome.verdict.verdict) == (0, "NEW")
    assert "no benchmark ran" in gates.told[0]


@pytest.mark.parametrize(
    ("base", "new", "command", "said"),
    [
        ("failing", "suite", "bench/speed.py", "cannot import name x"),
        ("elsewhere", "moved", "bench/speed.py", "exited with status 2"),
        ("plain", "failing", "bench/speed.py", "; nor did the new command: the command exited with status 1"),
        ("plain", "suite", "bench/sped.py", "; nor did the new command: the command exited with status 2"),
    ],
    ids=["fails", "moved", "fails on both sides", "wrong path"],
)
def test_a_base_that_only_fails_stays_an_error(
    gates: Gates, tmp_path: Path, base: str, new: str, command: str, said: str
) -> None:
    with pytest.raises(UsageError, match="the base command measured nothing") as caught:
        gates(base, new, f"python -I {command} {{out}} {tmp_path / 'count'}", settings=GateSettings(control=False))
    assert said in str(caught.value)
    assert str(caught.value).endswith("merge them first, in a pull request without this gate")
    assert list_gates(gates.store) == [] and gates.told == []


def test_moved_files_are_not_added_whatever_limit_git_has(tmp_path: Path) -> None:
    made = Repository(tmp_path)
    made.git("init", "-q")
    made.git("config", "diff.renameLimit", "1")
    texts = {name: "".join(f"{name} {line}\n" for line in range(30)) for name in "abc"}
    made.commit("one", {f"old/{name}.py": text for name, text in texts.items()})
    moved: dict[str, str | None] = {f"new/{name}{name}.py": f"{text}# moved\n" for name, text in texts.items()}
    made.commit("two", {**dict.fromkeys((f"old/{name}.py" for name in texts), None), **moved, "new/fresh.py": "1\n"})
    assert list_added(tmp_path, "one", "two") == {"new/fresh.py"}


def test_other_commands_or_interpreters_tell_nothing(gates: Gates, tmp_path: Path) -> None:
    """What the base's own command cannot find may be a mistake in that command."""
    command = f"python -I bench/speed.py {{out}} {tmp_path / 'count'}"
    with pytest.raises(UsageError, match="the base command measured nothing"):
        gates("plain", "suite", command, other=SideRequest(ref="suite", command=f"{command} 1.0"))
    assert not (tmp_path / "count").exists()  # the new side is not even asked


# --- the rule by itself


@pytest.mark.parametrize(
    ("base", "new", "arguments", "failure", "benchmarks", "lacks"),
    [
        ("plain", "suite", NAMED, FAILURE, SPEED, True),
        ("plain", "suite", ("pytest", "bench", "-q"), FAILURE, SPEED, True),
        ("plain", "suite", ("./bench/speed.py",), FAILURE, SPEED, True),
        ("plain", "suite", ("pytest", "./bench/speed.py::test_one"), FAILURE, SPEED, True),
        ("plain", "suite", ("pytest",), NOTHING, SPEED, True),
        ("helpers", "later", NAMED, FAILURE, SPEED, True),
        # the base has what the command names, or one of it: why it failed is not known
        ("helpers", "later", ("pytest", "bench"), FAILURE, SPEED, False),
        ("plain", "suite", ("pytest", "lib", "bench"), FAILURE, SPEED, False),
        ("plain", "suite", ("pytest",), FAILURE, SPEED, False),
        ("plain", "suite", ("bench",), FAILURE, SPEED, False),  # a program of that name
        ("plain", "suite", ("pytest", "--rootdir=bench", "/bench", "../bench", "."), FAILURE, SPEED, False),
        # there was a suite
        ("suite", "suite", NAMED, NOTHING, SPEED, False),
        ("failing", "suite", NAMED, FAILURE, SPEED, False),
        ("failing", "suite", NAMED, NOTHING, SPEED, False),
        ("elsewhere", "moved", NAMED, FAILURE, SPEED, False),
        ("plain", "suite", NAMED, FAILURE, (*SPEED, "lib/code.py::test_three"), False),
        # names that are no files of the repository
        ("plain", "suite", NAMED, FAILURE, ("encoder b1",), False),
        # killed, out of time, or a file that is there and cannot be taken
        ("plain", "suite", NAMED, CommandFailed("crashed", "ended by SIGKILL"), SPEED, False),
        ("plain", "suite", NAMED, CommandFailed("timeout", "took too long"), SPEED, False),
        ("plain", "suite", NAMED, CommandFailed("error", "NaN"), SPEED, False),
    ],
)
def test_what_git_says(
    repository: Repository,
    base: str,
    new: str,
    arguments: tuple[str, ...],
    failure: CommandFailed,
    benchmarks: tuple[str, ...],
    lacks: bool,
) -> None:
    old, now = (find_commit(repository.folder, each) for each in (base, new))
    folder = repository.folder / "lib"  # a gate may be run in any folder of the repository
    assert lacks_suite(folder, old, now, arguments, failure, benchmarks) is lacks
    assert not lacks_suite(folder, "0" * 40, now, arguments, failure, benchmarks)


def test_words_that_may_be_paths() -> None:
    words = ("python", "-m", "pytest", "bench/a.py::test[x/y]", "--json", "{out}", "out={out}", ".", "../x", "bench/")
    assert named_paths(words) == ["pytest", "bench/a.py", "bench"]
    assert named_paths(("tools/run",)) == ["tools/run"]
