"""How a set's questions are asked: as the G-NLL study does, or as the published code does.

The published protocol is that of the semantic-entropy experiments (Farquhar et al. 2024, code in
jlko/semantic_uncertainty): TriviaQA in SQuAD's form with its passages, a question mark after NQ's
questions, SVAMP's body as context, all exact answers of BioASQ, an unanswerable question always
wrong, 20 demonstrations before p(True).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from benchsuite.embedded.schema import Item, Question
from benchsuite.evaluation.uncertainty.prompts import as_question

DEMONSTRATIONS = 20
"""What the published p(True) shows, where the study's parameter is not set."""

# A problem of SVAMP is a body of whole sentences and a question that is one.
_LAST_SENTENCE = re.compile(r"(?s)(.*[.?!])\s+(.+)")


def questions(task: str, items: Sequence[Item], protocol: str) -> tuple[list[Question], str]:
    """Return a set's questions under a protocol, and what of the protocol cannot be had, or "".

    The G-NLL study asks TriviaQA without passages, whatever its files hold.
    """
    found = [as_question(item) for item in items]
    if protocol != "published":
        bare = task == "trivia_qa"
        return [replace(one, context="") if bare else one for one in found], ""
    if task == "trivia_qa":
        lacking = sum(not one.context for one in found)
        wanted = f"{lacking} of {len(found)} questions have no passage (TriviaQA in SQuAD's form)"
        return found, wanted if lacking else ""
    if task == "nq":
        return [replace(one, question=f"{one.question}?") for one in found], ""
    if task.startswith("svamp"):
        return [_body_as_context(one) for one in found], ""
    return (_all_answers(found) if task == "bioasq" else found), ""


def _body_as_context(one: Question) -> Question:
    parts = _LAST_SENTENCE.fullmatch(one.question)
    return replace(one, context=parts[1], question=parts[2]) if parts else one


def _all_answers(found: Iterable[Question]) -> list[Question]:
    """Return each question once, with the answers that its rows give."""
    whole: dict[str, Question] = {}
    for one in found:
        known = whole.setdefault(one.question, one)
        aliases = tuple(dict.fromkeys((*known.aliases, *one.aliases)))
        whole[one.question] = replace(known, aliases=aliases)
    return list(whole.values())
