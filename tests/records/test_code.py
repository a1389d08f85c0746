"""Which code is in a cell's fingerprint: all that makes its numbers, and nothing that does not."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchsuite.records.code import Place, code_digest, code_of, is_apart
from benchsuite.study import study
from tests import forked

ROOT = Path(__file__).parents[2]
# One cell of each study; its record holds what the study's declaration and statistics compute.
CELLS = {
    "calibration_selection": "tiny_llama_1m-cola_zero-seed42",
    "quantizers": "tiny_llama_1m-gptq_w4-seed42",
    "determinism": "tiny_llama_1m-fp16-seed42",
    "uncertainty": "tiny_llama_1m-fp16-closed_book-g_nll-seed42",
    "latent_training": "tiny_llama_1m-equations-kava-seed42",
    "latent_reasoning": "tiny_llama_1m-equations-kava-problems-seed42",
}
SMALL = (
    "determinism.repetitions=2",
    "determinism.others=(1,)",
    "determinism.max_tokens=2",
    "determinism.served_prompts=4",
    "determinism.served_tokens=2",
    "calibration_selection.pool_documents=200",
    "calibration_selection.n_calibration_samples=4",
    "calibration_selection.evaluation_tokens=2048",
    "quantizers.n_questions=2",
    "quantizers.n_calibration_samples=4",
    "quantizers.pool_documents=200",
    "quantizers.evaluation_tokens=2048",
    "uncertainty.samples=8",
    "latent_reasoning.n_items=4",
    "latent_reasoning.max_steps=1",
)
# Notes the modules whose functions run while cells are set up and run.
PROFILER = """
import json, sys
import pytest

ran = {}

@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_setup(item):
    seen = ran.setdefault(item.callspec.params["cell"].study, set())
    def note(frame, event, arg):
        seen.add(frame.f_globals.get("__name__", ""))
    item.note = note
    sys.settrace(note)
    try:
        return (yield)
    finally:
        sys.settrace(None)

@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item):
    sys.settrace(item.note)
    try:
        return (yield)
    finally:
        sys.settrace(None)

def pytest_sessionfinish(session):
    for study, seen in ran.items():
        ran[study] = sorted(module for module in seen if module.startswith("benchsuite."))
    with open("ran.json", "w") as file:
        json.dump(ran, file)
"""
# Digests the cells of a copy again and again, each time with one module changed.
CHANGER = """
import json, sys
from pathlib import Path
from benchsuite.records import code, modules
from benchsuite.records.fingerprint import digest
from benchsuite.study import study

root = Path.cwd()
asked = json.loads(sys.stdin.read())
assert str(modules.named("benchsuite.errors").path).startswith(str(root))

named = {}
for name, (benchmark, cell_id) in asked["cells"].items():
    cell = next(c for c in study(name).cells() if c.id == cell_id)
    named[name] = code.Place(root / benchmark, root), tuple(study(name).code(cell))

def digests():
    code._reached.cache_clear()
    return {
        name: digest(dict(code.code_of(place, name, words)))
        for name, (place, words) in named.items()
    }

before, changed = digests(), {}
for name in asked["modules"]:
    path = modules.named(name).path
    text = path.read_text()
    path.write_text(text + "\\n_CHANGED = True\\n")
    after = digests()
    path.write_text(text)
    changed[name] = sorted(study for study in after if after[study] != before[study])
print(json.dumps(changed))
"""


def benchmark_of(name: str) -> str:
    """Return the file of a study's test."""
    return f"benchmarks/test_{name.replace('latent_training', 'latent_reasoning')}.py"


def modules_of(name: str, cell_id: str = "", place: Place | None = None) -> dict[str, str]:
    """Return the modules in the code digest of a study's cell."""
    declared = study(name)
    cell = next(cell for cell in declared.cells() if cell.id == (cell_id or CELLS[name]))
    place = place or Place(ROOT / benchmark_of(name), ROOT)
    return dict(code_of(place, name, tuple(declared.code(cell))))


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> dict[str, list[str]]:
    """Run one small cell of every study, and return the modules whose functions ran meanwhile."""
    folder = tmp_path_factory.mktemp("profiled")
    (folder / "profiler.py").write_text(PROFILER)
    axes = [f"cell(study='{name}', {_axes(name)})" for name in CELLS]
    command = [
        sys.executable,
        "-m",
        "pytest",
        *sorted({str(ROOT / benchmark_of(n)) for n in CELLS}),
    ]
    command += ["-p", "profiler", "-p", "no:cacheprovider", "-q", "-n", "0"]
    command += ["-m", " or ".join(axes), f"--rootdir={ROOT}", f"--reports-dir={folder}/reports"]
    command += [f"--set={setting}" for setting in SMALL]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    done = forked.run(command, folder, environment)
    assert f"{len(CELLS)} passed" in done.stdout, done.stdout[-5000:]
    return json.loads((folder / "ran.json").read_text())


def _axes(name: str) -> str:
    cell = next(cell for cell in study(name).cells() if cell.id == CELLS[name])
    return ", ".join(f"{axis}={value!r}" for axis, value in cell.axes.items())


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A copy of the product, to be changed."""
    folder = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__", "*.safetensors", "*.npz")
    for name in ("benchsuite", "benchmarks"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copytree(ROOT / "fixtures", folder / "benchsuite/fixtures", ignore=ignored)
    shutil.copy(ROOT / "conftest.py", folder)
    return folder


def changed(copy: Path, modules: list[str]) -> dict[str, list[str]]:
    """Change each module in turn; return the studies whose cells' digests differ then."""
    cells = {name: (benchmark_of(name), cell_id) for name, cell_id in CELLS.items()}
    done = subprocess.run(
        [sys.executable, "-c", CHANGER],
        input=json.dumps({"cells": cells, "modules": modules}),
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.stress
def test_every_module_that_ran_in_a_cell_changes_its_digest(ran, copy):
    """What decides, keeps, shows or declares is apart; no other module may go unnoticed."""
    measuring = {
        name: [m for m in seen if not is_apart(m) and not m.endswith(".declaration")]
        for name, seen in ran.items()
    }
    noticed = changed(copy, sorted({module for seen in measuring.values() for module in seen}))
    missed = {n: [m for m in seen if n not in noticed[m]] for n, seen in measuring.items()}
    assert missed == {name: [] for name in CELLS}
    assert all(len(seen) > 10 for seen in measuring.values())


@pytest.mark.stress
def test_no_module_of_harness_records_reporting_or_commands_changes_a_digest(copy):
    rooms = ("harness", "records", "reporting", "commands", "study", "catalog")
    files = [path for room in rooms for path in (ROOT / "benchsuite" / room).rglob("*.py")]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files]
    names = [name.removesuffix(".__init__") for name in names]
    assert changed(copy, names) == {name: [] for name in names}


def test_statistics_that_a_cell_stores_are_in_its_digest():
    """AUROC and its interval are in uncertainty's records, McNemar's in the quantizers'."""
    assert "benchsuite.statistics.ranking" in modules_of("uncertainty")
    assert "benchsuite.statistics.item_tests" in modules_of("quantizers")


@pytest.mark.parametrize("name", CELLS)
def test_a_fixture_or_a_benchmark_reaches_no_declaration(name):
    """A claim that is added must leave the records as they are."""
    assert not [module for module in modules_of(name) if module.endswith(".declaration")]


@pytest.mark.parametrize(
    ("name", "mine", "rivals"),
    [
        (
            "calibration_selection",
            "random",
            {"calibration.cola_zero", "calibration.stratified", "quantizers.rtn"},
        ),
        ("calibration_selection", "rtn", {"quantizers.gptq", "quantizers.hessian"}),
        ("quantizers", "gptq_w4", {"quantizers.awq", "quantizers.hqq", "quantizers.quarot"}),
        ("determinism", "packed_gptq", {"engines.vllm_engine", "engines.openvino_engine"}),
        ("latent_reasoning", "codi", {"latent.methods.kava", "latent.methods.coconut"}),
        ("uncertainty", "g_nll", {"evaluation.uncertainty.p_true"}),
    ],
)
def test_another_methods_file_leaves_a_cell_as_it_is(name, mine, rivals):
    cell = next(c for c in study(name).cells() if c.method == mine and c.model == "tiny_llama_1m")
    found = modules_of(name, cell.id)
    assert not {f"benchsuite.{rival}" for rival in rivals} & set(found)


def test_a_method_that_is_taken_by_name_is_in_the_digest_of_its_cells():
    for cell, used in (("rtn", "rtn"), ("random", "gptq"), ("shuffled_hessian", "gptq")):
        found = modules_of("calibration_selection", f"tiny_llama_1m-{cell}-seed42")
        assert f"benchsuite.quantizers.{used}" in found


# --- small projects


@pytest.fixture
def project(tmp_path):
    """A project whose benchmark has helpers, fixtures and imports of every kind."""
    files = {
        "conftest.py": (
            "import pytest\nimport registering\n\n"
            "@pytest.fixture\ndef scaled(cell, base):\n    return 2\n"
        ),
        "registering.py": "X = 1\n",
        "more.py": (
            "import pytest\nfrom my import deep\n\n"
            "@pytest.fixture\ndef base():\n    return deep.X\n"
        ),
        "my/__init__.py": "",
        "my/deep.py": "from . import deeper\nX = 1\n",
        "my/deeper.py": "from .deepest import Y\n",
        "my/deepest.py": '"""Doc."""\nY = 1\n',
        "my/unused.py": "Z = 1\n",
        "my/typed.py": "T = int\n",
        "my/named.py": "N = 1\n",
        "benchmarks/conftest.py": (
            "import pytest\n\n@pytest.fixture(autouse=True)\ndef always():\n    import inside\n"
        ),
        "benchmarks/inside.py": "I = 1\n",
        "benchmarks/helper.py": "H = 1\n",
        "benchmarks/test_it.py": (
            "from typing import TYPE_CHECKING\nimport pytest\nimport helper\n"
            "if TYPE_CHECKING:\n    from my import typed\n\n"
            "@pytest.mark.study('it')\ndef test_it(cell, scaled, request):\n"
            "    request.getfixturevalue('late')\n\n"
            "@pytest.fixture\ndef late():\n    pass\n"
        ),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_helpers_fixtures_and_relative_imports_are_followed(project):
    place = Place(project / "benchmarks/test_it.py", project, plugins=("more",))
    found = set(code_of(place, "it", ("my.named",)))
    assert {key for key in found if not key.startswith("benchsuite")} == {
        "test_it.py",
        "../conftest.py",
        "conftest.py",
        "inside",
        "helper",
        "registering",
        "more",
        "my",
        "my.deep",
        "my.deeper",
        "my.deepest",
        "my.named",
    }


def test_comments_and_docstrings_do_not_count(project):
    place = Place(project / "benchmarks/test_it.py", project, plugins=("more",))
    before = dict(code_of(place, "it", ()))
    deepest = project / "my/deepest.py"
    deepest.write_text('"""Another."""\n# A comment.\nY = 1\n')
    os.utime(deepest, ns=(1, 1))
    assert dict(code_of(place, "it", ())) == before
    deepest.write_text("Y = 2\n")
    os.utime(deepest, ns=(2, 2))
    after = dict(code_of(place, "it", ()))
    assert [key for key in after if after[key] != before[key]] == ["my.deepest"]


def test_a_project_has_the_same_digest_wherever_it_lies(project, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(project, elsewhere)
    places = [
        Place(root / "benchmarks/test_it.py", root, ("more",)) for root in (project, elsewhere)
    ]
    here, there = (dict(code_of(place, "it", ())) for place in places)
    assert here == there


def test_a_file_that_does_not_parse_counts_by_its_bytes(project):
    (project / "benchmarks/helper.py").write_text("def broken(:\n")
    place = Place(project / "benchmarks/test_it.py", project, plugins=("more",))
    assert "helper" in code_of(place, "it", ())


def test_deciding_about_cells_imports_neither_torch_nor_scipy():
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from benchsuite.records.code import Place, code_of\n"
        "from benchsuite.study import names, study\n"
        "cells = [cell for name in names() for cell in study(name).cells()]\n"
        "assert len(cells) > 1000\n"
        f"root = Path({str(ROOT)!r})\n"
        "for cell in cells:\n"
        "    file = cell.study.replace('latent_training', 'latent_reasoning')\n"
        "    place = Place(root / f'benchmarks/test_{file}.py', root)\n"
        "    assert code_of(place, cell.study, tuple(study(cell.study).code(cell)))\n"
        "print({'torch', 'scipy', 'transformers'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_digest_of_a_maker_follows_its_imports():
    assert code_digest("benchsuite.evaluation.answers") != code_digest("benchsuite.evaluation.arc")
    assert code_digest("benchsuite.evaluation.answers") == code_digest(
        "benchsuite.evaluation.answers"
    )
