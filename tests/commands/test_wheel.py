"""A wheel is whole: built, installed, and used in an empty folder, without the checkout."""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

import benchsuite
from benchsuite.records.code import Place, code_of
from benchsuite.study import names, study

ROOT = Path(__file__).parents[2]
SMALL = [
    *("-k", "tiny_llama_1m and cola_zero and seed42"),
    "--set=calibration_selection.n_calibration_samples=2",
    "--set=calibration_selection.evaluation_tokens=1024",
    "--set=calibration_selection.pool_documents=64",
]
COMMANDS = """
import contextlib, io, json, sys
from benchsuite.commands.main import main
said = []
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        status = main(words)
    said.append([int(status), out.getvalue()])
print(json.dumps(said))
"""
DIGESTS = """
import json
from pathlib import Path
import benchsuite
from benchsuite.records.code import Place, code_of
from benchsuite.study import names, study
{function}
print(json.dumps(digests(Path(benchsuite.__file__).parent / "benchmarks", Path.cwd())))
"""


def run(*words, where=None):
    """Run a command that must succeed, and return what it said."""
    done = subprocess.run(
        [*map(str, words)],
        cwd=where,
        env={**os.environ, "PYTHONPATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def files(*folders):
    """Return the files of the checkout in some of its folders, without what git ignores."""
    listed = run("git", "ls-files", "-co", "--exclude-standard", "-z", *folders, where=ROOT)
    return [name for name in listed.split("\0") if name and (ROOT / name).exists()]


def digests(benchmarks, root):
    """Return the code digests of the first cell of every study, module by module."""
    found = {}
    for name in names():
        cell = next(study(name).cells())
        (file,) = (p for p in benchmarks.glob("test_*.py") if f'study("{name}")' in p.read_text())
        found[name] = dict(code_of(Place(file, root), name, tuple(study(name).code(cell))))
    return found


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """An environment with the wheel, in which the other packages are those of this one."""
    folder = tmp_path_factory.mktemp("wheel")
    rooms = ("benchsuite", "benchmarks", "fixtures")
    for name in ("pyproject.toml", "README.md", "LICENSE", *files(*rooms)):
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / "source" / name)
    offline = ("--no-index", "--no-deps")
    build = ("wheel", *offline, "--no-build-isolation", "-v", "-w", folder / "dist")
    said = run(sys.executable, "-m", "pip", *build, folder / "source")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    (packages,) = (folder / "venv/lib").glob("python*/site-packages")
    # Only as folders to look in: the .pth file of an editable install is not read there.
    others = [p for p in sys.path if {"site-packages", "dist-packages"} & set(Path(p).parts)]
    (packages / "others.pth").write_text("\n".join(others))
    python = folder / "venv/bin/python"
    (wheel,) = (folder / "dist").glob("*.whl")
    run(
        sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps", wheel
    )
    empty = folder / "empty"
    empty.mkdir()
    return SimpleNamespace(python=python, empty=empty, built=said, packages=packages)


@pytest.fixture(scope="module")
def commands(installed):
    """Run several commands in one process in the empty folder: their statuses and what they say."""

    def ask(*words):
        said = run(installed.python, "-c", COMMANDS, json.dumps(words), where=installed.empty)
        return json.loads(said.splitlines()[-1])

    return ask


@pytest.fixture(scope="module")
def measured(installed):
    """The first cell, measured with nothing but the wheel."""
    words = ["-m", "pytest", "--pyargs", "benchsuite.benchmarks", *SMALL]
    return run(installed.python, *words, "--reports-dir=mine", where=installed.empty)


def test_every_folder_of_modules_is_in_the_list_of_packages():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    inside = {str(p.parent.relative_to(ROOT)) for p in (ROOT / "benchsuite").rglob("__init__.py")}
    mapped = {f"benchsuite/{name}" for name in ("benchmarks", "fixtures")}
    assert {name.replace(".", "/") for name in settings["packages"]} == inside | mapped
    assert settings["packages"] == sorted(settings["packages"])


@pytest.mark.stress
def test_the_wheel_has_every_tracked_file_and_setuptools_warns_of_none(installed):
    assert "absent from the `packages`" not in installed.built
    found = files("benchsuite", "benchmarks", "fixtures")
    wanted = {re.sub("^(benchmarks|fixtures)/", r"benchsuite/\1/", name) for name in found}
    wanted = {name for name in wanted if not name.startswith("benchsuite/benchmarks/speed/")}
    assert {name for name in wanted if not (installed.packages / name).exists()} == set()
    assert not (installed.packages / "benchsuite/benchmarks/speed").exists()


@pytest.mark.stress
def test_a_cell_is_measured_in_an_empty_folder(installed, measured):
    assert re.search(r"\b1 passed", measured)
    assert "pytest --pyargs benchsuite.benchmarks -m " in measured
    assert (installed.empty / "mine/index.html").exists()
    assert not (installed.empty / "reports").exists()
    (record,) = (installed.empty / "mine/store/records").glob("*.json")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert json.loads(record.read_text())["environment"]["benchsuite"] == settings["version"]


@pytest.mark.stress
def test_a_worker_of_xdist_measures_the_same(installed, measured):
    words = ["-m", "pytest", "--pyargs", "benchsuite.benchmarks", *SMALL, "-n", "1", "--rerun"]
    again = run(installed.python, *words, "--reports-dir=mine", where=installed.empty)
    assert "rerun: 1 of 1 cell bit-identical to its record" in again


@pytest.mark.stress
def test_the_commands_work_on_the_packaged_cells(commands, measured):
    chosen = [*SMALL, "--reports-dir=mine"]
    listed, status, estimated, claims, reported = commands(
        ["list", "-k", "tiny_llama_1m"],
        ["status", *chosen],
        ["estimate", *chosen],
        ["claims", *chosen],
        ["report", *chosen],
    )
    assert listed[0] == 0
    assert {f"{name}:" for name in names()} <= set(listed[1].split())
    assert status == [0, "1 done\n"]
    assert estimated[0] == 0
    assert "1 cell is finished and costs nothing" in estimated[1]
    assert claims[0] == 0
    assert "1 of 47 cells" in claims[1]
    assert reported[0] == 0
    assert reported[1].strip().endswith("mine/index.html")


@pytest.mark.stress
def test_benchsuite_run_finds_the_packaged_cells_and_what_is_stored_of_them(installed, measured):
    command = installed.python.parent / "benchsuite"
    again = run(command, "run", *SMALL, "--reports-dir", "mine", where=installed.empty)
    assert re.search(r"= \d+ deselected, 1 cached in", again)
    assert "warning" not in again


@pytest.mark.stress
def test_a_cell_has_the_code_digest_that_it_has_in_a_checkout(installed):
    here = digests(ROOT / "benchmarks", ROOT)
    script = DIGESTS.format(function=inspect.getsource(digests))
    there = run(installed.python, "-c", script, where=installed.empty)
    assert json.loads(there) == here


def test_the_version_is_that_of_the_installed_package():
    from importlib.metadata import version

    assert benchsuite.__version__ == version("benchsuite")
    assert "0." not in Path(benchsuite.__file__).read_text()


SCRIPT = """
from pathlib import Path

import benchsuite

records = benchsuite.load_records("reports", Path("more"))
items = benchsuite.load_items("reports")
reveal_type(records)
reveal_type(items["correct"].mean())
reveal_type(benchsuite.__version__)
benchsuite.load_items(3)
"""


@pytest.mark.stress
def test_a_type_checker_knows_what_an_installed_benchsuite_exports(installed):
    script = installed.empty.parent / "script.py"
    script.write_text(SCRIPT)
    words = ["-m", "mypy", "--strict", "--python-executable", installed.python, script]
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=script.parent,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )

    told = re.findall(r"script\.py:\d+: (.*)", done.stdout)
    assert [re.sub("pandas[.\\w]*DataFrame", "DataFrame", line) for line in told] == [
        'note: Revealed type is "DataFrame"',
        'note: Revealed type is "float"',
        'note: Revealed type is "str"',
        'error: Argument 1 to "load_items" has incompatible type "int"; expected "str | Path"'
        "  [arg-type]",
    ], done.stdout
    assert len(done.stdout.splitlines()) == len(told) + 1, done.stdout  # nothing of ours
