"""Verbalised confidence (Tian et al. 2023, arXiv 2305.14975): the model says a probability.

Their form in two steps: the model has answered, then it is asked for the probability that its guess
is right, and writes it. Small models often write none.
"""

import re
from collections.abc import Sequence
from itertools import compress

from benchsuite.evaluation.chat import encoded
from benchsuite.evaluation.fitting import fits
from benchsuite.evaluation.generation import generate
from benchsuite.evaluation.uncertainty.answers import Asked
from benchsuite.evaluation.uncertainty.scores import BEYOND, Tools, Undefined

MAX_NEW_TOKENS = 10
# .8, 0,8, 80 %, 8/10, 8 out of 10
_NUMBER = re.compile(r"(-?)(\d*[.,]\d+|\d+)\s*(?:(%)|(?:/|out of)\s*(\d+))?")
NONE_SAID = Undefined("the model said no probability")


def verbalised_confidence(asked: Sequence[Asked], tools: Tools) -> list[float | Undefined]:
    """Return one minus the probability that the model says.

    Undefined where it says none, or the question exceeds its context.
    """
    prompts = encoded(tools.tokenizer, [prompt(one) for one in asked])
    fit = fits(tools.network, prompts, MAX_NEW_TOKENS)
    said = generate(
        tools.network,
        tools.tokenizer,
        list(compress(prompts, fit)),
        max_new_tokens=MAX_NEW_TOKENS,
        stop=("\n",),
        batch_size=tools.batch_size,
    )
    texts = iter(said.texts)
    return [_unsure(next(texts)) if fitting else BEYOND for fitting in fit]


def _unsure(said: str) -> float | Undefined:
    value = probability(said)
    return NONE_SAID if value is None else 1 - value


def prompt(one: Asked) -> str:
    """Return the question about a greedy answer, up to ``Probability:``."""
    context = f"Context: {one.question.context}\n" if one.question.context else ""
    return (
        f"{context}Question: {one.question.question}\nGuess: {one.greedy.text.strip()}\n"
        "Provide the probability that your guess is correct. Give ONLY the probability between "
        "0.0 and 1.0, no other words or explanation.\nProbability:"
    )


def probability(text: str) -> float | None:
    """Return the first number of a text as a probability, or None; above 1 it is percent.

    A comma before digits is a decimal one, and a fraction is what it says.
    """
    match = _NUMBER.search(text)
    if match is None or match[1]:
        return None
    value = float(match[2].replace(",", "."))
    if match[4]:
        return value / int(match[4]) if value <= int(match[4]) > 0 else None
    value = value / 100 if match[3] or value > 1 else value
    return value if value <= 1 else None
