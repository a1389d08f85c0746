import json
import statistics
from dataclasses import replace

import pytest
from scipy import stats

from benchsuite.records.record import Items, Times
from benchsuite.reporting import groups_of, summarise
from benchsuite.reporting.best import best_method
from benchsuite.study import study
from tests.reporting.factory import CALIBRATION, ON_A_CPU, drawn, grid, record, results

THREE = ["gptq_default", "random", "cola_zero"]


def summary_of(cells, records):
    return summarise(study(CALIBRATION), cells, records)


@pytest.fixture(scope="module")
def cells():
    return grid("llama2_7b", methods=THREE)


@pytest.fixture(scope="module")
def records(cells):
    return drawn(cells)


@pytest.fixture(scope="module")
def summary(cells, records):
    return summary_of(cells, records)


def arm(records, method):
    return [r.values["perplexity"] for r in records.values() if r.cell.method == method]


def test_the_documents_structure(summary):
    model = summary["llama-2-7b-hf"]

    assert set(summary) == {"llama-2-7b-hf", "_benchsuite"}
    for method in THREE:
        assert {"mean", "std", "cv_percent", "min", "max"} <= set(model[method]["ppl"])
        assert model[method]["times"]["selection_time_sec_mean"] == pytest.approx(165.14)
        assert model[method]["times"]["quant_time_sec_mean"] == pytest.approx(755.78)
    assert {"t_stat", "p_value", "cohens_d"} <= set(model["ttest_cola_zero_vs_random"])


def test_the_numbers_are_those_of_the_standard_library(summary, records):
    values = arm(records, "cola_zero")
    ppl = summary["llama-2-7b-hf"]["cola_zero"]["ppl"]

    assert ppl["mean"] == pytest.approx(statistics.mean(values))
    assert ppl["std"] == pytest.approx(statistics.stdev(values))
    assert ppl["cv_percent"] == pytest.approx(100 * ppl["std"] / ppl["mean"])
    assert (ppl["min"], ppl["max"], ppl["n"]) == (min(values), max(values), 5)
    assert ppl["values"] == values
    assert ppl["seeds"] == [42, 43, 44, 45, 46]


def test_the_documents_t_test_is_students_and_welch_decides(summary, records):
    found = summary["llama-2-7b-hf"]["ttest_cola_zero_vs_random"]
    student = stats.ttest_ind(arm(records, "cola_zero"), arm(records, "random"))
    welch = stats.ttest_ind(arm(records, "cola_zero"), arm(records, "random"), equal_var=False)

    assert found["test"] == "student"
    assert found["t_stat"] == pytest.approx(student.statistic)
    assert found["p_value"] == pytest.approx(student.pvalue)
    assert found["cohens_d"] == pytest.approx(student.statistic * (2 / 5) ** 0.5)
    assert found["decided_by"] == "welch"
    assert found["welch"]["p_value"] == pytest.approx(welch.pvalue)


def test_against_the_default_the_test_is_one_sample(summary, records):
    found = summary["llama-2-7b-hf"]["ttest_cola_zero_vs_gptq_default"]
    reference = stats.ttest_1samp(arm(records, "cola_zero"), 5.80)

    assert found["test"] == "one_sample"
    assert found["t_stat"] == pytest.approx(reference.statistic)
    assert found["p_value"] == pytest.approx(reference.pvalue)
    assert found["p_holm"] >= found["p_value"]


def test_bit_identical_seeds_have_a_std_of_exactly_zero(summary):
    assert summary["llama-2-7b-hf"]["gptq_default"]["ppl"]["std"] == 0.0


def test_it_is_json_without_nan(summary):
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_one_record_alone_is_json_too(cells):
    one = {cells[0].id: record(cells[0])}

    found = summary_of(cells, one)

    assert json.dumps(found, allow_nan=False)
    assert found["llama-2-7b-hf"]["gptq_default"]["ppl"]["std"] is None
    assert found["_benchsuite"]["missing"] == [c.id for c in cells[1:]]


def test_no_records_at_all(cells):
    found = summary_of(cells, {})

    assert set(found) == {"_benchsuite"}
    assert len(found["_benchsuite"]["missing"]) == 15


def test_a_missing_seed_leaves_the_comparison_unjudged(cells, records):
    lost = {i: r for i, r in records.items() if i != "llama2_7b-random-seed46"}

    found = summary_of(cells, lost)["llama-2-7b-hf"]["ttest_cola_zero_vs_random"]

    assert found["p_value"] is None
    assert found["missing"] == ["llama2_7b-random-seed46"]


def test_null_sentence_is_filled_from_the_numbers():
    cells = grid("llama2_7b", methods=["random", "cola_zero"])
    means = {"random": 5.79, "cola_zero": 5.785}
    (null,) = summary_of(cells, drawn(cells, std=0.1, means=means))["_benchsuite"]["null_results"]

    assert null["text"].startswith(
        "Multi-seed evaluation (N=5) on llama-2-7b-hf showed no statistically significant "
        "difference between COLA-Zero (PPL="
    )
    assert "random sampling (PPL=" in null["text"]
    assert "coefficient of variation (CV) for both methods was low" in null["text"]
    assert "80 % power" in null["text"]
    assert "minimal benefit" not in null["text"]


def test_stand_ins_and_rehearsals_stay_out_of_the_models():
    cells = grid("llama2_7b", "mistral_7b", "opt_6_7b", methods=["random"])
    changes = {
        "mistral_7b": {"weights": "local", "stand_in": "two layers"},
        "opt_6_7b": {"weights": "random"},
    }

    found = summary_of(cells, drawn(cells, change=lambda c: changes.get(c.model, {})))

    assert [k for k in found if k != "_benchsuite"] == ["llama-2-7b-hf"]
    extra = found["_benchsuite"]
    assert extra["stand_ins"]["mistral-7b-v0.1"]["reason"] == "two layers"
    assert "ppl" not in json.dumps(extra["rehearsals"])
    assert extra["rehearsals"]["opt-6.7b"]["random"]["times"]["quant_time_sec_mean"] > 0


def test_device_kinds_are_never_averaged():
    cells = grid("tiny_llama_1m", methods=["random"])

    records = drawn(cells, change=lambda c: ON_A_CPU if c.seed < 44 else {})
    found = summary_of(cells, records)

    times = found["tiny_llama_1m"]["random"]["times"]
    assert times["quant_time_sec_mean"] is None
    assert times["device_kind"] == ["cpu", "cuda"]
    rows = found["_benchsuite"]["timings"]
    assert [(r["device"], r["n"]) for r in rows] == [("cpu: Xeon", 2), ("cuda: NVIDIA H200", 3)]


def test_contended_timings_are_kept_apart():
    cells = grid("tiny_llama_1m", methods=["random"])
    records = drawn(cells, change=lambda c: {"contended": c.seed == 42})

    found = summary_of(cells, records)

    assert found["tiny_llama_1m"]["random"]["times"]["contended"] is True
    rows = found["_benchsuite"]["timings"]
    assert [(r["contended"], r["n"]) for r in rows] == [(False, 4), (True, 1)]


def test_a_best_method_needs_the_tests_to_say_so():
    cells = grid("llama2_7b", methods=THREE)
    clear = {"gptq_default": 5.80, "random": 5.79, "cola_zero": 5.50}

    sure = summary_of(cells, drawn(cells, std=0.01, means=clear))["llama-2-7b-hf"]
    unsure = summary_of(cells, drawn(cells, std=0.5))["llama-2-7b-hf"]

    assert [m for m in THREE if sure[m].get("best")] == ["cola_zero"]
    assert not any(unsure[m].get("best") for m in THREE)


def test_a_method_that_runs_once_competes_as_the_constant_that_it_is():
    cells = [c for c in grid("llama2_7b", methods=THREE) if c.method != "random"]
    once = replace(study(CALIBRATION), once=("gptq_default",))
    alone = [c for c in cells if c.method != "gptq_default" or c.seed == 42]
    clear = {"gptq_default": 5.80, "cola_zero": 5.50}
    (group,) = groups_of(alone, drawn(alone, std=0.01, means=clear))

    assert best_method(once, group) == "cola_zero"
    (turned,) = groups_of(alone, drawn(alone, std=0.01, means={**clear, "cola_zero": 6.1}))
    assert best_method(once, turned) == "gptq_default"
    # Where it should have more seeds, one value of it stands apart and nothing is left to beat.
    assert best_method(study(CALIBRATION), group) is None


def test_a_single_value_of_one_method_does_not_hide_the_best_of_the_others():
    cells = grid("llama2_7b", methods=THREE)
    run = [c for c in cells if c.method != "gptq_default" or c.seed == 42]
    clear = {"gptq_default": 5.80, "random": 5.79, "cola_zero": 5.50}
    (group,) = groups_of(cells, drawn(run, std=0.01, means=clear))

    assert best_method(study(CALIBRATION), group) == "cola_zero"


def test_nobody_is_best_while_a_single_value_of_another_is_better():
    cells = grid("llama2_7b", methods=THREE)
    run = [c for c in cells if c.method != "gptq_default" or c.seed == 42]
    means = {"gptq_default": 5.20, "random": 5.79, "cola_zero": 5.50}
    (group,) = groups_of(cells, drawn(run, std=0.01, means=means))

    assert best_method(study(CALIBRATION), group) is None


def test_a_lead_that_does_not_matter_makes_no_best():
    cells = grid("llama2_7b", methods=["random", "cola_zero"])
    means = {"random": 5.80, "cola_zero": 5.79}
    (group,) = groups_of(cells, drawn(cells, std=0.0001, means=means))

    assert best_method(study(CALIBRATION), group) is None


@pytest.mark.parametrize(
    ("shift", "std", "word"),
    [
        (-0.3, 0.01, "strong evidence, large effect"),
        (-0.1, 0.08, "no significant difference (null result)"),
        (-0.01, 0.001, "trivially different: within the smallest effect that matters"),
    ],
)
def test_the_interpretation_is_no_stronger_than_the_verdict(shift, std, word):
    """Uncorrected, the second is "moderate evidence, large effect" beside "inconclusive"."""
    cells = grid("llama2_7b", methods=["random", "cola_zero"])
    means = {"random": 5.8, "cola_zero": 5.8 + shift}
    seen = summary_of(cells, drawn(cells, std=std, means=means, rng_seed=3))
    found = seen["llama-2-7b-hf"]["ttest_cola_zero_vs_random"]

    assert found["interpretation"] == word
    assert found["ci95_method"] == "uncorrected"
    assert found["ci_simultaneous_method"] == "Bonferroni, each of 3 at 98.33 %"
    (low, high), (inner, outer) = found["ci_simultaneous"], found["ci95"]
    assert low < inner < outer < high
    assert found["verdict"] in ("better", "inconclusive", "trivially different")


def test_a_control_is_never_best():
    cells = grid("llama2_7b", methods=["random", "noise_tokens"])
    found = summary_of(cells, drawn(cells, means={"random": 5.8, "noise_tokens": 5.1}))

    assert "best" not in found["llama-2-7b-hf"]["noise_tokens"]


def test_downstream_is_averaged_over_the_seeds_that_ran_it():
    cells = grid("llama2_7b", methods=["random"])
    ran = {"arc_easy": 0.7, "mmlu": None, "average": 0.7}
    found = summary_of(
        cells, drawn(cells, change=lambda c: {"downstream": ran} if c.seed == 42 else {})
    )

    tasks = found["llama-2-7b-hf"]["random"]["downstream"]
    assert tasks == {"arc_easy": {"mean": 0.7, "n": 1}, "average": {"mean": 0.7, "n": 1}}


@pytest.mark.parametrize(
    ("changes", "settings", "comparable"),
    [
        (
            {},
            {"sym": False},
            False,
        ),  # GPTQ asymmetric is published for `gptq`, not for our samplers
        ({"weights": "local"}, {}, False),
    ],
)
def test_published_values_are_context_unless_everything_matches(changes, settings, comparable):
    cells = grid("llama2_7b", methods=["random"], settings=settings)
    found = summary_of(cells, drawn(cells, change=lambda c: changes))

    (rows,) = found["_benchsuite"]["published"].values()
    assert any(row["comparable"] for row in rows) is comparable
    secondary = [row for row in rows if row["status"] == "S"]
    assert all(row["why"] == "known from a secondary source only" for row in secondary)


def test_other_text_has_no_published_value():
    cells = grid("llama2_7b", methods=["random"], settings={"evaluation_tokens": 4096})

    assert summary_of(cells, drawn(cells))["_benchsuite"]["published"] == {}


def test_matching_weights_and_protocol_make_a_value_comparable():
    from dataclasses import replace

    from benchsuite.reporting import groups_of, published

    cells = grid("llama2_7b", methods=["random"])
    full = [replace(c, axes={**c.axes, "method": "fp16"}) for c in cells]
    (group,) = groups_of(full, {c.id: record(c, 5.47) for c in full})

    rows = [row for row in published.beside(group) if row["comparable"]]

    assert [(row["label"], row["value"], row["status"]) for row in rows] == [("FP16", 5.47, "P")]


def test_rehearsals_are_not_judged():
    cells = grid("opt_6_7b", methods=THREE)

    made = results(cells, drawn(cells, change=lambda c: {"weights": "random"}))

    assert made.judgements == []


def test_stand_ins_are_a_family_of_their_own():
    cells = grid("llama2_7b", "mistral_7b", methods=["random", "cola_zero"])
    stand_in = {"weights": "local", "stand_in": "two layers"}

    made = results(cells, drawn(cells, change=lambda c: stand_in if c.model[0] == "m" else {}))

    sizes = {j.model: j.evidence["family_size"] for j in made.judgements if j.claim.kind == "lower"}
    # One comparison, and the scatter of either method.
    assert sizes == {"llama-2-7b-hf": 3, "mistral-7b-v0.1 (stand-in)": 3}


def test_item_evidence_reaches_the_judgement():
    import numpy as np

    from benchsuite.reporting import judge_study

    cells = grid("llama2_7b", methods=["random", "cola_zero"])
    made = results(
        cells, drawn(cells, change=lambda c: {"items": Items("x.parquet", ("chunk_nll",), None)})
    )
    text = np.random.default_rng(0).normal(2, 0.5, 80)

    def columns(found):
        return {"chunk_nll": text + (0.01 if found.cell.method == "random" else 0.0)}

    judged = judge_study(made, columns=columns)

    lower = next(j for j in judged if j.claim.kind == "lower")
    difference = float(np.exp(text.mean()) - np.exp((text + 0.01).mean()))
    assert lower.evidence["items"]["difference"] == pytest.approx(difference)


def test_chunks_are_paired_by_their_names_and_neighbours_taken_together():
    import numpy as np

    from benchsuite.reporting import judge_study

    cells = grid("llama2_7b", methods=["random", "cola_zero"])
    facts = {"items": Items("x.parquet", ("chunk", "chunk_nll"), None)}
    made = results(cells, drawn(cells, change=lambda c: facts))
    text, names = (
        np.random.default_rng(0).normal(2, 0.5, 80),
        np.array([f"c{i}" for i in range(90)]),
    )

    def columns(found):
        start = 10 if found.cell.method == "random" else 0
        return {"chunk": names[start : start + 80], "chunk_nll": text}

    judged = judge_study(made, columns=columns)

    found = next(j for j in judged if j.claim.kind == "lower").evidence["items"]
    assert (found["by"], found["n_items"], found["n_left_out"]) == ("id", 70, 20)
    assert found["n_units"] < found["n_items"]


def test_what_made_nothing_has_no_time_of_making(cells, records):
    """An original is only read: its making is not 0 s long."""
    read = {
        i: replace(r, times=Times({"evaluation": 3.0}, making=0.0))
        if r.cell.method == "gptq_default"
        else r
        for i, r in records.items()
    }

    times = {
        m: v["times"] for m, v in summary_of(cells, read)["llama-2-7b-hf"].items() if m in THREE
    }

    assert times["gptq_default"]["total_time_sec_mean"] is None
    assert times["random"]["total_time_sec_mean"] > 0
