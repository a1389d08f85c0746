"""Judge claims: held, violated, inconclusive (with what could have been seen) or not run.

A family is judged together, so that Holm's correction covers every comparison declared for it.
Beside the outcome, which says whether what was claimed is so, stands a comparison's verdict:
better, worse, equivalent, trivially different or inconclusive.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from benchsuite.statistics.compare import holm
from benchsuite.statistics.inference import arms, items, verdicts, wording
from benchsuite.statistics.inference.sequential import (
    Plan,
    looks_taken,
    nominal_levels,
    sequential_p,
)
from benchsuite.statistics.item_tests import identity
from benchsuite.statistics.pairing import PerItem
from benchsuite.statistics.ranking import Ranking
from benchsuite.statistics.rounding import Display


class ClaimLike(Protocol):
    """What is read of a claim (``benchsuite.study.Claim``, which nothing here may import)."""

    @property
    def sentence(self) -> str: ...  # noqa: D102
    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def metric(self) -> str: ...  # noqa: D102
    @property
    def method(self) -> str: ...  # noqa: D102
    @property
    def other(self) -> str | None: ...  # noqa: D102
    @property
    def limit(self) -> float | None: ...  # noqa: D102
    @property
    def control(self) -> bool: ...  # noqa: D102
    @property
    def over_items(self) -> bool: ...  # noqa: D102
    @property
    def tested(self) -> bool: ...  # noqa: D102
    @property
    def fails_session(self) -> bool: ...  # noqa: D102


class MetricLike(Display, Protocol):
    """What is read of a metric (``benchsuite.study.Metric``) to judge by it and to show it."""

    @property
    def better(self) -> str: ...  # noqa: D102
    @property
    def margin(self) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class Plain:
    """A metric of which nothing is known: a number as stored, of which half a percent matters."""

    scale: float = 1
    unit: str = ""
    format: str = ""
    better: str = ""
    margin: str = "0.5%"


@dataclass(frozen=True)
class Arm:
    """One method's results on one model.

    ``values`` maps seed to the claim's metric, ``items`` seed to per-item evidence whose mean
    ``item_metric`` turns into the metric (``np.exp`` for NLL and perplexity). ``rankings`` maps
    seed to which items are positive and their scores, of which the metric is the AUROC. A
    ``constant`` arm has no randomness of its own: one seed's value stands for all. ``missing``
    are the ids of declared cells without a usable record: a claim is judged on the seeds declared
    for it, because judging while they come in would raise the rate of false positives. ``empty``
    are those of them whose record is there and holds no value. ``lacking`` is the column of items
    that the metric declares, where records keep items and none has it. ``unlike`` is that of items
    that make quite another number. ``unnamed`` and ``ungrouped`` are the columns that would name
    the items and say what they share, where records lack them; ``torn`` is the latter where the two
    arms' records disagree.
    """

    values: Mapping[int, Any]
    items: Mapping[int, PerItem | Sequence[float]] = field(default_factory=dict)
    missing: Sequence[str] = ()
    item_metric: Callable[[Any], Any] = identity
    rankings: Mapping[int, Ranking] = field(default_factory=dict)
    constant: bool = False
    empty: Sequence[str] = ()
    lacking: str = ""
    unlike: str = ""
    unnamed: str = ""
    ungrouped: str = ""
    torn: str = ""


@dataclass(frozen=True)
class Question:
    """A claim with the results that answer it on one model, and what its metric is like.

    ``asked`` says that it was declared for this family: a comparison counts then, run or not.
    """

    claim: ClaimLike
    model: str
    arm: Arm
    other: Arm | None = None
    by_seed: bool = False
    shown: MetricLike = Plain()
    asked: bool = True


@dataclass(frozen=True)
class Judgement:
    """A judged claim: ``outcome`` is held, violated, inconclusive or not_run.

    ``sentence`` says it in words; ``evidence`` is json-able. ``verdict`` says how a comparison came
    out: better or worse (``different`` where the metric has no better side), equivalent (within the
    smallest effect that matters), trivially different (significant, and within it) or inconclusive.
    It is empty for other claims and for what was not run.
    """

    claim: ClaimLike
    model: str
    outcome: str
    sentence: str
    evidence: Mapping[str, Any]
    verdict: str = ""

    @property
    def is_open(self) -> bool:
        """Whether more seeds may decide it: not so where a difference is known not to matter."""
        return self.outcome == "inconclusive" == self.verdict

    def as_dict(self) -> dict[str, Any]:
        """Return the judgement as json-able data."""
        claim = self.claim
        return {
            "claim": claim.sentence,
            "kind": claim.kind,
            "metric": claim.metric,
            "method": claim.method,
            "other": claim.other,
            "limit": claim.limit,
            "control": claim.control,
            "model": self.model,
            "outcome": self.outcome,
            "verdict": self.verdict,
            "sentence": self.sentence,
            "evidence": dict(self.evidence),
        }


def judge(
    claim: ClaimLike,
    model: str,
    arm: Arm,
    other: Arm | None = None,
    *,
    by_seed: bool = False,
    alpha: float = 0.05,
) -> Judgement:
    """Judge one claim on one model, as a family of its own.

    ``by_seed`` declares that a seed fixes randomness shared by both arms: the paired t-test then
    decides. Otherwise Welch's does, or the one-sample test where one arm is constant.
    """
    return judge_family([Question(claim, model, arm, other, by_seed)], alpha=alpha)[0]


def judge_family(
    questions: Iterable[Question],
    *,
    alpha: float = 0.05,
    plan: Plan | None = None,
    declared: int = 0,
) -> list[Judgement]:
    """Judge all claims of a pre-declared family; comparisons are corrected together by Holm.

    The family is what was asked for, not what has run: a comparison or a scatter that has no
    p-value yet counts like one that is never significant. What is exact is no test and does not
    count.
    ``declared`` is the least size of the family, where more was declared than is asked here. With a
    ``plan`` seeds were added look by look: a comparison's p-value is then the least alpha at which
    one of the looks so far would have decided it, and its interval is that of the look told.
    """
    asked = list(questions)
    if plan is None:
        drafts = [_draft(question) for question in asked]
    else:
        n = max(declared, sum(q.claim.tested and q.asked for q in asked))
        drafts = [_draft_by_looks(question, alpha, plan, n) for question in asked]
    family = [_in_family(*pair) for pair in zip(asked, drafts, strict=True)]
    known = sum(p is not None for p in family)
    size = max(known, declared)
    corrected = holm([*family, *[1.0] * (size - known)])
    judgements = []
    for question, draft, p_holm in zip(asked, drafts, corrected, strict=False):
        if draft.p_value is not None:
            facts = {"p_holm": p_holm, "family_size": size, "alpha": alpha}
            draft = replace(draft, evidence={**draft.evidence, **facts})
        if draft.outcome == "not_run":
            empty = [*question.arm.empty, *(question.other.empty if question.other else ())]
            draft = replace(draft, evidence={**draft.evidence, "empty": empty})
        draft = verdicts.decide(draft, question.shown, control=question.claim.control)
        told = wording.sentence(question.claim, question.model, draft, question.shown)
        judged = (question.claim, question.model, draft.outcome, told, draft.evidence)
        undecided = question.claim.other and draft.outcome == "inconclusive"
        judgements.append(
            Judgement(*judged, draft.verdict or ("inconclusive" if undecided else ""))
        )
    return judgements


def _in_family(question: Question, draft: verdicts.Draft) -> float | None:
    """Return the p-value with which a question counts in its family; None if it does not count."""
    exact = draft.evidence.get("test") == "exact" or draft.outcome == "held"
    if draft.p_value is None and question.asked and question.claim.tested and not exact:
        return 1.0
    return draft.p_value


def _draft_by_looks(question: Question, alpha: float, plan: Plan, n: int) -> verdicts.Draft:
    claim, arm, other = question.claim, question.arm, question.other
    present = set(arm.values) & set(other.values if other else arm.values)
    looks = plan.looks[: looks_taken(plan, present)]
    if claim.over_items or not looks:
        return _draft(question)
    if claim.kind in ("identical", "true"):
        return _draft(replace(question, arm=replace(arm, missing=())))
    drafts = [_draft(_of_seeds(question, plan.seeds[:look])) for look in looks]
    joint = drafts[-1].evidence["test"] == "welch"
    spent = sequential_p(
        [draft.p_value for draft in drafts], plan.fractions, spending=plan.spending, joint=joint
    )
    known = [p for p in spent if p is not None]
    if not known:
        return drafts[-1]
    least = min(known)
    # A comparison is told as of the look that decides it beside n others; an open one as it stands.
    decided = (draft for draft, p in zip(drafts, spent, strict=True) if p and p < alpha / n)
    draft = next(decided, drafts[spent.index(least)] if least < alpha else drafts[-1])
    look = drafts.index(draft)

    def level(granted: float) -> float:
        taken = nominal_levels(plan.fractions, alpha=granted, spending=plan.spending, joint=joint)
        return draft.level(taken[look])

    told = {
        "looks": list(looks),
        "looks_planned": list(plan.looks),
        "spending": plan.spending,
        "p_sequential": least,
    }
    return replace(draft, p_value=least, evidence={**draft.evidence, **told}, level=level)


def _of_seeds(question: Question, seeds: Sequence[int]) -> Question:
    def only(arm: Arm) -> Arm:
        values = {seed: arm.values[seed] for seed in seeds}
        items = {seed: arm.items[seed] for seed in seeds if seed in arm.items}
        return replace(arm, values=values, items=items, missing=())

    other = question.other and only(question.other)
    return replace(question, arm=only(question.arm), other=other)


def _draft(question: Question) -> verdicts.Draft:
    claim, arm, other = question.claim, question.arm, question.other
    if claim.kind == "identical":
        return verdicts.identical(arm.values, arm.missing)
    if claim.kind == "true":
        return verdicts.true(arm.values, arm.missing)
    missing = [*arm.missing, *(other.missing if other else ())]
    if claim.over_items and other is not None and not missing:
        ranked = items.ranked(arm, other, claim.kind)
        lacking = arm.lacking or other.lacking
        told = {"lacking": lacking} if lacking else {}
        return replace(ranked, evidence={**ranked.evidence, **told, **_of_items(question)})
    if missing or not arm.values or (claim.other and (other is None or not other.values)):
        return verdicts.not_run(missing)
    if claim.kind == "cv_below":
        return verdicts.cv_below(arm.values, claim.limit)
    if other is None or claim.kind not in ("lower", "higher", "equivalent"):
        raise ValueError(f"the claim {claim.sentence!r} is of the unknown kind {claim.kind!r}")
    return _compared(question, other)


def _compared(question: Question, other: Arm) -> verdicts.Draft:
    """Compare two arms that ran: by their seeds or, where nothing varies, by their items."""
    claim, arm = question.claim, question.arm
    names = (claim.method, claim.other or "")
    evidence = arms.compared(arm.values, other.values, question.by_seed, names)
    evidence["once"] = [arm.constant, other.constant]
    evidence |= items.item_evidence(arm, other, question.by_seed)
    still = evidence["test"] == "exact" or (arm.constant and other.constant)
    lacking = arm.lacking or other.lacking
    if still and lacking:
        # Where nothing varies over seeds the items would decide: whoever reads it should know.
        evidence["lacking"] = lacking
    if unlike := arm.unlike or other.unlike:
        evidence["unlike"] = unlike
    if "items" in evidence:
        evidence |= _of_items(question)
    if claim.kind == "equivalent":
        over_items = items.constant_equivalent(claim.limit, evidence) if still else None
        return over_items or verdicts.equivalent(
            arm.values, other.values, claim.limit, evidence, question.by_seed
        )
    if still:
        return items.constant(arm, other, claim.kind, evidence)
    return verdicts.ordered(claim.kind, evidence)


def _of_items(question: Question) -> dict[str, Any]:
    """Return what is amiss with the items' names and clusters: the columns, by what they lack.

    ``unnamed`` and ``ungrouped`` map a column to the methods whose records do not have it.
    """
    told: dict[str, Any] = {"torn": question.arm.torn} if question.arm.torn else {}
    arms = ((question.claim.method, question.arm), (question.claim.other, question.other))
    for what in ("unnamed", "ungrouped"):
        for method, arm in arms:
            if column := getattr(arm, what, ""):
                told.setdefault(what, {}).setdefault(column, []).append(method)
    return told
