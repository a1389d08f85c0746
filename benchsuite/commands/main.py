"""The ``benchsuite`` command: what there is, what is done, what it says."""

import contextlib
import importlib
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, TextIO, cast

import pytest

from benchsuite import __version__
from benchsuite.commands.parser import CommandLine, pytest_help
from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.printable import printable

# Command -> where it is and what it does. A module is imported when its command is given: some
# need torch, which takes seconds.
COMMANDS = {
    "list": ("listing:list_studies", "the studies and the catalogue, or one study's methods"),
    "run": ("running:run", "measure the selected cells: pytest on the project's, or the shipped"),
    "doctor": (
        "doctor:doctor",
        "what this machine has, what can run on it, and what adds the rest",
    ),
    "models": ("models:models", "the catalogue's models, and what of them is here; `get` one"),
    "status": ("status:status", "which cells are done, stale, failed, running or missing"),
    "watch": ("watch:watch", "a run that goes on, from another terminal: done, running, left"),
    "claims": ("judging:claims", "judge stored records; status 1 if a claim is violated"),
    "report": ("judging:report", "write the report over stored records, or over named folders"),
    "export": ("exporting:export", "tables for a paper, figures, all records and items as Parquet"),
    "estimate": ("estimating:estimate", "how long the selected cells take here, and their memory"),
    "plan": ("plan:plan", "fix in a file what will be run and judged, before there are results"),
    "diff": ("diff:diff", "what changed from one reports folder to another"),
    "trend": ("trend:trend", "what changed over nights, each a reports folder"),
    "reproduce": ("reproduce:reproduce", "measure a record's cell again and name what differs"),
    "check": ("diff:check", "which numbers of a summary cannot belong together"),
    "verify": ("checkpoints:verify", "load a quantized checkpoint and try it"),
    "compare": ("comparing:compare", "any two models beside each other, with a verdict"),
    "gate": ("gating:gate", "status 0: not worse, 1: worse, 3: undecided; for a pull request"),
    "train": ("latent:train", "train and evaluate one latent-reasoning method outside pytest"),
    "determinism": ("determinism:determinism", "show determinism results beside each other"),
    "completion": ("completion:completion", "the script by which bash, zsh or fish completes"),
}
# What `benchsuite --help` lists together; a command of no group stands last.
GROUPS = {
    "What there is": ("list", "models", "doctor", "completion"),
    "Measuring": ("run", "estimate", "plan", "status", "watch", "reproduce", "train"),
    "Judging and showing": (
        *("claims", "report", "export", "diff", "trend"),
        *("check", "determinism"),
    ),
    "Any two models": ("compare", "gate", "verify"),
}
# Their words are pytest's: they select the cells.
OF_PYTEST = frozenset(("doctor", "list", "run", "status", "claims", "report", "estimate", "plan"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; errors that a user can mend are one paragraph and status 4."""
    parser = CommandLine({name: line for name, (_, line) in COMMANDS.items()}, GROUPS)
    parser.add_argument("--version", action="version", version=f"benchsuite {__version__}")
    command = ""
    _make_writable()
    try:
        command, words = parser.command_and_words(sys.argv[1:] if arguments is None else arguments)
        status = _run(command, words)
        sys.stdout.flush()
    except BenchsuiteError as error:
        return _refused(command, error)
    except KeyboardInterrupt:
        print(f"{f'benchsuite {command}'.rstrip()}: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # its reader has seen enough, as `head` has
        # What is buffered still would be written, and complained of, at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        where, why = str(error.filename or ""), error.strerror or str(error)
        return _refused(
            command,
            BenchsuiteError(f"the system refused: {why}", where, "check the path and its rights"),
        )
    return status


def _make_writable() -> None:
    """Give streams that the caller closed (``>&-``) somewhere to write to.

    And let a stream that has not every character (``LC_ALL=C``) spell out those it has not.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, for as long as we run
        elif isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _refuse_empty(words: Sequence[str]) -> None:
    """Refuse an empty word, which would be taken for this folder; ``-k`` and ``-m`` may have it."""
    for before, word in zip(("", *words), words, strict=False):
        if not word.strip() and before not in ("-k", "-m"):
            what = f"the value of {before}" if before.startswith("--") else "an argument"
            raise UsageError(
                f"{what} is empty",
                fix="name it, or leave it out: a variable of the shell may be unset",
            )


def _run(command: str, words: Sequence[str]) -> int:
    function = function_of(command)
    _refuse_empty(words)
    if command in OF_PYTEST and {"-h", "--help"} & set(words):
        print(pytest_help(function, command), end="")
        return 0
    try:
        with contextlib.redirect_stdout(cast(TextIO, _Shown(sys.stdout))):
            return int(function(words))
    except SystemExit as end:  # after --help
        return int(end.code or 0)


class _Shown:
    """A stream to which everything is written as text that no terminal obeys."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(printable(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _refused(command: str, error: BenchsuiteError) -> int:
    print(f"{f'benchsuite {command}'.rstrip()}: {error}", file=sys.stderr)
    return int(pytest.ExitCode.USAGE_ERROR)


def function_of(command: str) -> Callable[[Sequence[str]], int]:
    """Return the function that runs a command, which imports what it needs."""
    module, _, function = COMMANDS[command][0].partition(":")
    return getattr(importlib.import_module(f"benchsuite.commands.{module}"), function)
