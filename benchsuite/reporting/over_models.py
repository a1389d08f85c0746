"""A study's comparison claims over its models: one sentence and one test each, and mean ranks.

The claims judged on each model alone are another family. This one has the claims over the models of
one setting (one set of further axes and parameters), corrected together by Holm's method.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from benchsuite.printable import count
from benchsuite.reporting.groups import Group
from benchsuite.reporting.weights import kinds_of
from benchsuite.statistics.compare import holm
from benchsuite.statistics.over_models import OverModels, compare_over_models
from benchsuite.statistics.ranks import Ranks, rank_methods
from benchsuite.statistics.rounding import p_text, signed, with_interval
from benchsuite.study import Claim, Metric, Study
from benchsuite.study.metric import exponential

KINDS = ("real", "stand_in")
TESTS = {"mixed_model": "mixed model", "t_over_models": "t over the models' means"}


def over(study: Study, groups: Sequence[Group]) -> dict[str, Any]:
    """Return what a summary holds of it: ``over_models`` and ``ranks``, json-able rows."""
    ranks = ranks_as_dict(mean_ranks(study, groups))
    return {"over_models": answers(study, groups), "ranks": ranks}


def answers(study: Study, groups: Sequence[Group], *, alpha: float = 0.05) -> list[dict[str, Any]]:
    """Return each ``lower`` or ``higher`` claim over the models that have all of its seeds.

    Json-able: the claim, ``outcome`` (held, violated, inconclusive), ``sentence``, ``setting``,
    ``kind``, ``n_declared`` models, and the fields of ``OverModels`` with Holm's p.
    """
    return [found for kind in KINDS for found in _family(study, groups, kind, alpha)]


def mean_ranks(study: Study, groups: Sequence[Group]) -> dict[str, Ranks]:
    """Return setting -> ranks of the methods over the models that have them all, if there are any.

    Ranked is the mean of the metric that ranks the study's methods; controls do not compete.
    """
    metric, apart = study.ranked_by, {*study.controls, *study.unranked}
    found = {}
    for setting, mine in _settings([g for g in groups if g.kind == "real"]).items():
        table = {}
        for group in mine:
            arms = {m: _complete(group, m, metric.name) for m in group.methods if m not in apart}
            if arms and all(arms.values()):
                means = {m: sum(arm.values()) / len(arm) for m, arm in arms.items() if arm}
                table[group.document_name] = means
        ranks = rank_methods(table, lower_is_better=metric.better == "lower")
        if metric.better and ranks.statistic is not None:
            found[setting] = ranks
    return found


def ranks_as_dict(ranks: Mapping[str, Ranks]) -> list[dict[str, Any]]:
    """Return ranks as json-able rows with a sentence each."""
    rows = []
    for setting, found in ranks.items():
        pairs = [{"methods": list(pair), "p_value": p} for pair, p in found.pairs.items()]
        told = {**asdict(replace(found, pairs={})), "pairs": pairs}
        rows.append({"setting": setting, **told, "sentence": ranks_sentence(setting, found)})
    return rows


def ranks_sentence(setting: str, ranks: Ranks) -> str:
    """Return what mean ranks say, and whether they could have said anything."""
    k, cd = len(ranks.mean_ranks), ranks.critical_difference
    order = sorted(ranks.mean_ranks.items(), key=lambda item: item[1])
    told = ", ".join(f"{name} {rank:.2f}" for name, rank in order)
    assert cd is not None
    said = (
        f"Mean ranks of {k} methods over {count(ranks.n_models, 'model')}{_of(setting)} (1 is "
        f"best): {told}. Friedman's test, its orders counted: {p_text(ranks.p_value)}. "
    )
    if cd > k - 1:
        said += (
            f"Nemenyi's critical difference is {cd:.2f}, more than ranks can differ: with so few "
            "models it cannot tell any two methods apart."
        )
    else:
        said += f"Two methods differ at .05 if their ranks do by {cd:.2f} (Nemenyi)."
    return f"{said} {ranks.reason}.".replace(". .", ".") if ranks.reason else said


def _family(study: Study, groups: Sequence[Group], kind: str, alpha: float) -> list[dict[str, Any]]:
    asked = list(_asked(study, [g for g in groups if g.kind == kind]))
    corrected = holm([found.p_value for _, _, _, found in asked])
    tested = sum(p is not None for p in corrected)
    rows = []
    for (claim, setting, declared, found), p_holm in zip(asked, corrected, strict=True):
        outcome = _outcome(claim, found, p_holm, alpha)
        facts = {"p_holm": p_holm, "family_size": tested, "alpha": alpha, "n_declared": declared}
        metric = study.metric(claim.metric)
        rows.append(
            {
                "claim": claim.sentence,
                **{k: getattr(claim, k) for k in ("kind", "metric", "method", "other", "control")},
                "weights": kind,
                "setting": setting,
                "outcome": outcome,
                "sentence": _sentence(claim, metric, setting, outcome, found, facts),
                **facts,
                **asdict(found),
            }
        )
    return rows


def _asked(study: Study, groups: Sequence[Group]) -> Iterator[tuple[Claim, str, int, OverModels]]:
    for setting, mine in _settings(groups).items():
        for claim in study.claims:
            if claim.kind not in ("lower", "higher") or not claim.other:
                continue
            declared = [g for g in mine if {claim.method, claim.other} <= set(g.methods)]
            arms = {}
            for group in declared:
                pair = [_complete(group, m, claim.metric) for m in (claim.method, claim.other)]
                if pair[0] and pair[1]:
                    arms[group.document_name] = (pair[0], pair[1])
            if len(arms) > 1:
                log = _as_logarithm(study.metric(claim.metric))
                yield (
                    claim,
                    setting,
                    len(declared),
                    compare_over_models(arms, log=log, by_seed=claim.by_seed),
                )


def _settings(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """Return the groups by what they share beside the model: axes, parameters, kind of weights.

    Embedded and dequantized models are no sample of those that a hub's own weights are of.
    """
    found: dict[str, list[Group]] = {}
    measured = {kind for g in groups if g.records for kind in kinds_of(g)}
    for group in groups:
        kinds = sorted(kinds_of(group)) if len(measured) > 1 else []
        marks = [*group.marks, *(f"{kind or 'own'} weights" for kind in kinds)]
        found.setdefault(", ".join(marks), []).append(group)
    return found


def _complete(group: Group, method: str, metric: str) -> dict[int, float] | None:
    """Return a method's values if every declared seed has a number, else None."""
    values = group.values(method, metric)
    numbers = {
        seed: float(v)
        for seed, v in values.items()
        if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)
    }
    return numbers if numbers and len(numbers) == len(group.methods.get(method, ())) else None


def _as_logarithm(metric: Metric) -> bool:
    """Say whether a metric is the exponential of what was measured, as a perplexity is."""
    return metric.items is not None and metric.items[1] is exponential


def _outcome(claim: Claim, found: OverModels, p_holm: float | None, alpha: float) -> str:
    if p_holm is None or found.difference is None or p_holm >= alpha:
        return "inconclusive"
    return "held" if (found.difference < 0) == (claim.kind == "lower") else "violated"


def _sentence(
    claim: Claim,
    metric: Metric,
    setting: str,
    outcome: str,
    found: OverModels,
    facts: Mapping[str, Any],
) -> str:
    """Return the answer in words: n models, interval, test, and what few models cannot show."""
    n, declared = found.n_models, facts["n_declared"]
    some = f"{n} of {declared} declared models" if n < declared else count(n, "model")
    said = f"{claim.sentence} over {some}{_of(setting)}: {outcome}"
    if found.p_value is None:
        return f"{said}; {found.reason}."
    assert found.difference is not None
    ends = (found.difference, found.ci_low, found.ci_high)
    if found.log:
        shown = [math.exp(end) if end is not None else None for end in ends]
        effect = f"ratio {with_interval(*shown)}"
    else:
        shown = [end * metric.scale if end is not None else None for end in ends]
        effect = f"difference {with_interval(*shown)}" + (f" {metric.unit}" if metric.unit else "")
    holm_p = f", Holm {p_text(facts['p_holm'])}" if facts["family_size"] > 1 else ""
    better = found.n_lower if claim.kind == "lower" else n - found.n_lower
    said += (
        f", {effect} ({TESTS[found.test]}, t({found.df:.1f}) = {signed(found.statistic)}, "
        f"{p_text(found.p_value)}{holm_p}); {claim.kind} on {better} of {n}"
    )
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
    return (
        f"{said}.{' ' + found.reason[0].upper() + found.reason[1:] + '.' if found.reason else ''}"
    )


def _of(setting: str) -> str:
    return f" ({setting})" if setting else ""
