"""The figures in the page: where their parts stand, and when there are none."""

import html
import itertools
import math
import random
import re
import urllib.parse
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from benchsuite.records.record import Times
from benchsuite.reporting import render_page
from benchsuite.reporting.figures import critical, tradeoff
from benchsuite.reporting.figures.seeds import draw_seeds
from benchsuite.reporting.groups import groups_of
from benchsuite.reporting.page import study_files
from benchsuite.reporting.results import StudyResults
from benchsuite.study import study
from tests.reporting.factory import ENVIRONMENT, record

QUANTIZERS = study("quantizers")
COSTS = {cost.metric.name: cost for cost in QUANTIZERS.costs}
# method -> (perplexity, MB, seconds a token)
MADE = {
    "fp16": (8.0, 2.5, 0.010),
    "rtn_w4": (8.9, 1.0, 0.004),
    "gptq_w4": (8.3, 1.0, 0.004),
    "awq_w4": (8.5, 1.1, 0.005),
    "fp8_dynamic": (8.02, 1.5, 0.006),
    "rtn_w2": (90.0, 0.6, 0.002),
    "zeroed_layer": (60.0, 2.5, 0.010),
}


def records_of(made=MADE, **changes):
    """Return the quantizers' cells on one model and their records, scattered over seeds."""
    draw = random.Random(0)
    cells = [c for c in QUANTIZERS.cells() if c.model == "tiny_llama_1m" and c.method in made]
    records = {}
    for cell in cells:
        perplexity, size, seconds = made[cell.method]
        own = {"size_after_mb": size, "clocked": {"token_seconds": seconds}, **changes}
        records[cell.id] = record(cell, perplexity + draw.gauss(0, 0.01), **own)
    return cells, records


def drawn(name, cells, records):
    (group,) = groups_of(cells, records)
    return tradeoff.view(QUANTIZERS, group, COSTS[name])


@pytest.mark.parametrize("higher", [False, True])
def test_the_front_is_what_no_other_beats_in_both(higher):
    draw = random.Random(1)
    for _ in range(50):
        points = {str(i): (draw.randint(0, 6), draw.randint(0, 6)) for i in range(9)}
        found = tradeoff.front(points, higher=higher)
        sign = -1 if higher else 1

        def beats(a, b, sign=sign):
            (ax, ay), (bx, by) = a, b
            return ax <= bx and sign * ay <= sign * by and (ax, ay) != (bx, by)

        unbeaten = {p for p in points.values() if not any(beats(q, p) for q in points.values())}
        assert {points[name] for name in found} == unbeaten
        assert len(found) == len(unbeaten)


def test_size_against_quality_stands_in_the_page():
    cells, records = records_of()
    figure = drawn("size_after_mb", cells, records)
    marks = {mark.name.partition(" ")[0]: mark for mark in figure["marks"]}
    assert set(marks) == set(MADE) - {"zeroed_layer"}
    assert figure["best"] == ["rtn_w2", "gptq_w4", "fp8_dynamic", "fp16"]
    assert marks["gptq_w4"].x == marks["rtn_w4"].x < marks["awq_w4"].x < marks["fp16"].x
    assert marks["gptq_w4"].y > marks["awq_w4"].y > marks["rtn_w4"].y  # the better, the lower
    assert (marks["fp16"].role, marks["fp8_dynamic"].role) == ("original", "unranked")
    page = render_page([StudyResults(QUANTIZERS, cells, records)])
    assert "No other method is better in both than rtn_w2, gptq_w4, fp8_dynamic, fp16." in page


def test_a_broken_method_does_not_press_the_others_into_a_line():
    figure = drawn("size_after_mb", *records_of())
    marks = {mark.name: mark for mark in figure["marks"]}
    assert marks["rtn_w2 (90)"].outside
    _, top, _, bottom = figure["frame"]
    assert marks["rtn_w4"].y - top < (bottom - top) / 2  # else .9 of 82 would be a hundredth
    ticks = [float(text) for _, text in figure["up"].ticks]
    assert max(ticks) < 15


def test_names_cover_no_point_and_no_other_name():
    draw = random.Random(3)
    methods = [m for m in QUANTIZERS.axes["method"] if m != "zeroed_layer"]
    made = {m: (8 + draw.random(), 1 + draw.random() / 4, 0.01) for m in methods}
    figure = drawn("size_after_mb", *records_of(made))
    boxes = [
        (x - width * {"start": 0, "middle": 0.5, "end": 1}[anchor], y, width)
        for mark in figure["marks"]
        if mark.label
        for x, y, anchor in [mark.label]
        for width in [tradeoff.LETTER * len(mark.name)]
    ]
    assert len(boxes) > 8
    for (x, y, width), (x2, y2, width2) in itertools.combinations(boxes, 2):
        apart = x + width <= x2 or x2 + width2 <= x or abs(y - y2) >= tradeoff.LINE
        assert apart


def test_a_name_of_the_front_without_room_stands_apart_with_a_line_to_it():
    methods = [m for m in QUANTIZERS.axes["method"] if m not in ("zeroed_layer", "fp16")][:40]
    # The front is the first one, in the picture's corner behind a wall of all others.
    made = {m: (2.0 + i // 8 / 30, 8 + (i % 8 + 1) / 80, 0.01) for i, m in enumerate(methods)}
    made |= {methods[0]: (1.999, 8.0, 0.01), "fp16": (3.0, 9.0, 0.01)}
    figure = drawn("size_after_mb", *records_of(made))
    (best,) = [mark for mark in figure["marks"] if mark.name == methods[0]]
    assert best.front
    assert best.label
    assert best.leader
    assert math.dist(best.leader, (best.x, best.y)) > 20
    apart = [mark for mark in figure["marks"] if mark.leader]
    assert all(mark.front and mark.label for mark in apart)
    assert all(mark.label for mark in figure["marks"] if mark.front)


def test_where_room_is_short_the_better_methods_are_named():
    methods = [m for m in QUANTIZERS.axes["method"] if m not in ("zeroed_layer", "fp16")][:30]
    made = {m: (8 + i / 20, 2.0, 0.01) for i, m in enumerate(methods)}
    made |= {"fp16": (7.0, 1.0, 0.01)}
    figure = drawn("size_after_mb", *records_of(made))
    crowd = [m for m in figure["marks"] if m.name in methods and not m.front]
    named = [methods.index(m.name) for m in crowd if m.label]
    unnamed = [methods.index(m.name) for m in crowd if not m.label]
    assert len(named) > 3
    assert len(unnamed) > 3
    # A shorter name may still find a place between.
    assert sum(named) / len(named) < sum(unnamed) / len(unnamed)
    assert min(named) < min(unnamed)


def test_times_of_several_devices_are_never_in_one_figure():
    cells, records = records_of()
    elsewhere = {"environment": {**ENVIRONMENT, "device": "another"}}
    for cell_id, found in list(records.items()):
        if "awq_w4" in cell_id:
            records[cell_id] = replace(found, **elsewhere)
        if "rtn_w4" in cell_id:
            records[cell_id] = replace(found, times=Times(contended=True))
    named = {
        mark.name.partition(" ")[0] for mark in drawn("token_seconds", cells, records)["marks"]
    }
    assert named == {"fp16", "gptq_w4", "fp8_dynamic", "rtn_w2"}
    assert len(drawn("size_after_mb", cells, records)["marks"]) == 6


def test_a_simulated_latency_is_none():
    cells, records = records_of()
    for cell_id, found in list(records.items()):
        if "fp8" in cell_id:
            values = {**found.values, "latency_simulated": True}
            records[cell_id] = replace(found, values=values)
    figure = drawn("token_seconds", cells, records)
    assert figure["simulated"] == ["fp8_dynamic"]
    assert "Without a time a token of its own: fp8_dynamic." in render_page(
        [StudyResults(QUANTIZERS, cells, records)]
    )


@pytest.mark.parametrize(
    "made",
    [
        {name: MADE[name] for name in ("fp16", "rtn_w4")},
        {name: (8.0 + i, 1.0, 0.01) for i, name in enumerate(MADE)},
    ],
)
def test_nothing_to_weigh_gives_no_figure(made):
    assert drawn("size_after_mb", *records_of(made)) is None


def ranks(p_value, difference, **changes):
    means = {"a": 1.2, "b": 2.0, "c": 3.0, "d": 3.8}
    row = {"mean_ranks": means, "p_value": p_value, "critical_difference": difference}
    return row | {"n_models": 14, "setting": ""} | changes


def test_a_critical_difference_diagram_needs_the_support_of_a_test():
    assert critical.view(ranks(0.2, 1.25)) is None  # the methods do not differ
    assert critical.view(ranks(0.01, 2.7)) is None  # no two of them do
    assert critical.view(ranks(None, None)) is None
    figure = critical.view(ranks(0.01, 1.25))
    names = {name["method"]: name for name in figure["names"]}
    gaps = [names[b]["x"] - names[a]["x"] for a, b in ("ab", "bc", "cd")]
    assert gaps == pytest.approx([0.8 * 400 / 3, 400 / 3, 0.8 * 400 / 3], abs=0.2)
    assert [name["left"] for name in figure["names"]] == [True, True, False, False]
    assert len(figure["bars"]) == 3
    assert figure["difference"][1] - figure["difference"][0] == pytest.approx(
        1.25 * 400 / 3, abs=0.2
    )
    assert re.search(r"1\.25$", figure["difference"][2])


SVG = '<svg xmlns="http://www.w3.org/2000/svg"><title>50 % "of" #1 é</title></svg>'


def test_a_studys_own_figures_stand_in_the_page_and_not_as_links_alone(tmp_path):
    cells, records = records_of()
    (tmp_path / "own.svg").write_text(SVG, encoding="utf-8")
    files = [Path(name) for name in ("own.svg", "own.png", "other.png")]
    made = StudyResults(QUANTIZERS, cells, records, files=files)
    page = render_page([made], folder=tmp_path)
    address = html.unescape(re.search(r'<img [^>]*src="([^"]*)"', page)[1])
    kind, _, content = address.partition(",")
    assert kind == "data:image/svg+xml"
    assert urllib.parse.unquote(content) == SVG
    assert not {"#", '"', "<", "%e"} & set(content)
    folded = page[page.index("Figures as files, for a paper") :]
    assert 'href="own.png"' in folded
    assert 'href="other.png"' in page[: page.index("Figures as files, for a paper")]


def test_figures_that_would_make_the_page_heavy_stay_beside_it(tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.svg").write_text(SVG)
    made = StudyResults(QUANTIZERS, [], files=[Path("one.svg"), Path("two.svg")])
    found = study_files.view(made, tmp_path, study_files.Room(200))
    assert [picture["file"] for picture in found["pictures"]] == ["one.svg"]
    assert (found["papers"], found["files"]) == (["one.svg"], ["two.svg"])


def test_seeds_are_drawn_with_long_names_and_values_beyond_every_axis(tmp_path):
    name = "a_method_whose_name_is_longer_than_the_figure_" + "x" * 60
    declared = replace(
        study("calibration_selection"), axes={"model": ("tiny_llama_1m",), "method": (name, "b")}
    )
    cells = list(declared.cells(seeds=[1, 2]))
    records = {c.id: record(c, 1e300 if c.method == "b" else 5.0 + c.seed) for c in cells}
    (group,) = groups_of(cells, records)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (path,) = draw_seeds(declared, group, tmp_path, "seeds", kinds=("svg",))
    assert path.stat().st_size > 5000
