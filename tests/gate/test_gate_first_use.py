"""What somebody who gates for the first time runs into: programs of another environment, bounds that are too tight, names
of suites, acceptances that do not count.
"""

from __future__ import annotations

import math
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchrun.runner.errors import UsageError
from benchrun.runner.gate.checkouts import check_out, find_commit
from benchrun.runner.gate.command_side import check_program
from benchrun.runner.gate.preparation import find_places, label_commands, settle_acceptances
from benchrun.runner.gate.reports.terminal import shorten_names
from benchrun.runner.gate.request import AcceptanceRequest, GateRequest, SideRequest, check_gate
from benchrun.runner.gate.settings import GateSettings
from benchrun.runner.launcher import Interpreter
from tests.gate.builders import judge, make_plan, metric_of, noisy, point_of

DOUBLE = Path(__file__).with_name("suite_double.py")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    for arguments in (("init", "-q", "-b", "main"), ("commit", "-q", "--allow-empty", "-m", "first"),
                      ("commit", "-q", "--allow-empty", "-m", "second")):  # fmt: skip
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True)
    return folder


def test_programs_of_the_gates_environment_run_in_the_sides(repository: Path, tmp_path: Path) -> None:
    """A bare `pytest` would otherwise measure what is installed beside the gate, on both sides alike."""
    made = check_out(repository, find_commit(repository, "HEAD"), "", tmp_path / "cache")
    variables = {name: value for name, value in os.environ.items() if name not in made.environment}
    variables |= {name: value for name, value in made.environment.items() if value is not None}
    own = Path(made.python).parent
    for name in ("pytest", "pip", "pip3"):
        if (Path(sys.executable).parent / name).exists():
            assert (own / name).exists()
    (tmp_path / "test_where.py").write_text("import sys\ndef test_where(): print('prefix', sys.prefix)\n")
    done = subprocess.run(
        ["pytest", "-q", "-s", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path / "test_where.py")],
        env=variables, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert f"prefix {own.parent}" in done.stdout, done.stdout + done.stderr


def test_a_program_of_another_environment_is_refused(tmp_path: Path) -> None:
    for folder in ("own", "other"):
        (tmp_path / folder).mkdir()
    for path in ("own/python", "other/pytest", "other/make"):
        (tmp_path / path).write_text("#!/bin/sh\n")
        (tmp_path / path).chmod(0o755)
    search = {"PATH": f"{tmp_path / 'own'}:{tmp_path / 'other'}"}
    side = Interpreter(str(tmp_path / "own" / "python"), search)
    with pytest.raises(UsageError, match=r"the base side's environment has no pytest: .*/other/pytest"):
        check_program(("pytest", "{out}"), side, "base")
    for fine in (("python", "-m", "pytest"), ("make",), ("nowhere",), (str(tmp_path / "other" / "pytest"),)):
        check_program(fine, side, "base")
    check_program(("pytest",), Interpreter(None, search), "base")  # this environment's own side
    (tmp_path / "own" / "pytest").write_text("#!/bin/sh\n")
    (tmp_path / "own" / "pytest").chmod(0o755)
    check_program(("pytest",), side, "base")


@pytest.mark.parametrize(
    ("base", "new", "labels"),
    [
        ("old/run {out}", "new/run {out}", ("old/run {out}", "new/run {out}")),
        (
            "/opt/a/long/path/to/envs/bin/python -m pytest old_bench --benchmark-json {out} -q",
            "/opt/a/long/path/to/envs/bin/python -m pytest new_bench --benchmark-json {out} -q",
            ("… old_bench …", "… new_bench …"),
        ),
        (
            "/opt/a/long/path/to/envs/bin/python -m pytest bench --benchmark-json {out}",
            "/opt/a/long/path/to/envs/bin/python -m pytest bench --benchmark-json {out} --fast",
            ("… {out}", "… {out} --fast"),
        ),
        (
            "python -m pytest tests/benchmarks --benchmark-only --benchmark-json {out} -k encoder",
            "taskset -c 1 python -m pytest tests/benchmarks --benchmark-only --benchmark-json {out} -k encoder",
            ("python …", "taskset -c 1 python …"),
        ),
        (
            "python -m pytest tests/benchmarks --benchmark-only --benchmark-json {out} -k encoder -x",
            "python -m pytest tests/benchmarks --benchmark-only --benchmark-json {out} -x",
            ("… -k encoder -x", "… -x"),
        ),
        (
            f"/home/{'somebody/' * 8}old/bin/python bench.py {{out}}",
            f"/home/{'somebody/' * 8}new/bin/python bench.py {{out}}",
            ("…somebody/old/bin/python …", "…somebody/new/bin/python …"),
        ),
        ("y" * 70 + "1 {out}", "y" * 70 + "2 {out}", (f"…{'y' * 19}1 …", f"…{'y' * 19}2 …")),
        (f"run {{out}} {'y' * 70}", f"run {{out}} {'y' * 70} z", (f"… …{'y' * 20}", f"… …{'y' * 20} z")),
        ("x" * 70, "x" * 70, ("x" * 59 + "…", "x" * 59 + "…")),
        ("a " * 40, "b " * 40, ("a " * 29 + "a…", "b " * 29 + "b…")),
    ],
)
def test_labels_of_commands_tell_the_sides_apart(base: str, new: str, labels: tuple[str, str]) -> None:
    assert tuple(label_commands({"base": base, "new": new}).values()) == labels


def test_bounds_that_decide_nothing_are_refused() -> None:
    def ask(**settings: Any) -> None:
        check_gate(GateRequest(aa=True, settings=GateSettings(**settings)))

    with pytest.raises(UsageError, match=r"--max-launches 7 decides nothing: stage 1 takes 8, .*two discarded"):
        ask(max_launches=7)
    with pytest.raises(UsageError, match=r"stage 1 takes 6, both sides together$"):
        ask(max_launches=5, warmup=False)
    ask(max_launches=8)
    ask(max_launches=6, warmup=False)


def test_aa_of_a_ref_is_that_ref_twice(repository: Path, tmp_path: Path) -> None:
    def commits(*, aa: bool) -> list[str | None]:
        request = GateRequest(base=SideRequest(ref="HEAD~1"), install="", aa=aa)
        places = find_places(request, repository, tmp_path / "cache", lambda _: None)
        return [places["base"].commit, places["new"].commit]

    before, now = (find_commit(repository, ref) for ref in ("HEAD~1", "HEAD"))
    assert commits(aa=True) == [before, before]
    assert commits(aa=False) == [before, now]


def test_an_expiry_that_git_does_not_know_is_said(repository: Path) -> None:
    request = GateRequest(
        accepted=tuple(AcceptanceRequest(point="p0", reason="so be it", expiry=each) for each in ("v9", "HEAD"))
    )
    base = find_commit(repository, "HEAD~1")
    unknown, coming = settle_acceptances(request, repository, base)
    assert (unknown.expired, unknown.expiry) == (True, "v9, which git does not know here")
    assert (coming.expired, coming.expiry) == (False, "HEAD")  # the base does not contain it yet
    verdict = judge(make_plan(), noisy(slower={"p0": 1.2}), acceptances=[unknown])
    assert verdict.exit_code == 1
    assert "an acceptance has expired (v9, which git does not know here): so be it" in point_of(verdict, "p0").notes


def test_a_run_that_a_bound_ended_shows_all_its_launches() -> None:
    """They decide nothing, but say more than stage 1 alone."""
    plan, measure = make_plan(), noisy(slower={"p0": 1.2})
    bound = GateSettings(max_launches=8 + 8)
    cut = metric_of(judge(plan, measure, bound), "p0")
    assert (cut.verdict, cut.launches) == ("INCONCLUSIVE", 3 + 4)
    assert cut.ratio_low < 1.2 < cut.ratio_high
    assert math.isnan(cut.p) and math.isnan(cut.fresh_ratio)
    early = metric_of(judge(plan, measure, GateSettings(max_launches=8)), "p0")
    assert (early.verdict, early.launches) == ("INCONCLUSIVE", 3)
    assert cut.ratio_high - cut.ratio_low < early.ratio_high - early.ratio_low


def test_one_long_name_is_said_above_the_table() -> None:
    assert shorten_names({"k": "torch:eager tiny encoder fp32 b1 s32 cpu"}) == (
        {"k": "b1 s32 cpu"},
        "torch:eager tiny encoder fp32",
    )
    assert shorten_names({"k": "bench.py::test_one"}) == ({"k": "bench.py::test_one"}, "")


def test_history_and_comparison_know_benchmarks_by_name(bench: Any, tmp_path: Path) -> None:
    def command(side: str, ratio: float) -> str:
        return shlex.join([sys.executable, "-I", "-S", str(DOUBLE), "{out}", str(tmp_path / side), str(ratio)])

    ran = bench("gate", "--base-cmd", command("base", 1.0), "--new-cmd", command("new", 1.2), "--max-launches", "8",
                "--set", "control=false")  # fmt: skip
    assert ran.status == 4, ran.err
    found = bench("history", "test_one")
    assert found.status == 0 and "bench.py::test_one" in found.out, found.err
    unknown = bench("history", "test_none")
    assert unknown.status == 2 and "None" not in unknown.err and "bench.py::test_two" in unknown.err
    gate = ran.err + ran.out
    gate = gate[gate.index("gate show ") :].split()[2]
    compared = bench("compare", f"{gate}-base", f"{gate}-new")
    assert "all points: bench.py::…" in compared.out and "\ntest_two" in compared.out
