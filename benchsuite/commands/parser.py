"""How a command reads its own words, and what ``--help`` says of those that are pytest's."""

import argparse
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from benchsuite.errors import UsageError, unknown_name

_WIDTH, _NAMES = 80, 14


class CommandLine(argparse.ArgumentParser):
    """The words before a command's own: its name, and what ``benchsuite --help`` says of it."""

    def __init__(self, commands: Mapping[str, str], groups: Mapping[str, Sequence[str]]) -> None:
        """Take each command with its line of help, and the groups that they are listed in."""
        super().__init__(
            prog="benchsuite",
            usage="benchsuite [-h] [--version] COMMAND ...",
            description="\n".join(_listed(commands, groups)),
            epilog="`benchsuite COMMAND --help` says what a command takes.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self._known = commands
        self.add_argument("command", nargs="?", help=argparse.SUPPRESS)
        self.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)

    def command_and_words(self, arguments: Sequence[str]) -> tuple[str, list[str]]:
        """Return the command and its own words; an unknown or missing one is a usage error."""
        chosen = self.parse_args(list(arguments))
        if chosen.command is None:
            self.error("no command is given")
        if chosen.command not in self._known:
            raise unknown_name("command", chosen.command, self._known)
        return chosen.command, chosen.words

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print and exit for."""
        raise UsageError(message, fix="`benchsuite --help` lists the commands")


def _listed(commands: Mapping[str, str], groups: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield the commands group by group, each with what it does."""
    yield "What there is, what is done, and what it says."
    placed = {name for names in groups.values() for name in names}
    rest = [name for name in commands if name not in placed]
    for heading, names in {**groups, **({"Further": rest} if rest else {})}.items():
        yield f"\n{heading}:"
        for name in names:
            indent = " " * (_NAMES + 2)
            lines = textwrap.wrap(
                commands[name], _WIDTH, initial_indent=indent, subsequent_indent=indent
            )
            yield f"  {name:<{_NAMES}}" + "\n".join(lines)[len(indent) :]


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
