"""The sides of a comparison, models that lie here and servers, opened from their words."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchsuite.catalog import Sources
from benchsuite.comparing.endpoint import (
    Client,
    Endpoint,
    Refused,
    checked_key,
    is_endpoint,
    parse_endpoint,
)
from benchsuite.comparing.served import KEY_NAME, USUAL, ServedModel, Serving
from benchsuite.comparing.subject import Subject, open_subject, open_tokenizer
from benchsuite.errors import BenchsuiteError, UsageError, unknown_name


class Server:
    """A server as a side of a comparison: what `Subject` is of a model that lies here."""

    dtype = "unknown"
    disk_bytes = None
    memory_bytes = None

    def __init__(self, name: str, model: ServedModel, owner: str) -> None:
        self.name, self.model, self.tokenizer = name, model, model.tokenizer
        self.read_by = f"a server ({owner})" if owner else "a server"
        self.notes: tuple[str, ...] = (
            "asked by token ids through /v1/completions, the chat template applied here",
        )

    def close(self) -> None:
        """There is nothing here to let go of."""


Side = Subject | Server


@dataclass(frozen=True)
class Sides:
    """How the words of one comparison are opened, models here and servers alike."""

    words: Sequence[str]
    sources: Sources = Sources()
    serving: Serving = USUAL
    device: str = "cpu"

    def open(self, place: int, device: str = "") -> Side:
        """Return the side that the word at ``place`` names (the base at 0), on ``device`` if told.

        Raises what `open_subject` and `open_server` do.
        """
        word = self.words[place]
        if is_endpoint(word):
            return self._server(place)
        return open_subject(word, self.sources, device=device or self.device)

    def servers(self, tell: Callable[[str], None]) -> dict[int, Server]:
        """Return the servers by their words' places: what is wrong with one shows before hours."""
        found = {}
        for place, word in enumerate(self.words):
            if is_endpoint(word):
                tell(f"asking {parse_endpoint(word).url} what it serves")
                found[place] = self._server(place)
        return found

    def _server(self, place: int) -> Server:
        role = f"candidate {place}" if place else "base"
        return open_server(self.words[place], self.serving, self._tokenizer(), role)

    def _tokenizer(self) -> Any:
        here = (word for word in self.words if not is_endpoint(word))
        name = self.serving.tokenizer or next(here, "")
        if not name:
            raise UsageError(
                "no side of this comparison lies here, so nothing says how text becomes tokens",
                fix="Name the tokenizer of the servers' model: --tokenizer, a folder, a name of "
                "the catalogue or an id of the hub",
            )
        return open_tokenizer(name, self.sources)


def open_server(word: str, serving: Serving, tokenizer: Any, role: str) -> Server:
    """Return the server that ``word`` names, after a few short requests that say what it can.

    Raises ``UsageError`` for a model that it does not list, and for one of another vocabulary than
    ``tokenizer``'s, and ``BenchsuiteError`` where nothing answers.
    """
    endpoint = parse_endpoint(word)
    key = checked_key(serving.key_name, os.environ.get(serving.key_name))
    if key is None and serving.key_name != KEY_NAME:
        raise UsageError(
            f"there is no key in {serving.key_name}, which --key-env names",
            fix=f"Set it: export {serving.key_name}=...",
        )
    client = Client(endpoint.url, key, serving.key_name)
    endpoint, told = _chosen(endpoint, _listed(client, endpoint))
    meta = told.get("meta") or {}
    length = told.get("max_model_len") or meta.get("n_ctx") or meta.get("n_ctx_train")
    # A request asks for one new token at least.
    context = length - 1 if isinstance(length, int) else None
    served = ServedModel(client, endpoint, serving, tokenizer, context, role)
    served.probe()
    return Server(endpoint.name, served, str(told.get("owned_by") or ""))


def _chosen(
    endpoint: Endpoint, listed: Mapping[str, dict[str, Any]]
) -> tuple[Endpoint, dict[str, Any]]:
    """Return the endpoint with its model's name, and what the server tells of that model."""
    if endpoint.model in listed:
        return endpoint, listed[endpoint.model]
    if endpoint.model and listed:
        raise unknown_name(f"model of {endpoint.url}", endpoint.model, listed)
    if endpoint.model:
        return endpoint, {}
    if len(listed) != 1:
        names = ", ".join(f"{endpoint.url}#{model}" for model in listed)
        raise UsageError(
            f"{endpoint.url} lists {len(listed)} models",
            fix=f"Name one after a #: {names}" if names else "Name its model after a #",
        )
    ((model, told),) = listed.items()
    return replace(endpoint, model=model), told


def _listed(client: Client, endpoint: Endpoint) -> dict[str, dict[str, Any]]:
    """Return the models that a server lists, by name; none where it has no list."""
    try:
        told = client.get("/models", attempts=3)
        return {str(entry["id"]): entry for entry in told["data"]}
    except Refused as error:
        if endpoint.model and error.status in (404, 405, 501):
            return {}
        raise
    except (KeyError, TypeError) as error:
        raise BenchsuiteError(
            f"what answers at {endpoint.url}/models is no list of models",
            fix="Give the address of an OpenAI-compatible server, up to and with /v1",
        ) from error
