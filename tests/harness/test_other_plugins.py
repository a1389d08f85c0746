"""Beside other people's plugins a cell has the same numbers, one record, and a plain failure."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.toys import toys

pytestmark = pytest.mark.stress

PLUGINS = (
    "coverage==7.17.5",
    "py-cpuinfo==9.0.0",
    "pytest-benchmark==5.3.1",
    "pytest-cov==7.1.0",
    "pytest-html==4.2.0",
    "pytest-metadata==3.1.1",
    "pytest-randomly==5.1.0",
    "pytest-repeat==0.9.4",
    "pytest-rerunfailures==16.7",
    "pytest-split==0.11.0",
    "pytest-timeout==2.4.0",
)

CONFTEST = toys("toy_a", "toy_b")
CONFTEST += """
import random

import numpy as np
import pytest

axes = {"model": ("toy_a", "toy_b"), "method": ("plain", "odd")}
claims = (
    lower("perplexity", "plain", than="odd", by_seed=True),
    identical("shared", "plain"),
)
one = axes | {"model": ("toy_a",)}
register_study(Study("dice", "?", one, (1, 2, 3, 4, 5, 6), reads={"model": ""}, claims=claims))
register_study(Study("slow", "?", axes, (1, 2), reads={"model": ""}))


def throw():
    import torch

    return [random.random(), float(np.random.rand()), float(torch.rand(()))]


@pytest.fixture(scope="session")
def table():
    return throw()


@pytest.fixture(scope="module")
def board():
    yield throw()


@pytest.fixture
def hand(board):
    return throw()


@pytest.fixture
def late():
    return throw()
"""

DICE = '''
import os
from pathlib import Path

import pytest
from conftest import throw


@pytest.mark.study("dice")
def test_dice(cell, record, table, board, hand, request):
    """The two methods differ by about 0.5: only equal draws can tell them apart."""
    thrown = [*table, *board, *hand, *throw(), *request.getfixturevalue("late"), *throw()]
    gap = 0.5 + 0.01 * cell.seed if cell.method == "odd" else 0.0
    record.update(perplexity=sum(thrown) + gap)
    record.update(shared=sum(table) + sum(board))
    record.items(thrown=thrown)
    if os.environ.get("FLAKY") == cell.id and not Path("tried").exists():
        Path("tried").touch()
        raise AssertionError("only the first time")
'''

SLOW = '''
import pytest


@pytest.mark.study("slow")
def test_slow(cell, record):
    """One cell hangs."""
    record.update(perplexity=1.0)
    while cell.id == "toy_b-plain-seed1":
        pass
'''


@pytest.fixture(scope="session")
def plugins(tmp_path_factory) -> Path:
    """A folder with the other plugins, for the ``PYTHONPATH`` of a session."""
    folder = tmp_path_factory.mktemp("plugins")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-deps"]
    command = [*pip, "--quiet", "--no-compile", "--retries=1", f"--target={folder}", *PLUGINS]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"pip finds no other plugins: {done.stderr.strip().splitlines()[-1:]}")
    return folder


class Project:
    """A project in a folder of its own, and what its sessions left."""

    def __init__(self, folder: Path, path: str = "") -> None:
        self.folder, self._path = folder, path
        (folder / "conftest.py").write_text(CONFTEST)
        (folder / "test_dice.py").write_text(DICE)
        (folder / "test_slow.py").write_text(SLOW)

    def run(self, *args: str, **environ: str) -> str:
        """Return what the session printed."""
        command = [sys.executable, "-m", "pytest", *args]
        environ = os.environ | {"PYTHONPATH": self._path, "COLUMNS": "200"} | environ
        done = subprocess.run(command, cwd=self.folder, env=environ, capture_output=True, text=True)
        return done.stdout + done.stderr

    def results(self) -> dict[str, str]:
        """Return the digest of each good record's results, by the record's file."""
        return {name: r["results_sha256"] for name, r in self._records() if r["failure"] is None}

    def failures(self) -> dict[str, str]:
        """Return the message of each failed record, by its cell."""
        failed = [r for _, r in self._records() if r["failure"]]
        return {r["cell"]["id"]: r["failure"]["message"] for r in failed}

    def _records(self) -> list[tuple[str, dict]]:
        paths = sorted((self.folder / "reports/store/records").glob("*.json"))
        return [(path.name, json.loads(path.read_text())) for path in paths]


def verdict(printed: str) -> str:
    return next(line for line in printed.splitlines() if line.startswith("dice: "))


@pytest.fixture(scope="session")
def alone(tmp_path_factory) -> tuple[dict[str, str], str]:
    """The results and the verdict of a session without other plugins."""
    project = Project(tmp_path_factory.mktemp("alone"))
    said = verdict(project.run("test_dice.py"))
    results = project.results()
    assert len(results) == 12
    assert said == "dice: 12 of 12 cells; claims: 2 held"
    return results, said


def test_a_flaky_cell_in_a_shuffled_covered_session_ends_in_the_same_records(
    plugins, alone, tmp_path
):
    project = Project(tmp_path, str(plugins))
    printed = project.run(
        "test_dice.py",
        *("--randomly-seed=5", "--reruns=2", "--cov=.", "--html=page.html", "--timeout=500"),
        FLAKY="toy_a-odd-seed2",
    )
    assert "12 passed, 1 rerun" in printed
    assert (project.results(), verdict(printed)) == alone
    (failed,) = project.failures().items()
    assert failed[0] == "toy_a-odd-seed2"
    assert "only the first time" in failed[1]
    assert "test_dice.py" in printed.partition("coverage")[2]
    assert "toy_a-odd-seed2" in (tmp_path / "page.html").read_text()

    again = project.run("test_dice.py", "--randomly-seed=last", "--reruns=2", "--html=page.html")
    assert "random seed: 5" in again or "--randomly-seed=5" in again
    assert "12 cached in" in again
    assert (project.results(), verdict(again)) == alone


def test_repeated_cells_on_two_shuffled_workers_are_measured_once_with_the_same_results(
    plugins, alone, tmp_path
):
    project = Project(tmp_path, str(plugins))
    printed = project.run("test_dice.py", "-n", "2", "--count=2")
    assert "12 passed, 12 cached" in printed
    assert (project.results(), verdict(printed)) == alone
    assert not project.failures()
    assert "Benchmarks are automatically disabled" not in printed


def test_a_hanging_cell_of_a_split_session_fails_by_its_timeout_and_the_others_run(
    plugins, tmp_path
):
    project = Project(tmp_path, str(plugins))
    timed = ("test_slow.py", "--timeout=3", "-o", "timeout_func_only=true", "--randomly-seed=1")
    halves = [project.run(*timed, "--splits=2", f"--group={group}") for group in (1, 2)]
    ended = [re.findall(r"(?:1 failed, )?\d passed", half)[-1] for half in halves]
    assert sorted(ended) == ["1 failed, 3 passed", "4 passed"]
    assert len(project.results()) == 7
    (failed,) = project.failures().items()
    assert failed[0] == "toy_b-plain-seed1"
    assert "Timeout (>3.0s) from pytest-timeout" in failed[1]
