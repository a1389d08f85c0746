"""An engine that fails in the ways that engines do: it says anything, hangs, dies, leaves children.

``report`` names a listening Unix socket. The engine and a process that it starts hold a connection
to it, whose end tells a test that neither lives any longer.
"""

import ctypes
import os
import signal
import socket
import stat
import subprocess
import threading


class Engine:
    def load(self, **settings):
        return settings

    def answer(self, value):
        """Say what the test wants said."""
        return value

    generate = score = kernels = prepare = latency = lambda self, **_: self.value

    def next(self, value):
        self.value = value

    def write(self, text):
        """Write into the socket of the answers, as a library with a wrong descriptor does."""
        os.write(_sockets()[0], text.encode("latin-1"))

    def cut_off(self, text):
        self.write(text)
        os._exit(3)

    def let_go(self):
        """Close the answers and live on."""
        os.close(_sockets()[0])
        self.wait()

    def wait(self):
        threading.Event().wait()

    def hang(self, report, holding_the_lock=False):
        connection = _reported(report)
        connection.sendall(b"hanging")
        if holding_the_lock:
            ctypes.PyDLL(None).pause()
        self.wait()

    def leave_a_child(self, report):
        _reported(report)
        os.kill(os.getpid(), signal.SIGKILL)

    def ask_the_user(self):
        return input("Trust this model's code? [y/N] ")

    def exit(self):
        raise SystemExit("the library gave up")

    def signal(self):
        """Be signalled as every process of a batch job is."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)
            os.kill(os.getppid(), number)
        child = os.fork()
        if not child:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _sockets():
    return [n for n in range(3, 32) if _is_socket(n)]


def _is_socket(descriptor):
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        return False


def _reported(path):
    """Connect, also a child that would live on by itself."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    subprocess.Popen(["sleep", "1000"], pass_fds=[connection.fileno()])
    return connection
