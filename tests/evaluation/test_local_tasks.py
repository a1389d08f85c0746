import pytest

from benchsuite.embedded import tasks as embedded_tasks
from benchsuite.evaluation import closed_book_choices, four_choices, passage_pairs


@pytest.fixture(scope="module")
def closed_book():
    return embedded_tasks.items("closed_book", "test")[:300]


@pytest.fixture(scope="module")
def passages():
    return embedded_tasks.items("passages", "test")[:300]


def test_four_choices_keep_the_items_answers():
    items = embedded_tasks.items("four_choices", "test")[:50]
    for doc, item in zip(four_choices(items).docs, items, strict=True):
        assert doc.choices[doc.answer] == f" {item.choices[item.answer]}"
        assert doc.query.endswith(f"Question: {item.question}\nAnswer:")


def test_closed_book_candidates_are_of_one_kind_and_one_is_right(closed_book):
    questions = {item.id: item for item in closed_book}
    docs = closed_book_choices(closed_book).docs
    assert len(docs) == len(closed_book)
    for doc in docs:
        item = questions[doc.id]
        right = [i for i, choice in enumerate(doc.choices) if choice[1:] in item.aliases]
        assert right == [doc.answer]
        assert len(set(doc.choices)) == 4
        # all years, or none
        assert len({choice.strip().isdigit() for choice in doc.choices}) == 1


def test_passage_candidates_both_stand_in_the_passage(passages):
    questions = {item.id: item for item in passages}
    docs = passage_pairs(passages).docs
    assert len(docs) > 50
    for doc in docs:
        item = questions[doc.id]
        assert len(doc.choices) == 2
        assert all(choice[1:] in item.context for choice in doc.choices)
        assert [choice[1:] in item.aliases for choice in doc.choices].index(True) == doc.answer
        assert sum(choice[1:] in item.aliases for choice in doc.choices) == 1


def test_asked_again_the_tasks_are_the_same(closed_book, passages):
    assert closed_book_choices(closed_book) == closed_book_choices(closed_book)
    assert passage_pairs(passages) == passage_pairs(passages)
