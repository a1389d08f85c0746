"""Are claims judged at the level that they promise? Studies of known truth through the judge.

A study here has four claims, one per kind of test: Welch, paired, one-sample against a constant
arm, and equivalence by TOST, judged as one Holm family by the code that judges real records. In a
*null* study all four are false. In a *real* study one is true, by the effect that the project says
these seeds find with 80 % power after correction; which one goes round. Counted are the studies
that hold any false claim, against alpha, and the true claims that are held, against 80 %.

    python benchmarks/speed/studies_simulated.py
"""

import argparse
import math
import platform
import sys
import time
from collections import Counter

import numpy as np

from benchsuite.records import environment
from benchsuite.statistics.inference.claims import Arm, Question, judge_family
from benchsuite.statistics.power import equivalence_margin, minimum_detectable_effect
from benchsuite.study import equivalent, lower

ALPHA, POWER = 0.05, 0.8
KINDS = ("welch", "paired", "one_sample", "tost")
# A seed that fixes shared randomness moves both arms by as much as each scatters on its own.
SHARED_STD = 1.0


def claims(n: int) -> list:
    """Return the four claims; the margin is what n seeds confirm with 80 % power."""
    margin = equivalence_margin(n, paired=False, welch=True, power=POWER, alpha=ALPHA / len(KINDS))
    return [
        lower("metric", "welch", than="other"),
        lower("metric", "paired", than="other", by_seed=True),
        lower("metric", "one_sample", than="constant"),
        equivalent("metric", "tost", to="other", within=margin),
    ]


def effects(n: int) -> dict[str, tuple[float, float]]:
    """Return per kind the true difference if the claim is false, and if it is true.

    In standard deviations of one arm, of the differences for pairs. Equality is false at the edge
    of the margin and true at no difference.
    """
    corrected = ALPHA / len(KINDS)

    def detectable(paired: bool) -> float:
        return -minimum_detectable_effect(
            n, paired=paired, welch=not paired, power=POWER, alpha=corrected
        )

    margin = equivalence_margin(n, paired=False, welch=True, power=POWER, alpha=corrected)
    return {
        "welch": (0.0, detectable(False)),
        "paired": (0.0, detectable(True) * math.sqrt(2)),
        "one_sample": (0.0, detectable(True)),
        "tost": (margin, 0.0),
    }


def judged(rng: np.random.Generator, n: int, true: str | None, known: list, sizes: dict) -> dict:
    """Draw one study in which only the claim ``true`` is true; return kind -> outcome."""
    questions = []
    for claim in known:
        other = rng.normal(size=n)
        arm = rng.normal(size=n) + sizes[claim.method][claim.method == true]
        if claim.method == "one_sample":
            other = np.zeros(n)
        if claim.by_seed:
            shared = SHARED_STD * rng.normal(size=n)
            arm, other = arm + shared, other + shared
        arms = (Arm(dict(enumerate(values.tolist()))) for values in (arm, other))
        questions.append(Question(claim, "simulated", *arms, claim.by_seed))
    return {j.claim.method: j.outcome for j in judge_family(questions, alpha=ALPHA)}


def simulate(n: int, studies: int, rng: np.random.Generator) -> dict[str, float]:
    """Return the shares over null and real studies with n seeds an arm."""
    known, sizes = claims(n), effects(n)
    null_alarms = real_alarms = 0
    held: Counter[str] = Counter()
    for i in range(studies):
        outcomes = judged(rng, n, None, known, sizes)
        null_alarms += any(false_claim(kind, outcome) for kind, outcome in outcomes.items())
        true = KINDS[i % len(KINDS)]
        outcomes = judged(rng, n, true, known, sizes)
        held[true] += outcomes.pop(true) == "held"
        real_alarms += any(false_claim(kind, outcome) for kind, outcome in outcomes.items())
    tried = {kind: len(range(i, studies, len(KINDS))) for i, kind in enumerate(KINDS)}
    power = {kind: held[kind] / tried[kind] for kind in KINDS}
    return {"null": null_alarms / studies, "real": real_alarms / studies, **power}


def false_claim(kind: str, outcome: str) -> bool:
    """Say whether a verdict on a claim that is false is an error: a difference, or an equality."""
    return outcome == "held" if kind == "tost" else outcome in ("held", "violated")


def main() -> int:
    """Print the table; status 1 if false positives exceed alpha by more than 3 standard errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=10_000, help="null and real ones, each")
    parser.add_argument("--rng-seed", type=int, default=0)
    options = parser.parse_args()
    rng, start = np.random.default_rng(options.rng_seed), time.perf_counter()
    error = math.sqrt(ALPHA * (1 - ALPHA) / options.studies)
    print(f"alpha {ALPHA}, Monte-Carlo SE {error:.4f}, so at most {ALPHA + 3 * error:.4f}\n")
    print("| seeds | null studies with a false claim | real ones | " + " | ".join(KINDS) + " |")
    print("|---" * (3 + len(KINDS)) + "|")
    worst = 0.0
    for n in (3, 5, 10):
        seen = simulate(n, options.studies, rng)
        worst = max(worst, seen["null"], seen["real"])
        shares = " | ".join(f"{100 * seen[kind]:.1f} %" for kind in KINDS)
        print(f"| {n} | {seen['null']:.4f} | {seen['real']:.4f} | {shares} |")
    took, cpu = time.perf_counter() - start, environment.cpu().name
    print(
        f"\n{options.studies} null and as many real studies a row, {took:.0f} s on {cpu}, ", end=""
    )
    print(f"Python {platform.python_version()}, numpy {np.__version__}")
    return int(worst > ALPHA + 3 * error)


if __name__ == "__main__":
    sys.exit(main())
