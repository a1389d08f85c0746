"""The same questions asked of both models: right answers and scores, question by question."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchsuite import catalog
from benchsuite.catalog import Sources
from benchsuite.comparing.measure import running
from benchsuite.comparing.pairs import PairedItems
from benchsuite.comparing.rounded import rounded_activations
from benchsuite.comparing.server import Server, Side
from benchsuite.corpora import load_task, worked_examples
from benchsuite.embedded.schema import Choice, Item, Problem, Question
from benchsuite.errors import UsageError
from benchsuite.evaluation import arc, chat, forms, maths, squad
from benchsuite.evaluation.forms import SCORED
from benchsuite.evaluation.generation import Progress

# lm-eval's forms of sets that it asks in another one than the options' likelihood.
_FORMS = {"mmlu": "options", "hellaswag": "continuation"}
_BATCH, _OTHER_BATCH = 32, 24


@dataclass(frozen=True)
class QuestionSet:
    """One catalogued task as it is asked: its first questions, after worked ``examples``."""

    name: str
    items: tuple[Item, ...] = field(repr=False)
    examples: tuple[Item, ...] = field(repr=False)
    form: str
    digest: str


@dataclass(frozen=True)
class Answers:
    """One model's answers to a set: by the questions' ids, the answer's text, right or not, F1.

    ``correct`` bool [n]; ``f1`` float64 [n] from 0 to 1, None where the set has no such score.
    ``left_out`` says of each question that was not asked why.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    correct: np.ndarray
    f1: np.ndarray | None
    left_out: dict[str, str]


@dataclass(frozen=True)
class Flip:
    """A question that one model answers rightly and the other wrongly, with both answers."""

    task: str
    id: str
    question: str
    expected: str
    base: str
    candidate: str
    lost: bool


def question_set(
    name: str, n_questions: int, shots: int = 0, sources: Sources = Sources()
) -> QuestionSet:
    """Return the first ``n_questions`` of a catalogued task, 0 for all, after ``shots`` examples.

    Of a set without a split for examples they are its last questions, which are not asked then.
    Raises ``UsageError`` where these leave nothing to ask.
    """
    entry = catalog.task(name)
    found = load_task(name, entry.split, sources)
    shown, examples_from = worked_examples(name, found, shots, sources)
    items: Sequence[Any] = found.questions
    if entry.schema == "choice":
        items, shown = arc.with_four_options(items), tuple(arc.with_four_options(shown))
    examples = tuple(shown[:shots])
    if shots and examples_from == found.split:
        items, examples = items[:-shots], tuple(items[-shots:])
    form = _FORMS.get(name, "likelihood") if not entry.embedded else "listed"
    items = items[: n_questions or None]
    if not items:
        raise UsageError(f"{name} has no question left to ask", fix="Give fewer worked examples")
    return QuestionSet(name, tuple(items), examples, form, found.digest)


def scored(asked: QuestionSet) -> bool:
    """Say whether the options' log-likelihoods answer a set's questions: nothing is generated."""
    return isinstance(asked.items[0], Choice) and asked.form in SCORED


def not_asked(side: Side, asked: QuestionSet) -> str:
    """Return why a set cannot be asked of a side; empty where it can."""
    if isinstance(side, Server) and not side.model.way and scored(asked):
        return (
            f"{asked.name}: it is answered by the options' log-likelihoods, and {side.name} gives "
            "no log-probabilities of a prompt"
        )
    return ""


def asked_unlike(base: Side, candidate: Side, asked: QuestionSet) -> str:
    """Return how two sides that read one vocabulary are put other questions; empty where not.

    A folder that lost its chat template is asked in plain text, and its answers then say nothing of
    its weights.
    """
    chats = [_in_chat(side.tokenizer, asked) for side in (base, candidate)]
    if chats[0] != chats[1]:
        names = (base.name, candidate.name)
        with_one, without = names if chats[0] else names[::-1]
        return (
            f"{asked.name}: {with_one} was asked in its chat template, and {without}, whose "
            "tokenizer has none, in plain text"
        )
    prompt = forms.asked(asked.items[0], examples=asked.examples, form=asked.form, chat=chats[0])
    if chat.encoded(base.tokenizer, [prompt]) == chat.encoded(candidate.tokenizer, [prompt]):
        return ""
    what = "chat templates put" if chats[0] else "tokenizers put other special tokens around"
    return f"{asked.name}: the two {what} the same question{' differently' if chats[0] else ''}"


def _in_chat(tokenizer: Any, asked: QuestionSet) -> bool:
    return not scored(asked) and chat.used(tokenizer, "auto")


def ask(
    subject: Side,
    asked: QuestionSet,
    *,
    rounded: bool = False,
    progress: Progress | None = None,
) -> Answers:
    """Return a model's greedy answers; ``rounded`` asks it as the noise floor is measured.

    A server is then asked a second time. Four-choice sets of the hub are scored by the options'
    log-likelihoods in lm-eval's forms; all else is generated, in the tokenizer's chat template
    where it has one.
    """
    tokenizer = subject.tokenizer
    common: dict[str, Any] = {
        "examples": asked.examples,
        "chat": _in_chat(tokenizer, asked),
        "batch_size": _OTHER_BATCH if rounded else _BATCH,
        "progress": progress,
    }
    if isinstance(subject, Server):
        served = subject.model.once_more() if rounded else subject.model
        return _asked(served, tokenizer, asked, common)
    with running(subject.model) as model:
        if not rounded:
            return _asked(model, tokenizer, asked, common)
        with rounded_activations(model):
            return _asked(model, tokenizer, asked, common)


def _asked(model: Any, tokenizer: Any, asked: QuestionSet, common: dict[str, Any]) -> Answers:
    items: Sequence[Any] = asked.items
    if isinstance(items[0], Choice):
        found = arc.evaluate(model, tokenizer, items, form=asked.form, **common)
        texts = [
            arc.LETTERS[p] if p != arc.UNPARSED else text
            for p, text in zip(found.predictions, found.texts or [""] * found.n, strict=True)
        ]
        return Answers(found.ids, tuple(texts), found.correct, None, dict(found.left_out))
    if isinstance(items[0], Question):
        spans = squad.evaluate(model, tokenizer, items, **common)
        f1 = spans.item_f1 / 100
        return Answers(spans.ids, spans.predictions, spans.item_exact, f1, dict(spans.left_out))
    length = 96 if catalog.task(asked.name).embedded else maths.MAX_NEW_TOKENS
    solved = maths.evaluate(model, tokenizer, items, max_new_tokens=length, **common)
    return Answers(solved.ids, solved.texts, solved.correct, None, dict(solved.left_out))


def paired(asked: QuestionSet, base: Answers, candidate: Answers) -> list[PairedItems]:
    """Return ``accuracy:NAME`` and, where there is one, ``f1:NAME`` over what both were asked."""
    rows = _both(base, candidate)
    ids = tuple(base.ids[i] for i, _ in rows)
    first, second = ([pair[side] for pair in rows] for side in (0, 1))
    found = [
        PairedItems(
            f"accuracy:{asked.name}",
            ids,
            base.correct[first].astype(float),
            candidate.correct[second].astype(float),
        )
    ]
    if base.f1 is not None and candidate.f1 is not None:
        found.append(PairedItems(f"f1:{asked.name}", ids, base.f1[first], candidate.f1[second]))
    return found


def flips(asked: QuestionSet, base: Answers, candidate: Answers) -> list[Flip]:
    """Return the questions whose answers flipped, those that the candidate lost first."""
    items = {item.id: item for item in asked.items}
    found = [
        Flip(
            asked.name,
            base.ids[i],
            _question(items[base.ids[i]]),
            _expected(items[base.ids[i]]),
            base.texts[i],
            candidate.texts[j],
            bool(base.correct[i]),
        )
        for i, j in _both(base, candidate)
        if base.correct[i] != candidate.correct[j]
    ]
    return sorted(found, key=lambda flip: not flip.lost)


def _both(base: Answers, candidate: Answers) -> list[tuple[int, int]]:
    places = {name: j for j, name in enumerate(candidate.ids)}
    return [(i, places[name]) for i, name in enumerate(base.ids) if name in places]


def _question(item: Item) -> str:
    if isinstance(item, Choice):
        options = (f"{arc.LETTERS[i]}. {text}" for i, text in enumerate(item.choices))
        return "\n".join((item.question, *options))
    return item.question


def _expected(item: Item) -> str:
    if isinstance(item, Choice):
        return arc.LETTERS[item.answer]
    if isinstance(item, Problem):
        return item.answer
    return item.aliases[0] if item.answerable and item.aliases else "(no answer)"
