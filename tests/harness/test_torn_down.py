"""What cells share is torn down in order, also where the last cell of a file is not run."""

import json

import pytest

from tests.harness.toys import toys

CONFTEST = toys("toy")
CONFTEST += """
import os
from dataclasses import replace
from pathlib import Path

import pytest

for name in ("early", "late"):
    axes = {"model": ("toy",), "method": ("plain", "lacking") if name == "early" else ("plain",)}
    lacking = lambda cell: ("no-such-library",) if cell.method == "lacking" else ()
    made = Study(name, "?", axes, (1, 2, 3), reads={"model": ""}, packages=lacking)
    register_study(made)


def say(what):
    with Path("said").open("a") as file:
        print(os.environ.get("PYTEST_XDIST_WORKER", "alone"), what, file=file)


@pytest.fixture(scope="session")
def whole():
    say("session up")
    yield
    say("session down")


@pytest.fixture(scope="module")
def shared(request, whole):
    name = request.module.__name__
    say(f"{name} up")
    yield
    say(f"{name} down")
    if name == os.environ.get("BREAKS"):
        raise RuntimeError("the finalizer of the file")
"""

BODY = """
import pytest

@pytest.mark.study("NAME")
def test_NAME(cell, record, shared):
    record.update(perplexity=1.0 + cell.seed)
"""

ORDER = [
    "session up",
    "test_early up",
    "test_early down",
    "test_late up",
    "test_late down",
    "session down",
]


class Resumed:
    """A project of two files, in which chosen records are missing."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        pytester.makeconftest(CONFTEST)
        for name in ("early", "late"):
            pytester.makepyfile(**{f"test_{name}": BODY.replace("NAME", name)})
        self.run()

    def run(self, *args: str) -> pytest.RunResult:
        return self.pytester.runpytest_subprocess("--strict-markers", *args)

    def records(self) -> dict[str, bytes]:
        found = {}
        for path in (self.pytester.path / "reports/store/records").glob("*.json"):
            cell = json.loads(path.read_text())["cell"]
            found[f"{cell['study']} {cell['id']}"] = path.read_bytes()
        return found

    def lose(self, *names: str) -> None:
        for path in (self.pytester.path / "reports/store/records").glob("*.json"):
            cell = json.loads(path.read_text())["cell"]
            if f"{cell['study']} {cell['id']}" in names:
                path.unlink()
        (self.pytester.path / "said").unlink(missing_ok=True)

    def said(self, worker: str) -> list[str]:
        lines = (self.pytester.path / "said").read_text().splitlines()
        return [line.partition(" ")[2] for line in lines if line.startswith(worker)]


@pytest.fixture
def resumed(pytester, monkeypatch):
    # The sessions here are nobody's workers, whoever runs these tests.
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    return Resumed(pytester)


FIRST = ("early toy-plain-seed1", "late toy-plain-seed1")


def test_a_measured_cell_then_cached_and_impossible_ones_then_another_file(resumed):
    """Its module is torn down before the next file's is set up, by whichever cell comes last."""
    before = resumed.records()
    assert len(before) == 6
    resumed.lose(*FIRST)
    result = resumed.run()
    result.stdout.fnmatch_lines(["*2 passed, 3 skipped, 4 cached*"])
    assert resumed.said("alone") == ORDER
    assert resumed.records().keys() == before.keys()

    resumed.lose(*FIRST)
    # Without the cells that are skipped, a cached one is the last of its file.
    result = resumed.run("-k", "not lacking", "--sw")
    result.stdout.fnmatch_lines(["*2 passed, 3 deselected, 4 cached*"])
    assert resumed.said("alone") == ORDER

    resumed.lose()
    result = resumed.run("--rerun")
    result.stdout.fnmatch_lines(["*6 of 6 cells bit-identical*", "*6 passed, 3 skipped*"])
    assert resumed.said("alone") == ORDER


def test_workers_tear_down_in_order_too(resumed):
    resumed.lose(*FIRST, "early toy-plain-seed2", "late toy-plain-seed3")
    result = resumed.run("-n", "2", "-k", "not lacking")
    result.stdout.fnmatch_lines(["*4 passed, 2 cached*"])
    assert result.ret == 0
    for worker in ("gw0", "gw1"):
        said = resumed.said(worker)
        # Open things are closed in the reverse order, and everything is closed at the end.
        held = []
        for line in said:
            what, _, way = line.rpartition(" ")
            if way == "up":
                held.append(what)
            else:
                assert held.pop() == what
        assert not held


def test_a_finalizer_that_raises_is_an_error_and_costs_no_record_and_no_cell(resumed, monkeypatch):
    before = resumed.records()
    chosen = ("-k", "not lacking")
    monkeypatch.setenv("BREAKS", "test_early")
    resumed.lose(*FIRST)
    result = resumed.run(*chosen)
    result.stdout.fnmatch_lines(
        ["*ERROR at teardown of test_early?toy-plain-seed3?*", "*the finalizer of the file*"]
    )
    result.stdout.fnmatch_lines(["*2 passed, 3 deselected, 1 error, 4 cached*"])
    assert resumed.said("alone") == ORDER
    after = resumed.records()
    assert all(after[name] == before[name] for name in before.keys() - set(FIRST))
    assert after.keys() == before.keys()

    result = resumed.run(*chosen, "--lf")
    result.stdout.fnmatch_lines(["*1 cached*"])
    assert result.ret == 0

    resumed.lose(*FIRST)
    result = resumed.run(*chosen, "-x")
    assert result.ret != 0
    assert resumed.said("alone") == [*ORDER[:3], "session down"]
    assert resumed.records().keys() == before.keys() - {"late toy-plain-seed1"}
