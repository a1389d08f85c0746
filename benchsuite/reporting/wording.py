"""The source documents' sentences, filled from the numbers."""

from collections.abc import Mapping
from typing import Any

from benchsuite.statistics.inference.claims import Judgement
from benchsuite.statistics.inference.interpret import guide
from benchsuite.statistics.inference.sizes import EQUIVALENT, TRIVIAL
from benchsuite.statistics.inference.wording import (
    TEST_NAMES,
    both_arms,
    margin_sentence,
    power_sentence,
    ran_once,
    seeds_run,
)
from benchsuite.statistics.rounding import p_text, short, signed
from benchsuite.study import Study

# The documents call coefficients of variation of 1.4 and 2.1 % low.
LOW_CV = 2.5


def interpretation(judgement: Judgement) -> str:
    """Return the COLA-Zero study's word for a comparison, as it was judged.

    By the corrected p-value and by what matters: evidence is never stronger than the verdict.
    """
    seen = judgement.evidence
    if judgement.verdict in (EQUIVALENT, TRIVIAL):
        return f"{judgement.verdict}: within the smallest effect that matters"
    if judgement.outcome == "inconclusive" and seen["p_value"] is not None:
        return guide(1.0, None)
    return guide(seen.get("p_holm"), seen.get("effect", seen["cohens_d"]))


def null_result(study: Study, judgement: Judgement, parameters: Mapping[str, Any]) -> str:
    """Return the source documents' null-result paragraph for one comparison.

    Its last sentence is replaced: that a difference was not found is not evidence of "minimal
    benefit"; what could have been found is said instead.
    """
    seen, claim = judgement.evidence, judgement.claim
    metric, names = study.metric(claim.metric), study.document.methods
    first, second = (names.get(m or "", m) for m in (claim.method, claim.other))
    name = metric.label or metric.name
    arms = [f"{name}={told.replace(' ± ', '±')}" for told in both_arms(seen, metric)]
    n, n_other = seeds_run(seen)
    size = f"N={n}" if n == n_other else f"N={n} and {n_other}"
    name, found = "d", seen["cohens_d"]
    if found is None:
        name, found = seen["effect_name"], seen["effect"]
    effect = "" if found is None else f", {name}={signed(found, 3)}"
    p_value = p_text(seen["p_value"]).replace(" ", "")
    correction = f", Holm {p_text(seen['p_holm'])}" if seen["family_size"] > 1 else ""
    variation = _variation(seen)
    variation = f" {variation}" if variation else ""
    return (
        f"Multi-seed evaluation ({size}) on {judgement.model} showed no statistically significant "
        f"difference between {first} ({arms[0]}) and {second} ({arms[1]}; {p_value}{effect}, "
        f"{TEST_NAMES.get(seen['test'], seen['test'])}{correction}).{variation} "
        f"{margin_sentence(seen, metric)}{power_sentence(seen, metric)}"
        f"{_conditions(study, parameters)}"
    )


def _variation(seen: Mapping[str, Any]) -> str:
    cvs = [seen["cv_percent"], seen["cv_percent_other"]]
    if None in cvs or any(ran_once(seen)):
        return ""
    one, two = (f"{short(cv)}%" if cv >= 0.01 or cv == 0 else "<0.01%" for cv in cvs)
    if max(cvs) > LOW_CV:
        return f"The coefficient of variation (CV) was {one} and {two} respectively."
    return (
        f"The coefficient of variation (CV) for both methods was low ({one} and {two} "
        "respectively), indicating stable quality across seeds."
    )


def _conditions(study: Study, parameters: Mapping[str, Any]) -> str:
    told = study.document.conditions
    return f" The result holds for {told.format_map(parameters)}." if told else ""
