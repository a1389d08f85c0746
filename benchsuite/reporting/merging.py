"""Records of any reports folders brought together: whose cells they are, and where they conflict.

Nothing is run and no fingerprint is computed: a record counts for the cell that it says it
measured, on whatever machine that was. Of one folder the last good record of a cell counts, of
several folders the first one named.
"""

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.printable import count
from benchsuite.records import asked
from benchsuite.records.columns import read_columns
from benchsuite.records.documents import adopted, declared_cell
from benchsuite.records.files import sha256
from benchsuite.records.reading import DocumentFile, read_file
from benchsuite.records.record import Record
from benchsuite.reporting import numbers
from benchsuite.reporting.load import record_files
from benchsuite.reporting.results import StudyResults
from benchsuite.reporting.weights import Variants, described
from benchsuite.study import Cell, Study, names, study

Key = tuple[str, str, str, int]

Place = tuple[str, str, tuple[str, ...], int]
"""A study, its setting, the kinds of weights shown together, and which of its models' weights."""

TOGETHER = {"rehearsal": ("rehearsal",), "checkpoint": ("checkpoint",)}
"""Kinds that are results of their own, and which kinds those have. All others are shown together, a
model's own weights before what stands in for it."""
OTHERS = ("stand_in", "real")


@dataclass(frozen=True)
class Found:
    """A record and the file that it was read from.

    ``variant`` counts the weights that its model's name stood for: those of the first folder's
    newest record are 0.
    """

    record: Record
    path: Path
    variant: int = 0

    @property
    def kind(self) -> str:
        """What the numbers are of: as ``Record.kind``, or a checkpoint that was given."""
        given = self.record.source.weights == "checkpoint" and self.record.kind == "real"
        return "checkpoint" if given else self.record.kind

    @property
    def key(self) -> Key:
        """The study, the cell with its parameters, the kind of weights and which of them."""
        return self.record.cell.study, self.record.cell.name, self.kind, self.variant


@dataclass(frozen=True)
class Conflict:
    """Two records of one cell whose measured bits differ; ``kept`` is the one that counts."""

    cell: str
    kept: Found
    other: Found


@dataclass
class Sources:
    """What several folders hold: by cell the record that counts, and what stands against it.

    ``failed`` are cells of which no good record is there; ``agreeing`` counts further records of
    a cell with the same bits; ``notes`` say what was left out and why.
    """

    good: dict[Key, Found] = field(default_factory=dict)
    failed: dict[Key, Found] = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)
    agreeing: int = 0
    notes: list[str] = field(default_factory=list)
    variants: Variants = field(default_factory=Variants)

    def found(self, record: Record) -> Found | None:
        """Return where one of the records that count was read from."""
        return self.good.get(Found(record, Path(), self.variant(record)).key)

    def variant(self, record: Record) -> int:
        """Return which of its model's weights a record measured."""
        return self.variants.index(record, lambda: _is_published(record))

    def columns(self, record: Record) -> Mapping[str, Any]:
        """Return a record's per-item evidence, or nothing where its side file is not at hand."""
        found = self.found(record)
        if found is None or record.items is None:
            return {}
        side = found.path.parent / record.items.file
        if not side.is_file():
            return {}
        if record.items.sha256 not in (None, sha256(side)):
            note = f"left out {side}: changed after it was written"
            self.notes += [] if note in self.notes else [note]
            return {}
        return read_columns(side)

    def asked(self, record: Record, key: asked.Key) -> Any:
        """Return what the record's own store keeps of the items that it names, or None."""
        found = self.found(record)
        return None if found is None else asked.kept(found.path.parent.parent, key)


def read_sources(directories: Iterable[str | Path]) -> Sources:
    """Read every record under the directories; the first one named wins where they conflict.

    A folder that is named twice is read once: it confirms nothing.
    """
    sources = Sources()
    once = {os.path.realpath(directory): Path(directory) for directory in reversed([*directories])}
    for directory in reversed(once.values()):
        if not directory.is_dir():
            raise UsageError(f"there is no folder {directory}", fix="name a reports folder")
        found = list(_read(directory, sources.notes))
        if not found:
            raise UsageError(
                f"{directory} holds no records",
                fix="name a folder with store/records or raw_runs in it, such as reports",
            )
        found.sort(key=lambda one: one.record.started_at)
        newest = [replace(f, variant=sources.variant(f.record)) for f in reversed(found)]
        good, failed = _latest(newest[::-1], sources)
        for key, one in good.items():
            _settle(sources, sources.good.setdefault(key, one), one)
        sources.failed = failed | sources.failed
    sources.failed = {k: f for k, f in sources.failed.items() if k not in sources.good}
    return sources


def _read(directory: Path, notes: list[str]) -> Iterator[Found]:
    unreadable = 0
    for path in record_files(directory):
        why = "no study has such a cell"
        try:
            record: Record | None = read_file(path)
        except DocumentFile as found:
            record = adopted(found.body)
        except (BenchsuiteError, OSError) as error:
            record, why = None, getattr(error, "what", str(error))
        if record is None:
            unreadable += 1
            if unreadable <= 3:
                notes.append(f"left out {path}: {why}")
        else:
            yield Found(record, path)
    if unreadable > 3:
        notes.append(f"left out {count(unreadable - 3, 'further file')} of {directory}")


def _latest(found: Sequence[Found], sources: Sources) -> tuple[dict[Key, Found], dict[Key, Found]]:
    """Return the last good and the last failed record of each cell of one folder's, by time."""
    good: dict[Key, Found] = {}
    failed: dict[Key, Found] = {}
    again: list[Found] = []
    for one in found:
        if ".rerun-" in one.path.name:
            again.append(one)
        elif one.record.passed:
            good[one.key] = one
        else:
            failed[one.key] = one
    for one in again:
        first = good.get(one.key)
        if first and first.record.fingerprint == one.record.fingerprint:
            _settle(sources, first, one)
    return good, failed


def _settle(sources: Sources, kept: Found, other: Found) -> None:
    if kept is other:
        return
    if same_bits(kept.record, other.record):
        sources.agreeing += 1
    else:
        sources.conflicts.append(Conflict(kept.record.cell.id, kept, other))


def same_bits(a: Record, b: Record) -> bool:
    """Say whether two records hold equal measurements, times apart."""
    if a.results_sha256 and b.results_sha256:
        return a.results_sha256 == b.results_sha256
    metrics = study(a.cell.study).metrics if a.cell.study in names() else ()
    return all(a.value(metric.name) == b.value(metric.name) for metric in metrics)


# --- as results of studies


def judged(
    directories: Iterable[str | Path], links: Path | None = None
) -> tuple[Sources, list[StudyResults]]:
    """Return what the directories hold, as results with their claims judged."""
    from benchsuite.reporting import judge_study

    sources = read_sources(directories)
    results = results_of(sources, links)
    for one in results:
        one.judgements = judge_study(one, columns=sources.columns)
    return sources, results


def results_of(sources: Sources, links: Path | None = None) -> list[StudyResults]:
    """Return the records as results: one per study and setting, over the models that have any.

    Rehearsals, and checkpoints that were given with ``--checkpoint``, are results of their own, and
    so are records of other weights under a model's name.
    What is missing there is what the study declares. ``links`` is the folder from which the page
    refers to the record files.
    """
    by_setting: dict[Place, list[Found]] = {}
    unknown: Counter[str] = Counter()
    for found in (*sources.good.values(), *sources.failed.values()):
        name = found.record.cell.study
        if name in names():
            setting = json.dumps(_settings(found.record), sort_keys=True, default=str)
            kinds = TOGETHER.get(found.kind, OTHERS)
            by_setting.setdefault((name, setting, kinds, found.variant), []).append(found)
        else:
            unknown[name] += 1
    for name, n in unknown.items():
        sources.notes.append(
            f"left out {count(n, 'record')} of {name}, a study that is not known here"
        )
    made = [
        _results(study(name), members, kinds, sources, links)
        for (name, _, kinds, _), members in sorted(by_setting.items(), key=_place)
    ]
    return [one for one in made if not any(_within(one, other) for other in made)]


def _place(item: tuple[Place, Any]) -> tuple[str, str, int, int]:
    """Where a study's results stand: what models' own weights gave comes first."""
    name, setting, kinds, variant = item[0]
    return name, setting, [OTHERS, *TOGETHER.values()].index(kinds), variant


def _within(one: StudyResults, other: StudyResults) -> bool:
    """Say whether other shows all that one does, and more.

    The setting of a parameter that few methods have (iterations, say) takes in the other methods'
    records; without it they would be shown again.
    """
    mine, theirs = ({**r.failed, **r.records} for r in (one, other))
    shown = all(record is theirs.get(cell_id) for cell_id, record in mine.items())
    return one.study.name == other.study.name and shown and len(mine) < len(theirs)


def _settings(record: Record) -> dict[str, Any]:
    changed = _as_declared(record.cell.changed)
    additions = study(record.cell.study).additions
    return {k: v for k, v in changed.items() if k not in additions}


def _as_declared(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as studies declare them: JSON made lists of their tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in parameters.items()}


def _results(
    declared: Study,
    members: Sequence[Found],
    kinds: tuple[str, ...],
    sources: Sources,
    links: Path | None,
) -> StudyResults:
    grid = {cell.id: cell for cell in _grid(declared, members)}
    variant = members[0].variant
    # A setting that a method does not have leaves its cells what they are without it.
    good = {
        cell.id: sources.good[key]
        for kind in kinds
        for cell in grid.values()
        if (key := (declared.name, cell.name, kind, variant)) in sources.good
    }
    good |= {f.record.cell.id: f for f in members if f.key in sources.good}
    failed = {f.record.cell.id: f for f in members if f.key in sources.failed}
    failed = {i: f for i, f in failed.items() if i not in good}
    for cell_id, found in (failed | good).items():
        known = grid.get(cell_id)
        measured = _as_declared(found.record.cell.parameters)
        if known is None or dict(known.parameters) != measured:
            grid[cell_id] = _cell(declared, found.record)
    made = results_over(declared, list(grid.values()), good, failed, sources, links)
    made.notes = _other_weights(good.values()) if variant else []
    made.weights = _weights(kinds, variant)
    return made


def results_over(
    declared: Study,
    cells: list[Cell],
    good: Mapping[str, Found],
    failed: Mapping[str, Found],
    sources: Sources,
    links: Path | None,
) -> StudyResults:
    """Return a study's cells beside the records that were found of them, by cell id."""
    mine = {f.path for f in good.values()}
    made = StudyResults(
        declared,
        cells,
        records={i: f.record for i, f in good.items()},
        failed={i: f.record for i, f in failed.items()},
        missing=[c.id for c in cells if c.id not in good and c.id not in failed],
        conflicts=[_told(c) for c in sources.conflicts if c.kept.path in mine],
    )
    if links is not None:
        parents = {f.path.parent for f in good.values()}
        to = {p: os.path.relpath(p.resolve(), links.resolve()) for p in parents}
        made.links = {i: Path(to[f.path.parent], f.path.name).as_posix() for i, f in good.items()}
    return made


def _weights(kinds: tuple[str, ...], variant: int) -> str:
    kind = "" if kinds == OTHERS else kinds[0]
    return f"{kind} {variant or ''}".strip()


def _other_weights(found: Iterable[Found]) -> list[str]:
    """Return what tells records of other weights from those that the study shows first."""
    told = dict.fromkeys(f"{f.record.cell.model}: {described(f.record)}" for f in found)
    return [
        "other weights than those shown first under the same names, and never compared with them: "
        + "; ".join(told)
    ]


def _is_published(record: Record) -> bool:
    """Say whether the study loads a checkpoint of its own for the record's cell."""
    if record.cell.study not in names():
        return False
    declared = study(record.cell.study)
    return declared.published(_cell(declared, record)) is not None


def _grid(declared: Study, members: Sequence[Found]) -> list[Cell]:
    """Return what the study declares with the members' settings, for the members' models."""
    models = {f.record.cell.model for f in members}
    known = {"model": tuple(m for m in declared.axes["model"] if m in models)}
    settings, tour = _settings(members[0].record), declared.tour
    is_tour = tour is not None and bool(tour.parameters) and settings == dict(tour.parameters)
    if tour is not None:
        tour = replace(tour, axes={**tour.axes, **known})
    small = replace(declared, axes={**declared.axes, **known}, tour=tour)
    try:
        return list(small.cells(settings={} if is_tour else settings, tour=is_tour))
    except UsageError:  # a parameter that the study has no more: what was measured is all there is
        return []


def _cell(declared: Study, record: Record) -> Cell:
    """Return a record's own cell, whose defaults are those that the study declares today."""
    facts = record.cell
    axes, parameters = facts.axes, _as_declared(facts.parameters)
    point = tuple((k, v) for k, v in axes.items() if k != "seed")
    defaults = {k: v for k, v in parameters.items() if k not in facts.changed}
    with contextlib.suppress(KeyError, UsageError):
        defaults = dict(declared_cell(declared.name, point).defaults)
    own = {k: defaults.get(k) for k in parameters}
    return Cell(facts.study, axes, parameters, own, declared.additions)


def _told(conflict: Conflict) -> str:
    kept, other = conflict.kept, conflict.other
    return f"{conflict.cell}: {_measured(kept)} counts, {_measured(other)} does not"


def _measured(found: Found) -> str:
    record = found.record
    metric = study(record.cell.study).ranked_by
    value = record.value(metric.name)
    told = numbers.one(metric, value, 6) if isinstance(value, float) else value
    shown = f"{metric.name} {told}"
    device = record.environment.get("device") or "an unknown device"
    return f"{shown} on {device} ({found.path})"
