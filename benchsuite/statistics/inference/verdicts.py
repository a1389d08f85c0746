"""How each kind of claim is decided from the seeds' values, before it is put in words."""

import functools
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from scipy.special import chdtr, chdtrc

from benchsuite.statistics import skewed
from benchsuite.statistics.descriptive import describe
from benchsuite.statistics.equivalence import tost
from benchsuite.statistics.inference import sizes
from benchsuite.statistics.samples import (
    as_sample,
)
from benchsuite.statistics.unequal import guarded_level, guarded_p


@dataclass(frozen=True)
class Draft:
    """A judgement in the making; ``p_value`` is None if no test decides it.

    ``level`` turns the error that a family grants a comparison into the level at which its own test
    is taken: less where its looks, or unequal variances, must be paid for. ``verdict`` is how a
    comparison came out, whatever was claimed.
    """

    outcome: str
    p_value: float | None = None
    evidence: dict[str, Any] = field(default_factory=dict)
    verdict: str = ""
    level: Callable[[float], float] = float


def not_run(missing: Sequence[str]) -> Draft:
    """Return the verdict on a claim whose cells are missing."""
    return Draft("not_run", evidence={"missing": list(missing)})


def identical(values: Mapping[int, Any], missing: Sequence[str]) -> Draft:
    """Equal over all seeds; two unequal ones decide against it even while others are missing.

    Numbers are compared by their bits: 0.0 and -0.0 differ, and one NaN is like another. A NaN or
    an infinity for every seed shows that something failed, not that something is the same.
    """
    groups: dict[Any, list[int]] = {}
    told: dict[Any, Any] = {}
    for seed, value in sorted(values.items()):
        bits = _bits(value)
        groups.setdefault(bits, []).append(seed)
        told[bits] = value if _is_finite(value) else str(value)
    evidence: dict[str, Any] = {
        "test": "equality",
        "n": len(values),
        "seeds": sorted(values),
        "distinct": len(groups),
    }
    if len(groups) > 1:
        evidence["groups"] = [{"value": told[v], "seeds": s} for v, s in groups.items()]
        return Draft("violated", evidence=evidence)
    if missing or not values:
        return Draft("not_run", evidence={**evidence, "missing": list(missing)})
    if len(values) < 2:
        return Draft("inconclusive", evidence={**evidence, "reason": "one seed cannot show it"})
    if not all(map(_is_finite, values.values())):
        reason = f"it is {next(iter(told.values()))} for every seed, which is no result"
        return Draft("inconclusive", evidence={**evidence, "reason": reason})
    return Draft("held", evidence=evidence)


def _bits(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "nan" if math.isnan(value) else struct.pack(">d", value)


def _is_finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


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
    """Below the limit, or above it, by the chi-square test of the standard deviation.

    Two-sided, so that its interval decides: wholly below the limit or wholly above. The mean's own
    uncertainty is negligible where the cv is a few percent. Seeds that do not vary need no test.
    """
    assert limit is not None
    seen = describe(values[seed] for seed in sorted(values))
    evidence: dict[str, Any] = {
        "test": "chi_square",
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
    if seen.constant:
        return Draft("held", evidence=evidence)
    df = seen.n - 1
    statistic = df * (seen.cv_percent / limit) ** 2
    p_value = min(1.0, 2 * float(min(chdtr(df, statistic), chdtrc(df, statistic))))
    ci95 = [seen.cv_percent * bound for bound in sizes.std_interval(df)]
    return Draft("cv_below", p_value, {**evidence, "p_value": p_value, "cv_ci95": ci95})


def ordered(kind: str, evidence: dict[str, Any]) -> Draft:
    """``lower`` or ``higher`` on average, by the seed test; without variation by the numbers."""
    if evidence["p_guarded"] is not None:
        return Draft(kind, evidence["p_guarded"], evidence, level=_level(evidence))
    exact = evidence["test"] == "exact" and evidence["difference"] is not None
    return Draft(kind if exact else "inconclusive", evidence=evidence)


def equivalent(
    a: Mapping[int, float],
    b: Mapping[int, float],
    margin: float | None,
    evidence: dict[str, Any],
    by_seed: bool,
) -> Draft:
    """Within the margin, or beyond it, by one two-sided test of its edge.

    Two one-sided tests say "within", another "beyond"; near the edge either may err. Taken at half
    the level each, the interval at 1 - alpha decides: inside, outside, or neither.
    """
    assert margin is not None
    evidence = {**evidence, "margin": margin}
    if evidence["difference"] is None:
        nothing = {"defined": False, "reason": evidence["reason"]}
        return Draft("inconclusive", evidence={**evidence, "tost": nothing})
    first, second = (as_sample(arm[seed] for seed in sorted(arm)) for arm in (a, b))
    result = tost(first, second, margin, by_seed=by_seed)
    evidence["tost"] = asdict(result)
    if not result.defined:
        return Draft("inconclusive", evidence={**evidence, "reason": result.reason})
    p_value = result.p_either
    if p_value is not None and evidence["test"] == "welch":
        p_value = guarded_p(p_value, evidence["n"], evidence["n_other"])
    if p_value is not None and evidence.get("skewness"):
        p_value = max(p_value, *(_p_at(evidence, edge) for edge in (-margin, margin)))
    evidence["p_equivalence"] = p_value
    return Draft("equivalent", p_value, evidence, level=_level(evidence))


def _p_at(evidence: Mapping[str, Any], edge: float) -> float:
    """Return the two-sided p-value of a difference of ``edge``, for seeds that are skewed."""
    away = evidence["difference"] - edge
    return skewed.p_value(away, evidence["error"], evidence["df"], evidence["skewness"])


def decide(draft: Draft, metric: Any, *, control: bool = False) -> Draft:
    """Settle a draft: say whether the claim holds, how the comparison came out, what could be seen.

    One with a p-value has Holm's correction of it in its evidence by now. ``metric`` has the
    smallest effect that matters, ``margin``, and says which way is ``better``. A ``control`` asks
    whether the study sees a difference at all, of whatever size.
    """
    if draft.outcome not in ("lower", "higher", "equivalent", "cv_below"):
        return draft
    evidence = dict(draft.evidence)
    tested = draft.p_value is not None
    granted = evidence["alpha"] / evidence["family_size"] if tested else 0.0
    if draft.outcome == "cv_below":
        return _decide_cv(draft, evidence, draft.level(granted))
    better = metric.better or draft.outcome.replace("equivalent", "")
    side = sizes.direction(evidence["difference"], better)
    bounds = _bounds(evidence, draft.level(granted)) if tested else (evidence["difference"],) * 2
    if tested:
        evidence |= _simultaneous(bounds, granted, evidence["family_size"])
    if draft.outcome == "equivalent":
        return _decide_equivalent(draft, evidence, bounds, side, draft.level(granted))
    evidence["margin"] = sizes.margin_of(metric, evidence)
    evidence["margin_declared"] = metric.margin
    small = sizes.within(bounds, evidence["margin"])
    differs = evidence["p_holm"] < evidence["alpha"] if tested else evidence["difference"] != 0
    if tested:
        alone, corrected = draft.level(evidence["alpha"]), draft.level(granted)
        seen = sizes.detectable_over_items if "n_items" in evidence else sizes.detectable
        evidence |= {**seen(evidence, alone, corrected), "level": granted}
    outcome, verdict = of_order(
        draft.outcome,
        evidence["difference"],
        side,
        differs=differs,
        small=small,
        control=control,
    )
    return replace(draft, outcome=outcome, verdict=verdict, evidence=evidence)


def of_order(
    kind: str, difference: float, side: str, *, differs: bool, small: bool, control: bool
) -> tuple[str, str]:
    """Return how a claim of ``lower`` or ``higher`` came out, and its verdict.

    ``differs``: the difference is significant; ``small``: it is shown to be within what matters.
    """
    if not differs:
        return "inconclusive", sizes.EQUIVALENT if small else sizes.INCONCLUSIVE
    verdict = sizes.TRIVIAL if small else side
    undecided = small and not control
    return "inconclusive" if undecided else _direction(kind, difference), verdict


def of_equivalence(
    bounds: sizes.Interval, side: str, *, decided: bool, within: bool
) -> tuple[str, str]:
    """Return how a claim of equivalence came out, and its verdict."""
    if not decided:
        return "inconclusive", sizes.INCONCLUSIVE
    if not within:
        return "violated", side
    apart = bounds[0] > 0 or bounds[1] < 0
    return "held", sizes.TRIVIAL if apart else sizes.EQUIVALENT


def _decide_equivalent(
    draft: Draft, evidence: dict[str, Any], bounds: sizes.Interval, side: str, level: float
) -> Draft:
    result = evidence["tost"]
    decided, within = True, result["equivalent"]
    if draft.p_value is not None:
        seen = sizes.confirmable_over_items if "n_items" in evidence else sizes.confirmable
        evidence |= seen(evidence, level)
        decided = evidence["p_holm"] < evidence["alpha"]
        within = result["p_value"] < result["p_different"]
    outcome, verdict = of_equivalence(bounds, side, decided=decided, within=within)
    return replace(draft, outcome=outcome, verdict=verdict, evidence=evidence)


def _decide_cv(draft: Draft, evidence: dict[str, Any], level: float) -> Draft:
    bounds = sizes.std_interval(evidence["n"] - 1, level)
    evidence["cv_simultaneous"] = [evidence["cv_percent"] * bound for bound in bounds]
    outcome = "held" if evidence["cv_percent"] < evidence["limit"] else "violated"
    if evidence["p_holm"] >= evidence["alpha"]:
        outcome = "inconclusive"
    return replace(draft, outcome=outcome, evidence=evidence)


def _bounds(evidence: Mapping[str, Any], level: float) -> sizes.Interval:
    found = sizes.interval(evidence, level)
    assert found is not None
    return found


def _simultaneous(bounds: sizes.Interval, granted: float, n: int) -> dict[str, Any]:
    method = (
        f"Bonferroni, each of {n} at {100 * (1 - granted):.4g} %" if n > 1 else "one comparison"
    )
    return {"ci_simultaneous": list(bounds), "ci_simultaneous_method": method}


def _level(evidence: Mapping[str, Any]) -> Callable[[float], float]:
    """Return how the error granted to a comparison becomes the level of its test."""
    if evidence["test"] != "welch":
        return float
    return functools.partial(guarded_level, n_a=evidence["n"], n_b=evidence["n_other"])


def _direction(kind: str, difference: float) -> str:
    return "held" if (difference < 0) == (kind == "lower") else "violated"
