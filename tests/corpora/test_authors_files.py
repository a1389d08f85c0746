"""The files that the sets' authors published, in small ones made here with their nesting."""

import json

import pytest

from benchsuite.corpora import load_task, task_digest
from benchsuite.corpora.files import MissingSplit
from benchsuite.embedded.schema import Choice, Question
from benchsuite.errors import BenchsuiteError
from tests.corpora import test_public as hub
from tests.corpora.local import at


def load(name, where, split="test"):
    return load_task(name, split, at(name, where)).items


def write(path, document, lines=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in document) if lines else json.dumps(document)
    path.write_text(text)


@pytest.mark.parametrize("given", ["folder", "file"])
def test_svamp_is_one_array_of_all_its_problems(given, tmp_path):
    file = tmp_path / "SVAMP.json"
    file.write_text(json.dumps([hub.svamp_row(145.0), hub.svamp_row(3.0)], indent=4))
    where = tmp_path if given == "folder" else file

    assert [item.answer for item in load("svamp", where)] == ["145", "3"]
    assert load("svamp_all", where, "train+test") == load("svamp", where)
    with pytest.raises(MissingSplit):
        load("svamp", where, "train")


def test_all_of_svamp_is_the_hubs_two_splits(tmp_path):
    write(tmp_path / "test.json", [hub.svamp_row("1")])
    write(tmp_path / "train.json", [hub.svamp_row("2")])

    assert [item.answer for item in load("svamp", tmp_path)] == ["1"]
    assert [item.answer for item in load("svamp_all", tmp_path, "train+test")] == ["2", "1"]
    before = task_digest("svamp_all", "train+test", at("svamp_all", tmp_path))
    write(tmp_path / "train.json", [hub.svamp_row("3")])
    assert task_digest("svamp_all", "train+test", at("svamp_all", tmp_path)) != before


def test_half_of_svamp_is_not_all_of_it_unless_named(tmp_path):
    write(tmp_path / "test.json", [hub.svamp_row("1")])
    with pytest.raises(MissingSplit, match=r"no train\+test split .* 1 data files of test"):
        load("svamp_all", tmp_path, "train+test")
    assert len(load("svamp_all", tmp_path / "test.json", "train+test")) == 1


def squad_own(*, answers=("sees", "flies")):
    qas = [
        {
            "question": "What does an owl do?",
            "id": "56d",
            "answers": [{"text": text, "answer_start": 3} for text in answers],
            "is_impossible": False,
        },
        {
            "plausible_answers": [{"text": "night", "answer_start": 1}],
            "question": "When does it sleep?",
            "id": "57e",
            "answers": [],
            "is_impossible": True,
        },
    ]
    paragraphs = [{"qas": qas, "context": "An owl sees.\nIt flies."}]
    return {"version": "v2.0", "data": [{"title": "Owls", "paragraphs": paragraphs}] * 2}


@pytest.mark.parametrize("indent", [None, 1])
def test_squad_is_articles_of_paragraphs_of_questions(indent, tmp_path):
    (tmp_path / "dev-v2.0.json").write_text(json.dumps(squad_own(), indent=indent))
    items = load("squad_v2", tmp_path, "validation")

    context = "An owl sees.\nIt flies."
    assert len(items) == 4
    assert items[:2] == (
        Question("56d", "What does an owl do?", ("sees", "flies"), context, answerable=True),
        Question("57e", "When does it sleep?", (), context, answerable=False),
    )


def test_a_broken_article_names_its_row(tmp_path):
    document = squad_own()
    document["data"][1] = {"title": "Bees", "paragraphs": [{"context": "x", "qas": "none"}]}
    write(tmp_path / "dev-v2.0.json", document)
    message = "row 2: 'paragraphs.qas' is 'none', not a list of objects"
    with pytest.raises(BenchsuiteError, match=message):
        load("squad_v2", tmp_path, "validation")


def test_trivia_qa_keeps_its_rows_under_data(tmp_path):
    answer = {
        "Aliases": ["Paris", "City of Light"],
        "NormalizedAliases": ["paris"],
        "Value": "City of Light",
        "Type": "WikipediaEntity",
    }
    row = {"Answer": answer, "EntityPages": [], "Question": "Where?", "QuestionId": "tc_2"}
    document = {"Data": [row], "Domain": "unfiltered-web", "Split": "dev", "Version": 1.0}
    (tmp_path / "unfiltered-web-dev.json").write_text(json.dumps(document, indent=4))

    expected = Question("tc_2", "Where?", ("City of Light", "Paris"))
    assert load("trivia_qa", tmp_path, "validation") == (expected,)


def arc_own(name, labels="ABCD", key="C"):
    options = [{"text": text, "label": label} for text, label in zip("wxyz", labels, strict=True)]
    return {"id": name, "question": {"stem": "Which?", "choices": options}, "answerKey": key}


@pytest.mark.parametrize("nested", [True, False])
def test_arcs_own_files_hold_the_options_in_the_question(nested, tmp_path):
    for kind in ("Challenge", "Easy"):
        folder = tmp_path / f"ARC-{kind}" if nested else tmp_path
        for split in ("Dev", "Test", "Train"):
            write(folder / f"ARC-{kind}-{split}.jsonl", [arc_own(f"{kind} {split}")], lines=True)

    for name, kind in (("arc_easy", "Easy"), ("arc_challenge", "Challenge")):
        assert load(name, tmp_path) == (Choice(f"{kind} Test", "Which?", tuple("wxyz"), 2),)
        assert load(name, tmp_path, "validation")[0].id == f"{kind} Dev"


def test_arcs_labels_may_be_digits(tmp_path):
    write(tmp_path / "ARC-Easy-Test.jsonl", [arc_own("n", "1234", "4")], lines=True)
    assert load("arc_easy", tmp_path)[0].answer == 3


MMLU = {
    "test/abstract_algebra_test.csv": '"Find the degree, over Q.",0,4,"2, or so",6,B\n',
    "test/high_school_physics_test.csv": '"What is\n""it""?",a,b,c,d,D\nWho?,A,B,C,D,A\n',
    "val/virology_val.csv": "Where?,a,b,c,d,C\n",
    "dev/virology_dev.csv": "When?,a,b,c,d,A\n",
}


def test_mmlus_own_files_have_no_header_and_one_subject_each(tmp_path):
    for name, content in MMLU.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)

    algebra, physics, who = load("mmlu", tmp_path)
    options = ("0", "4", "2, or so", "6")
    name = "mmlu-test-00000"
    assert algebra == Choice(name, "Find the degree, over Q.", options, 1, "abstract_algebra")
    assert (physics.question, physics.answer) == ('What is\n"it"?', 3)
    assert (who.subject, who.choices) == ("high_school_physics", ("A", "B", "C", "D"))
    assert [item.question for item in load("mmlu", tmp_path, "validation")] == ["Where?"]
    assert [item.question for item in load("mmlu", tmp_path, "dev")] == ["When?"]


def test_the_subject_of_an_mmlu_file_is_in_its_digest(tmp_path):
    digests = set()
    for subject in ("virology", "anatomy"):
        file = tmp_path / subject / f"{subject}_test.csv"
        file.parent.mkdir()
        file.write_text("When?,a,b,c,d,A\n")
        digests.add(task_digest("mmlu", "test", at("mmlu", file)))
    assert len(digests) == 2


@pytest.mark.parametrize("end", [".csv", ".tsv"])
def test_tables_with_a_header(end, tmp_path):
    row = hub.mmlu_row()
    cells = [row["question"], *row["choices"], "C"]
    mark = "\t" if end == ".tsv" else ","
    header = mark.join(["question", "A", "B", "C", "D", "answer"])
    (tmp_path / f"virology_test{end}").write_text(f"{header}\n{mark.join(cells)}\n")
    (item,) = load("mmlu", tmp_path)
    assert item == Choice("mmlu-test-00000", "Which?", ("a", "b", "c", "d"), 2, "virology")


def test_lists_in_csv_cells_are_json(tmp_path):
    content = 'question,answer\nwhere is it,"[""Paris"", ""France""]"\n'
    (tmp_path / "NQ-open.dev.csv").write_text(content)
    (item,) = load("nq", tmp_path, "validation")
    assert item.aliases == ("Paris", "France")


def test_a_table_of_our_own_fields(tmp_path):
    content = 'id,question,choices,answer\n1,2 + 2?,"[""3"", ""4""]",1\n'
    (tmp_path / "test.csv").write_text(content)
    assert load("four_choices", tmp_path) == (Choice("1", "2 + 2?", ("3", "4"), 1),)
    (tmp_path / "test.csv").write_text("id,question,choices,answer\n1,2 + 2?,3 or 4,1\n")
    with pytest.raises(BenchsuiteError, match="row 1: 'choices' is '3 or 4', not a list"):
        load("four_choices", tmp_path)


def test_hellaswag_nq_gsm8k_and_gsm_hard_are_published_in_the_hubs_columns(tmp_path):
    published = {
        "hellaswag": ("hellaswag_val.jsonl", hub.hellaswag_row(3), "validation"),
        "nq": ("NQ-open.dev.jsonl", hub.nq_row(), "validation"),
        "gsm8k": ("test.jsonl", hub.gsm8k_row(), "test"),
        "gsm_hard": ("gsmhardv2.jsonl", {"input": "How many?", "code": "", "target": 4.0}, "train"),
    }
    for name, (file, row, split) in published.items():
        write(tmp_path / name / file, [row, row], lines=True)
        assert len(load(name, tmp_path / name, split)) == 2
        assert len(load(name, tmp_path / name / file, split)) == 2


def test_an_unknown_form_names_the_columns_of_all_that_are_known(tmp_path):
    (tmp_path / "test.csv").write_text("prompt,completion\nx,y\n")
    with pytest.raises(BenchsuiteError) as caught:
        load("mmlu", tmp_path)
    text = str(caught.value)
    assert "it has the columns 'prompt', 'completion'" in text
    assert "'question', 'subject', 'choices', 'answer'; or 'question', 'A', 'B'" in text
    assert str(tmp_path / "test.csv") in text
    assert "\n" not in text
