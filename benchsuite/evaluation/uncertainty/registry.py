"""Names to scores of uncertainty: plain data, so that the study is declared without torch.

A new score is one file with a function and one entry here, or one call of ``register_score`` in a
user's own ``conftest.py``.
"""

from dataclasses import dataclass

from benchsuite.registry import Registry

_ROOM = "benchsuite.evaluation.uncertainty"


@dataclass(frozen=True)
class Score:
    """One score: the module and function that compute it, and what they need beside the answers.

    ``function(asked, tools)`` returns one number a question, higher for less sure; see ``scores``.
    ``needs`` holds ``samples``, ``similarity``, ``nli``, ``model`` (that answered, with
    demonstrations) or ``writer`` (that answered, and can be told to write). ``log_probability``:
    that the number is minus the logarithm of a probability, that the answer is right or is given.
    """

    module: str
    function: str
    needs: tuple[str, ...] = ()
    log_probability: bool = False


SCORES = Registry(
    "score of uncertainty",
    {
        "g_nll": Score(f"{_ROOM}.likelihood", "g_nll", log_probability=True),
        "rw_gnll": Score(f"{_ROOM}.relevant", "rw_gnll", ("similarity",)),
        "mean_nll": Score(f"{_ROOM}.likelihood", "mean_nll", log_probability=True),
        "mean_token_entropy": Score(f"{_ROOM}.likelihood", "mean_token_entropy"),
        "predictive_entropy": Score(f"{_ROOM}.likelihood", "predictive_entropy", ("samples",)),
        "string_entropy": Score(f"{_ROOM}.semantic", "string_entropy", ("samples",)),
        "semantic_discrete": Score(f"{_ROOM}.semantic", "semantic_discrete", ("samples", "nli")),
        "semantic_nli": Score(f"{_ROOM}.semantic", "semantic_nli", ("samples", "nli")),
        "semantic_sets": Score(f"{_ROOM}.semantic", "semantic_sets", ("samples", "nli")),
        "sar": Score(f"{_ROOM}.relevant", "sar", ("samples", "similarity")),
        **{
            name: Score(f"{_ROOM}.graph", name, ("samples", "similarity"))
            for name in ("degree_matrix", "eccentricity", "eigenvalue", "kernel_language_entropy")
        },
        **{
            name: Score(f"{_ROOM}.cocoa", name, ("samples", "similarity"))
            for name in ("cocoa_msp", "cocoa_ppl", "cocoa_mte")
        },
        "verbalised_confidence": Score(f"{_ROOM}.verbalised", "verbalised_confidence", ("writer",)),
        "p_true": Score(f"{_ROOM}.p_true", "p_true", ("samples", "model"), True),
        "shuffled": Score(f"{_ROOM}.likelihood", "shuffled", log_probability=True),
    },
)
"""Every score of uncertainty by its name, the method of its cells."""


def register_score(name: str, score: Score) -> None:
    """Add a score under ``name``; a name that stands for another one is a usage error."""
    SCORES.add(name, score)


def entry(name: str) -> Score:
    """Return a score's entry; an unknown name is a usage error naming the nearest."""
    return SCORES.find(name)
