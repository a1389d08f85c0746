"""The G-NLL study's aggregates and advanced analysis: ANOVA, errors, tokens, correlations."""

import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from benchsuite.statistics.factors import anova
from benchsuite.statistics.item_tests import ItemDifference
from benchsuite.statistics.paired_means import differences
from benchsuite.studies.uncertainty.runs import PRIMARY, Run, contrast, preferred, sizes

MOST_EXAMPLES = 5
FIRST_POSITIONS = 8
COUNTED = 8  # runs have 40,320 orders


def result_rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return one flat row per run: what it is, how often it is right, every score's AUROC."""
    size = sizes(runs)
    rows = []
    for run in runs:
        seen = run.any_record
        row = {
            "model": run.model,
            "hub_id": seen.source.hub_id,
            "family": run.family,
            "parameters": run.n_parameters or None,
            "size": size[run.model],
            "precision": run.precision,
            "quantization": seen.value("quantization"),
            "dataset": run.dataset,
            "seed": run.seed,
            "n": seen.value("n_questions"),
            "n_scored": seen.value("n_scored"),
            "n_wrong": seen.value("n_wrong"),
            "accuracy": seen.value("accuracy"),
            "exact_match": seen.value("exact_match"),
            "abstained": seen.value("abstained"),
        }
        for method, record in run.records.items():
            low, high = record.value("auroc_ci95") or (None, None)
            row[f"{method}_auroc"] = record.value("auroc")
            row[f"{method}_auroc_low"], row[f"{method}_auroc_high"] = low, high
            row[f"{method}_auroc_undefined"] = record.value("auroc_undefined")
            row[f"{method}_pr_auc"] = record.value("pr_auc")
            row[f"{method}_rejection_area"] = record.value("rejection_area")
            row[f"{method}_rejection_ratio"] = record.value("rejection_ratio")
            for name in ("brier", "ece", "ece_calibrated"):
                if record.value(name) is not None:
                    row[f"{method}_{name}"] = record.value(name)
        rows.append(row)
    return rows


def aggregates(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """Return G-NLL's mean AUROC by family, size, precision and data set, with its interval.

    But for the precisions, every model counts once: in 16 bits where it was run so.
    """
    size = sizes(runs)
    by: dict[str, Callable[[Run], str]] = {
        "family": lambda run: run.family,
        "size": lambda run: size[run.model],
        "precision": lambda run: run.precision,
        "dataset": lambda run: run.dataset,
    }
    once = preferred(runs)
    return {
        name: _aggregate(runs if name == "precision" else once, level_of)
        for name, level_of in by.items()
    }


def _aggregate(runs: Sequence[Run], level_of: Callable[[Run], str]) -> dict[str, Any]:
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if PRIMARY in run.records:
            groups[level_of(run)].append(run)
    return {level: _summary(members) for level, members in groups.items()}


def _summary(runs: Sequence[Run]) -> dict[str, Any]:
    defined = [run for run in runs if run.auroc() is not None]
    accuracy = float(np.mean([run.any_record.value("accuracy") for run in runs]))
    out = {"n_runs": len(runs), "n_defined": len(defined), "accuracy": accuracy}
    if not defined:
        return {**out, "auroc": None, "ci95": None}
    mean = contrast([(1 / len(defined), run) for run in defined])
    return {**out, "auroc": mean.difference, "ci95": _ends(mean)}


def _ends(found: ItemDifference) -> list[float] | None:
    return None if found.ci_low is None or found.ci_high is None else [found.ci_low, found.ci_high]


def variance(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the ANOVA of G-NLL's AUROC by family, size, precision and data set."""
    defined = [run for run in runs if run.auroc() is not None]
    size = sizes(runs)
    factors = {
        "family": [run.family for run in defined],
        "size": [size[run.model] for run in defined],
        "precision": [run.precision for run in defined],
        "dataset": [run.dataset for run in defined],
    }
    if len(defined) < 3:
        return {"n": len(defined), "effects": [], "reason": "fewer than three defined AUROCs"}
    found = anova([float(run.auroc() or 0) for run in defined], factors)
    return {
        "n": found.n,
        "residual_df": found.residual_df,
        "effects": [asdict(effect) for effect in found.effects],
        "note": "One value per run: runs on the same questions are not independent, so the "
        "test of the five questions decides; this is the G-NLL study's table.",
    }


def family_errors(runs: Sequence[Run]) -> dict[str, Any]:
    """Return per family what kinds of wrong answers there are, and the surest of them.

    Kinds: ``abstained`` from an answerable question; ``answered`` an unanswerable one; ``partly``
    right (F1 above 0); ``unrelated``.
    """
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        if PRIMARY not in run.records:
            continue
        rows = run.rows(PRIMARY)
        wrong = ~rows["correct"]
        kinds = {
            "abstained": wrong & rows["abstained"] & rows["answerable"],
            "answered": wrong & ~rows["answerable"],
            "partly": wrong & rows["answerable"] & ~rows["abstained"] & (rows["f1"] > 0),
            "unrelated": wrong & rows["answerable"] & ~rows["abstained"] & (rows["f1"] == 0),
        }
        own = found.setdefault(
            run.family, {"n": 0, "wrong": 0, **dict.fromkeys(kinds, 0), "surest_wrong": []}
        )
        own["n"] += len(wrong)
        own["wrong"] += int(wrong.sum())
        for kind, chosen in kinds.items():
            own[kind] += int(chosen.sum())
        scored = wrong & ~np.isnan(rows["uncertainty"])
        own["surest_wrong"] += [_example(run, rows, i) for i in np.flatnonzero(scored)]
    for own in found.values():
        surest = sorted(own["surest_wrong"], key=lambda example: example["g_nll"])
        own["surest_wrong"] = surest[:MOST_EXAMPLES]
    return found


def _example(run: Run, rows: Any, i: int) -> dict[str, Any]:
    return {
        "model": run.label,
        "dataset": run.dataset,
        "question": str(rows["question"][i]),
        "answer": str(rows["answer"][i]).strip(),
        "expected": str(rows["expected"][i]) or "(no answer)",
        "g_nll": float(rows["uncertainty"][i]),
    }


def token_view(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the mean NLL of the first tokens of right and of wrong answers, and examples.

    Per data set: ``right`` and ``wrong`` hold, by position, the mean in nats, its standard error
    over questions, each one observation in all runs that met it, and how many answers are that
    long. ``examples`` are whole answers, token by token.
    """
    found: dict[str, Any] = {}
    for dataset in dict.fromkeys(run.dataset for run in runs):
        nll: dict[bool, list[tuple[str, list[float]]]] = {True: [], False: []}
        examples: list[dict[str, Any]] = []
        for run in (r for r in runs if r.dataset == dataset and PRIMARY in r.records):
            rows = run.rows(PRIMARY)
            for i, text in enumerate(rows["tokens"]):
                tokens = [(piece, -log_p) for piece, log_p in json.loads(text)]
                right = bool(rows["correct"][i])
                question = str(rows["question_id"][i])
                nll[right].append((question, [value for _, value in tokens]))
                if tokens:
                    examples.append({**_example(run, rows, i), "right": right, "tokens": tokens})
        surest = sorted(examples, key=lambda example: example["g_nll"])
        found[dataset] = {
            "right": _by_position(nll[True]),
            "wrong": _by_position(nll[False]),
            "examples": {
                "surest wrong": [e for e in surest if not e["right"]][:3],
                "least sure right": [e for e in surest[::-1] if e["right"]][:3],
            },
        }
    return found


def _by_position(answers: Sequence[tuple[str, Sequence[float]]]) -> list[dict[str, Any]]:
    out = []
    for position in range(FIRST_POSITIONS):
        long = [(name, values[position]) for name, values in answers if len(values) > position]
        names, values = [name for name, _ in long], [value for _, value in long]
        if len(set(names)) < 2:
            break
        found = differences(values, names, bounded=False)
        out.append({"mean": found.mean, "error": found.error, "n": len(values)})
    return out


def correlations(runs: Sequence[Run]) -> dict[str, Any]:
    """Return Spearman's correlation of every two scores over questions, averaged over the runs."""
    from scipy.stats import spearmanr

    sums: dict[tuple[str, str], list[float]] = defaultdict(list)
    for run in runs:
        scores = {method: run.rows(method)["uncertainty"] for method in run.records}
        for a, b in ((a, b) for a in scores for b in scores if a < b):
            both = ~np.isnan(scores[a]) & ~np.isnan(scores[b])
            one, two = scores[a][both], scores[b][both]
            if len(one) > 2 and np.ptp(one) > 0 and np.ptp(two) > 0:
                sums[a, b].append(float(spearmanr(one, two).statistic))
    pairs = [
        {"score": a, "other": b, "spearman": float(np.mean(values)), "n_runs": len(values)}
        for (a, b), values in sums.items()
    ]
    return {"pairs": sorted(pairs, key=lambda pair: -pair["spearman"])}


def accuracy_and_auroc(runs: Sequence[Run]) -> dict[str, Any]:
    """Return Spearman's correlation, over runs, of accuracy with G-NLL's AUROC.

    Up to ``COUNTED`` runs its p-value is exact, that of all orders; above, Student's approximation,
    which of four runs in one order would say p = 0 where it is 1 in 12. Both take runs for
    independent, which those of one model, or on the same questions, are not: a description.
    """
    from scipy.stats import spearmanr

    defined = [run for run in runs if run.auroc() is not None]
    if len(defined) < 4:
        return {"n_runs": len(defined), "spearman": None, "reason": "fewer than four runs"}
    accuracy = [run.any_record.value("accuracy") for run in defined]
    areas = [run.auroc() for run in defined]
    if 1 in (len(set(accuracy)), len(set(areas))):
        return {"n_runs": len(defined), "spearman": None, "reason": "one of the two is constant"}
    found = spearmanr(accuracy, areas)
    value, p_value = float(found.statistic), float(found.pvalue)
    if len(defined) <= COUNTED:
        p_value = _of_all_orders(accuracy, areas)
    return {"n_runs": len(defined), "spearman": value, "p_value": p_value}


def _of_all_orders(first: Sequence[Any], second: Sequence[Any]) -> float:
    """Return the share of orders whose rank correlation is as far from 0 or farther."""
    from scipy.stats import rankdata

    one, two = (rankdata(row) - (len(row) + 1) / 2 for row in (first, second))
    orders = np.array(list(itertools.permutations(range(len(one)))))
    found = np.abs(two[orders] @ one)
    return float(np.mean(found >= found[0] - 1e-9))
