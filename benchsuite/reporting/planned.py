"""How a study's results stand to its frozen plan: as planned, or each departure by name."""

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from benchsuite.printable import count, some
from benchsuite.records.judged import Look
from benchsuite.records.record import Record
from benchsuite.reporting.groups import Group, groups_of
from benchsuite.study import Cell, Study
from benchsuite.study.plan import CLAIM_FIELDS, FrozenPlan, StudyPlan, margins_of

if TYPE_CHECKING:
    from benchsuite.statistics.inference.sequential import Plan

MOST_TOLD = 4
Arm = tuple[str, str]
"""A place (``Cell.place``) and a method."""


@dataclass(frozen=True)
class Standing:
    """A study beside its plan; ``departures`` are sentences without a full stop."""

    file: str
    sha256: str
    frozen: str
    alpha: float
    family: int
    n_cells: int
    n_done: int
    departures: tuple[str, ...] = field(default=())

    @property
    def sentence(self) -> str:
        """What a report says: as planned, or that it departs."""
        named = f"({self.file}, sha256 {self.sha256[:12]}, frozen {self.frozen[:10]})"
        done = "" if self.n_done == self.n_cells else f", {self.n_done} of {self.n_cells} cells"
        if self.departures:
            return f"departs from its plan {named}{done}: {'; '.join(self.departures)}"
        return f"as planned{' so far' if done else ''} {named}{done}"

    def as_dict(self) -> dict[str, Any]:
        """Return it as json-able data, the sentence included."""
        return {**asdict(self), "as_planned": not self.departures, "sentence": self.sentence}


def standing(
    plan: FrozenPlan,
    study: Study,
    cells: Sequence[Cell],
    records: Mapping[str, Record],
    *,
    due: int,
    looks: Sequence[Look] = (),
    measured: Mapping[Arm, Iterable[int]] | None = None,
) -> Standing:
    """Return how a study's results stand to the plan.

    ``cells`` are the planned ones, ``records`` their good records by cell id; ``due`` counts the
    cells that must have one by now, without later looks'. ``looks`` are those at the study's
    records so far, ``measured`` the seeds of which there are records.
    """
    planned = plan.studies[study.name]
    told = [
        *_other_seeds(planned, measured or {}),
        *_seen_before(plan, records),
        *_peeks(planned, cells, looks),
        *_margins(planned, study),
        *_claims(planned, study, cells),
    ]
    return Standing(
        plan.path.name,
        plan.sha256,
        plan.frozen,
        plan.alpha,
        planned.family,
        due,
        len(records),
        tuple(told),
    )


def looks_of(frozen: FrozenPlan, name: str) -> "Plan | None":
    """Return the looks that a frozen plan has at a study; None if it looks once."""
    from benchsuite.statistics.inference.sequential import Plan

    planned = frozen.studies.get(name)
    if planned is None or len(planned.looks) < 2:
        return None
    return Plan(planned.seeds, planned.looks, planned.spending)


def unpaid_looks(
    judged: Iterable[tuple[str, str, Iterable[int]]],
    looks: Sequence[Look],
    paid: Iterable[Iterable[int]] = (),
) -> list[str]:
    """Return a note on comparisons that were tested before with a part of the same seeds.

    ``judged`` are (claim, model, seeds), ``paid`` the seeds of looks that the p-values pay for.
    """
    stops = {frozenset(seeds) for seeds in paid}
    again: set[tuple[str, str]] = set()
    at: set[int] = set()
    for claim, model, seeds in judged:
        for look in looks:
            earlier = frozenset(look.seeds)
            known = model in look.judged.get(claim, ())
            if known and earlier not in stops and earlier < set(seeds):
                again.add((claim, model))
                at.add(len(earlier))
    if not again:
        return []
    told = ", ".join(map(str, sorted(at)))
    return [
        f"{count(len(again), 'comparison')} looked at before with fewer of the same seeds "
        f"({told}): several looks find more false differences than alpha says, and these p-values "
        "do not pay for them; --until-decided and `benchsuite plan` plan looks that do"
    ]


def _other_seeds(planned: StudyPlan, measured: Mapping[Arm, Iterable[int]]) -> Iterator[str]:
    known = {*planned.seeds, *planned.seen}
    arms = {arm: sorted(set(seeds) - known) for arm, seeds in measured.items()}
    others = sorted({seed for seeds in arms.values() for seed in seeds})
    if others:
        n = sum(bool(seeds) for seeds in arms.values())
        yield f"other seeds were measured too: {some(others, MOST_TOLD)} (of {count(n, 'arm')})"


def _seen_before(plan: FrozenPlan, records: Mapping[str, Record]) -> Iterator[str]:
    frozen = datetime.datetime.fromisoformat(plan.frozen)
    n = sum(_moment(r.started_at) < frozen for r in records.values() if r.started_at)
    if n:
        yield f"{count(n, 'cell')} of {len(records)} had been measured when it was frozen"


def _moment(text: str) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


def _peeks(planned: StudyPlan, cells: Sequence[Cell], looks: Sequence[Look]) -> Iterator[str]:
    """Yield the looks at planned seeds that the plan does not have, with the day of each."""
    groups = {group.label: group for group in groups_of(cells, {})}
    at_seeds = {
        (claim["claim"], on): _seeds(groups[on], claim)
        for claim in planned.claims
        for on in claim["on"]
        if on in groups
    }
    told: dict[tuple[int, ...], tuple[str, set[tuple[str, str]]]] = {}
    for look in looks:
        for sentence, models in look.judged.items():
            for model in models:
                asked = (sentence, model.removesuffix(" (stand-in)"))
                own, at = at_seeds.get(asked, set()), set(look.seeds)
                stops = [own & set(planned.seeds[:n]) for n in planned.looks]
                if at & own and at not in stops:
                    told.setdefault(look.seeds, (look.at[:10], set()))[1].add(asked)
    n = len(planned.seeds)
    for seeds, (day, judged) in list(told.items())[:MOST_TOLD]:
        inside = set(seeds) <= set(planned.seeds)
        where = f"{len(seeds)} of {n} seeds" if inside else f"the seeds {some(seeds, MOST_TOLD)}"
        yield f"{count(len(judged), 'comparison')} looked at on {day} at {where}, no planned look"
    if len(told) > MOST_TOLD:
        yield f"and {count(len(told) - MOST_TOLD, 'more such look')}"


def _seeds(group: Group, claim: Mapping[str, Any]) -> set[int]:
    """Return the planned seeds of a claim's arms; a method that runs once has the other's."""
    methods = (claim["method"], claim["other"])
    return {cell.seed for method in methods for cell in group.methods.get(method, ())}


def _margins(planned: StudyPlan, study: Study) -> Iterator[str]:
    now = margins_of(study)
    for name in dict.fromkeys((*planned.margins, *now)):
        before, after = planned.margins.get(name, "none"), now.get(name, "none")
        if before != after:
            yield f"the margin of {name} is {after}, planned was {before}"


def _claims(planned: StudyPlan, study: Study, cells: Sequence[Cell]) -> Iterator[str]:
    then = {claim["claim"]: claim for claim in planned.claims}
    now = {claim.sentence: claim for claim in study.claims}
    together = [set(group.methods) for group in groups_of(cells, {})]
    for sentence, claim in now.items():
        if sentence in then:
            changed = [f for f in CLAIM_FIELDS if getattr(claim, f) != then[sentence][f]]
            if changed:
                yield f"the claim {sentence!r} has another {', '.join(changed)} than planned"
        elif any({claim.method, claim.other or claim.method} <= methods for methods in together):
            yield f"the claim {sentence!r} was not planned"
    for sentence in then:
        if sentence not in now:
            yield f"the planned claim {sentence!r} is not declared any more"
