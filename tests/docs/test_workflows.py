"""The workflows do what they say: their selections, and their steps over a tiny project."""

import os
import re
import shlex
import shutil
import sys
import tomllib
from collections import Counter

import pytest
import yaml

from benchsuite import engines
from benchsuite.study import names, study
from tests.docs.pages import ROOT, blocks, cells_of
from tests.docs.workflows import (
    CI,
    ENVIRONMENTS,
    RELEASE,
    WORKFLOWS,
    program,
    ran,
    step,
)

# --- what each environment selects


@pytest.fixture(scope="module")
def collected():
    """The cells that each environment's expression, the release's and none at all select."""
    expressions = {e["environment"]: e["select"] for e in ENVIRONMENTS}
    measure = shlex.split(step("try", "Measure one cell", RELEASE)["run"])
    expressions["release"] = measure[measure.index("-k") + 1]
    expressions["every"] = ""
    asked = [["benchmarks", "-k", e, "--reports-dir=nowhere"] for e in expressions.values()]
    found = [{tuple(c) for c in cells} for cells in cells_of(asked, ROOT)]
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
    (found,) = cells_of([["benchmarks", "-k", " ".join(chosen.split())]], ROOT)
    methods = {name.removeprefix("smollm2_135m_q4-").removesuffix("-seed42") for _, name in found}
    asked = {"fp16", "rtn_w4", "rtn_w4_asym", "hqq_w4", "gptq_w4", "gptq_w4_act", "gptq_w4_asym"}
    assert methods == asked


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
