"""What the harness costs: 10,000 trivial cells against as many plain pytest tests.

    python benchmarks/speed/harness.py [--cells 10000] [--workers 0 2]

Generates a project with one study (100 models, 10 methods, 10 seeds, two claims a method), runs
it, runs it again wholly cached, and runs equally many plain tests without the plugin, in turn.
Every time is the whole session of a fresh process: start, collection, cells, judging, report.
``cpu`` is the processor time of all its processes: on a shared machine the steadier number.
Bars: under 10 ms a cell more than a plain test; a wholly cached run under 20 s.
"""

import argparse
import datetime
import json
import math
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

CELL_BAR_MS, CACHED_BAR_S = 10.0, 20.0
PARTS = ("whole", "collection", "cells", "end", "cpu")

CONFTEST = """
import json, os, time
from benchsuite.catalog import ModelEntry, register
from benchsuite.study import Study, identical, lower, register as register_study

pytest_plugins = ["benchsuite.fixtures.record"]
SHAPE = {"vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
         "num_attention_heads": 1}
MODELS = tuple(f"trivial_{i:04}" for i in range(%(models)d))
METHODS = tuple(f"method_{i}" for i in range(10))
for name in MODELS:
    register(ModelEntry(name, f"trivial/{name}", "llama", SHAPE, "float32", embedded=True))
claims = [identical("weights_sha256", "method_0")]
claims += [lower("perplexity", method, than="method_0") for method in METHODS[1:]]
axes = {"model": MODELS, "method": METHODS}
register_study(Study("trivial", "?", axes, range(10), reads={"model": ""}, claims=tuple(claims)))
"""

CELLS = """
import pytest

@pytest.mark.study("trivial")
def test_trivial(cell, record):
    with record.stage("quant"):
        record.update(perplexity=1.0 + hash((cell.model, cell.seed)) % 97 / 97)
"""

PLAIN = """
import pytest

CASES = [f"trivial_{i:04}-method_{j}-seed{k}"
         for i in range(%(models)d) for j in range(10) for k in range(10)]

@pytest.mark.parametrize("case", CASES)
def test_plain(case):
    assert case
"""

# Loaded with -p: when the cells began and when they ended, as the controlling process saw it.
CLOCK = """
import json, os, time
import pytest

MOMENTS = {}

def pytest_collection_finish(session):
    MOMENTS["collected"] = time.time()

@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node, ids):
    MOMENTS["collected"] = time.time()

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session):
    MOMENTS["cells_done"] = time.time()
    result = yield
    if not hasattr(session.config, "workerinput"):
        with open(os.environ["HARNESS_CLOCK"], "w") as file:
            json.dump(MOMENTS, file)
    return result
"""


def session(project: Path, *arguments: str) -> dict[str, float]:
    """Run pytest in the project and return the seconds of its parts and of the whole."""
    clock = project / "clock.json"
    environment = os.environ | {"HARNESS_CLOCK": str(clock), "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "clock"]
    began, before = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [*command, *arguments], cwd=project, env=environment, capture_output=True, text=True
    )
    ended, after = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{arguments} ended with status {done.returncode}:\n{done.stdout[-3000:]}")
    moments = json.loads(clock.read_text())
    return {
        "whole": ended - began,
        "collection": moments["collected"] - began,
        "cells": moments["cells_done"] - moments["collected"],
        "end": ended - moments["cells_done"],
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    }


def measure(project: Path, workers: int, n_cells: int) -> list[tuple[str, dict[str, float]]]:
    """Run the plain tests, the cells and the cached cells at one number of workers."""
    spread = ("-n", str(workers))
    reports = ("--reports-dir", str(project / f"reports_{workers}"))
    plain = session(project, "plain", "-p", "no:benchsuite", *spread)
    fresh = session(project, "benchmarks", *spread, *reports)
    cached = session(project, "benchmarks", *spread, *reports)
    records = list((project / f"reports_{workers}/store/records").glob("*.json"))
    if len(records) != n_cells:
        sys.exit(f"{len(records)} records of {n_cells} cells")
    fresh["overhead"] = (fresh["whole"] - plain["whole"]) / n_cells * 1e3
    return [("plain tests", plain), ("cells", fresh), ("cells, cached", cached)]


def write_project(folder: Path, n_models: int) -> None:
    """Write the cells, the plain tests and the clock."""
    for name in ("benchmarks", "plain"):
        (folder / name).mkdir()
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "benchmarks/conftest.py").write_text(CONFTEST % {"models": n_models})
    (folder / "benchmarks/test_trivial.py").write_text(CELLS)
    (folder / "plain/test_plain.py").write_text(PLAIN % {"models": n_models})
    (folder / "clock.py").write_text(CLOCK)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--folder", type=Path, help="keep the project here instead of a tempdir")
    arguments = parser.parse_args()
    n_models = math.ceil(arguments.cells / 100)
    print(
        f"{n_models * 100} cells, {len(os.sched_getaffinity(0))} cores {platform.machine()}, "
        f"Python {platform.python_version()}, pytest {pytest.__version__}, {datetime.date.today()}"
    )
    heads = "".join(f"{part:>11}" for part in PARTS)
    print(f"{'seconds':22}{heads}{'ms/cell more':>14}")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        write_project(Path(folder), n_models)
        for workers in arguments.workers:
            for name, seen in measure(Path(folder), workers, n_models * 100):
                numbers = "".join(f"{seen[part]:11.1f}" for part in PARTS)
                overhead = f"{seen['overhead']:14.2f}" if "overhead" in seen else ""
                print(f"{name + f', -n {workers}':22}{numbers}{overhead}", flush=True)
    print(f"bars: under {CELL_BAR_MS:.0f} ms a cell, cached under {CACHED_BAR_S:.0f} s")


if __name__ == "__main__":
    main()
