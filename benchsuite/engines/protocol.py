"""What an engine's process says and hears: one JSON object per line each way.

A request is ``{"do": "load" | "generate" | "kernels" | "prepare" | ..., **arguments}`` and names a
public method of the engine; the answer is ``{"answer": ...}``, or ``{"error": ...}`` after which
the process goes on listening. ``quit``, or the end of its input, ends it. An engine has

- ``load(**settings)``: make the model ready; returns what there is to say about it
- ``generate(prompts, max_tokens)``: ``{"tokens": ..., "logprobs": ...}``, [prompts, max_tokens],
  greedy unless ``load`` was given a ``temperature``, and never stopping at an end token, so that
  every completion has the same length; log-probs are those at temperature 1
- ``kernels(prompts, max_tokens)``: the same under a profiler,
  ``{"profiling_succeeded": bool, "all_kernels": [{"name", "count", "time_us"}]}``
- ``prepare(folder, **what)``, where it can make the files that it loads
- ``score(prompts)``, where it can read without generating: ``{"logprobs": ..., "best": ...}``,
  [prompts, tokens - 1], of every token after a prompt's first and of the most probable one there
- ``latency(prompt, max_tokens, repeats, warmup)``, where it serves models that others made.

Runs in the engine's own interpreter and so imports nothing but the standard library.
"""

import json
import os
import sys
import traceback
from typing import Any


def serve(engine: Any) -> None:
    """Answer requests until ``quit``. What libraries print on stdout goes to stderr instead."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        do = request.pop("do")
        if do == "quit":
            break
        answers.write(json.dumps(_answer(engine, do, request)) + "\n")
        answers.flush()


def _answer(engine: Any, do: str, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"answer": getattr(engine, do)(**arguments)}
    except Exception as error:  # whatever an engine's libraries raise is an answer, not an end
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


class Broken:
    """Stands in for an engine that cannot be imported: every request meets the reason."""

    def __init__(self, reason: BaseException) -> None:
        self._reason = reason

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"the engine cannot be imported: {self._reason!r}")
