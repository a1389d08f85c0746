"""An OpenAI-compatible server over HTTP: its address, its key, and requests that do not give up.

A request is tried again, after growing pauses, where the server is busy (429), at fault (5xx),
slow, or breaks the connection. The key comes from the environment, goes into one header, and is
struck out of everything that a server says of it. Redirections are not followed: they would take
the key to another host.
"""

import json
import random
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from benchsuite.errors import BenchsuiteError, UsageError

ATTEMPTS = 6
PAUSE = 0.5
"""Seconds before the second attempt; each further pause is twice as long."""
LONGEST_PAUSE = 60.0
TIMEOUT = 300.0
"""Seconds without a byte after which a request counts as lost."""

_AGAIN = frozenset([408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529])
_HERE = re.compile(r"localhost|127\.[\d.]+|::1|0\.0\.0\.0")
_KEY = re.compile(r"[\x21-\x7e]+")


class Refused(BenchsuiteError):
    """A server answers with an error: ``status`` is HTTP's."""

    def __init__(self, status: int, what: str, where: str, fix: str) -> None:
        super().__init__(what, where, fix)
        self.status = status


@dataclass(frozen=True)
class Endpoint:
    """Where a server is: ``url`` up to and with ``/v1``, and its ``model``, empty for the only."""

    url: str
    model: str = ""

    @property
    def name(self) -> str:
        """The word that names it on the command line."""
        return f"{self.url}#{self.model}" if self.model else self.url


def is_endpoint(word: str) -> bool:
    """Say whether a word of the command line names a server."""
    return word.lower().startswith(("http://", "https://"))


def parse_endpoint(word: str) -> Endpoint:
    """Return the server that ``http://host:port/v1#MODEL`` names.

    Raises ``UsageError`` for what is no address, and for one with a key or a password in it, which
    would stand in every report.
    """
    url, _, model = word.partition("#")
    fix = "Write http://HOST:PORT/v1, or http://HOST:PORT/v1#MODEL"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"the address of a server cannot be read: {error}", fix=fix) from None
    if parts.username or parts.password or parts.query:
        raise UsageError(
            f"the address of the server at {host} has a user, a password or a query in it",
            fix="Give a key in the environment: OPENAI_API_KEY, or a variable of --key-env NAME",
        )
    if not host:
        raise UsageError(f"{url!r} names no host", fix=fix)
    return Endpoint(url.rstrip("/"), model)


def checked_key(name: str, value: str | None) -> str | None:
    """Return the key that the variable ``name`` holds, None for none; it is never shown.

    Raises ``UsageError`` for a key that no HTTP header takes.
    """
    if not value:
        return None
    if not _KEY.fullmatch(value):
        raise UsageError(
            f"the key in {name} has a blank, a line break or a letter that no HTTP header takes",
            fix=f"Set {name} to the key alone",
        )
    return value


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass
class Client:
    """Requests to one server; safe to use from several threads."""

    url: str
    key: str | None = field(default=None, repr=False)
    key_name: str = "OPENAI_API_KEY"
    timeout: float = TIMEOUT

    def __post_init__(self) -> None:
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if _HERE.fullmatch(urlsplit(self.url).hostname or ""):
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def get(self, path: str, *, attempts: int = ATTEMPTS) -> Any:
        """Return what the server answers to a GET, as JSON."""
        return self._until(path, None, attempts)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Return what the server answers to a POST of JSON.

        Raises ``Refused`` for an answer that is an error, and ``BenchsuiteError`` where none comes,
        both after ``ATTEMPTS`` where another attempt may help.
        """
        return self._until(path, json.dumps(body).encode(), ATTEMPTS)

    def _until(self, path: str, body: bytes | None, attempts: int) -> Any:
        for attempt in range(attempts):
            wait = 0.0
            try:
                return self._once(path, body)
            except urllib.error.HTTPError as error:
                failed: BenchsuiteError = self._refused(error, path, attempt + 1)
                if error.code not in _AGAIN:
                    raise failed from None
                wait = _asked_pause(error)
            except (OSError, HTTPException, ValueError) as error:  # ValueError: no JSON
                failed = self._lost(error, path, attempt + 1)
            if attempt + 1 < attempts:
                pause = PAUSE * 2**attempt * random.uniform(0.8, 1.2)
                time.sleep(min(max(pause, wait), LONGEST_PAUSE))
        raise failed from None

    def _once(self, path: str, body: bytes | None) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", body, headers)
        if self.key is not None:
            # Not among the headers that would go along to another host.
            request.add_unredirected_header("Authorization", f"Bearer {self.key}")
        with self._opener.open(request, timeout=self.timeout) as answer:
            return json.loads(answer.read())

    def _refused(self, error: urllib.error.HTTPError, path: str, attempt: int) -> Refused:
        said = self._said(error)
        status = error.code
        if status in (401, 403):
            wrong = f"does not take the key in {self.key_name}"
            if self.key is None:
                wrong = f"asks for a key, and there is none in {self.key_name}"
            return Refused(
                status,
                f"the server {wrong}: it answers {status}{said}",
                f"{self.url}{path}",
                f"Set {self.key_name}, or name the variable that holds its key: --key-env NAME",
            )
        if 300 <= status < 400:
            fix = "Give the address that it sends to: redirections are not followed, for the key"
        elif status == 404:
            fix = "Give the address up to /v1 and, after a #, a model that it lists"
        elif status in _AGAIN:
            fix = "See the server's own log, or let it have fewer --requests at once; what is "
            fix += "answered is kept, so that the same command goes on from there"
        else:
            fix = "See what the server's own documentation says of it"
        times = f" {attempt} times" if attempt > 1 else ""
        return Refused(
            status, f"the server answers {status}{times}{said}", f"{self.url}{path}", fix
        )

    def _said(self, error: urllib.error.HTTPError) -> str:
        """Return what an error's body says, shortly, without the key."""
        try:
            text = error.read(10_000).decode(errors="replace")
        except (OSError, HTTPException):
            return ""
        try:
            told = json.loads(text)
            inner = told.get("error", told)
            text = str(inner.get("message", inner) if isinstance(inner, dict) else inner)
        except (ValueError, AttributeError):
            text = re.sub(r"<[^>]*>", " ", text)
        text = self.struck(" ".join(text.split()))[:300].rstrip(".")
        return f": {text}" if text else ""

    def struck(self, text: str) -> str:
        """Return a text without the key."""
        return text.replace(self.key, "[the key]") if self.key else text

    def _lost(self, error: Exception, path: str, attempt: int) -> BenchsuiteError:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, TimeoutError):
            why = f"nothing came for {self.timeout:g} s"
        elif isinstance(error, ValueError):
            why = "what it answers is no JSON"
        else:
            why = self.struck(" ".join(str(reason).split())) or type(reason).__name__
        times = f" in {attempt} attempts" if attempt > 1 else ""
        return BenchsuiteError(
            f"the server gives no answer{times}: {why}",
            f"{self.url}{path}",
            "Look whether it runs and listens there, and how busy it is; what is answered is kept, "
            "so that the same command goes on from there",
        )


def _asked_pause(error: urllib.error.HTTPError) -> float:
    """Return the seconds that a busy server asks for, 0 where it does not say."""
    asked = str(error.headers.get("Retry-After", "")) if error.headers else ""
    return float(asked) if asked.isdigit() else 0.0
