"""Claims are looked at when they are declared, before a night is spent on measuring."""

import math
from dataclasses import replace

import pytest

from benchsuite.errors import UsageError
from benchsuite.study import Study, cv_below, equivalent, lower, register_study, registry

AXES = {"model": ("tiny_llama_1m",), "method": ("plain", "rotated")}
BETTER = lower("perplexity", "rotated", than="plain")


def declared(*claims):
    return Study("own_claims", "?", AXES, (1, 2), claims=claims)


@pytest.mark.parametrize("limit", [0, -1, math.inf, math.nan, "1%", True])
def test_a_limit_that_is_no_positive_number_is_refused(limit):
    with pytest.raises(UsageError, match="within="):
        equivalent("perplexity", "rotated", to="plain", within=limit)
    with pytest.raises(UsageError, match="percent="):
        cv_below("perplexity", "rotated", limit)


def test_a_claim_over_a_method_that_the_study_has_not_is_refused_with_the_nearest():
    typed_wrong = declared(lower("perplexity", "rotatd", than="plain"))
    with pytest.raises(UsageError, match=r"'rotatd'.*rotated"):
        register_study(typed_wrong)
    with pytest.raises(UsageError, match=r"'plane'.*plain"):
        register_study(declared(replace(BETTER, other="plane")))


def test_a_study_that_somebody_narrows_keeps_its_claims(monkeypatch):
    monkeypatch.setattr(registry, "STUDIES", dict(registry.STUDIES))
    whole = declared(BETTER)
    register_study(whole)
    narrowed = replace(whole, axes=AXES | {"method": ("plain",)})
    assert register_study(narrowed).claims == (BETTER,)
    with pytest.raises(UsageError, match="'rotatd'"):
        register_study(replace(narrowed, claims=(replace(BETTER, method="rotatd"),)))


def test_a_method_beside_itself_and_what_is_no_claim_are_refused():
    with pytest.raises(UsageError, match="beside itself"):
        declared(lower("perplexity", "plain", than="plain"))
    with pytest.raises(UsageError, match="`claims` with '3'"):
        declared(3)
    with pytest.raises(UsageError, match="one alone is written"):
        Study("own_claims", "?", AXES, (1,), claims=BETTER)


def test_a_claim_that_is_declared_twice_is_one_test():
    again = lower("perplexity", "rotated", than="plain")
    by_seed = lower("perplexity", "rotated", than="plain", by_seed=True)
    assert declared(BETTER, again, by_seed).claims == (BETTER, by_seed)
