"""Ends an engine with the session that started it, however the session ends.

``keep`` forks the process that the session has started. The child becomes the engine; the parent
stays beside it as its keeper. A thread in the engine could not do this: it stands still while a
library holds the interpreter's lock. Nor could the kernel alone (``PR_SET_PDEATHSIG``): it kills
when the *thread* that started the process ends.

Runs in the engine's own interpreter and so imports nothing but the standard library.
"""

import ctypes
import os
import select
import signal
import socket
import sys
import threading
from contextlib import suppress
from typing import NoReturn

# A batch system sends these to every process of a job. The session then has a notice in which its
# cells may still finish; when it ends, so does the engine.
_MEANT_FOR_THE_SESSION = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_LOOK_SECONDS = 1.0


def keep(channel: socket.socket) -> None:
    """Fork; return in the child, the engine. ``channel`` is its own and closed in the keeper.

    The engine leads a process group. The whole group is killed as soon as

    - standard input, which the session holds open, brings a byte or its end;
    - the parent is another one: the session is gone, and what it has forked holds the input open;
    - the engine has ended, so that nothing which it started outlives it.

    The keeper ends with the engine's status, or 128 + N where the signal N has ended it.
    """
    session, keeper = os.getppid(), os.getpid()
    for number in _MEANT_FOR_THE_SESSION:
        signal.signal(number, signal.SIG_IGN)
    engine = os.fork()
    if engine:
        _watch_until_its_end(engine, session, channel)
    os.setpgid(0, 0)
    _die_with(keeper)
    # Handlers, because what is ignored stays ignored in every program that the engine starts.
    for number in _MEANT_FOR_THE_SESSION:
        signal.signal(number, _pass_over)
    os.register_at_fork(after_in_child=_listen_again)
    _read_nothing()


def _watch_until_its_end(engine: int, session: int, channel: socket.socket) -> NoReturn:
    try:
        with suppress(OSError):  # the engine does the same: whoever comes first
            os.setpgid(engine, engine)
        channel.close()
        threading.Thread(target=_kill_with, args=(session, engine), daemon=True).start()
        code = os.waitstatus_to_exitcode(os.waitpid(engine, 0)[1])
    finally:
        _kill_group(engine)
    os._exit(code if code >= 0 else 128 - code)


def _kill_with(session: int, engine: int) -> None:
    """Wait for the end of the session or its word, then kill the engine and all it started."""
    while os.getppid() == session and not select.select([0], [], [], _LOOK_SECONDS)[0]:
        pass
    _kill_group(engine)


def _kill_group(engine: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # none is left; macOS says it so
        os.killpg(engine, signal.SIGKILL)


def _die_with(keeper: int) -> None:
    """Ask the kernel, where it can, to end this process if its keeper is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:
            os._exit(1)


def _pass_over(number: int, frame: object) -> None:
    """Leave a signal to the session."""


def _listen_again() -> None:
    """Let a child that the engine forks be ended by signals, as its libraries expect."""
    for number in _MEANT_FOR_THE_SESSION:
        if signal.getsignal(number) is _pass_over:
            signal.signal(number, signal.SIG_DFL)


def _read_nothing() -> None:
    """Give the engine an empty input: a library's question is answered by its end."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
