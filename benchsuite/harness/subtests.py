"""Parts of a cell: pytest's ``subtests``, whose reports are no ends of the cell."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from benchsuite.printable import count


@dataclass
class Subtests:
    """Those of an item: reports that are made while its call goes on are theirs."""

    calling: bool = True
    failed: int = 0


SUBTESTS = pytest.StashKey[Subtests]()


@contextmanager
def subtests_of(item: pytest.Item) -> Iterator[None]:
    """Take the reports that are made meanwhile for those of subtests."""
    item.stash[SUBTESTS] = subtests = Subtests()
    try:
        yield
    finally:
        subtests.calling = False


def of_a_subtest(item: pytest.Item, report: pytest.TestReport) -> bool:
    """Say whether a report is of a part of the cell, which leaves no record of its own.

    A cell fails with its parts, in its record too: pytest lets it fail where it shows the report.
    """
    subtests = item.stash.get(SUBTESTS, None)
    if subtests is None:
        return False
    if subtests.calling:
        subtests.failed += report.failed
    elif report.when == "call" and report.passed and subtests.failed:
        report.outcome = "failed"
        report.longrepr = f"contains {count(subtests.failed, 'failed subtest')}"
    return subtests.calling
