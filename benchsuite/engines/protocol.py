"""What an engine's process says and hears: one JSON object per line each way.

They travel on a socket of their own: standard output belongs to whatever libraries print. A request
is ``{"to": number, "do": "load" | "generate" | ..., "with": {arguments}}`` and names a public
method of the engine. The answer has the same ``to`` and either ``answer`` or ``error``, after which
the process goes on listening. The end of the requests ends it. An engine has

- ``load(**settings)``: make the model ready; returns an object that says what there is to say
- ``generate(prompts, max_tokens)``: ``{"tokens": ..., "logprobs": ...}``, [prompts, max_tokens],
  greedy unless ``load`` was given a ``temperature``, and never stopping at an end token, so that
  every completion has the same length; log-probs are those at temperature 1
- ``kernels(prompts, max_tokens)``: the same under a profiler,
  ``{"profiling_succeeded": bool, "all_kernels": [{"name", "count", "time_us"}]}``
- ``prepare(folder, **what)``, where it can make the files that it loads:
  ``{"weights_sha256": str | None}``
- ``score(prompts)``, where it can read without generating: ``{"logprobs": ..., "best": ...}``,
  [prompts, tokens - 1], of every token after a prompt's first and of the most probable one there
- ``judge(prompts, served)``, where it can be a reference: ``{"ranks": ..., "margins": ...}``, rows
  as long as those ``served``, see `benchsuite.engines.divergence`
- ``latency(prompt, max_tokens, repeats, warmup)``, where it serves models that others made:
  ``{"seconds": [repeats], "peak_memory_bytes": int}``

What it answers is checked by ``benchsuite.engines.validation``: numbers are finite, token ids are
integers, nothing is missing.

Runs in the engine's own interpreter and so imports nothing but the standard library.
"""

import json
import socket
import traceback
from typing import Any


def serve(engine: Any, channel: socket.socket) -> None:
    """Answer the requests that come over ``channel`` until their end."""
    with channel.makefile("r", encoding="utf-8") as requests:
        for line in requests:
            channel.sendall(_answer(engine, json.loads(line)).encode() + b"\n")


def _answer(engine: Any, request: dict[str, Any]) -> str:
    to = request["to"]
    try:
        return json.dumps({"to": to, "answer": getattr(engine, request["do"])(**request["with"])})
    except Exception as error:  # whatever an engine's libraries raise is an answer, not an end
        traceback.print_exc()
        return json.dumps({"to": to, "error": f"{type(error).__name__}: {error}"})


class Broken:
    """Stands in for an engine that cannot be imported: every request meets the reason."""

    def __init__(self, reason: BaseException) -> None:
        self._reason = reason

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"the engine cannot be imported: {self._reason!r}")
