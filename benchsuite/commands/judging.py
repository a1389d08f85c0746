"""``benchsuite claims`` and ``benchsuite report``: what the stored records say."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchsuite.commands.collecting import collect, register_own
from benchsuite.errors import UsageError


def claims(arguments: Sequence[str]) -> int:
    """Judge stored records without running anything; status 1 if a claim is violated."""
    from benchsuite.harness.outcome import judge

    collected = collect(arguments)
    if collected.bench is None or not collected.cells:
        print("no cells selected")
        return 0
    outcome = judge(collected.bench, collected.studies(), verbose=True)
    for text, _ in outcome.lines:
        print(text)
    for notice in collected.bench.store.notices:
        print(notice)
    if outcome.unwritten is not None:
        print(f"no report: {outcome.unwritten}")
    return int(outcome.fails(strict=True))


def report(arguments: Sequence[str]) -> int:
    """Write the report over the stored records, or over those of any reports folders named.

    `benchsuite report machine_a machine_b --reports-dir=both` brings several machines' records
    together, the study documents' own files among them; where two records of a cell differ, the
    first folder's counts and the report says so.
    """
    from benchsuite.harness.outcome import judge

    folders = [word for word in arguments if _holds_records(word)]
    if folders:
        return _report_folders(folders, [word for word in arguments if word not in folders])
    collected = collect(arguments)
    if collected.bench is None:
        return 0
    outcome = judge(collected.bench, collected.studies(), figures=True)
    for notice in collected.bench.store.notices:
        print(notice)
    if outcome.unwritten is not None:
        raise outcome.unwritten
    print(outcome.page)
    return 0


def _holds_records(word: str) -> bool:
    from benchsuite.reporting.load import record_files

    return Path(word).is_dir() and next(record_files(word), None) is not None


def _report_folders(folders: Sequence[str], arguments: Sequence[str]) -> int:
    from benchsuite.records.store import unwritable
    from benchsuite.reporting import write_report
    from benchsuite.reporting.merging import judged

    options = argparse.ArgumentParser(prog="benchsuite report DIR ...", add_help=False)
    options.add_argument("--reports-dir", type=Path, default=Path(folders[0]))
    chosen, unknown = options.parse_known_args(arguments)
    for word in unknown:
        if word.startswith("-"):
            raise UsageError(f"{word} does not go with folders", fix="give --reports-dir at most")
        if not Path(word).is_dir():
            raise UsageError(
                f"{word} is no folder", fix="name folders that a run had as its --reports-dir"
            )
        print(f"{word} holds no records")
    target = chosen.reports_dir
    register_own()
    sources, results = judged(folders, target)
    for note in sources.notes:
        print(note)
    print(f"{len(sources.conflicts)} conflicts, {sources.agreeing} further records agree")
    try:
        print(write_report(target, results, columns=sources.columns, figures=True))
    except OSError as error:
        raise unwritable(target, error) from error
    return 0
