"""Do uncertainty scores tell right answers from wrong ones, over model families and sizes?

The study is declared in ``benchsuite/studies/uncertainty/``; this is its method.
"""

import json
from collections import Counter

import numpy as np
import pytest

from benchsuite import statistics
from benchsuite.evaluation import uncertainty


@pytest.mark.study("uncertainty")
def test_uncertainty(cell, answers, tools, judge, record):
    """Ask once, score how unsure each answer was, and see whether that finds the wrong ones."""
    with record.stage("generation"):
        asked = answers.test()
    with record.stage("scoring"):
        scores = uncertainty.score(cell.method, asked, tools)
    with record.stage("evaluation"):
        how = {"rule": cell["correctness"], "protocol": cell["protocol"]}
        grades = uncertainty.grade(asked, judge=judge, **how)
        found = {
            part: told_apart(grades, scores, chosen) for part, chosen in grades.parts().items()
        }
        if uncertainty.registry.entry(cell.method).log_probability:
            stated = np.exp(-scores.values[scores.defined])
            found["all"] |= borne_out(grades.correct[scores.defined], stated)
    record.update(**found.pop("all"), parts=found, undefined=scores.reasons, n=len(asked))
    record.update(ended_by=Counter(one.greedy.ended_by for one in asked))
    record.items(**rows(asked), **vars(grades), uncertainty=scores.values)


def told_apart(grades, scores, chosen):
    """Return how well the score finds the wrong answers among the ``chosen`` questions."""
    kept = chosen & scores.defined
    wrong, values = ~grades.correct[kept], scores.values[kept]
    area = statistics.auroc(wrong, values)
    curve = statistics.rejection_curve(wrong, values) if len(wrong) else None
    return {
        "auroc": area.value,
        "auroc_ci95": None if area.ci_low is None else [area.ci_low, area.ci_high],
        "auroc_undefined": None if area.defined else area.reason,
        "auroc_ci95_undefined": area.reason or None,
        "pr_auc": statistics.pr_auc(wrong, values).value,
        "rejection_area": curve.area if curve else None,
        "rejection_ratio": curve.ratio if curve else None,
        "rejection_accuracy": curve.accuracy.tolist() if curve else None,
        "accuracy": float(grades.correct[chosen].mean()) if chosen.any() else None,
        "exact_match": float(grades.exact[chosen].mean()) if chosen.any() else None,
        "abstained": int(grades.abstained[chosen].sum()),
        "n_questions": int(chosen.sum()),
        "n_scored": int(kept.sum()),
        "n_wrong": int(wrong.sum()),
    }


def borne_out(correct, probability):
    """Return whether answers are right as often as the score, taken for a probability, says."""
    seen = statistics.calibration(correct, probability)
    return {
        "brier": seen.brier,
        "brier_ci95": seen.brier_ci95,
        "brier_base": seen.brier_base,
        "ece": seen.ece,
        "ece_calibrated": seen.ece_calibrated,
        "ece_p_value": seen.ece_p_value,
        "reliability": [vars(part) for part in seen.bins],
    }


def rows(asked):
    """Return the answers, one row per question; tokens and their log-probabilities as JSON."""
    answers = [one.greedy for one in asked]
    tokens = [list(zip(a.pieces, a.log_probs.tolist(), strict=True)) for a in answers]
    return {
        "question_id": [one.question.id for one in asked],
        "passage": [one.question.passage for one in asked],
        "question": [one.question.question for one in asked],
        "expected": [" | ".join(one.question.aliases) for one in asked],
        "answer": [answer.text for answer in answers],
        "n_tokens": [len(answer.token_ids) for answer in answers],
        "tokens": [json.dumps(pair) for pair in tokens],
    }
