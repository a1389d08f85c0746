"""From a cell to its questions, as a browser shows them from a disk."""

import shutil

import numpy as np
import pytest

from benchsuite.reporting.page import items
from benchsuite.reporting.page.rendering import render_items
from tests.browser import focused, needs_chromium
from tests.reporting.test_items import QUANTIZERS, asked, columns_of, results_of

pytestmark = needs_chromium

SHOWN = "document.getElementById('shown')"
ROWS = f"[...{SHOWN}.querySelector('table').tBodies[0].rows].filter(row => !row.hidden)"
QUESTIONS = f"{ROWS}.map(row => row.cells[0].querySelector('code').innerText)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The items of an original and of a method that answers two of three questions otherwise."""
    folder = tmp_path_factory.mktemp("study")
    other = columns_of(("0", "0", "<b>Bob</b>"), (False, True, True), (0.1, 0.7))

    def columns(record):
        return columns_of() if record.cell.method == "fp16" else other

    made = results_of("fp16", "rtn_w4")
    rows = items.write_items([made], folder, columns, asked)
    (folder / "items/index.html").write_text(render_items(QUANTIZERS, rows))
    return folder / "items"


def loaded(tab):
    """Wait for the tables of the cell that was asked for."""
    tab.run(
        f"new Promise(done => {{ const look = () => {SHOWN}.querySelector('table, .warn') ? "
        "done() : setTimeout(look, 5); look(); })"
    )


@pytest.fixture
def cell(tab, folder):
    """The page of items with the method's cell chosen, by keys alone."""
    tab.open(folder / "index.html")
    assert tab.run(f"{SHOWN}.checkVisibility()") is False
    focused(tab, "e.matches('[data-original]')")
    tab.press("Enter")
    loaded(tab)
    return tab


def test_a_cell_shows_each_question_with_both_answers_and_what_became_of_it(cell):
    rows = cell.run(f"{ROWS}.map(row => [...row.cells].map(c => c.innerText.trim()))")
    assert [row[2:] for row in rows] == [
        ["rose", "rose", "oak", "now wrong"],
        ["crow", "(not read)", "crow", "now right"],
        ["Ann", "Ann", "<b>Bob</b>", "right"],
    ]
    assert rows[2][1] == "</script> who?"
    told = cell.run(f"{SHOWN}.querySelector('.note').innerText")
    assert told.startswith("3 questions, 2 right, 1 right before and wrong now, 1 wrong before")
    assert cell.run(f"{SHOWN}.contains(document.activeElement)")


def test_questions_are_filtered_by_outcome_and_by_words_together(cell):
    select = f"{SHOWN}.querySelector('select')"
    options = cell.run(f"[...{select}.options].map(o => o.value + ' ' + o.text)")
    assert "flipped flipped (2)" in options
    cell.run(f"{select}.value = 'flipped'; {select}.dispatchEvent(new Event('change'))")
    assert cell.run(QUESTIONS) == ["c0", "c1"]
    assert cell.run(f"{SHOWN}.querySelector('output').innerText") == "2 of 3"
    focused(cell, "e.matches('#shown input')")
    cell.write("FLIES")
    assert cell.run(QUESTIONS) == ["c1"]
    cell.press("Escape")
    cell.run(f"{select}.value = 'lost'; {select}.dispatchEvent(new Event('change'))")
    assert cell.run(QUESTIONS) == ["c0"]


def test_its_tables_sort_and_the_worst_chunk_comes_first(cell):
    cell.run(f"{SHOWN}.querySelector('th:last-child button').click()")
    assert cell.run(QUESTIONS) == ["c1", "c0", "p0"]
    chunks = f"[...{SHOWN}.querySelectorAll('table')].at(-1).tBodies[0].rows"
    first = cell.run(f"[...{chunks}].map(row => [...row.cells].map(c => c.innerText.trim()))")
    assert first == [
        ["00001-b", "\u2026 It was\u2026", "0.7", "2", "2"],
        ["00000-a", "It was \u2026", "0.1", "1", "1"],
    ]
    marks = cell.run(f"[...{chunks}[0].querySelectorAll('.tokens span')].map(e => e.title)")
    assert marks == ["0.25 nats", "3 nats"]


@pytest.mark.parametrize("width", [390, 1280])
def test_it_is_never_wider_than_the_screen(cell, width):
    cell.resize(width)
    assert cell.run("document.documentElement.scrollWidth") == width


def test_an_address_with_a_cell_opens_it(tab, folder):
    tab.open(folder / "index.html")
    address = tab.run("document.querySelector('[data-original]').hash")
    tab.run(f"location.hash = {address!r}")
    loaded(tab)
    assert tab.run(QUESTIONS) == ["c0", "c1", "p0"]
    tab.run("location.hash = ''")
    assert tab.run(f"new Promise(f => setTimeout(() => f({SHOWN}.hidden), 0))")


def test_a_script_that_was_not_copied_is_named(browser, folder, tmp_path):
    shutil.copy(folder / "index.html", tmp_path)
    tab = browser.page().open(tmp_path / "index.html")
    name = tab.run("document.querySelector('[data-original]').hash.slice(1)")
    tab.run(f"location.hash = {name!r}")
    loaded(tab)
    assert f"{name}.js cannot be read" in tab.run(f"{SHOWN}.innerText")
    tab.close()


def test_without_scripts_the_page_says_where_the_items_are(tab, folder):
    tab.scripts(False)
    tab.open(folder / "index.html")
    assert "pandas.read_parquet" in tab.run("document.querySelector('noscript').innerText")
    assert tab.run("document.querySelectorAll('.cells tbody tr').length") >= 2


def test_an_answers_tokens_are_marked_the_stronger_the_less_likely_they_were(tab, tmp_path):
    columns = columns_of() | {
        "tokens": np.array(
            ['[["ro", -0.01], ["se", -2.0]]', "[]", '[["<i>", -9.5], ["Eve", -1.0]]'],
        )
    }
    made = results_of("rtn_w4", columns=columns)
    rows = items.write_items([made], tmp_path, lambda record: columns, asked)
    assert len(list((tmp_path / "items").glob("said-*.js"))) == 1
    (tmp_path / "items/index.html").write_text(render_items(QUANTIZERS, rows))
    tab.open(tmp_path / "items/index.html")
    focused(tab, "e.matches('[data-cell]')")
    tab.press("Enter")
    loaded(tab)

    spans = "[...document.querySelector('#shown table').querySelectorAll('.tokens span')]"
    assert tab.run(f"{spans}.map(e => [e.innerText, e.title])") == [
        ["ro", "0.01 nats"],
        ["se", "2 nats"],
    ]
    grounds = tab.run(f"{spans}.map(e => getComputedStyle(e).backgroundColor)")
    alphas = [float(ground.rpartition("/")[2].strip(" )")) for ground in grounds]
    assert alphas == pytest.approx([0.0025 * 0.35, 0.5 * 0.35], abs=0.003)
    # An answer that its tokens do not make is shown as it was read.
    answers = tab.run(f"{ROWS}.map(row => row.cells[3].innerText.trim())")
    assert answers == ["rose", "(not read)", "Ann"]
    assert "the less likely it was" in tab.run(f"{SHOWN}.innerText")
