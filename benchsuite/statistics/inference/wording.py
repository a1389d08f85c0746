"""Judgements in words: the numbers, the test, and what a null result does not show."""

from collections.abc import Mapping
from typing import Any

from benchsuite.statistics.inference.verdicts import Draft
from benchsuite.statistics.rounding import (
    Display,
    in_unit,
    p_text,
    short,
    signed,
    spread,
    with_interval,
)

MOST_IDS = 3
TEST_NAMES = {
    "welch": "Welch's t-test",
    "student": "Student's t-test",
    "paired": "paired t-test",
    "one_sample": "one-sample t-test against the constant arm",
    "exact": "exact comparison of two constants",
    "delong": "DeLong's test over items",
    "item_t": "paired t-test over items",
    "sign_flip_items": "exact sign-flip test over items",
    "mcnemar": "McNemar's exact test over items",
}


def sentence(claim: Any, model: str, draft: Draft, how: Display) -> str:
    """Return one sentence for a judged claim on one model; ``how`` its metric is shown."""
    evidence = draft.evidence
    if draft.outcome == "not_run":
        text = _not_run(evidence)
    elif claim.kind == "identical":
        text = _identical(claim, draft.outcome, evidence, how)
    elif claim.kind == "true":
        text = _true(claim, evidence)
    elif claim.kind == "cv_below":
        text = _cv(draft.outcome, evidence)
    elif claim.kind == "equivalent":
        text = _equivalent(claim, draft.outcome, evidence, how)
    else:
        text = _ordered(claim, draft.outcome, evidence, how)
    if claim.control and draft.outcome not in ("held", "not_run"):
        text += f" The control did not come out: the study cannot see a difference on {model}."
    return text


def _not_run(evidence: Mapping[str, Any]) -> str:
    missing = evidence["missing"]
    if not missing:
        return "The grid holds no cell for it."
    shown = ", ".join(missing[:MOST_IDS])
    more = f" and {len(missing) - MOST_IDS} more" if len(missing) > MOST_IDS else ""
    return f"Waiting for {shown}{more}."


def _identical(claim: Any, outcome: str, evidence: Mapping[str, Any], how: Display) -> str:
    if outcome == "held":
        return f"One value of {claim.metric} over {evidence['n']} seeds."
    if outcome == "inconclusive":
        return f"n = {evidence['n']}: {evidence['reason']}."
    groups = "; ".join(
        f"seed {', '.join(map(str, group['seeds']))}: {_abridged(group['value'], how)}"
        for group in evidence["groups"]
    )
    return f"{evidence['distinct']} different values of {claim.metric} ({groups})."


def _true(claim: Any, evidence: Mapping[str, Any]) -> str:
    count = f"{len(evidence['false'])} of {evidence['n']}" if evidence["false"] else evidence["n"]
    seeds = f"{count} seed{'s' if evidence['n'] > 1 else ''}"
    return f"{claim.metric} is {'false' if evidence['false'] else 'true'} for {seeds}."


def _cv(outcome: str, evidence: Mapping[str, Any]) -> str:
    if outcome == "inconclusive":
        return f"n = {evidence['n']}: {evidence['reason']}."
    low, high = evidence["cv_ci95"]
    text = f"cv = {evidence['cv_percent']:.2g} % over {evidence['n']} seeds"
    if evidence["std"] == 0:
        return f"{text}: every seed gives the same value."
    text += f" (95 % interval {low:.2g} to {high:.2g} %)"
    limit = evidence["limit"]
    if outcome == "held" and high >= limit:
        text += f": the estimate is below {limit:g} %, the interval reaches above it"
    return text + "."


def _ordered(claim: Any, outcome: str, evidence: Mapping[str, Any], how: Display) -> str:
    text = _difference(evidence, how)
    if evidence["p_value"] is None:
        reason = evidence.get("reason")
        return (
            f"{text}: {reason}.{_items(evidence, how)}"
            if reason
            else f"{text}.{_items(evidence, how)}"
        )
    text += f" ({_test(evidence)})"
    if outcome == "violated":
        text = f"{claim.other} is the {claim.kind} one: {text}"
    elif outcome == "inconclusive":
        text = f"No significant difference: {text}. {power_sentence(evidence, how)}"
        return text + _items(evidence, how)
    return f"{text}.{_items(evidence, how)}"


def _equivalent(claim: Any, outcome: str, evidence: Mapping[str, Any], how: Display) -> str:
    result = evidence["tost"]
    if not result["defined"]:
        return f"n = {evidence['n']} and {evidence['n_other']}: {result['reason']}."
    interval = _interval(how, result["difference"], result["ci_low"], result["ci_high"])
    margin = in_unit(how, f"±{evidence['margin'] * how.scale:g}")
    text = f"Difference {interval} (90 %), margin {margin}"
    if result["p_value"] is None:
        return f"{text}; neither arm varies.{_items(evidence, how)}"
    text += f", TOST {p_text(result['p_value'])}, Holm {p_text(evidence['p_holm'])}"
    if outcome == "inconclusive":
        text += (
            f": neither shown equal nor different; with these seeds a margin of at least "
            f"{_size(how, evidence['smallest_margin'])} could be confirmed with 80 % power"
        )
    return f"{text}.{_items(evidence, how)}"


def power_sentence(evidence: Mapping[str, Any], how: Display) -> str:
    """Return what these seeds could have seen: the sentence that belongs beside every null."""
    size, d = _size(how, evidence["mde_corrected"]), evidence.get("mde_d_corrected")
    family = evidence["family_size"]
    correction = f" after correction for {family} tests" if family > 1 else ""
    if d is None:
        return (
            f"With these {evidence['n_items']} items only a true difference of {size} or more is "
            f"found with 80 % power{correction}: this does not show that they are equal."
        )
    return (
        f"With {evidence['effective_n']} seeds only a true difference of {size} (d = {d:.2f}) or "
        f"more is found with 80 % power{correction}: this does not show that they are equal."
    )


def _difference(evidence: Mapping[str, Any], how: Display) -> str:
    first = spread(how, evidence["mean"], evidence["std"])
    second = spread(how, evidence["mean_other"], evidence["std_other"])
    text = f"{first} against {second}"
    if evidence["difference"] is None:
        return text
    low, high = evidence["ci95"] or (None, None)
    return f"{text}, difference {_interval(how, evidence['difference'], low, high)}"


def _test(evidence: Mapping[str, Any]) -> str:
    name = TEST_NAMES.get(evidence["test"], evidence["test"])
    n = evidence.get("n_items") or f"{evidence['n']} and {evidence['n_other']}"
    text = f"{name}, n = {n}, {p_text(evidence['p_value'])}"
    if evidence.get("n_left_out"):
        text += f", without {evidence['n_left_out']} items that one of them alone has"
    if "looks" in evidence:
        looks = ", ".join(map(str, evidence["looks"]))
        text += f", {p_text(evidence['p_sequential'])} after looks at {looks} seeds"
        text += f" of at most {evidence['looks_planned'][-1]}"
    if evidence["family_size"] > 1:
        text += f", Holm {p_text(evidence['p_holm'])} of {evidence['family_size']}"
    if evidence["hedges_g"] is not None:
        text += f", g = {signed(evidence['hedges_g'])}"
    return text


def _items(evidence: Mapping[str, Any], how: Display) -> str:
    text, items = "", evidence.get("items")
    if items and items["defined"]:
        interval = _interval(how, items["difference"], items["ci_low"], items["ci_high"])
        text = f" Over the {items['n_items']} shared items, paired: {interval}."
    both = evidence.get("seeds_and_items")
    if both and both["difference"] is not None:
        interval = _interval(how, both["difference"], both["ci_low"], both["ci_high"])
        text += f" Over seeds and items together: {interval}; {_source(both)}."
    return text


def _source(both: Mapping[str, Any]) -> str:
    """Return which source of variation dominates."""
    if both["dominant"] == "both":
        return "both vary alike"
    share = both["share_seeds"] if both["dominant"] == "seeds" else 1 - both["share_seeds"]
    return f"{100 * share:.0f} % of the variance is of the {both['dominant']}"


def _interval(how: Display, value: float, low: float | None, high: float | None) -> str:
    known = None not in (low, high)
    ends = ((low or 0.0) * how.scale, (high or 0.0) * how.scale) if known else (None, None)
    return in_unit(how, with_interval(value * how.scale, *ends))


def _size(how: Display, size: float) -> str:
    return in_unit(how, short(size * how.scale))


def _abridged(value: Any, how: Display) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    text = in_unit(how, str(value * how.scale)) if number else str(value)
    return text if len(text) <= 16 else text[:12] + "…"
