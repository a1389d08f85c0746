"""The Slurm scripts of docs/clusters.md run as they stand, under a stand-in for Slurm."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks
from tests.harness.nodes import RAY
from tests.harness.rounds import check_records, check_whole, heard
from tests.harness.shaky import CONFTEST

ONE_NODE, SEVERAL_NODES = blocks(ROOT / "docs/clusters.md", "bash")

# The first cell to begin says so and waits for word to end.
CELLS = """
import contextlib
import os

import pytest

@pytest.mark.study("shaky")
def test_shaky(cell, record):
    with open("begun", "a") as log:
        log.write(f"{cell.id}\\n")
    with contextlib.suppress(FileNotFoundError):
        os.unlink("gate")
        with open("at_the_gate", "w") as pipe:
            pipe.write(cell.id)
        open("word").read()
    record.update(perplexity=len(cell.id))
"""
# A step's processes side by side, one a node.
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
for SLURM_PROCID in $(seq 0 $((SLURM_JOB_NUM_NODES - 1))); do
    SLURM_PROCID=$SLURM_PROCID "$@" &
done
wait
"""
PYTEST = f"""#!/bin/sh
exec {sys.executable} -m pytest "$@" -p no:cacheprovider --device=cpu
"""


class Slurm:
    """A cluster of this machine alone, with one CPU a node, for the scripts of one user."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.programs = folder, folder / "bin"
        self._short = tempfile.TemporaryDirectory(prefix="ray")  # sockets' paths must be short
        (folder / "benchmarks").mkdir()
        self.programs.mkdir()
        (folder / "conftest.py").write_text(CONFTEST)
        (folder / "benchmarks/test_shaky.py").write_text(CELLS)
        (folder / "gate").touch()
        for name in ("at_the_gate", "word"):
            os.mkfifo(folder / name)
        for name, text in (("srun", SRUN), ("pytest", PYTEST)):
            (self.programs / name).write_text(text)
            (self.programs / name).chmod(0o755)
        if RAY:
            (self.programs / "ray").symlink_to(RAY)

    def submit(self, script: str) -> "Job":
        """Start a script as sbatch does: on its first node, with what it asked for."""
        batch = self.folder / "batch.sh"
        batch.write_text(script.replace("calibration_selection", "shaky"))
        asked = dict(re.findall(r"--([a-z-]+)=(\S+)", "".join(re.findall("#SBATCH.*", script))))
        given = {
            "HOME": str(self.folder),
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "PYTEST_XDIST_AUTO_NUM_WORKERS": "1",
            "RAY_TMPDIR": self._short.name,
            "SLURM_JOB_ID": str(os.getpid()),
            "SLURM_JOB_NUM_NODES": asked["nodes"],
            "SLURM_CPUS_PER_TASK": "1",
        }
        return Job(batch, os.environ | given, asked["signal"])

    def end(self) -> None:
        """Remove what is in other places than the folder."""
        self._short.cleanup()


class Job:
    """A script that runs, and the signal that it has asked for."""

    def __init__(self, batch: Path, environment: dict[str, str], asked: str) -> None:
        self._asked = asked
        self.shell = subprocess.Popen(
            ["bash", batch],
            cwd=batch.parent,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def come_near_the_time_limit(self) -> None:
        """Send the signal that the script has asked for: to the batch shell for ``B:``."""
        to, number = re.fullmatch(r"(B:)?([A-Z]+)@\d+", self._asked).groups()
        assert to, "job steps are signalled, but not the batch shell nor what it runs itself"
        self.shell.send_signal(signal.Signals[f"SIG{number}"])

    def says(self, text: str) -> str:
        """Read what it writes until a line has the text; return all that was read."""
        said = ""
        for line in self.shell.stdout:
            said += line
            if text in line:
                return said
        raise AssertionError(said)

    def end(self) -> tuple[int, str]:
        """Wait for the script, end its steps as Slurm does; return its status and last words."""
        status = self.shell.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.shell.pid, signal.SIGTERM)
        return status, self.shell.stdout.read()


@pytest.fixture
def slurm(tmp_path):
    """A stand-in for Slurm whose ``benchmarks`` are eight cells."""
    made = Slurm(tmp_path)
    yield made
    made.end()


needs_ray = pytest.mark.skipif(not RAY, reason="Ray is not installed")


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(ONE_NODE, id="one node"),
        pytest.param(SEVERAL_NODES, id="several", marks=needs_ray),
    ],
)
@pytest.mark.stress
def test_a_script_that_meets_its_time_limit_and_is_submitted_again_measures_every_cell_once(
    script, slurm
):
    folder = slurm.folder
    job = slurm.submit(script)
    assert heard(folder / "at_the_gate", job.shell), job.end()
    job.come_near_the_time_limit()
    job.says("SIGTERM: the running cells have 20 s to finish")
    (folder / "word").write_text("go on")
    status, said = job.end()
    assert status == pytest.ExitCode.INTERRUPTED, said
    assert "to go on: pytest benchmarks" in said
    first = check_records(folder / "reports")
    assert 1 <= len(first) < 8
    job = slurm.submit(script)
    status, said = job.end()
    assert status == 0, said
    assert re.search(rf"{8 - len(first)} passed, {len(first)} cached", said)
    begun = (folder / "begun").read_text().split()
    assert len(begun) == len(set(begun)) == 8
    found = check_records(folder / "reports")
    (folder / "reports/store/artefacts").mkdir(exist_ok=True)
    check_whole(folder / "reports", found)
    assert "shaky" in (folder / "reports/index.html").read_text()
