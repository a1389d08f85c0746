"""The export: it says what the page says, of one kind of weights at a time, in forms that parse."""

import csv
import html
import io
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from benchsuite.errors import UsageError
from benchsuite.records.files import sha256
from benchsuite.reporting import load_items, load_records, render_page
from benchsuite.reporting.exporting.figures import write_figures
from benchsuite.reporting.exporting.folder import write_export
from benchsuite.reporting.exporting.tables import Table, left_out, tables_of
from benchsuite.reporting.exporting.texts import to_csv, to_latex, to_markdown
from benchsuite.reporting.frame_columns import ITEMS, RECORDS, Column, as_markdown, described
from benchsuite.reporting.judging import judge_study
from benchsuite.reporting.latex import latex_escape
from benchsuite.reporting.results import StudyResults
from benchsuite.study import study
from tests.reporting.factory import drawn, grid, record, results, stored, stored_with_items
from tests.reporting.page_rows import Rows

QUANTIZERS = study("quantizers")
METHODS = ("fp16", "rtn_w4", "gptq_w4", "hqq_w4", "awq_w4")


def quantized(**changes):
    """Return results of a study with an original, some methods measured once, some by seeds."""
    rng = np.random.default_rng(0)
    cells = [c for c in QUANTIZERS.cells() if c.model == "tiny_llama_1m" and c.method in METHODS]
    records = {}
    for cell in cells:
        value = 9 + METHODS.index(cell.method) / 4
        noise = {"gptq_w4": 0.01, "awq_w4": 0.02}.get(cell.method, 0) * float(rng.normal())
        more = {"size_after_mb": 4 - value / 4, "kl": noise**2, "flipped": 3.21}
        records[cell.id] = record(cell, value + noise, **more, **changes)
    made = StudyResults(QUANTIZERS, cells, records)
    made.judgements = judge_study(made)
    return made


def unescaped(text):
    """Return what LaTeX prints of a text that `latex_escape` made."""
    for told, printed in {"$-$": "−", r"$\pm$": "±", "$<$": "<", "~": "\u00a0", "--": "–"}.items():
        text = text.replace(told, printed)
    return re.sub(r"\\(.)", r"\1", text)


@pytest.fixture(scope="module")
def both():
    """Results with differences and results with controls, and one page of both."""
    found = [quantized(), results(grid("llama2_7b"))]
    return found, render_page(found)


def test_each_row_says_what_the_page_says(both):
    found, page = both
    shown = [
        {text for cell in row for text in cell} | {" ".join(text for c in row for text in c)}
        for row in Rows(page).rows
    ]
    tables = [table for one in found for table in tables_of(one)]

    kinds = {re.search(r"(__\w+)?$", table.name)[0].rpartition("__")[2] for table in tables}
    assert {"claims", "further", "times", "published"} <= kinds
    for table in (table for table in tables if not table.name.endswith(("claims", "over_models"))):
        for row in table.rows:
            texts = {text for text in row if not text.isdigit()} - {""}
            seeds = {f"n = {row[1]}"} if table.exact else set()
            assert any(texts | seeds <= said for said in shown), (table.name, row)


def test_every_claim_is_told_in_the_pages_words(both):
    found, page = both
    page = html.unescape(page)
    claims = [t for one in found for t in tables_of(one) if t.name.endswith("claims")]

    assert claims
    for claim, outcome, evidence in (row for table in claims for row in table.rows):
        assert f"<dd>{evidence}" in page
        assert claim in page
        assert outcome in ("held", "violated", "inconclusive")


def test_every_form_has_the_same_texts(both):
    for table in (t for one in both[0] for t in tables_of(one)):
        plain = [tuple(text.replace("\u00a0", " ") for text in row) for row in table.rows]
        head, *rows = csv.reader(io.StringIO(to_csv(table)))
        assert tuple(head[: len(table.heads)]) == table.heads
        assert [tuple(row[: len(table.heads)]) for row in rows] == plain

        lines = [line for line in to_markdown(table).splitlines() if line.startswith("| ")][1:]
        cells = [re.split(r"(?<!\\) ?\| ?", line.replace("**", ""))[1:-1] for line in lines]
        told = [tuple(re.sub(r"\\(.)", r"\1", cell).strip() for cell in line) for line in cells]
        assert told == plain


def test_latex_prints_the_same_texts_and_notes_for_reasons(both):
    for table in (t for one in both[0] for t in tables_of(one)):
        text = to_latex(table)
        body = text.partition(r"\begin{")[2]
        printed = unescaped(body)
        for row in table.rows:
            for cell in row:
                assert cell in table.reasons or cell in printed, cell
        notes = [r for r in table.reasons if any(r in row for row in table.rows)]
        for reason in notes:
            assert re.search(rf"\$\^[a-z]\$ {re.escape(reason)}", text)
        assert text.count(r"\caption{") == text.count(r"\label{") == 1


def test_a_caption_says_model_n_interval_device_date_versions_and_weights(both):
    (table,) = (t for t in tables_of(both[0][0]) if t.exact)
    told = " ".join(table.caption)

    for part in (
        *("tiny_llama_1m", "perplexity (lower is better)", "n = 1 to 3", "95 % t-interval"),
        *("Differences to fp16", "not corrected", "Weights: embedded", "cuda: NVIDIA H200"),
        *("2025-11-20 22:06 UTC", "benchsuite 0.1.0", "torch 2.13.0", "transformers 5.17.0"),
    ):
        assert part in told
    assert table.exact["mean, unrounded"][0] == 9.0


def test_kinds_of_weights_never_share_a_table():
    """As in one store whose cells were measured with --checkpoint and without."""

    def change(cell):
        return {"weights": "checkpoint" if cell.seed > 44 else "hub"}

    cells = grid("llama2_7b")
    one = results(cells, drawn(cells, change=change))
    tables = list(tables_of(one))

    names = [table.name for table in tables]
    assert {"llama-2-7b-hf__checkpoint", "llama-2-7b-hf__hub"} <= set(names)
    for table in (table for table in tables if not table.name.endswith("published")):
        assert len({"Weights: checkpoint", "Weights: hub"} & set(table.caption)) == 1
    numbers = {t.name: t.rows[0][1] for t in tables if t.exact}
    assert numbers["llama-2-7b-hf__hub"] == "3 of 5"
    assert not any(name.endswith("claims") for name in names)
    assert any("checkpoint, hub weights together" in text for text in left_out(one))


def test_rehearsals_have_times_alone_and_stand_ins_say_so():
    cells = grid("llama2_7b", methods=["random"])
    rehearsed = results(cells, drawn(cells, change=lambda c: {"weights": "random"}))
    stand_in = {"weights": "local", "stand_in": "two layers"}
    standing = results(cells, drawn(cells, change=lambda c: stand_in))

    assert {t.name for t in tables_of(rehearsed)} == {"llama-2-7b-hf__rehearsal__times"}
    (first, *_) = tables_of(standing)
    assert first.name == "llama-2-7b-hf__stand_in"
    assert "Stand-in, not the model itself: two layers" in first.caption


# --- the folder


def items_of(one):
    rng = np.random.default_rng(one.cell.seed)
    return {
        "chunk": np.array([f"{i:05}-a" for i in range(4)]),
        "chunk_nll": rng.normal(size=4),
        "question": np.array(["c0", "c1", "p0", "p1"]),
        "correct": np.array([True, False, True, True]),
        "seed": np.array([1, 2, 3, 4]),
        "loss": np.array([2.5, 1.5]),
    }


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """A store of one method's records with items, and one that failed, in a folder of odd name."""
    folder = tmp_path_factory.mktemp("stored") / "reports"
    made = {i: r for i, r in quantized().records.items() if "gptq_w4" in i or "fp16" in i}
    failed = next(
        c for c in QUANTIZERS.cells() if c.model == "tiny_opt_4m" and c.method == "rtn_w3"
    )
    stored_with_items(folder / "store/records", made, items_of)
    broken = record(failed, failure=("quant", "it broke"), results_sha256="", values={})
    more = folder.parent / "more\udcff"  # a byte that is no UTF-8
    stored(more / "store/records", {failed.id: broken})
    (path,) = (more / "store/records").iterdir()
    path.rename(path.with_suffix(".failed-1.json"))
    return folder, more


@pytest.fixture(scope="module")
def exported(reports, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "paper"
    return folder, write_export(reports, folder)


def test_all_records_and_items_are_in_the_parquet_files(exported, reports):
    frame, records = pd.read_parquet(exported[0] / "records.parquet"), load_records(*reports)
    items, loaded = pd.read_parquet(exported[0] / "items.parquet"), load_items(*reports)

    assert len(frame) == len(records) == 5
    assert frame["perplexity"].tolist()[:4] == records["perplexity"].tolist()[:4]
    assert sorted(frame["outcome"]) == ["failed", *["passed"] * 4]
    assert set(frame.columns) == set(records.columns)
    assert list(items.columns) == list(loaded.columns)
    assert len(items) == len(loaded) == 4 * (4 + 4 + 2)
    assert frame["path"].str.match(r"(reports|more\ufffd)/store/records/[\w.-]+\.json").all()


def test_items_are_rows_of_one_kind_beside_whose_they_are(reports):
    items = load_items(*reports)

    assert items.groupby("items.of").size().to_dict() == {"chunk": 16, "loss": 8, "question": 16}
    questions = items[items["items.of"] == "question"]
    assert questions["correct"].mean() == 0.75
    assert questions["items.place"].max() == 3
    assert questions["chunk_nll"].isna().all()
    assert (items["correct"].dtype, items["seed"].dtype) == (pd.BooleanDtype(), pd.Int64Dtype())
    records = load_records(*reports)
    joined = items.merge(records[["record_sha256", "perplexity"]], on="record_sha256")
    assert len(joined) == len(items)
    assert set(items["cell.axes.seed"]) == {42, 43, 44}


def test_what_cannot_be_joined_or_read_is_text_or_told(tmp_path):
    cells = [c for c in QUANTIZERS.cells() if c.model == "tiny_llama_1m" and c.method == "gptq_w4"]
    folder = tmp_path / "store/records"
    columns = {
        cells[0].seed: {"question": np.array(["a"]), "answer": np.array([3.5])},
        cells[1].seed: {"question": np.array(["b"]), "answer": np.array(["yes"])},
        cells[2].seed: {"weights": np.array([1.0])},
    }
    stored_with_items(
        folder, {c.id: record(c, 5 + c.seed) for c in cells}, lambda r: columns[r.cell.seed]
    )
    items = load_items(tmp_path)

    assert items["answer"].dropna().tolist() == ["3.5", "yes"]
    assert items["item.weights"].dropna().tolist() == [1.0]
    (side, *_) = folder.glob("*.parquet")
    side.write_bytes(b"no Parquet")
    again = load_items(tmp_path)
    assert len(again) == 2
    assert str(side) in again.attrs["unreadable"][0]


def test_no_records_have_no_items(tmp_path):
    assert len(load_items(tmp_path)) == 0


def test_the_card_says_what_every_file_and_column_is(exported):
    folder, files = exported
    card = (folder / "README.md").read_text()

    for path in files:
        if path.name not in ("README.md", "SHA256SUMS"):
            assert f"`{path.as_posix()}` | {(folder / path).stat().st_size} " in card
            assert sha256(folder / path) in card
    for name in ("records", "items"):
        for column in pd.read_parquet(folder / f"{name}.parquet").columns:
            assert f"| `{column}` | " in card
    assert "| `chunk_nll` | double | nats a token |" in card
    assert "| `kl` | double | nats | metric: kl" in card
    assert "| `peak_memory_bytes` | int64 | bytes |" in card
    assert "5 records, failures and reruns included; 40 items." in card
    assert "| quantizers | embedded | failed | 1 |" in card
    assert "| quantizers | question | 16 |" in card
    assert "`embedded_text`: docstrings and source of SymPy" in card
    assert "`four_choices`: made by benchsuite" in card
    assert str(folder.parent.parent) not in card


def test_the_digests_are_those_of_every_file(exported):
    folder, files = exported
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b": OK\n") == len(files) - 1
    assert not list(folder.parent.glob(".*"))


def test_every_figure_is_an_svg_that_needs_no_style_sheet(both, tmp_path):
    for one in both[0]:
        paths = write_figures(one, tmp_path)
        for path in paths:
            text = path.read_text()
            root = ElementTree.fromstring(text)
            assert root.tag == "{http://www.w3.org/2000/svg}svg"
            assert "var(" not in text
            assert "class=" not in text
        (drawn_too,) = [p for p in paths if p.name.endswith("__size.svg")] or [None]
        if one.study.costs:
            names = [e.text for e in ElementTree.parse(drawn_too).iter() if e.tag.endswith("text")]
            assert set(METHODS) <= set(names)


def test_an_export_gives_way_to_the_next_and_nothing_else_does(exported, reports, tmp_path):
    folder = tmp_path / "paper"
    shutil.copytree(exported[0], folder)
    write_export(reports[:1], folder)
    assert "4 records" in (folder / "README.md").read_text()

    (folder / "quantizers/own.tex").write_text("mine")
    with pytest.raises(UsageError, match="no export wrote"):
        write_export(reports, folder)
    (folder / "quantizers/own.tex").unlink()
    card = folder / "README.md"
    card.write_text(f"{card.read_text()}mine")
    with pytest.raises(UsageError, match="changed since it was exported"):
        write_export(reports, folder)
    with pytest.raises(UsageError, match="something that is no export"):
        write_export(reports, reports[0])
    assert card.read_text().endswith("mine")


def test_what_cannot_be_read_is_named_once_and_an_unknown_study_is_in_the_data_alone(tmp_path):
    cells = grid("llama2_7b", methods=["random"])
    foreign = record(cells[0])
    foreign = replace(foreign, cell=replace(foreign.cell, study="nobody_knows"))
    folder = tmp_path / "reports/store/records"
    stored(folder, {"a": foreign, "b": record(cells[1])})
    (folder / "broken.json").write_text("{")
    told = []
    write_export([tmp_path / "reports"], tmp_path / "paper", tell=told.append)

    assert any("left out 1 record of nobody_knows, a study that is not" in note for note in told)
    card = (tmp_path / "paper/README.md").read_text()
    assert card.count("reports/store/records/broken.json") == 1
    assert "left out 1 record of nobody\\_knows" in card
    assert "| nobody_knows | hub | passed | 1 |" in card
    assert len(pd.read_parquet(tmp_path / "paper/records.parquet")) == 2


# --- forms


def test_latex_has_a_form_for_every_character():
    assert latex_escape("--to a---b") == "-{}-to a-{}-{}-b"
    assert latex_escape("5 − 3 ± 1 – ok…") == r"5 $-$ 3 $\pm$ 1 -- ok\dots{}"
    assert latex_escape("模é\x1b") == r"U+6A21é\textbackslash{}x1b"


ODD = (
    "".join(map(chr, (*range(0x20, 0x180), 0x6A21, 0x202E, 0x1D538))) + "−±×≥≤→–—…· -- '' `` \\end"
)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_all_tables_compile_and_fit_a_line(both, tmp_path):
    tables = [table for one in both[0] for table in tables_of(one)]
    words = " ".join(ODD)
    tables.append(Table("odd", "odd", (words,), ("a", words[:40]), (("x_1 & y", "5 %"),)))
    tables.append(Table("odd2", "odd", ("b",), ("a", "b"), ((words, "x"),), prose={"a": 0.8}))
    body = "".join(map(to_latex, tables))
    start = r"\documentclass{article}\usepackage{booktabs,longtable}\begin{document}"
    (tmp_path / "all.tex").write_text(f"{start}\n{body}\\end{{document}}\n")

    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    assert "Missing character" not in (tmp_path / "all.log").read_text(errors="replace")


def test_the_docs_have_every_column_that_the_harness_writes():
    page = (Path(__file__).parents[2] / "docs/records.md").read_text()
    assert as_markdown(RECORDS) in page
    assert as_markdown(ITEMS) in page


def test_a_column_is_what_a_study_says_of_it():
    names = ("kl", "group_size", "accuracy", "quant_time_sec", "nobody_knows")
    told = described(names, RECORDS, [QUANTIZERS, study("uncertainty")])
    assert [column.unit for column in told] == ["nats", "", "0 to 1", "s", ""]
    (question,) = described(["question"], ITEMS, [QUANTIZERS, study("uncertainty")])
    assert question.meaning == "quantizers: a question's id; uncertainty: its words"
    assert told[1].meaning.startswith("parameter: weights that share a scale")
    assert told[-1] == Column("nobody_knows", "", "the study's own")
