"""How the questions of every set are put: as a plain text to go on, or as turns to answer.

Four-choice questions have a form of their own:

| form           | shown                         | answered by                           |
|----------------|-------------------------------|---------------------------------------|
| `letters`      | the options with letters      | a letter, generated                   |
| `options`      | the same, in lm-eval's layout | the letter of highest log-likelihood  |
| `likelihood`   | no options                    | the option of highest log-likelihood  |
| `continuation` | the question's text alone     | the same (HellaSwag)                  |
| `full`         | the options with letters      | the option and its letter, generated  |
| `listed`       | the options without letters   | the option, generated                 |

`options` is lm-eval's prompt of MMLU without its heading, `likelihood` that of ARC, `continuation`
that of HellaSwag. `full` and `listed` are what the embedded models were trained on.

In a chat every worked example is a question of the user and an answer of the assistant: that is the
form that instruction models were trained on, and it ends each example's answer by the model's own
mark. What a plain text leaves to the examples is asked in words. The forms whose answers are scored
put the plain text into the user's turn as it is, as lm-eval does.
"""

from collections.abc import Sequence

from benchsuite.embedded import prompts
from benchsuite.embedded.prompts import LETTERS
from benchsuite.embedded.schema import Choice, Item, Problem, Question
from benchsuite.evaluation.chat import Prompt, Turn

CHOICES = ("letters", "options", "likelihood", "continuation", "full", "listed")
SCORED = ("options", "likelihood", "continuation")
"""The forms of four-choice questions in which nothing is generated."""

LETTER_ALONE = "Answer with the letter of the right choice alone."
FROM_CONTEXT = (
    "Use the words of the context. If it does not hold the answer, write: " + prompts.NO_ANSWER
)
STEP_BY_STEP = (
    f'Solve this step by step. End with a line that says "{prompts.ANSWER_IS}" and the number.'
)


def asked(
    item: Item, *, examples: Sequence[Item] = (), form: str = "letters", chat: bool = False
) -> Prompt:
    """Return what a model is asked, after worked examples; ``form`` concerns choices alone."""
    if not chat:
        return _text(item, examples, form)
    turns: list[Turn] = []
    for example in examples:
        turns.append({"role": "user", "content": _request(example, form)})
        turns.append({"role": "assistant", "content": _reply(example, form)})
    return [*turns, {"role": "user", "content": _request(item, form)}]


def scored_texts(item: Choice, form: str, *, chat: bool = False) -> tuple[str, ...]:
    """Return what is scored after the prompt: the letters or the options' own texts.

    A plain text goes on with a blank; an assistant's turn begins without one.
    """
    texts = tuple(LETTERS[: len(item.choices)]) if form == "options" else item.choices
    return tuple(text if chat else f" {text}" for text in texts)


def _text(item: Item, examples: Sequence[Item], form: str) -> str:
    if isinstance(item, Choice) and form in ("options", "continuation"):
        shown = [example for example in examples if isinstance(example, Choice)]
        worked = [_plain(e, form) + scored_texts(e, form)[e.answer] for e in shown]
        return "\n\n".join([*worked, _plain(item, form)])
    return prompts.prompt(item, examples=examples, form=_embedded(form))


def _plain(item: Choice, form: str) -> str:
    if form == "continuation":
        return item.question
    return f"{item.question}\n{_with_letters(item)}\nAnswer:"


def _request(item: Item, form: str) -> str:
    """Return a user's turn."""
    if isinstance(item, Problem):
        return f"{item.question}\n\n{STEP_BY_STEP}"
    if isinstance(item, Question):
        how = f"{prompts.BRIEFLY} {FROM_CONTEXT}." if item.context else prompts.BRIEFLY
        context = f"Context: {item.context}\n" if item.context else ""
        return f"{how}\n\n{context}Question: {item.question}"
    if form == "letters":
        return f"Question: {item.question}\nChoices:\n{_with_letters(item)}\n\n{LETTER_ALONE}"
    return _text(item, (), form)


def _reply(item: Item, form: str) -> str:
    """Return the assistant's turn that answers a worked example."""
    if isinstance(item, Problem):
        return "\n".join([*item.steps, f"{prompts.ANSWER_IS} {item.answer}"])
    if isinstance(item, Choice) and form in SCORED:
        return scored_texts(item, form, chat=True)[item.answer]
    return prompts.completion(item, form=_embedded(form)).strip()


def _with_letters(item: Choice) -> str:
    pairs = zip(LETTERS, item.choices, strict=False)
    return "\n".join(f"{letter}. {text}" for letter, text in pairs)


def _embedded(form: str) -> str:
    """Return a form's name among those of the embedded models' prompts."""
    return "text" if form == "likelihood" else form
