"""Ray nodes that are hosts of their own, on one machine: each in namespaces, on a wire, killable.

A node has its own network, host name, pids, ``/dev/shm`` and folder of Ray's, and shares every
other file with the rest. When its first process is killed, so is all that runs on it, and its
network is gone, as in a power cut. Nothing is needed but that users may make namespaces.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

RAY = shutil.which("ray", path=os.path.dirname(sys.executable))
PORT = 6379

_NAMESPACES = ("--net", "--uts", "--pid", "--mount", "--mount-proc", "--fork", "--kill-child")
_ALONE = "mount -t tmpfs tmpfs $RAY_TMPDIR && mount -t tmpfs tmpfs /dev/shm"
# Bash reaps whom others leave behind, as a host's first process must: Ray's workers see by that
# that their node's daemon has died.
_READY = "ip link set lo up && hostname $NODE && echo up && read -r"
# A silent node is given up after seconds instead of half a minute, and gives itself up as soon.
_IMPATIENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "15",
}


class Node:
    """A host by its number; ``enter`` are the words by which a command runs on it."""

    def __init__(self, number: int, folder: Path, within: tuple[str, ...]) -> None:
        self.name, self.address = f"node{number}", f"10.77.0.{number}"
        self.environment = os.environ | _IMPATIENT | {"RAY_TMPDIR": str(folder), "NODE": self.name}
        self._process = subprocess.Popen(
            [*within, *_NAMESPACES, "bash", "-c", f"{_ALONE} && {_READY}"],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self.up = self._process.stdout.readline() == b"up\n"
        self._first = _last_of_chain(self._process.pid) if self.up else 0
        self.enter = (
            *("nsenter", f"--target={self._first}", "--user", "--preserve-credentials"),
            *("--net", "--uts", "--pid", "--mount"),
        )

    def run(self, *words: str) -> str:
        """Run a command here to its end, which must be a good one; return what it said."""
        done = subprocess.run(
            [*self.enter, *words], env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def kill(self) -> None:
        """End the node, and all that runs on it, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._first or self._process.pid, signal.SIGKILL)
        self._process.communicate()

    @property
    def pid_at_its_parent(self) -> str:
        """The pid of its first process on the node that it was started from."""
        status = Path(f"/proc/{self._first}/status").read_text()
        (pids,) = (line for line in status.splitlines() if line.startswith("NSpid:"))
        return pids.split()[-2]


class Cluster:
    """A head, and nodes that join it over a wire each; Ray has one CPU on every node."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ray"))  # sockets' paths must be short
        self.head = Node(1, self._folder, ("unshare", "--map-root-user"))
        self._nodes = [self.head]

    def start(self) -> None:
        """Start Ray's head, on the hub of all wires."""
        self.head.run("ip", "link", "add", "hub", "type", "bridge")
        self._connect(self.head, "hub")
        self._ray(self.head, "--head", f"--port={PORT}", "--include-dashboard=false")

    def join(self) -> Node:
        """Start a node, the only one but the head, and return it."""
        node = Node(2, self._folder, (*self.head.enter, "unshare"))
        self._nodes.append(node)
        assert node.up
        self.head.run("sh", "-c", "! ip link show wire || ip link delete wire")  # of a dead node
        wire = ("ip", "link", "add", "wire", "type", "veth", "peer", "name", "wire")
        self.head.run(*wire, "netns", node.pid_at_its_parent)
        self.head.run("ip", "link", "set", "wire", "master", "hub", "up")
        self._connect(node, "wire")
        self._ray(node, f"--address={self.head.address}:{PORT}")
        return node

    def _connect(self, node: Node, device: str) -> None:
        node.run("ip", "addr", "add", f"{node.address}/24", "dev", device)
        node.run("ip", "link", "set", device, "up")

    def _ray(self, node: Node, *role: str) -> None:
        sizes = ("--num-cpus=1", "--num-gpus=0", "--object-store-memory=80000000")
        node.run(str(RAY), "start", *role, f"--node-ip-address={node.address}", *sizes)

    def end(self) -> None:
        """End all nodes."""
        for node in reversed(self._nodes):
            node.kill()
        self._folder.rmdir()


def _last_of_chain(pid: int) -> int:
    """Return the last of a chain of only children: below ``unshare``, the first of a new space."""
    while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        pid = int(children[0])
    return pid
