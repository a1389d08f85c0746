"""How a claim is decided over items: the same questions or chunks under both methods."""

from dataclasses import asdict
from typing import Any

from benchsuite.statistics.descriptive import describe
from benchsuite.statistics.inference.verdicts import Draft
from benchsuite.statistics.item_tests import item_bootstrap
from benchsuite.statistics.ranking import auroc_difference


def ranked(arm: Any, other: Any, kind: str) -> Draft:
    """Lower or ``higher`` AUROC over the same items, by the paired bootstrap."""
    seeds = sorted(set(arm.rankings) & set(other.rankings))
    found = auroc_difference([arm.rankings[s] for s in seeds], [other.rankings[s] for s in seeds])
    one, two = (describe(a.values[s] for s in seeds if s in a.values) for a in (arm, other))
    evidence: dict[str, Any] = {
        "test": found.test,
        "n": one.n,
        "n_other": two.n,
        "seeds": seeds,
        "seeds_other": seeds,
        "mean": one.mean,
        "std": one.std,
        "cv_percent": one.cv_percent,
        "mean_other": two.mean,
        "std_other": two.std,
        "cv_percent_other": two.cv_percent,
        "difference": found.difference,
        "error": found.error,
        "ci95": [found.ci_low, found.ci_high] if found.defined else None,
        "n_items": found.n_items,
        "p_value": found.p_value,
        "reason": found.reason,
        **dict.fromkeys(("statistic", "df", "correlation", "cohens_d", "hedges_g", "exact_p")),
        "welch": None,
    }
    return Draft(kind if found.defined else "inconclusive", found.p_value, evidence)


def item_evidence(arm: Any, other: Any) -> dict[str, Any]:
    """Return the paired test over shared items, where both arms keep them for every seed."""
    if not arm.items or not other.items:
        return {}
    if set(arm.items) != set(arm.values) or set(other.items) != set(other.values):
        return {}
    rows_a = [arm.items[seed] for seed in sorted(arm.items)]
    rows_b = [other.items[seed] for seed in sorted(other.items)]
    return {"items": asdict(item_bootstrap(rows_a, rows_b, metric=arm.item_metric))}
