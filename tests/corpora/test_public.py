"""The public sets' layouts, in small files made here: columns and nesting as on the hub."""

import json

import pyarrow
import pytest
from pyarrow import parquet

from benchsuite import catalog
from benchsuite.corpora import load_task, public, task_digest
from benchsuite.corpora.tasks import SCHEMAS
from benchsuite.embedded.schema import Choice, Problem, Question
from benchsuite.errors import BenchsuiteError, CellCannotRun
from tests.corpora.conftest import COMMIT, cached_set
from tests.corpora.local import at


def arc_row(name="Mercury_1", labels=("A", "B", "C", "D"), key="C", **changes):
    texts = ["air", "rock", "water", "fire", "ice"][: len(labels)]
    choices = {"text": texts, "label": list(labels)}
    return {"id": name, "question": "Which flows?", "choices": choices, "answerKey": key} | changes


def squad_row(*texts, **changes):
    answers = {"text": list(texts), "answer_start": [3] * len(texts)}
    return {
        "id": "56d",
        "title": "Owls",
        "context": "An owl sees.\nIt flies.",
        "question": " What does an owl do?",
        "answers": answers,
    } | changes


def trivia_row(value="Paris", aliases=("Paris", "City of Light"), **changes):
    answer = {
        "aliases": list(aliases),
        "normalized_aliases": [a.lower() for a in aliases],
        "matched_wiki_entity_name": "",
        "normalized_matched_wiki_entity_name": "",
        "normalized_value": value.lower(),
        "type": "WikipediaEntity",
        "value": value,
    }
    return {"question": "Where?", "question_id": "tc_2", "answer": answer} | changes


def nq_row(*texts):
    return {"question": "where is the louvre ", "answer": list(texts or ("Paris", "France"))}


def bioasq_row(text="<answer> BRCA1 <context> The gene BRCA1 was found in 1994."):
    return {"question": "Which gene?", "text": text}


def svamp_row(answer="145"):
    return {
        "ID": "chal-777",
        "Body": "There are 290 bananas in 2 groups.",
        "Question": "How big is each group?",
        "Equation": "( 290.0 / 2.0 )",
        "Answer": answer,
        "Type": "Common-Division",
        "question_concat": "There are 290 bananas in 2 groups. How big is each group?",
    }


def mmlu_row(answer=2, **changes):
    return {
        "question": "Which?",
        "subject": "virology",
        "choices": ["a", "b", "c", "d"],
        "answer": answer,
    } | changes


def hellaswag_row(label="1", **changes):
    return {
        "ind": 4,
        "activity_label": "Removing ice from car",
        "ctx_a": "Then, the man writes over the snow.",
        "ctx_b": "then",
        "ctx": "Then, the man writes over the snow. then",
        "endings": [" [title] Cut", "[step] he  goes [substeps] on.", "c", "d"],
        "source_id": "activitynet~v_1",
        "split": "val",
        "split_type": "indomain",
        "label": label,
    } | changes


def openmath_row(answer="12", problem="What is 3 * 4?"):
    return {
        "problem": problem,
        "generated_solution": "We multiply.\n\nSo \\boxed{12}.",
        "expected_answer": answer,
        "problem_source": "augmented_gsm8k",
    }


def gsm8k_row(answer="Half is 48/2 = <<48/2=24>>24.\nTogether 72.\n#### 72"):
    return {"question": "How many clips?", "answer": answer}


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def load(tmp_path, task, rows, split="test"):
    """The same rows as parquet in the hub's folders and as JSON lines give the same items."""
    entry = catalog.task(task)
    folder = tmp_path / "snapshot" / (entry.config or "data")
    write(folder / f"{split}-00000-of-00001.parquet", rows)
    write(tmp_path / "lines" / f"{split}.jsonl", rows)
    from_parquet = load_task(task, split, at(task, tmp_path / "snapshot"))
    from_lines = load_task(task, split, at(task, tmp_path / "lines"))
    assert from_parquet.items == from_lines.items
    assert from_parquet.digest == from_lines.digest
    assert from_parquet.source == "local"
    return from_parquet.items


@pytest.mark.parametrize("task", ["arc_challenge", "arc_easy"])
def test_arc(task, tmp_path):
    rows = [
        arc_row(),
        arc_row("NYSEDREGENTS_1", ("1", "2", "3", "4"), "2"),
        arc_row("three", ("A", "B", "C"), "A"),
        arc_row("five", ("A", "B", "C", "D", "E"), "E"),
    ]
    items = load(tmp_path, task, rows)

    assert items[0] == Choice("Mercury_1", "Which flows?", ("air", "rock", "water", "fire"), 2)
    assert [item.answer for item in items] == [2, 1, 0, 4]
    assert [len(item.choices) for item in items] == [4, 4, 3, 5]


def test_both_arcs_are_told_apart_in_onecached_set(tmp_path):
    write(tmp_path / "ARC-Easy" / "test-00000-of-00001.parquet", [arc_row("easy")])
    write(tmp_path / "ARC-Challenge" / "test-00000-of-00001.parquet", [arc_row("hard")])

    for name, expected in (("arc_easy", "easy"), ("arc_challenge", "hard")):
        items = load_task(name, "test", at(name, tmp_path)).items
        assert [item.id for item in items] == [expected]


def test_squad_v2(tmp_path):
    rows = [squad_row("sees", "flies", "sees"), squad_row()]
    items = load(tmp_path, "squad_v2", rows, "validation")

    context = "An owl sees.\nIt flies."
    assert items == (
        Question("56d", "What does an owl do?", ("sees", "flies"), context, answerable=True),
        Question("56d", "What does an owl do?", (), context, answerable=False),
    )


def test_trivia_qa_puts_the_preferred_answer_first(tmp_path):
    rows = [trivia_row("City of Light"), trivia_row("Rome", ())]
    items = load(tmp_path, "trivia_qa", rows, "validation")

    assert items[0] == Question("tc_2", "Where?", ("City of Light", "Paris"))
    assert items[1].aliases == ("Rome",)


def test_gsm8k(tmp_path):
    rows = [gsm8k_row(), gsm8k_row("So $1,450.50 in all\n#### $1,450.50"), gsm8k_row("#### -3")]
    items = load(tmp_path, "gsm8k", rows)

    steps = ("Half is 48/2 = 24.", "Together 72.")
    assert items[0] == Problem("gsm8k-test-00000", "How many clips?", steps, "72")
    assert [item.answer for item in items] == ["72", "1450.5", "-3"]
    assert [item.id[-1] for item in items] == ["0", "1", "2"]


def test_nq_and_bioasq(tmp_path):
    (first,) = load(tmp_path / "nq", "nq", [nq_row("Paris", "France", "Paris")], "validation")
    name = "nq-validation-00000"
    assert first == Question(name, "where is the louvre", ("Paris", "France"))
    (second,) = load(tmp_path / "bioasq", "bioasq", [bioasq_row()], "validation")
    assert second == Question("bioasq-validation-00000", "Which gene?", ("BRCA1",))


def test_mmlu_keeps_the_subject(tmp_path):
    (item,) = load(tmp_path, "mmlu", [mmlu_row()])
    assert item == Choice("mmlu-test-00000", "Which?", ("a", "b", "c", "d"), 2, "virology")


def test_hellaswag_is_asked_as_lm_eval_asks_it(tmp_path):
    utils = pytest.importorskip("lm_eval.tasks.hellaswag.utils")
    datasets = pytest.importorskip("datasets")
    rows = [hellaswag_row(), hellaswag_row("0", ctx_a="[header] How to [title] fly", ctx_b="")]
    items = load(tmp_path, "hellaswag", rows, "validation")

    theirs = utils.process_docs(datasets.Dataset.from_list(rows))
    for item, doc in zip(items, theirs, strict=True):
        asked = (item.question, list(item.choices), item.answer)
        assert asked == (doc["query"], doc["choices"], doc["gold"])


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        ("There are 3 owls", "There are 3 owls. How many?"),
        ("There are 3 owls.", "There are 3 owls. How many?"),
        ("Are there 3 owls?", "Are there 3 owls? How many?"),
    ],
)
def test_svamp_has_a_sentence_end_between_body_and_question(body, asked, tmp_path):
    (item,) = load(tmp_path, "svamp", [svamp_row() | {"Body": body, "Question": "How many?"}])
    assert item.question == asked


@pytest.mark.parametrize("answer", ["145", "145.0", 145.0])
def test_svamp(answer, tmp_path):
    (item,) = load(tmp_path, "svamp", [svamp_row(answer)])

    question = "There are 290 bananas in 2 groups. How big is each group?"
    assert item == Problem("chal-777", question, ("( 290.0 / 2.0 ) = 145",), "145")


def test_multi_arith_has_no_steps(tmp_path):
    row = {"question": " 7 girls and 5 boys. How many? ", "final_ans": "12"}
    (item,) = load(tmp_path, "multi_arith", [row])
    assert (item.question, item.steps, item.answer) == ("7 girls and 5 boys. How many?", (), "12")


def test_openmath_keeps_each_problem_once_and_numbers_alone(tmp_path):
    rows = [
        openmath_row(),
        openmath_row(problem="What is 3 * 4?"),
        openmath_row("\\frac{1}{2}", "Half?"),
        openmath_row("x+1", "Which formula?"),
        openmath_row("1,000.50", "How much?"),
        openmath_row("NaN", "What?"),
    ]
    items = load(tmp_path, "openmath", rows, "train")

    steps = ("We multiply.", "So \\boxed{12}.")
    assert items[0] == Problem("openmath-train-00000", "What is 3 * 4?", steps, "12")
    assert [(item.id[-5:], item.answer) for item in items] == [("00000", "12"), ("00004", "1000.5")]


@pytest.mark.parametrize(
    ("task", "row", "message"),
    [
        ("arc_easy", arc_row(key="F"), r"'answerKey' is 'F', none of the 4 labels"),
        (
            "arc_easy",
            arc_row(choices=["air", "rock"]),
            "'choices.text' is None, not a list of text",
        ),
        ("arc_easy", arc_row(question=None), "'question' is None, not a text"),
        (
            "squad_v2",
            squad_row(answers={"text": "x"}),
            "'answers.text' is 'x', not a list of texts",
        ),
        ("mmlu", mmlu_row(4), "'answer' is 4, not the place of one of the 4 options"),
        ("hellaswag", hellaswag_row(""), "the answers of the test split are withheld"),
        ("trivia_qa", trivia_row("<unk>", ()), "the answers of the test split are withheld"),
        ("nq", nq_row() | {"answer": "Paris"}, "'answer' is 'Paris', not a list of texts"),
        ("bioasq", bioasq_row("BRCA1"), "'text' is 'BRCA1'"),
        ("gsm8k", gsm8k_row("72"), r"'answer' ends in '72', not in '#### ' and a number"),
        ("gsm8k", gsm8k_row("#### many"), "'answer' ends in ' many'"),
        ("multi_arith", {"question": "q", "final_ans": "many"}, "'final_ans' is 'many'"),
        ("svamp", svamp_row("many"), "'Answer' is 'many', not a number"),
        ("openmath", openmath_row(answer=None), "'expected_answer' is None, not a text"),
    ],
)
def test_an_unexpected_value_names_row_file_and_columns(task, row, message, tmp_path):
    file = tmp_path / "test.jsonl"
    write(file, [row])

    with pytest.raises(BenchsuiteError, match=f"row 1: .*{message}") as caught:
        load_task(task, "test", at(task, tmp_path))

    assert str(file) in str(caught.value)
    assert "Expected the set's own columns" in str(caught.value)


@pytest.mark.parametrize("task", [name for name, e in catalog.TASKS.items() if not e.embedded])
@pytest.mark.parametrize("name", ["test.jsonl", "test.parquet"])
def test_unknown_columns_are_one_paragraph(task, name, tmp_path):
    write(tmp_path / name, [{"prompt": "x", "completion": "y"}])

    with pytest.raises(BenchsuiteError) as caught:
        load_task(task, "test", at(task, tmp_path))

    text = str(caught.value)
    assert "the columns 'prompt', 'completion'" in text
    assert all(repr(c) in text for c in public.ADAPTERS[catalog.task(task).hub_id].columns)
    assert str(tmp_path / name) in text
    assert "\n" not in text


def aug_row(answer="5"):
    return {"question": "How many?", "steps": ["<<2+2=4>>", "<<4+1=5>>"], "answer": answer}


def test_augmented_gsm8k_keeps_its_steps_and_leaves_out_answers_that_are_no_number(tmp_path):
    write(tmp_path / "train.jsonl", [aug_row(), aug_row("five"), aug_row("1,005")])
    items = load_task("gsm8k_aug", "train", at("gsm8k_aug", tmp_path)).items
    assert [item.answer for item in items] == ["5", "1005"]
    assert items[0].steps == ("<<2+2=4>>", "<<4+1=5>>")


def test_gsm_hard_answers_are_numbers_of_any_kind(tmp_path):
    write(tmp_path / "train.jsonl", [{"input": "How many?", "target": -1253.5}])
    (item,) = load_task("gsm_hard", "train", at("gsm_hard", tmp_path)).items
    assert (item.question, item.answer) == ("How many?", "-1253.5")


def test_every_public_task_has_an_adapter_of_its_schema(tmp_path):
    rows = {
        "arc_challenge": arc_row(),
        "arc_easy": arc_row(),
        "squad_v2": squad_row("x"),
        "trivia_qa": trivia_row(),
        "nq": nq_row(),
        "bioasq": bioasq_row(),
        "gsm8k": gsm8k_row(),
        "gsm_hard": {"input": "How many?", "code": "", "target": -1253.5},
        "gsm8k_aug": aug_row(),
        "gsm8k_aug_nl": aug_row(),
        "mmlu": mmlu_row(),
        "hellaswag": hellaswag_row(),
        "svamp": svamp_row(),
        "svamp_all": svamp_row(),
        "multi_arith": {"question": " There are 4 flowers. ", "final_ans": "4"},
        "openmath": openmath_row(),
    }
    assert rows.keys() == {name for name, entry in catalog.TASKS.items() if not entry.embedded}
    for name, row in rows.items():
        write(tmp_path / name / "train.jsonl", [row])
        (item,) = load_task(name, "train", at(name, tmp_path / name)).items
        assert type(item) is SCHEMAS[catalog.task(name).schema]


def test_a_cached_set_is_read_offline(cache):
    folder = cached_set(cache, "openai--gsm8k")
    write(folder / "main" / "test-00000-of-00001.parquet", [gsm8k_row()])
    write(folder / "socratic" / "test-00000-of-00001.parquet", [gsm8k_row(), gsm8k_row()])
    tasks = load_task("gsm8k", "test")

    assert len(tasks.items) == 1
    assert (tasks.source, tasks.revision) == ("hub", COMMIT)
    assert f"openai/gsm8k@{COMMIT}:main" in task_digest("gsm8k", "test")


def test_of_openmath_the_first_rows_of_one_shard_are_read(cache, monkeypatch):
    from benchsuite.corpora import hub

    part = hub.PARTS["nvidia/OpenMathInstruct-2"]
    assert part.rows == 20_000
    monkeypatch.setitem(hub.PARTS, "nvidia/OpenMathInstruct-2", hub.Part(part.patterns, rows=3))
    folder = cached_set(cache, "nvidia--OpenMathInstruct-2")
    write(folder / part.patterns["train"], [openmath_row("2", f"{i}?") for i in range(9)])
    write(folder / "data" / "train-00000-of-00032.parquet", [openmath_row("3", "other")])

    assert [item.question for item in load_task("openmath", "train").items] == ["0?", "1?", "2?"]


def test_offline_and_not_cached_says_what_to_do(cache):
    with pytest.raises(CellCannotRun, match=r"HF_HUB_OFFLINE.*--local squad_v2=PATH"):
        load_task("squad_v2", "validation")
