"""A model behind an OpenAI-compatible server: vLLM, SGLang, llama-server.

It is asked through ``/v1/completions`` with token ids: those that the other side reads, its chat
template applied here. A server's own template, or its special tokens, could be other ones, and the
two sides would answer different questions. So a tokenizer is needed here, and a server that counts
other tokens for the same text is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchsuite.comparing.endpoint import (
    Client,
    Endpoint,
    Refused,
)
from benchsuite.comparing.journal import Journal, digest_of
from benchsuite.comparing.prompt_log_probs import WAYS, Said, Texts, Unreadable, read_said
from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.evaluation.chat import encoded
from benchsuite.evaluation.elsewhere import Elsewhere
from benchsuite.evaluation.generation import Progress

KEY_NAME = "OPENAI_API_KEY"
REQUESTS = 8

# Cut alike by two tokenizers that are the same; hardly by others.
_PROBE = (
    "On 17 March 1987, Dr. Anne-Marie O'Neill measured 3.14159 kilograms of lithium hydroxide; "
    "the spectrometer's readings (0x7f, 42%, and 1,024 counts) weren't reproducible.\n\n"
    "def average(values):\n    return sum(values) / max(len(values), 1)\n"
)
# A server that knows no such thing says so by one of these.
_NOT_KNOWN = frozenset([400, 404, 405, 422, 500, 501])


@dataclass(frozen=True)
class Serving:
    """How servers are asked: ``key_name`` is the variable that holds the key, if there is one.

    ``tokenizer`` names what has that of their models: of the first side that is no server, unless
    told. ``requests`` is how many are asked at once.
    """

    tokenizer: str = ""
    key_name: str = KEY_NAME
    requests: int = REQUESTS
    journal: Journal = field(default_factory=Journal)


USUAL = Serving()


class ServedModel(Elsewhere):
    """A server's model, asked by token ids; ``way`` says how it gives a prompt's log-probabilities.

    ``way`` is empty where it gives none. ``role`` keeps the answers of one side of a comparison
    apart from the other's.
    """

    def __init__(
        self,
        client: Client,
        endpoint: Endpoint,
        serving: Serving,
        tokenizer: Any,
        context: int | None,
        role: str,
    ) -> None:
        self.endpoint, self.tokenizer, self.way = endpoint, tokenizer, ""
        self.config = SimpleNamespace(max_position_embeddings=context)
        self._client, self._serving, self._role = client, serving, role
        self._texts = Texts(tokenizer)

    def once_more(self) -> "ServedModel":
        """Return the same model to ask the same questions again."""
        again = ServedModel(
            self._client,
            self.endpoint,
            self._serving,
            self.tokenizer,
            self.config.max_position_embeddings,
            f"{self._role}, again",
        )
        again.way = self.way
        return again

    def texts(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        stop: Sequence[str],
        ends: Sequence[int],
        progress: Progress | None,
    ) -> list[tuple[str, str]]:
        """Return the greedy text after each prompt, and what ended it."""
        how: dict[str, Any] = {"max_tokens": max_new_tokens, "stop_token_ids": list(ends)}
        if stop:
            how["stop"] = list(stop)

        def answer(told: Any, ids: Sequence[int]) -> tuple[str, str]:
            text, reason = _choice(told)["text"], _choice(told).get("finish_reason")
            cuts = [cut for word in stop if (cut := text.find(word)) >= 0]
            return (text[: min(cuts)], "stop") if cuts else (text, _ENDS.get(reason, "end"))

        return self._all(prompts, how, answer, "generation", progress)

    def log_likelihoods(
        self,
        prefixes: Sequence[Sequence[int]],
        continuations: Sequence[Sequence[int]],
        *,
        progress: Progress | None,
    ) -> list[np.ndarray]:
        """Return the log-probabilities of each continuation's tokens, float64 [length], in nats."""
        rows = [[*a, *b] for a, b in zip(prefixes, continuations, strict=True)]
        found = self.said(rows, progress=progress)
        pairs = zip(found, continuations, strict=True)
        return [said.log_probs[len(said.log_probs) - len(rest) :] for said, rest in pairs]

    def said(
        self, rows: Sequence[Sequence[int]], *, progress: Progress | None = None
    ) -> list[Said]:
        """Return what the model says of each row's own tokens.

        Raises ``UsageError`` of a server that gives no log-probabilities.
        """
        if not self.way:
            raise UsageError(
                f"{self.endpoint.name} gives no log-probabilities of a prompt",
                fix="Ask it questions whose answers are generated",
            )

        def read(told: Any, ids: Sequence[int]) -> Said:
            return read_said(self.way, _choice(told), ids, self._texts)

        return self._all(rows, {"max_tokens": 1, **WAYS[self.way]}, read, "reading", progress)

    def _all(
        self,
        prompts: Sequence[Sequence[int]],
        how: Mapping[str, Any],
        read: Callable[[Any, Sequence[int]], Any],
        stage: str,
        progress: Progress | None,
    ) -> list[Any]:
        """Return what ``read`` makes of the answer to each prompt; a few are asked at once."""
        found: dict[int, Any] = {}
        pool = ThreadPoolExecutor(self._serving.requests, thread_name_prefix="asking")
        try:
            asked = {
                pool.submit(self._one, list(ids), how, read): i for i, ids in enumerate(prompts)
            }
            for done in as_completed(asked):
                found[asked[done]] = done.result()
                if progress is not None:
                    progress(stage, len(found), len(prompts))
        except Exception:
            # What is being answered is let come in and kept.
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return [found[i] for i in range(len(prompts))]

    def _one(
        self, ids: list[int], how: Mapping[str, Any], read: Callable[[Any, Sequence[int]], Any]
    ) -> Any:
        body = _request(self.endpoint.model, ids, how)
        digest = digest_of({**body, "role": self._role})
        journal = self._serving.journal
        kept = journal.find(self.endpoint, digest)
        told = self._client.post("/completions", body) if kept is None else kept
        try:
            result = read(told, ids)
        except (Unreadable, KeyError, TypeError, IndexError, AttributeError) as error:
            raise BenchsuiteError(
                f"the server's answer is not what /v1/completions gives: {error}",
                f"{self.endpoint.name}",
                "See whether it is OpenAI-compatible and serves a language model",
            ) from error
        if kept is None:
            journal.keep(self.endpoint, digest, {"choices": [_kept(_choice(told))]})
        return result

    def probe(self) -> None:
        """Check that the server reads our tokens, and find how it gives their log-probabilities.

        Raises ``UsageError`` where it counts other tokens than the tokenizer here.
        """
        ids = encoded(self.tokenizer, [_PROBE])[0]
        self._check_takes_ids(ids)
        self._check_tokens(len(ids))
        for way, more in WAYS.items():
            body = _request(self.endpoint.model, ids, {"max_tokens": 1, **more})
            try:
                told = self._client.post("/completions", body)
                read_said(way, _choice(told), ids, self._texts)
            except Refused as error:
                if error.status not in _NOT_KNOWN:
                    raise
            except (Unreadable, KeyError, TypeError, IndexError):
                continue
            else:
                self.way = way
                return

    def _check_takes_ids(self, ids: list[int]) -> None:
        body = _request(self.endpoint.model, ids, {"max_tokens": 1})
        try:
            there = _prompt_tokens(self._client.post("/completions", body))
        except Refused as error:
            if error.status not in (400, 422):
                raise
            raise UsageError(
                f"{self.endpoint.name} takes no prompt of token ids: {error.what}",
                fix="Serve the model by one that does: vLLM, SGLang or llama-server",
            ) from error
        if there is not None and there != len(ids):
            raise UsageError(
                f"{self.endpoint.name} makes {there} tokens of {len(ids)} that are sent: it puts "
                "its own among them, and both sides would read different texts",
                fix="Let it add no special tokens to a prompt of token ids",
            )

    def _check_tokens(self, here: int) -> None:
        body = _request(self.endpoint.model, _PROBE, {"max_tokens": 1})
        there = _prompt_tokens(self._client.post("/completions", body))
        if there is not None and abs(there - here) > 2:  # special tokens before and behind
            raise UsageError(
                f"{self.endpoint.name} makes {there} tokens of a text of which the tokenizer here "
                f"makes {here}: they are of different vocabularies",
                fix="Name the tokenizer of the model that it serves: --tokenizer, a folder, a name "
                "of the catalogue or an id of the hub",
            )


_ENDS = {"stop": "end", "length": "limit"}
_KEPT = ("text", "finish_reason", "prompt_logprobs", "logprobs")


def _request(model: str, prompt: str | list[int], how: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a greedy request.

    ``repetition_penalty`` is none of OpenAI's: vLLM takes it from the model's own files else.
    """
    greedy = {"temperature": 0, "top_p": 1, "repetition_penalty": 1.0, "seed": 0}
    return {"model": model, "prompt": prompt, **greedy, **how}


def _prompt_tokens(told: Any) -> int | None:
    usage = told.get("usage") if isinstance(told, dict) else None
    found = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return found if isinstance(found, int) else None


def _choice(told: Any) -> Any:
    return told["choices"][0]


def _kept(choice: Mapping[str, Any]) -> dict[str, Any]:
    return {name: choice[name] for name in _KEPT if choice.get(name) is not None}
