import pytest

from benchsuite.embedded import tasks as embedded_tasks
from benchsuite.evaluation import (
    closed_book_choices,
    continuations,
    four_choices,
    passage_pairs,
)

DOCUMENTS = [" ".join(f"w{d}_{i}" for i in range(80)) for d in range(6)] + ["too short"]


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


def test_continuations_follow_their_context_and_the_others_come_from_elsewhere():
    task = continuations(DOCUMENTS, n=40, context_words=10, words=5, seed=1)
    assert len(task.docs) == 40
    for doc in task.docs:
        own = next(text for text in DOCUMENTS if doc.query in text)
        assert doc.query + doc.choices[doc.answer] in own
        assert sum(choice.strip() in own for choice in doc.choices) == 1
        assert {len(choice.split()) for choice in doc.choices} == {5}
    assert len({doc.answer for doc in task.docs}) == 4


def test_too_few_documents_give_no_continuations():
    assert continuations(DOCUMENTS[:3], n=5).docs == ()


def test_the_seed_alone_decides(closed_book, passages):
    assert closed_book_choices(closed_book) == closed_book_choices(closed_book)
    assert closed_book_choices(closed_book) != closed_book_choices(closed_book, seed=1)
    assert passage_pairs(passages) == passage_pairs(passages)
    assert continuations(DOCUMENTS, n=9) == continuations(DOCUMENTS, n=9)
