"""Processes of their own without the wait for imports: forked from one that has them already.

To import what a session of pytest needs takes seconds of CPU, torch and transformers some more,
and the tests start hundreds of sessions. So a server imports once, computes nothing, and forks:
``run([sys.executable, "-m", "pytest", ...])`` is then ``subprocess.run`` of the same words, with
the folder, environment, output and exit status of its own. A test of what is imported, or that
sends signals, starts a fresh interpreter instead.
"""

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

# What a session imports; a module that is not installed is left out.
LIBRARIES = (
    "numpy pandas pyarrow.parquet scipy.stats scipy.optimize scipy.integrate matplotlib.pyplot "
    "jinja2 yaml filelock psutil threadpoolctl multiprocessing.pool "
    "pytest xdist.plugin xdist.dsession xdist.workermanage execnet.gateway _pytest.junitxml "
    "asyncio pdb pyarrow.dataset pyarrow.pandas_compat anyio.pytest_plugin"
)
OURS = (
    "benchsuite.plugin benchsuite.harness.controller benchsuite.harness.looks "
    "benchsuite.harness.scheduling.affinity benchsuite.statistics.inference.claims "
    "benchsuite.reporting.report benchsuite.commands.main benchsuite.commands.collecting "
    "benchsuite.fixtures.models benchsuite.fixtures.latent benchsuite.fixtures.uncertainty "
    "benchsuite.studies.shipped"
)
TORCH = (
    "torch torch._dynamo transformers safetensors.torch sklearn.cluster "
    "transformers.models.llama.modeling_llama transformers.models.qwen3.modeling_qwen3"
)
# hypothesis' plugin imports all of it to end a session; what was imported is not rewritten.
OPTIONS = "-p no:hypothesispytest -W 'ignore:Module already imported'"


class Process:
    """A forked process: as much of ``subprocess.Popen`` as pytester needs."""

    stdin = None

    def __init__(self, server: "Server", pid: int) -> None:
        self._server, self.pid = server, pid

    def wait(self) -> int:
        """Return the exit status, negative for a signal."""
        return self._server.receive()


class Server:
    """A process that has imported some modules and forks whenever it is asked."""

    def __init__(self, modules: Sequence[str]) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, __file__, str(theirs.fileno()), *modules]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with theirs:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env=environment
            )
        self._socket, self._lines = ours, ours.makefile()
        atexit.register(self._end)

    def _end(self) -> None:
        self._lines.close()
        self._socket.close()
        self._process.wait()

    def start(self, words: list[str], cwd: str, env: Mapping[str, str], *to: Any) -> Process:
        """Fork a process that does what ``words`` say after ``python``, with its two outputs."""
        asked = json.dumps([words, cwd, dict(env)]).encode()
        socket.send_fds(self._socket, [len(asked).to_bytes(8)], [f.fileno() for f in to])
        self._socket.sendall(asked)
        return Process(self, self.receive())

    def receive(self) -> int:
        """Return the number that the server sends next; it must live."""
        return int(self._lines.readline())


@functools.cache
def server(heavy: bool) -> Server:
    """Return this test process' server of sessions of toys, or of those that compute with torch.

    In the latter each session imports our own modules, so that a test can see which it uses.
    """
    return Server(f"{LIBRARIES} {TORCH if heavy else OURS}".split())


def start(
    command: Sequence[str], cwd: Path, env: Mapping[str, str], *to: IO[str], heavy: bool = False
) -> Process:
    """Start ``[sys.executable, "-m" or "-c", ...]``, writing to two open files."""
    words = [str(word) for word in command[1:]]
    if words[0].startswith("-m") and len(words[0]) > 2:
        words[:1] = ["-m", words[0][2:]]
    env = {**env, "PYTEST_ADDOPTS": f"{env.get('PYTEST_ADDOPTS', '')} {OPTIONS}"}
    return server(heavy).start(words, str(cwd), env, *to)


def run(
    command: Sequence[str],
    cwd: Path,
    env: Mapping[str, str] | None = None,
    heavy: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run a command of this Python as ``subprocess.run`` does, with its text captured."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        status = start(command, cwd, env or os.environ, out, err, heavy=heavy).wait()
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(list(command), status, out.read(), err.read())


# --- in the server


def _serve(channel: socket.socket) -> None:
    """Fork for every request, one at a time, until the tests are gone."""
    while True:
        head, fds, _, _ = socket.recv_fds(channel, 8, 2)
        if not head:
            return
        wanted, asked = int.from_bytes(head), b""
        while len(asked) < wanted:
            asked += channel.recv(wanted - len(asked))
        pid = os.fork()
        if not pid:
            channel.close()
            _become(*json.loads(asked), *fds)
        for fd in fds:
            os.close(fd)
        channel.sendall(f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        channel.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _become(words: list[str], cwd: str, env: dict[str, str], out: int, err: int) -> None:
    """Do in this process what a fresh interpreter would do with the words, and end it."""
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.close(out)
    os.close(err)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    atexit._clear()
    searched = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:0] = [cwd, *searched]
    status: Any = 1
    try:
        kind, what, *rest = words
        sys.argv = [what if kind == "-m" else kind, *rest]
        if kind == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _main(fd: str, *modules: str) -> None:
    sys.path.pop(0)  # the folder of this file
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as absent:
            if str(absent.name).startswith("benchsuite"):
                raise
    gc.collect()
    gc.freeze()  # Collections in the forks leave what is shared as it is.
    _serve(socket.socket(fileno=int(fd)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
