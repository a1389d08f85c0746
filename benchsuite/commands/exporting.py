"""``benchsuite export``: the report for a paper and for other programs."""

from collections.abc import Sequence
from pathlib import Path

from benchsuite.commands.collecting import register_own
from benchsuite.commands.parser import Parser
from benchsuite.printable import count
from benchsuite.study.plan import read_plan


def export(arguments: Sequence[str]) -> int:
    """Write what the records say for a paper and for other programs; nothing is run.

    Tables in LaTeX, Markdown and CSV, figures as SVG, all records and items as Parquet, and a data
    card that says what they hold. The tables say what `benchsuite report DIR...` shows on its page.
    """
    parser = Parser(export)
    parser.add_argument(
        "folders", nargs="*", metavar="DIR", default=["reports"], help="reports folders (reports)"
    )
    parser.add_argument(
        "--to", type=Path, required=True, metavar="FOLDER", help="an earlier export there gives way"
    )
    parser.add_argument(
        "--plan", type=Path, metavar="FILE", help="a frozen plan: its cells alone, judged by it"
    )
    chosen = parser.parse_args(arguments)
    from benchsuite.reporting.exporting.folder import write_export

    register_own()
    plan = None if chosen.plan is None else read_plan(chosen.plan)
    files = write_export(list(map(Path, chosen.folders)), chosen.to, plan, tell=print)
    print(f"{count(len(files), 'file')}; begin with {chosen.to / 'README.md'}")
    return 0
