"""The GitHub Action does what it says: its steps, run as a runner does, over small files."""

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import ROOT
from tests.docs.workflows import program, ran

ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}
MARKER = "<!-- benchsuite gate: CI, model, gate -->"


class Runner:
    """A machine that runs the Action's steps, with values for what stands in ``${{ }}``."""

    def __init__(self, folder, **inputs):
        self.folder, self.temp = folder, folder / "temp"
        self.outputs = {}
        self.inputs = {name: given.get("default", "") for name, given in ACTION["inputs"].items()}
        self.inputs |= inputs
        (self.temp / "benchsuite-gate").mkdir(parents=True)
        line = f'exec "{sys.executable}" -m benchsuite "$@"'
        program(self.temp / "benchsuite-gate/venv/bin/benchsuite", line)
        for name in ("output", "summary"):
            (folder / name).touch()

    def filled(self, text):
        """Return a text with the values that a runner puts into it."""
        known = {f"inputs.{name}": value for name, value in self.inputs.items()}
        known |= {f"steps.gate.outputs.{name}": value for name, value in self.outputs.items()}
        known |= {"runner.temp": str(self.temp), "github.action_path": str(ROOT)}
        known |= {"github.workflow": "CI", "github.job": "model", "github.action": "gate"}
        known |= {"github.event.pull_request.number": "7", "github.token": "none"}
        return re.sub(r"\$\{\{ ([\w.]+) \}\}", lambda found: known[found[1]], str(text))

    def step(self, name, **variables):
        """Run one step; return its status and what it said."""
        step = STEPS[name]
        env = {key: self.filled(value) for key, value in step["env"].items()}
        env |= {"GITHUB_OUTPUT": str(self.folder / "output"), "GITHUB_REPOSITORY": "a/b"}
        env |= {"GITHUB_STEP_SUMMARY": str(self.folder / "summary")}
        status, told = ran(step["run"], self.folder, **env, **variables)
        lines = (self.folder / "output").read_text().splitlines()
        self.outputs = dict(line.split("=", 1) for line in lines)
        return status, told

    @property
    def summary(self):
        return (self.folder / "summary").read_text()


def evaluations(folder, n, lost, gained):
    """Two files of one's own: the base alone is right ``lost`` times, the candidate ``gained``."""
    for name, right in (("base", range(lost)), ("candidate", range(lost, lost + gained))):
        rows = [f"q{i},{int(i in right or i % 2 * (i >= lost + gained))}" for i in range(n)]
        (folder / f"{name}.csv").write_text("\n".join(["id,right", *rows]) + "\n")
    return {"base": "base.csv", "candidate": "candidate.csv", "samples": "true"}


@pytest.mark.parametrize(
    ("n", "lost", "gained", "status", "verdict"),
    [(2000, 10, 10, 0, "not_worse"), (1000, 60, 10, 1, "worse"), (200, 6, 6, 3, "undecided")],
)
def test_the_verdict_is_the_status_and_stands_in_the_summary(
    n, lost, gained, status, verdict, tmp_path
):
    machine = Runner(tmp_path, **evaluations(tmp_path, n, lost, gained))
    machine.inputs |= {"options": "--columns id,right", "margin": "accuracy:right=1\naccuracy=9"}

    done, told = machine.step("Gate")

    assert done == 0, told  # the comment is written before the job fails
    assert machine.outputs["status"] == str(status)
    assert machine.outputs["verdict"] == verdict
    assert f"**{verdict.replace('_', ' ')}**" in machine.summary
    assert json.loads(Path(machine.outputs["json"]).read_text())["outcome"] == verdict
    assert machine.step("Verdict")[0] == status


def test_undecided_may_pass(tmp_path):
    machine = Runner(tmp_path, **evaluations(tmp_path, 200, 6, 6), undecided="pass")
    machine.inputs["options"] = "--columns id,right"
    machine.step("Gate")

    assert machine.step("Verdict")[0] == 0


def test_what_cannot_be_judged_fails_and_says_why(tmp_path):
    machine = Runner(tmp_path, base="base.csv", candidate="$(touch oops)", samples="true")
    machine.inputs |= {"options": "--columns id,right", "undecided": "pass"}

    done, told = machine.step("Gate")

    assert done == 0
    assert machine.outputs["verdict"] == "none"
    assert "judged nothing (status 4)" in machine.summary
    assert "cannot read base.csv" in machine.summary
    assert "cannot read base.csv" in told
    assert machine.step("Verdict")[0] == 4
    assert not (tmp_path / "oops").exists()


def test_a_program_that_dies_is_no_verdict(tmp_path):
    machine = Runner(tmp_path, base="a", candidate="b")
    program(machine.temp / "benchsuite-gate/venv/bin/benchsuite", "echo killed >&2; exit 1")
    machine.step("Gate")

    assert machine.outputs["verdict"] == "none"
    assert "killed" in machine.summary
    assert machine.step("Verdict")[0] == 1


@pytest.mark.parametrize("known", ["", "12\n34"])
def test_one_comment_is_written_and_then_kept_up_to_date(known, tmp_path):
    machine = Runner(tmp_path, **evaluations(tmp_path, 1000, 60, 10))
    machine.inputs["options"] = "--columns id,right"
    machine.step("Gate")
    record = f"printf '%s\\n' \"$@\" >> {tmp_path}/asked"
    line = f"{record}; case $* in *--paginate*) echo '{known}';; esac"
    program(tmp_path / "bin/gh", line)

    status, told = machine.step("Comment", PATH=f"{tmp_path}/bin:/usr/bin:/bin")

    assert status == 0, told
    asked = (tmp_path / "asked").read_text()
    body = Path(re.findall(r"body=@(.+)", asked)[0]).read_text()
    assert body.startswith(MARKER)
    assert "**worse**" in body
    where = "PATCH\nrepos/a/b/issues/comments/34" if known else "POST\nrepos/a/b/issues/7/comments"
    assert where in asked
    assert STEPS["Comment"]["continue-on-error"]


def test_it_installs_the_checkout_that_it_is_of(tmp_path):
    machine = Runner(tmp_path)
    script = 'mkdir -p "$3/bin"; printf \'#!/bin/sh\\necho "$@" > asked\\n\' > "$3/bin/python"; '
    program(tmp_path / "bin/python3", script + 'chmod +x "$3/bin/python"')

    status, told = machine.step("Install", PATH=f"{tmp_path}/bin:/usr/bin:/bin")

    assert status == 0, told
    words = (tmp_path / "asked").read_text().split()
    assert words[:3] == ["-m", "pip", "install"]
    assert Path(words[-1]) == ROOT
    assert (ROOT / "constraints.txt").samefile(words[words.index("--constraint") + 1])


def test_no_input_is_put_into_a_script():
    """What a pull request can choose reaches the shell through variables alone."""
    assert not [name for name, step in STEPS.items() if "${{" in step["run"]]
