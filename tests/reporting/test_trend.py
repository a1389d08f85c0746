"""A trend over nights, from folders of records to sentences and a page."""

import re
import shutil
from dataclasses import replace

import pytest

from benchsuite.commands.main import main
from benchsuite.reporting import trend
from benchsuite.reporting.page.trend import render_trend
from tests.browser import needs_chromium
from tests.reporting.factory import ENVIRONMENT, MEANS, drawn, grid, stored

METHODS = ["gptq_default", "random", "cola_zero"]
TORCH = ("2.12.0", "2.12.0", "2.13.0")
_LINE = re.compile(r'class="edge" d="([^"]*)"')


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three nights, named against their order; on the last one `random` is far worse."""
    folder = tmp_path_factory.mktemp("nights")
    cells = grid("tiny_llama_1m", "llama2_7b", methods=METHODS)
    for night, (name, torch) in enumerate(zip("cba", TORCH, strict=True)):
        means = MEANS | {"random": 5.79 + (night == 2)}

        def change(cell, night=night, torch=torch):
            started = f"2026-11-{20 + night}T22:06:00+00:00"
            return {"started_at": started, "environment": {**ENVIRONMENT, "torch": torch}}

        stored(folder / name / "store/records", drawn(cells, means=means, change=change))
    return [folder / name for name in "abc"]


@pytest.fixture(scope="module")
def nights(folders):
    return trend.read_nights(folders)


def test_nights_are_in_the_order_in_which_they_were_measured(nights, folders):
    assert [night.name for night in nights] == ["2026-11-20", "2026-11-21", "2026-11-22"]
    assert [night.folder for night in nights] == folders[::-1]
    assert [night.facts["torch"] for night in nights] == list(TORCH)


def test_a_change_is_told_with_what_changed_beside_it(nights):
    told = trend.lines(nights, trend.series_of(nights))
    changed = [line for line in told if line.startswith(("worse", "better", "changed"))]
    assert len(changed) == 2  # on each of the two models
    for line in changed:
        assert re.match(r"worse: calibration_selection/\S+/random perplexity on 2026-11-22: ", line)
        assert line.endswith("With it changed torch (2.12.0 to 2.13.0)")
    assert "2 of 6 series changed beyond the noise of seeds" in told


def test_equal_nights_change_nothing(folders):
    same = trend.read_nights(folders[1:])
    told = trend.lines(same, trend.series_of(same))
    assert told == [
        "2 nights: 2026-11-20, 2026-11-21",
        "0 of 6 series changed beyond the noise of seeds",
    ]


def test_a_given_checkpoint_is_no_part_of_a_series(folders, tmp_path):
    both = shutil.copytree(folders[2], tmp_path / "night")
    cells = grid("llama2_7b", methods=["random"])
    given = drawn(cells, means={"random": 99.0}, change=lambda cell: {"weights": "checkpoint"})
    stored(both / "given/store/records", given)
    with_it = trend.series_of(trend.read_nights([folders[1], both]))
    without = trend.series_of(trend.read_nights(folders[1:]))
    assert [one.values for one in with_it] == [one.values for one in without]


def test_the_command_prints_it_and_writes_the_page(folders, tmp_path, capsys):
    page = tmp_path / "site/trend.html"
    assert main(["trend", *map(str, folders), f"--page={page}"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("3 nights: 2026-11-20, 2026-11-21, 2026-11-22\n")
    assert printed.endswith(f"{page}\n")
    text = page.read_text()
    assert text.count('class="change worse"') == 2
    assert "<b>2.13.0</b>" in text
    assert "<b>2.12.0</b>" not in text


def test_equal_numbers_are_a_level_line_and_what_does_not_matter_a_small_step(nights):
    """Means of three and of two equal seeds once differed in their last bit, drawn as a fall."""
    series = {one.method: one for one in trend.series_of(nights[:2])}

    def drawn_line(*values):
        one = replace(series["gptq_default"], values=[dict(enumerate(v)) for v in values])
        page = render_trend(nights[:2], [one])
        return [float(y) for y in re.findall(r"[ML][0-9.]+ ([0-9.]+)", _LINE.search(page)[1])]

    first, last = drawn_line([11.987031695240251] * 3, [11.987031695240251] * 2)
    assert first == last
    first, last = drawn_line([10.0], [10.01])  # a fifth of what matters
    assert 0 < first - last < 10
    first, last = drawn_line([10.0], [11.0])
    assert first - last > 50


def test_one_night_is_no_trend(folders, capsys):
    assert main(["trend", str(folders[0])]) == 4
    assert "a trend needs two nights" in capsys.readouterr().err


@needs_chromium
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_of_a_trend_is_never_wider_than_the_screen(tab, nights, tmp_path, width):
    page = tmp_path / "trend.html"
    page.write_text(render_trend(nights, trend.series_of(nights)))
    tab.resize(width)
    tab.open(page)
    assert tab.run("document.documentElement.scrollWidth") == width
    assert tab.run("document.querySelectorAll('.nights .sorts').length") > 0


def test_other_weights_are_told_beside_the_change_that_they_made(tmp_path):
    cells = grid("tiny_llama_1m", methods=METHODS)
    for night in range(2):
        records = drawn(cells, means=MEANS | {"random": 5.79 + night})
        stored(
            tmp_path / str(night) / "store/records",
            {
                i: replace(
                    r,
                    started_at=f"2026-11-{20 + night}T22:06:00+00:00",
                    source=replace(r.source, weights_digest=str(night) * 64),
                )
                for i, r in records.items()
            },
        )
    two = trend.read_nights([tmp_path / "0", tmp_path / "1"])

    told = "\n".join(trend.lines(two, trend.series_of(two)))

    assert "With it changed the model's weights" in told


def measured(folder, day, mean, seeds=None, clock="22:06"):
    """Store a night whose `random` has a mean, and return its folder."""
    cells = grid("tiny_llama_1m", methods=["random"], seeds=seeds)
    begun = {"started_at": f"2026-11-{day}T{clock}:00+00:00"}
    stored(
        folder / "store/records", drawn(cells, means={"random": mean}, change=lambda cell: begun)
    )
    return folder


def test_a_second_change_is_told_against_what_the_first_one_left(tmp_path):
    means = (5.0, 7.0, 7.0, 6.0)
    nights = trend.read_nights(
        [measured(tmp_path / str(day), 20 + day, mean) for day, mean in enumerate(means)]
    )
    (one,) = trend.series_of(nights)
    first, second = [line for line in trend.lines(nights, [one]) if "random" in line]
    assert first.startswith("worse: ")
    assert "2026-11-21: 5.0" in first
    assert second.startswith("better: ")
    assert "2026-11-23: 7.0" in second
    assert [one.is_worse(night) for night in range(4)] == [None, True, None, False]


def test_nights_of_one_day_have_the_time_in_their_names(tmp_path):
    folders = [measured(tmp_path / clock, 20, 5.0, clock=clock) for clock in ("22:06", "23:59")]
    names = [night.name for night in trend.read_nights(folders)]
    assert names == ["2026-11-20 22:06", "2026-11-20 23:59"]


def test_a_single_seed_that_moved_is_named_and_no_change(tmp_path):
    folders = [measured(tmp_path / str(day), 20 + day, 5.0 + day, seeds=(42,)) for day in (0, 1)]
    nights = trend.read_nights(folders)
    assert trend.lines(nights, trend.series_of(nights))[1:] == [
        "0 of 1 series changed beyond the noise of seeds",
        "moved, and one seed shows no noise to compare with: tiny_llama_1m/random",
    ]
