"""What an embedded model can do: its perplexity on the text, its accuracy on the tasks."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchsuite.embedded import prompts
from benchsuite.embedded.schema import Choice, Item, Problem, Question

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

SEQ_LEN = 512
_NEW_TOKENS = {Question: 16, Choice: 12, Problem: 110}


@torch.no_grad()
def token_nll(model: "PreTrainedModel", ids: np.ndarray, *, batch_size: int = 16) -> np.ndarray:
    """Return the loss [n, 511] in nats of every token but the first of ``ids``' 512-token chunks.

    ``ids`` is [N]; the tokens after the last whole chunk are left out.
    """
    chunks = torch.from_numpy(chunked(ids).astype(np.int64)).to(model.device)
    losses = []
    for batch in chunks.split(batch_size):
        logits = model(input_ids=batch).logits[:, :-1].float()
        picked = logits.gather(-1, batch[:, 1:, None])[..., 0]
        losses.append((logits.logsumexp(-1) - picked).cpu().numpy())
    return np.concatenate(losses)


def chunked(ids: np.ndarray) -> np.ndarray:
    """Cut ids [N] into chunks [N // 512, 512]."""
    n = len(ids) // SEQ_LEN
    return ids[: n * SEQ_LEN].reshape(n, SEQ_LEN)


def accuracy(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerFast",
    items: Sequence[Item],
    *,
    examples: Sequence[Item] = (),
    form: str = "letters",
    batch_size: int = 64,
) -> float:
    """Return the fraction of items answered right by greedy generation.

    For choices, ``form`` is that of the prompt; with ``text`` nothing is generated: the options'
    texts are scored by their log-probability after the question alone.
    """
    if form == "text" and isinstance(items[0], Choice):
        right = [
            option == item.answer
            for item, option in zip(items, score_options(model, tokenizer, items), strict=True)
            if isinstance(item, Choice)
        ]
        return sum(right) / len(right)
    answers = generate(model, tokenizer, items, examples=examples, form=form, batch_size=batch_size)
    return sum(map(is_right, items, answers)) / len(items)


@torch.no_grad()
def generate(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerFast",
    items: Sequence[Item],
    *,
    examples: Sequence[Item] = (),
    form: str = "letters",
    batch_size: int = 64,
) -> list[str]:
    """Return the greedy answer to every item of one task, cut at its end."""
    answers: list[str] = []
    for start in range(0, len(items), batch_size):
        part = items[start : start + batch_size]
        batch = tokenizer(
            [prompts.prompt(item, examples=examples, form=form) for item in part],
            return_tensors="pt",
            padding=True,
            return_token_type_ids=False,
        ).to(model.device)
        found: Any = model.generate(  # type: ignore[operator]
            **batch,
            do_sample=False,
            max_new_tokens=_NEW_TOKENS[type(part[0])],
            pad_token_id=tokenizer.pad_token_id,
        )
        new = found[:, batch["input_ids"].shape[1] :]
        texts = tokenizer.batch_decode(new, skip_special_tokens=True)
        answers += [_cut(item, text) for item, text in zip(part, texts, strict=True)]
    return answers


@torch.no_grad()
def score_options(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerFast",
    items: Sequence[Item],
    *,
    batch_size: int = 64,
) -> list[int]:
    """Return for every choice the option whose text is the most probable after the question."""
    flat: list[tuple[list[int], int]] = []
    for item in items:
        if not isinstance(item, Choice):
            raise TypeError(f"{item.id} has no options")
        prompt = tokenizer(prompts.prompt(item, form="text")).input_ids
        for option in item.choices:
            ids = tokenizer(" " + option, add_special_tokens=False).input_ids
            flat.append((prompt + ids + [tokenizer.eos_token_id], len(ids) + 1))
    scores: list[float] = []
    for start in range(0, len(flat), batch_size):
        part = flat[start : start + batch_size]
        batch = tokenizer.pad({"input_ids": [ids for ids, _ in part]}, return_tensors="pt")
        batch = batch.to(model.device)
        logp = model(**batch).logits[:, :-1].float().log_softmax(-1)
        logp = logp.gather(-1, batch["input_ids"][:, 1:, None])[..., 0]  # [batch, length - 1]
        scores += [float(row[-n:].sum()) for row, (_, n) in zip(logp, part, strict=True)]
    return np.array(scores).reshape(-1, 4).argmax(1).tolist()


def is_right(item: Item, answer: str) -> bool:
    """Tell whether an answer is one of the accepted ones, case and outer blanks aside."""
    if isinstance(item, Problem):
        return answer == item.answer
    if isinstance(item, Choice):
        letter = re.search(r"\b[A-D]\b", answer)  # alone, or after the option's text
        return letter is not None and letter[0] == prompts.LETTERS[item.answer]
    accepted = item.aliases if item.answerable else (prompts.NO_ANSWER,)
    return answer.lower() in {alias.lower() for alias in accepted}


def _cut(item: Item, text: str) -> str:
    if isinstance(item, Problem):
        found = re.search(re.escape(prompts.ANSWER_IS) + r" *(-?\d+)", text)
        return found[1] if found else ""
    return text.strip().split("\n", 1)[0].strip()
