"""A study's comparison claims over its models: one sentence and one test each, and mean ranks.

The claims judged on each model alone are another family. This one has the claims over the models of
one setting (one set of further axes and parameters), corrected together by Holm's method.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from benchsuite.printable import count
from benchsuite.reporting import over_models_wording
from benchsuite.reporting.groups import Group
from benchsuite.reporting.weights import kinds_of
from benchsuite.statistics.compare import holm
from benchsuite.statistics.equivalence import p_either
from benchsuite.statistics.inference import sizes
from benchsuite.statistics.inference.verdicts import of_equivalence, of_order
from benchsuite.statistics.margins import absolute
from benchsuite.statistics.over_models import OverModels, compare_over_models
from benchsuite.statistics.ranks import Ranks, rank_methods
from benchsuite.statistics.rounding import p_text
from benchsuite.study import Claim, Metric, Study
from benchsuite.study.metric import exponential

KINDS = ("real", "stand_in")


def over(study: Study, groups: Sequence[Group]) -> dict[str, Any]:
    """Return what a summary holds of it: ``over_models`` and ``ranks``, json-able rows."""
    ranks = ranks_as_dict(mean_ranks(study, groups))
    return {"over_models": answers(study, groups), "ranks": ranks}


def answers(study: Study, groups: Sequence[Group], *, alpha: float = 0.05) -> list[dict[str, Any]]:
    """Return each comparison claim over the models that have all of its seeds.

    Json-able: the claim, ``outcome`` (held, violated, inconclusive), ``verdict`` (of a
    ``Judgement``), ``sentence``, ``setting``, ``kind``, ``n_declared`` models, the fields of
    ``OverModels`` with Holm's p, and what these models would show with ``power``: ``mde``, the
    least difference, or ``smallest_margin`` where equivalence is claimed.
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
    where = over_models_wording.of(setting)
    said = (
        f"Mean ranks of {k} methods over {count(ranks.n_models, 'model')}{where} (1 is "
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
    corrected = holm([_p_value(claim, found) for claim, _, _, found in asked])
    tested = sum(p is not None for p in corrected)
    rows = []
    for (claim, setting, declared, found), p_holm in zip(asked, corrected, strict=True):
        metric = study.metric(claim.metric)
        facts = {"p_holm": p_holm, "family_size": tested, "alpha": alpha, "n_declared": declared}
        facts |= _decided(claim, metric, {**facts, **asdict(found)})
        rows.append(
            {
                "claim": claim.sentence,
                **{k: getattr(claim, k) for k in ("kind", "metric", "method", "other", "control")},
                "weights": kind,
                "setting": setting,
                "sentence": over_models_wording.sentence(claim, metric, setting, found, facts),
                **facts,
                **asdict(found),
            }
        )
    return rows


def _p_value(claim: Claim, found: OverModels) -> float | None:
    if claim.kind == "equivalent":
        return p_either(found.p_within, found.p_beyond)
    return found.p_value


def _decided(claim: Claim, metric: Metric, evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a claim came out, its verdict, and what could have been seen.

    By the rules that judge it on a single model, see ``inference.verdicts``.
    """
    p_holm, alpha = evidence["p_holm"], evidence["alpha"]
    if p_holm is None:
        return {"outcome": "inconclusive", "verdict": sizes.INCONCLUSIVE}
    granted, differs = alpha / evidence["family_size"], p_holm < alpha
    bounds = sizes.interval(evidence, granted)
    assert bounds is not None
    better = metric.better or claim.kind.replace("equivalent", "")
    side = sizes.direction(evidence["difference"], better)
    if claim.kind == "equivalent":
        seen = sizes.confirmable_over_items(evidence, granted)
        within = evidence["p_within"] < evidence["p_beyond"]
        outcome, verdict = of_equivalence(bounds, side, decided=differs, within=within)
    else:
        seen = sizes.detectable_over_items(evidence, alpha, granted)
        outcome, verdict = of_order(
            claim.kind,
            evidence["difference"],
            side,
            differs=differs,
            small=sizes.within(bounds, evidence["margin"]),
            control=claim.control,
        )
    return {"outcome": outcome, "verdict": verdict, "ci_simultaneous": list(bounds), **seen}


def _asked(study: Study, groups: Sequence[Group]) -> Iterator[tuple[Claim, str, int, OverModels]]:
    for setting, mine in _settings(groups).items():
        for claim in study.claims:
            if claim.kind not in ("lower", "higher", "equivalent") or not claim.other:
                continue
            declared = [g for g in mine if {claim.method, claim.other} <= set(g.methods)]
            arms = {}
            for group in declared:
                pair = [_complete(group, m, claim.metric) for m in (claim.method, claim.other)]
                if pair[0] and pair[1]:
                    arms[group.document_name] = (pair[0], pair[1])
            if len(arms) > 1:
                metric = study.metric(claim.metric)
                found = compare_over_models(
                    arms,
                    log=_as_logarithm(metric),
                    by_seed=claim.by_seed,
                    margin_of=partial(_margin, claim, metric),
                )
                yield claim, setting, len(declared), found


def _margin(claim: Claim, metric: Metric, mean: float) -> float:
    """Return the smallest difference that matters beside a mean, in the stored unit."""
    if claim.limit is not None:
        return claim.limit
    return absolute(metric.margin, mean, metric.scale)


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
