"""Cells on a local Ray: the same records, reports and resume as without it, whoever dies."""

import json
import os
import shutil
import socket
import subprocess
import sys

import psutil
import pytest

from benchsuite.harness.scheduling.cluster import chunks
from tests.conftest import measured
from tests.harness.shaky import BODY, CONFTEST

needs_ray = pytest.mark.skipif(
    not shutil.which("ray", path=os.path.dirname(sys.executable)),
    reason="Ray is not installed: pip install 'benchsuite[ray]'",
)


def test_tasks_are_of_one_model_each_largest_first_and_hold_every_cell_once():
    models = {f"{m}-{i}": m for m in ("tiny_llama_1m", "llama2_13b", "llama2_7b") for i in range(7)}
    made = chunks(models, slots=2)
    assert sorted(cell for chunk in made for cell in chunk) == sorted(models)
    assert [models[chunk[0]] for chunk in made] == [
        *["llama2_13b"] * 2,
        *["llama2_7b"] * 2,
        *["tiny_llama_1m"] * 2,
    ]
    assert all(len({models[cell] for cell in chunk}) == 1 for chunk in made)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--ray", "benchmarks"], "*--ray 'benchmarks' is no address*--ray=HOST:PORT*"),
        (["--ray=local", "-n", "2"], "*--ray distributes the cells itself. Leave -n away*"),
    ],
)
def test_what_cannot_be_meant_is_refused(pytester, words, told):
    result = pytester.runpytest_subprocess("-p", "benchsuite.plugin", *words)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([told])


def test_without_the_option_nothing_of_ray_is_imported(pytester):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_shaky=BODY.replace("{mischief}", "pass"))
    check = "import sys; import pytest; pytest.main(['-q']); assert 'ray' not in sys.modules"
    assert pytester.run(sys.executable, "-c", check).ret == 0


@needs_ray
def test_where_nobody_listens_is_a_usage_error_at_once(bench):
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = bench(f"--ray={address}", "-k", "two_models", "--device=cpu")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*no Ray cluster answers at '{address}': *refused*"])


@needs_ray
def test_a_run_on_ray_equals_one_without_it(bench, records, project):
    words = ("-k", "two_models or select", "--device=cpu")
    result = bench("--ray=local", *words)
    result.assert_outcomes(passed=24, deselected=48)
    on_ray = measured(records())
    shutil.rmtree(project.path / "reports")
    bench(*words)
    assert measured(records()) == on_ray
    again = bench("--ray=local", *words)
    again.stdout.fnmatch_lines(["report: reports/index.html", "*24 cached*"])


@needs_ray
def test_failures_crashes_and_the_last_failed_are_as_in_a_local_run(pytester):
    pytester.makeconftest(CONFTEST)
    body = BODY.replace("{mischief}", "assert False")
    body = body.replace(
        "with record", 'if cell.id == "toy_b-odd-seed1":\n        os._exit(3)\n    with record'
    )
    pytester.makepyfile(test_shaky=body)
    result = pytester.runpytest_subprocess("test_shaky.py", "--ray=local", "--device=cpu")
    result.assert_outcomes(passed=6, failed=2)
    result.stdout.fnmatch_lines(["*toy_b-odd-seed1: the worker process died in this cell*"])
    folder = pytester.path / "reports/store"
    kinds = [json.loads(p.read_text())["outcome"] for p in folder.glob("records/*.failed-*.json")]
    assert sorted(kinds) == ["crashed", "failed"]
    assert not list(folder.glob("running/*.json"))
    pytester.makepyfile(test_shaky=BODY.replace("{mischief}", "pass"))
    mended = pytester.runpytest_subprocess("test_shaky.py", "--ray=local", "--device=cpu", "--lf")
    mended.assert_outcomes(passed=2)


# A cell that stops at a gate the first time only, so that its worker can be killed meanwhile.
GATED = """
import os
import pytest

@pytest.mark.study("shaky")
def test_shaky(cell, record):
    if cell.id == "toy_a-odd-seed1" and os.path.exists("gate"):
        os.unlink("gate")
        with open("at_the_gate", "w") as pipe:
            pipe.write(str(os.getppid()))
        open("never").read()
    record.update(perplexity=1.5)
"""


@needs_ray
def test_a_worker_killed_in_mid_cell_costs_no_cell_and_none_is_measured_twice(pytester):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_shaky=GATED)
    (pytester.path / "gate").touch()
    os.mkfifo(pytester.path / "at_the_gate")
    os.mkfifo(pytester.path / "never")
    command = [sys.executable, "-m", "pytest", "test_shaky.py", "--ray=local", "--device=cpu"]
    output = pytester.path / "output.txt"
    with output.open("w") as file:
        run = subprocess.Popen(command, cwd=pytester.path, stdout=file, stderr=subprocess.STDOUT)
    with open(pytester.path / "at_the_gate") as pipe:
        worker = psutil.Process(int(pipe.read()))
    assert "ray::" in " ".join(worker.cmdline())
    worker.kill()
    assert run.wait(120) == 0, output.read_text()
    assert "8 passed" in output.read_text()
    names = [p.name for p in (pytester.path / "reports/store/records").glob("*.json")]
    assert len(names) == 8
    assert not [name for name in names if "rerun" in name or "failed" in name]
