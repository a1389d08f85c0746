"""How results stand to a frozen plan, and looks that no plan pays for."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchsuite.records.judged import Look
from benchsuite.reporting.planned import standing, unpaid_looks
from benchsuite.study import Metric, Study, higher, lower
from benchsuite.study.plan import FrozenPlan, StudyPlan, claim_facts, margins_of
from tests.reporting.factory import CALIBRATION, grid, record

CELLS = grid("llama2_7b", methods=["random", "cola_zero"], seeds=(1, 2, 3, 4))
CLAIM = lower("perplexity", "cola_zero", than="random")
MODEL = "llama-2-7b-hf"
AFTER = "2026-03-02T10:00:00+00:00"


def study(margin="0.5%", claims=(CLAIM,)):
    metric = Metric("perplexity", better="lower", margin=margin)
    axes = {"model": ("llama2_7b",), "method": ("random", "cola_zero")}
    return Study(CALIBRATION, "?", axes, (1, 2, 3, 4), metrics=[metric], claims=claims)


def plan(looks=(4,), seen=()):
    planned = StudyPlan(
        CALIBRATION,
        {cell.id: cell.parameters for cell in CELLS},
        (1, 2, 3, 4),
        looks,
        "pocock",
        margins_of(study()),
        ({**claim_facts(CLAIM), "on": [MODEL]},),
        seen,
    )
    frozen = "2026-03-01T12:00:00+00:00"
    where = Path("folder/plan.json")
    return FrozenPlan(
        where, "0123456789abcdef", frozen, 0.05, False, "", {}, {}, {CALIBRATION: planned}
    )


def stands(frozen=None, declared=None, at=AFTER, due=8, **seen):
    records = {c.id: replace(record(c), started_at=at) for c in CELLS[:due]}
    return standing(frozen or plan(), declared or study(), CELLS, records, due=len(CELLS), **seen)


def look(*seeds, claim=CLAIM.sentence, model=MODEL):
    return Look("2026-03-03T09:00:00+00:00", CALIBRATION, seeds, {claim: (model,)})


def test_as_planned_and_so_far():
    assert stands().sentence == "as planned (plan.json, sha256 0123456789ab, frozen 2026-03-01)"
    assert stands(due=3).sentence.startswith("as planned so far (plan.json")
    assert stands(due=3).sentence.endswith(", 3 of 8 cells")
    assert stands().as_dict()["as_planned"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"declared": study("1%")}, "the margin of perplexity is 1%, planned was 0.5%"),
        (
            {"declared": study(claims=(CLAIM, higher("perplexity", "cola_zero", than="random")))},
            "the claim 'cola_zero has higher perplexity than random' was not planned",
        ),
        (
            {"declared": study(claims=())},
            "the planned claim 'cola_zero has lower perplexity than random' is not declared any "
            "more",
        ),
        (
            {"at": "2026-03-01T11:59:59+00:00"},
            "8 cells of 8 had been measured when it was frozen",
        ),
        (
            {"measured": {("llama2_7b", "random"): [1, 2, 9], ("llama2_7b", "cola_zero"): [1]}},
            "other seeds were measured too: 9 (of 1 arm)",
        ),
        (
            {"looks": [look(1, 2, 3)]},
            "1 comparison looked at on 2026-03-03 at 3 of 4 seeds, no planned look",
        ),
        (
            {"looks": [look(1, 2, 9, model=f"{MODEL} (stand-in)")]},
            "1 comparison looked at on 2026-03-03 at the seeds 1, 2, 9, no planned look",
        ),
    ],
)
def test_each_departure_is_named(changed, said):
    assert stands(**changed).departures == (said,)
    assert stands(**changed).sentence.startswith("departs from its plan (plan.json")


def test_what_is_no_departure():
    pilot = plan(seen=(9, 10))
    assert not stands(pilot, measured={("llama2_7b", "random"): [1, 2, 9]}).departures
    planned = plan(looks=(2, 4))
    assert not stands(planned, looks=[look(1, 2), look(1, 2, 3, 4)]).departures
    # Seeds of a pilot, another model, a claim that is not in the plan.
    others = [look(9, 10), look(1, 2, model="opt"), look(1, 2, claim="other")]
    assert not stands(looks=others).departures


def test_without_a_plan_an_earlier_look_is_told():
    now = [(CLAIM.sentence, MODEL, (1, 2, 3, 4))]

    (note,) = unpaid_looks(now, [look(1, 2), look(1, 2, 3), look(1, 2, 3, 4), look(7, 8)])

    assert note.startswith("1 comparison looked at before with fewer of the same seeds (2, 3):")
    assert not unpaid_looks(now, [look(1, 2)], paid=[(1, 2), (1, 2, 3, 4)])
    assert not unpaid_looks(now, [look(1, 2, model="opt")])
