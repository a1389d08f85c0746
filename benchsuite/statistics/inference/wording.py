"""Judgements in words: the numbers, the test, and what a null result does not show."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchsuite.printable import some
from benchsuite.statistics.inference import sizes
from benchsuite.statistics.inference.beware import beware, ran_once
from benchsuite.statistics.inference.verdicts import Draft
from benchsuite.statistics.rounding import (
    Display,
    in_unit,
    of_difference,
    p_text,
    short,
    signed,
    spread,
    with_interval,
)

_ENDS = ("", "_other")  # of the evidence's keys, by arm
MOST_IDS = 3
MOST_VALUES = 10
# By so much unequal variances must be able to raise a p-value before a sentence says so.
NOTABLY = 1.05
# Below that all p-values are told alike.
LEAST_TOLD = 1e-4
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
        text = _not_run(claim, evidence)
    elif claim.kind == "identical":
        text = _identical(claim, draft.outcome, evidence, how)
    elif claim.kind == "true":
        text = _true(claim, evidence)
    elif claim.kind == "cv_below":
        text = _cv(draft.outcome, evidence)
    elif claim.kind == "equivalent":
        text = _equivalent(claim, draft, how)
    else:
        text = _ordered(claim, draft, how)
    return text + control_sentence(claim, model, draft.outcome)


def control_sentence(claim: Any, model: str, outcome: str) -> str:
    """Return what follows where a control did not come out, with a space before; empty else."""
    if not claim.control or outcome in ("held", "not_run"):
        return ""
    return f" The control did not come out: the study cannot see a difference on {model}."


def _not_run(claim: Any, evidence: Mapping[str, Any]) -> str:
    empty = evidence.get("empty", ())
    missing = [one for one in evidence["missing"] if one not in empty]
    if empty and not missing:
        return f"{claim.metric} is in no record of {some(empty, MOST_IDS)}: nothing is left to run."
    if not missing:
        return "The grid holds no cell for it."
    return f"Waiting for {some(missing, MOST_IDS)}."


def _identical(claim: Any, outcome: str, evidence: Mapping[str, Any], how: Display) -> str:
    if outcome == "held":
        return f"One value of {claim.metric} over {evidence['n']} seeds."
    if outcome == "inconclusive":
        return f"n = {evidence['n']}: {evidence['reason']}."
    found = evidence["groups"]
    groups = "; ".join(
        f"seed {_few(group['seeds'])}: {_abridged(group['value'], how)}"
        for group in found[:MOST_VALUES]
    )
    more = f"; and {len(found) - MOST_VALUES} more" if len(found) > MOST_VALUES else ""
    return f"{evidence['distinct']} different values of {claim.metric} ({groups}{more})."


def both_arms(evidence: Mapping[str, Any], how: Display) -> list[str]:
    """Return both arms' mean ± standard deviation, alone where one run stands for every seed."""
    return [
        spread(how, evidence[f"mean{end}"], None if once else evidence[f"std{end}"])
        for end, once in zip(_ENDS, ran_once(evidence), strict=True)
    ]


def seeds_run(evidence: Mapping[str, Any]) -> tuple[int, ...]:
    """Return of how many seeds each arm has results of its own."""
    pairs = zip(_ENDS, ran_once(evidence), strict=True)
    return tuple(1 if once else evidence[f"n{end}"] for end, once in pairs)


def _few(seeds: Sequence[int]) -> str:
    told = ", ".join(map(str, seeds[:MOST_VALUES]))
    left = len(seeds) - MOST_VALUES
    return f"{told} and {left} more" if left > 0 else told


def _true(claim: Any, evidence: Mapping[str, Any]) -> str:
    count = f"{len(evidence['false'])} of {evidence['n']}" if evidence["false"] else evidence["n"]
    seeds = f"{count} seed{'s' if evidence['n'] > 1 else ''}"
    return f"{claim.metric} is {'false' if evidence['false'] else 'true'} for {seeds}."


def _cv(outcome: str, evidence: Mapping[str, Any]) -> str:
    if "reason" in evidence:
        return f"n = {evidence['n']}: {evidence['reason']}."
    text = f"cv = {short(evidence['cv_percent'])} % over {evidence['n']} seeds"
    if evidence["std"] == 0:
        return f"{text}: every seed gives the same value."
    low, high = evidence["cv_simultaneous"]
    n = evidence["family_size"]
    over = f", simultaneous over {n} tests" if n > 1 else ""
    text += f" (95 % interval {short(low)} to {short(high)} %{over}; {p_text(evidence['p_value'])}"
    text += f", Holm {p_text(evidence['p_holm'])})" if n > 1 else ")"
    if outcome == "inconclusive":
        text += f": neither shown below {evidence['limit']:g} % nor above"
    return text + "."


def _ordered(claim: Any, draft: Draft, how: Display) -> str:
    evidence = draft.evidence
    text = _difference(evidence, how)
    after = f"{beware(claim, draft)}{_items(evidence, how)}"
    small = f"within ±{_margin(evidence, how)}" if evidence.get("margin") else ""
    if evidence["p_value"] is None:
        if draft.verdict == sizes.TRIVIAL:
            return f"A difference too small to matter, {small}: {text}.{after}"
        reason = evidence.get("reason")
        return f"{text}: {reason}.{after}" if reason else f"{text}.{after}"
    text += f" ({_test(evidence)})"
    if draft.verdict == sizes.TRIVIAL:
        return f"A difference, and too small to matter: {text}, {small}.{after}"
    if draft.verdict == sizes.EQUIVALENT:
        return f"No difference that would matter: {text}, {small}.{after}"
    if draft.outcome == "inconclusive":
        seen = f"{margin_sentence(evidence, how)}{power_sentence(evidence, how)}"
        return f"No significant difference: {text}. {seen}{after}"
    if draft.outcome == "violated":
        text = f"{claim.other} is the {claim.kind} one: {text}"
    if small and sizes.least(evidence["ci_simultaneous"]) < evidence["margin"]:
        text += f"; it may be less than {_margin(evidence, how)}, from where on it matters"
    return f"{text}.{after}"


def _equivalent(claim: Any, draft: Draft, how: Display) -> str:
    evidence = draft.evidence
    result = evidence["tost"]
    after = f"{beware(claim, draft)}{_items(evidence, how)}"
    if not result["defined"]:
        return f"n = {evidence['n']} and {evidence['n_other']}: {result['reason']}.{after}"
    margin = of_difference(how, f"±{evidence['margin'] * how.scale:g}")
    if result["p_value"] is None:
        exact = _interval(how, result["difference"], result["ci_low"], result["ci_high"])
        return f"Difference {exact}, margin {margin}; neither arm varies.{after}"
    n = evidence["family_size"]
    low, high = evidence["ci_simultaneous"]
    over = f", simultaneous over {n} tests" if n > 1 else ""
    text = f"Difference {_interval(how, result['difference'], low, high)} (95 %{over}), "
    if "n_items" in evidence:
        text += f"over {evidence['n_items']} shared items, paired, "
    text += f"margin {margin}, {p_text(evidence['p_equivalence'])} at the margin's edge"
    text += _looks(evidence)
    text += f", Holm {p_text(evidence['p_holm'])} of {n}" if n > 1 else ""
    if draft.outcome == "violated":
        text += ": beyond the margin"
    elif draft.verdict == sizes.TRIVIAL:
        text += ": a difference, and within the margin"
    elif draft.outcome == "inconclusive":
        ends = evidence.get("smallest_margin_ci95")
        text += (
            f": neither shown within nor beyond; with these {'seeds' if ends else 'items'} "
            f"a margin of at least {_size(how, evidence['smallest_margin'])}"
            f"{_between(how, ends) if ends else ''} could be confirmed with 80 % power"
        )
    return f"{text}.{after}"


def margin_sentence(evidence: Mapping[str, Any], how: Display) -> str:
    """Return from which size on a difference matters, beside a null; empty where nothing says."""
    if not evidence.get("margin"):
        return ""
    return f"What matters begins at {_margin(evidence, how)}. "


def power_sentence(evidence: Mapping[str, Any], how: Display) -> str:
    """Return what these seeds could have seen: the sentence that belongs beside every null."""
    size, d = _size(how, evidence["mde_corrected"]), evidence.get("mde_d_corrected")
    n, level = evidence["family_size"], f"at level {evidence['level']:.2g}"
    level += f" ({evidence['alpha']:g} over {n} tests)" if n > 1 else ""
    if d is None and not evidence["mde_corrected"]:
        return "They are alike on every one of these items, and other items may tell them apart."
    if d is None:
        return (
            f"With these {evidence['n_items']} items only a true difference of {size} or more is "
            f"found with 80 % power {level}: this does not show that they are equal."
        )
    unit = "d_z" if evidence["test"] == "paired" else "d"
    return (
        f"With {evidence['effective_n']} seeds only a true difference of {size} ({unit} = {d:.2f}) "
        f"or more is found with 80 % power {level}{_between(how, evidence['mde_ci95'])}: this does "
        "not show that they are equal."
    )


def _between(how: Display, ends: Sequence[float]) -> str:
    """Return the bounds of a size that was worked out from an estimated standard deviation."""
    low, high = (_size(how, end) for end in ends)
    return f" ({low} to {high} by the 95 % interval of the standard deviation)"


def _margin(evidence: Mapping[str, Any], how: Display) -> str:
    declared = evidence["margin_declared"].strip()
    if "%" not in declared:  # as it was given: it is in the unit shown
        return of_difference(how, f"{float(declared):g}")
    relative = f"{declared.removesuffix('%').strip()} %"
    relative += " of the other's" if how.unit == "%" else ""  # points and percent look alike
    return f"{_size(how, evidence['margin'])} ({relative})"


def _difference(evidence: Mapping[str, Any], how: Display) -> str:
    text = " against ".join(both_arms(evidence, how))
    if evidence["difference"] is None:
        return text
    low, high = evidence.get("ci_simultaneous") or evidence["ci95"] or (None, None)
    text = f"{text}, difference {_interval(how, evidence['difference'], low, high)}"
    n = evidence.get("family_size", 1)
    if n == 1 or not evidence["ci95"]:
        return text
    alone = _interval(how, evidence["difference"], *evidence["ci95"])
    alone = alone[alone.index("[") :] if "[" in alone else alone
    return f"{text}, simultaneous over {n} tests (uncorrected {alone})"


def _test(evidence: Mapping[str, Any]) -> str:
    name = TEST_NAMES.get(evidence["test"], evidence["test"])
    n = evidence.get("n_items") or "{} and {}".format(*seeds_run(evidence))
    text = f"{name}, n = {n}, {p_text(evidence['p_value'])}"
    text += _left_out(evidence)
    guarded = evidence.get("p_guarded")
    if guarded is not None and guarded > NOTABLY * evidence["p_value"] and guarded >= LEAST_TOLD:
        held = "with the skewness seen" if evidence.get("skewness") else "whatever the variances"
        text += f" (at most {p_text(guarded).removeprefix('p = ')} {held})"
    text += _looks(evidence)
    if evidence["family_size"] > 1:
        text += f", Holm {p_text(evidence['p_holm'])} of {evidence['family_size']}"
    if evidence.get("effect") is not None:
        text += f", {evidence['effect_name']} = {signed(evidence['effect'])}"
    return text


def _looks(evidence: Mapping[str, Any]) -> str:
    if "looks" not in evidence:
        return ""
    looks = ", ".join(map(str, evidence["looks"]))
    text = f", {p_text(evidence['p_sequential'])} after looks at {looks} seeds"
    return f"{text} of at most {evidence['looks_planned'][-1]}"


def _items(evidence: Mapping[str, Any], how: Display) -> str:
    text, items = "", evidence.get("items")
    if items and items["defined"]:
        interval = _interval(how, items["difference"], items["ci_low"], items["ci_high"])
        alone = _left_out(items)
        text = f" Over the {items['n_items']} shared items, paired{alone}: {interval}."
    elif items:
        text = f" Over items nothing is said: {items['reason']}."
    both = evidence.get("seeds_and_items")
    if both and both["difference"] is not None:
        interval = _interval(how, both["difference"], both["ci_low"], both["ci_high"])
        text += f" Over seeds and items together: {interval}; {_source(both)}."
    if name := evidence.get("unlike"):
        text += f" The items {name!r} make quite another number, and were left out."
    text += _names(evidence)
    if name := evidence.get("lacking"):
        text += f" No record holds the items {name!r}, which would say whether other ones agree."
    return text


def _left_out(found: Mapping[str, Any]) -> str:
    """Return how many items one method alone has, of a difference over items; else nothing."""
    n = found.get("n_left_out")
    return f", without {n} items that one of them alone has" if n else ""


def _names(evidence: Mapping[str, Any]) -> str:
    """Return what is amiss with the columns that name the items and say what they share."""
    text, by_place = (
        "",
        "place" in ((evidence.get("items") or {}).get("by"), evidence.get("paired_by")),
    )
    for column, methods in evidence.get("unnamed", {}).items():
        text += f" No column {column!r} names the items of {' and '.join(methods)}"
        text += ": they are paired by place." if by_place else "."
    compared = (evidence.get("items") or {}).get("defined") or evidence.get("n_items")
    for column, methods in evidence.get("ungrouped", {}).items() if compared else ():
        text += f" No column {column!r} says what the items of {' and '.join(methods)} share"
        text += ": each counts as independent." if len(methods) > 1 else "."
    if name := evidence.get("torn"):
        text += f" The records disagree about which items belong together by {name!r}."
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
    return of_difference(how, with_interval(value * how.scale, *ends))


def _size(how: Display, size: float) -> str:
    return of_difference(how, short(size * how.scale))


def _abridged(value: Any, how: Display) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    text = in_unit(how, str(value * how.scale)) if number else str(value)
    return text if len(text) <= 16 else text[:12] + "…"
