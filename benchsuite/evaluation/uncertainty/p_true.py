"""p(True) (Kadavath et al. 2022): the model is asked whether its own answer is true."""

from collections.abc import Sequence
from itertools import compress

from benchsuite.evaluation.chat import encoded
from benchsuite.evaluation.fitting import fits
from benchsuite.evaluation.generation import log_likelihoods
from benchsuite.evaluation.uncertainty.answers import Asked
from benchsuite.evaluation.uncertainty.correctness import grade
from benchsuite.evaluation.uncertainty.scores import BEYOND, Tools, Undefined

TRUE, FALSE = " A", " B"


def p_true(asked: Sequence[Asked], tools: Tools) -> list[float | Undefined]:
    """Return minus the log-probability of `` A`` (true) after the question about the own answer.

    Before it stand ``tools.demonstrations``: train questions that the same model answered, with
    what is true of its answers. Undefined where all that exceeds the model's context.
    """
    told = "".join(
        f"{prompt(one)}{TRUE if right else FALSE}\n\n"
        for one, right in zip(
            tools.demonstrations, grade(tools.demonstrations).correct, strict=True
        )
    )
    tokenizer = tools.tokenizer
    prefixes = encoded(tokenizer, [told + prompt(one) for one in asked])
    wanted = tokenizer(TRUE, add_special_tokens=False)["input_ids"]
    fit = fits(tools.network, prefixes, len(wanted))
    asked_now = list(compress(prefixes, fit))
    found = iter(
        log_likelihoods(
            tools.network, asked_now, [wanted] * len(asked_now), batch_size=tools.batch_size
        )
    )
    return [-float(next(found).sum()) if fitting else BEYOND for fitting in fit]


def prompt(one: Asked) -> str:
    """Return the question about a greedy answer, after the sampled ones as brainstormed ideas."""
    context = f"Context: {one.question.context}\n" if one.question.context else ""
    ideas = "\n".join(answer.text.strip() for answer in (*one.samples, one.greedy))
    return (
        f"{context}Question: {one.question.question}\nBrainstormed Answers: {ideas}\n"
        f"Possible answer: {one.greedy.text.strip()}\n"
        "Is the possible answer:\nA) True\nB) False\nThe possible answer is:"
    )
