"""The uncertainty study's own files, over grids whose truth is known."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from benchsuite.studies.uncertainty import analysis
from benchsuite.studies.uncertainty.questions import answer_questions
from benchsuite.studies.uncertainty.report import summarise, write
from benchsuite.studies.uncertainty.runs import contrast, runs_of, sizes
from tests.studies.uncertainty.grid import EASY, HARD, METHODS, Grid, document, embedded

FIGURES = (
    *("auroc_heatmap", "family_comparison", "size_effect", "dataset_effect", "accuracy_vs_auroc"),
    *("radar_chart", "overall_statistics", "best_performers", "key_findings", "token_uncertainty"),
    "reliability",
)


def findings(grid):
    found = answer_questions(runs_of(grid.records, grid.columns))
    return dict(
        zip(("size", "family", "dataset", "instruction", "quantization"), found, strict=True)
    )


def easier(**wanted):
    """Return a shift that is easy where the cell agrees with ``wanted``."""
    return lambda cell: EASY if all(cell[k] in v for k, v in wanted.items()) else HARD


def test_a_true_effect_of_size_is_found_and_nothing_else():
    larger = ("llama3_8b", "qwen2_5_7b")
    found = findings(Grid(document, easier(model=larger)))
    size = found["size"]
    assert size.outcome == "answered"
    assert size.p_holm < 0.001
    assert size.ci95[0] > 0.1
    # Mistral's two models are of one size; each pair is on its own questions.
    assert {p["pair"].split(",")[0] for p in size.pairs} == {
        "llama3_8b minus llama3_2_1b",
        "qwen2_5_7b minus qwen2_5_1_5b",
    }
    assert found["quantization"].p_holm > 0.05
    assert found["instruction"].p_holm > 0.05
    assert found["dataset"].p_holm > 0.05


def test_the_other_effects_are_found_where_they_are():
    data = findings(Grid(document, easier(dataset=("trivia_qa",))))["dataset"]
    assert data.contrast == "trivia_qa minus squad_v2"
    assert data.ci95[0] > 0
    assert len(data.pairs) == 10
    quantized = findings(Grid(document, easier(precision=("8bit",))))["quantization"]
    assert quantized.ci95[0] > 0
    assert len(quantized.pairs) == 8
    tuned = findings(Grid(document, easier(model=("mistral_v0_3_instruct",))))["instruction"]
    assert tuned.ci95[0] > 0
    assert len(tuned.pairs) == 4


def test_the_best_family_is_named_with_its_closest_rival_and_all_pairs_counted():
    models = ("qwen2_5_1_5b", "qwen2_5_7b")
    found = findings(Grid(document, easier(model=models)))["family"]
    assert found.contrast.startswith("qwen minus ")
    assert found.p_holm < 0.05
    assert [p["pair"].split(" minus ")[0] for p in found.pairs] == ["qwen", "qwen"]
    assert found.p_value == pytest.approx(3 * max(p["p_value"] for p in found.pairs))
    even = findings(Grid(document))["family"]
    assert even.p_holm > 0.05
    assert "no significant difference" in even.sentence


def test_without_full_precision_size_is_confounded_and_says_so():
    found = findings(Grid(lambda c: document(c) and (c["precision"] == "8bit" or "1" in c.model)))
    assert "confounded" in found["size"].reason
    assert found["quantization"].outcome == "not run"


def test_embedded_models_have_no_tuned_twin_and_hub_models_put_them_aside():
    alone = Grid(embedded)
    found = findings(alone)
    assert found["instruction"].outcome == "not run"
    assert "not run" in found["instruction"].sentence
    assert found["instruction"].p_holm is None
    both = Grid(lambda cell: embedded(cell) or document(cell))
    assert {run.any_record.source.weights for run in runs_of(both.records, both.columns)} == {"hub"}


def test_rehearsals_are_no_results(tmp_path):
    grid = Grid(document, weights="random")
    assert runs_of(grid.records, grid.columns) == []
    assert write(grid.records, tmp_path, grid.columns) == []


def all_right(cell, rows):
    if cell["dataset"] == "trivia_qa":
        rows["correct"] = np.ones(len(rows["correct"]), bool)
    return rows


@pytest.mark.stress
def test_one_class_is_undefined_in_every_file_and_stops_none(tmp_path):
    grid = Grid(document, change=all_right)
    found = findings(grid)
    assert found["dataset"].outcome == "undefined"
    assert "one class alone" in found["dataset"].sentence
    assert "comparisons are undefined" in found["quantization"].reason
    assert found["quantization"].outcome == "answered"
    written = write(grid.records, tmp_path, grid.columns)
    assert tmp_path / "figures/auroc_heatmap.png" in written
    rows = list(csv.DictReader((tmp_path / "auroc_results.csv").open()))
    undefined = [row for row in rows if row["dataset"] == "trivia_qa"]
    assert {row["g_nll_auroc"] for row in undefined} == {""}
    assert all("one class" in row["g_nll_auroc_undefined"] for row in undefined)


def test_questions_that_one_model_left_without_a_score_are_left_out_for_both():
    def empty(cell, rows):
        if cell.model == "llama3_8b":
            rows["uncertainty"] = np.where(np.arange(120) < 20, np.nan, rows["uncertainty"])
        return rows

    grid = Grid(lambda c: document(c) and "llama" in c.model, change=empty)
    runs = [r for r in runs_of(grid.records, grid.columns) if r.dataset == "squad_v2"]
    small = next(r for r in runs if r.model == "llama3_2_1b")
    large = next(r for r in runs if r.model == "llama3_8b")
    assert contrast([(1, large), (-1, small)]).n_items == 100


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uncertainty")
    grid = Grid(document)
    return grid, folder, write(grid.records, folder, grid.columns)


@pytest.mark.stress
def test_the_documents_files_are_written(written):
    _, folder, paths = written
    names = {str(path.relative_to(folder)) for path in paths}
    figures = {f"figures/{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}
    assert names == {
        "auroc_results.csv",
        "auroc_results.json",
        "analysis_summary.json",
        *figures,
    }
    assert all(path.stat().st_size > 100 for path in paths)


def test_results_hold_one_row_per_model_and_data_set(written):
    grid, folder, _ = written
    rows = json.loads((folder / "auroc_results.json").read_text())
    assert len(rows) == len(grid.records) / 4 == 20
    first = rows[0]
    assert first["g_nll_auroc_low"] <= first["g_nll_auroc"] <= first["g_nll_auroc_high"]
    by_model = {row["model"]: row["size"] for row in rows}
    assert by_model["llama3_2_1b"] == by_model["mistral_v0_3_instruct"] == "small"
    assert by_model["llama3_8b"] == "large"
    table = list(csv.DictReader((folder / "auroc_results.csv").open()))
    assert [row["model"] for row in table] == [row["model"] for row in rows]


def test_the_summary_holds_the_documents_parts(written):
    _, folder, _ = written
    summary = json.loads((folder / "analysis_summary.json").read_text())
    assert len(summary["questions"]) == len(summary["key_findings"]) == 5
    for answer in summary["questions"]:
        assert answer["outcome"] == "answered"
        assert answer["ci95"][0] <= answer["estimate"] <= answer["ci95"][1]
        assert 0 <= answer["p_value"] <= answer["p_holm"] <= 1
    assert set(summary["aggregates"]) == {"family", "size", "precision", "dataset"}
    assert set(summary["aggregates"]["family"]) == {"llama", "qwen", "mistral"}
    assert summary["best"].keys() == {"trivia_qa", "squad_v2"}
    effects = {e["factor"] for e in summary["advanced"]["anova"]["effects"]}
    assert effects == {"family", "size", "precision", "dataset"}
    pairs = summary["advanced"]["score_correlations"]["pairs"]
    alike = next(p for p in pairs if {p["score"], p["other"]} == {"g_nll", "sar"})
    assert alike["spearman"] == pytest.approx(1)


def test_wrong_answers_are_counted_by_kind_in_each_family(written):
    grid, _, _ = written
    found = analysis.family_errors(runs_of(grid.records, grid.columns))
    for own in found.values():
        kinds = [own[kind] for kind in ("abstained", "answered", "partly", "unrelated")]
        assert sum(kinds) == own["wrong"] > 0
        surest = [example["g_nll"] for example in own["surest_wrong"]]
        assert surest == sorted(surest)
        assert len(surest) == analysis.MOST_EXAMPLES


def test_tokens_of_wrong_answers_are_less_sure_by_position():
    grid = Grid(document, lambda cell: 6.0)
    view = analysis.token_view(runs_of(grid.records, grid.columns))["squad_v2"]
    assert len(view["right"]) == len(view["wrong"]) == 2
    assert view["wrong"][0]["mean"] > view["right"][0]["mean"] + 1
    assert all(not example["right"] for example in view["examples"]["surest wrong"])


@pytest.mark.stress
def test_figures_are_the_same_bytes_again(written, tmp_path):
    grid, folder, _ = written
    write(grid.records, tmp_path, grid.columns)
    for path in (folder / "figures").iterdir():
        assert path.read_bytes() == (tmp_path / "figures" / path.name).read_bytes(), path.name


@pytest.mark.stress
def test_size_is_a_matter_of_the_family():
    grid = Grid(lambda cell: True)
    found = sizes(runs_of(grid.records, grid.columns))
    assert {m for m, size in found.items() if size == "small"} == {
        *("llama3_2_1b", "qwen2_5_1_5b", "mistral_v0_3_base", "mistral_v0_3_instruct"),
        "smollm2_135m_q4",
    }


@pytest.mark.stress
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scores", [("g_nll", "shuffled"), ("g_nll",)])
def test_one_model_with_few_scores_is_drawn_without_a_warning(tmp_path, scores):
    """The axes of what is not there once collapsed, and with them the layout."""
    grid = Grid(lambda cell: cell.model == "tiny_llama_1m" and cell.method in scores)
    written = write(grid.records, tmp_path, grid.columns)
    assert [path for path in written if path.suffix == ".svg"]


@pytest.mark.filterwarnings("error")
def test_equal_accuracies_have_no_correlation_and_cause_no_warning():
    def one_wrong(cell, rows):
        rows["correct"] = np.arange(len(rows["correct"])) > 0
        return rows

    grid = Grid(lambda cell: document(cell) and "llama" in cell.model, change=one_wrong)
    found = analysis.accuracy_and_auroc(runs_of(grid.records, grid.columns))
    assert found["spearman"] is None
    assert found["reason"] == "one of the two is constant"


def test_points_of_reduced_models_stand_beside_or_around_their_twins():
    """8-bit points once lay on those in 16 bits."""
    from benchsuite.studies.uncertainty.figures_effects import size_effect

    grid = Grid(lambda c: c.model == "smollm2_135m_q4" and c["dataset"] == "nq")
    figure = size_effect(runs_of(grid.records, grid.columns), {})
    lines = [line for line in figure.axes[0].get_lines() if line.get_marker() == "o"]
    places = [line.get_xdata()[0] for line in lines if len(line.get_xdata()) == 1]
    assert len(places) == len(set(places)) == 4
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["134 M"]


def test_a_score_of_a_project_and_every_seed_have_a_place_in_the_heat_map():
    """Figures once left a project's scores out, and of two seeds one hid the other's number."""
    from benchsuite.studies.uncertainty.figures_effects import heatmap

    chosen = ("g_nll", "sar", "shuffled")
    grid = Grid(
        lambda c: (c.model, c["dataset"]) == ("tiny_llama_1m", "passages") and c.method in chosen
    )

    def moved(record, auroc, **axes):
        cell = replace(record.cell, axes={**record.cell.axes, **axes})
        return replace(record, cell=cell, values={**record.values, "auroc": auroc})

    own = {"sar": "first_token"}
    records = [
        moved(r, 0.6 + seed / 1000, seed=seed, method=own.get(r.cell.method, r.cell.method))
        for r in grid.records
        for seed in (42, 43)
    ]
    runs = runs_of(records, grid.columns)
    (axes, _) = heatmap(runs, {}).axes

    titles = [tick.get_text() for tick in axes.get_xticklabels()]
    assert titles == ["G-NLL", "first token", "shuffled (control)"]
    rows = [tick.get_text() for tick in axes.get_yticklabels()]
    assert rows == ["tiny_llama_1m seed 42", "tiny_llama_1m seed 43"]
    assert axes.images[0].get_array()[:, 1].tolist() == [0.642, 0.643]


@pytest.mark.stress
@pytest.mark.parametrize("models", [("tiny_llama_1m",), ("llama3_2_1b", "qwen2_5_1_5b")])
def test_no_text_of_a_figure_is_cut_off(models, tmp_path, monkeypatch):
    """The title of a figure of few families once was."""
    from benchsuite.studies.uncertainty import figures

    drawn = {}
    monkeypatch.setattr(figures, "save", lambda figure, _, name: drawn.update({name: figure}) or [])
    grid = Grid(lambda cell: cell.model in models and cell.method in ("g_nll", "shuffled"))
    write(grid.records, tmp_path, grid.columns)
    assert "family_comparison" in drawn
    for name, figure in drawn.items():
        figure.draw_without_rendering()
        whole = figure.bbox.padded(1)
        for axes in figure.axes:
            for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
                if text.get_text() and text.get_visible():
                    extent = text.get_window_extent()
                    inside = whole.x0 <= extent.x0 and extent.x1 <= whole.x1
                    assert inside, (name, text.get_text())


def test_runs_of_another_setting_are_no_twins():
    """A default run in 16 bits once answered for the 8-bit run of other settings."""
    grid = Grid(document)
    other = Grid(lambda c: document(c) and c["precision"] == "8bit", lambda cell: 3.0)
    changed = [
        replace(r, cell=replace(r.cell, changed={"max_new_tokens": 20})) for r in other.records
    ]

    def columns(record):
        return (other if record.cell.changed else grid).columns(record)

    both = [*changed, *grid.records]
    assert answer_questions(runs_of(both, columns)) == findings_of(grid)
    summary = summarise(runs_of(both, columns), both)
    assert summary["setting"] == {}
    assert summary["left_out"]["other_records"] == len(changed)
    assert summarise(runs_of(changed, columns), changed)["setting"] == {"max_new_tokens": 20}


def findings_of(grid):
    return answer_questions(runs_of(grid.records, grid.columns))


def test_few_runs_have_the_p_value_of_all_their_orders():
    """Student's approximation says 0 of four runs in one order, which is 1 of 12 by chance."""
    grid = Grid(lambda c: document(c) and "llama" in c.model and c["precision"] == "fp16")
    runs = runs_of(grid.records, grid.columns)
    for run, accuracy, area in zip(runs, (0.1, 0.2, 0.3, 0.4), (0.5, 0.6, 0.7, 0.8), strict=True):
        run.any_record.values.update(accuracy=accuracy, auroc=area)
    found = analysis.accuracy_and_auroc(runs)
    assert found["spearman"] == pytest.approx(1)
    assert found["p_value"] == pytest.approx(2 / 24)


def test_the_error_by_position_counts_each_question_once():
    grid = Grid(document, lambda cell: 6.0)
    same = replace_rows(grid)
    runs = runs_of(grid.records, same)
    (one,) = (r for r in runs if r.label == "llama3_2_1b" and r.dataset == "squad_v2")
    alone = analysis.token_view([one])["squad_v2"]["right"][0]
    often = analysis.token_view([r for r in runs if r.dataset == "squad_v2"])["squad_v2"]
    assert often["right"][0]["n"] == 10 * alone["n"]
    assert often["right"][0]["error"] == pytest.approx(alone["error"])


def replace_rows(grid):
    """Return a reader by which every model answered as the first one did."""
    first = {r.cell.axes["dataset"]: r for r in grid.records[::-1] if r.cell.method == "g_nll"}
    return lambda record: grid.columns(first[record.cell.axes["dataset"]])


def test_scores_without_a_changed_parameter_stay_beside_those_that_have_it():
    grid = Grid(document)
    records = [
        replace(r, cell=replace(r.cell, changed={"similarity_model": "minilm_l6_v2"}))
        if r.cell.method == "sar"
        else r
        for r in grid.records
    ]
    runs = runs_of(records, grid.columns)
    assert {tuple(run.records) for run in runs} == {METHODS}
    assert summarise(runs, records)["setting"] == {"similarity_model": "minilm_l6_v2"}
