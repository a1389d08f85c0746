"""What ``compare`` and ``gate`` share: the words for what is measured, and what is made of them."""

import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchsuite.catalog import Sources
from benchsuite.commands.parser import Parser
from benchsuite.errors import UsageError
from benchsuite.harness.typed import named_paths
from benchsuite.printable import count

if TYPE_CHECKING:
    from benchsuite.comparing.comparison import Settings
    from benchsuite.comparing.served import Serving

JOURNAL = "benchsuite-answers.jsonl"
"""What servers have answered, until their comparison is written."""
TOKENS = 16_384
N_QUESTIONS = 200


def add_measured(parser: Parser, n_questions: int = N_QUESTIONS) -> None:
    """Add what is measured, and on what: the text, the questions, the margins, the device."""
    add, usual = parser.add_argument, n_questions or "all"
    add("--text", default="embedded_text", help="a corpus or a file (default: the embedded text)")
    add("--tokens", type=int, default=TOKENS, help=f"of the text, 0 for all (default {TOKENS:,})")
    add("--seq-len", type=int, help="tokens a chunk (default 512)")
    add("--group", type=int, default=1, help="neighbouring chunks that count as one (default 1)")
    add("--questions", default="", metavar="TASK,...", help="tasks whose questions are asked too")
    add(
        "--n-questions", type=int, default=n_questions, help=f"of each, 0 for all (default {usual})"
    )
    add("--shots", type=int, default=0, help="worked examples before each question (default 0)")
    add("--local", action="append", default=[], metavar="NAME=PATH", help="where a name's data are")
    add(
        "--margin",
        action="append",
        default=[],
        metavar="METRIC=VALUE",
        help="the loss that matters: perplexity=0.5%%, kl=0.01, accuracy=1, accuracy:gsm8k=2",
    )
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add(
        "--trust-remote-code",
        dest="trust",
        action="store_true",
        help="let the own Python code of what is named here run (auto_map in its config.json)",
    )
    add("--tokenizer", default="", help="what has the tokenizer of servers' models, if no side has")
    add("--key-env", default="", metavar="NAME", help="the variable with a server's key")
    add("--requests", type=int, default=8, help="asked of a server at once (default 8)")
    add("--rerun", action="store_true", help="measure again what the store has a record of")
    add(
        "--reports-dir",
        type=Path,
        default=Path("reports"),
        metavar="DIR",
        help="the folder whose store keeps the record (default reports)",
    )


def check_numbers(chosen: Namespace) -> None:
    """Refuse numbers of tokens, questions and chunks that are none."""
    for flag in ("tokens", "n_questions", "shots"):
        if getattr(chosen, flag) < 0:
            name = f"--{flag.replace('_', '-')}"
            raise UsageError(f"{name} is {getattr(chosen, flag)}", fix="Give 0 or more")
    for flag in ("group", "requests"):
        if getattr(chosen, flag) < 1:
            raise UsageError(f"--{flag} is {getattr(chosen, flag)}", fix="Give 1 or more")


def check_places(files: Iterable[Path | None]) -> None:
    """Refuse a file to write whose folder is not there, before hours of work."""
    for path in files:
        if path is not None and not path.parent.is_dir():
            raise UsageError(f"there is no folder {path.parent}", fix="Make it, or name another")


def sources_of(chosen: Namespace, words: Sequence[str], digests: Path | None = None) -> Sources:
    """Return where names are looked for; ``words`` are the models that may be trusted.

    Digests of files are remembered in the file ``digests``.
    """
    return Sources(
        local=named_paths("--local", chosen.local, Path.cwd()),
        trusted=frozenset(words) if chosen.trust else frozenset(),
        digest_cache=digests,
    )


def serving_of(chosen: Namespace, words: Sequence[str], files: Iterable[Path | None]) -> "Serving":
    """Return how servers are asked; what they answer is kept beside the first of ``files``."""
    from benchsuite.comparing.endpoint import is_endpoint, parse_endpoint
    from benchsuite.comparing.journal import Journal
    from benchsuite.comparing.served import KEY_NAME, Serving

    asked = [parse_endpoint(word) for word in words if is_endpoint(word)]
    if not asked:
        return Serving()
    if len(words) == 1:
        raise UsageError(
            f"{asked[0].url} is a server, and there is nothing to compare it with",
            fix="Name what it is compared with: benchsuite compare BASE http://HOST:PORT/v1",
        )
    beside = next((path.parent for path in files if path is not None), Path())
    journal = Journal(beside / JOURNAL)
    return Serving(chosen.tokenizer, chosen.key_env or KEY_NAME, chosen.requests, journal)


def tell_resumed(serving: "Serving") -> None:
    """Say how many answers are those of a run that broke off."""
    if serving.journal.resumed:
        print(
            f"{count(serving.journal.resumed, 'answer')} of servers came from a run that broke "
            "off: if they have changed since, the same command asks anew now",
            file=sys.stderr,
        )


def settings_of(chosen: Namespace, sources: Sources) -> "Settings":
    """Return what is asked; texts and questions that cannot be had are told before any model."""
    from benchsuite.comparing.comparison import Settings
    from benchsuite.comparing.kinds import parse_margins
    from benchsuite.comparing.questions import question_set
    from benchsuite.comparing.texts import open_text

    names = [name for name in chosen.questions.split(",") if name]
    return Settings(
        open_text(chosen.text, sources),
        chosen.tokens,
        chosen.seq_len or 0,
        tuple(question_set(name, chosen.n_questions, chosen.shots, sources) for name in names),
        parse_margins(chosen.margin),
        group=chosen.group,
    )


def device_of(word: str) -> str:
    """Return a device that is here; the first GPU, if there is one, for ``auto``."""
    import torch

    if word == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = word.partition(":")
    n = torch.cuda.device_count() if kind == "cuda" else 1
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()) or int(index or 0) >= n:
        raise UsageError(f"there is no device {word!r}", fix="Give auto, cpu, cuda or cuda:N")
    return word


class Progress:
    """One line on the terminal that rewrites itself; nothing where there is none."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()
        self._what = ""

    def tell(self, what: str) -> None:
        """Say what is done now."""
        self._what = what
        self._show(what)

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Say how far it is."""
        self._show(f"{self._what}: {done}/{total}")

    def clear(self) -> None:
        """Take the line away."""
        self._show("")

    def _show(self, text: str) -> None:
        if self._on:
            from benchsuite.printable import printable

            print(f"\r\x1b[2K{printable(text)[:120]}", end="", file=sys.stderr, flush=True)
