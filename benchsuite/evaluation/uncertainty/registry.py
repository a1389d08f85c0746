"""Names to scores of uncertainty: plain data, so that the study is declared without torch."""

from dataclasses import dataclass

from benchsuite.errors import unknown_name

_ROOM = "benchsuite.evaluation.uncertainty"


@dataclass(frozen=True)
class Entry:
    """One score: the module and function that compute it, and what they need beside the answers.

    ``needs`` holds ``samples``, ``similarity``, ``nli`` or ``model``.
    """

    module: str
    function: str
    needs: tuple[str, ...] = ()


SCORES = {
    "g_nll": Entry(f"{_ROOM}.likelihood", "g_nll"),
    "rw_gnll": Entry(f"{_ROOM}.relevant", "rw_gnll", ("similarity",)),
    "mean_nll": Entry(f"{_ROOM}.likelihood", "mean_nll"),
    "predictive_entropy": Entry(f"{_ROOM}.likelihood", "predictive_entropy", ("samples",)),
    "semantic_discrete": Entry(f"{_ROOM}.semantic", "semantic_discrete", ("samples",)),
    "semantic_nli": Entry(f"{_ROOM}.semantic", "semantic_nli", ("samples", "nli")),
    "sar": Entry(f"{_ROOM}.relevant", "sar", ("samples", "similarity")),
    "p_true": Entry(f"{_ROOM}.p_true", "p_true", ("samples", "model")),
    "shuffled": Entry(f"{_ROOM}.likelihood", "shuffled"),
}


def entry(name: str) -> Entry:
    """Return a score's entry; an unknown name is a usage error naming the nearest."""
    if name not in SCORES:
        raise unknown_name("score of uncertainty", name, SCORES)
    return SCORES[name]
