"""Which comparisons are between numbers of several devices."""

from benchsuite.printable import some
from benchsuite.reporting.groups import groups_of
from benchsuite.reporting.results import StudyResults

MOST_DEVICES = 3


def mixed_devices(results: StudyResults) -> list[str]:
    """Return a sentence per model whose values, in one table, come from several devices.

    Their sums differ in the last bits, and with them what a method chooses: such a difference is
    not the method's, and bits that differ say nothing of its randomness. Times are never mixed.
    """
    found = []
    for group in groups_of(results.cells, results.records):
        names = sorted({record.device_name for record in group.records.values()})
        if len(names) > 1 and group.kind != "rehearsal":
            found.append(
                f"{group.key}: measured on {len(names)} devices ({some(names, MOST_DEVICES)}); a "
                "small difference between two of its numbers can be the devices'"
            )
    return found
