"""The real sets, where a copy of them is beside the checkout; none is shipped."""

from collections import Counter
from pathlib import Path

import pytest

from benchsuite import catalog
from benchsuite.corpora import load_task
from benchsuite.evaluation.numbers import final_number
from tests.corpora.local import at

DATA = Path(__file__).parents[3] / "shared/data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="no copy of the public sets")

# Of squad_v2 and trivia_qa the copies are subsets.
ROWS = {
    "arc_challenge": 1172,
    "arc_easy": 2376,
    "gsm8k": 1319,
    "gsm_hard": 1319,
    "mmlu": 14042,
    "nq": 3610,
    "squad_v2": 5878,
    "svamp": 1000,
    "trivia_qa": 900,
}


def items(name):
    return load_task(name, catalog.task(name).split, at(name, DATA / name)).items


@pytest.mark.parametrize("name", ROWS)
def test_every_row_is_an_item(name):
    assert len(items(name)) == ROWS[name]


def test_mmlu_has_57_subjects():
    subjects = Counter(item.subject for item in items("mmlu"))
    assert len(subjects) == 57
    assert subjects["abstract_algebra"] == 100


def test_svamp_has_a_sentence_end_in_every_question():
    file = DATA / "svamp/test.jsonl"
    found = load_task("svamp_all", "train+test", at("svamp_all", file)).items
    assert found == items("svamp")
    assert found[0].question.endswith(
        "discount of 25 dollars on each pack. How much do you have to pay to buy each pack?"
    )


@pytest.mark.parametrize("split", ["train", "test"])
def test_gsm8ks_own_answers_are_read_by_its_protocol(split):
    for item in load_task("gsm8k", split, at("gsm8k", DATA / "gsm8k")).items:
        written = "\n".join([*item.steps, f"#### {float(item.answer):,.0f}"])
        assert final_number(written) == float(item.answer)
