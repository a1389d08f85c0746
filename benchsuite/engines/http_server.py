"""A server that speaks HTTP on this machine: started for an engine's process, ended with it.

Runs in an engine's own interpreter and so imports nothing but the standard library. The keeper of
the engine's process ends the server too (`benchsuite.engines.keeper`).
"""

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

HOST = "127.0.0.1"
READY_SECONDS = 3600.0
_ANSWER_SECONDS = 86_400.0  # whoever asked the engine's process has the limit that counts
_POLL_SECONDS = 0.1


class HttpServer:
    """A server started by ``command(port)`` that answers ``/health`` with 200 once it is ready."""

    def __init__(self, command: Callable[[int], Sequence[str]]) -> None:
        port = _free_port()
        self._url = f"http://{HOST}:{port}"
        # What the server prints goes where the engine's own words go: to its log.
        self._process = subprocess.Popen(list(command(port)), stdin=subprocess.DEVNULL)
        self._wait()

    def get(self, path: str) -> Any:
        """Return the object that the server answers."""
        return self._ask(urllib.request.Request(self._url + path))

    def post(self, path: str, body: Any) -> Any:
        """Return the object that the server answers to another one."""
        headers = {"Content-Type": "application/json"}
        data = json.dumps(body).encode()
        return self._ask(urllib.request.Request(self._url + path, data, headers))

    def close(self) -> None:
        """End the server."""
        self._process.terminate()
        self._process.wait()

    def _ask(self, request: urllib.request.Request) -> Any:
        try:
            with _DIRECT.open(request, timeout=_ANSWER_SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")
            raise RuntimeError(f"the server answered {error.code}: {said}") from error

    def _wait(self) -> None:
        """Wait until the model is loaded; a server that ends before has said why in the log."""
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            status = self._process.poll()
            if status is not None:
                raise RuntimeError(f"the server ended with status {status} before it was ready")
            try:
                with _DIRECT.open(f"{self._url}/health", timeout=_ANSWER_SECONDS) as answer:
                    if answer.status == 200:
                        return
            except (OSError, urllib.error.URLError):  # not listening yet, or loading: 503
                pass
            time.sleep(_POLL_SECONDS)
        self.close()
        raise RuntimeError(f"the server was not ready within {READY_SECONDS:,.0f} s")


# A proxy of the surroundings has no part in it.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _free_port() -> int:
    with socket.socket() as found:
        found.bind((HOST, 0))
        port: int = found.getsockname()[1]
        return port
