"""Which scores say more about the form of the answers than about what the model knows."""

from statistics import fmean

from benchsuite.printable import some
from benchsuite.reporting.groups import Group, groups_of, short_names
from benchsuite.reporting.results import StudyResults
from benchsuite.study import Study

ENOUGH = 80.0
"""Percent of the answers that must be readable for their score to be taken for what it says."""
MOST_METHODS = 4


def unread(results: StudyResults) -> list[str]:
    """Return a sentence per model and scores of which less than ``ENOUGH`` percent was readable.

    Controls are broken on purpose and rehearsals know nothing: both are left out.
    """
    groups = groups_of(results.cells, results.records)
    names = short_names(groups)
    return [
        sentence
        for group in groups
        if group.kind != "rehearsal"
        for sentence in _of_group(results.study, group, names[group.label])
    ]


def _of_group(study: Study, group: Group, name: str) -> list[str]:
    scores: dict[str, list[str]] = {}
    for metric in study.metrics:
        if metric.parse_rate:
            scores.setdefault(metric.parse_rate, []).append(metric.name)
    found = []
    for rate, names in scores.items():
        low = {
            method: mean
            for method in group.methods
            if method not in study.controls
            and (values := group.values(method, rate))
            and (mean := fmean(values.values())) < ENOUGH
        }
        if low:
            told = [f"{method} {mean:.1f} %" for method, mean in low.items()]
            found.append(
                f"{' and '.join(names)} [{name}]: less than {ENOUGH:g} % of the answers could "
                f"be read ({some(told, MOST_METHODS)}); an unread answer counts as wrong, so that "
                "the score tells the form of the answers as much as what they say"
            )
    return found
