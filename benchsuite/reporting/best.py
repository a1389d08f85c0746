"""Which method of a group may be called the best: one that tests separate from every other."""

import itertools
from collections.abc import Mapping

from benchsuite.reporting.groups import Group
from benchsuite.statistics.compare import holm, welch
from benchsuite.statistics.margins import absolute
from benchsuite.statistics.samples import as_sample, is_constant, mean_of
from benchsuite.statistics.unequal import guarded_p
from benchsuite.study import Study

ALPHA = 0.05


def best_method(study: Study, group: Group) -> str | None:
    """Return the method whose metric is better than every other's, by what matters at least.

    Welch against each, Holm over all pairs because the winner is picked after looking. A method
    without randomness competes as the constant that it is; two of those differ exactly. One that
    has a single value and should have more is tested against nobody, but while its value is the
    better one nobody is called the best. Controls stand apart, and what is not ranked. None if one
    comparison of the winner is not significant, or if no way is better.
    """
    metric = study.metric(study.ranked_by.name)
    arms, unfinished = _competing(study, group)
    if len(arms) < 2 or not metric.better:
        return None
    means = {method: mean_of(as_sample(values.values())) for method, values in arms.items()}
    pick = max if metric.better == "higher" else min
    winner = pick(means, key=lambda method: means[method])
    if unfinished and pick(means[winner], *unfinished) != means[winner]:
        return None
    pairs = list(itertools.combinations(sorted(arms), 2))
    corrected = holm([_p_value(arms[a], arms[b]) for a, b in pairs])
    for (a, b), p in zip(pairs, corrected, strict=True):
        if winner not in (a, b):
            continue
        other = means[b if winner == a else a]
        lead, needed = abs(means[winner] - other), absolute(metric.margin, other, metric.scale)
        exact = _is_still(arms[a]) and _is_still(arms[b])
        if lead < needed or not (exact or (p is not None and p < ALPHA)):
            return None
    return winner


def _competing(study: Study, group: Group) -> tuple[dict[str, Mapping[int, float]], list[float]]:
    """Return the values by seed of each method that a test can take, and those of single runs."""
    apart = {*study.controls, *study.unranked}
    arms: dict[str, Mapping[int, float]] = {}
    unfinished: list[float] = []
    for method in group.methods:
        values = group.values(method, study.ranked_by.name)
        if method in apart or not values:
            continue
        if method in study.once:
            # As often as a test asks for: more seeds would repeat the same number.
            arms[method] = dict.fromkeys(range(2), next(iter(values.values())))
        elif len(values) > 1:
            arms[method] = values
        else:
            unfinished += values.values()
    return arms, unfinished


def _is_still(values: Mapping[int, float]) -> bool:
    return is_constant(as_sample(values.values()))


def _p_value(a: Mapping[int, float], b: Mapping[int, float]) -> float | None:
    p = welch(a.values(), b.values()).p_value
    if p is None or _is_still(a) or _is_still(b):
        return p
    return guarded_p(p, len(a), len(b))
