"""``benchsuite gate``: not worse, worse or undecided, as an exit status."""

import traceback
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from benchsuite.commands.measuring import (
    Progress,
    add_measured,
    check_numbers,
    check_places,
    device_of,
    serving_of,
    settings_of,
    sources_of,
    tell_resumed,
)
from benchsuite.commands.samples import judge_samples, samples_parser, say
from benchsuite.errors import BenchsuiteError
from benchsuite.records.store import digest_cache

if TYPE_CHECKING:
    from benchsuite.comparing.verdict import Verdict

STATUS = {"not_worse": 0, "worse": 1, "undecided": 3}
# Asked where a margin is of answers and no set is named.
EMBEDDED = {"accuracy": "four_choices", "f1": "passages"}


def gate(arguments: Sequence[str]) -> int:
    """Say whether a candidate is worse than a base by more than a margin, as an exit status.

    Status 0: not worse. 1: worse. 3: undecided, with the number of items that would decide. 4:
    nothing was judged, and why. Judged are the metrics that a --margin is given for, or all that
    are measured. Items are measured in batches and no further than it takes. With --samples both
    are evaluations that are done, as in `benchsuite compare --samples`.
    """
    chosen = parsed(arguments)
    check_places((chosen.markdown, chosen.json))
    try:
        verdict = judge_samples(chosen, named_alone=True) if chosen.samples else _measured(chosen)
    except (BenchsuiteError, OSError):
        raise
    except Exception:  # Python would end with status 1, which says "worse"
        traceback.print_exc()
        return int(pytest.ExitCode.USAGE_ERROR)
    return STATUS[verdict.outcome]


def parsed(arguments: Sequence[str]) -> Namespace:
    """Return the words of ``gate`` as they are read; a wrong one is a ``UsageError``."""
    parser = samples_parser(gate)
    add_measured(parser, n_questions=0)
    return parser.parse_args(arguments)


def _measured(chosen: Namespace) -> "Verdict":
    from benchsuite.commands.recording import Recording, asked_of_gate
    from benchsuite.comparing.gating import Gated
    from benchsuite.comparing.gating import gate as gated
    from benchsuite.comparing.kinds import parse_margins
    from benchsuite.comparing.verdict import check_levels

    check_levels(chosen.alpha, chosen.power)
    check_numbers(chosen)
    if not chosen.questions:
        kinds = {name.partition(":")[0] for name in parse_margins(chosen.margin)}
        chosen.questions = ",".join(EMBEDDED[kind] for kind in sorted(kinds & EMBEDDED.keys()))
    words = chosen.base, chosen.candidate
    serving = serving_of(chosen, words, (chosen.markdown, chosen.json))
    sources = sources_of(chosen, words, digest_cache(chosen.reports_dir))
    settings = settings_of(chosen, sources)
    settings = replace(settings, alpha=chosen.alpha, power=chosen.power)
    progress, device = Progress(), device_of(chosen.device)
    recording = Recording(
        Gated,
        words,
        asked_of_gate(settings),
        sources,
        device=device,
        reports=chosen.reports_dir,
        rerun=chosen.rerun,
    )
    found = recording.known().get(1)
    if found is None:
        found = gated(
            *words,
            settings,
            sources,
            device=device,
            serving=serving,
            keep=recording.keep,
            tell=progress.tell,
            progress=progress,
        )
        recording.done(1, found)
    progress.clear()
    tell_resumed(serving)
    say(chosen, found.verdict, found.notes)
    print("".join(f"{line}\n" for line in recording.lines), end="")
    serving.journal.close()
    recording.finish()
    return found.verdict
