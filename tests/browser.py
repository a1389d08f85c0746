"""Chromium driven over its own debugging pipe: real keys, media and widths, no package needed.

Messages are JSON objects, each ended by a zero byte, from file 3 to the browser and from it on
file 4 (``--remote-debugging-pipe``; https://chromedevtools.github.io/devtools-protocol/).
"""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, PROGRAMS)), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

# What a key says of itself: its code, Windows' number, the text it writes.
_KEYS = {
    "Tab": ("Tab", 9, ""),
    "Enter": ("Enter", 13, "\r"),
    " ": ("Space", 32, " "),
    "Escape": ("Escape", 27, ""),
}
_PATIENCE = 60.0  # seconds for one answer: far more than a busy machine takes


class Browser:
    """One Chromium without a window; ``page()`` opens a tab of it."""

    def __init__(self, profile: Path) -> None:
        options = ["--headless=new", "--no-sandbox", "--hide-scrollbars", "--disable-gpu"]
        options += ["--remote-debugging-pipe", "--no-first-run", "--disable-extensions"]
        options += [f"--user-data-dir={profile}", "about:blank"]
        theirs_in, self._out = map(_high, os.pipe())
        self._in, theirs_out = map(_high, os.pipe())
        null = [(os.POSIX_SPAWN_OPEN, n, os.devnull, os.O_RDWR, 0) for n in (0, 1, 2)]
        pipes = [(os.POSIX_SPAWN_DUP2, theirs_in, 3), (os.POSIX_SPAWN_DUP2, theirs_out, 4)]
        command = [str(CHROMIUM), *options]
        self._pid = os.posix_spawn(command[0], command, os.environ, file_actions=[*null, *pipes])
        os.close(theirs_in)
        os.close(theirs_out)
        self._last, self._unread = 0, b""
        self.told: list[dict[str, Any]] = []

    def ask(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; what the browser tells meanwhile is kept."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        text = json.dumps(message | ({"sessionId": session} if session else {}))
        os.write(self._out, text.encode() + b"\0")
        while (answer := self._next()).get("id") != self._last:
            self.told.append(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def wait(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the first event that is wanted."""
        while not any(map(wanted, self.told)):
            self.told.append(self._next())
        return next(filter(wanted, self.told))

    def page(self, width: int = 1280, height: int = 900) -> "Page":
        """Open a tab of this size in CSS pixels."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        page = Page(self, target, attached["sessionId"])
        for domain in ("Page", "Runtime", "Log"):
            page.ask(f"{domain}.enable")
        page.resize(width, height)
        return page

    def close(self) -> None:
        """End the browser."""
        with contextlib.suppress(OSError, AssertionError, EOFError):
            self.ask("Browser.close")
        os.close(self._in)
        os.close(self._out)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGTERM)
        os.waitpid(self._pid, 0)

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + _PATIENCE
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._in], [], [], max(0.0, end - time.monotonic()))
            assert ready, "Chromium does not answer"
            read = os.read(self._in, 2**20)
            if not read:
                raise EOFError("Chromium has ended")
            self._unread += read
        text, _, self._unread = self._unread.partition(b"\0")
        return json.loads(text)


class Page:
    """One tab: ``open`` a file, ``run`` JavaScript, ``press`` keys."""

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self._browser, self._target, self._session = browser, target, session

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command to this tab."""
        return self._browser.ask(method, self._session, **parameters)

    def open(self, path: Path) -> "Page":
        """Load a file and wait until it and what it loads are there."""
        self._forget("Page.loadEventFired")
        self.ask("Page.navigate", url=path.absolute().as_uri())
        self._browser.wait(lambda told: self._is(told, "Page.loadEventFired"))
        return self

    def resize(self, width: int, height: int = 900) -> None:
        """Set the size of what is shown, in CSS pixels."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def show_as(self, media: str = "screen", *, dark: bool = False) -> None:
        """Show the page on the ``screen`` or as ``print``, in the light or the dark scheme."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def scripts(self, allowed: bool) -> None:
        """Let the next page that is opened run scripts, or not."""
        self.ask("Emulation.setScriptExecutionDisabled", value=not allowed)

    def run(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; a promise is waited for."""
        found = self.ask(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release one key: ``Tab``, ``Enter``, `` ``, ``Escape``."""
        code, number, text = _KEYS[key]
        facts = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        self.ask(
            "Input.dispatchKeyEvent", type="keyDown", **facts, **({"text": text} if text else {})
        )
        self.ask("Input.dispatchKeyEvent", type="keyUp", **facts)

    def write(self, text: str) -> None:
        """Write text into what has the focus."""
        self.ask("Input.insertText", text=text)

    def picture(self, path: Path) -> Path:
        """Write the whole page as PNG."""
        taken = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(taken["data"]))
        return path

    def paper(self) -> bytes:
        """Return the page as PDF."""
        made = self.ask("Page.printToPDF", printBackground=True, preferCSSPageSize=True)
        return base64.b64decode(made["data"])

    def complaints(self) -> list[str]:
        """Return the errors and console messages of all that this tab has shown."""
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [
            json.dumps(told["params"])
            for told in self._browser.told
            if any(self._is(told, kind) for kind in kinds)
        ]

    def close(self) -> None:
        """Close the tab and forget what it told."""
        self._browser.ask("Target.closeTarget", targetId=self._target)
        self._browser.told = [t for t in self._browser.told if t.get("sessionId") != self._session]

    def _is(self, told: dict[str, Any], method: str) -> bool:
        return told.get("method") == method and told.get("sessionId") == self._session

    def _forget(self, method: str) -> None:
        self._browser.told = [t for t in self._browser.told if not self._is(t, method)]


def focused(page: Page, wanted: str, *, most: int = 80) -> None:
    """Press Tab until a JavaScript expression holds of the element ``e`` that has the focus."""
    for _ in range(most):
        page.press("Tab")
        if page.run(f"(e => {wanted})(document.activeElement)"):
            return
    raise AssertionError(f"no way to {wanted} by Tab")


def _high(number: int) -> int:
    """Move a file out of the way of the numbers that the child uses."""
    moved = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(number)
    return moved
