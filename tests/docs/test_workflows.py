"""The workflows do what they say: their selections, and their steps over a tiny project."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import yaml

from benchsuite import engines
from benchsuite.study import names, study
from tests.docs import test_docs
from tests.docs.test_docs import blocks

ROOT = Path(__file__).parents[2]
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


# --- what each environment selects


@pytest.fixture(scope="module")
def collected():
    """The cells that each environment's expression, the release's and none at all select."""
    expressions = {e["environment"]: e["select"] for e in ENVIRONMENTS}
    measure = shlex.split(step("try", "Measure one cell", RELEASE)["run"])
    expressions["release"] = measure[measure.index("-k") + 1]
    expressions["every"] = ""
    asked = [["benchmarks", "-k", e, "--reports-dir=nowhere"] for e in expressions.values()]
    found = [{tuple(c) for c in cells} for cells in test_docs.collected(asked, ROOT)]
    return dict(zip(expressions, found, strict=True))


@pytest.fixture(scope="module")
def selected(collected):
    """The cells that each environment measures, and those of the whole grid."""
    return {e["environment"]: collected[e["environment"]] for e in ENVIRONMENTS}, collected["every"]


@pytest.mark.stress
def test_every_cell_belongs_to_one_environment(selected):
    chosen, every = selected
    times = Counter(cell for cells in chosen.values() for cell in cells)

    assert all(chosen.values())
    assert set(times) == every
    assert set(times.values()) == {1}


def test_an_environment_installs_what_its_cells_need(selected):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    cells = {(cell.study, cell.id): cell for name in names() for cell in study(name).cells()}
    for environment in ENVIRONMENTS:
        extras = environment["extras"].split(",")
        optional = [project["optional-dependencies"][extra] for extra in extras]
        wanted = [text for texts in (project["dependencies"], *optional) for text in texts]
        installed = {re.match(r"[\w-]+", text)[0] for text in wanted}
        # What a library brings along itself.
        installed |= {"compressed-tensors"} if "llmcompressor" in installed else set()
        for key in selected[0][environment["environment"]] & set(cells):
            needed = set(study(key[0]).packages(cells[key]))
            assert needed <= installed, (environment["environment"], key)
    assert "latent" in ENVIRONMENTS[0]["extras"].split(",")  # LoRA, where the model is the hub's


def test_claims_compare_what_one_environment_measures(selected):
    chosen, _ = selected
    where = {
        (name, cell.method): environment
        for environment, cells in chosen.items()
        for name in names()
        for cell in study(name).cells()
        if (name, cell.id) in cells
    }
    for name in {name for name, _ in where}:
        for claim in study(name).claims:
            sides = {
                where.get((name, side)) for side in (claim.method, claim.other or claim.method)
            }
            assert len(sides) == 1, claim.sentence


def test_the_engines_version_is_that_of_the_docs():
    install = step("bench", "vLLM in an environment of its own")["run"]
    told = "".join(blocks(ROOT / "docs/studies/determinism.md"))
    (version,) = re.findall(r"install (vllm==\S+)", install)
    assert version in told
    assert "--engine-python vllm=vllm/bin/python" in ENVIRONMENTS[2]["options"]
    assert engines.engine("vllm")


def test_ci_makes_targets_that_are_there_and_runs_the_tour():
    lines = [s["run"] for s in CI["jobs"]["test"]["steps"] if "run" in s]
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.M)
    (made,) = [line.split()[1:] for line in lines if line.startswith("make")]
    assert {word for word in made if "=" not in word} <= set(targets)
    (recipe,) = re.findall(r"-m pytest (benchmarks --tour.*)", (ROOT / "Makefile").read_text())
    assert f".venv/bin/python -m pytest {recipe}" in lines


def test_the_real_tour_is_its_seven_methods():
    """A method whose name holds another's would be chosen too, and ten minutes be many more."""
    recipe = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    (chosen,) = re.findall(r'-k "(test_quantizers and smollm2[^"]*)"', recipe)
    (found,) = test_docs.collected([["benchmarks", "-k", " ".join(chosen.split())]], ROOT)
    methods = {name.removeprefix("smollm2_135m_q4-").removesuffix("-seed42") for _, name in found}
    asked = {"fp16", "rtn_w4", "rtn_w4_asym", "hqq_w4", "gptq_w4", "gptq_w4_act", "gptq_w4_asym"}
    assert methods == asked


# --- nights over a tiny project


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


# --- a release


@pytest.mark.parametrize(
    ("tag", "status"), [("v{}", 0), ("{}", 1), ("v{}.post1", 1), ("v9.9.9", 1)]
)
def test_a_release_needs_a_tag_that_is_the_version(tag, status, tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    program(tmp_path / "bin/python", f'exec "{sys.executable}" "$@"')
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    variables = {
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "GITHUB_REF_NAME": tag.format(version),
    }

    found, said = ran(
        step("build", "The tag is the version", RELEASE)["run"], tmp_path, **variables
    )

    assert found == status
    assert (version in said) == bool(status)


@pytest.mark.parametrize(
    ("heading", "status"),
    [
        ("## 0.2.0, 2026-12-01", 0),
        ("## 0.2.0, unreleased", 1),
        ("## 0.2.0", 1),
        ("## 0.2.01, 2026-12-01", 1),
        ("## 0.1.0, 2026-12-01", 1),
    ],
)
def test_a_release_has_the_notes_of_its_version(heading, status, tmp_path):
    body = "### Running\n\n- It runs.\n"
    older = "## 0.0.1, 2025-01-01\n\n- Older.\n"
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n{heading}\n\n{body}\n{older}")
    shown = step("build", "The notes are of the version", RELEASE)["run"]

    found, said = ran(shown, tmp_path, GITHUB_REF_NAME="v0.2.0")

    assert found == status
    if status:
        assert heading in said
    else:
        assert (tmp_path / "notes/notes.md").read_text().strip() == body.strip()


def test_a_pull_request_from_a_fork_needs_no_secret_and_may_write_nothing():
    text = (WORKFLOWS / "ci.yml").read_text()
    assert CI["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in CI["jobs"].values())
    assert "secrets." not in text
    assert "pull_request_target" not in CI[True]


def test_a_release_lists_every_study_that_ships():
    shown = step("try", "List the studies", RELEASE)["run"]
    (listed,) = re.findall(r"for study in (.+); do", shown)
    assert listed.split() == sorted(path.stem for path in (ROOT / "docs/studies").glob("*.md"))


@pytest.mark.stress
def test_a_release_whose_package_lacks_a_study_is_stopped(tmp_path):
    shown = step("try", "List the studies", RELEASE)["run"]
    program(tmp_path / "venv/bin/benchsuite", f'cd "{ROOT}"; "{sys.executable}" -m benchsuite "$@"')
    assert ran(shown, tmp_path)[0] == 0
    program(tmp_path / "venv/bin/benchsuite", "echo 'models: tiny_llama_1m'")
    assert ran(shown, tmp_path)[0] == 1


def test_a_release_measures_one_cell_of_the_wheel(collected):
    assert collected["release"] == {("calibration_selection", "tiny_llama_1m-cola_zero-seed42")}
    assert "--pyargs benchsuite.benchmarks " in step("try", "Measure one cell", RELEASE)["run"]


def test_a_release_tries_what_it_built_and_publishes_what_it_tried():
    jobs = RELEASE["jobs"]
    assert RELEASE[True] == {"push": {"tags": ["v*"]}}
    needed = {name: job["needs"] for name, job in jobs.items() if "needs" in job}
    assert needed == {"try": "build", "publish": "try", "announce": "publish"}
    names = {
        step["with"]["name"]
        for job in jobs.values()
        for step in job["steps"]
        if "artifact" in step.get("uses", "") and "with" in step
    }
    assert names == {"dist", "notes"}
    # Without the checkout nothing that is missing in the wheel can be found beside it.
    assert not any("checkout" in step.get("uses", "") for step in jobs["try"]["steps"])


def test_only_the_upload_may_publish():
    publish = RELEASE["jobs"]["publish"]
    assert publish["environment"] == "pypi"
    assert publish["permissions"] == {"id-token": "write"}
    assert RELEASE["permissions"] == {"contents": "read"}
    allowed = {
        name: job["permissions"] for name, job in RELEASE["jobs"].items() if "permissions" in job
    }
    assert allowed == {"publish": {"id-token": "write"}, "announce": {"contents": "write"}}
    assert [step["uses"].split("@")[0] for step in publish["steps"]] == [
        "actions/download-artifact",
        "pypa/gh-action-pypi-publish",
    ]


# --- what GitHub asks of those who write


FORMS = {path.stem: path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")}
FORMS.pop("config")


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_an_issue_form_is_one_that_github_takes(form):
    asked = yaml.safe_load(form.read_text())
    assert {"name", "description", "body"} <= set(asked)
    kinds = {"markdown", "dropdown", "input", "textarea"}
    for field in asked["body"]:
        assert field["type"] in kinds
        assert ("id" in field) == (field["type"] != "markdown")
        assert field["attributes"]["value" if field["type"] == "markdown" else "label"]
        options = field["attributes"].get("options", [])
        assert all(isinstance(option, str) for option in options)
        assert len(set(options)) == len(options)
        assert bool(options) == (field["type"] == "dropdown")
    assert any(field.get("validations", {}).get("required") for field in asked["body"])


# --- the container of a GPU runner


def test_the_container_takes_what_is_there():
    lines = re.sub(r"\\\n", " ", (ROOT / ".ci/Dockerfile").read_text()).splitlines()
    copied = {word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]}
    assert "benchsuite" in copied
    assert all((ROOT / name).exists() for name in copied)
    ignored = (ROOT / ".ci/Dockerfile.dockerignore").read_text().split()
    assert copied == {name.removeprefix("!") for name in ignored if name.startswith("!")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extras,) = [line.partition("=")[2].split(",") for line in lines if "ARG EXTRAS" in line]
    assert set(extras) <= set(project["optional-dependencies"])
    assert lines[2] == "FROM python:3.11-slim-bookworm"
