"""The document's five research questions, each with an estimate, an interval and a test.

All are answered by G-NLL's AUROC, averaged over matched pairs, with its error over questions.
A question that the grid has no answer to is *not run*, with the reason. The five tests are one Holm
family.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from benchsuite.printable import count
from benchsuite.statistics.compare import holm
from benchsuite.statistics.rounding import p_text, with_interval
from benchsuite.studies.uncertainty.runs import PRIMARY, Run, contrast, preferred, sizes

Weighted = list[tuple[float, Run]]


@dataclass(frozen=True)
class Finding:
    """The answer to one question: ``outcome`` is ``answered``, ``undefined`` or ``not run``.

    ``estimate`` is a difference of AUROCs, positive in the direction that ``contrast`` names.
    ``pairs`` are the comparisons that it averages, each with its own estimate.
    """

    question: str
    contrast: str
    outcome: str
    estimate: float | None = None
    ci95: tuple[float, float] | None = None
    p_value: float | None = None
    p_holm: float | None = None
    n_items: int = 0
    pairs: tuple[dict[str, Any], ...] = ()
    reason: str = ""

    @property
    def sentence(self) -> str:
        """The answer in words."""
        if self.estimate is None or self.ci95 is None:
            return f"{self.outcome}: {self.reason}."
        shown = with_interval(self.estimate, *self.ci95)
        text = f"{self.contrast}: {shown} AUROC"
        if self.p_holm is not None:
            text += f" ({p_text(self.p_value)}, Holm {p_text(self.p_holm)})"
            text += "" if self.p_holm < 0.05 else ": no significant difference"
        compared = count(len(self.pairs), "comparison")
        return f"{text}, {compared}.{f' {self.reason}' if self.reason else ''}"

    def as_dict(self) -> dict[str, Any]:
        """Return the answer as json-able data."""
        return {
            **{k: v for k, v in vars(self).items() if k != "pairs"},
            "test": "DeLong's test over questions, each counted once",
            "metric": f"AUROC of wrong answers under {PRIMARY}",
            "sentence": self.sentence,
            "pairs": list(self.pairs),
        }


def answer_questions(runs: Sequence[Run]) -> list[Finding]:
    """Return the answers to the document's five questions, Holm-corrected together."""
    usable = [run for run in runs if PRIMARY in run.records]
    asked: list[Callable[[Sequence[Run]], Finding]] = [
        _size,
        _family,
        _dataset,
        _instruction,
        _quantization,
    ]
    found = [ask(usable) for ask in asked]
    corrected = holm([finding.p_value for finding in found])
    return [
        replace(finding, p_holm=p_holm) for finding, p_holm in zip(found, corrected, strict=True)
    ]


def _size(runs: Sequence[Run]) -> Finding:
    names = ("Model Size Effect: Do larger models have better uncertainty calibration?", "larger")
    size = sizes(runs)
    pairs = []
    for small, large in _matched(runs, "family"):
        if size[small.model] == "large" or size[large.model] == "small":
            continue
        pairs.append((large, small))
    # A reduced larger model stands in only where its twin in 16 bits was not run.
    full = [(a, b) for a, b in pairs if a.precision == b.precision]
    mixed = [(a, b) for a, b in pairs if not _has(full, a, b)]
    note = "Where only a reduced larger model was run, size and precision are confounded."
    return _paired(
        names[0],
        "larger minus smaller models of a family",
        [*full, *mixed],
        "no family has records of two sizes on the same questions",
        note if mixed else "",
    )


def _has(pairs: Sequence[tuple[Run, Run]], a: Run, b: Run) -> bool:
    return any((a.model, b.model, b.dataset) == (x.model, y.model, y.dataset) for x, y in pairs)


def _family(runs: Sequence[Run]) -> Finding:
    question = "Model Family Effect: Which family performs best?"
    by_family: dict[str, list[Run]] = {}
    for run in preferred(runs):
        by_family.setdefault(run.family, []).append(run)
    if len(by_family) < 2:
        return Finding(
            question, "best family", "not run", reason="fewer than two families have run"
        )
    means = {name: _mean(members) for name, members in by_family.items()}
    defined = {name: value for name, value in means.items() if value is not None}
    if len(defined) < 2:
        return Finding(question, "best family", "undefined", reason="too few AUROCs are defined")
    best, *others = sorted(defined, key=lambda name: -defined[name])
    pairs = []
    for name in others:
        weighted = _averages(by_family[best], 1) + _averages(by_family[name], -1)
        pairs.append(_shown(f"{best} minus {name}", weighted))
    closest = max(pairs, key=lambda pair: 2 if pair["p_value"] is None else pair["p_value"])
    # The winner was picked after looking: its weakest lead decides, over all pairs of families.
    n_pairs = len(list(combinations(defined, 2)))
    p_value = closest["p_value"]
    return Finding(
        question,
        f"{closest['pair']} (the family with the best mean and the one nearest to it)",
        "answered" if p_value is not None else "undefined",
        closest["estimate"],
        closest["ci95"],
        None if p_value is None else min(1.0, n_pairs * p_value),
        None,
        closest["n_items"],
        tuple(pairs),
        closest["reason"] or f"p is multiplied by {n_pairs}, the pairs of families.",
    )


def _dataset(runs: Sequence[Run]) -> Finding:
    question = "Dataset Effect: Performance difference between TriviaQA and SQuAD?"
    chosen = next(
        (
            pair
            for pair in (("trivia_qa", "squad_v2"), ("closed_book", "passages"))
            if set(pair) <= {run.dataset for run in runs}
        ),
        None,
    )
    missing = "no model has records on both data sets"
    if chosen is None:
        return Finding(question, "first minus second data set", "not run", reason=missing)
    one, two = ([run for run in runs if run.dataset == name] for name in chosen)
    pairs = [
        (a, b)
        for a in one
        for b in two
        if (a.model, a.precision, a.seed) == (b.model, b.precision, b.seed)
    ]
    return _paired(question, f"{chosen[0]} minus {chosen[1]}", pairs, missing)


def _instruction(runs: Sequence[Run]) -> Finding:
    pairs = [
        (tuned, base)
        for base, tuned in _matched(runs, "precision")
        if (base.model, tuned.model) == ("mistral_v0_3_base", "mistral_v0_3_instruct")
    ]
    return _paired(
        "Instruction Tuning: Does Mistral-Instruct improve over base?",
        "instruct minus base",
        pairs,
        "it needs mistral_v0_3_base and mistral_v0_3_instruct; embedded models have no tuned twin",
    )


def _quantization(runs: Sequence[Run]) -> Finding:
    pairs = [
        (reduced, full)
        for full, reduced in _matched(runs, "model")
        if (full.precision, reduced.precision) == ("fp16", "8bit")
    ]
    return _paired(
        "Quantization Impact: How does 8-bit quantization affect results?",
        "8bit minus fp16 of a model",
        pairs,
        "no model has records in both precisions on the same questions",
    )


def _paired(
    question: str,
    name: str,
    pairs: Sequence[tuple[Run, Run]],
    missing: str,
    note: str = "",
) -> Finding:
    """Average a difference over pairs of runs; those with an undefined AUROC are counted apart."""
    if not pairs:
        return Finding(question, name, "not run", reason=missing)
    defined = [(a, b) for a, b in pairs if a.auroc() is not None and b.auroc() is not None]
    left_out = len(pairs) - len(defined)
    if left_out:
        verb = "is" if left_out == 1 else "are"
        left = f"{count(left_out, 'comparison')} {verb} undefined: one class alone."
        note = f"{note} {left}".strip()
    if not defined:
        return Finding(question, name, "undefined", reason=note)
    share = 1 / len(defined)
    weighted = [term for a, b in defined for term in ((share, a), (-share, b))]
    shown = tuple(_shown(_pair_name(a, b), [(1, a), (-1, b)]) for a, b in defined)
    whole = _shown(name, weighted)
    return Finding(
        question,
        name,
        "answered" if whole["ci95"] is not None else "undefined",
        whole["estimate"],
        whole["ci95"],
        whole["p_value"],
        None,
        whole["n_items"],
        shown,
        " ".join(filter(None, (note, whole["reason"]))),
    )


def _pair_name(a: Run, b: Run) -> str:
    if a.dataset != b.dataset:
        return f"{a.label}: {a.dataset} minus {b.dataset}"
    return f"{a.label} minus {b.label}, {a.dataset}"


def _shown(name: str, weighted: Weighted) -> dict[str, Any]:
    found = contrast(weighted)
    return {
        "pair": name,
        "estimate": found.difference,
        "ci95": None if found.ci_low is None else (found.ci_low, found.ci_high),
        "p_value": found.p_value,
        "n_items": found.n_items,
        "reason": found.reason,
    }


def _matched(runs: Sequence[Run], *same: str) -> list[tuple[Run, Run]]:
    """Return ordered pairs of runs on one data set and seed that agree in ``same``."""
    keys = ("dataset", "seed", *same)
    return [
        (a, b)
        for a in runs
        for b in runs
        if a is not b and all(getattr(a, key) == getattr(b, key) for key in keys)
    ]


def _mean(runs: Sequence[Run]) -> float | None:
    values = [run.auroc() for run in runs]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _averages(runs: Sequence[Run], sign: int) -> Weighted:
    defined = [run for run in runs if run.auroc() is not None]
    return [(sign / len(defined), run) for run in defined]
