"""How each kind of claim is decided from the seeds' values, before it is put in words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from scipy.special import chdtri, ndtri

from benchsuite.statistics.compare import Comparison, paired, student, welch
from benchsuite.statistics.descriptive import describe
from benchsuite.statistics.effect import cohens_d, cohens_dz, hedges_g, one_sample_d
from benchsuite.statistics.equivalence import tost
from benchsuite.statistics.exact import permutation, sign_flip
from benchsuite.statistics.power import equivalence_margin, minimum_detectable_effect
from benchsuite.statistics.samples import Sample, as_sample, is_constant, std_of, variance_of

# Above this, counting all arrangements of every comparison would slow the end of a session.
EXACT_UP_TO = 8
POWER = 0.8


@dataclass(frozen=True)
class Draft:
    """A judgement in the making; ``p_value`` is None if no test decides it."""

    outcome: str
    p_value: float | None = None
    evidence: dict[str, Any] = field(default_factory=dict)


def not_run(missing: Sequence[str]) -> Draft:
    """Return the verdict on a claim whose cells are missing."""
    return Draft("not_run", evidence={"missing": list(missing)})


def identical(values: Mapping[int, Any], missing: Sequence[str]) -> Draft:
    """Equal over all seeds; two unequal ones decide against it even while others are missing."""
    groups: dict[Any, list[int]] = {}
    for seed, value in sorted(values.items()):
        groups.setdefault(value, []).append(seed)
    evidence: dict[str, Any] = {
        "test": "equality",
        "n": len(values),
        "seeds": sorted(values),
        "distinct": len(groups),
    }
    if len(groups) > 1:
        evidence["groups"] = [{"value": v, "seeds": s} for v, s in groups.items()]
        return Draft("violated", evidence=evidence)
    if missing or not values:
        return Draft("not_run", evidence={**evidence, "missing": list(missing)})
    if len(values) < 2:
        return Draft("inconclusive", evidence={**evidence, "reason": "one seed cannot show it"})
    return Draft("held", evidence=evidence)


def true(values: Mapping[int, Any], missing: Sequence[str]) -> Draft:
    """True for every seed; one that is not decides against it even while others are missing.

    No test: each value is an observation that was made or was not.
    """
    evidence = {
        "test": "observation",
        "n": len(values),
        "seeds": sorted(values),
        "false": [seed for seed in sorted(values) if not values[seed]],
    }
    if evidence["false"]:
        return Draft("violated", evidence=evidence)
    if missing or not values:
        return Draft("not_run", evidence={**evidence, "missing": list(missing)})
    return Draft("held", evidence=evidence)


def cv_below(values: Mapping[int, float], limit: float | None) -> Draft:
    """The point estimate decides; the interval, wide for few seeds, is stated beside it.

    The interval is that of the standard deviation (chi-square) over the mean, whose own
    uncertainty is negligible where the cv is a few percent.
    """
    assert limit is not None
    seen = describe(values[seed] for seed in sorted(values))
    evidence: dict[str, Any] = {
        "test": "point estimate",
        "n": seen.n,
        "seeds": sorted(values),
        "mean": seen.mean,
        "std": seen.std,
        "cv_percent": seen.cv_percent,
        "limit": limit,
    }
    if seen.cv_percent is None or seen.std is None:
        reason = "one seed cannot show it" if seen.n == 1 else seen.reason
        return Draft("inconclusive", evidence={**evidence, "reason": reason})
    df = seen.n - 1
    evidence["cv_ci95"] = [seen.cv_percent * math.sqrt(df / chdtri(df, q)) for q in (0.025, 0.975)]
    return Draft("held" if seen.cv_percent < limit else "violated", evidence=evidence)


def compared(
    a: Mapping[int, float], b: Mapping[int, float], by_seed: bool = False
) -> dict[str, Any]:
    """Return the seed tests of ``a`` against ``b`` as json-able evidence.

    ``test`` names the one that decides: paired if the seeds are shared, one_sample if one arm is
    constant over at least two seeds, exact if both are, Welch otherwise.
    """
    by_seed = by_seed and sorted(a) == sorted(b)
    first, second = (as_sample(arm[seed] for seed in sorted(arm)) for arm in (a, b))
    decisive, unit, effects, n = _decisive(first, second, by_seed)
    one, two = describe(first), describe(second)
    few = min(one.n, two.n) < 2
    reason = "one seed cannot show it, at least 2 an arm are needed" if few else decisive.reason
    return {
        "test": decisive.test,
        "n": one.n,
        "n_other": two.n,
        "seeds": sorted(a),
        "seeds_other": sorted(b),
        "mean": one.mean,
        "std": one.std,
        "cv_percent": one.cv_percent,
        "mean_other": two.mean,
        "std_other": two.std,
        "cv_percent_other": two.cv_percent,
        "difference": decisive.difference,
        "ci95": None if decisive.ci_low is None else [decisive.ci_low, decisive.ci_high],
        "statistic": decisive.statistic,
        "df": decisive.df,
        "p_value": decisive.p_value,
        "correlation": decisive.correlation,
        "reason": reason,
        **effects,
        "student": _brief(student(first, second)),
        "welch": _brief(welch(first, second)),
        "exact_p": _exact_p(first, second, by_seed),
        "effective_n": n,
        "unit": unit,
    }


def ordered(kind: str, evidence: dict[str, Any]) -> Draft:
    """``lower`` or ``higher`` on average, by the seed test; without variation by the numbers."""
    p_value = evidence["p_value"]
    if p_value is not None:
        return Draft(kind, p_value, evidence)
    difference = evidence["difference"]
    if evidence["test"] != "exact" or not difference:
        return Draft("inconclusive", evidence=evidence)
    return Draft(_direction(kind, difference), evidence=evidence)


def equivalent(
    a: Mapping[int, float],
    b: Mapping[int, float],
    margin: float | None,
    evidence: dict[str, Any],
    by_seed: bool,
    alpha: float,
) -> Draft:
    """Within the margin by TOST; outside only if the whole interval is."""
    assert margin is not None
    by_seed = by_seed and sorted(a) == sorted(b)
    first, second = (as_sample(arm[seed] for seed in sorted(arm)) for arm in (a, b))
    result = tost(first, second, margin, by_seed=by_seed, alpha=alpha)
    evidence = {**evidence, "margin": margin, "tost": asdict(result)}
    if not result.defined:
        return Draft("inconclusive", evidence={**evidence, "reason": result.reason})
    if result.p_value is None:
        return Draft("held" if result.equivalent else "violated", evidence=evidence)
    return Draft("equivalent", result.p_value, evidence)


def decide(draft: Draft) -> Draft:
    """Settle a draft once its Holm-corrected p-value is known, and say what could be seen."""
    evidence = dict(draft.evidence)
    significant = evidence["p_holm"] < evidence["alpha"]
    corrected = evidence["alpha"] / evidence["family_size"]
    if draft.outcome == "equivalent":
        different = evidence["tost"]["different"]
        outcome = "held" if significant else "violated" if different else "inconclusive"
        evidence |= _smallest_margin(evidence, corrected)
        return replace(draft, outcome=outcome, evidence=evidence)
    over_items = "n_items" in evidence
    evidence |= (_detectable_over_items if over_items else _detectable)(evidence, corrected)
    outcome = _direction(draft.outcome, evidence["difference"]) if significant else "inconclusive"
    return replace(draft, outcome=outcome, evidence=evidence)


def _direction(kind: str, difference: float) -> str:
    return "held" if (difference < 0) == (kind == "lower") else "violated"


def _decisive(a: Sample, b: Sample, by_seed: bool) -> tuple[Comparison, float, dict[str, Any], int]:
    """Return the deciding test, the std its effect is measured in, the effects, and its n."""
    d, g = cohens_d(a, b), hedges_g(a, b)
    effects: dict[str, Any] = {"cohens_d": d.value, "hedges_g": g.value}
    if by_seed:
        effects["cohens_dz"] = cohens_dz(a, b).value
        return paired(a, b), std_of(a - b), effects, len(a)
    test = welch(a, b)
    still_a, still_b = (is_constant(arm) and len(arm) > 1 for arm in (a, b))
    if still_a and still_b:
        return replace(test, test="exact"), 0.0, effects, min(len(a), len(b))
    if still_a or still_b:
        seeded, constant = (b, a) if still_a else (a, b)
        sign = -1 if still_a else 1
        raw = one_sample_d(seeded, float(constant[0])).value
        small = one_sample_d(seeded, float(constant[0]), corrected=True).value
        effects = {
            "cohens_d": None if raw is None else sign * raw,
            "hedges_g": None if small is None else sign * small,
        }
        return replace(test, test="one_sample"), std_of(seeded), effects, len(seeded)
    if len(a) < 2 or len(b) < 2:
        return test, 0.0, effects, min(len(a), len(b))
    df = len(a) + len(b) - 2
    pooled = ((len(a) - 1) * variance_of(a) + (len(b) - 1) * variance_of(b)) / df
    return test, math.sqrt(pooled), effects, min(len(a), len(b))


def _detectable(evidence: Mapping[str, Any], corrected: float) -> dict[str, Any]:
    n, unit, design = evidence["effective_n"], evidence["unit"], _design(evidence)
    alone = minimum_detectable_effect(n, **design, power=POWER, alpha=evidence["alpha"])
    family = minimum_detectable_effect(n, **design, power=POWER, alpha=corrected)
    return {
        "mde_d": alone,
        "mde": alone * unit,
        "mde_d_corrected": family,
        "mde_corrected": family * unit,
        "power": POWER,
    }


def _detectable_over_items(evidence: Mapping[str, Any], corrected: float) -> dict[str, Any]:
    """Return the difference that these items would show with ``POWER``, under the normal law."""
    reach = [ndtri(1 - alpha / 2) + ndtri(POWER) for alpha in (evidence["alpha"], corrected)]
    alone, family = (float(r * evidence["error"]) for r in reach)
    return {"mde": alone, "mde_corrected": family, "power": POWER}


def _smallest_margin(evidence: Mapping[str, Any], corrected: float) -> dict[str, Any]:
    n, unit, design = evidence["effective_n"], evidence["unit"], _design(evidence)
    margin = equivalence_margin(n, **design, power=POWER, alpha=corrected)
    return {"smallest_margin": margin * unit, "power": POWER}


def _design(evidence: Mapping[str, Any]) -> dict[str, bool]:
    return {
        "paired": evidence["test"] in ("paired", "one_sample"),
        "welch": evidence["test"] == "welch",
    }


def _brief(test: Comparison) -> dict[str, Any]:
    if not test.defined:
        return {"statistic": None, "df": None, "p_value": None, "reason": test.reason}
    return {"statistic": test.statistic, "df": test.df, "p_value": test.p_value}


def _exact_p(a: Sample, b: Sample, by_seed: bool) -> float | None:
    if max(len(a), len(b)) > EXACT_UP_TO:
        return None
    return (sign_flip(a, b) if by_seed else permutation(a, b)).p_value
