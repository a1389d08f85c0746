"""What it costs to start: CPU seconds of fresh processes, from an import to an embedded cell.

    python benchmarks/speed/startup.py [--rounds 3] [--only "model class" ...]

Measures the checkout that the interpreter's benchsuite is installed from, so that two checkouts
are compared by running this file with each one's interpreter, in turn. User time of a process and
its children, one thread each; the least of the rounds, for whatever else the machine does only adds
to it. A run before the rounds fills what is kept between sessions: compiled modules, and the
sources in the user's cache. Bar: "model loaded", a worker's imports, 4 s.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import benchsuite

ROOT = Path(benchsuite.__file__).parents[1]
LOADED = """
from benchsuite.catalog import model
from benchsuite.models import loading
loading.load(model("tiny_llama_1m"))
"""
CELL = {
    "calibration_selection": "model='tiny_llama_1m', method='random', seed=42",
    "quantizers": "model='tiny_llama_1m', method='gptq_w4', seed=42",
}


def pytest_of(study: str, *arguments: str) -> list[str]:
    """Return the command of a session with one cell of a study, without workers."""
    cell = f"cell(study='{study}', {CELL[study]})"
    command = [sys.executable, "-m", "pytest", f"benchmarks/test_{study}.py", "-q", "-n", "0"]
    return [*command, "-p", "no:cacheprovider", "-m", cell, *arguments]


def parts(folder: Path) -> dict[str, Sequence[str]]:
    """Return the processes by name; a cell that is run has a folder of its own each time."""
    python, kept = sys.executable, f"--reports-dir={folder}/kept"
    found: dict[str, Sequence[str]] = {
        "nothing": [python, "-c", "pass"],
        "torch": [python, "-c", "import torch"],
        "model class": [python, "-c", "import transformers.models.llama.modeling_llama"],
        "model loaded": [python, "-c", LOADED],
        "benchsuite list": [python, "-m", "benchsuite", "list"],
    }
    for study in CELL:
        found[f"{study}: collect"] = pytest_of(study, "--collect-only", kept)
        found[f"{study}: run"] = pytest_of(study, f"--reports-dir={folder}/fresh")
        found[f"{study}: cached"] = pytest_of(study, kept)
    return found


def cpu_seconds(command: Sequence[str]) -> float:
    """Return the user time of a process and of all that it waited for."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def main() -> None:
    """Run every part in turn, as many times as asked, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="PART", help="parts, by the table's names")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as kept:
        chosen = parts(Path(kept))
        if arguments.only:
            chosen = {name: command for name, command in chosen.items() if name in arguments.only}
        for study in CELL:
            if f"{study}: cached" in chosen:
                cpu_seconds(chosen[f"{study}: cached"])
        seconds: dict[str, list[float]] = {name: [] for name in chosen}
        for _ in range(arguments.rounds):
            for name, command in chosen.items():
                with tempfile.TemporaryDirectory() as fresh:
                    command = [part.replace(f"{kept}/fresh", fresh) for part in command]
                    seconds[name].append(cpu_seconds(command))
    print(f"{ROOT.name}, Python {platform.python_version()}, {platform.machine()}, CPU seconds")
    for name, found in seconds.items():
        print(f"{name:32} {min(found):7.2f}   {' '.join(f'{one:.2f}' for one in found)}")


if __name__ == "__main__":
    main()
