"""How questions are put, which of them fit, and that scored options are lm-eval's own numbers."""

import copy

import numpy as np
import pytest

from benchsuite.embedded import prompts, tasks
from benchsuite.embedded.schema import Choice, Problem, Question
from benchsuite.errors import UsageError
from benchsuite.evaluation import arc, downstream, forms, maths, squad
from benchsuite.evaluation.fitting import context_of
from tests.evaluation import embedded_model
from tests.evaluation.test_chat import CHATML, MARKS, with_template
from tests.models import tiny

RIVER = Choice("r", "Which is a river?", ("Elbe", "Café", "the Alps", "Rome"), 0)
CITY = Choice("c", "Which is a city?", ("Elbe", "tea", "the Alps", "Rome"), 3)
SUM = Problem("s", "Two and two?", ("2 + 2 = 4",), "4")
PASSAGE = Question("p", "What did it carry?", ("tea",), context="The Owl carried tea.")


def test_worked_examples_are_turns_in_a_chat():
    turns = forms.asked(RIVER, examples=[CITY], chat=True)
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert turns[1]["content"] == "D"
    assert turns[2]["content"] == (
        "Question: Which is a river?\nChoices:\nA. Elbe\nB. Café\nC. the Alps\nD. Rome\n\n"
        "Answer with the letter of the right choice alone."
    )
    user, assistant, asked = forms.asked(SUM, examples=[SUM], chat=True)
    assert assistant["content"] == "2 + 2 = 4\nThe answer is: 4"
    assert maths.final_number(assistant["content"]) == 4
    assert asked == user
    _, said, _ = forms.asked(PASSAGE, examples=[Question("u", "Who?", (), "x", False)], chat=True)
    assert squad.prediction(said["content"]) == ""


def test_a_plain_prompt_is_the_one_it_was():
    for form in ("letters", "full", "listed"):
        assert forms.asked(RIVER, examples=[CITY], form=form) == prompts.prompt(
            RIVER, examples=[CITY], form=form
        )
    for item in (SUM, PASSAGE):
        assert forms.asked(item, examples=[item]) == prompts.prompt(item, examples=[item])


# --- lm-eval

TEXTS = {  # lm-eval's own: arc_easy, mmlu, hellaswag
    "likelihood": ("Question: {{question}}\nAnswer:", "{{choices}}"),
    "options": (
        "{{question.strip()}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\n"
        "D. {{choices[3]}}\nAnswer:",
        ["A", "B", "C", "D"],
    ),
    "continuation": ("{{question}}", "{{choices}}"),
}


def lm_eval_samples(model, tokenizer, items, form, chat=False):
    """lm-eval's sample of each item, by its own task of that form."""
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    def dataset(**_):
        from datasets import Dataset

        rows = [{"question": i.question, "choices": [*i.choices], "gold": i.answer} for i in items]
        return {"test": Dataset.from_list(rows)}

    text, choices = TEXTS[form]
    task = {
        "task": form,
        "custom_dataset": dataset,
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": text,
        "doc_to_choice": choices,
        "doc_to_target": "gold",
        "num_fewshot": 0,
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": True}
            for name in ("acc", "acc_norm")
        ],
    }
    with downstream._undisturbed(model):
        lm = HFLM(pretrained=model, tokenizer=copy.deepcopy(tokenizer), batch_size=8)
        loaded = TaskManager(include_defaults=False).load([task])
        found = evaluate(
            lm=lm, task_dict=loaded, bootstrap_iters=0, log_samples=True, apply_chat_template=chat
        )
    return sorted(found["samples"][form], key=lambda sample: sample["doc_id"])


@pytest.mark.parametrize("form", TEXTS)
def test_scored_options_are_lm_eval_s_item_by_item(form):
    pytest.importorskip("lm_eval", reason="needs the extra downstream")
    model, tokenizer = embedded_model.load()
    items = [*tasks.items("four_choices", "test")[:39], RIVER]
    samples = lm_eval_samples(model, tokenizer, items, form)
    ours = arc.evaluate(model, tokenizer, items, form=form, batch_size=16)
    theirs = [[float(ll) for ll, _ in sample["filtered_resps"]] for sample in samples]
    np.testing.assert_allclose(ours.log_likelihoods, theirs, atol=1e-4)
    assert ours.correct.tolist() == [bool(sample["acc"]) for sample in samples]
    assert ours.accuracy == pytest.approx(100 * np.mean([s["acc"] for s in samples]))
    assert ours.parse_rate == 100
    if form != "options":
        right = ours.predictions_norm == [item.answer for item in items]
        assert right.tolist() == [bool(sample["acc_norm"]) for sample in samples]
        assert ours.accuracy_norm == pytest.approx(100 * np.mean([s["acc_norm"] for s in samples]))
    if form == "likelihood":  # or the two accuracies would be tested once
        assert ours.predictions.tolist() != ours.predictions_norm.tolist()


def test_scored_options_in_a_chat_are_lm_eval_s_but_for_the_template_s_line_break():
    pytest.importorskip("lm_eval", reason="needs the extra downstream")
    model, tokenizer = tiny.model(), with_template(CHATML, bos=MARKS[0], more=MARKS)
    items = [RIVER, CITY]
    samples = lm_eval_samples(model, tokenizer, items, "likelihood", chat=True)
    ours = arc.evaluate(model, tokenizer, items, form="likelihood", chat=True)
    theirs = np.array([[float(ll) for ll, _ in sample["filtered_resps"]] for sample in samples])
    line_break = theirs - ours.log_likelihoods  # [items, options], the same for every option
    np.testing.assert_allclose(line_break, line_break[:, :1].repeat(4, 1), atol=1e-4)
    assert ours.correct.tolist() == [bool(sample["acc"]) for sample in samples]


# --- what does not fit


def long(item, model):
    return Choice("long", "why " * context_of(model), item.choices, item.answer)


@pytest.mark.parametrize("form", ["letters", "likelihood"])
def test_a_question_beyond_the_context_is_left_out_with_its_reason(form):
    model, tokenizer = embedded_model.load()
    items = [*tasks.items("four_choices", "test")[:20]]
    with_long = [*items[:7], long(items[0], model), *items[7:]]
    whole = arc.evaluate(model, tokenizer, items, form=form)
    found = arc.evaluate(model, tokenizer, with_long, form=form)
    assert found.predictions.tolist() == whole.predictions.tolist()
    assert found.ids == whole.ids
    assert (found.n, found.accuracy) == (20, whole.accuracy)
    assert set(found.left_out) == {"long"}
    assert f"the model's context of {context_of(model)}" in found.left_out["long"]
    with pytest.raises(UsageError, match=r"1 of 21 questions do not fit, more than 4 %: long has"):
        arc.evaluate(model, tokenizer, with_long, form=form, most_left_out=4)


def test_no_score_is_made_of_no_question():
    model, tokenizer = embedded_model.load()
    with pytest.raises(UsageError, match="1 of 1 questions do not fit"):
        arc.evaluate(model, tokenizer, [long(RIVER, model)], most_left_out=100)


def test_problems_and_passages_are_left_out_alike():
    model, tokenizer = embedded_model.load()
    far = "why " * context_of(model)
    problems = [Problem("far", far, (), "1"), *tasks.items("word_problems", "test")[:2]]
    passages = [Question("far", far, ("x",)), *tasks.items("passages", "test")[:2]]
    options = {"max_new_tokens": 4, "most_left_out": 40}
    for room, items in ((maths, problems), (squad, passages)):
        found = room.evaluate(model, tokenizer, items, **options)
        assert found.ids == tuple(item.id for item in items[1:])
        assert list(found.left_out) == ["far"]
