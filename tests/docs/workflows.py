"""The steps of the workflows, and how a runner runs them."""

import os
import re
import subprocess

import yaml

from tests.docs.pages import ROOT

WORKFLOWS = ROOT / ".github/workflows"
NIGHTLY, CI, RELEASE = (
    yaml.safe_load((WORKFLOWS / f"{name}.yml").read_text()) for name in ("nightly", "ci", "release")
)
ENVIRONMENTS = NIGHTLY["jobs"]["bench"]["strategy"]["matrix"]["include"]
# Two environments make a night: what a claim compares is measured in both of them.
TOYS = {"core": "toy_a and first", "vllm": "toy_a and drawn"}


def step(job, name, workflow=NIGHTLY):
    """Return a job's step by its name."""
    (found,) = [s for s in workflow["jobs"][job]["steps"] if s.get("name") == name]
    return found


def filled(text, **matrix):
    """Return a step's text with the matrix' values in it, as GitHub puts them there."""
    return re.sub(r"\$\{\{ matrix\.(\w+) \}\}", lambda found: matrix[found[1]], text)


def artifact(environment):
    """Return the name of an environment's artefact and the paths in it."""
    (upload,) = [s for s in NIGHTLY["jobs"]["bench"]["steps"] if "upload" in s.get("uses", "")]
    return filled(upload["with"]["name"], environment=environment), upload["with"]["path"].split()


def ran(script, folder, **variables):
    """Run a step's script in a folder, as GitHub does; return its exit status and output."""
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=folder,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


def program(path, line):
    """Write a program of one line of shell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
