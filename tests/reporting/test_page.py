import datetime
import html
import html.parser
import math
import re
from dataclasses import replace

import pytest

from benchsuite.records.fingerprint import Fingerprint
from benchsuite.reporting import render_page, strip
from benchsuite.reporting.page.rendering import tight
from benchsuite.reporting.summary import described
from tests.reporting.factory import MEANS, ON_A_CPU, drawn, grid, record, results

THREE = ["gptq_default", "random", "cola_zero"]
HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)>\"&"
VOID = {"meta", "link", "br", "img", "wbr"}


class Parser(html.parser.HTMLParser):
    """Collects tags and attributes and fails on unbalanced ones."""

    def __init__(self):
        super().__init__()
        self.stack, self.tags, self.attributes = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


def parsed(page):
    parser = Parser()
    parser.feed(page)
    assert not parser.stack
    return parser


@pytest.fixture(scope="module")
def page():
    cells = grid("tiny_llama_1m", "llama2_7b", methods=THREE)
    return render_page([results(cells)])


def test_it_is_whole_and_needs_no_network(page):
    parser = parsed(page)

    assert parser.tags.count("script") == 1  # its own, which sorts and filters
    assert not {"src", "onclick"} & {name for name, _ in parser.attributes}
    outside = [v for k, v in parser.attributes if k in ("href", "src") and "//" in (v or "")]
    assert outside == []
    assert "@import" not in page
    assert "url(" not in page


def test_claims_come_before_tables(page):
    assert page.index("gptq_default is bit-identical over seeds") < page.index("<svg")


def test_every_seed_is_a_dot_that_links_to_its_record(page):
    parser = parsed(page)

    assert parser.tags.count("circle") == 30
    links = [v for k, v in parser.attributes if k == "href" and "records/" in v]
    assert len(links) == 30
    assert all(re.fullmatch(r"store/records/[0-9a-f]{40}\.json", link) for link in links)


def test_strings_from_records_are_escaped():
    cells = grid("llama2_7b", methods=["random"])

    def hostile(cell):
        return {
            "stand_in": HOSTILE,
            "weights": "local",
            "started_at": HOSTILE,
            "environment": {"device": HOSTILE, "device_kind": HOSTILE, "torch": HOSTILE},
            "fingerprint": Fingerprint(HOSTILE, HOSTILE, HOSTILE),
        }

    records = drawn(cells, change=hostile)
    failed = {cells[0].id: record(cells[0], failure=(HOSTILE, HOSTILE))}
    del records[cells[0].id]
    stale = {cells[1].id: [HOSTILE]}
    del records[cells[1].id]

    page = render_page([results(cells, records, failed=failed, stale=stale)])

    tags = parsed(page).tags
    assert "img" not in tags
    assert tags.count("script") == 1
    assert "&lt;script&gt;" in page
    assert "../" not in page.partition("<body>")[2].replace("&lt;", "")


def test_absent_cells_show_reason_and_command():
    cells = grid("llama2_7b", methods=["random"])
    records = drawn(cells)
    del records[cells[0].id]
    failed = {cells[0].id: record(cells[0], failure=("quant", "out of memory"))}

    page = render_page([results(cells, records, failed=failed)])

    assert "1 failed cell" in page
    assert "quant: out of memory" in page
    assert "pytest benchmarks -m" in page


def test_rehearsals_show_times_and_no_quality():
    cells = grid("opt_6_7b", methods=["random"])
    page = render_page([results(cells, drawn(cells, change=lambda c: {"weights": "random"}))])

    assert "Rehearsals" in page
    assert "756 s" in page
    assert "circle" not in parsed(page).tags


def test_a_study_asked_in_several_ways_says_which():
    own = results(grid("tiny_llama_1m", methods=THREE))
    three_bits = results(grid("tiny_llama_1m", methods=THREE, settings={"quant_bits": 3}))
    cells = grid("opt_6_7b", methods=["random"])
    rehearsal = results(cells, drawn(cells, change=lambda c: {"weights": "random"}))

    def headings(page):
        found = re.findall(r"<h2>(.*?)</h2>", page)
        return [re.sub(r"<.*?>", "", heading).split() for heading in found]

    assert headings(render_page([own, three_bits, rehearsal])) == [
        ["calibration_selection"],
        ["calibration_selection", "quant", "bits", "3"],
        ["calibration_selection", "rehearsal"],
    ]
    assert headings(render_page([three_bits])) == [["calibration_selection"]]


def test_many_missing_cells_do_not_flood_the_page():
    from benchsuite.study import study

    cells = list(study("calibration_selection").cells())
    page = render_page([results(cells, {})])

    assert f"{len(cells)} missing cells" in page
    assert f"and {len(cells) - 40} more" in page


def test_no_study_at_all():
    moment = datetime.datetime(2025, 11, 20, 22, 6, tzinfo=datetime.UTC)

    assert "2025-11-20 22:06 UTC" in render_page([], now=moment)


def test_the_axis_holds_the_dots_and_controls_may_leave_it():
    near = described({42: 5.70, 43: 5.75, 44: 5.80})
    far = described({42: 9.0, 43: 9.1, 44: 9.2})
    axis = strip.shared_axis([near])

    row = strip.strip(near, axis)

    assert [dot.x for dot in row.dots] == sorted(dot.x for dot in row.dots)
    assert all(0 <= dot.x <= 100 for dot in row.dots)
    assert row.low < row.mean < row.high
    assert strip.strip(far, axis).outside == "3 of 3 outside →"
    assert strip.strip(described({42: 5.0}), axis).outside == "← 1 of 1 outside"
    assert strip.strip(far, axis).dots == ()


@pytest.mark.parametrize(
    "ends",
    [
        (5e-324, 1e-323),
        (0.0, 0.0),
        (-1.7e308, 1.7e308),
        (1.6e308, 1.7e308),
        (0.1 + 0.2, 0.3),
        (-5.0, -5.000000000000001),
    ],
)
def test_an_axis_has_ticks_whatever_the_values(ends):
    """Beyond what is drawn, or apart by last bits."""
    axis = strip.shared_axis([{"values": ends, "ci95": None}])
    places, texts = zip(*axis.ticks, strict=True)
    assert len(places) >= 3
    assert all(math.isfinite(place) for place in places)
    assert len(set(places)) == len(set(texts)) == len(places)
    assert max(map(len, texts)) < 11


@pytest.mark.parametrize(
    ("low", "high", "told"),
    [
        (-0.1, 0.3, ["-0.1", "0.0", "0.1", "0.2"]),
        (0.0, 6e-10, ["0", "2e-10", "4e-10", "6e-10"]),
        (1e-170, 3e-170, ["1.0e-170", "1.5e-170", "2.0e-170", "2.5e-170", "3.0e-170"]),
        (0.0, 6e17, ["0", "2e+17", "4e+17", "6e+17"]),
        (1e170, 1.000000003e170, [f"1.00000000{i:02}e+170" for i in range(0, 31, 5)]),
    ],
)
def test_ticks_are_short_whatever_their_power(low, high, told):
    assert [text for _, text in strip.ticks(low, high)] == told


def test_ticks_are_round_numbers_inside():
    axis = strip.shared_axis([described({42: 5.612, 43: 5.874, 44: 5.803})])

    assert 3 <= len(axis.ticks) <= 6
    assert all(0 <= place <= 100 for place, _ in axis.ticks)
    assert all(re.fullmatch(r"\d\.\d", text) or len(text) <= 5 for _, text in axis.ticks)


def test_equal_values_spread_their_dots():
    arm = described(dict.fromkeys(range(5), 5.8))
    row = strip.strip(arm, strip.shared_axis([arm]))

    assert len({dot.x for dot in row.dots}) == 1
    assert len({dot.dy for dot in row.dots}) == 5


def test_many_equal_values_stay_in_their_row():
    arm = described(dict.fromkeys(range(300), 5.8))
    row = strip.strip(arm, strip.shared_axis([arm]))

    assert max(abs(dot.dy) for dot in row.dots) <= strip.MOST_JITTER
    assert len({dot.dy for dot in row.dots}) > 100


def test_numbers_are_not_broken_over_lines():
    assert tight("p = 0.05 of 5.72 ± 0.08") == "p\u00a0=\u00a00.05 of 5.72\u00a0±\u00a00.08"


def test_a_claim_names_few_of_many_models_that_were_not_run():
    one = results(grid("llama2_7b", methods=["random", "cola_zero"]))
    one.judgements = [
        replace(one.judgements[0], outcome="not_run", model=f"model_{n}") for n in range(40)
    ]

    page = render_page([one])

    assert "model_0" in page
    assert "model_39" not in page
    assert re.search(r"and \d+ more", page)


def test_a_claim_that_was_not_run_names_what_it_waits_for_and_the_command():
    cells = grid("tiny_llama_1m", "llama2_7b", methods=["random", "cola_zero"])
    records = drawn(cells)
    for seed in (43, 44):
        del records[f"llama2_7b-random-seed{seed}"]
    page = html.unescape(render_page([results(cells, records)]))
    assert "waits for random (seeds 43, 44) on llama2_7b: <code>pytest benchmarks -m " in page
    assert "model='llama2_7b', method='random')\"</code>" in page
    assert "on tiny_llama_1m: <code>" not in page


def lines_of(page):
    """Return heading -> sentence of what a page says was found."""
    found = re.search(r'<dl class="found">(.*?)</dl>', page, re.S)[1]
    return {
        html.unescape(heading): html.unescape(text)
        for heading, text in re.findall(r"<dt>(.*?)</dt> <dd>(.*?)</dd>", found)
    }


def test_the_first_lines_say_what_was_found_and_what_cannot_be_told():
    cells = grid("tiny_llama_1m", "llama2_7b")
    made = results(cells)
    lines = lines_of(render_page([made]))
    judged = [j for j in made.judgements if not j.claim.control]
    still = sum(j.outcome == "inconclusive" for j in judged)
    assert f"{still} stay open" in lines["Found"]
    assert "none was violated" in lines["Found"]
    assert "gptq_default is bit-identical over seeds" in lines["Held"]
    assert lines["Controls"] == "All 4 came out as they must."
    sizes = [j.evidence["mde_corrected"] for j in judged if j.evidence.get("mde_corrected")]
    told = [float(n) for n in re.findall(r"0\.\d+", lines["Cannot tell"])]
    assert told == pytest.approx([min(sizes), max(sizes)], rel=0.05)


def test_a_failed_control_is_the_last_word():
    cells = grid("tiny_llama_1m")
    means = MEANS | {"noise_tokens": 5.0}
    lines = lines_of(render_page([results(cells, drawn(cells, means=means))]))
    assert lines["Controls"].startswith("Do not trust this run: random has lower perplexity than")


def test_claims_that_wait_are_folded():
    cells = grid("tiny_llama_1m", methods=THREE)
    records = {i: r for i, r in drawn(cells).items() if "cola_zero" not in i}
    page = render_page([results(cells, records)])
    assert "3 claims not run yet" in page
    assert page.index("gptq_default is bit-identical") < page.index("3 claims not run yet")


def test_a_judged_claim_leads_to_the_cells_that_decided_it_and_to_their_command():
    cells = grid("tiny_llama_1m", "llama2_7b", methods=["gptq_default", "cola_zero", "random"])
    page = html.unescape(render_page([results(cells)]))
    claim = page[page.index("cola_zero has lower perplexity than random") :]
    address, arms = re.search(r'Decided by <a href="#([^"]*)">(.*?)</a>', claim).groups()
    assert arms == ("cola_zero (seeds 42, 43, 44, 45, 46) and random (seeds 42, 43, 44, 45, 46)")
    section = page[page.index(f'id="{address}"') :]
    assert section[: section.index("</h3>")].rstrip().endswith("tiny_llama_1m")
    command = re.search(r"<code>(pytest .*?)</code>", claim)[1]
    assert "model='tiny_llama_1m', method='cola_zero'" in command
    assert "gptq_default" not in command


def test_a_broken_method_does_not_press_the_others_into_a_line():
    cells = grid("tiny_llama_1m")
    page = render_page([results(cells, drawn(cells, means=MEANS | {"self_generated": 90.0}))])
    ticks = re.search(r'<div class="row axis".*?</div>', page, re.S)[0]
    values = [float(text) for text in re.findall(r">([\d.]+)</text>", ticks)]
    assert 5 < min(values) < max(values) < 7
    rows = re.findall(r'<div class="row[^"]*" role="row" data-row>.*?\n    </div>', page, re.S)
    (broken,) = [row for row in rows if "<code>self_generated</code>" in row]
    assert "5 of 5 outside →" in broken


def test_of_few_methods_each_is_shown():
    assert strip.reach([5.0, 5.1, 5.2, 5.3, 90.0], higher=False) == float("inf")
    assert strip.reach([5.0, 5.1, 5.2, 5.3, 5.4, 5.5], higher=False) == float("inf")
    cut = strip.reach([5.0, 5.1, 5.2, 5.3, 5.4, 90.0], higher=False)
    assert 0.4 < cut < 10
    assert strip.reach([-5.0, -5.1, -5.2, -5.3, -5.4, -90.0], higher=True) == cut


def test_many_violated_claims_do_not_push_the_tables_off_the_page():
    cells = grid("tiny_llama_1m")
    few = render_page([results(cells, drawn(cells, std=0.001))])
    broken = MEANS | dict.fromkeys(("cola_zero", "cola_balanced", "random", "stratified"), 30.0)
    many = render_page([results(cells, drawn(cells, std=0.001, means=broken))])
    assert many.count('class="pill violated"') > 4
    assert '<details class="claim" open>' not in many
    assert few.count('<details class="claim" open>') <= 3


def test_seeds_that_fail_alike_are_told_once():
    cells = grid("tiny_llama_1m", methods=THREE)
    told = {c.id: record(c, failure=("quant", f"{c.id}: out of memory")) for c in cells[:5]}
    page = render_page([results(cells, {}, failed=told)])
    assert page.count("out of memory") == 1
    assert f"<code>{cells[0].id}</code> and 4 more seeds alike:" in page


def test_several_devices_in_one_table_are_named():
    cells = grid("tiny_llama_1m", methods=THREE)
    change = {"random": ON_A_CPU}
    mixed = drawn(cells, change=lambda cell: change.get(cell.method, {}))
    assert "measured on 2 devices (cpu: Xeon, cuda: NVIDIA H200)" in render_page(
        [results(cells, mixed)]
    )
    assert "measured on 2 devices" not in render_page([results(cells, drawn(cells))])


def test_the_first_lines_say_why_nothing_was_decided():
    cells = grid("tiny_llama_1m", methods=THREE, seeds=[42])
    page = html.unescape(render_page([results(cells, drawn(cells))]))
    assert "on 1 model, none held" in page
    assert "claims: one seed cannot show it" in page
    assert "(tiny_llama_1m)" not in page
