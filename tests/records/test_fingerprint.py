"""What makes a record stale and what does not."""

import subprocess
import sys

import pytest

from benchsuite import catalog
from benchsuite.records.fingerprint import code_digest, measuring_modules
from benchsuite.study import names, study

IMPORT = "from benchsuite.records.fingerprint import code_digest as d"
PACKAGE = {
    "roots/__init__.py": "",
    "roots/measure.py": '"""Doc."""\nfrom roots.helper import add\n\nprint(add(1))\n',
    "roots/helper.py": "def add(x):\n    return x + 1\n",
    "roots/unrelated.py": "Y = 1\n",
}


@pytest.fixture
def digest(tmp_path):
    """Digest ``roots.measure`` after edits, in a fresh process."""
    for name, text in PACKAGE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    def run(**edits):
        for name, text in edits.items():
            (tmp_path / f"roots/{name}.py").write_text(text)
        code = f"{IMPORT}; print(d(('roots.measure',)))"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout

    return run


def test_code_counts_and_comments_docstrings_and_unrelated_modules_do_not(digest):
    first = digest()
    source = PACKAGE["roots/measure.py"]
    assert digest(measure=source.replace("Doc.", "Other.") + "\n# a comment\n") == first
    assert digest(unrelated="Y = 2\n") == first
    assert digest(helper="def add(x):\n    return x + 2\n") != first


def test_the_reporting_and_statistics_rooms_do_not_measure():
    modules = measuring_modules(["benchsuite.quantizers.gptq", "benchsuite.evaluation.perplexity"])
    assert {"benchsuite.quantizers.walk", "benchsuite.models.fused_kernels"} <= modules
    assert not [m for m in modules if "reporting" in m or "statistics" in m or "store" in m]


def test_methods_of_one_study_have_code_of_their_own():
    cells = {cell.method: cell for cell in study("calibration_selection").cells()}
    declared = study("calibration_selection")
    digests = {m: code_digest(tuple(declared.code(cell))) for m, cell in cells.items()}
    assert digests["random"] != digests["cola_zero"]


# The document's own names for what vLLM chooses by itself; `-m "cell(method='awq')"` is exact.
# An ablation bears its method's name, and `-k kava` means all of them.
THE_DOCUMENTS = {
    "determinism": ("awq", "gptq"),
    "latent_training": ("kava", "codi"),
    "latent_reasoning": ("kava", "codi"),
}


@pytest.mark.parametrize("name", names())
def test_no_axis_value_hides_inside_another(name):
    for values in study(name).axes.values():
        ours = [value for value in values if value not in THE_DOCUMENTS.get(name, ())]
        hidden = [(a, b) for a in ours for b in values if a != b and a in b]
        assert not hidden, "`pytest -k` would select both"


def test_models_have_the_documents_names():
    names = {n: catalog.model(n).document_name for n in ("llama2_7b", "llama2_13b", "opt_6_7b")}
    assert list(names.values()) == ["llama-2-7b-hf", "llama-2-13b-hf", "opt-6.7b"]


def test_digesting_executes_no_measuring_module(digest):
    text = "def add(x):\n    return x + 1\n"
    assert digest(helper=f"{text}\nraise SystemExit('executed')\n") != digest(helper=text)


def test_deciding_about_cells_imports_neither_torch_nor_scipy():
    code = (
        "import sys\n"
        "from benchsuite.records.fingerprint import code_digest\n"
        "from benchsuite.study import names, study\n"
        "cells = [cell for name in names() for cell in study(name).cells()]\n"
        "assert len(cells) > 1000\n"
        "for cell in cells:\n"
        "    code_digest(tuple(study(cell.study).code(cell)))\n"
        "print({'torch', 'scipy', 'transformers'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_module_in_folders_without_init_is_found(tmp_path):
    (tmp_path / "plain/deeper").mkdir(parents=True)
    (tmp_path / "plain/deeper/measure.py").write_text("X = 1\n")
    code = f"{IMPORT}; print(d(('plain.deeper.measure',)))"

    def run():
        command = [sys.executable, "-c", code]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

    first = run().stdout
    (tmp_path / "plain/deeper/measure.py").write_text("X = 2\n")
    assert run().stdout != first
