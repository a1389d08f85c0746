"""Are claims judged at the level that they promise? Studies of known truth through the judge.

Every study drawn here goes through ``judge_family``, which judges real records. Five tables:

- *kinds*: four claims, one per kind of test, in one family. In a null study all are false. In a
  real one a single claim is true, by the effect that the project says these seeds find with 80 %
  power after correction; which one goes round.
- *families*: 7 models with 3 claims each, all false: Welch's, against a constant, a scatter at its
  limit.
- *edges*: equivalence at the edge of its margin, 8 models, where neither verdict is right.
- *looks*: Welch's test with unequal variances, seeds added look by look.
- *sizes*: 8 comparisons of differences 0, the margin and twice the margin: are all intervals right,
  and all five verdicts?

What skewed seeds do is ``skewed_seeds_simulated.py``'s.

    python benchmarks/speed/studies_simulated.py [--only families] [--studies 10000]
"""

import argparse
import math
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

from benchsuite.records import environment
from benchsuite.statistics.inference.claims import Arm, Judgement, Question, judge_family
from benchsuite.statistics.inference.sequential import Plan
from benchsuite.statistics.power import equivalence_margin, minimum_detectable_effect
from benchsuite.statistics.unequal import guarded_level
from benchsuite.study import Metric, cv_below, equivalent, lower

ALPHA, POWER = 0.05, 0.8
SEEDS = (3, 5, 10)
KINDS = ("welch", "paired", "one_sample", "tost")
RATIOS = (1, 3, 10)  # one arm's standard deviation over the other's
LOOKS = ((3, 6, 9, 12), (5, 10, 15, 20))
# A seed that fixes shared randomness moves both arms by as much as each scatters on its own.
SHARED_STD = 1.0
# Below what any of these seeds could resolve, so that no false claim is excused as a trivial one.
METRIC = Metric("metric", better="lower", margin="0.001")

Rng = np.random.Generator


def arms(rng: Rng, n: int, shift: float = 0.0, ratio: float = 1.0) -> tuple[Arm, Arm]:
    """Return two arms of n seeds, the first shifted, the second with a larger scatter."""
    a, b = rng.normal(shift, 1.0, n), rng.normal(0.0, ratio, n)
    return _arm(a), _arm(b)


def _arm(values: np.ndarray) -> Arm:
    return Arm(dict(enumerate(values.tolist())))


def _plan(looks: tuple[int, ...]) -> Plan:
    return Plan(tuple(range(looks[-1])), looks)


# --- kinds


def claims(n: int) -> list:
    """Return the four claims; the margin is what n seeds confirm with 80 % power."""
    margin = _detectable(n)["margin"]
    return [
        lower("metric", "welch", than="other"),
        lower("metric", "paired", than="other", by_seed=True),
        lower("metric", "one_sample", than="constant"),
        equivalent("metric", "tost", to="other", within=margin),
    ]


def _detectable(n: int) -> dict[str, float]:
    corrected = ALPHA / len(KINDS)
    guarded = guarded_level(corrected, n, n)
    return {
        "welch": minimum_detectable_effect(n, paired=False, welch=True, alpha=guarded),
        "paired": minimum_detectable_effect(n, paired=True, alpha=corrected),
        "margin": equivalence_margin(n, paired=False, welch=True, alpha=guarded / 2),
    }


def effects(n: int) -> dict[str, tuple[float, float]]:
    """Return per kind the true difference if the claim is false, and if it is true.

    In standard deviations of one arm, of the differences for pairs. Equality is false at the edge
    of the margin and true at no difference.
    """
    found = _detectable(n)
    return {
        "welch": (0.0, -found["welch"]),
        "paired": (0.0, -found["paired"] * math.sqrt(2)),
        "one_sample": (0.0, -found["paired"]),
        "tost": (found["margin"], 0.0),
    }


def judged(rng: Rng, n: int, true: str | None, known: list, sizes: dict) -> dict[str, Judgement]:
    """Draw one study in which only the claim ``true`` is true; return kind -> judgement."""
    questions = []
    for claim in known:
        other = rng.normal(size=n)
        arm = rng.normal(size=n) + sizes[claim.method][claim.method == true]
        if claim.method == "one_sample":
            other = np.zeros(n)
        if claim.by_seed:
            shared = SHARED_STD * rng.normal(size=n)
            arm, other = arm + shared, other + shared
        questions.append(
            Question(claim, "simulated", _arm(arm), _arm(other), claim.by_seed, METRIC)
        )
    return {j.claim.method: j for j in judge_family(questions, alpha=ALPHA)}


def simulate(n: int, studies: int, rng: Rng) -> dict[str, float]:
    """Return the shares over null and real studies with n seeds an arm.

    ``mde`` is how often the interval of the detectable effect holds the one of the true scatter.
    """
    known, sizes = claims(n), effects(n)
    null_alarms = real_alarms = covered = told = 0
    held: Counter[str] = Counter()
    for i in range(studies):
        found = judged(rng, n, None, known, sizes)
        null_alarms += any(false_claim(kind, j.outcome) for kind, j in found.items())
        for kind, true_std in (("welch", 1.0), ("paired", math.sqrt(2)), ("one_sample", 1.0)):
            seen = found[kind].evidence
            low, high = seen["mde_ci95"]
            told += 1
            covered += low <= seen["mde_d_corrected"] * true_std <= high
        true = KINDS[i % len(KINDS)]
        found = judged(rng, n, true, known, sizes)
        held[true] += found.pop(true).outcome == "held"
        real_alarms += any(false_claim(kind, j.outcome) for kind, j in found.items())
    tried = {kind: len(range(i, studies, len(KINDS))) for i, kind in enumerate(KINDS)}
    power = {kind: held[kind] / tried[kind] for kind in KINDS}
    mde = covered / told
    return {"null": null_alarms / studies, "real": real_alarms / studies, "mde": mde, **power}


def false_claim(kind: str, outcome: str) -> bool:
    """Say whether a verdict on a claim that is false is an error.

    Any verdict is: of no difference that it has a sign, of the margin's edge that it is inside or
    outside.
    """
    return outcome in ("held", "violated")


def kinds(studies: int, rng: Rng) -> Iterator[tuple[str, float, int, str]]:
    """Yield the rows of the first table."""
    for n in SEEDS:
        seen = simulate(n, studies, rng)
        yield f"{n} seeds, null: any false claim", seen["null"], studies, "alpha"
        yield f"{n} seeds, one claim true: any false claim", seen["real"], studies, "alpha"
        for kind in KINDS:
            yield f"{n} seeds, found: {kind}", seen[kind], studies // len(KINDS), "power"
        yield f"{n} seeds, interval of the detectable effect", seen["mde"], 3 * studies, "95 %"


# --- families, edges, looks


def families(studies: int, rng: Rng) -> Iterator[tuple[str, float, int, str]]:
    """Yield how often a family of 7 models with 3 claims each makes any false one."""
    asked = (
        lower("metric", "a", than="b"),
        lower("metric", "a", than="constant"),
        cv_below("metric", "a", 1.0),
    )

    def one(n: int, ratio: float) -> list[Question]:
        questions = []
        for model in range(7):
            # A mean of 100 makes the standard deviation of 1 a cv of 1 %: the limit.
            a, b = (rng.normal(100.0, std, n) for std in (1.0, ratio))
            others = (_arm(b), _arm(np.full(n, 100.0)), None)
            questions += [
                Question(claim, f"m{model}", _arm(a), other, shown=METRIC)
                for claim, other in zip(asked, others, strict=True)
            ]
        return questions

    for n in SEEDS:
        for ratio in RATIOS:
            seen = _share(studies, lambda: any_verdict(judge_family(one(n, ratio))))  # noqa: B023
            yield f"{n} seeds, 7 x 3 claims, scatter 1 : {ratio}", seen, studies, "alpha"


def edges(studies: int, rng: Rng) -> Iterator[tuple[str, float, int, str]]:
    """Yield how often 8 equivalences at the edge of the margin get any verdict."""
    claim = equivalent("metric", "a", to="b", within=3.0)

    def one(n: int) -> list[Question]:
        return [Question(claim, f"m{i}", *arms(rng, n, 3.0), shown=METRIC) for i in range(8)]

    for n in SEEDS:
        seen = _share(studies, lambda: any_verdict(judge_family(one(n))))  # noqa: B023
        yield f"{n} seeds, 8 equivalences at the edge", seen, studies, "alpha"
    for looks in LOOKS:
        seen = _share(
            studies,
            lambda: any_verdict(judge_family(one(looks[-1]), plan=_plan(looks))),  # noqa: B023
        )
        yield f"looks at {_told(looks)}, 8 equivalences at the edge", seen, studies, "alpha"


def looks(studies: int, rng: Rng) -> Iterator[tuple[str, float, int, str]]:
    """Yield how often Welch's test over looks makes a false claim at unequal variances."""
    claim = lower("metric", "a", than="b")
    for taken in LOOKS:
        for size in (1, 8):
            for ratio in RATIOS:

                def one(size: int = size, ratio: float = ratio, taken=taken) -> bool:  # type: ignore[no-untyped-def]
                    pairs = [arms(rng, taken[-1], ratio=ratio) for _ in range(size)]
                    asked = [
                        Question(claim, f"m{i}", *pair, shown=METRIC)
                        for i, pair in enumerate(pairs)
                    ]
                    return any_verdict(judge_family(asked, plan=_plan(taken)))

                rounds = studies if size > 1 else 4 * studies
                what = f"looks at {_told(taken)}, {size} Welch, scatter 1 : {ratio}"
                yield what, _share(rounds, one), rounds, "alpha"


def any_verdict(judgements: list[Judgement]) -> bool:
    """Say whether a family of claims, of which none can be decided rightly, has any verdict."""
    return any(j.outcome in ("held", "violated") for j in judgements)


# --- sizes


def sizes(studies: int, rng: Rng) -> Iterator[tuple[str, float, int, str]]:
    """Yield how often all 8 simultaneous intervals cover, and how often any verdict is false."""
    claim, margin = lower("metric", "a", than="b"), 4.0
    metric = Metric("metric", better="lower", margin=f"{margin:g}")
    truths = [margin * factor for factor in (0, 0, 0, 1, -1, 1, 2, -2)]
    cases = [(n, ratio, None) for n in SEEDS for ratio in RATIOS]
    cases += [(taken[-1], 3, _plan(taken)) for taken in LOOKS]
    for n, ratio, plan in cases:
        covered = signs = within = either = 0
        for _ in range(studies):
            asked = [
                Question(claim, f"m{i}", *arms(rng, n, truth, ratio), shown=metric)
                for i, truth in enumerate(truths)
            ]
            found = judge_family(asked, plan=plan)
            ends = [j.evidence["ci_simultaneous"] for j in found]
            covered += all(e[0] <= t <= e[1] for e, t in zip(ends, truths, strict=True))
            wrong = {
                false
                for j, truth in zip(found, truths, strict=True)
                if (false := false_verdict(j.verdict, truth, margin))
            }
            signs += "sign" in wrong
            within += "within" in wrong
            either += bool(wrong)
        what = f"looks at {_told(plan.looks)}" if plan else f"{n} seeds"
        what += f", 8 comparisons, scatter 1 : {ratio}"
        yield f"{what}: not all intervals cover", 1 - covered / studies, studies, "alpha"
        yield f"{what}: any false difference", signs / studies, studies, "alpha"
        yield f"{what}: any falsely within the margin", within / studies, studies, "alpha"
        yield f"{what}: either", either / studies, studies, ""


def false_verdict(verdict: str, truth: float, margin: float) -> str:
    """Say what is false about a verdict: that there is a difference, that it is within, or none."""
    if verdict in ("better", "worse") and (truth == 0 or (truth < 0) != (verdict == "better")):
        return "sign"
    if verdict == "trivially different" and truth == 0:
        return "sign"
    small = verdict in ("equivalent", "trivially different")
    return "within" if small and abs(truth) >= margin else ""


def _share(rounds: int, happens: Callable[[], bool]) -> float:
    return sum(happens() for _ in range(rounds)) / rounds


def _told(taken: tuple[int, ...]) -> str:
    return ", ".join(map(str, taken))


TABLES: dict[str, tuple[Callable[[int, Rng], Iterator[tuple[str, float, int, str]]], int]] = {
    # Each with the part of --studies that it takes: a family costs more than a claim.
    "kinds": (kinds, 1),
    "families": (families, 4),
    "edges": (edges, 4),
    "looks": (looks, 4),
    "sizes": (sizes, 4),
}


def is_kept(share: float, rounds: int, bar: str) -> bool:
    """Say whether a share keeps its bar within three Monte-Carlo standard errors."""
    if bar == "alpha":
        return share <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / rounds)
    goal = {"power": POWER, "95 %": 0.95}.get(bar)
    # Welch's power is worked out for estimated degrees of freedom: it is met, not only reached.
    return goal is None or abs(share - goal) <= 3 * math.sqrt(goal * (1 - goal) / rounds)


def main() -> int:
    """Print the tables; status 1 if a bar is missed by more than 3 standard errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=10_000, help="of the first table")
    parser.add_argument("--only", choices=TABLES, help="one table alone")
    parser.add_argument("--rng-seed", type=int, default=0)
    options = parser.parse_args()
    start, missed = time.perf_counter(), 0
    print("| studies of known truth | share | SE | studies | bar |", flush=True)
    print("|---|---|---|---|---|")
    for name, (table, part) in TABLES.items():
        if options.only in (None, name):
            rng = np.random.default_rng(options.rng_seed)
            for what, share, rounds, bar in table(options.studies // part, rng):
                error = math.sqrt(share * (1 - share) / max(rounds, 1))
                kept = is_kept(share, rounds, bar)
                missed += not kept
                told = f"{bar}{'' if kept else ' MISSED'}"
                print(
                    f"| {what} | {100 * share:.1f} % | {100 * error:.2f} | {rounds} | {told} |",
                    flush=True,
                )
    took, cpu = time.perf_counter() - start, environment.cpu().name
    print(f"\n{took:.0f} s on {cpu}, Python {platform.python_version()}, numpy {np.__version__}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
