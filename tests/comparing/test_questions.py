"""Questions asked of both models: which, how, and what flipped."""

import numpy as np
import pytest

from benchsuite.comparing.comparison import compare
from benchsuite.comparing.gating import gate
from benchsuite.comparing.measured import Settings
from benchsuite.comparing.questions import (
    Answers,
    QuestionSet,
    ask,
    asked_unlike,
    flips,
    paired,
    question_set,
)
from benchsuite.comparing.subject import open_subject
from benchsuite.comparing.texts import open_text
from benchsuite.corpora import load_task
from benchsuite.evaluation import arc
from tests.models import tiny


@pytest.fixture(scope="module")
def subject():
    return open_subject("tiny_llama_1m")


def test_examples_are_never_asked():
    asked = question_set("four_choices", 20, shots=2)
    assert len(asked.items) == 20
    assert len(asked.examples) == 2
    assert not {item.id for item in asked.items} & {item.id for item in asked.examples}


def test_all_are_asked_by_0():
    assert len(question_set("closed_book", 0).items) == len(load_task("closed_book", "test").items)


def test_choices_of_the_hub_are_scored_and_not_generated(subject):
    found = question_set("four_choices", 12)
    scored = QuestionSet("four_choices", found.items, (), "likelihood", found.digest)
    answers = ask(subject, scored)
    expected = arc.evaluate(subject.model, subject.tokenizer, found.items, form="likelihood")
    assert np.array_equal(answers.correct, expected.correct)
    assert set(answers.texts) <= set("ABCD")


def test_the_floor_asks_the_same_questions(subject):
    asked = question_set("closed_book", 6)
    one, two = ask(subject, asked), ask(subject, asked, rounded=True)
    assert one.ids == two.ids
    assert [items.metric for items in paired(asked, one, two)] == [
        "accuracy:closed_book",
        "f1:closed_book",
    ]


def test_what_one_model_was_not_asked_is_not_paired_and_the_lost_come_first():
    asked = question_set("closed_book", 4)
    ids = tuple(item.id for item in asked.items)

    def answers(right, names=ids):
        return Answers(
            names, ("x",) * len(names), np.array(right, bool), np.array(right, float), {}
        )

    base, candidate = answers([0, 1, 1, 1]), answers([1, 1, 0], ids[:3])
    accuracy, f1 = paired(asked, base, candidate)
    assert accuracy.ids == f1.ids == ids[:3]
    assert accuracy.base.tolist() == [0, 1, 1]
    assert accuracy.candidate.tolist() == [1, 1, 0]
    found = flips(asked, base, candidate)
    assert [(flip.id, flip.lost) for flip in found] == [(ids[2], True), (ids[0], False)]


TEMPLATE = "{% for turn in messages %}<s>{{ turn.content }}</s>{% endfor %}"


def folder(path, template=None, bos=True):
    """One tiny model, with a tokenizer that has a chat template or not, prepends <s> or not."""
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template, tokenizer.add_bos_token = template, bos
    tokenizer.save_pretrained(tiny.checkpoint(path, with_tokenizer=False))
    return str(path)


def test_a_model_that_lost_its_chat_template_is_not_taken_for_a_worse_one_without_a_word(tmp_path):
    chatty, plain = folder(tmp_path / "chatty", TEMPLATE), folder(tmp_path / "plain")
    sets = (question_set("closed_book", 1),)
    settings = Settings(open_text("embedded_text"), 128, 64, sets, speed=False)
    said = (
        f"closed_book: {chatty} was asked in its chat template, and {plain}, whose tokenizer has "
        "none, in plain text"
    )
    (pair,) = compare(chatty, [plain], settings).pairs
    assert pair.facts.notes == (said,)
    assert said in gate(plain, chatty, settings).notes


def test_other_templates_and_other_special_tokens_are_told(tmp_path):
    asked = question_set("closed_book", 1)
    one = open_subject(folder(tmp_path / "one", TEMPLATE))
    two = open_subject(folder(tmp_path / "two", TEMPLATE.replace("</s>", "")))
    assert "chat templates put the same question differently" in asked_unlike(one, two, asked)
    plain = open_subject(folder(tmp_path / "plain"))
    bare = open_subject(folder(tmp_path / "bare", bos=False))
    assert "other special tokens" in asked_unlike(plain, bare, asked)
    assert asked_unlike(plain, plain, asked) == asked_unlike(one, one, asked) == ""
