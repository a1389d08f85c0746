import ast
import re
import shlex
from dataclasses import replace

import numpy as np
import pytest

from benchsuite.records.record import Items
from benchsuite.reporting import judge_study, render_page, rerun_command, terminal_lines
from benchsuite.reporting.results import StudyResults
from benchsuite.study import lower, study
from tests.reporting.factory import CALIBRATION, drawn, grid, record, results

THREE = ["gptq_default", "random", "cola_zero"]
CLEAR = {"gptq_default": 5.80, "random": 5.70, "cola_zero": 5.50}
STUDY = study(CALIBRATION)


def test_little_is_said_when_all_is_well():
    cells = grid("llama2_7b", methods=THREE)

    lines = terminal_lines(results(cells, drawn(cells, std=0.01, means=CLEAR)))

    assert [text for text, _ in lines] == [
        "calibration_selection: 15 of 15 cells; claims: 6 held",
    ]


def test_one_cell_is_told_as_one():
    cells = grid("llama2_7b", methods=["rtn"])

    texts = [text for text, _ in terminal_lines(results(cells, {}))]

    assert texts[0] == "calibration_selection: 0 of 1 cell"


def test_what_did_not_hold_is_told_with_its_numbers():
    cells = grid("llama2_7b", methods=THREE)
    means = {"gptq_default": 5.60, "random": 5.70, "cola_zero": 5.69}

    lines = terminal_lines(results(cells, drawn(cells, std=0.02, means=means)))

    violated = [(t, m) for t, m in lines if t.startswith("  violated")]
    assert len(violated) == 2
    assert "random has lower perplexity than gptq_default [llama-2-7b-hf]" in violated[1][0]
    assert violated[0][1]["red"]
    (null,) = [t for t, _ in lines if t.startswith("  inconclusive")]
    assert "80 % power" in null


def test_methods_that_run_once_are_no_smoke_run():
    """Their items decide, however many seeds there are: what came of them is told."""
    pair = ("fp16", "rtn")
    cells = [c for c in STUDY.cells() if c.model == "llama2_7b" and c.method in pair]
    claimed = replace(STUDY, claims=(lower("perplexity", "fp16", than="rtn"),))
    side = Items("side.parquet", (), None)
    records = {cell.id: record(cell, 5.7, items=side) for cell in cells}
    made = StudyResults(claimed, cells, records)
    nll = np.log(5.7) + np.random.default_rng(0).normal(0, 0.1, (2, 40))

    def columns(record):
        return {"chunk_nll": nll[pair.index(record.cell.method)], "chunk": np.arange(40)}

    made.judgements = judge_study(made, columns=columns)
    texts = [text for text, _ in terminal_lines(made)]

    assert made.judgements[0].evidence["n_items"] == 40
    assert texts[1].startswith("  inconclusive: fp16 has lower perplexity than rtn [llama-2-7b")
    assert not any("smoke run" in text for text in texts)


def test_a_control_that_did_not_come_out_says_so_in_its_line():
    cells = grid("llama2_7b", methods=["random", "noise_tokens"])
    means = {"random": 5.70, "noise_tokens": 5.70}

    lines = terminal_lines(results(cells, drawn(cells, std=0.02, means=means)))

    (null,) = [t for t, _ in lines if t.startswith("  inconclusive: random has lower perplexity")]
    assert re.search(r"; 80 % power from \S+ on\. The control did not come out: ", null)


def test_missing_and_failed_cells_come_with_their_command():
    cells = grid("llama2_7b", methods=THREE)
    records = drawn(cells)
    del records["llama2_7b-random-seed44"]
    failed = {"llama2_7b-cola_zero-seed42": records.pop("llama2_7b-cola_zero-seed42")}

    texts = [t for t, _ in terminal_lines(results(cells, records, failed=failed))]

    at = texts.index("  1 missing: llama2_7b-random-seed44")
    assert texts[at + 1].strip() == (
        "pytest benchmarks -m \"cell(study='calibration_selection', model='llama2_7b', "
        "method='random', seed=44)\""
    )
    assert "  1 failed: llama2_7b-cola_zero-seed42" in texts


def test_a_claim_that_was_not_run_names_what_it_waits_for_and_the_command():
    cells = grid("llama2_7b", methods=THREE, settings={"quant_bits": 3})
    records = drawn(cells)
    for seed in (43, 44):
        del records[f"llama2_7b-random-seed{seed}"]
    found = results(cells, records, where=("--pyargs", "benchsuite.benchmarks"))

    texts = [t for t, _ in terminal_lines(found, verbose=True)]

    at = texts.index(
        "  not run: cola_zero has lower perplexity than random on llama2_7b: "
        "waits for random (seeds 43, 44)"
    )
    assert texts[at + 1].strip() == (
        "pytest --pyargs benchsuite.benchmarks -m \"cell(study='calibration_selection', "
        "model='llama2_7b', method='random')\" --set calibration_selection.quant_bits=3"
    )
    assert not [t for t in texts if "not run" in t and "__" in t]


def test_a_claim_whose_cells_ran_without_its_value_waits_for_nothing():
    cells = grid("llama2_7b", methods=["random", "cola_zero"])
    records = drawn(cells)
    empty = next(c for c in cells if (c.method, c.seed) == ("random", 43))
    records[empty.id] = record(empty, None)
    found = results(cells, records)

    (judged,) = [j for j in found.judgements if j.claim.other == "random"]
    assert judged.outcome == "not_run"
    assert judged.sentence.startswith(f"perplexity is in no record of {empty.id}: nothing is left")
    texts = [text for text, _ in terminal_lines(found, verbose=True)]
    told = "perplexity is in no record of random (seed 43): nothing is left to run"
    at = texts.index(f"  not run: {judged.claim.sentence} on llama2_7b: {told}")
    assert not texts[at + 1 :] or "pytest" not in texts[at + 1]
    assert told in render_page([found])


def test_a_command_by_method_takes_in_no_other_method():
    cells = grid("llama2_7b", methods=["random", "cola_zero"])
    command = rerun_command(STUDY, cells, by_method=True)
    (marks,) = re.findall('-m "(.*)"', command)
    assert set(marks.split(" or ")) == {
        f"cell(study='calibration_selection', model='llama2_7b', method='{method}')"
        for method in ("random", "cola_zero")
    }


def selected(command, cells):
    """Return the cells that a command's mark expression selects."""
    expression = shlex.split(command)[shlex.split(command).index("-m") + 1]
    call = ast.parse(expression, mode="eval").body
    wanted = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
    wanted.pop("study")
    return [c for c in cells if all(c.axes[k] == v for k, v in wanted.items())]


@pytest.mark.parametrize("pick", [slice(0, 1), slice(0, 5), slice(0, 45), slice(3, 60)])
def test_the_command_covers_the_cells(pick):
    cells = grid("llama2_7b", "opt_6_7b")
    wanted = cells[pick]

    command = rerun_command(STUDY, wanted)

    assert {c.id for c in wanted} <= {c.id for c in selected(command, cells)}


def test_the_command_carries_what_the_cells_need():
    bits = grid("llama2_7b", methods=["random"], settings={"quant_bits": 3})
    tour = grid("tiny_llama_1m", methods=["random"], tour=True)
    seeds = grid("llama2_7b", methods=["random"], seeds=[1, 2])

    assert "--set calibration_selection.quant_bits=3" in rerun_command(STUDY, bits)
    assert re.search(r"--tour$", rerun_command(STUDY, tour))
    assert "--seeds 1,2" in rerun_command(STUDY, seeds)
    assert "--seeds" not in rerun_command(STUDY, bits)
    assert rerun_command(STUDY, bits, ("--weights", "random")).endswith("--weights random")


def test_the_command_carries_a_parameter_that_only_some_methods_have():
    quantizers = study("quantizers").with_models("tiny_llama_1m")
    cells = list(quantizers.cells(seeds=[42], settings={"iterations": 20}))

    assert "--set quantizers.iterations=20" in rerun_command(quantizers, cells)


def test_the_command_selects_nothing_beyond_the_grid_that_was_asked_for():
    """The study has five seeds, and AdaRound alone has iterations."""
    quantizers = study("quantizers").with_models("tiny_llama_1m")
    asked = {"seeds": [42, 43], "settings": {"iterations": 20}}
    cells = list(quantizers.cells(**asked))
    missing = [c for c in cells if c.method == "gptq_w4" and c.seed == 43]
    assert len(quantizers.seeds) > 2

    command = rerun_command(quantizers, missing, grid=cells)

    assert command.endswith("--set quantizers.iterations=20 --seeds 42,43")
    whole = list(quantizers.cells())
    assert "--set" not in (command := rerun_command(quantizers, whole[-2:], grid=whole))
    assert "--seeds" not in command


def test_rehearsals_are_named_as_such():
    cells = grid("opt_6_7b", methods=["random"])

    (line, *_) = terminal_lines(results(cells, {c.id: record(c, weights="random") for c in cells}))

    assert "5 of them rehearsals with random weights" in line[0]


def test_verbose_tells_held_claims_too():
    cells = grid("llama2_7b", methods=THREE)
    made = results(cells, drawn(cells, std=0.01, means=CLEAR))

    texts = [t for t, _ in terminal_lines(made, verbose=True)]

    assert sum(t.startswith("  held") for t in texts) == 6
