"""What a model was asked, as a person reads it: questions, right answers, chunks of text."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchsuite.embedded.schema import Choice, Item, Question
from benchsuite.evaluation import forms
from benchsuite.evaluation.chat import Prompt
from benchsuite.evaluation.perplexity import chunk_names, chunked

BEGINNING = 48
"""Tokens of a chunk that are shown."""
PASSAGE = 64
"""Tokens in a row that are shown with what became of each."""
WORST = 5
"""Chunks of which such a passage is kept."""


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


def worst_passages(
    token_ids: torch.Tensor, token_kl: np.ndarray, tokenizer: Any, seq_len: int
) -> list[str]:
    """Return by chunk the tokens in a row whose predictions moved most, "" for most chunks.

    ``token_ids`` int64 [N] are cut into the chunks of ``token_kl`` [n_chunks, seq_len - 1] (nats).
    Of the `WORST` chunks with the highest mean it is JSON, ``[[text, nats], ...]`` of `PASSAGE`
    tokens or all that there are; nothing of chunks in which no prediction moved.
    """
    told = [""] * len(token_kl)
    chunks = chunked(token_ids, seq_len, None)
    means = token_kl.mean(1)
    for place in np.argsort(-means, kind="stable")[:WORST].tolist():
        if means[place] > 0:
            sums = np.concatenate([[0.0], token_kl[place].cumsum(dtype=np.float64)])
            n = min(PASSAGE, token_kl.shape[1])
            start = int((sums[n:] - sums[:-n]).argmax())
            # The first KL of a chunk is that of predicting its second token.
            ids = chunks[place, start + 1 : start + 1 + n].tolist()
            nats = [round(float(value), 4) for value in token_kl[place, start : start + n]]
            pairs = list(zip(_pieces(tokenizer, ids), nats, strict=True))
            told[place] = json.dumps(pairs, ensure_ascii=False)
    return told


def _pieces(tokenizer: Any, ids: list[int]) -> list[str]:
    """Return what each token adds to the text; a letter of several tokens is its last one's."""
    pieces, begun = [], ""
    for t in range(len(ids)):
        text = tokenizer.decode(ids[: t + 1], clean_up_tokenization_spaces=False)
        whole = not text.endswith("\ufffd")
        pieces.append(text[len(begun) :] if whole else "")
        begun = text if whole else begun
    return pieces
