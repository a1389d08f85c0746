"""What a model was asked, as a person reads it: questions, right answers, chunks of text."""

from collections.abc import Sequence
from typing import Any

import torch

from benchsuite.embedded.schema import Choice, Item, Question
from benchsuite.evaluation import forms
from benchsuite.evaluation.chat import Prompt
from benchsuite.evaluation.perplexity import chunk_names, chunked

BEGINNING = 48
"""Tokens of a chunk that are shown."""


def questions(
    items: Sequence[Item],
    *,
    examples: Sequence[Item] = (),
    form: str = "letters",
    chat: bool = False,
) -> dict[str, Any]:
    """Return the worked examples as one text, and by id each question as it is put after them.

    Of a question: ``prompt``, ``gold`` (the right answer) and, of a four-choice one, ``options``.
    """
    alone = [_text(forms.asked(item, form=form, chat=chat)) for item in items]
    asked: dict[str, dict[str, Any]] = {}
    for item, prompt in zip(items, alone, strict=True):
        asked[item.id] = {"prompt": prompt, "gold": _gold(item)}
        if isinstance(item, Choice):
            asked[item.id]["options"] = list(item.choices)
    shown = ""
    if examples and items:
        first = _text(forms.asked(items[0], examples=examples, form=form, chat=chat))
        shown = first.removesuffix(alone[0])
    return {"examples": shown, "questions": asked}


def beginnings(token_ids: torch.Tensor, tokenizer: Any, seq_len: int) -> dict[str, str]:
    """Return by name the text that each chunk of ``token_ids`` int64 [N] begins with."""
    chunks = chunked(token_ids, seq_len, None)
    heads = chunks[:, :BEGINNING].tolist()
    return {
        name: tokenizer.decode(head) for name, head in zip(chunk_names(chunks), heads, strict=True)
    }


def _text(prompt: Prompt) -> str:
    """Return a prompt as one text; turns of a chat follow one another, each after its role."""
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(f"[{turn['role']}]\n{turn['content']}" for turn in prompt)


def _gold(item: Item) -> str:
    if isinstance(item, Choice):
        return item.choices[item.answer]
    if isinstance(item, Question):
        return " | ".join(item.aliases) if item.answerable else "(no answer)"
    return item.answer
