"""The public task sets' own columns, turned into the schemas that embedded tasks share.

| hub id                      | schema   | columns read                             |
|-----------------------------|----------|------------------------------------------|
| allenai/ai2_arc             | choice   | id, question, choices, answerKey         |
| rajpurkar/squad_v2          | question | id, context, question, answers           |
| mandarjoshi/trivia_qa       | question | question_id, question, answer            |
| google-research-datasets/nq_open | question | question, answer                    |
| kroshan/BioASQ              | question | question, text                           |
| openai/gsm8k                | problem  | question, answer                         |
| ChilleD/SVAMP               | problem  | ID, Body, Question, Equation, Answer     |
| whynlp/gsm8k-aug, -aug-nl   | problem  | question, steps, answer                  |
| reasoning-machines/gsm-hard | problem  | input, target                            |
| nvidia/OpenMathInstruct-2   | problem  | problem, generated_solution, expected_answer |

OpenMath: the set has a train split alone and repeats its problems with other solutions. Each
problem counts once, and only one whose expected answer is a number: a formula has no distance.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import islice
from pathlib import Path
from typing import Any

from benchsuite.corpora.rows import read_rows
from benchsuite.embedded.schema import Choice, Item, Problem, Question
from benchsuite.errors import BenchsuiteError

Row = dict[str, Any]

# GSM8K's calculator notes: <<48/2=24>>.
_CALCULATION = re.compile(r"<<[^<>]*>>")
# BioASQ's answer stands in one column with its passage: "<answer> BRCA1 <context> The gene ...".
_BIOASQ = re.compile(r"<answer>(.*?)<context>", re.DOTALL)


@dataclass(frozen=True)
class Adapter:
    """How one set's rows become items: ``convert(row, name)`` gives one, or None to leave it out.

    ``name`` is the identity of an item whose row brings none. ``once``: a question that comes again
    is left out.
    """

    columns: tuple[str, ...]
    convert: Callable[[Row, str], Item | None]
    once: bool = False


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
        except ValueError as error:
            raise BenchsuiteError(
                f"row {number}: {error}",
                where=str(file),
                fix=f"Expected the set's own columns {', '.join(map(repr, adapter.columns))}",
            ) from None
        if item is None or (adapter.once and item.question in seen):
            continue
        seen.add(item.question)
        yield item


def _rows(adapter: Adapter, found: list[Path]) -> Iterator[tuple[Path, int, Row]]:
    for file in found:
        for number, row in enumerate(read_rows(file, list(adapter.columns)), start=1):
            yield file, number, row


def _arc(row: Row, name: str) -> Choice:
    choices = row["choices"] if isinstance(row["choices"], dict) else {}
    texts = _texts(choices.get("text"), "choices.text")
    labels = _texts(choices.get("label"), "choices.label")
    key = _text(row, "answerKey")
    if len(labels) != len(texts) or key not in labels:
        raise ValueError(f"'answerKey' is {key!r}, none of the {len(texts)} labels {labels}")
    # Labels are A to E, or 1 to 5: only their order counts.
    return Choice(_text(row, "id"), _text(row, "question"), texts, labels.index(key))


def _squad(row: Row, name: str) -> Question:
    answers = row["answers"] if isinstance(row["answers"], dict) else {}
    texts = _different(_texts(answers.get("text"), "answers.text"))
    question, context = _text(row, "question"), _text(row, "context")
    return Question(_text(row, "id"), question, texts, context, answerable=bool(texts))


def _trivia(row: Row, name: str) -> Question:
    answer = row["answer"] if isinstance(row["answer"], dict) else {}
    value = answer.get("value")
    if not isinstance(value, str) or value == "<unk>":
        raise ValueError(f"'answer.value' is {value!r}: the answers of the test split are withheld")
    aliases = _different([value, *_texts(answer.get("aliases"), "answer.aliases")])
    return Question(_text(row, "question_id"), _text(row, "question"), aliases)


def _nq(row: Row, name: str) -> Question:
    return Question(name, _text(row, "question"), _different(_texts(row["answer"], "answer")))


def _bioasq(row: Row, name: str) -> Question:
    marked = _BIOASQ.match(_text(row, "text"))
    if marked is None:
        raise ValueError(f"'text' is {row['text'][:40]!r}..., not '<answer> ... <context> ...'")
    return Question(name, _text(row, "question"), (marked[1].strip(),))


def _gsm8k(row: Row, name: str) -> Problem:
    solution, mark, final = _text(row, "answer").rpartition("####")
    answer = _digits(final)
    if not mark or answer is None:
        raise ValueError(f"'answer' ends in {final[-40:]!r}, not in '#### ' and a number")
    return Problem(name, _text(row, "question"), _lines(_CALCULATION.sub("", solution)), answer)


def _svamp(row: Row, name: str) -> Problem:
    answer = _digits(row["Answer"])
    if answer is None:
        raise ValueError(f"'Answer' is {row['Answer']!r}, not a number")
    question = f"{_text(row, 'Body')} {_text(row, 'Question')}"
    return Problem(_text(row, "ID"), question, (f"{_text(row, 'Equation')} = {answer}",), answer)


def _gsm8k_aug(row: Row, name: str) -> Problem | None:
    answer = _digits(row["answer"])
    if answer is None:  # a few augmented answers are no number
        return None
    return Problem(name, _text(row, "question"), _texts(row["steps"], "steps"), answer)


def _gsm_hard(row: Row, name: str) -> Problem:
    answer = _digits(row["target"])
    if answer is None:
        raise ValueError(f"'target' is {row['target']!r}, not a number")
    return Problem(name, _text(row, "input"), (), answer)


def _openmath(row: Row, name: str) -> Problem | None:
    answer = _digits(_text(row, "expected_answer"))
    if answer is None:
        return None
    return Problem(name, _text(row, "problem"), _lines(_text(row, "generated_solution")), answer)


ADAPTERS = {
    "allenai/ai2_arc": Adapter(("id", "question", "choices", "answerKey"), _arc),
    "rajpurkar/squad_v2": Adapter(("id", "context", "question", "answers"), _squad),
    "mandarjoshi/trivia_qa": Adapter(("question_id", "question", "answer"), _trivia),
    "google-research-datasets/nq_open": Adapter(("question", "answer"), _nq),
    "kroshan/BioASQ": Adapter(("question", "text"), _bioasq),
    "openai/gsm8k": Adapter(("question", "answer"), _gsm8k),
    "ChilleD/SVAMP": Adapter(("ID", "Body", "Question", "Equation", "Answer"), _svamp),
    "whynlp/gsm8k-aug": Adapter(("question", "steps", "answer"), _gsm8k_aug),
    "whynlp/gsm8k-aug-nl": Adapter(("question", "steps", "answer"), _gsm8k_aug),
    "reasoning-machines/gsm-hard": Adapter(("input", "target"), _gsm_hard),
    "nvidia/OpenMathInstruct-2": Adapter(
        ("problem", "generated_solution", "expected_answer"), _openmath, once=True
    ),
}
"""Hub id -> adapter; a set that is not here has our schemas' fields as its columns."""


def _text(row: Row, column: str) -> str:
    value = row[column]
    if not isinstance(value, str):
        raise ValueError(f"{column!r} is {value!r}, not a text")
    return value.strip()


def _texts(value: Any, column: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise ValueError(f"{column!r} is {value!r}, not a list of texts")
    return tuple(value)


def _different(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _digits(value: Any) -> str | None:
    """Return a number as digits, ``1,450.50`` as ``1450.5``; None for anything else."""
    try:
        number = Decimal(str(value).strip().replace(",", "").replace("$", ""))
    except InvalidOperation:
        return None
    if not number.is_finite():
        return None
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
