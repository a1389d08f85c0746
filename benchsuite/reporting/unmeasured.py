"""Which cells passed and say nothing of what their study asks."""

from collections.abc import Collection

from benchsuite.printable import count, some
from benchsuite.records.record import Record
from benchsuite.reporting.results import StudyResults

MOST_NAMES = 3


def unmeasured(results: StudyResults) -> list[str]:
    """Return a sentence on the cells that recorded nothing, and one on those with no metric.

    A cell may do no more than assert; but one that calls no ``record.update``, or misspells what it
    records, looks as green as one that measured.
    """
    study = results.study
    read = dict.fromkeys([m.name for m in study.metrics] + [c.metric for c in study.claims])
    nothing, others = [], []
    for cell_id, record in results.records.items():
        if not (record.values or record.clocked or record.items):
            nothing.append(cell_id)
        elif not _holds(record, read):
            others.append(cell_id)
    found = []
    if nothing:
        named = some(nothing, MOST_NAMES)
        found.append(f"{count(len(nothing), 'cell')} passed and recorded nothing: {named}")
    if others:
        first = results.records[others[0]]
        holds = [*first.values, *first.clocked, *(first.items.columns if first.items else ())]
        found.append(
            f"{count(len(others), 'cell')} recorded none of what the study compares "
            f"({some(list(read), MOST_NAMES)}): {some(others, MOST_NAMES)}; the first holds "
            f"{some(holds, MOST_NAMES)}"
        )
    return found


def _holds(record: Record, names: Collection[str]) -> bool:
    """Say whether a record has one of these values; an undefined one is there too."""
    return any(name in record.values or record.value(name) is not None for name in names)
