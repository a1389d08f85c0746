"""Estimates from records: ranges that hold what was measured, and name their basis."""

import math

import pytest

from benchsuite import catalog
from benchsuite.harness.scheduling.estimate import Span, estimate, measured_here, schedule
from benchsuite.records.fingerprint import Fingerprint
from benchsuite.records.record import CellFacts, Record, Source, Times
from benchsuite.study import STUDIES, Parameter, Study, study
from benchsuite.study.cell import Cell

DEVICE = "NVIDIA H200"


def cell(model="llama2_7b", method="random", seed=42, **changes):
    declared = study("calibration_selection")
    return next(
        c
        for c in declared.cells(settings=changes)
        if (c.model, c.method, c.seed) == (model, method, seed)
    )


def record(of: Cell, quant=22.0, evaluation=7.5, selection=13.0, paid=0.0, found=0.0, **changes):
    """A record as the store keeps it.

    Of its features' seconds it ``paid`` some itself and ``found`` the others paid for.
    """
    stages = {"selection": selection + paid, "quant": quant, "evaluation": evaluation}
    reported = {
        "selection": selection + paid + found,
        "selection_shared": paid + found,
        "selection_spent": selection + paid,
    }
    made = {
        "environment": {"device": DEVICE},
        "source": Source("random"),
        "times": Times(stages, reported),
        "values": {"evaluated_tokens": 341_000},
        "peak_memory_bytes": 20 * 2**30,
    }
    return Record(CellFacts.of(of), Fingerprint("i", "c", "e"), **(made | changes))


def test_records_of_the_cell_itself_whatever_the_seed_bound_it():
    found = [record(cell(seed=s), quant=q) for s, q in ((43, 20.0), (44, 22.0), (45, 25.0))]
    made = estimate(cell(), found)
    assert made.seconds == Span(13 + 20 + 7.5, 13 + 25 + 7.5)
    assert made.basis == "3 rehearsals of this model and method"
    assert made.memory.low == 20 * 2**30 <= made.memory.high < 22 * 2**30


def test_one_record_is_widened():
    made = estimate(cell(), [record(cell(seed=43))])
    assert made.seconds.low < 42.5 < made.seconds.high
    assert made.basis == "1 rehearsal of this model and method"


def test_features_that_one_cell_pays_for_all_are_counted_once():
    payer = record(cell(method="cola_zero"), selection=1.0, paid=139.0)
    heir = record(cell(method="cola_zero", seed=43), selection=1.0, found=139.0)
    for known in ([payer], [heir], [payer, heir]):  # who paid is no part of the estimate
        made = estimate(cell(method="cola_zero", seed=44), known)
        assert made.shared == pytest.approx(139)
        assert made.seconds.low < 30.5 < made.seconds.high < 40
    five = [made] * 5
    assert schedule(five, 1).high < 139 + 5 * 40 + 60


def test_another_model_is_scaled_by_parameters_and_tokens():
    made = estimate(cell("llama2_13b"), [record(cell())])
    bigger = catalog.model("llama2_13b").n_parameters / catalog.model("llama2_7b").n_parameters
    assert made.basis == "1 rehearsal, scaled from llama2_7b by parameters x tokens"
    assert made.seconds.low < bigger * 29.5 < made.seconds.high
    assert made.memory.low <= bigger * 20 * 2**30 <= made.memory.high
    half = estimate(cell(n_calibration_samples=64), [record(cell())])
    assert half.seconds.high < made.seconds.high
    assert half.seconds.low < 11 + 7.5 < half.seconds.high


def test_a_study_of_ones_own_is_scaled_by_the_stages_that_its_parameters_count(monkeypatch):
    declared = Study(
        "own",
        "?",
        {"model": ("llama2_7b",), "method": ("a",)},
        (1,),
        {"n_chains": Parameter(8, tokens_of=("dreaming",), counted_as="chains_seen")},
        making=("dreaming",),
    )
    monkeypatch.setitem(STUDIES, "own", declared)
    known, double, all_of_them = (
        next(declared.cells(settings={"n_chains": n})) for n in (8, 16, 0)
    )
    stages = {"dreaming": 13.0, "looking": 2.0}
    shared = {"dreaming": 13.0, "dreaming_shared": 3.0, "dreaming_spent": 13.0}
    seen = record(known, times=Times(stages, shared), values={"chains_seen": 8})
    made = estimate(double, [seen])
    assert made.shared == 3
    assert made.seconds.low == pytest.approx(0.75 * (10 * 2 + 2))
    assert made.seconds.high == pytest.approx(1.35 * (10 * 2 ** (4 / 3) + 2 * 2))
    assert estimate(all_of_them, [seen]).basis == "no basis"
    assert estimate(double, [record(all_of_them, values={"chains_seen": 16})]).basis != "no basis"


def test_the_nearest_model_is_the_basis():
    found = [record(cell("tiny_llama_1m"), quant=0.1), record(cell("opt_6_7b"))]
    assert "scaled from opt_6_7b" in estimate(cell("llama2_13b"), found).basis


def test_a_model_of_another_order_of_magnitude_is_no_basis():
    assert estimate(cell(), [record(cell("tiny_llama_4m"))]).basis == "no basis"


def test_an_unknown_number_of_evaluated_tokens_is_no_basis():
    small = record(cell(evaluation_tokens=4096), values={"evaluated_tokens": 4096})
    made = estimate(cell(), [small])
    assert (made.seconds.high, made.basis) == (math.inf, "no basis")
    back = estimate(cell(evaluation_tokens=4096), [record(cell())])
    assert back.seconds.high < math.inf


def test_without_records_there_is_a_bound_from_below_alone():
    made = estimate(cell(), [], at_least=lambda wanted: 3.0)
    assert made.seconds == Span(3.0, math.inf)
    assert made.memory.low == catalog.model("llama2_7b").weight_bytes
    assert made.basis.startswith("no record of this method here")
    assert estimate(cell(), [record(cell(method="rtn"))]).basis == "no basis"


def test_what_fits():
    made = estimate(cell(), [record(cell())])
    assert made.fits(80 * 2**30) == "fits"
    assert made.fits(int(20.5 * 2**30)) == "may not fit"
    assert made.fits(16 * 2**30) == "will not fit"


def test_only_whole_records_of_this_device_count_and_those_alone_on_it_before_others():
    crowded = record(cell(seed=43), times=Times({"quant": 90.0}, contended=True))
    elsewhere = record(cell(), environment={"device": "NVIDIA GB10"})
    failed = record(cell(), outcome="failed")
    alone = record(cell())
    found = measured_here([crowded, elsewhere, failed, alone], DEVICE, 1)
    assert found == [crowded, alone]
    assert estimate(cell(), found).seconds.high < 90 / 1.5
    assert estimate(cell(), [crowded]).seconds.high >= 90


@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_a_schedule_is_never_shorter_than_its_parts_nor_longer_than_all_in_a_row(workers):
    made = [estimate(cell(seed=s), [record(cell())]) for s in (42, 43, 44, 45, 46)]
    load = catalog.model("llama2_7b").weight_bytes / 0.5e9
    worst = schedule(made, workers).high
    alone = made[0].seconds.high
    assert worst == pytest.approx(load + math.ceil(5 / workers) * alone)
    assert schedule(made, workers).low < worst
