"""The nightly workflow's steps over a tiny project: what is kept, compared and told."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.docs.workflows import NIGHTLY, TOYS, artifact, filled, program, ran, step


class Runner:
    """A machine that runs a job's shell steps in its folder, as GitHub does."""

    def __init__(self, folder):
        self.folder = folder
        shutil.copytree(ROOT / "tests/harness/project", folder)
        for name, arguments in {"python": "", "benchsuite": " -m benchsuite"}.items():
            line = f'exec "{sys.executable}"{arguments} "$@"'
            program(folder / ".venv/bin" / name, line)

    def run(self, script):
        """Run one step's script and return its exit status and output."""
        return ran(script, self.folder)


@pytest.fixture(scope="module")
def tonight(tmp_path_factory):
    """The artefacts of a night, each made by the workflow's own step over toy cells."""
    folder = tmp_path_factory.mktemp("nightly")
    for name in TOYS:
        machine = Runner(folder / name)
        toy = {"select": TOYS[name], "options": ""}
        status, told = machine.run(filled(step("bench", "Measure")["run"], **toy))
        assert status == 0, told
        title, paths = artifact(name)
        for path in map(Path, paths):
            kept = folder / "tonight" / title / path.relative_to("reports")
            kept.parent.mkdir(parents=True, exist_ok=True)
            whole = machine.folder / path
            if whole.exists():  # the action passes over a path that is not there
                (shutil.copytree if whole.is_dir() else shutil.copy)(whole, kept)
    return folder / "tonight"


@pytest.fixture(scope="module")
def nights(tonight, tmp_path_factory):
    """Two equal nights: the machine afterwards, and each step's status and output."""
    machine = Runner(tmp_path_factory.mktemp("report") / "job")
    shutil.copytree(tonight, machine.folder / "tonight")
    told = [machine.run(step("report", n)["run"]) for n in ("Report", "Compare", "Keep", "Compare")]
    return machine, told


@pytest.mark.stress
def test_the_first_night_has_nothing_to_compare_with(nights):
    _, (reported, compared, kept, _) = nights

    assert reported[0] == 0, reported[1]
    assert compared == (0, "")
    assert kept == (0, "")


@pytest.mark.stress
def test_the_artefacts_of_all_environments_are_one_page(nights):
    machine, _ = nights
    page = (machine.folder / "reports/index.html").read_text()

    assert "select_and_quantize" in page
    links = re.findall(r'href="(\.\./tonight/[^"]+\.json)"', page)
    assert {link.split("/")[2] for link in links} == {artifact(name)[0] for name in TOYS}
    assert all((machine.folder / "reports" / link).exists() for link in links)
    cases = (machine.folder / "reports/claims.xml").read_text()
    assert "drawn has lower perplexity than first" in cases


@pytest.mark.stress
def test_an_equal_night_changes_nothing(nights):
    machine, (*_, (status, told)) = nights

    assert status == 0
    assert "0 changed" in told
    assert (machine.folder / "reports/diff.txt").read_text() == told


@pytest.mark.stress
def test_a_cell_that_fails_tonight_fails_the_night_and_is_kept(nights):
    machine, _ = nights
    folder = machine.folder / "tonight/records-vllm/store/records"
    (first, *_) = sorted(folder.glob("*.json"))
    broken = Runner(machine.folder / "broken")
    tests = broken.folder / "benchmarks/test_shapes.py"
    tests.write_text(tests.read_text().replace("record.items(error=errors)", "assert not errors"))
    toy = {"select": TOYS["vllm"], "options": ""}
    status, _ = broken.run(filled(step("bench", "Measure")["run"], **toy))
    assert status == 1
    shutil.rmtree(folder)
    shutil.copytree(broken.folder / "reports/store/records", folder)

    status, told = machine.run(step("report", "Compare")["run"])
    kept, _ = machine.run(step("report", "Keep")["run"])

    assert status == 1
    assert "worse: " in told
    assert kept == 0
    assert not (machine.folder / "last_night/records-vllm/store/records" / first.name).exists()
    assert (machine.folder / "last_night/records-core/store/records").is_dir()


def measured_anew(machine, name):
    """Return the records of an environment's night with another code, and so other numbers."""
    tests = machine.folder / "benchmarks/test_shapes.py"
    tests.write_text(tests.read_text().replace("error=errors", "error=[e + 0.5 for e in errors]"))
    toy = {"select": TOYS[name], "options": ""}
    machine.run(filled(step("bench", "Measure")["run"], **toy))
    return machine.folder / "reports/store/records"


@pytest.mark.stress
def test_the_trend_is_over_the_nights_that_brought_anything_new(tonight, tmp_path):
    machine, trend = Runner(tmp_path / "job"), step("report", "Trend")["run"]
    shutil.copytree(tonight, machine.folder / "tonight")
    nights, page = machine.folder / "nights", machine.folder / "reports/trend.html"

    first = machine.run(trend)
    again = machine.run(trend)
    kept = [path for path in nights.rglob("*") if path.is_file()]

    assert first == again == (0, "")
    assert not page.exists()
    assert len(list(nights.iterdir())) == 1
    assert kept
    assert {path.suffix for path in kept} == {".json"}

    records = machine.folder / "tonight/records-vllm/store/records"
    shutil.rmtree(records)
    shutil.copytree(measured_anew(Runner(tmp_path / "other"), "vllm"), records)
    for day in range(40):  # as if there had been many nights before
        shutil.copytree(tonight, nights / f"2001-01-01T00-00-{day:02}")
    status, told = machine.run(trend)

    assert status == 0, told
    assert told.startswith("30 nights: ")
    assert len(list(nights.iterdir())) == 30
    assert (machine.folder / "reports/trend.txt").read_text() == told
    assert "select_and_quantize" in page.read_text()
    assert not (machine.folder / "new_night").exists()


@pytest.mark.stress
def test_a_night_without_any_artefact_keeps_the_last_one(tonight, tmp_path):
    machine = Runner(tmp_path / "job")
    shutil.copytree(tonight, machine.folder / "last_night")
    shutil.copytree(tonight, machine.folder / "nights/2001-01-01T00-00-00")

    assert machine.run(step("report", "Trend")["run"]) == (0, "")
    assert len(list((machine.folder / "nights").iterdir())) == 1
    reported, _ = machine.run(step("report", "Report")["run"])
    machine.run(step("report", "Keep")["run"])

    assert reported != 0
    assert (machine.folder / "last_night/records-core/store/records").is_dir()


def test_what_a_night_measured_is_kept_whatever_became_of_it():
    for job in NIGHTLY["jobs"].values():
        saved = [s for s in job["steps"] if s.get("uses", "").startswith("actions/cache/save")]
        restored = [
            s for s in job["steps"] if s.get("uses", "").startswith("actions/cache/restore")
        ]
        assert [s["if"] for s in saved] == ["always()"]
        assert saved[0]["with"]["path"] == restored[0]["with"]["path"]
        assert saved[0]["with"]["key"] == restored[0]["with"]["key"]
        assert saved[0]["with"]["key"].startswith(restored[0]["with"]["restore-keys"])
