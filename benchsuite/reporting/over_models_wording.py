"""An answer over models in words: n models, interval, test, margin, what few models cannot show."""

import math
from collections.abc import Mapping
from typing import Any

from benchsuite.printable import count
from benchsuite.statistics.equivalence import p_either
from benchsuite.statistics.inference import sizes
from benchsuite.statistics.over_models import OverModels
from benchsuite.statistics.rounding import of_difference, p_text, short, signed, with_interval
from benchsuite.study import Claim, Metric

TESTS = {"mixed_model": "mixed model", "t_over_models": "t over the models' means"}
LARGEST = math.log(1e4)
"""Of a ratio that is told in percent."""


def sentence(
    claim: Claim, metric: Metric, setting: str, found: OverModels, facts: Mapping[str, Any]
) -> str:
    """Return the answer to one claim; ``facts`` is how it was decided, and in which family."""
    n, declared = found.n_models, facts["n_declared"]
    some = f"{n} of {declared} declared models" if n < declared else count(n, "model")
    said = f"{claim.sentence} over {some}{of(setting)}: {_outcome(claim, facts)}"
    if facts["p_holm"] is None:
        return f"{said}; {found.reason}."
    said += f", {_effect(metric, found)} ({_test(claim, found, facts)})"
    if claim.kind == "equivalent":
        said += _at_the_margin(metric, found, facts)
    else:
        said += _beside_what_matters(metric, found, facts) + _model_by_model(claim, found, facts)
    return (
        f"{said}.{' ' + found.reason[0].upper() + found.reason[1:] + '.' if found.reason else ''}"
    )


def of(setting: str) -> str:
    """Return a setting in brackets, if it has a name."""
    return f" ({setting})" if setting else ""


def _outcome(claim: Claim, facts: Mapping[str, Any]) -> str:
    if claim.kind != "equivalent" and facts["outcome"] == "inconclusive":
        if facts["verdict"] == sizes.TRIVIAL:
            return "a difference, and too small to matter"
        if facts["verdict"] == sizes.EQUIVALENT:
            return "no difference that would matter"
    return str(facts["outcome"])


def _effect(metric: Metric, found: OverModels) -> str:
    ends = (found.difference, found.ci_low, found.ci_high)
    if found.log:
        return f"ratio {with_interval(*(end if end is None else _ratio(end) for end in ends))}"
    shown = with_interval(*(end if end is None else end * metric.scale for end in ends))
    return of_difference(metric, f"difference {shown}")


def _test(claim: Claim, found: OverModels, facts: Mapping[str, Any]) -> str:
    said = TESTS[found.test]
    if claim.kind != "equivalent":
        said += f", t({found.df:.1f}) = {signed(found.statistic)}, {p_text(found.p_value)}"
        if facts["family_size"] > 1:
            said += f", Holm {p_text(facts['p_holm'])}"
    return said


def _size(metric: Metric, found: OverModels, size: float) -> str:
    """Return the size of a difference: where logarithms are compared in percent, or a factor.

    Of two or three models only that may be seen which no float64 holds as a ratio.
    """
    if not found.log:
        return of_difference(metric, short(size * metric.scale))
    if size > LARGEST:
        return f"a factor of 10^{size / math.log(10):.0f}"
    return f"{short(100 * math.expm1(size))} %"


def _ratio(end: float) -> float:
    try:
        return math.exp(end)
    except OverflowError:
        return math.inf


def _at_the_margin(metric: Metric, found: OverModels, facts: Mapping[str, Any]) -> str:
    """Return how the difference stands to the margin that equivalence is claimed within."""
    assert found.margin is not None
    edge = p_either(found.p_within, found.p_beyond)
    said = f", margin ±{_size(metric, found, found.margin)}, {p_text(edge)} at its edge"
    if facts["family_size"] > 1:
        said += f", Holm {p_text(facts['p_holm'])}"
    if facts["outcome"] == "violated":
        return f"{said}: beyond the margin"
    if facts["verdict"] == sizes.TRIVIAL:
        return f"{said}: a difference, and within the margin"
    if facts["outcome"] == "inconclusive":
        least = _size(metric, found, facts["smallest_margin"])
        said += (
            f": neither shown within nor beyond; a margin of at least {least} could be confirmed "
            "with 80 % power"
        )
    return said


def _beside_what_matters(metric: Metric, found: OverModels, facts: Mapping[str, Any]) -> str:
    """Return how the difference stands to the smallest that matters, and what could be seen."""
    seen = f"{_size(metric, found, facts['mde_corrected'])} or more would be found with 80 % power"
    if not found.margin:
        return f"; {seen}" if facts["verdict"] == sizes.INCONCLUSIVE else ""
    margin = _size(metric, found, found.margin)
    if facts["verdict"] in (sizes.TRIVIAL, sizes.EQUIVALENT):
        return f", within ±{margin}"
    if facts["verdict"] == sizes.INCONCLUSIVE:
        return f"; what matters begins at {margin}, and {seen}"
    if sizes.least(facts["ci_simultaneous"]) < found.margin:
        return f"; it may be less than {margin}, from where on it matters"
    return ""


def _model_by_model(claim: Claim, found: OverModels, facts: Mapping[str, Any]) -> str:
    """Return on how many models it is so, Wilcoxon's test, and how often a run is better."""
    n = found.n_models
    so = [(d < 0) == (claim.kind == "lower") for d in found.per_model.values() if d]
    said = f"; {claim.kind} on {sum(so)} of {n}"
    if len(so) < n:
        said += f", alike on {n - len(so)}"
    if found.wilcoxon_p is not None and found.wilcoxon_least is not None:
        if found.wilcoxon_least >= facts["alpha"]:
            said += (
                f"; Wilcoxon's test cannot reach {facts['alpha']:g} with {count(n, 'model')} (its "
                f"smallest p is {found.wilcoxon_least:.3g})"
            )
        else:
            said += f", Wilcoxon {p_text(found.wilcoxon_p)}"
    if found.lower_probability:
        p, low, high = found.lower_probability
        p, low, high = (p, low, high) if claim.kind == "lower" else (1 - p, 1 - high, 1 - low)
        said += f"; probability of improvement {p:.2f} [{low:.2f}, {high:.2f}]"
    return said
