"""How a command reads its own words, and what ``--help`` says of those that are pytest's."""

import argparse
import inspect
from collections.abc import Callable
from typing import Any, NoReturn

from benchsuite.errors import UsageError


class Parser(argparse.ArgumentParser):
    """The words of one command; what cannot be read is an error like any other."""

    def __init__(self, function: Callable[..., Any], command: str = "") -> None:
        super().__init__(
            prog=f"benchsuite {command or function.__name__}",
            description=inspect.getdoc(function),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print and exit for."""
        raise UsageError(message, fix=f"`{self.prog} --help` says what it takes")


def pytest_help(function: Callable[..., Any], command: str) -> str:
    """Return the help of a command whose words are pytest's: they select the cells."""
    from benchsuite.harness.options import OPTIONS

    parser = Parser(function, command)
    parser.epilog = "These are options of pytest; `pytest --help` lists the others."
    parser.usage = f"benchsuite {command} [FILE ...] [options]"
    parser.add_argument(
        "file",
        nargs="*",
        metavar="FILE",
        help="the benchmarks; without one those of this folder or, if it has none, the shipped",
    )
    parser.add_argument("-k", metavar="EXPR", help="the cells with these parts in their names")
    parser.add_argument("-m", metavar="EXPR", help="the cells of \"cell(model='...', seed=42)\"")
    for option in OPTIONS:
        parser.add_argument(option.flag, help=option.help.replace("%", "%%"), **option.argparse)
    return parser.format_help()
