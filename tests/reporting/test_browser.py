"""The page as a browser shows it and as its keys work it: widths, schemes, paper, no scripts."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchsuite.reporting import render_page
from tests.browser import focused, needs_chromium
from tests.reporting.factory import MEANS, drawn, grid, record, results

CSS = Path(__file__).parents[2] / "benchsuite/reporting/templates/report.css"

LONG = "a_name_that_nobody_can_break_" * 8
GRID = "document.querySelector('.grid')"
ROWS = f"[...{GRID}.querySelectorAll('[data-row]')].filter(row => !row.hidden)"
METHODS = f"{ROWS}.map(row => row.querySelector('code').innerText)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A report with everything that a page can hold, under names as long as they get."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "calibration_selection").mkdir()
    wide = Path("calibration_selection/wide.csv")
    head = ",".join(["model", *(f"a_long_column_{n}" for n in range(20))])
    rows = [",".join([LONG, *(f"{n / 7 * 10**n}" for n in range(20))]) for _ in range(3)]
    (folder / wide).write_text("\n".join([head, *rows]))
    mixed = Path("calibration_selection/mixed.csv")
    sizes = "precision,size\nINT8,12\n2:4 BF16,9\nINT4,100\n–,\nBF16,−3\n"
    (folder / mixed).write_text(sizes)
    plain = grid("tiny_llama_1m", "llama2_7b")
    changed = grid("opt_6_7b", settings={"quant_bits": 3, "evaluation_tokens": 16384})
    rehearsed = grid("mistral_7b", methods=["random"])
    records = drawn(plain) | drawn(changed)
    records |= drawn(rehearsed, change=lambda cell: {"weights": "random"})
    lost = plain[0]
    del records[lost.id]
    failure = record(lost, failure=("quant", f"out of memory in {LONG}"))
    made = results(
        [*plain, *changed, *rehearsed],
        records,
        failed={lost.id: failure},
        files=[wide, mixed, Path(f"calibration_selection/{LONG}.json")],
    )
    stand_in = results(plain, drawn(plain, change=lambda cell: {"stand_in": f"not {LONG}"}))
    many = {"n_calibration_samples": 16, "seq_len": 512, "quant_bits": 3, "group_size": 64}
    many |= {"evaluation_tokens": 4096, "pool_documents": 500, "damp_percent": 0.05}
    cells = grid("tiny_qwen_1m", methods=["random"], settings=many)
    pages = [made, stand_in, results(cells)]
    (folder / "index.html").write_text(render_page(pages, folder=folder))
    return folder


@pytest.fixture
def shown(tab, folder):
    """The page in a tab of 1280 pixels."""
    return tab.open(folder / "index.html")


@needs_chromium
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_never_wider_than_the_screen(tab, folder, width):
    tab.resize(width)
    tab.open(folder / "index.html")
    for opened in ("false", "true"):
        tab.run(f"document.querySelectorAll('details').forEach(d => d.open = {opened})")
        assert tab.run("document.documentElement.scrollWidth") == width


@needs_chromium
def test_what_became_of_a_study_stands_on_the_screen_whatever_its_settings(tab, folder):
    """Tags of many settings in one line once pushed the counts off the page."""
    tab.resize(1280)
    tab.open(folder / "index.html")
    ends = "[...document.querySelectorAll('nav .pill')].map(e => e.getBoundingClientRect().right)"
    assert tab.run("document.querySelectorAll('nav .tag').length") >= 7
    assert 0 < max(tab.run(ends)) < 1280


@needs_chromium
@pytest.mark.parametrize(("width", "dark"), [(390, True), (1280, False)])
def test_axe_finds_nothing_to_complain_of(tab, folder, width, dark):
    """axe-core asks what people with screen readers, keys or weak eyes would meet."""
    package = find_spec("axe_core_python")
    if package is None:
        pytest.skip("axe-core is not installed: pip install axe-core-python")
    tab.resize(width)
    tab.show_as(dark=dark)
    tab.open(folder / "index.html")
    tab.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    tab.run(Path(package.origin).with_name("axe.min.js").read_text() + ";0")
    found = "axe.run({resultTypes: ['violations']}).then(r => r.violations.map(v => [v.id, v.impact"
    assert tab.run(f"{found}, v.nodes.map(n => n.html.slice(0, 200))]))") == []


@needs_chromium
def test_a_head_sorts_by_keys_and_says_which_way(shown):
    before = shown.run(METHODS)
    by_value = sorted((m for m in MEANS), key=MEANS.get)
    focused(shown, "e.matches('.grid [role=columnheader]:nth-child(2) button')")
    state = f"{GRID}.querySelector('[role=columnheader]:nth-child(2)').getAttribute('aria-sort')"
    assert shown.run(state) is None
    shown.press("Enter")
    ascending = shown.run(METHODS)
    assert shown.run(state) == "ascending"
    assert [m for m in ascending if m in ("cola_zero", "shuffled_hessian", "noise_tokens")] == [
        m for m in by_value if m in ("cola_zero", "shuffled_hessian", "noise_tokens")
    ]
    shown.press(" ")
    assert shown.run(state) == "descending"
    assert shown.run(METHODS)[0] == "noise_tokens"
    assert sorted(ascending) == sorted(before)
    assert shown.run("document.activeElement.matches('button')")
    assert shown.run(f"{GRID}.lastElementChild.matches('.axis')")
    shown.press("Tab")
    assert not shown.run("document.activeElement.closest('[aria-sort]')")


@needs_chromium
def test_a_method_whose_values_have_no_mean_leaves_the_others_sorted(tab, tmp_path):
    cells = grid("tiny_llama_1m")
    drawn_apart = drawn(cells, means=MEANS | {"random": 1e300, "cola_zero": -2.0})
    (tmp_path / "index.html").write_text(render_page([results(cells, drawn_apart)]))
    page = tab.open(tmp_path / "index.html")
    head = f"{GRID}.querySelector('[role=columnheader]:nth-child(2) button')"
    for last in ("noise_tokens", "cola_zero"):
        page.run(f"{head}.click()")
        assert page.run(METHODS)[-2:] == [last, "random"]


@needs_chromium
@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (1, ["2:4 BF16", "BF16", "INT4", "INT8", "–"]),
        (2, ["BF16", "2:4 BF16", "INT8", "INT4", "–"]),
    ],
)
def test_a_column_sorts_as_numbers_only_if_all_of_it_are_and_empty_comes_last(
    shown, column, expected
):
    table = "[...document.querySelectorAll('table')].find(t => t.innerText.includes('INT8'))"
    head = f"{table}.querySelector('th:nth-child({column})')"
    first = f"[...{table}.tBodies[0].rows].map(r => r.cells[0].innerText)"
    shown.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    shown.run(f"{head}.querySelector('button').click()")
    assert shown.run(first) == expected
    shown.run(f"{head}.querySelector('button').click()")
    assert shown.run(first) == [*expected[-2::-1], "–"]
    assert shown.run(f"{head}.getAttribute('aria-sort')") == "descending"


@needs_chromium
def test_a_narrow_screen_can_sort_too(tab, folder):
    tab.resize(390)
    tab.open(folder / "index.html")
    focused(tab, "e.matches('.grid [role=columnheader]:nth-child(2) button')")
    assert tab.run("document.activeElement.checkVisibility()")
    tab.press("Enter")
    tab.press("Enter")
    assert tab.run(METHODS)[0] == "noise_tokens"
    assert tab.run("document.documentElement.scrollWidth") == 390


@needs_chromium
def test_what_is_wider_than_the_screen_can_be_moved_by_keys(tab, folder):
    tab.resize(390)
    tab.open(folder / "index.html")
    tab.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    tab.run("new Promise(done => setTimeout(done, 20))")  # the toggling is told a moment later
    stuck = (
        "[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth"
        " && box.tabIndex < 0 && !box.querySelector('a[href], button, summary')).length"
    )
    assert tab.run(stuck) == 0
    assert tab.run("document.querySelectorAll('.scroll[tabindex]').length") > 0
    tab.resize(1800)
    tab.run("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
    free = "[...document.querySelectorAll('.scroll[tabindex]')]"
    assert tab.run(f"{free}.every(box => box.scrollWidth > box.clientWidth)")


@needs_chromium
def test_a_filter_keeps_the_rows_with_all_words(shown):
    focused(shown, "e.matches('input[type=search]')")
    shown.write("cola ZERO")
    assert shown.run(METHODS) == ["cola_zero"]
    box = "document.querySelector('.filter')"
    assert shown.run(f"{box}.innerText").strip() == f"1 of {len(MEANS)}"
    assert shown.run(f"{box}.querySelector('output').parentElement.closest('[role=table]')") is None
    shown.press("Escape")
    assert len(shown.run(METHODS)) == len(MEANS)


@needs_chromium
def test_without_scripts_all_is_there_and_nothing_looks_pressable(tab, folder):
    tab.scripts(False)
    tab.open(folder / "index.html")
    assert tab.run("document.querySelectorAll('.sorts, .filter').length") == 0
    assert len(tab.run(METHODS)) == len(MEANS)
    assert tab.run("document.querySelectorAll('[data-row][hidden], tr[hidden]').length") == 0
    tab.scripts(True)


@needs_chromium
def test_paper_shows_what_the_screen_folds(shown):
    folded = "[...document.querySelectorAll('details table td, details dd')]"
    hidden = f"{folded}.filter(e => !e.checkVisibility()).length"
    assert shown.run(hidden) > 20
    shown.show_as("print")
    assert shown.run(hidden) == 0
    assert (
        shown.run("[...document.querySelectorAll('.filter input')].some(e => e.checkVisibility())")
        is False
    )
    assert shown.paper().startswith(b"%PDF")


@needs_chromium
def test_paper_counts_the_claims_that_wait_and_leaves_their_commands_out(tab, tmp_path):
    cells = grid("tiny_llama_1m")
    begun = {c.id: record(c) for c in cells if c.method == "random"}
    (tmp_path / "index.html").write_text(render_page([results(cells, begun)]))
    page = tab.open(tmp_path / "index.html")
    page.show_as("print")
    waiting = "[...document.querySelectorAll('.waiting > summary, .waiting dd')]"
    assert page.run(f"{waiting}.length") > 1
    assert page.run(f"{waiting}.filter(e => e.checkVisibility()).map(e => e.localName)") == [
        "summary"
    ]


@needs_chromium
def test_paper_says_that_rows_were_filtered_out(shown):
    focused(shown, "e.matches('input[type=search]')")
    shown.write("cola_zero")
    shown.show_as("print")
    output = "document.querySelector('.filter output')"
    assert shown.run(f"{output}.checkVisibility() && {output}.innerText") == f"1 of {len(MEANS)}"


def luminance(colour):
    """Return the relative luminance of #rgb or #rrggbb as WCAG 2 defines it."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    """Return the contrast ratio of two colours, 1 to 21."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_text_and_dots_stand_out(scheme):
    light, dark, paper = re.findall(r":root\{([^}]*)\}", CSS.read_text())
    told = light + {"light": "", "dark": ";" + dark, "print": ";" + paper}[scheme]
    colours = dict(re.findall(r"--(\w+):(#\w+)", told))

    texts = [(ink, ground) for ink in ("ink", "soft", "accent") for ground in ("bg", "card")]
    pills = [(name, f"{name}bg") for name in ("ok", "bad", "mid", "no")]
    for ink, ground in [*texts, *pills, ("mid", "bg")]:
        assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    assert contrast(colours["dot"], colours["card"]) >= 3
