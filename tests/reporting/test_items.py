"""The scripts by which a page shows a cell's items."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from benchsuite.records.record import Items
from benchsuite.reporting import render_page, write_report
from benchsuite.reporting.page import items
from benchsuite.reporting.page.rendering import render_items
from benchsuite.reporting.results import StudyResults
from benchsuite.study import study
from tests.reporting.factory import record

QUANTIZERS = study("quantizers")
SETS = {"arc": {"task": "four_choices", "n": 2}, "squad": {"task": "passages", "n": 1}}
KEPT = {
    "four_choices": {
        "examples": "Worked.",
        "questions": {
            "c0": {"prompt": "Which is red?", "gold": "rose", "options": ["oak", "rose"]},
            "c1": {"prompt": "Which flies?", "gold": "crow", "options": ["crow", "cod"]},
        },
    },
    "passages": {"examples": "", "questions": {"p0": {"prompt": "</script> who?", "gold": "Ann"}}},
}
CHUNKS = ["00000-a", "00001-b"]


def columns_of(answers=("1", "-1", "Ann"), correct=(True, False, True), kl=(0.1, float("nan"))):
    return {
        "question": np.array(["c0", "c1", "p0"]),
        "question_set": np.array(["arc", "arc", "squad"]),
        "answer": np.array(answers),
        "correct": np.array(correct),
        "chunk": np.array(CHUNKS),
        "chunk_kl": np.array(kl),
        "chunk_nll": np.array([1.0, 2.0]),
        "chunk_passage": np.array(["", '[[" It", 0.25], [" was", 3.0]]']),
    }


def asked(record, key):
    if "question_set" in key:
        return KEPT[key["question_set"]["task"]]
    return {"00000-a": "It was"} if key["chunks"] == CHUNKS else None


def results_of(*methods, columns=None):
    columns = columns or columns_of()
    cells = [c for c in QUANTIZERS.cells() if c.model == "tiny_llama_1m" and c.method in methods]
    side = Items("side.parquet", tuple(columns), None)
    made = {c.id: record(c, 5 + i / 8, items=side, question_sets=SETS) for i, c in enumerate(cells)}
    return StudyResults(QUANTIZERS, cells, made)


def handed_over(path):
    """Return what a script hands over, and under which name."""
    found = {}
    text = path.read_text()
    assert text.startswith("benchsuiteItems(")
    name, value = json.loads(f"[{text.strip().removeprefix('benchsuiteItems(')[:-1]}]")
    found[name] = value
    return found


def test_a_cell_hands_over_its_answers_and_what_it_was_asked(tmp_path):
    made = results_of("fp16", "rtn_w4")
    rows = items.write_items([made], tmp_path, lambda record: columns_of(), asked)
    assert {row["method"] for row in rows} == {"fp16", "rtn_w4"}
    (mine,) = [row for row in rows if row["method"] == "rtn_w4"]
    (base,) = [row for row in rows if row["method"] == "fp16"]
    assert mine["original"] == base["name"]
    assert base["original"] == ""
    cell = handed_over(tmp_path / f"items/{mine['name']}.js")[mine["name"]]
    assert cell["answers"] == ["rose", "(not read)", "Ann"]
    assert cell["right"] == "101"
    assert cell["change"] == [0.1, None]
    assert cell["passages"] == {"1": [[" It", 0.25], [" was", 3.0]]}
    told = handed_over(tmp_path / f"items/{cell['asked']}.js")[cell["asked"]]
    assert told["prompts"] == ["Which is red?", "Which flies?", "</script> who?"]
    assert told["gold"] == ["rose", "crow", "Ann"]
    assert told["examples"] == {"arc": "Worked."}
    assert told["texts"] == ["It was", ""]
    assert len(list((tmp_path / "items").glob("asked-*.js"))) == 1
    assert made.item_names == {c.id: r["name"] for c, r in zip(made.cells, rows, strict=True)}


def test_a_cell_that_asks_one_set_need_not_name_it_item_by_item(tmp_path):
    columns = {"question": np.array(["c0", "c1"]), "correct": np.array([True, False])}
    made = results_of("rtn_w4", columns=columns)
    one = {"question_sets": {"arc": SETS["arc"]}}
    made.records = {i: replace(r, values=one) for i, r in made.records.items()}
    (row,) = items.write_items([made], tmp_path, lambda record: columns, asked)
    cell = handed_over(tmp_path / f"items/{row['name']}.js")[row["name"]]
    told = handed_over(tmp_path / f"items/{cell['asked']}.js")[cell["asked"]]
    assert told["prompts"] == ["Which is red?", "Which flies?"]
    assert told["gold"] == ["rose", "crow"]


def test_what_is_there_is_not_read_again(tmp_path):
    made = results_of("rtn_w4")
    items.write_items([made], tmp_path, lambda record: columns_of(), asked)

    def no_more(record):
        raise AssertionError("read again")

    assert items.write_items([made], tmp_path, no_more, asked)


def test_a_record_from_before_the_texts_were_kept_shows_its_answers(tmp_path):
    made = results_of("rtn_w4")
    made.records = {i: replace(r, values={}) for i, r in made.records.items()}
    (row,) = items.write_items(
        [made], tmp_path, lambda record: columns_of(), lambda record, key: None
    )
    cell = handed_over(tmp_path / f"items/{row['name']}.js")[row["name"]]
    assert cell["answers"] == ["1", "(not read)", "Ann"]
    told = handed_over(tmp_path / f"items/{cell['asked']}.js")[cell["asked"]]
    assert (told["ids"], told["prompts"]) == (["c0", "c1", "p0"], ["", "", ""])


@pytest.mark.parametrize(
    "columns",
    [
        {"correct": np.array([True, False])},
        {"correct": np.array([True]), "answer": np.array(["a", "b"])},
        {"chunk_kl": np.array([0.1])},
        {"chunk_kl": np.array([0.1]), "chunk_passage": np.array(["no JSON"])},
    ],
)
def test_any_study_may_have_such_columns(tmp_path, columns):
    made = results_of("rtn_w4", columns=columns)
    rows = items.write_items([made], tmp_path, lambda record: columns, asked)
    assert len(rows) == 1


def test_a_study_without_such_items_has_no_page_of_them(tmp_path):
    made = results_of("rtn_w4", columns={"loss": np.array([1.0])})
    assert items.write_items([made], tmp_path, lambda r: {"loss": [1.0]}, asked) == []
    assert not (tmp_path / "items").exists()


def test_side_files_that_are_not_at_hand_leave_the_cell_out(tmp_path):
    made = results_of("rtn_w4")
    assert items.write_items([made], tmp_path, lambda record: {}, asked) == []
    assert made.item_names == {}


def test_the_page_of_items_lists_the_cells():
    row = {"model": "<b>", "marks": [], "kind": "real", "method": "rtn_w4", "seed": 1}
    page = render_items(QUANTIZERS, [row | {"name": "n", "original": "o", "file": "f"}])
    assert 'href="#n" data-cell="&lt;b&gt;, rtn_w4, seed 1" data-original="o"' in page
    assert "<noscript>" in page


def test_the_report_leads_to_the_items_of_those_records_that_have_some(tmp_path):
    made = results_of("fp16", "rtn_w4")
    bare = next(i for i in made.records if "fp16" in i)
    made.records[bare] = replace(made.records[bare], items=None)
    page = write_report(tmp_path, [made], columns=lambda record: columns_of(), asked=asked)
    links = re.findall(r'href="quantizers/items/index.html(#?\w*)"', page.read_text())
    (name,) = made.item_names.values()
    assert sorted(links) == ["", f"#{name}"]
    listed = (tmp_path / "quantizers/items/index.html").read_text()
    assert f'href="#{name}"' in listed
    without = replace(made, records={bare: made.records[bare]}, item_names={})
    assert "items/index.html" not in render_page([without])


def test_cells_that_measured_the_same_have_an_address_each(tmp_path):
    made = results_of("gptq_w4")
    assert len(made.records) == 3
    alike = next(iter(made.records.values())).results_sha256
    made.records = {i: replace(r, results_sha256=alike) for i, r in made.records.items()}
    rows = items.write_items([made], tmp_path, lambda record: columns_of(), asked)
    assert len({row["name"] for row in rows}) == 3


def test_a_rehearsal_has_no_answers_to_show(tmp_path):
    made = results_of("rtn_w4")
    made.records = {
        i: replace(r, source=replace(r.source, weights="random")) for i, r in made.records.items()
    }
    assert items.write_items([made], tmp_path, lambda record: columns_of(), asked) == []
