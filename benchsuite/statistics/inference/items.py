"""How a claim is decided over items: the same questions or chunks under both methods."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from benchsuite.statistics.descriptive import describe
from benchsuite.statistics.equivalence import tost_over_items
from benchsuite.statistics.inference.arms import of_arms
from benchsuite.statistics.inference.verdicts import Draft, ordered
from benchsuite.statistics.item_tests import ItemDifference, item_difference
from benchsuite.statistics.ranking import auroc_difference
from benchsuite.statistics.two_levels import TwoLevels, auroc_over_both, means_over_both

_OF_SEEDS = ("statistic", "correlation", "cohens_d", "hedges_g", "exact_p", "welch")


def ranked(arm: Any, other: Any, kind: str) -> Draft:
    """Lower or ``higher`` AUROC over the items that both ranked, each distinct one counted once."""
    found = auroc_difference(arm.rankings, other.rankings)
    one, two = (describe(a.values[s] for s in sorted(a.values)) for a in (arm, other))
    evidence: dict[str, Any] = {
        **of_arms(arm.rankings, other.rankings, one, two),
        **_told(asdict(found)),
    }
    if max(len(arm.rankings), len(other.rankings)) > 1:
        evidence |= _both(auroc_over_both(arm.rankings, other.rankings))
    return Draft(kind if found.defined else "inconclusive", found.p_value, evidence)


def constant(arm: Any, other: Any, kind: str, evidence: Mapping[str, Any]) -> Draft:
    """Lower or ``higher`` where neither arm has randomness: over items, or by the numbers.

    More seeds would repeat the same two numbers. Where both keep items, these decide: other ones
    need not repeat them. Too few, or such as cannot be paired, leave it open: two numbers alone
    would hold whatever was claimed. Without items the comparison is exact, of this text alone.
    """
    found = evidence.get("items") or {"defined": False, "reason": ""}
    told = {key: value for key, value in evidence.items() if key != "items"}
    if found["defined"]:
        return Draft(kind, found["p_value"], {**told, **_told(found)})
    if _tell_nothing(evidence):
        return Draft("inconclusive", evidence={**told, **_of_undecided(found)})
    first, second = (next(iter(a.values.values())) for a in (arm, other))
    exact = {"test": "exact", "difference": first - second, "reason": found["reason"]}
    return ordered(kind, {**told, **exact})


def constant_equivalent(margin: float | None, evidence: Mapping[str, Any]) -> Draft | None:
    """Within the margin or beyond it where neither arm has randomness, over the items they share.

    As `constant`: more seeds would repeat the same two numbers. None without such items.
    """
    assert margin is not None
    if _tell_nothing(evidence):
        found = _of_undecided(evidence["items"])
        told = {key: value for key, value in evidence.items() if key != "items"}
        nothing = {"defined": False, "reason": found["reason"]}
        return Draft("inconclusive", evidence={**told, **found, "margin": margin, "tost": nothing})
    if "items" not in evidence or not evidence["items"]["defined"]:
        return None
    result = tost_over_items(ItemDifference(**evidence["items"]), margin)
    told = {key: value for key, value in evidence.items() if key != "items"}
    told |= {**_told(evidence["items"]), "margin": margin, "tost": asdict(result)}
    if not result.defined:
        return Draft("inconclusive", evidence={**told, "reason": result.reason})
    return Draft("equivalent", result.p_either, {**told, "p_equivalence": result.p_either})


def _tell_nothing(evidence: Mapping[str, Any]) -> bool:
    """Say whether both arms keep items that decide nothing: too few, or not to be paired."""
    found = evidence.get("items")
    return found is not None and not found["defined"]


def _of_undecided(found: Mapping[str, Any]) -> dict[str, Any]:
    return {"test": found["test"], "reason": found["reason"], "n_left_out": found["n_left_out"]}


def item_evidence(arm: Any, other: Any, shared_seeds: bool) -> dict[str, Any]:
    """Return the paired test over shared items, where both arms keep them for every seed.

    Beside it stands what seeds and items together would change.
    """
    if not arm.items or not other.items:
        return {}
    if set(arm.items) != set(arm.values) or set(other.items) != set(other.values):
        return {}
    metric = arm.item_metric
    told = {"items": asdict(item_difference(arm.items, other.items, metric=metric))}
    if max(len(arm.values), len(other.values)) < 2:
        return told
    return told | _both(
        means_over_both(arm.items, other.items, metric=metric, shared_seeds=shared_seeds)
    )


def _both(found: TwoLevels) -> dict[str, Any]:
    return {"seeds_and_items": found.as_dict()}


def _told(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a difference over items under the names that every comparison has."""
    kept = ("test", "difference", "error", "df", "p_value", "reason")
    return {
        **{name: found[name] for name in kept},
        "ci95": None if found["ci_low"] is None else [found["ci_low"], found["ci_high"]],
        "skewness": found["skewness"],
        "n_items": found["n_items"],
        "n_units": found["n_units"],
        "n_left_out": found["n_left_out"],
        "paired_by": found["by"],
        **dict.fromkeys(_OF_SEEDS),
    }
