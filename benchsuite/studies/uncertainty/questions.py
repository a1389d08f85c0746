"""The G-NLL study's five research questions, each with an estimate, an interval and a test.

All are answered by G-NLL's AUROC, averaged over matched pairs, with its error over questions.
A question that the grid has no answer to is *not run*, with the reason. The five tests are one Holm
family.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchsuite.printable import count
from benchsuite.statistics.compare import holm
from benchsuite.statistics.rounding import p_text, with_interval
from benchsuite.studies.uncertainty.runs import LARGER, PRIMARY, Run, contrast, sizes

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
    """Return the answers to the G-NLL study's five questions, Holm-corrected together."""
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
    for small, large in _matched(runs, "family", "tuned"):
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
    """Compare families by models that differ in nothing else: size, precision, tuning, questions.

    The best family leads every other one that it can be compared with. It was picked after looking:
    its weakest lead decides, its p times the number of pairs of families.
    """
    question, name = "Model Family Effect: Which family performs best?", "best family"
    alike = _families_alike(runs)
    if not alike:
        missing = (
            "no two families have models of like size, equal precision and tuning on the same "
            f"questions (like: within a factor of {LARGER:g})"
        )
        return Finding(question, name, "not run", reason=missing)
    leads: dict[tuple[str, str], dict[str, Any]] = {}
    for (a, b), pairs in alike.items():
        defined = [pair for pair in pairs if None not in (pair[0].auroc(), pair[1].auroc())]
        if defined:
            leads[a, b] = _lead(a, b, defined)
            leads[b, a] = _lead(b, a, [pair[::-1] for pair in defined])
    n_pairs = len(leads) // 2
    if not leads:
        return Finding(question, name, "undefined", reason="too few AUROCs are defined")
    rivals = {a for a, _ in leads}
    ahead = {families for families, lead in leads.items() if (lead["estimate"] or 0) > 0}
    best = next((a for a in rivals if {(a, b) for b in rivals - {a}} <= ahead), None)
    if best is None:
        shown = tuple(leads.values())
        reason = "no family is ahead of each of the others on models of like size"
        return Finding(question, name, "undefined", pairs=shown, reason=reason)
    own = [lead for (a, _), lead in leads.items() if a == best]
    closest = max(own, key=lambda pair: 2 if pair["p_value"] is None else pair["p_value"])
    p_value = closest["p_value"]
    return Finding(
        question,
        f"{closest['pair']} (the family ahead of the others and the one nearest to it)",
        "answered" if p_value is not None else "undefined",
        closest["estimate"],
        closest["ci95"],
        None if p_value is None else min(1.0, n_pairs * p_value),
        None,
        closest["n_items"],
        tuple(own),
        closest["reason"] or f"p is multiplied by {n_pairs}, the pairs of families.",
    )


def _families_alike(runs: Sequence[Run]) -> dict[tuple[str, str], list[tuple[Run, Run]]]:
    """Return, by two families, the pairs of their runs that differ in nothing but the family.

    Two models are compared once on a data set: in 16 bits where both were run so.
    """
    found: dict[tuple[str, str], list[tuple[Run, Run]]] = {}
    compared: set[tuple[Any, ...]] = set()
    order = list(dict.fromkeys(run.family for run in runs))
    for a, b in sorted(
        _matched(runs, "precision", "tuned"), key=lambda x: x[0].precision != "fp16"
    ):
        small, large = sorted((a.n_parameters, b.n_parameters))
        models = (a.model, b.model, a.dataset, a.seed)
        first = order.index(a.family) < order.index(b.family)
        if first and 0 < large <= LARGER * small and models not in compared:
            compared.add(models)
            found.setdefault((a.family, b.family), []).append((a, b))
    return found


def _lead(one: str, other: str, pairs: Sequence[tuple[Run, Run]]) -> dict[str, Any]:
    """Return by how much one family's models are above the other's, averaged over pairs."""
    return _shown(f"{one} minus {other}", _averaged(pairs)) | {
        "matched": [_pair_name(a, b) for a, b in pairs]
    }


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
    weighted = _averaged(defined)
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


def _averaged(pairs: Sequence[tuple[Run, Run]]) -> Weighted:
    share = 1 / len(pairs)
    return [term for a, b in pairs for term in ((share, a), (-share, b))]
