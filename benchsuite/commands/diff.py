"""``benchsuite diff`` and ``benchsuite check``: summaries and folders held against each other."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchsuite.commands.collecting import register_own
from benchsuite.commands.parser import Parser
from benchsuite.errors import UsageError


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
    """Say which numbers of a summary cannot belong together; status 1 if there are any."""
    parser = Parser(check)
    parser.add_argument("files", nargs="+", metavar="FILE", type=Path, help="a summary, as JSON")
    files = parser.parse_args(arguments).files
    from benchsuite.reporting import check_summary

    findings = [finding for path in files for finding in check_summary(_json_of(path))]
    for finding in findings:
        print(f"{finding.where}: {finding.message}")
    return int(bool(findings))


def _json_of(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", fix="check the path") from error
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}", fix="give a summary_stats.json") from error
