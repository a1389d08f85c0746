"""Whether text that is to be evaluated is among the text that is calibrated on."""

from benchsuite.corpora.text import TextCorpus
from benchsuite.errors import UsageError

MOST_SHARED = 0.2
"""Of the evaluated characters: a set's own splits share headings and notices, and little else."""
_SHORTEST = 40  # characters of a document that stands for itself: headings recur


def refuse_shared(evaluated: TextCorpus, calibrated: TextCorpus) -> None:
    """Raise ``UsageError`` where much of what is evaluated is also calibrated on.

    Counted are whole documents that are equal. A method that has seen the text is then better on it
    than on any other, and its number says so of no other text.
    """
    pool = set(calibrated.documents)
    counted = [text for text in evaluated.documents if len(text) >= _SHORTEST]
    counted = counted or list(evaluated.documents)
    whole = sum(map(len, counted))
    shared = sum(len(text) for text in counted if text in pool)
    if shared > MOST_SHARED * whole:
        raise UsageError(
            f"{100 * shared / whole:.0f} % of the text that is evaluated is also calibrated on: "
            f"the {evaluated.split} split of {evaluated.name} and the {calibrated.split} split of "
            f"{calibrated.name}",
            fix="Give files of different texts for the two splits, or another calibration_corpus",
        )
