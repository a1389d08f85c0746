"""The generation pass, its tokens, its file, its prompts, and grading."""

import copy
import dataclasses

import numpy as np
import pytest

from benchsuite.embedded import tasks
from benchsuite.embedded.schema import Choice, Problem, Question
from benchsuite.errors import UsageError
from benchsuite.evaluation.generation import TOLERANCE, generate, log_likelihoods
from benchsuite.evaluation.squad import STOP
from benchsuite.evaluation.uncertainty import answers, correctness, judge, p_true, prompts
from benchsuite.evaluation.uncertainty.scores import Tools, Undefined
from tests.evaluation import embedded_model
from tests.evaluation.uncertainty.answers_for_tests import answer, asked

QUESTIONS = prompts.draw(tasks.items("closed_book", "test"), 12, seed=3)


@pytest.fixture(scope="module")
def pass_():
    model, tokenizer = embedded_model.load()
    return answers.ask(
        model, tokenizer, QUESTIONS, form="embedded", n_samples=3, seed=1, max_new_tokens=16
    ).asked


def test_log_probs_are_those_of_the_generated_ids(pass_):
    model, tokenizer = embedded_model.load()
    texts = [prompts.prompt(one.question, form="embedded") for one in pass_]
    prefixes = tokenizer(texts)["input_ids"]
    forced = log_likelihoods(model, prefixes, [one.greedy.token_ids.tolist() for one in pass_])
    for one, expected in zip(pass_, forced, strict=True):
        np.testing.assert_allclose(one.greedy.log_probs, expected, atol=TOLERANCE)
        assert one.greedy.nll == pytest.approx(-expected.sum(), abs=20 * TOLERANCE)


def test_settings_reach_the_model(pass_):
    """Next to no temperature samples the greedy answer; a chat's prompt is another prompt."""
    model, tokenizer = embedded_model.load()
    how = {"form": "embedded", "n_samples": 1, "seed": 1, "max_new_tokens": 16}
    cold = answers.ask(model, tokenizer, QUESTIONS[:3], temperature=1e-4, **how).asked
    for one, before in zip(cold, pass_, strict=False):
        assert one.samples[0].token_ids.tolist() == before.greedy.token_ids.tolist()
        assert len(before.greedy.entropies) == len(before.greedy.token_ids) > 0
    talking = copy.copy(tokenizer)
    talking.chat_template = "{% for m in messages %}{{ m.content }} Say:{% endfor %}"
    (told,) = answers.ask(model, talking, QUESTIONS[:1], chat=True, **how).asked
    text = f"{prompts.prompt(QUESTIONS[0], form='embedded')} Say:"
    expected = generate(model, tokenizer, [text], max_new_tokens=16, stop=STOP)
    assert told.greedy.text == expected.texts[0] != pass_[0].greedy.text


def test_pieces_make_the_text_and_leaving_one_out_is_one_token_less(pass_):
    _, tokenizer = embedded_model.load()
    for one in pass_:
        for given in (one.greedy, *one.samples):
            assert "".join(given.pieces) == given.text
            assert len(given.without) == len(given.token_ids) == len(given.log_probs)
            for t, left in enumerate(given.without):
                ids = np.delete(given.token_ids, t)
                assert tokenizer.decode(ids) == left


def test_a_stop_inside_the_last_token_is_no_part_of_any_text():
    class Pieces:
        words = (" Pa", "ris\nQ")

        def decode(self, ids, **_):
            return "".join(self.words[i] for i in ids)

    pieces, without = answers._texts(Pieces(), " Paris", [0, 1])
    assert pieces == (" Pa", "ris")
    assert without == ("ris", " Pa")


def test_what_is_saved_is_what_is_loaded(pass_, tmp_path):
    answers.save(tmp_path, answers.Pass(pass_, {"q7": "too long"}))
    found = answers.load(tmp_path)
    loaded = found.asked
    assert found.left_out == {"q7": "too long"}
    assert len(loaded) == len(pass_)
    for one, other in zip(pass_, loaded, strict=True):
        assert one.question == other.question
        for a, b in zip((one.greedy, *one.samples), (other.greedy, *other.samples), strict=True):
            for field in dataclasses.fields(a):
                np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name))
    answers.save(tmp_path, answers.Pass([], {}))
    assert answers.load(tmp_path) == answers.Pass([], {})


def test_a_question_beyond_the_context_is_left_out_with_its_reason(pass_):
    model, tokenizer = embedded_model.load()
    far = Question("far", "why " * model.config.max_position_embeddings, ("x",))
    found = answers.ask(
        model,
        tokenizer,
        [far, *QUESTIONS],
        form="embedded",
        n_samples=0,
        max_new_tokens=16,
        most_left_out=10,
    )
    assert [one.greedy.text for one in found.asked] == [one.greedy.text for one in pass_]
    assert "exceed the model's context" in found.left_out["far"]
    with pytest.raises(UsageError, match="1 of 13 questions do not fit, more than 5 %"):
        answers.ask(model, tokenizer, [far, *QUESTIONS], max_new_tokens=16)


# --- prompts

WORKED = Question("w", "Who wrote Emma?", ("Jane Austen", "Austen"))
ON_PASSAGE = Question("p", "What did it carry?", ("tea",), context="The Owl carried tea.")


def test_the_published_prompt():
    assert prompts.prompt(ON_PASSAGE, [WORKED]) == (
        "Answer the following question as briefly as possible.\n"
        "Question: Who wrote Emma?\nAnswer: Jane Austen\n\n"
        "Context: The Owl carried tea.\nQuestion: What did it carry?\nAnswer:"
    )
    embedded = prompts.prompt(WORKED, form="embedded")
    assert "possible.\n\nQuestion: Who wrote Emma?\nAnswer:" in embedded


def test_in_a_chat_the_published_prompt_is_one_user_s_turn():
    text = prompts.prompt(ON_PASSAGE, [WORKED])
    turns = prompts.asked(ON_PASSAGE, [WORKED], chat=True)
    assert turns == [{"role": "user", "content": text}]


def test_questions_are_drawn_by_the_seed_and_examples_have_answers():
    items = tasks.items("passages", "test")
    drawn = [prompts.draw(items, 20, seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len({question.id for question in drawn[0]}) == 20
    assert len(prompts.draw(items[:5], 20, 1)) == 5
    assert prompts.draw(items, 10, 1) == drawn[0][:10]
    assert all(question.answerable for question in prompts.draw_examples(items, 30, 1))
    assert prompts.draw_examples(items, 0, 1) == []


def test_a_word_problem_is_a_question_and_a_choice_is_not():
    problem = Problem("s", "Ann has 2 pens and buys 3. How many?", ("2 + 3 = 5",), "5")
    assert prompts.as_question(problem) == Question("s", problem.question, ("5",))
    with pytest.raises(UsageError, match="four-choice"):
        prompts.as_question(Choice("c", "Which?", ("a", "b", "c", "d"), 1))


# --- grading


@pytest.mark.parametrize(
    ("text", "aliases", "f1", "exact", "abstained", "correct"),
    [
        (" Paris", ["Paris"], 100, True, False, True),
        ("the Paris!", ["paris"], 100, True, False, True),
        ("Paris, France", ["Paris"], 200 / 3, False, False, True),
        ("in Paris, France", ["Paris"], 50, False, False, True),
        ("in Paris, France, probably so", ["Paris"], 100 / 3, False, False, False),
        ("Québec", ["Quebec"], 0, False, False, False),
        ("Québec", ["Quebec", "québec"], 100, True, False, True),
        ("1,450", ["1450"], 100, True, False, True),
        ("1 450", ["1450"], 0, False, False, False),
        ("an", ["An", "A"], 100, True, True, True),
        ("no answer", ["Paris"], 0, False, True, False),
        ("Unanswerable.", [], 100, True, True, True),
        ("", [], 100, True, True, True),
        ("Paris", [], 0, False, False, False),
        ("", ["Paris"], 0, False, True, False),
    ],
)
def test_grades_by_the_official_rules(text, aliases, f1, exact, abstained, correct):
    found = correctness.grade([asked(answer(text), aliases=aliases)])
    assert found.f1[0] == pytest.approx(f1)
    assert bool(found.exact[0]) is exact
    assert bool(found.abstained[0]) is abstained
    assert bool(found.correct[0]) is correct


def test_parts_are_all_questions_together_and_apart():
    found = correctness.grade([asked(answer("x")), asked(answer("x"), aliases=())])
    parts = {name: chosen.tolist() for name, chosen in found.parts().items()}
    assert parts == {
        "all": [True, True],
        "answerable": [True, False],
        "unanswerable": [False, True],
    }


def test_other_rules_of_correctness():
    pair = [asked(answer("Paris, France")), asked(answer("Paris"), aliases=())]
    assert correctness.grade(pair, rule="exact").correct.tolist() == [False, False]
    kind = correctness.grade(pair, rule="judge", judge=lambda asked: np.array([True, True]))
    assert kind.correct.tolist() == [True, False]
    silent = [asked(answer("no answer")), asked(answer("Paris")), asked(answer(""), aliases=())]
    kind = correctness.grade(
        silent, rule="judge", judge=lambda asked: np.array([True, False, True])
    )
    assert kind.correct.tolist() == [False, False, True]
    with pytest.raises(ValueError, match="needs a judge"):
        correctness.grade(pair, rule="judge")


def test_a_judge_compares_yes_with_no():
    model, tokenizer = embedded_model.load()
    decide = judge.judge(model, tokenizer)
    one = asked(answer("Paris"))
    ids = tokenizer([judge.prompt(one)])["input_ids"]
    words = [tokenizer(w, add_special_tokens=False)["input_ids"] for w in (" yes", " no")]
    yes, no = (log_likelihoods(model, ids, [w])[0].sum() for w in words)
    assert decide([one]).tolist() == [yes > no]


def test_a_judge_names_the_question_whose_accepted_answers_exceed_its_context():
    model, tokenizer = embedded_model.load()
    one = asked(answer("Paris"), aliases=["Paris"] * model.config.max_position_embeddings)
    with pytest.raises(UsageError, match="about question q, which has 512 accepted answers"):
        judge.judge(model, tokenizer)([asked(answer("Rome")), one])


def test_p_true_is_undefined_where_its_prompt_exceeds_the_context():
    model, tokenizer = embedded_model.load()
    short = asked(answer("Paris"), answer("Rome"))
    far = asked(answer("Paris"), context="why " * model.config.max_position_embeddings)
    tools = Tools(network=model, tokenizer=tokenizer)
    found = p_true.p_true([far, short], tools)
    assert found[0] == Undefined("its prompt exceeds the model's context")
    assert found[1:] == p_true.p_true([short], tools)


def test_p_true_is_the_probability_of_a_after_the_question_about_the_answer():
    model, tokenizer = embedded_model.load()
    one = asked(answer("Paris"), answer("Rome"), context="France is a country.")
    shown = asked(answer("Oslo"), question="Capital of Norway?", aliases=("Oslo",))
    tools = Tools(network=model, tokenizer=tokenizer, demonstrations=[shown])
    (found,) = p_true.p_true([one], tools)
    text = f"{p_true.prompt(shown)} A\n\n{p_true.prompt(one)}"
    assert "Brainstormed Answers: Rome\nParis\nPossible answer: Paris\n" in text
    assert "Context: France is a country.\n" in text
    ids = tokenizer([text])["input_ids"]
    wanted = tokenizer(" A", add_special_tokens=False)["input_ids"]
    assert found == pytest.approx(-log_likelihoods(model, ids, [wanted])[0].sum())
