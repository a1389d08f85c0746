"""``benchsuite claims`` and ``benchsuite report``: what the stored records say."""

from collections.abc import Sequence
from pathlib import Path

from benchsuite.commands.collecting import collect, joined, register_own
from benchsuite.errors import UsageError
from benchsuite.harness.place import usual_words
from benchsuite.printable import count
from benchsuite.study.plan import read_plan


def claims(arguments: Sequence[str]) -> int:
    """Judge stored records without running anything; status 1 if a claim is violated."""
    from benchsuite.harness.outcome import judge

    collected = collect(arguments)
    bench = collected.bench_with_records()
    models = collected.models_asked_for()
    outcome = judge(bench, collected.studies(), models=models, verbose=True, page=False)
    for text, _ in outcome.lines:
        print(text)
    for notice in bench.store.notices:
        print(notice)
    return int(outcome.fails(strict=True))


def report(arguments: Sequence[str]) -> int:
    """Write the report over the stored records, or over those of any reports folders named.

    `benchsuite report machine_a machine_b --reports-dir both` brings several machines' records
    together, the source documents' own files among them. Where two records of a cell differ, the
    first folder's counts and the report says so. With `--plan plan.json` they are judged by it.
    """
    from benchsuite.harness.outcome import judge

    words = joined(arguments)
    folders = [word for word in words if Path(word).is_dir() and _holds_records(word)]
    if folders:
        return _report_folders(folders, [word for word in words if word not in folders])
    collected = collect(words)
    bench = collected.bench_with_records()
    outcome = judge(bench, collected.studies(), figures=True)
    for notice in bench.store.notices:
        print(notice)
    if outcome.unwritten is not None:
        raise outcome.unwritten
    print(outcome.page)
    return 0


def _holds_records(word: str) -> bool:
    from benchsuite.reporting.load import record_files

    return next(record_files(word), None) is not None


def _report_folders(folders: Sequence[str], others: Sequence[str]) -> int:
    from benchsuite.records.store import unwritable
    from benchsuite.reporting import write_report
    from benchsuite.reporting.merged_plan import judged_under

    target, plan = None, None
    for word in others:
        option, equals, value = word.partition("=")
        if option == "--reports-dir" and equals:
            target = Path(value)
        elif option == "--plan" and equals:
            plan = read_plan(Path(value))
        elif word.startswith("-"):
            raise UsageError(
                f"{word} does not go with folders", fix="give --reports-dir and --plan at most"
            )
        elif Path(word).is_dir():
            print(f"{word} holds no records")
        else:
            raise UsageError(
                f"{word} is no folder", fix="name folders that a run had as its --reports-dir"
            )
    if target is None:
        raise UsageError(
            "the report over named folders needs a folder of its own",
            fix=f"write benchsuite report {' '.join(folders)} --reports-dir DIR",
        )
    register_own()
    sources, results = judged_under(plan, folders, target)
    for note in sources.notes:
        print(note)
    conflicts, agreeing = len(sources.conflicts), sources.agreeing
    agree = f"{count(agreeing, 'further record')} {'agrees' if agreeing == 1 else 'agree'}"
    print(f"{count(conflicts, 'conflict')}, {agree}")
    for one in results:
        one.where = usual_words()
    try:
        print(
            write_report(
                target, results, columns=sources.columns, asked=sources.asked, figures=True
            )
        )
    except OSError as error:
        raise unwritable(target, error) from error
    return 0
