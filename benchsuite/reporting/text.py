"""What the terminal says at the end of a session: little when all is well, exact when not."""

from collections.abc import Iterable, Sequence

from benchsuite.printable import count, some
from benchsuite.reporting.commands import rerun_command
from benchsuite.reporting.devices import mixed_devices
from benchsuite.reporting.groups import groups_of, short_names
from benchsuite.reporting.results import Line, StudyResults
from benchsuite.reporting.unmeasured import unmeasured
from benchsuite.reporting.unread import unread
from benchsuite.reporting.waiting import waiting
from benchsuite.statistics.inference.beware import ran_once
from benchsuite.statistics.inference.claims import Judgement
from benchsuite.statistics.inference.wording import both_arms, control_sentence
from benchsuite.statistics.rounding import of_difference, p_text, short
from benchsuite.study import Cell, Study

OUTCOMES = ("violated", "inconclusive", "not_run", "held")
MARKUP: dict[str, dict[str, bool]] = {
    "held": {"green": True},
    "violated": {"red": True, "bold": True},
    "inconclusive": {"yellow": True},
    "not_run": {},
}
MOST_LINES = 12
# Below this a t-test has one or two degrees of freedom in all: it runs, and decides nothing.
ENOUGH_SEEDS = 3


def terminal_lines(results: StudyResults, *, verbose: bool = False) -> list[Line]:
    """Return the lines of one study with their markup (keywords of ``write_line``).

    Held claims are counted, the others are told with their numbers; missing, failed and stale
    cells come with the command that runs them. ``verbose`` tells held claims too, and what each
    claim that was not run waits for.
    """
    lines = [(f"{results.study.name}: {_count(results)}", {"bold": True})]
    if results.standing is not None:
        departs = bool(results.standing.departures)
        lines.append((f"  {results.standing.sentence}", {"yellow": departs}))
    told = (
        *results.notes,
        *unmeasured(results),
        *unread(results),
        *mixed_devices(results),
    )
    lines += [(f"  {note}", {"yellow": True}) for note in told]
    lines += _claims(results, verbose)
    lines += _waiting(results) if verbose else ()
    lines += _absent("failed", results, list(results.failed), {"red": True})
    lines += _absent("stale", results, list(results.stale), {"yellow": True})
    lines += _absent("missing", results, results.missing, {})
    return lines


def _count(results: StudyResults) -> str:
    parts = [f"{len(results.records)} of {count(len(results.cells), 'cell')}"]
    rehearsed = sum(r.kind == "rehearsal" for r in results.records.values())
    if rehearsed:
        parts.append(f"{rehearsed} of them rehearsals with random weights")
    if results.judgements:
        counts = {o: sum(j.outcome == o for j in results.judgements) for o in OUTCOMES}
        told = [f"{n} {o.replace('_', ' ')}" for o, n in counts.items() if n]
        parts.append(f"claims: {', '.join(reversed(told))}")
    return "; ".join(parts)


def _claims(results: StudyResults, verbose: bool) -> Iterable[Line]:
    study, judgements = results.study, results.judgements
    names = short_names(groups_of(results.cells, results.records))
    outcomes = ("violated", "inconclusive", *(("held",) if verbose else ()))
    told = [j for outcome in outcomes for j in judgements if j.outcome == outcome]
    few = [] if verbose else [j for j in told if _is_smoke(j)]
    if few:
        told = [j for j in told if j not in few]
        found = f"{count(len(few), 'comparison')} of fewer than {ENOUGH_SEEDS} seeds an arm"
        verb = "decides" if len(few) == 1 else "decide"
        yield f"  {found} {verb} nothing: a smoke run, numbers in the report", {}
    most = len(told) if verbose else MOST_LINES
    for judgement in told[:most]:
        word = _word(judgement)
        said = judgement.sentence if verbose else _brief(study, judgement)
        name = names.get(judgement.model, judgement.model)
        text = f"  {word}: {judgement.claim.sentence} [{name}]: {said}"
        yield text, MARKUP[judgement.outcome]
    if len(told) > most:
        yield f"  and {count(len(told) - most, 'more such claim')} in the report", {}


def _word(judgement: Judgement) -> str:
    """Return a judgement's outcome, or its verdict where the difference is known not to matter."""
    open_ = judgement.outcome != "inconclusive" or judgement.is_open or not judgement.verdict
    return judgement.outcome.replace("_", " ") if open_ else judgement.verdict


def _waiting(results: StudyResults) -> Iterable[Line]:
    """Yield each claim that was not run, the cells that it waits for, and their command."""
    cells = cells_by_id(results.cells)
    for judgement in results.judgements:
        found = waiting(results, judgement, cells)
        if found is not None:
            claim = judgement.claim.sentence
            yield f"  not run: {claim} on {found.place}: {found.told}", MARKUP["not_run"]
            if found.command:
                yield f"    {found.command}", {}


def _is_smoke(judgement: Judgement) -> bool:
    evidence = judgement.evidence
    if judgement.outcome != "inconclusive" or "n_other" not in evidence:
        return False
    # Over items their number counts, and what runs once has no more seeds.
    if judgement.claim.over_items or "n_items" in evidence or all(ran_once(evidence)):
        return False
    return min(evidence["n"], evidence["n_other"]) < ENOUGH_SEEDS


def _brief(study: Study, judgement: Judgement) -> str:
    """Return a tested comparison in one line; the page tells it in full."""
    evidence = judgement.evidence
    if evidence.get("p_holm") is None or "mde_corrected" not in evidence:
        return judgement.sentence
    metric = study.metric(judgement.claim.metric)
    arms = " against ".join(both_arms(evidence, metric))
    least = of_difference(metric, short(evidence["mde_corrected"] * metric.scale))
    seen = f"; 80 % power from {least} on"
    text = f"{arms}, Holm {p_text(evidence['p_holm'])}{seen if judgement.is_open else ''}"
    beware = control_sentence(judgement.claim, judgement.model, judgement.outcome)
    return f"{text}.{beware}" if beware else text


def _absent(
    word: str, results: StudyResults, ids: Sequence[str], markup: dict[str, bool]
) -> Iterable[Line]:
    cells = cells_by_id(results.cells)
    known = [cells[i] for i in ids if i in cells]
    if not known:
        return
    yield f"  {len(known)} {word}: {some([cell.id for cell in known], 3)}", markup
    grid = results.cells
    command = rerun_command(results.study, known, results.options, results.where, grid=grid)
    yield f"    {command}", {}


def cells_by_id(cells: Iterable[Cell]) -> dict[str, Cell]:
    """Return the grid by cell id."""
    return {cell.id: cell for cell in cells}
