"""The forms in which a set's files come: the hub's columns, and those of its authors' own files.

An authors' form is turned into rows of the hub's columns, so that a set has one reading.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchsuite.corpora.rows import checked, readable
from benchsuite.corpora.table import Row, Table, opened, unpacked, without_header
from benchsuite.errors import BenchsuiteError

LETTERS = "ABCD"


@dataclass(frozen=True)
class Form:
    """One form of a set's files, recognised by ``columns``.

    ``as_hub(row)`` gives the rows in the hub's columns that a row holds; None where it is one.
    ``headless`` says whether a CSV file's first line is data in those columns. ``from_name`` gives
    the columns that a file's name tells, and ``description`` names the files in the documentation.
    """

    columns: tuple[str, ...]
    as_hub: Callable[[Row], Iterable[Row]] | None = None
    headless: Callable[[Sequence[str]], bool] | None = None
    from_name: Callable[[Path], Row] | None = None
    description: str = ""


def rows(file: Path, forms: Sequence[Form]) -> Iterator[tuple[int, Row]]:
    """Yield a file's rows in the hub's columns, each with the number of the row it stood in.

    Raises ``BenchsuiteError`` with the columns found and those of every form where none fits.
    """
    with readable(file):
        table = opened(file)
        if not table.columns:
            return
        form, table = _recognised(table, forms)
        told = form.from_name(file) if form.from_name else {}
        for number, row in checked(table, form.columns):
            if form.as_hub is None:
                yield number, told | row
                continue
            try:
                held = list(form.as_hub(row))
            except ValueError as error:
                raise unexpected(file, number, error, form.columns) from None
            for part in held:
                yield number, told | part


def unexpected(
    file: Path, number: int, error: ValueError, columns: Sequence[str]
) -> BenchsuiteError:
    """Return the error for a row that has the right columns and a value that is not the set's."""
    return BenchsuiteError(
        f"row {number}: {error}",
        where=str(file),
        fix=f"Expected the set's own columns {', '.join(map(repr, columns))}",
    )


def _recognised(table: Table, forms: Sequence[Form]) -> tuple[Form, Table]:
    for form in forms:
        if set(form.columns) <= set(table.columns):
            return form, table
        if form.headless and form.headless(table.first_line):
            return form, without_header(table, form.columns)
    wanted = "; or ".join(", ".join(map(repr, form.columns)) for form in forms)
    raise BenchsuiteError(
        f"the file's form is not one of this set's: it has the columns "
        f"{', '.join(repr(name[:40]) for name in table.columns)}",
        where=str(table.file),
        fix=f"Expected {wanted}",
    )


def text(row: Row, column: str) -> str:
    """Return a row's text without the blanks around it; ``ValueError`` for anything else."""
    value = row[column]
    if not isinstance(value, str):
        raise ValueError(f"{column!r} is {value!r}, not a text")
    return value.strip()


def texts(value: Any, column: str) -> tuple[str, ...]:
    """Return a list of texts; ``ValueError`` for anything else."""
    value = _from_cell(value)
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise ValueError(f"{column!r} is {value!r}, not a list of texts")
    return tuple(value)


def mapping(value: Any) -> Row:
    """Return an object of JSON or of a parquet column; an empty one for anything else."""
    value = _from_cell(value)
    return value if isinstance(value, dict) else {}


def place(value: Any, n: int, column: str) -> int:
    """Return the index of the right one of ``n`` options.

    It may be written in digits, or as 1.0: a column in which a number is missing has no integers.
    Raises ``ValueError`` for anything else.
    """
    digits = isinstance(value, str) and value.strip().isdecimal()
    whole = type(value) is int or (isinstance(value, float) and value.is_integer())
    found = int(value) if digits or whole else -1
    if not 0 <= found < n:
        raise ValueError(f"{column!r} is {value!r}, not the place of one of the {n} options")
    return found


def _from_cell(value: Any) -> Any:
    """Return what a CSV file's cell holds as JSON: it has no lists of its own."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _objects(value: Any, column: str) -> list[Row]:
    if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
        raise ValueError(f"{column!r} is {str(value)[:60]!r}, not a list of objects")
    return value


def _arc(row: Row) -> Iterator[Row]:
    asked = mapping(row["question"])
    options = _objects(asked.get("choices"), "question.choices")
    yield {
        "id": row["id"],
        "question": asked.get("stem"),
        "choices": {name: [part.get(name) for part in options] for name in ("text", "label")},
        "answerKey": row["answerKey"],
    }


def _squad(article: Row) -> Iterator[Row]:
    for paragraph in _objects(article["paragraphs"], "paragraphs"):
        for asked in _objects(paragraph.get("qas"), "paragraphs.qas"):
            answers = _objects(asked.get("answers"), "paragraphs.qas.answers")
            yield {
                "id": asked.get("id"),
                "context": paragraph.get("context"),
                "question": asked.get("question"),
                "answers": {"text": [answer.get("text") for answer in answers]},
            }


def _trivia(row: Row) -> Iterator[Row]:
    answer = mapping(row["Answer"])
    yield {
        "question_id": row["QuestionId"],
        "question": row["Question"],
        "answer": {"value": answer.get("Value"), "aliases": answer.get("Aliases", [])},
    }


def _trivia_in_squad(row: Row) -> Iterator[Row]:
    found = texts(mapping(row["answers"]).get("text"), "answers.text")
    answer = {"value": found[0] if found else None, "aliases": list(found)}
    yield {
        "question_id": row["id"],
        "question": row["question"],
        "answer": answer,
        "context": row["context"],
    }


def _bioasq(row: Row) -> Iterator[Row]:
    """Yield a question that has exact answers: of each one the first synonym."""
    exact = row.get("exact_answer")
    listed = exact if isinstance(exact, list) else [exact]
    answers = [part[0] if isinstance(part, list) and part else part for part in listed]
    if exact:
        yield {"question": row["body"], "text": "", "answers": answers}


def _mmlu(row: Row) -> Iterator[Row]:
    key = row["answer"].strip() if isinstance(row["answer"], str) else ""
    if len(key) != 1 or key not in LETTERS:
        raise ValueError(f"'answer' is {row['answer']!r}, not one of {', '.join(LETTERS)}")
    options = [row[letter] for letter in LETTERS]
    subject = {"subject": row["subject"]} if "subject" in row else {}
    answer = LETTERS.index(key)
    yield {"question": row["question"], "choices": options, "answer": answer, **subject}


def _lettered(first_line: Sequence[str]) -> bool:
    last = first_line[-1].strip() if first_line else ""
    return len(first_line) == 2 + len(LETTERS) and len(last) == 1 and last in LETTERS


def _subject(file: Path) -> Row:
    """Return the subject of ``high_school_biology_test.csv``."""
    return {"subject": re.sub(r"_?(test|val|dev|train)$", "", unpacked(file).stem)}


ARC = Form(
    ("id", "question", "answerKey"),
    _arc,
    description="`ARC-Challenge-Test.jsonl`: `question` holds `stem` and `choices`",
)
SQUAD = Form(
    ("paragraphs",),
    _squad,
    description="`dev-v2.0.json`: under `data` articles with `paragraphs`, these with `qas`",
)
TRIVIA_QA = Form(
    ("QuestionId", "Question", "Answer"),
    _trivia,
    description="`unfiltered-web-dev.json`: the rows under `Data`",
)
TRIVIA_IN_SQUAD = Form(
    ("id", "question", "context", "answers"),
    _trivia_in_squad,
    description="`TimoImhof/TriviaQA-in-SQuAD-format`: with passages",
)
BIOASQ = Form(
    ("body", "type"),
    _bioasq,
    description="`training11b.json`: the rows under `questions` that have an `exact_answer`",
)
MMLU = Form(
    ("question", *LETTERS, "answer"),
    _mmlu,
    headless=_lettered,
    from_name=_subject,
    description="`test/*_test.csv`, without a header: the subject is the file's name",
)
