"""Which questions fit into a model's context: one that does not is left out, not the whole cell."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchsuite.errors import UsageError
from benchsuite.evaluation.chat import Ids, Prompt, encoded

MOST_LEFT_OUT = 5.0
"""Percent of a set's questions that may be left out before a score of the rest is refused."""


@dataclass(frozen=True)
class Fitting:
    """The ``items`` that fit, their prompts' ``ids``, and why others do not, by the items' ids."""

    items: list[Any]
    ids: list[Ids]
    left_out: dict[str, str]


def fit(
    model: Any,
    tokenizer: Any,
    items: Sequence[Any],
    prompts: Sequence[Prompt],
    new_tokens: int,
    *,
    most_left_out: float = MOST_LEFT_OUT,
) -> Fitting:
    """Return the items whose prompts leave room for ``new_tokens``; see ``fitting``."""
    ids = encoded(tokenizer, prompts)
    names = [item.id for item in items]
    kept, out = fitting(model, [*map(len, ids)], new_tokens, names, most_left_out=most_left_out)
    return Fitting([items[i] for i in kept], [ids[i] for i in kept], out)


def context_of(model: Any) -> int | None:
    """Return how many positions a model knows, None where its configuration does not say."""
    config: Any = getattr(model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return getattr(text, "max_position_embeddings", None)


def fits(model: Any, prompts: Sequence[Ids], new_tokens: int) -> list[bool]:
    """Return of each prompt whether it leaves room for ``new_tokens`` in the model's context."""
    context = context_of(model)
    return [context is None or len(ids) + new_tokens <= context for ids in prompts]


def refuse_beyond(context: int | None, length: int, option: str, setting: str) -> None:
    """Raise ``UsageError`` where sequences of ``length`` exceed the positions that a model knows.

    Beyond them a model predicts what it never learnt to. ``option`` is what gave the length, and
    ``setting`` how to write a shorter one.
    """
    if context is not None and length > context:
        raise UsageError(
            f"{option} is {length}, and the model knows {context} positions",
            fix=f"Give {setting}{context} or less",
        )


def fitting(
    model: Any,
    lengths: Sequence[int],
    new_tokens: int,
    ids: Sequence[str],
    *,
    most_left_out: float = MOST_LEFT_OUT,
) -> tuple[list[int], dict[str, str]]:
    """Return the places of the questions that fit, and why each other one is left out, by its id.

    ``lengths`` are the prompts' tokens, ``new_tokens`` those of the longest answer. Raises
    ``UsageError`` where more than ``most_left_out`` percent do not fit.
    """
    context = context_of(model)
    if context is None:
        return list(range(len(lengths))), {}
    kept = [i for i, length in enumerate(lengths) if length + new_tokens <= context]
    out = {
        ids[i]: f"{length} tokens of prompt and {new_tokens} of answer exceed the model's context "
        f"of {context}"
        for i, length in enumerate(lengths)
        if length + new_tokens > context
    }
    n_out = len(lengths) - len(kept)
    if n_out and (not kept or 100 * n_out > most_left_out * len(lengths)):
        first, why = next(iter(out.items()))
        raise UsageError(
            f"{n_out} of {len(lengths)} questions do not fit"
            + (f", more than {most_left_out:g} %" if kept else "")
            + f": {first} has {why}",
            fix="Give fewer worked examples (shots), shorter answers"
            + (", or a larger most_left_out" if kept else ", or shorter questions"),
        )
    return kept, out
