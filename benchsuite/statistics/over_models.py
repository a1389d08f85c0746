"""Is one method better than another over several models, not on each of them?

Seeds of one model say nothing of the next model, and a claim judged on each of seven models at five
seeds seldom holds on one. Over the models the same differences add up. Perplexities of different
models are on different scales: their logarithms are compared, so that the difference is a
log-ratio. Accuracies are compared in points.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

from benchsuite.statistics import mixed
from benchsuite.statistics.equivalence import one_sided
from benchsuite.statistics.samples import OUT_OF_RANGE, as_sample, is_constant, refusal

Values = Mapping[int, float]  # seed -> value
Arms = Mapping[str, tuple[Values, Values]]  # model -> the first method's and the second's
Array = npt.NDArray[np.float64]
RESAMPLES = 2000
NO_MARGIN = "nothing tells from which size on a difference matters beside these values"


@dataclass(frozen=True)
class OverModels:
    """A first method against a second over models; what has no answer is None, ``reason`` says why.

    ``difference``, ``error`` and ``ci_low`` to ``ci_high`` (95 %) are of the mean over models, as
    log-ratio where ``log``, else in the metric's unit. ``test`` is ``mixed_model`` or, with one
    value an arm, ``t_over_models``; it has ``statistic``, ``df``, ``p_value``. ``margin`` is what
    the mean difference is held against, on the same scale; ``p_within`` and ``p_beyond`` are
    one-sided: that it is within, and that it is beyond.

    ``per_model`` are the models' own mean differences, of which ``n_lower`` are below zero.
    Wilcoxon's signed-rank test of them gives ``wilcoxon_p``; ``wilcoxon_least`` is the smallest
    that this many models allow. ``lower_probability`` is that of the first method being lower
    (Agarwal et al. 2021). ``iqm`` is the interquartile mean of the first method's values against
    the second's mean. Both have intervals from bootstraps of the seeds within each model: with few
    seeds these are too narrow, and decide nothing.
    """

    n_models: int
    n_values: int
    log: bool
    test: str = ""
    difference: float | None = None
    error: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    statistic: float | None = None
    df: float | None = None
    p_value: float | None = None
    margin: float | None = None
    p_within: float | None = None
    p_beyond: float | None = None
    per_model: Mapping[str, float] = field(default_factory=dict)
    n_lower: int = 0
    wilcoxon_p: float | None = None
    wilcoxon_least: float | None = None
    lower_probability: tuple[float, float, float] | None = None
    iqm: tuple[float, float, float] | None = None
    variances: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""


def compare_over_models(
    arms: Arms,
    *,
    log: bool = False,
    by_seed: bool = False,
    margin_of: Callable[[float], float] | None = None,
) -> OverModels:
    """Compare two methods over models; ``arms`` maps a model to seed -> value of each method.

    ``margin_of`` gives the smallest difference that matters on a model, in the metric's unit, from
    the mean of the arm compared with. The margin over models is the mean of the models' own; as a
    log-ratio it is log(1 + margin / mean), the same both ways, as bioequivalence has its 80 to 125
    percent.

    ``log`` compares logarithms, for a metric such as perplexity; ``by_seed`` says that a seed fixes
    randomness which both methods share, so that its two values are a pair; a value without its twin
    is then left out, and ``reason`` says so. The test is two-sided. Seeds need not be the same for
    both methods or for all models.
    """
    left_out = ""
    if by_seed:
        arms, left_out = _twins(arms)
    n_values = sum(len(one) + len(two) for one, two in arms.values())
    empty = OverModels(len(arms), n_values, log)
    reason = _refused(arms, log)
    if reason:
        return OverModels(len(arms), n_values, log, reason=reason)
    shown = {m: tuple(_scaled(arm, log) for arm in pair) for m, pair in arms.items()}
    per_model = {m: _mean(one) - _mean(two) for m, (one, two) in shown.items()}
    differences = as_sample(per_model.values())
    told: dict[str, Any] = _tested(shown, differences, by_seed) | _wilcoxon(differences)
    if margin_of is not None:
        told |= _held_against(_margin(arms, margin_of, log), told)
    rng = np.random.default_rng(0)
    told |= _bootstrapped([(_array(a), _array(b)) for a, b in shown.values()], rng)
    told |= {"per_model": per_model, "n_lower": int((differences < 0).sum())}
    told["reason"] = "; ".join(filter(None, (told.get("reason", ""), left_out)))
    return OverModels(**{**empty.__dict__, **told})


def _twins(arms: Arms) -> tuple[Arms, str]:
    """Return the arms over the seeds that both methods have on a model, and what is left out.

    Differences of pairs and single values are on other scales, and cannot be rows of one table. A
    method that never varies has a value for every seed.
    """
    if any(_still(arms)):
        return arms, ""
    kept: dict[str, tuple[Values, Values]] = {}
    odd = []
    for model, (one, two) in arms.items():
        shared = sorted(one.keys() & two.keys())
        kept[model] = {s: one[s] for s in shared}, {s: two[s] for s in shared}
        if alone := sorted(one.keys() ^ two.keys()):
            odd.append(f"{', '.join(map(str, alone))} of {model}")
    reason = f"seeds that one method alone has are no pairs and are left out: {'; '.join(odd)}"
    return kept, reason if odd else ""


def _still(arms: Mapping[str, Any]) -> tuple[bool, bool]:
    """Say of the first method and the second whether it varies on no model."""
    one, two = (all(is_constant(as_sample(p[i].values())) for p in arms.values()) for i in (0, 1))
    return one, two


def _refused(arms: Arms, log: bool) -> str:
    if len(arms) < 2:
        return "one model: there is nothing to ask over models"
    for model, pair in arms.items():
        named = [(f"{model}, arm {i + 1}", as_sample(arm.values())) for i, arm in enumerate(pair)]
        reason = refusal(*named, least=1)
        if reason:
            return reason
        if log and min(float(sample.min()) for _, sample in named) <= 0:
            return f"{model} has a value of 0 or less, which has no logarithm"
    return ""


def _tested(shown: Mapping[str, Any], differences: Array, by_seed: bool) -> dict[str, Any]:
    """Return the mean difference and its test: the mixed model's, or t over the models' means."""
    n, note = len(differences), ""
    if is_constant(differences):
        return {
            "difference": float(differences[0]),
            "reason": "the models do not differ in their differences: no test applies",
        }
    found: mixed.Fit | None = None
    if max(len(arm) for pair in shown.values() for arm in pair) > 1:
        found = mixed.fit(_rows(shown, by_seed))
        note = "" if found else "the mixed model has no solution"
    if found is None:
        error = float(differences.std(ddof=1)) / math.sqrt(n)
        found = mixed.Fit(float(differences.mean()), error, n - 1.0, {})
        test = "t_over_models"
    else:
        test = "mixed_model"
    if not (found.error > 0 and math.isfinite(found.difference / found.error)):
        return {"difference": found.difference, "reason": OUT_OF_RANGE}
    half = float(stdtrit(found.df, 0.975)) * found.error
    return {
        "test": test,
        "difference": found.difference,
        "error": found.error,
        "ci_low": found.difference - half,
        "ci_high": found.difference + half,
        "statistic": found.difference / found.error,
        "df": found.df,
        "p_value": float(2 * stdtr(found.df, -abs(found.difference / found.error))),
        "variances": found.variances,
        "reason": note,
    }


def _margin(arms: Arms, margin_of: Callable[[float], float], log: bool) -> float:
    """Return the mean of the models' margins, on the scale that is compared."""
    means = [_mean(two) or _mean(one) for one, two in arms.values()]
    own = [margin_of(mean) for mean in means]
    if log:
        own = [_log_ratio(margin, mean) for margin, mean in zip(own, means, strict=True)]
    return math.fsum(own) / len(own)


def _log_ratio(margin: float, mean: float) -> float:
    ratio = margin / mean
    return math.log1p(ratio) if ratio < math.inf else math.log(margin) - math.log(mean)


def _held_against(margin: float, told: Mapping[str, Any]) -> dict[str, Any]:
    if not 0 < margin < math.inf:  # beside means of 0, or not to be held in float64
        return {"reason": "; ".join(filter(None, (told["reason"], NO_MARGIN)))}
    if "df" not in told:
        return {"margin": margin}
    within, beyond = one_sided(told["difference"], told["error"], told["df"], margin)
    return {"margin": margin, "p_within": within, "p_beyond": beyond}


def _rows(shown: Mapping[str, Any], by_seed: bool) -> list[mixed.Row]:
    """Return the values, or differences of a seed's two values where they are pairs.

    A method that never varies has no seeds: the other's values stand against that one number.
    """
    still = _still(shown)
    rows = []
    for model, (one, two) in shown.items():
        if still[1] or still[0]:
            seeds = two if still[0] else one
            pairs = {s: (one.get(s, _mean(one)), two.get(s, _mean(two))) for s in seeds}
        elif by_seed:
            pairs = {s: (one[s], two[s]) for s in one}
        else:
            rows += [mixed.Row(model, s, True, v) for s, v in sorted(one.items())]
            rows += [mixed.Row(model, s, False, v) for s, v in sorted(two.items())]
            continue
        rows += [mixed.Row(model, s, None, a - b) for s, (a, b) in sorted(pairs.items())]
    return rows


def _wilcoxon(differences: Array) -> dict[str, Any]:
    from scipy.stats import wilcoxon

    n = int((differences != 0).sum())
    if n == 0:
        return {}
    p_value = float(wilcoxon(differences, zero_method="wilcox").pvalue)
    return {"wilcoxon_p": p_value, "wilcoxon_least": min(1.0, 2.0 ** (1 - n))}


def _bootstrapped(pairs: Sequence[tuple[Array, Array]], rng: np.random.Generator) -> dict[str, Any]:
    """Return the probability of being lower and the interquartile mean, with their intervals."""

    def drawn(arm: Array) -> Array:
        return arm[rng.integers(0, len(arm), (RESAMPLES, len(arm)))]

    tables = [(drawn(one), drawn(two)) for one, two in pairs]
    own = [(one[None, :], two[None, :]) for one, two in pairs]
    told = {}
    for name, statistic in (("lower_probability", _lower), ("iqm", _iqm)):
        low, high = np.quantile(statistic(tables), (0.025, 0.975))
        told[name] = (float(statistic(own)[0]), float(low), float(high))
    return told


def _lower(tables: Sequence[tuple[Array, Array]]) -> Array:
    """Return P(first < second) + P(equal) / 2, the mean over models, per resample (row)."""
    shares = []
    for one, two in tables:
        signs = np.sign(two[:, None, :] - one[:, :, None])
        shares.append((1 + signs.mean(axis=(1, 2))) / 2)
    return np.mean(shares, axis=0)


def _iqm(tables: Sequence[tuple[Array, Array]]) -> Array:
    """Return the interquartile mean of the first method's values against the second's mean."""
    from scipy.stats import trim_mean

    runs = [one - two.mean(axis=1, keepdims=True) for one, two in tables]
    return trim_mean(np.concatenate(runs, axis=1), 0.25, axis=1)


def _scaled(arm: Values, log: bool) -> dict[int, float]:
    return {seed: math.log(v) if log else float(v) for seed, v in arm.items()}


def _mean(arm: Values) -> float:
    return math.fsum(arm.values()) / len(arm)


def _array(arm: Values) -> Array:
    return as_sample(arm[seed] for seed in sorted(arm))
