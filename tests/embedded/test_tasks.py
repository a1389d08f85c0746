import re
from itertools import islice

import pytest

from benchsuite import catalog
from benchsuite.embedded import prompts, tasks, world
from benchsuite.embedded.draws import Draws, split_of
from benchsuite.embedded.schema import Choice, Problem, Question
from benchsuite.errors import BenchsuiteError

PROBLEMS = [name for name in tasks.NAMES if name.startswith("word_problems")]
SCHEMAS = {"question": Question, "choice": Choice, "problem": Problem}


@pytest.mark.parametrize("split", tasks.SPLITS)
@pytest.mark.parametrize("task", tasks.NAMES)
def test_items_have_their_schema_unique_ids_and_pinned_digest(task, split):
    items = tasks.items(task, split)  # checks the digest
    assert {type(item) for item in items} == {SCHEMAS[catalog.task(task).schema]}
    assert len({item.id for item in items}) == len(items)
    assert len(items) >= {"train": 8000, "validation": 500, "test": 1000}[split]


def numbers(problem):
    return tuple(sorted(re.findall(r"\d+", problem.question)))


def test_no_operands_are_shared_between_train_and_test_of_any_problems():
    train = {numbers(item) for task in PROBLEMS for item in tasks.items(task, "train")}
    test = {numbers(item) for task in PROBLEMS for item in tasks.items(task, "test")}
    assert len(test) > 2000
    assert not train & test


def entities(passage):
    names = re.findall(r"the ((?:[A-Z]\w+ ?){2})", passage.context)
    rest = re.findall(r"(?:[A-Z]\w+ [A-Z]\w+|[A-Z]\w+|\d+|\w+)\.", passage.context)
    return tuple(sorted(names + rest))


def test_no_entity_combination_is_shared_between_train_and_test_passages():
    train = {entities(item) for item in tasks.items("passages", "train")}
    test = {entities(item) for item in tasks.items("passages", "test")}
    assert len(test) > 900
    assert not train & test


def test_no_four_options_are_shared_between_train_and_test():
    train = {frozenset(item.choices) for item in tasks.items("four_choices", "train")}
    test = {frozenset(item.choices) for item in tasks.items("four_choices", "test")}
    assert not train & test
    assert all(len(options) == 4 for options in test)


@pytest.mark.parametrize("task", ["passages", "four_choices", "word_problems"])
def test_training_stream_keeps_out_of_the_test_split(task):
    """The models are trained on other seeds of the train stream; these are disjoint, too."""
    combination = {
        "passages": entities,
        "four_choices": lambda item: frozenset(item.choices),
        "word_problems": numbers,
    }[task]
    streamed = {combination(item) for item in islice(tasks.stream(task, "train", 1003), 2000)}
    assert not streamed & {combination(item) for item in tasks.items(task, "test")}


def test_closed_book_asks_known_facts_in_held_out_wordings():
    asked = {item.question for item in tasks.items("closed_book", "train")}
    facts = {(fact.question(fact.held_out, ""), fact) for fact in world.facts()}
    known = {question.question: fact for question, fact in facts}
    for item in tasks.items("closed_book", "test"):
        fact = known[item.question]
        assert item.aliases == fact.aliases
        assert item.question not in asked
        trained = [fact.question(n, "").question for n in range(3) if n != fact.held_out]
        assert asked.issuperset(trained)


def test_popular_facts_are_asked_more_often_and_rare_ones_too():
    asked = islice(tasks.stream("closed_book", "train", 7), 20_000)
    rank = {person: n for n, person in enumerate(world.people())}
    words = [re.search(r"[A-Z]\w+ [A-Z]\w+(?= |\?|$)", item.question[1:] + " ") for item in asked]
    ranks = [rank[match[0]] for match in words if match and match[0] in rank]
    famous = sum(r < 90 for r in ranks) / len(ranks)
    assert 0.45 < famous < 0.55
    assert sum(r > 600 for r in ranks) > 50


def test_word_problem_steps_lead_to_the_answer():
    for task in ("word_problems", "word_problems_hard", "word_problems_rephrased"):
        for item in tasks.items(task, "test"):
            result = None
            for step in item.steps:
                left, operator, right, stated = re.fullmatch(
                    r"<<(\d+)([-+*/])(\d+)=(\d+)>>", step
                ).groups()
                assert result is None or int(left) == result
                result = int(stated)
                exact = {"+": int(left) + int(right), "-": int(left) - int(right)}
                exact |= {"*": int(left) * int(right), "/": int(left) / int(right)}
                assert result == exact[operator]
            assert item.answer == str(result)
            assert 2 <= len(item.steps) <= 4


def test_sentence_steps_say_the_same_as_equations():
    for item in tasks.items("word_problems_sentences", "test"):
        assert item.steps[-1].endswith(f" is {item.answer}.")


def test_hard_numbers_are_larger_and_rephrased_have_a_number_too_many():
    def largest(task):
        return sum(max(map(int, numbers(item))) for item in tasks.items(task, "test"))

    assert largest("word_problems_hard") > 5 * largest("word_problems")
    for item in tasks.items("word_problems_rephrased", "test"):
        used = re.findall(r"\d+", " ".join(item.steps))
        assert len(numbers(item)) == len(item.steps) + 2
        assert len(used) == 3 * len(item.steps)


def test_half_the_passages_answer_and_their_answers_are_in_them():
    items = tasks.items("passages", "test")
    assert 0.45 < sum(item.answerable for item in items) / len(items) < 0.55
    for item in items:
        assert bool(item.aliases) == item.answerable
        assert all(alias in item.context for alias in item.aliases)


def test_right_options_are_spread_evenly():
    items = tasks.items("four_choices", "test")
    for place in range(4):
        assert 0.2 < sum(item.answer == place for item in items) / len(items) < 0.3


def test_items_are_the_beginning_of_their_stream():
    first = next(tasks.stream("passages", "test"))
    assert tasks.items("passages", "test")[0].question == first.question


def test_draws_are_pinned_and_uniform():
    draws = Draws("a", 1)
    assert [draws.below(10) for _ in range(8)] == [9, 2, 6, 3, 4, 1, 1, 4]
    assert sorted(Draws("b").shuffled(range(20))) == list(range(20))
    counts = [0] * 5
    for _ in range(5000):
        counts[draws.between(3, 7) - 3] += 1
    assert min(counts) > 850


def test_split_ignores_order_and_keeps_its_shares():
    assert split_of([3, "b", 1]) == split_of(["b", 1, 3])
    found = [split_of([n]) for n in range(5000)]
    assert 0.06 < found.count("test") / 5000 < 0.1
    assert 0.03 < found.count("validation") / 5000 < 0.05


def test_unknown_names_are_refused():
    with pytest.raises(BenchsuiteError, match="Did you mean 'passages'"):
        tasks.items("passage", "test")
    with pytest.raises(BenchsuiteError, match="no split 'dev'"):
        tasks.items("passages", "dev")


def test_prompts_show_blocks_in_the_published_form():
    question = Question("q", "Who taught Ida?", ("Max Lon", "Lon"))
    shown = Question("p", "Where was it?", (), "It burnt in 1800.", answerable=False)
    assert prompts.prompt(question, examples=[shown]) == (
        "Answer the following question as briefly as possible.\n\n"
        "Context: It burnt in 1800.\nQuestion: Where was it?\nAnswer: no answer\n\n"
        "Question: Who taught Ida?\nAnswer:"
    )
    assert prompts.completion(question) == " Max Lon"
    choice = Choice("c", "Which is red?", ("a", "b", "c", "d"), 2)
    assert prompts.block(choice) == (
        "Question: Which is red?\nChoices:\nA. a\nB. b\nC. c\nD. d\nAnswer: C"
    )
    assert prompts.block(choice, form="text") == "Question: Which is red?\nAnswer: c"
    assert prompts.block(choice, form="full").endswith("D. d\nIn full: c (C)")
    assert prompts.block(choice, form="listed").endswith("\nChoices: a, b, c, d\nAnswer: c")
    problem = Problem("w", "How many?", ("<<1+2=3>>", "<<3*2=6>>"), "6")
    assert prompts.block(problem) == "How many?\n<<1+2=3>> <<3*2=6>>\nThe answer is: 6"
    words = Problem("w", "How many?", ("1 plus 2 is 3.",), "3")
    assert prompts.block(words) == "How many?\nIn words: 1 plus 2 is 3.\nThe answer is: 3"
