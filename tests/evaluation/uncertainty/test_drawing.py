"""What a seed draws of a set: questions, worked examples, demonstrations, none of them twice."""

import json

import pytest

from benchsuite.catalog import Sources
from benchsuite.embedded import tasks
from benchsuite.evaluation.uncertainty import prompts
from benchsuite.evaluation.uncertainty.drawing import drawn

SIZES = {"n": 12, "n_examples": 3, "n_demonstrations": 4}


def test_examples_come_from_the_split_for_them_and_then_demonstrations():
    found = drawn("closed_book", how="document", seed=5, **SIZES)
    test, train = (tasks.items("closed_book", split) for split in ("test", "train"))
    assert found.questions == prompts.draw(test, 12, 5)
    assert found.examples + found.demonstrations == prompts.draw_examples(train, 7, 5)
    assert (len(found.examples), len(found.demonstrations)) == (3, 4)
    assert (found.examples_from, found.lacking) == ("train", "")
    bare = drawn("closed_book", how="document", n=12, n_examples=0, n_demonstrations=0, seed=5)
    assert (bare.questions, bare.examples, bare.demonstrations) == (found.questions, [], [])
    assert bare.examples_from == ""


@pytest.mark.parametrize(("n_rows", "apart"), [(40, 8), (300, 50)])
def test_a_set_with_one_split_asks_none_of_what_it_shows(n_rows, apart, tmp_path):
    rows = [{"question": f"who sang song {i}", "answer": [f"Ann {i}"]} for i in range(n_rows)]
    (tmp_path / "validation.jsonl").write_text("\n".join(map(json.dumps, rows)))
    sources = Sources(local={"nq": tmp_path})

    def ask(seed, n_demonstrations=4):
        sizes = SIZES | {"n": n_rows, "n_demonstrations": n_demonstrations}
        return drawn("nq", how="published", seed=seed, sources=sources, **sizes)

    found, other = ask(1), ask(2)
    asked = {one.question for one in found.questions}
    shown = {one.question for one in (*found.examples, *found.demonstrations)}
    assert len(asked) == n_rows - apart
    assert len(shown) == 7
    assert not asked & shown
    assert all(question.endswith("?") for question in asked | shown)
    assert found.examples_from == "validation"
    # However many are shown, the questions are the same; another seed has others.
    assert ask(1, n_demonstrations=0).questions == found.questions
    assert asked != {one.question for one in other.questions}
