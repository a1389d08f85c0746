"""``benchsuite trend``: what changed over nights, each a reports folder of its own."""

from collections.abc import Sequence
from pathlib import Path

from benchsuite.commands.collecting import register_own
from benchsuite.commands.pages import refuse_all_but_pages
from benchsuite.commands.parser import Parser


def trend(arguments: Sequence[str]) -> int:
    """Say which methods changed over nights beyond the noise of seeds, and what changed beside.

    A night is a reports folder; they are ordered by their last records.
    """
    parser = Parser(trend)
    parser.add_argument("folders", nargs="+", metavar="DIR", help="a reports folder of each night")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the trend as a page too")
    chosen = parser.parse_args(arguments)
    if chosen.page is not None:
        refuse_all_but_pages(chosen.page)
    from benchsuite.reporting.page.trend import render_trend
    from benchsuite.reporting.report import write_text
    from benchsuite.reporting.trend import lines, read_nights, series_of

    register_own()
    nights = read_nights(chosen.folders)
    series = series_of(nights)
    print("\n".join(lines(nights, series)))
    if chosen.page is not None:
        write_text(chosen.page, render_trend(nights, series))
        print(chosen.page)
    return 0
