"""What a reader is shown of the questions and the text that a model saw."""

import torch

from benchsuite.embedded import tasks, tokenizer
from benchsuite.evaluation import forms, shown
from benchsuite.evaluation.perplexity import chunk_names, chunked


def test_each_question_stands_as_it_is_put_with_its_right_answer():
    items = tasks.items("four_choices", "test")[:5]
    examples = tasks.items("four_choices", "train")[:2]
    found = shown.questions(items, examples=examples, form="letters")
    for item in items:
        one = found["questions"][item.id]
        whole = forms.asked(item, examples=examples, form="letters")
        assert found["examples"] + one["prompt"] == whole
        assert one["options"][item.answer] == one["gold"] == item.choices[item.answer]
    assert shown.questions(items)["examples"] == ""


def test_a_chat_is_told_turn_by_turn():
    items = tasks.items("word_problems", "test")[:2]
    found = shown.questions(items, examples=items[1:], chat=True)
    assert found["examples"].startswith("[user]\n")
    assert "[assistant]\n" in found["examples"]
    assert found["questions"][items[0].id]["prompt"].startswith(f"[user]\n{items[0].question}")
    assert found["questions"][items[0].id]["gold"] == items[0].answer


def test_an_unanswerable_question_says_so():
    items = tasks.items("passages", "test")
    found = shown.questions(items)["questions"]
    none = next(item for item in items if not item.answerable)
    some = next(item for item in items if item.answerable)
    assert found[none.id]["gold"] == "(no answer)"
    assert found[some.id]["gold"].split(" | ") == list(some.aliases)


def test_chunks_are_named_as_perplexity_names_them_and_begin_with_their_text():
    words = tokenizer.load()
    text = " ".join(f"the {n} doors of the inn were red" for n in range(200))
    ids = torch.tensor(words.encode(text))
    found = shown.beginnings(ids, words, 64)
    assert list(found) == list(chunk_names(chunked(ids, 64, None)))
    assert text.startswith(next(iter(found.values())).removeprefix("<s>"))
    assert all(len(words.encode(head)) <= shown.BEGINNING + 2 for head in found.values())
