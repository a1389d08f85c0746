"""What changed between two sets of records: per cell, per method and per claim."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from benchsuite.printable import count
from benchsuite.records.record import TIME, Record
from benchsuite.reporting import numbers
from benchsuite.reporting.groups import Group, groups_of
from benchsuite.reporting.results import StudyResults
from benchsuite.reporting.weights import other_weights
from benchsuite.statistics.inference.changes import Change, arm_change, seed_change, settled
from benchsuite.statistics.margins import absolute
from benchsuite.statistics.rounding import p_text
from benchsuite.study import Metric, Study

Key = tuple[str, str, str, str]
Groups = dict[Key, tuple[Study, Group]]
# Where a claim may go without being worse off than before.
RANK = {"violated": 0, "inconclusive": 1, "held": 2}
MOST_CLAIMS = 5


@dataclass(frozen=True)
class DiffLine:
    """One line of a diff; what is ``worse`` makes its exit status 1."""

    subject: str
    text: str
    worse: bool = False

    def __str__(self) -> str:
        return f"{'worse: ' if self.worse else ''}{self.subject}: {self.text}"


def differences(old: Sequence[StudyResults], new: Sequence[StudyResults]) -> list[DiffLine]:
    """Compare two judged sets of results, the worse first.

    Worse are: a metric that moved against the study's wish by more than the seeds' noise, a claim
    that held and does not, or that is newly violated, and a cell that failed. A decided claim that
    the new records no longer decide, because they lack its cells, is told. Timings are told, and
    only where both sides have them from the same device, uncontended.
    """
    before, after = _groups(old), _groups(new)
    shared = [key for key in before if key in after]
    others = {key for key in shared if other_weights(before[key][1], after[key][1])}
    shared = [key for key in shared if key not in others]
    for key in others:
        del before[key], after[key]
    found = [_cells(before, after), *map(_of_others, sorted(others)), *_failures(old, new)]
    found += _claims(old, new, {(study, model) for study, model, *_ in others})
    for study in dict.fromkeys(key[0] for key in shared):
        pairs = [(before[key], after[key][1]) for key in shared if key[0] == study]
        found += _metrics([(s, a, b) for (s, a), b in pairs if a.kind != "rehearsal"])
        found += _timings([(a, b) for (_, a), b in pairs])
    return sorted(found, key=lambda difference: not difference.worse)


def _of_others(key: Key) -> DiffLine:
    study, model, *_ = key
    return DiffLine(f"{study}/{model}", "other weights now than before: nothing is compared")


def _groups(results: Sequence[StudyResults]) -> Groups:
    return {
        (r.study.name, group.key, group.kind, r.weights): (r.study, group)
        for r in results
        for group in groups_of(r.cells, r.records)
        if group.records
    }


def _cells(before: Groups, after: Groups) -> DiffLine:
    def digests(groups: Groups) -> dict[tuple[Any, ...], Any]:
        return {
            (study_name, record.cell.name, *kinds): record.results_sha256
            or record.value(study.ranked_by.name)
            for (study_name, _, *kinds), (study, group) in groups.items()
            for record in group.records.values()
        }

    old, new = digests(before), digests(after)
    equal = sum(old[key] == new[key] for key in old.keys() & new.keys())
    changed = len(old.keys() & new.keys()) - equal
    text = f"{equal} bit-identical, {changed} changed"
    for n, where in ((len(old.keys() - new.keys()), "old"), (len(new.keys() - old.keys()), "new")):
        text += f", {n} only in the {where} ones" if n else ""
    return DiffLine("cells", text)


def _failures(old: Sequence[StudyResults], new: Sequence[StudyResults]) -> Iterator[DiffLine]:
    # A cell's name has its settings: under others it may never have passed.
    good = {(r.study.name, r.weights, one.cell.name) for r in old for one in r.records.values()}
    for results in new:
        for cell_id, record in results.failed.items():
            if (results.study.name, results.weights, record.cell.name) in good:
                why = record.failure.last_line if record.failure else "no message"
                text = f"passed before, failed now: {why[:200]}"
                yield DiffLine(f"{results.study.name}/{cell_id}", text, worse=True)


def _claims(
    old: Sequence[StudyResults], new: Sequence[StudyResults], others: Set[tuple[str, str]]
) -> Iterator[DiffLine]:
    def judged(results: Sequence[StudyResults]) -> dict[Key, Any]:
        return {
            (r.study.name, j.model, j.claim.sentence, r.weights): j
            for r in results
            for j in r.judgements
            if (r.study.name, j.model) not in others
        }

    before, after = judged(old), judged(new)
    yield from _undecided_now(before, after)
    for key, now in after.items():
        study, model, sentence, _ = key
        was = before.get(key)
        if was is None or was.outcome == now.outcome or "not_run" in (was.outcome, now.outcome):
            continue
        worse = RANK[now.outcome] < RANK[was.outcome] and (
            now.outcome == "violated" or was.outcome == "held"
        )
        text = f"{sentence}: {was.outcome} before, {now.outcome} now. {now.sentence}"
        yield DiffLine(f"{study}/{model}", text, worse)


def _undecided_now(before: Mapping[Key, Any], after: Mapping[Key, Any]) -> Iterator[DiffLine]:
    """Tell decided claims that the new records lack cells of, or know nothing of: a line a model.

    They are not worse: fewer cells may have been asked for.
    """
    lost: dict[tuple[str, str, str, str], list[str]] = {}
    for key, was in before.items():
        study, model, sentence, _ = key
        now = after[key].outcome if key in after else "not there"
        if was.outcome in ("held", "violated") and now in ("not_run", "not there"):
            what = (study, model, was.outcome, now.replace("_", " "))
            lost.setdefault(what, []).append(sentence)
    for (study, model, was_outcome, now), sentences in lost.items():
        shown = "; ".join(sentences[:MOST_CLAIMS])
        more = len(sentences) - MOST_CLAIMS
        text = f"{was_outcome} before, {now} now: {shown}{f'; and {more} more' if more > 0 else ''}"
        yield DiffLine(f"{study}/{model}", text)


# --- metrics


@dataclass(frozen=True)
class _Moved:
    """A number before and now, and what the noise says of it."""

    metric: Metric
    subject: str
    before: str
    now: str
    change: Change
    margin: float

    @property
    def is_small(self) -> bool:
        """Whether an arm without noise moved by less than matters: by a device's last bits, say."""
        change = self.change
        untested = change.outcome == "beyond_noise" and change.p_value is None
        return untested and change.difference is not None and abs(change.difference) < self.margin


def _methods(groups: Iterable[Group]) -> Iterator[tuple[int, str]]:
    """Yield the place of each group with each of its methods, once.

    One without a parameter that others have stands in several groups with the same records.
    """
    seen = set()
    for place, group in enumerate(groups):
        for method in group.methods:
            mine = (group.kind, *(r.cell.name for r in group.records_of(method).values()))
            if mine not in seen or len(mine) == 1:
                seen.add(mine)
                yield place, method


def _metrics(pairs: Sequence[tuple[Study, Group, Group]]) -> Iterator[DiffLine]:
    """Compare every metric of a study: its methods are one family, its seeds another."""
    arms: list[_Moved] = []
    seeds: list[_Moved] = []
    for place, method in _methods(before for _, before, _ in pairs):
        study, before, after = pairs[place]
        for metric in study.metrics:
            old, new = (_numbers(group, method, metric.name) for group in (before, after))
            if not old or not new or old == new:
                continue
            where = f"{study.name}/{after.label}/{method}"
            change = arm_change(old, new)
            if change.outcome == "equal":
                continue
            what = f"{where} {metric.name}"
            told = numbers.over_seeds(metric, old), numbers.over_seeds(metric, new)
            margin = absolute(metric.margin, fmean(old.values()), metric.scale)
            arms.append(_Moved(metric, what, *told, change, margin))
            for seed, now in new.items():
                was = numbers.one(metric, old[seed], 6) if seed in old else "no value"
                what, change = f"{where} seed {seed} {metric.name}", seed_change(old, seed, now)
                is_now = numbers.one(metric, now, 6)
                seeds.append(_Moved(metric, what, was, is_now, change, margin))
    yield from (_difference(moved) for moved in _settled(arms))
    for moved in _settled(seeds):
        if moved.change.outcome == "beyond_noise" and moved.change.p_value is not None:
            yield _difference(moved)


def _settled(moved: Sequence[_Moved]) -> list[_Moved]:
    changes = settled([one.change for one in moved])
    return [replace(one, change=change) for one, change in zip(moved, changes, strict=True)]


def _difference(moved: _Moved) -> DiffLine:
    text = f"{moved.before} before, {moved.now} now: {_verdict(moved.change)}"
    if moved.is_small:
        text += "; too small to matter"
    worse = not moved.is_small and _is_worse(moved.metric, moved.change)
    return DiffLine(moved.subject, text, worse)


def _numbers(group: Group, method: str, metric: str) -> dict[int, float]:
    return {
        seed: float(number)
        for seed, number in group.values(method, metric).items()
        if isinstance(number, int | float)
    }


def _verdict(change: Change) -> str:
    if change.outcome == "unknown":
        return f"changed, and {change.reason}"
    words = "beyond seed noise" if change.outcome == "beyond_noise" else "within seed noise"
    if change.p_value is None:
        return f"{words}, for {change.reason}"
    return f"{words} ({p_text(change.p_value)}, Holm {p_text(change.p_holm)})"


def _is_worse(metric: Metric, change: Change) -> bool:
    """Say whether a metric moved the wrong way; one without a better side has no wrong way."""
    if change.outcome != "beyond_noise" or not metric.better or not change.difference:
        return False
    return (change.difference < 0) == (metric.better == "higher")


# --- times


def _timings(pairs: Sequence[tuple[Group, Group]]) -> Iterator[DiffLine]:
    refused: dict[tuple[str, str], int] = {}
    tested: list[tuple[str, float, float, Change]] = []
    for place, method in _methods(before for before, _ in pairs):
        after = pairs[place][1]
        one, two = (list(g.records_of(method).values()) for g in pairs[place])
        if not one or not two:
            continue
        devices = (_devices(one), _devices(two))
        if devices[0] == devices[1] and _is_one_device((*one, *two)):
            tested += _times(f"{after.label}/{method}", one, two)
        else:
            refused[devices] = refused.get(devices, 0) + 1
    for (old, new), n in refused.items():
        yield DiffLine("timings", f"of {count(n, 'method')} not compared: {old} against {new}")
    changes = settled([change for *_, change in tested])
    for (what, old_mean, new_mean, _), change in zip(tested, changes, strict=True):
        if change.outcome == "beyond_noise":
            text = f"{old_mean:.3g} s before, {new_mean:.3g} s now: {_verdict(change)}"
            yield DiffLine(what, text)


def _is_one_device(records: Sequence[Record]) -> bool:
    return len({r.device_name for r in records}) == 1 and not any(map(_contended, records))


def _devices(records: Iterable[Record]) -> str:
    told = {f"{r.device_name}{', contended' if _contended(r) else ''}" for r in records}
    return " and ".join(sorted(told))


def _contended(record: Record) -> bool:
    return record.times.contended


def _times(
    what: str, old: Sequence[Record], new: Sequence[Record]
) -> Iterator[tuple[str, float, float, Change]]:
    """Compare the logarithms of each stage's seconds: times scatter by ratio.

    What is computed once for many cells was timed once: it is one value, and left out of the
    stages that hold it, for it would give every seed the same luck. What a cell spent says who
    came first.
    """
    every = [stage for stage in old[0].times.all() if not stage.endswith("_spent")]
    for stage in (*every, "total"):
        one, two = (_seconds(records, stage) for records in (old, new))
        if one and two and one != two:
            change = arm_change(_logs(one), _logs(two))
            own = any(_shared(r, stage) for r in (*old, *new))
            name = f"{stage}{TIME}{' but for what is shared' if own else ''}"
            yield (
                f"{what} {name}",
                math.exp(sum(_logs(one).values()) / len(one)),
                math.exp(sum(_logs(two).values()) / len(two)),
                change,
            )


def _seconds(records: Sequence[Record], stage: str) -> dict[int, float]:
    """Return seed -> seconds of a stage, without what is shared; a shared time once."""
    found: dict[int, float] = {}
    for record in records:
        seconds = record.value(f"{stage}{TIME}")
        if isinstance(seconds, int | float) and (own := seconds - _shared(record, stage)) > 0:
            found[record.cell.seed] = float(own)
    return dict(list(found.items())[:1]) if stage.endswith("_shared") else found


def _shared(record: Record, stage: str) -> float:
    if stage == "total":
        return record.times.shared
    return record.times.reported.get(f"{stage}_shared", 0.0)


def _logs(times: Mapping[int, float]) -> dict[int, float]:
    return {seed: math.log(seconds) for seed, seconds in times.items()}
