"""A Ray cluster of two nodes on a folder, one of them lost in mid-cell: every cell once.

pytest tests/harness/test_stress_nodes.py -m stress
"""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.nodes import PORT, RAY, Cluster
from tests.harness.rounds import LONGEST, check_records, check_whole, heard, number
from tests.harness.shaky import CONFTEST

pytestmark = [
    pytest.mark.stress,
    pytest.mark.skipif(not RAY, reason="Ray is not installed: pip install 'benchsuite[ray]'"),
]

# The first cell on the second node says that it is measured there and waits for word that may
# never come. Until then no other cell goes on, so that the second node has one.
GATED = """
import fcntl
import os
import socket

import pytest

@pytest.mark.study("shaky")
def test_shaky(cell, record):
    here = socket.gethostname()
    with open("begun", "a") as log:
        log.write(f"{cell.id} {here}\\n")
    if here == "node2" and os.path.exists("gate"):
        os.unlink("gate")
        with open("at_the_gate", "w") as pipe:
            pipe.write(cell.id)
        open("word").read()
    with open("shut") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
    record.update(perplexity=len(cell.id))
"""


@pytest.fixture(scope="module")
def cluster():
    """A cluster of its head alone; the tests add the second node."""
    if not all(map(shutil.which, ("unshare", "nsenter", "ip"))):
        pytest.skip("needs util-linux and iproute2")
    made = Cluster()
    try:
        if not made.head.up:
            pytest.skip("this machine lets no user make a namespace")
        made.start()
        yield made
    finally:
        made.end()


@pytest.fixture
def second(cluster):
    """The second node, new."""
    node = cluster.join()
    yield node
    node.kill()


@pytest.fixture
def folder(tmp_path):
    """The gated cells, as a project that both nodes see."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_shaky.py").write_text(GATED)
    for name in ("gate", "shut"):
        (tmp_path / name).touch()
    for name in ("at_the_gate", "word"):
        os.mkfifo(tmp_path / name)
    return tmp_path


def started(cluster: Cluster, folder: Path, *words: str) -> subprocess.Popen:
    """Start a session on the head that runs its cells on the cluster."""
    address = f"--ray={cluster.head.address}:{PORT}"
    with (folder / "said.txt").open("w") as file:
        return subprocess.Popen(
            [
                *(*cluster.head.enter, "env", f"--chdir={folder}"),
                *(sys.executable, "-m", "pytest", "test_shaky.py", address, "--device=cpu", *words),
            ],
            env=cluster.head.environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def fall_silent(head):
    """Take the wire away first: what dies behind it says goodbye to nobody."""
    head.run("ip", "link", "set", "wire", "down")


def lose_power(head, second, folder):
    fall_silent(head)
    second.kill()


def lose_raylet(head, second, folder):
    second.run("pkill", "-KILL", "-x", "raylet")


def lose_wire(head, second, folder):
    fall_silent(head)
    (folder / "word").write_text("go on")


@pytest.mark.parametrize("lose", [lose_power, lose_raylet, lose_wire])
def test_a_node_lost_in_mid_cell_costs_no_cell_and_none_is_measured_twice(
    lose, cluster, second, folder
):
    with (folder / "shut").open() as shut:
        fcntl.flock(shut, fcntl.LOCK_EX)
        run = started(cluster, folder)
        lost = heard(folder / "at_the_gate", run)
        assert lost, (folder / "said.txt").read_text()
        lose(cluster.head, second, folder)
    said = folder / "said.txt"
    assert run.wait(LONGEST) == 0, said.read_text()
    begun = [line.split() for line in (folder / "begun").read_text().splitlines()]
    hosts = {cell: [host for name, host in begun if name == cell] for cell, _ in begun}
    # What the second node could still finish is found when its task begins again.
    finished = [cell for cell, where in hosts.items() if where == ["node2"]]
    assert (lost in finished) == (lose is lose_wire)
    assert hosts.pop(lost) == (["node2"] if lost in finished else ["node2", "node1"])
    assert all(len(where) == 1 for where in hosts.values())
    assert number(said.read_text(), "passed") + number(said.read_text(), "cached") == 8
    if lost in finished:
        assert number(said.read_text(), "cached") == len(finished)
    found = check_records(folder / "reports")
    assert len(found) == 8
    (folder / "reports/store/artefacts").mkdir(exist_ok=True)
    check_whole(folder / "reports", found)


def test_a_node_that_does_not_see_the_reports_is_named_before_any_cell(cluster, second, folder):
    (folder / "reports").mkdir()
    second.run("mount", "-t", "tmpfs", "tmpfs", str(folder / "reports"))
    run = started(cluster, folder)
    assert run.wait(LONGEST) == pytest.ExitCode.USAGE_ERROR
    said = (folder / "said.txt").read_text()
    assert f"does not see {folder}/reports: {second.name} ({second.address}). Name a" in said
    assert not (folder / "begun").exists()
