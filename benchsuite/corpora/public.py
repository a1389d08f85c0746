"""The public task sets' own columns, turned into the schemas that embedded tasks share.

``ADAPTERS`` says which; ``docs/datasets.md`` shows it as a table. Beside the columns of the hub's
copy stand the forms in which a set's authors published it (``forms``).

OpenMath: the set has a train split alone and repeats its problems with other solutions. Each
problem counts once, and only one whose expected answer is a number: a formula has no distance.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from benchsuite.corpora import forms
from benchsuite.corpora.forms import Form, text, texts
from benchsuite.corpora.sound import answerable, in_digits
from benchsuite.corpora.table import Row
from benchsuite.embedded.schema import Choice, Item, Problem, Question

# GSM8K's calculator notes: <<48/2=24>>.
_CALCULATION = re.compile(r"<<[^<>]*>>")
# BioASQ's answer stands in one column with its passage: "<answer> BRCA1 <context> The gene ...".
_BIOASQ = re.compile(r"<answer>(.*?)<context>", re.DOTALL)


@dataclass(frozen=True)
class Adapter:
    """How one set's rows become items: ``convert(row, name)`` gives one, or None to leave it out.

    ``columns`` are the hub's, and ``authors`` the other forms that are read. ``name`` is the
    identity of an item whose row brings none. ``once``: a question that comes again is left out.
    """

    columns: tuple[str, ...]
    convert: Callable[[Row, str], Item | None]
    once: bool = False
    authors: tuple[Form, ...] = ()

    @property
    def forms(self) -> tuple[Form, ...]:
        """The forms of the set's files, the hub's first."""
        return (Form(self.columns), *self.authors)

    @property
    def per_subject(self) -> bool:
        """Whether the authors' files are one for each subject."""
        return any(form.from_name for form in self.authors)


def items(
    adapter: Adapter, found: list[Path], prefix: str, limit: int | None = None
) -> Iterator[Item]:
    """Yield the items of a set's files, of the first ``limit`` rows.

    Items without an identity of their own are named ``prefix-00000`` by their row. Raises
    ``BenchsuiteError`` naming file, row and column for a missing column or an unexpected value.
    """
    seen: set[str] = set()
    for place, (file, number, row) in enumerate(islice(_rows(adapter, found), limit)):
        try:
            item = adapter.convert(row, f"{prefix}-{place:05d}")
            item = item and answerable(item)
        except ValueError as error:
            raise forms.unexpected(file, number, error, adapter.columns) from None
        if item is None or (adapter.once and item.question in seen):
            continue
        seen.add(item.question)
        yield item


def _rows(adapter: Adapter, found: list[Path]) -> Iterator[tuple[Path, int, Row]]:
    for file in found:
        for number, row in forms.rows(file, adapter.forms):
            yield file, number, row


def _arc(row: Row, name: str) -> Choice:
    choices = forms.mapping(row["choices"])
    options = texts(choices.get("text"), "choices.text")
    labels = texts(choices.get("label"), "choices.label")
    key = text(row, "answerKey")
    if len(labels) != len(options) or key not in labels:
        raise ValueError(f"'answerKey' is {key!r}, none of the {len(options)} labels {labels}")
    if len(set(labels)) != len(labels):
        raise ValueError(f"'choices.label' is {labels}: two options have one label")
    # Labels are A to E, or 1 to 5: only their order counts.
    return Choice(text(row, "id"), text(row, "question"), options, labels.index(key))


def _mmlu(row: Row, name: str) -> Choice:
    options = texts(row["choices"], "choices")
    answer = forms.place(row["answer"], len(options), "answer")
    subject = text(row, "subject")
    return Choice(name, text(row, "question"), options, answer, subject)


def _hellaswag(row: Row, name: str) -> Choice:
    """Return the item that lm-eval asks: activity and context, and the endings, cleaned alike."""
    endings = tuple(_without_marks(part) for part in texts(row["endings"], "endings"))
    if row["label"] in ("", None):
        raise ValueError("'label' is empty: the answers of the test split are withheld")
    answer = forms.place(row["label"], len(endings), "label")
    context = f"{row['ctx_a']} {str(row['ctx_b']).capitalize()}"
    return Choice(
        name, _without_marks(f"{text(row, 'activity_label')}: {context}"), endings, answer
    )


def _without_marks(passage: str) -> str:
    """Return a text without WikiHow's marks in brackets (lm-eval, ``hellaswag/utils.py``)."""
    cut = re.sub(r"\[.*?\]", "", passage.strip().replace(" [title]", ". "))
    return cut.replace("  ", " ")


def _squad(row: Row, name: str) -> Question:
    answers = forms.mapping(row["answers"])
    found = _different(texts(answers.get("text"), "answers.text"))
    question, context = text(row, "question"), text(row, "context")
    return Question(text(row, "id"), question, found, context, answerable=bool(found))


def _trivia(row: Row, name: str) -> Question:
    answer = forms.mapping(row["answer"])
    value = answer.get("value")
    if not isinstance(value, str) or value == "<unk>":
        raise ValueError(f"'answer.value' is {value!r}: the answers of the test split are withheld")
    aliases = _different([value, *texts(answer.get("aliases"), "answer.aliases")])
    context = text(row, "context") if "context" in row else ""
    return Question(text(row, "question_id"), text(row, "question"), aliases, context)


def _nq(row: Row, name: str) -> Question:
    return Question(name, text(row, "question"), _different(texts(row["answer"], "answer")))


def _bioasq(row: Row, name: str) -> Question:
    if "answers" in row:
        exact = _different(texts(row["answers"], "exact_answer"))
        return Question(name, text(row, "question"), exact)
    marked = _BIOASQ.match(text(row, "text"))
    if marked is None:
        raise ValueError(f"'text' is {row['text'][:40]!r}..., not '<answer> ... <context> ...'")
    return Question(name, text(row, "question"), (marked[1].strip(),))


def _gsm8k(row: Row, name: str) -> Problem:
    solution, mark, final = text(row, "answer").rpartition("####")
    answer = in_digits(final)
    if not mark or answer is None:
        raise ValueError(f"'answer' ends in {final[-40:]!r}, not in '#### ' and a number")
    return Problem(name, text(row, "question"), _lines(_CALCULATION.sub("", solution)), answer)


def _svamp(row: Row, name: str) -> Problem:
    answer = _number(row, "Answer")
    question = f"{_sentence(text(row, 'Body'))} {text(row, 'Question')}"
    return Problem(text(row, "ID"), question, (f"{text(row, 'Equation')} = {answer}",), answer)


def _multi_arith(row: Row, name: str) -> Problem:
    return Problem(name, text(row, "question"), (), _number(row, "final_ans"))


def _sentence(body: str) -> str:
    """End a body as a sentence, as published prompts do: 358 of SVAMP's 1,000 have no full stop."""
    return f"{body}." if body[-1:].isalnum() else body


def _gsm8k_aug(row: Row, name: str) -> Problem | None:
    answer = in_digits(row["answer"])
    if answer is None:  # a few augmented answers are no number
        return None
    return Problem(name, text(row, "question"), texts(row["steps"], "steps"), answer)


def _gsm_hard(row: Row, name: str) -> Problem:
    return Problem(name, text(row, "input"), (), _number(row, "target"))


def _number(row: Row, column: str) -> str:
    answer = in_digits(row[column])
    if answer is None:
        raise ValueError(f"{column!r} is {row[column]!r}, not a number")
    return answer


def _openmath(row: Row, name: str) -> Problem | None:
    answer = in_digits(text(row, "expected_answer"))
    if answer is None:
        return None
    return Problem(name, text(row, "problem"), _lines(text(row, "generated_solution")), answer)


ADAPTERS = {
    "allenai/ai2_arc": Adapter(
        ("id", "question", "choices", "answerKey"), _arc, authors=(forms.ARC,)
    ),
    "cais/mmlu": Adapter(
        ("question", "subject", "choices", "answer"), _mmlu, authors=(forms.MMLU,)
    ),
    "Rowan/hellaswag": Adapter(
        ("activity_label", "ctx_a", "ctx_b", "endings", "label"), _hellaswag
    ),
    "rajpurkar/squad_v2": Adapter(
        ("id", "context", "question", "answers"), _squad, authors=(forms.SQUAD,)
    ),
    "mandarjoshi/trivia_qa": Adapter(
        ("question_id", "question", "answer"),
        _trivia,
        authors=(forms.TRIVIA_QA, forms.TRIVIA_IN_SQUAD),
    ),
    "google-research-datasets/nq_open": Adapter(("question", "answer"), _nq),
    "kroshan/BioASQ": Adapter(("question", "text"), _bioasq, authors=(forms.BIOASQ,)),
    "openai/gsm8k": Adapter(("question", "answer"), _gsm8k),
    "ChilleD/SVAMP": Adapter(("ID", "Body", "Question", "Equation", "Answer"), _svamp),
    "ChilleD/MultiArith": Adapter(("question", "final_ans"), _multi_arith),
    "whynlp/gsm8k-aug": Adapter(("question", "steps", "answer"), _gsm8k_aug),
    "whynlp/gsm8k-aug-nl": Adapter(("question", "steps", "answer"), _gsm8k_aug),
    "reasoning-machines/gsm-hard": Adapter(("input", "target"), _gsm_hard),
    "nvidia/OpenMathInstruct-2": Adapter(
        ("problem", "generated_solution", "expected_answer"), _openmath, once=True
    ),
}
"""Hub id -> adapter; a set that is not here has our schemas' fields as its columns."""


def _different(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())
