"""How long an engine may take over a request: far longer than the slowest that still measures."""

from collections.abc import Mapping
from typing import Any

IMPORT_SECONDS = 1800
"""An engine's libraries, read for the first time from a slow network disk."""

_BASE_SECONDS = {"load": 7200, "prepare": 7200}  # tens of gigabytes from the hub may come first
_OTHER_BASE_SECONDS = 900  # kernels are compiled, graphs captured
_TOKEN_SECONDS = 3.0  # 8 billion weights unpacked on two old cores


def allowed_seconds(do: str, arguments: Mapping[str, Any]) -> float:
    """Return the limit of a request once the engine is imported: it grows with the tokens asked.

    Tokens are those of all prompts or calibration rows and what is to follow each, times the runs.
    """
    one = [arguments["prompt"]] if "prompt" in arguments else []
    rows = arguments.get("prompts") or arguments.get("calibration") or one
    tokens = sum(len(row) + arguments.get("max_tokens", 0) for row in rows)
    runs = arguments.get("repeats", 1) + arguments.get("warmup", 0)
    return _BASE_SECONDS.get(do, _OTHER_BASE_SECONDS) + _TOKEN_SECONDS * tokens * runs
