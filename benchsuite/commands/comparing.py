"""``benchsuite compare``: any two models beside each other, each number beside its noise."""

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchsuite.catalog import Sources
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
from benchsuite.commands.parser import Parser
from benchsuite.commands.samples import compare_samples
from benchsuite.errors import UsageError
from benchsuite.records.store import digest_cache

if TYPE_CHECKING:
    from benchsuite.commands.recording import Recording
    from benchsuite.comparing.comparison import Comparison
    from benchsuite.comparing.measured import Beside
    from benchsuite.comparing.served import Serving


def compare(arguments: Sequence[str]) -> int:
    """Compare a base with one candidate or several: is any of them worse, and by how much?

    Each is a name of the catalogue, a folder, a .gguf file, an id of the hub, or a server that is
    OpenAI-compatible, http://host:port/v1#MODEL. Both read the
    same text and answer the same questions; every difference has an interval, the noise of the
    base itself beside it, and a verdict by its margin. A checkpoint alone is compared with the
    model that its metadata names.
    """
    if "--samples" in arguments:
        return compare_samples(arguments)
    chosen = parsed(arguments)
    files = {kind: getattr(chosen, kind) for kind in ("markdown", "junit", "json", "html")}
    check_places(files.values())
    words = [chosen.base, *chosen.candidate]
    serving = serving_of(chosen, words, files.values())
    sources = sources_of(chosen, words, digest_cache(chosen.reports_dir))
    base, *candidates = words if chosen.candidate else [_original(chosen.base), chosen.base]
    _check_candidates(candidates, chosen.seeds)
    comparison, recording = _measured(chosen, (base, *candidates), sources, serving)
    tell_resumed(serving)
    _show(comparison, chosen.seeds, recording.lines, files)
    serving.journal.close()
    recording.finish()
    return 0


def _check_candidates(candidates: Sequence[str], seeds: bool) -> None:
    twice = [word for word in candidates if candidates.count(word) > 1]
    if twice:
        raise UsageError(
            f"{twice[0]} is given {len(twice)} times as a candidate",
            fix="Name each once; the seeds of a recipe are quantizations of their own",
        )
    if seeds and len(candidates) < 2:
        raise UsageError(
            "--seeds takes the candidates as seeds of one recipe, and there is one",
            fix="Name two or more, each quantized with another seed",
        )


def _measured(
    chosen: Namespace, words: Sequence[str], sources: Sources, serving: "Serving"
) -> tuple["Comparison", "Recording[Beside]"]:
    """Compare the base with what comes after it, as far as no record says how they compare."""
    from benchsuite.commands.recording import Recording, asked_of_pairs
    from benchsuite.comparing.comparison import Before
    from benchsuite.comparing.comparison import compare as compared
    from benchsuite.comparing.measured import Beside

    settings = settings_of(chosen, sources)
    settings = replace(settings, layers=chosen.layers, speed=not chosen.no_speed)
    progress, device = Progress(), device_of(chosen.device)
    recording = Recording(
        Beside,
        words,
        asked_of_pairs(settings),
        sources,
        device=device,
        reports=chosen.reports_dir,
        rerun=chosen.rerun,
    )
    comparison = compared(
        words[0],
        words[1:],
        settings,
        sources,
        device=device,
        serving=serving,
        before=Before(recording.known(), recording.done, recording.keep),
        tell=progress.tell,
        progress=progress,
    )
    progress.clear()
    return comparison, recording


def _show(
    comparison: "Comparison", seeds: bool, lines: Sequence[str], files: Mapping[str, Path | None]
) -> None:
    """Print a comparison, and what its records say; write the files that were asked for."""
    from benchsuite.reporting.comparison.terminal import to_text

    print(to_text(comparison, seeds=seeds), end="")
    print("".join(f"{line}\n" for line in lines), end="")
    for kind, path in files.items():
        if path is not None:
            path.write_text(_written(kind)(comparison, seeds), encoding="utf-8")


def parsed(arguments: Sequence[str]) -> Namespace:
    """Return the words of ``compare`` as they are read; a wrong one is a ``UsageError``."""
    parser = Parser(compare)
    add = parser.add_argument
    add(
        "base",
        metavar="BASE",
        help="a name, a folder, a .gguf, ORGANISATION/NAME, or a server's URL",
    )
    add("candidate", metavar="CANDIDATE", nargs="*", help="what is compared with it")
    help = "both are evaluations that are done: `benchsuite compare --samples --help` says more"
    add("--samples", action="store_true", help=help)
    add_measured(parser)
    add("--seeds", action="store_true", help="the candidates are seeds of one recipe")
    add("--layers", action="store_true", help="what each layer alone costs, ranked")
    add("--no-speed", action="store_true", help="do not time generation")
    add("--markdown", type=Path, metavar="FILE", help="a comment for a pull request")
    add("--junit", type=Path, metavar="FILE", help="a case a metric, for continuous integration")
    add("--json", type=Path, metavar="FILE", help="everything, item by item")
    add("--html", type=Path, metavar="FILE", help="a page with the worst chunks, flipped answers")
    chosen = parser.parse_args(arguments)
    check_numbers(chosen)
    return chosen


def _original(checkpoint: str) -> str:
    """Return the name of the model that a checkpoint was made of."""
    from benchsuite.evaluation.checkpoints import original_of

    return original_of(checkpoint)


def _written(kind: str) -> Callable[..., str]:
    from benchsuite.reporting.comparison.files import to_json, to_junit
    from benchsuite.reporting.comparison.markdown import to_markdown
    from benchsuite.reporting.comparison.page import to_page

    return {
        "markdown": lambda found, seeds: to_markdown(found, seeds=seeds),
        "junit": lambda found, seeds: to_junit(found),
        "json": lambda found, seeds: to_json(found, seeds=seeds),
        "html": lambda found, seeds: to_page(found, seeds=seeds),
    }[kind]
