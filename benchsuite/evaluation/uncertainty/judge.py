"""A language model as judge: does the proposed answer mean one of the accepted ones?

After the LLM-based correctness of Farquhar et al. (2024). The judge does not write: the
log-probabilities of `` yes`` and `` no`` after the prompt are compared.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import nn

from benchsuite.errors import UsageError
from benchsuite.evaluation.chat import encoded
from benchsuite.evaluation.fitting import context_of, fits
from benchsuite.evaluation.generation import log_likelihoods
from benchsuite.evaluation.uncertainty.answers import Asked
from benchsuite.printable import count


def prompt(one: Asked) -> str:
    """Return what the judge is asked about a greedy answer."""
    accepted = "; ".join(one.question.aliases)
    return (
        f"We are assessing the quality of answers to the following question: "
        f"{one.question.question}\n"
        f"The following are expected answers to this question: {accepted}.\n"
        f"The proposed answer is: {one.greedy.text.strip()}\n"
        "Within the context of the question, does the proposed answer mean the same as any of "
        "the expected answers? Respond only with yes or no.\nResponse:"
    )


def judge(
    model: nn.Module, tokenizer: Any, *, batch_size: int | None = None
) -> Callable[[Sequence[Asked]], np.ndarray]:
    """Return the judge: it takes asked questions and says bool [n] which answers are right.

    It raises ``UsageError`` for a question that exceeds its context with the accepted answers.
    """

    def decide(asked: Sequence[Asked]) -> np.ndarray:
        prefixes = encoded(tokenizer, [prompt(one) for one in asked])
        words = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in (" yes", " no")]
        fit = fits(model, prefixes, max(map(len, words)))
        for one, ids, fitting in zip(asked, prefixes, fit, strict=True):
            if not fitting:
                raise _beyond(one, len(ids), context_of(model))
        yes, no = (
            log_likelihoods(model, prefixes, [ids] * len(prefixes), batch_size=batch_size)
            for ids in words
        )
        return np.array([a.sum() > b.sum() for a, b in zip(yes, no, strict=True)], bool)

    return decide


def _beyond(one: Asked, length: int, context: int | None) -> UsageError:
    return UsageError(
        f"the judge would read {length} tokens about question {one.question.id}, which has "
        f"{count(len(one.question.aliases), 'accepted answer')}, and its context is {context}",
        fix="Give judge_model a model of a longer context, that question fewer accepted answers, "
        "or correctness=f1",
    )
