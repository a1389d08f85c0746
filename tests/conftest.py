"""Shared by all tests: real pytest runs, over a user's own small project."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from benchsuite.records.forms import flat, sealed
from benchsuite.records.reading import read_file
from tests import forked

pytest_plugins = ["pytester"]

# Two workers on two cores: torch's threads of one would only wait for those of the other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples every time: a rare one is not to fail a commit that has nothing to do with it.
# ``--hypothesis-profile=random`` looks for others. A busy machine is slow, not wrong.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.register_profile("random", deadline=None)
settings.load_profile("steady")

PROJECT = Path(__file__).parent / "harness/project"
# The folders with the longest files; begun first, so that no worker is left with one at the end.
LONGEST = (
    *("study", "studies", "test_layout.py", "docs", "records", "harness"),
    *("commands", "quantizers", "comparing", "engines", "embedded"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first."""
    folders = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        folder = item.path.relative_to(folders).parts[0]
        return LONGEST.index(folder) if folder in LONGEST else len(LONGEST)

    items.sort(key=place)


@pytest.fixture
def pytester(
    pytester: pytest.Pytester, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> pytest.Pytester:
    """pytest's own, whose processes are forked from one that has imported what they need."""
    if "fresh_interpreter" in request.fixturenames:
        return pytester
    new = pytester.popen

    def popen(cmdargs: tuple[str, ...], stdout: Any, stderr: Any, **others: Any) -> Any:
        if cmdargs[0] != sys.executable or not cmdargs[1].startswith("-m"):
            return new(cmdargs, stdout, stderr, **others)
        searched = os.pathsep.join(filter(None, (os.getcwd(), os.environ.get("PYTHONPATH"))))
        env, heavy = os.environ | {"PYTHONPATH": searched}, "calibration" in request.fixturenames
        return forked.start(cmdargs, Path.cwd(), env, stdout, stderr, heavy=heavy)

    monkeypatch.setattr(pytester, "popen", popen)
    return pytester


@pytest.fixture
def fresh_interpreter() -> None:
    """Asks for new processes of Python, where it matters what they import."""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A copy of the project with five studies' shapes."""
    shutil.copytree(PROJECT, pytester.path, dirs_exist_ok=True)
    return pytester


@pytest.fixture
def bench(project: pytest.Pytester) -> Callable[..., pytest.RunResult]:
    """Run its benchmarks in a process of their own: ``bench("-n", "2")``."""

    def run(*args: str) -> pytest.RunResult:
        return project.runpytest_subprocess("benchmarks", "-p", "no:cacheprovider", *args)

    return run


@pytest.fixture
def command(project: pytest.Pytester) -> Callable[..., pytest.RunResult]:
    """Run ``benchsuite`` in the project: ``command("status")``."""
    return lambda *args: project.run(sys.executable, "-m", "benchsuite", *args)


@pytest.fixture
def records(project: pytest.Pytester) -> Callable[..., dict[str, dict]]:
    """Read the good records in the store: ``records("two_models")`` by cell id."""

    def read(study: str = "") -> dict[str, dict]:
        found = {}
        for path in (project.path / "reports/store/records").glob("*.json"):
            record = read_flat(path)
            if path.stem.count(".") == 0 and (not study or record["cell"]["study"] == study):
                found[f"{record['cell']['study']}/{record['cell']['id']}"] = record
        return found

    return read


@pytest.fixture
def calibration(pytester: pytest.Pytester) -> Callable[..., pytest.RunResult]:
    """Run the calibration study that is shipped, with reports of the test's own."""
    root = PROJECT.parents[2]

    def run(*args: str) -> pytest.RunResult:
        return pytester.runpytest_subprocess(
            f"{root}/benchmarks/test_calibration_selection.py",
            f"--rootdir={root}",
            f"--reports-dir={pytester.path}/reports",
            "-p",
            "no:cacheprovider",
            *args,
        )

    return run


def read_flat(path: Path) -> dict:
    """Read a record of the store in the study documents' keys."""
    return sealed(flat(read_file(path)))


def measured(records: dict[str, dict]) -> dict[str, str]:
    """Reduce records to what must not depend on how a cell was run."""
    return {cell_id: record["results_sha256"] for cell_id, record in records.items()}
