"""``benchsuite diff`` and ``benchsuite check``: summaries and folders held against each other."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from benchsuite.commands.collecting import register_own
from benchsuite.commands.parser import Parser


def diff(arguments: Sequence[str]) -> int:
    """Say what changed from one reports folder to another.

    Per cell, method and claim, and whether by more than the seeds' noise; timings are compared on
    equal devices alone. Status 1 if a metric, a claim or a cell is worse.
    """
    parser = Parser(diff)
    parser.add_argument("old", metavar="OLD", help="a reports folder")
    parser.add_argument("new", metavar="NEW", help="another")
    chosen = parser.parse_args(arguments)
    from benchsuite.reporting.diff import differences
    from benchsuite.reporting.merging import judged

    register_own()
    (old, before), (new, after) = (judged([folder]) for folder in (chosen.old, chosen.new))
    for note in [*old.notes, *new.notes]:
        print(note)
    found = differences(before, after)
    print("\n".join(map(str, found)))
    return int(any(difference.worse for difference in found))


def check(arguments: Sequence[str]) -> int:
    """Say which numbers of a summary cannot belong together, and how many were held together.

    Status 1 if there are any, 5 if a file has no numbers that could be held against each other.
    """
    parser = Parser(check)
    parser.add_argument(
        "files", nargs="+", metavar="FILE", type=Path, help="a summary, as JSON, YAML or CSV"
    )
    parser.add_argument("--n", type=int, help="the seeds of an arm, where the summary does not say")
    chosen = parser.parse_args(arguments)
    from benchsuite.reporting import check_summary
    from benchsuite.reporting.checking.files import read

    checked = [check_summary(read(path), n=chosen.n) for path in chosen.files]
    for path, found in zip(chosen.files, checked, strict=True):
        for finding in [*found.findings, *found.unless]:
            print(f"{finding.where}: {finding.message}")
        print(f"{path}: {found.sentence}")
    if any(found.findings for found in checked):
        return 1
    nothing = any(not found.relations for found in checked)
    return int(pytest.ExitCode.NO_TESTS_COLLECTED) if nothing else 0
