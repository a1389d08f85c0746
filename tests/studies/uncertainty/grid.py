"""Records of the uncertainty study with a known truth, built without any model."""

import json

import numpy as np

from benchsuite import catalog, statistics
from benchsuite.records.fingerprint import Fingerprint
from benchsuite.records.record import CellFacts, Record, Source
from benchsuite.study import study

METHODS = ("g_nll", "mean_nll", "sar", "shuffled")
# How far apart right and wrong answers are, in standard deviations.
HARD, EASY = 0.6, 2.0


def cells(chosen, methods=METHODS):
    return [c for c in study("uncertainty").cells() if c.method in methods and chosen(c)]


def embedded(cell):
    return catalog.model(cell.model).embedded


def document(cell):
    """The document's grid with its twins."""
    return (
        not embedded(cell)
        and catalog.model(cell.model).packaged is None
        and cell["dataset"] in ("trivia_qa", "squad_v2")
        and (cell["precision"] != "4bit")
    )


def columns_of(cell, shift, n=120, wrong_share=0.4):
    """Return per-question columns whose wrong answers score ``shift`` higher under the method.

    Every model of a data set meets the same questions; its errors and scores are its own.
    """
    rng = np.random.default_rng(abs(hash_of(cell)) % 2**32)
    wrong = rng.random(n) < wrong_share
    noise = rng.normal(size=n)
    if cell.method == "shuffled":
        shift = 0
    scores = noise + shift * wrong
    tokens = [json.dumps([[" a", -abs(s) / 2], ["nswer$", -abs(s) / 2]]) for s in scores]
    return {
        "question_id": np.array([f"{cell['dataset']}-{i}" for i in range(n)]),
        "question": np.array([f"Question {i}?" for i in range(n)]),
        "expected": np.array(["answer"] * n),
        "answer": np.array([" answer"] * n),
        "n_tokens": np.full(n, 2),
        "tokens": np.array(tokens),
        "f1": np.where(wrong, 0.0, 100.0),
        "exact": ~wrong,
        "correct": ~wrong,
        "abstained": np.zeros(n, bool),
        "answerable": np.arange(n) % 3 > 0,
        "uncertainty": scores,
    }


def hash_of(cell):
    """Return the same number in every process: errors by model, scores by method."""
    import zlib

    return zlib.crc32("/".join((cell.model, cell["precision"], cell["dataset"])).encode())


def record(cell, rows, weights=None):
    kept = ~np.isnan(rows["uncertainty"])
    wrong = ~rows["correct"][kept]
    area = statistics.auroc(wrong, rows["uncertainty"][kept])
    values = {
        "quantization": "none",
        "auroc": area.value,
        "auroc_ci95": None if area.ci_low is None else [area.ci_low, area.ci_high],
        "auroc_undefined": None if area.defined else area.reason,
        "pr_auc": statistics.pr_auc(wrong, rows["uncertainty"][kept]).value,
        "rejection_area": 0.8,
        "rejection_ratio": 0.4,
        **borne_out(cell, ~wrong, rows["uncertainty"][kept]),
        "accuracy": float(rows["correct"].mean()),
        "exact_match": float(rows["exact"].mean()),
        "abstained": 0,
        "n_questions": len(rows["correct"]),
        "n_scored": int(kept.sum()),
        "n_wrong": int(wrong.sum()),
    }
    source = weights or ("embedded" if embedded(cell) else "hub")
    return Record(
        CellFacts.of(cell),
        Fingerprint(cell.name, "c", "e"),
        source=Source(source, hub_id=catalog.model(cell.model).hub_id),
        values=values,
    )


def borne_out(cell, right, scores):
    if cell.method != "g_nll":
        return {}
    seen = statistics.calibration(right, 1 / (1 + np.exp(scores)))
    bins = [vars(part) for part in seen.bins]
    return {"brier": seen.brier, "ece": seen.ece, "reliability": bins}


class Grid:
    """Records and the reader of their rows: ``shift(cell)`` says how well scores work there."""

    def __init__(self, chosen, shift=lambda cell: 1.2, change=lambda cell, rows: rows, **facts):
        self._rows, self.records = {}, []
        for cell in cells(chosen):
            rows = change(cell, columns_of(cell, shift(cell)))
            self._rows[cell.id] = rows
            self.records.append(record(cell, rows, **facts))

    def columns(self, found):
        return self._rows[found.cell.id]
