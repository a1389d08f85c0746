"""The ``benchsuite`` command: what there is, what is done, what it says."""

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence

import pytest

from benchsuite import __version__
from benchsuite.errors import BenchsuiteError

# Command -> where it is and what it does. A module is imported when its command is given: some
# need torch, which takes seconds.
COMMANDS = {
    "list": ("listing:list_studies", "the studies and the catalogue, or one study's methods"),
    "run": ("running:run", "measure the selected cells: pytest on the project's, or the shipped"),
    "status": ("status:status", "which cells are done, stale, failed, running or missing"),
    "claims": ("judging:claims", "judge stored records; status 1 if a claim is violated"),
    "report": ("judging:report", "write the report over stored records, or over named folders"),
    "estimate": ("estimating:estimate", "how long the selected cells take here, and their memory"),
    "diff": ("diff:diff", "what changed from one reports folder to another"),
    "reproduce": ("reproduce:reproduce", "measure a record's cell again and name what differs"),
    "check": ("diff:check", "which numbers of a summary cannot belong together"),
    "verify": ("checkpoints:verify", "load a quantized checkpoint and try it"),
    "compare": ("checkpoints:compare", "compare two checkpoints, or one with its baseline"),
    "train": ("latent:train", "train and evaluate one latent-reasoning method outside pytest"),
    "determinism": ("determinism:determinism", "show determinism results beside each other"),
}
EPILOG = (
    "Further arguments of list, status, claims, report and estimate are pytest's: -k EXPR, "
    "-m EXPR, --reports-dir DIR, --set STUDY.PARAMETER=VALUE."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; errors that a user can mend are one paragraph and status 4."""
    parser = argparse.ArgumentParser(
        prog="benchsuite",
        description="What there is, what is done, and what it says.",
        epilog=EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"benchsuite {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, line) in COMMANDS.items():
        commands.add_parser(name, help=line, add_help=False)
    chosen, rest = parser.parse_known_args(arguments)
    command = _function(chosen.command)
    if {"-h", "--help"} & set(rest):
        print(f"benchsuite {chosen.command}: {command.__doc__}\n{EPILOG}")
        return 0
    try:
        return int(command(rest))
    except BenchsuiteError as error:
        print(f"benchsuite {chosen.command}: {error}", file=sys.stderr)
        return int(pytest.ExitCode.USAGE_ERROR)


def _function(command: str) -> Callable[[Sequence[str]], int]:
    module, _, function = COMMANDS[command][0].partition(":")
    return getattr(importlib.import_module(f"benchsuite.commands.{module}"), function)
