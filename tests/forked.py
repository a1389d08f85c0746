"""Processes of their own without the wait for imports: forked from one that has them already.

To import what a session of pytest needs takes seconds of CPU, torch and transformers some more,
and the tests start hundreds of sessions. So a server imports once, computes nothing, and forks:
``run([sys.executable, "-m", "pytest", ...])`` is then ``subprocess.run`` of the same words, with
the folder, environment, output and exit status of its own. A test of what is imported starts a
fresh interpreter instead.

A session with ``-n`` gets its workers in the same way: before it begins, it leaves behind a
nursery, a copy of itself as the server made it, which forks whenever execnet starts a worker.
"""

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
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
    "jinja2 yaml filelock psutil threadpoolctl platformdirs multiprocessing.pool "
    "pytest xdist.plugin xdist.dsession xdist.workermanage execnet.gateway _pytest.junitxml "
    "asyncio pdb pyarrow.dataset pyarrow.pandas_compat anyio.pytest_plugin "
    "scikit_posthocs"
)
OURS = (
    "benchsuite.guest benchsuite.plugin benchsuite.harness.controller benchsuite.harness.looks "
    "benchsuite.harness.scheduling.affinity benchsuite.statistics.inference.claims "
    "benchsuite.reporting.report benchsuite.reporting.planned benchsuite.commands.main "
    "benchsuite.commands.collecting benchsuite.fixtures.calibration benchsuite.fixtures.engines "
    "benchsuite.fixtures.latent benchsuite.fixtures.models benchsuite.fixtures.record "
    "benchsuite.fixtures.reference benchsuite.fixtures.tasks benchsuite.fixtures.uncertainty "
    "benchsuite.corpora.hub benchsuite.corpora.tasks benchsuite.corpora.text "
    "benchsuite.models.source benchsuite.records.convert benchsuite.studies.shipped "
    "benchsuite.reporting.page.rendering"
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

    def start(
        self, words: list[str], cwd: str, env: Mapping[str, str], *to: Any, apart: bool = False
    ) -> Process:
        """Fork a process that does what ``words`` say after ``python``, with such open files."""
        asked = json.dumps([words, cwd, dict(env), apart]).encode()
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
    command: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    *to: IO[str],
    heavy: bool = False,
    apart: bool = False,
) -> Process:
    """Start ``[sys.executable, "-m" or "-c", ...]``, writing to two open files.

    With three files, it reads from the first. ``apart``, it leads a session of its own with its
    workers, so that one signal reaches all of them and nobody else.
    """
    words = [str(word) for word in command[1:]]
    if words[0].startswith("-m") and len(words[0]) > 2:
        words[:1] = ["-m", words[0][2:]]
    env = {**env, "PYTEST_ADDOPTS": f"{env.get('PYTEST_ADDOPTS', '')} {OPTIONS}"}
    return server(heavy).start(words, str(cwd), env, *to, apart=apart)


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


# --- in a session with workers


class Worker:
    """A forked worker process: as much of ``subprocess.Popen`` as execnet needs."""

    def __init__(self, nursery: socket.socket) -> None:
        theirs_in, ours_in = os.pipe()
        ours_out, theirs_out = os.pipe()
        asked = json.dumps([os.getcwd(), dict(os.environ)]).encode()
        socket.send_fds(nursery, [len(asked).to_bytes(8)], [theirs_in, theirs_out, 2])
        nursery.sendall(asked)
        self.pid = int.from_bytes(nursery.recv(8))
        self._ends = os.pidfd_open(self.pid)
        os.close(theirs_in)
        os.close(theirs_out)
        self.stdin, self.stdout = os.fdopen(ours_in, "wb"), os.fdopen(ours_out, "rb")

    def wait(self) -> int:
        """Wait until the worker has ended; its status is not known."""
        select.select([self._ends], [], [])
        return 0

    def kill(self) -> None:
        """Kill the worker, if it lives."""
        signal.pidfd_send_signal(self._ends, signal.SIGKILL)


def _leave_nursery() -> None:
    """Fork the process that forks workers, and have execnet ask it for them."""
    from execnet.gateway_base import Popen2IO
    from execnet.gateway_io import Popen2IOMaster

    ours, theirs = socket.socketpair()
    if not os.fork():
        ours.close()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # The dead are nobody's to wait for.
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # It is the session's and its workers'.
        while (request := _receive(theirs)) is not None:
            (cwd, env), fds = request
            pid = os.fork()
            if not pid:
                theirs.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                bootstrap = "import sys;exec(eval(sys.stdin.readline()))"
                _become(["-c", bootstrap], cwd, env, fds)
            for fd in fds:
                os.close(fd)
            theirs.sendall(pid.to_bytes(8))
        os._exit(0)
    theirs.close()

    def start(io: Any, args: list[str], execmodel: Any) -> None:
        io.popen = worker = Worker(ours)
        Popen2IO.__init__(io, worker.stdin, worker.stdout, execmodel=execmodel)

    Popen2IOMaster.__init__ = start


# --- in the server


def _receive(channel: socket.socket) -> tuple[Any, list[int]] | None:
    """Return the next request and its files, or None if nobody is left to ask."""
    head, fds, _, _ = socket.recv_fds(channel, 8, 3)
    if not head:
        return None
    wanted, asked = int.from_bytes(head), b""
    while len(asked) < wanted:
        asked += channel.recv(wanted - len(asked))
    return json.loads(asked), fds


def _serve(channel: socket.socket) -> None:
    """Fork for every request, one at a time, until the tests are gone."""
    while (request := _receive(channel)) is not None:
        (words, cwd, env, apart), fds = request
        pid = os.fork()
        if not pid:
            channel.close()
            if apart:
                os.setsid()
            if any(word.startswith(("-n", "--numprocesses")) for word in words):
                _leave_nursery()
            _become(words, cwd, env, fds if len(fds) == 3 else [0, *fds])
        for fd in fds:
            os.close(fd)
        channel.sendall(f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        channel.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _become(words: list[str], cwd: str, env: dict[str, str], files: list[int]) -> None:
    """Do in this process what a fresh interpreter would do with the words, and end it.

    ``files`` are to be its standard input, output and error output.
    """
    for place, fd in enumerate(files):
        if fd != place:
            os.dup2(fd, place)
            os.close(fd)
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


def _read_ahead() -> None:
    """Parse the sources that code digests are made of, and the page's templates: for all forks."""
    from benchsuite.records import code, syntax

    root = Path(__file__).parents[1]
    for folder in ("benchsuite", "fixtures", "benchmarks"):
        for path in (root / folder).rglob("*.py"):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            if not code.is_apart(name):
                syntax.source(path)
    rendering = sys.modules.get("benchsuite.reporting.page.rendering")
    if rendering is not None:
        for name in rendering.templates().list_templates():
            rendering.templates().get_template(name)


def _main(fd: str, *modules: str) -> None:
    from _pytest.config import default_plugins

    sys.path.pop(0)  # the folder of this file
    for module in (*modules, *(f"_pytest.{name}" for name in default_plugins)):
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as absent:
            if str(absent.name).startswith("benchsuite"):
                raise
    _read_ahead()
    gc.collect()
    gc.freeze()  # Collections in the forks leave what is shared as it is.
    _serve(socket.socket(fileno=int(fd)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
