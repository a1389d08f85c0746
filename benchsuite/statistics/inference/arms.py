"""Two arms beside each other: the seed tests of one against the other, as evidence."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from benchsuite.statistics import skewed
from benchsuite.statistics.compare import Comparison, paired, student, undefined, welch
from benchsuite.statistics.descriptive import Description, describe
from benchsuite.statistics.effect import cohens_d, cohens_dz, hedges_g, one_sample_d
from benchsuite.statistics.exact import permutation, sign_flip
from benchsuite.statistics.inference import robust
from benchsuite.statistics.samples import (
    Sample,
    as_sample,
    is_constant,
    refusal,
    std_of,
    variance_of,
)
from benchsuite.statistics.unequal import guarded_p

# Above this, counting all arrangements of every comparison would slow the end of a session.
EXACT_UP_TO = 8


def compared(
    a: Mapping[int, float],
    b: Mapping[int, float],
    by_seed: bool = False,
    names: tuple[str, str] = ("a", "b"),
) -> dict[str, Any]:
    """Return the seed tests of ``a`` against ``b`` as json-able evidence.

    ``names`` are those by which a ``reason`` calls them.

    ``test`` names the one that decides: paired if the seeds are shared, one_sample if one arm is
    constant over at least two seeds, exact if both are, Welch otherwise. ``p_value`` is that test's
    own; ``p_guarded`` is the one that keeps its promise at whatever variances, and with the
    ``skewness`` that many seeds against a constant show. ``error`` and ``df`` are those of the
    difference, ``ci95`` is the test's uncorrected interval.
    """
    first, second = (as_sample(arm[seed] for seed in sorted(arm)) for arm in (a, b))
    decisive, unit, effects, n = _decisive(first, second, by_seed)
    if by_seed and sorted(a) != sorted(b):
        odd = ", ".join(map(str, sorted(set(a) ^ set(b))))
        reason = f"seeds that only one arm has cannot be paired: {odd}"
        decisive = undefined("paired", first, second, reason)
    one, two = describe(first), describe(second)
    few = min(one.n, two.n) < 2
    reason = "one seed cannot show it, at least 2 an arm are needed" if few else decisive.reason
    reason = refusal((names[0], first), (names[1], second), least=0) or reason
    guarded = decisive.p_value
    if guarded is not None and decisive.test == "welch":
        guarded = guarded_p(guarded, one.n, two.n)
    alone = _against_a_constant(first, second, decisive)
    skewness = 0.0 if alone is None else robust.seen_skewness(alone)
    if skewness and guarded is not None:
        guarded = _with_skewness(decisive, skewness)
    broken = [robust.diverged(arm) for arm in (a, b)]
    return {
        "test": decisive.test,
        **of_arms(a, b, one, two),
        "difference": decisive.difference,
        "error": decisive.error,
        "ci95": None if decisive.ci_low is None else [decisive.ci_low, decisive.ci_high],
        "statistic": decisive.statistic,
        "df": decisive.df,
        "p_value": decisive.p_value,
        "p_guarded": guarded,
        "correlation": decisive.correlation,
        "reason": reason,
        **effects,
        "student": _brief(student(first, second)),
        "welch": _brief(welch(first, second)),
        "exact_p": _exact_p(first, second, by_seed),
        "effective_n": n,
        "unit": unit if math.isfinite(unit) else None,
        "unit_df": one.n + two.n - 2 if decisive.test == "welch" else n - 1,
        "diverged": broken if any(broken) else None,
        "outliers": [robust.outlier(arm) if not any(broken) else None for arm in (a, b)],
        "skewness": skewness or None,
        "robust": None if alone is None else robust.beside_one_sample(first, second),
    }


def of_arms(
    a: Iterable[int], b: Iterable[int], one: Description, two: Description
) -> dict[str, Any]:
    """Return what evidence says of two arms, whatever test decides, from their seeds and values."""
    return {
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
    }


def _decisive(a: Sample, b: Sample, by_seed: bool) -> tuple[Comparison, float, dict[str, Any], int]:
    """Return the deciding test, the std its effect is measured in, the effects, and its n.

    ``effect`` is in that same std: d_z for pairs, g otherwise, each with Hedges' correction.
    """
    if by_seed:
        dz = cohens_dz(a, b).value if len(a) == len(b) else None
        unit = std_of(a - b) if len(a) == len(b) else 0.0
        return paired(a, b), unit, _effects("d_z", dz, cohens_dz=dz), len(a)
    d, g = cohens_d(a, b).value, hedges_g(a, b).value
    effects = _effects("g", g, cohens_d=d, hedges_g=g)
    test = welch(a, b)
    still_a, still_b = (is_constant(arm) and len(arm) > 1 for arm in (a, b))
    if still_a and still_b:
        return replace(test, test="exact"), 0.0, effects, min(len(a), len(b))
    if still_a or still_b:
        seeded, constant = (b, a) if still_a else (a, b)
        sign = -1 if still_a else 1
        raw = one_sample_d(seeded, float(constant[0])).value
        small = one_sample_d(seeded, float(constant[0]), corrected=True).value
        d, g = (None if value is None else sign * value for value in (raw, small))
        effects = _effects("g", g, cohens_d=d, hedges_g=g)
        return replace(test, test="one_sample"), std_of(seeded), effects, len(seeded)
    if len(a) < 2 or len(b) < 2:
        return test, 0.0, effects, min(len(a), len(b))
    df = len(a) + len(b) - 2
    pooled = ((len(a) - 1) * variance_of(a) + (len(b) - 1) * variance_of(b)) / df
    return test, math.sqrt(pooled), effects, min(len(a), len(b))


def _effects(name: str, value: float | None, **told: float | None) -> dict[str, Any]:
    """Return the effect size that belongs to the deciding test, and those that are not its own."""
    known = dict.fromkeys(("cohens_d", "hedges_g", "cohens_dz"))
    return {"effect": value, "effect_name": name, **known, **told}


def _against_a_constant(a: Sample, b: Sample, test: Comparison) -> Sample | None:
    """Return what a t-test judges where one arm alone varies: its differences to the other."""
    if not test.defined or is_constant(a) == is_constant(b):
        return None
    return a - b[0] if is_constant(b) else a[0] - b


def _with_skewness(test: Comparison, skewness: float) -> float:
    assert test.difference is not None
    assert test.error is not None
    assert test.df is not None
    return skewed.p_value(test.difference, test.error, test.df, skewness)


def _brief(test: Comparison) -> dict[str, Any]:
    if not test.defined:
        return {"statistic": None, "df": None, "p_value": None, "reason": test.reason}
    return {"statistic": test.statistic, "df": test.df, "p_value": test.p_value}


def _exact_p(a: Sample, b: Sample, by_seed: bool) -> float | None:
    if max(len(a), len(b)) > EXACT_UP_TO:
        return None
    # Against a constant the seeds are not exchangeable with its copies: their signs are.
    against_one = len(a) == len(b) > 1 and is_constant(a) != is_constant(b)
    return (sign_flip(a, b) if by_seed or against_one else permutation(a, b)).p_value
