"""The files that CI services read: action.yml, the workflow, the GitLab example, and commands that the docs show."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from benchrun.runner.cli.app import app
from tests.gate.processes import wait_until

ROOT = Path(__file__).parents[2]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
GITLAB = yaml.safe_load((ROOT / "docs/examples/gitlab-ci.yml").read_text("utf-8"))
STEPS: list[dict[str, Any]] = ACTION["runs"]["steps"]
JOBS: dict[str, dict[str, Any]] = WORKFLOW["jobs"]
SCRIPT: str = STEPS[0]["run"]


def all_steps() -> Iterator[dict[str, Any]]:
    yield from STEPS
    for job in JOBS.values():
        yield from job["steps"]


# --- our own command line


def parse(words: list[str]) -> None:
    """What `benchrun words` does before it runs. Raises click's errors, which name the option."""
    command: Any = typer.main.get_command(app)
    if words and words[0].startswith("-") and words[0] not in ("--help", "--version"):
        words = ["run", *words]
    context = command.make_context("benchrun", words)
    while hasattr(command, "resolve_command"):
        rest = [*getattr(context, "_protected_args", ()), *context.args]
        if not rest:
            return
        _, command, words = command.resolve_command(context, rest)
        context = command.make_context(command.name, words, parent=context)


def shell_commands(text: str) -> list[list[str]]:
    """The words after `benchrun` of every line of shell that begins with it; variables stay as they are written."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        if re.match(r"\s*benchrun ", line):
            words = shlex.split(line, comments=True)
            cut = next((i for i, word in enumerate(words) if word.startswith((">", "2>"))), len(words))
            found.append([word for word in words[1:cut] if word != "${arguments[@]}"])
    return found


def documented() -> list[tuple[str, list[str]]]:
    found = [("action.yml", words) for words in shell_commands(SCRIPT)]
    found += [("gitlab-ci.yml", words) for words in shell_commands("\n".join(GITLAB["gate"]["script"]))]
    for page in ("docs/gate.md", "docs/gating-statistics.md"):
        text = (ROOT / page).read_text("utf-8")
        for block in re.findall(r"```(?:bash|sh|console|)\n(.*?)```", text, re.DOTALL):
            found += [(page, words) for words in shell_commands(block)]
        found += [(page, shlex.split(each)[1:]) for each in re.findall(r"`(benchrun [^`]*)`", text) if "…" not in each]
    return found


@pytest.mark.parametrize(
    ("page", "words"), documented(), ids=lambda each: each if isinstance(each, str) else " ".join(each)
)
def test_commands_that_are_shown_parse(page: str, words: list[str]) -> None:
    values = {"$MAX_MINUTES": "20"}
    parse([values.get(word, word) for word in words])


def test_there_are_commands_to_check_and_wrong_ones_are_seen() -> None:
    pages = [page for page, _ in documented()]
    assert {"action.yml", "gitlab-ci.yml", "docs/gate.md"} <= set(pages)
    assert pages.count("docs/gate.md") >= 10
    for wrong in (["gate", "--base-reff", "x"], ["gate", "--max-minutes", "many"], ["nothing"], ["history"]):
        with pytest.raises(Exception, match=r"(?i)no such|valid|missing"):
            parse(wrong)


@pytest.mark.parametrize("step", [each for each in JOBS["gate"]["steps"] if each.get("uses") == "./"])
def test_the_workflows_own_arguments_parse(step: dict[str, Any]) -> None:
    parse(["gate", "--base-ref", "x", *shlex.split(step["with"]["arguments"])])
    parse(["gate", "--base-ref", "x", *shlex.split(ACTION["inputs"]["arguments"]["default"])])


# --- what they may do


def test_actions_are_pinned_by_version() -> None:
    used = {step["uses"] for step in all_steps() if "uses" in step}
    assert all(each == "./" or re.fullmatch(r"[\w-]+/[\w-]+@(v\d+\.\d+\.\d+|[0-9a-f]{40})", each) for each in used)


def test_permissions_are_the_least_and_no_secret_is_read() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert all("permissions" not in job for job in JOBS.values())
    assert "pull_request_target" not in WORKFLOW[True]  # YAML 1.1 reads `on` as true
    for path in ("action.yml", ".github/workflows/ci.yml", "docs/examples/gitlab-ci.yml"):
        text = (ROOT / path).read_text("utf-8")
        assert "secrets." not in text
        assert "TOKEN" not in text.upper().replace("BENCHRUN", "")


def test_scripts_take_no_text_from_outside() -> None:
    """`${{ … }}` inside a script would run whatever a branch is called."""
    for step in all_steps():
        assert "${{" not in step.get("run", "")


def test_every_job_ends() -> None:
    assert all(0 < job["timeout-minutes"] <= 60 for job in JOBS.values())
    assert GITLAB["gate"]["timeout"] == "45 minutes"


def test_what_the_action_refers_to_exists() -> None:
    text = (ROOT / "action.yml").read_text("utf-8")
    inputs = set(re.findall(r"inputs\.([\w-]+)", text))
    assert inputs == set(ACTION["inputs"])
    steps = {step["id"] for step in STEPS if "id" in step}
    assert set(re.findall(r"steps\.([\w-]+)\.", text)) <= steps
    written = set(re.findall(r'echo "([\w-]+)=', SCRIPT))
    assert {each["value"].split(".")[-1].split(" ")[0] for each in ACTION["outputs"].values()} <= written
    assert all("description" in each for each in (*ACTION["inputs"].values(), *ACTION["outputs"].values()))
    for step in JOBS["gate"]["steps"]:
        if step.get("uses") == "./":
            assert set(step["with"]) <= set(ACTION["inputs"])
            required = {name for name, each in ACTION["inputs"].items() if each.get("required")}
            assert required <= set(step["with"])


def test_files_that_the_workflow_runs_exist_and_are_programs() -> None:
    programs = [each for step in all_steps() for each in re.findall(r"(?:\.ci|tests)/[\w./]+", step.get("run", ""))]
    assert len(programs) >= 2
    for each in programs:
        assert os.access(ROOT / each, os.X_OK)
    assert (ROOT / "constraints.txt").is_file()


def test_gitlab_shows_the_report_and_only_inconclusive_is_yellow() -> None:
    job = GITLAB["gate"]
    assert job["allow_failure"]["exit_codes"] == [4]
    words = next(iter(shell_commands("\n".join(job["script"]))))
    assert words[words.index("--junit") + 1] == job["artifacts"]["reports"]["junit"]
    assert job["variables"]["GIT_DEPTH"] == "0"
    assert job["artifacts"]["when"] == "always"


# --- the action's script, run for real with a command that stands in for benchrun


def git(folder: Path, *words: str) -> str:
    environment = os.environ | {
        f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    found = subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True, env=environment)
    return found.stdout.strip()


STAND_IN = f"""#!{sys.executable} -IS
import json, os, signal, sys, time
def end(number, frame):
    time.sleep(0.6)
    print("kept")
    sys.exit(130)
signal.signal(signal.SIGTERM, end)
json.dump(sys.argv[1:], open(os.environ["NOTED"], "w"))
if os.environ["STATUS"] == "waits":
    os.close(os.open(os.environ["NOTED"] + ".waits", os.O_CREAT))
    signal.pause()
print("{{}}")
sys.exit(int(os.environ["STATUS"]))
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository in which main has gone on since the branch began, and a `benchrun` that notes what it is asked."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    git(folder, "commit", "-q", "--allow-empty", "-m", "base")
    git(folder, "checkout", "-q", "-b", "change")
    git(folder, "commit", "-q", "--allow-empty", "-m", "change")
    git(folder, "checkout", "-q", "main")
    git(folder, "commit", "-q", "--allow-empty", "-m", "later")
    git(folder, "checkout", "-q", "change")
    command = tmp_path / "bin" / "benchrun"
    command.parent.mkdir()
    command.write_text(STAND_IN)
    command.chmod(0o755)
    return folder


def start(checkout: Path, status: object = 0, **inputs: str) -> subprocess.Popen[str]:
    """The action's script, as the runner starts it."""
    folder = checkout.parent
    (folder / "output").write_text("")
    (folder / "noted").unlink(missing_ok=True)
    given = {name: str(each.get("default", "")) for name, each in ACTION["inputs"].items()} | {
        name.replace("_", "-"): value for name, value in inputs.items()
    }
    variables = {
        name: given[re.fullmatch(r"\$\{\{ inputs\.([\w-]+) \}\}", text)[1]]  # type: ignore[index]
        for name, text in STEPS[0]["env"].items()
    }
    return subprocess.Popen(
        ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", SCRIPT],
        cwd=checkout,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ
        | variables
        | {
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "RUNNER_TEMP": str(folder),
            "GITHUB_OUTPUT": str(folder / "output"),
            "NOTED": str(folder / "noted"),
            "STATUS": str(status),
        },
    )


def act(checkout: Path, status: int = 0, **inputs: str) -> tuple[int, list[str], dict[str, str], str]:
    """Exit status, what benchrun was asked, outputs and log of the action's script."""
    process = start(checkout, status, **inputs)
    log, _ = process.communicate(timeout=60)
    noted = checkout.parent / "noted"
    outputs = dict(line.split("=", 1) for line in (checkout.parent / "output").read_text().splitlines())
    return process.returncode, json.loads(noted.read_text()) if noted.exists() else [], outputs, log


def test_the_action_compares_with_the_merge_base(checkout: Path) -> None:
    status, words, outputs, _ = act(checkout, base_ref="main")
    assert status == 0
    assert words[:5] == ["gate", "--base-ref", git(checkout, "rev-parse", "main~1"), "--new-ref", "HEAD"]
    assert words[-2:] == ["--preset", "quick"]
    parse(words)
    assert outputs == {"exit-code": "0", "folder": str(checkout.parent / "benchrun-gate")}
    assert (checkout.parent / "benchrun-gate" / "gate.json").read_text() == "{}\n"


def test_the_action_hands_on_arguments_as_they_are_quoted(checkout: Path) -> None:
    _, words, _, _ = act(
        checkout, base_ref="main", arguments="--accept 'a point' --reason \"it's; $(touch oops) `id`\""
    )
    assert words[-4:] == ["--accept", "a point", "--reason", "it's; $(touch oops) `id`"]
    assert not (checkout / "oops").exists()
    _, words, _, _ = act(checkout, base_ref="main", arguments="")
    assert words[-1] == "--json"


@pytest.mark.parametrize(
    ("code", "allow", "status"),
    [(0, "false", 0), (1, "false", 1), (1, "true", 1), (2, "true", 2), (3, "true", 3), (4, "false", 4), (4, "true", 0)],
)
def test_the_actions_status(checkout: Path, code: int, allow: str, status: int) -> None:
    found, _, outputs, _ = act(checkout, code, base_ref="main", allow_inconclusive=allow)
    assert found == status
    assert outputs["exit-code"] == str(code)


def test_a_job_that_is_cancelled_ends_its_gate(checkout: Path) -> None:
    """The runner signals the step's shell alone, twice; the gate has to end in order, and before the shell does."""
    process = start(checkout, "waits", base_ref="main")
    wait_until((checkout.parent / "noted.waits").exists)
    for number in (signal.SIGINT, signal.SIGTERM):
        process.send_signal(number)
        time.sleep(0.2)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert (checkout.parent / "benchrun-gate" / "gate.json").read_text() == "kept\n"


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"base_ref": "nowhere"}, "no merge base"),
        ({"base_ref": "main", "arguments": "'open"}, "a quote without its partner"),
    ],
)
def test_the_action_refuses_what_it_cannot_do(checkout: Path, inputs: dict[str, str], said: str) -> None:
    status, words, outputs, log = act(checkout, 0, **inputs)
    assert (status, words, outputs["exit-code"]) == (2, [], "2")
    assert "::error title=benchrun gate::" in log
    assert said in log
