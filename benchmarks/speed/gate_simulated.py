"""Does the gate keep its promise? Candidates of known loss through the code that judges real ones.

A candidate here answers the base's questions, and a known share of the answers differs: 1 in 10,
or 3 in 100. Its true loss is 0, or the margin of 1 point, the edge at which "worse" and "not worse"
are both false. Power is taken at the margin, and at the loss, that so many questions are promised
to find. Each candidate is judged once, and with early ends. Beside it stands the gate that is known
to be flaky: it fails whoever loses more than 2 points on the questions that were asked.

A second table judges families: three accuracies, an F1 and a perplexity at once. A third one takes
perplexities and KL of a few chunks, whose true mean is the margin.

    python benchmarks/speed/gate_simulated.py
"""

import argparse
import math
import platform
import sys
import time

import numpy as np
import scipy

from benchsuite.comparing import EarlyEnd, PairedItems
from benchsuite.comparing.early import batches, last_level
from benchsuite.records import environment
from benchsuite.statistics.paired_means import differences, mean_above, mean_below
from benchsuite.statistics.paired_shares import margin_confirmed, power_below

ALPHA, POWER, MARGIN, RIGHT = 0.05, 0.9, 0.01, 0.6
SIZES = (200, 1000, 5000)
SHARES = (
    1,
    0.5,
    0.3,
)  # of the rounds: an exact test of 5,000 questions takes as long as ten of 200
DIFFERING = (0.1, 0.03)
POINTS = 0.02  # what the flaky gate allows, on point estimates


def answers(
    rng: np.random.Generator, n: int, loss: float, differing: float, name: str = "accuracy:all"
) -> PairedItems:
    """Draw n questions whose two answers are correlated: a share ``differing`` is not alike."""
    lost, gained = (differing + loss) / 2, (differing - loss) / 2
    both = RIGHT - lost
    kind = rng.choice(4, size=n, p=[lost, gained, both, 1 - both - lost - gained])
    base, candidate = np.isin(kind, (0, 2)), np.isin(kind, (1, 2))
    return PairedItems(name, _ids(n), base.astype(float), candidate.astype(float))


def scores(rng: np.random.Generator, n: int, loss: float, differing: float) -> PairedItems:
    """Draw n F1 scores; where they differ, by up to 1, losses are more frequent than gains."""
    base = np.full(n, 0.5)
    up = 0.5 + 2 * loss / differing
    side = np.where(rng.random(n) < up, -1.0, 1.0)
    off = np.where(rng.random(n) < differing, side * rng.random(n) / 2, 0.0)
    return PairedItems("f1:all", _ids(n), base, base + off)


def chunks(rng: np.random.Generator, n: int, loss: float) -> PairedItems:
    """Draw n chunks whose nats per token differ by ``loss`` with a scatter of three losses."""
    base = rng.normal(2.5, 0.4, n)
    return PairedItems("nll", _ids(n), base, base + rng.normal(loss, 0.015, n))


def outcome(items: list[PairedItems], margin: float, *, early: bool) -> tuple[str, int]:
    """Return what the gate says of the candidate, and of how many items of the first metric."""
    judge = EarlyEnd(
        {one.metric: len(one.ids) for one in items},
        margins={"accuracy": str(100 * margin)},
        alpha=ALPHA,
        power=POWER,
    )
    if not early:
        return judge.feed(items), len(items[0].ids)
    seen = 0
    for batch in zip(*map(batches, items), strict=True):
        seen += len(batch[0].ids)
        if judge.feed(batch) != "undecided":
            break
    return judge.outcome, seen


def found_by(n: int, differing: float, alpha: float) -> tuple[float, float]:
    """Return the margin that n questions confirm at no loss with ``POWER``, and the loss they see.

    The loss is one above that margin that is found to be worse, with the same power.
    """

    margin = margin_confirmed(n, differing=differing, alpha=alpha, power=POWER)
    loss, high = margin, 0.6
    while high - loss > 1e-5:
        middle = (loss + high) / 2
        share = max(differing, middle)
        found = power_below(n, -margin, loss=-middle, differing=share, alpha=alpha)
        loss, high = (loss, middle) if found >= POWER else (middle, high)
    return margin, high


def simulate(
    rng: np.random.Generator, n: int, differing: float, rounds: int, *, early: bool
) -> dict[str, float]:
    """Return the rates over candidates of no loss, at the margin, and at what n finds."""
    confirmed, worse = found_by(n, differing, last_level(ALPHA) if early else ALPHA)
    cases = {
        "none": (0.0, MARGIN, differing),
        "edge": (MARGIN, MARGIN, differing),
        "confirmed": (0.0, confirmed, differing),
        "found": (worse, confirmed, max(differing, worse)),
    }
    rates = {"margin": confirmed, "loss": worse}
    for case, (loss, margin, share) in cases.items():
        outcomes, seen, flaky = [], 0, 0
        for _ in range(rounds):
            items = answers(rng, n, loss, share)
            said, used = outcome([items], margin, early=early)
            outcomes.append(said)
            seen += used
            flaky += float((items.base - items.candidate).mean()) > POINTS + 1e-9
        for said in ("worse", "not_worse"):
            rates[f"{case}:{said}"] = outcomes.count(said) / rounds
        rates[f"{case}:items"] = seen / rounds / n
        rates[f"{case}:flaky"] = flaky / rounds
    return rates


def family(rng: np.random.Generator, n: int, at_edge: int) -> list[PairedItems]:
    """Draw five metrics: the first ``at_edge`` lose their margin, the others gain five margins."""
    sign = [1 if i < at_edge else -5 for i in range(5)]
    return [
        answers(rng, n, MARGIN * sign[0], 0.1, "accuracy:a"),
        chunks(rng, 64, math.log(1.005) * sign[1]),
        scores(rng, n, MARGIN * sign[2], 0.25),
        answers(rng, n, MARGIN * sign[3], 0.1, "accuracy:b"),
        answers(rng, n, MARGIN * sign[4], 0.06, "accuracy:c"),
    ]


def families(rng: np.random.Generator, n: int, rounds: int, *, early: bool) -> dict[str, float]:
    """Return how often five metrics at their margins are worse, and one alone is let pass."""
    all_, one = [
        [outcome(family(rng, n, k), MARGIN, early=early)[0] for _ in range(rounds)] for k in (5, 1)
    ]
    return {"worse": all_.count("worse") / rounds, "not_worse": one.count("not_worse") / rounds}


CHUNKS = (4, 8, 12, 16, 24, 32, 64)
# By chunk, mean 1: from what a text gives to what a text with a few hard chunks does.
SHAPES = {
    "normal, sd .3": lambda rng, n: rng.normal(1, 0.3, n),
    "gamma, sd .3": lambda rng, n: rng.gamma(11.1, 1 / 11.1, n),
    "lognormal, sd .5": lambda rng, n: rng.lognormal(-0.1116, 0.4724, n),
    "exponential, sd 1": lambda rng, n: rng.exponential(1, n),
    "t of 3 degrees": lambda rng, n: 1 + rng.standard_t(3, n),
    "lognormal, sd 1.3": lambda rng, n: rng.lognormal(-0.5, 1, n),
}


def of_chunks(rng: np.random.Generator, shape: str, n: int, rounds: int) -> dict[str, float]:
    """Return how often chunks whose mean is the edge are called better or worse than that."""
    rows = [differences(SHAPES[shape](rng, n), bounded=False) for _ in range(rounds)]
    return {
        "not_worse": float(np.mean([mean_below(row, 1.0) <= ALPHA for row in rows])),
        "worse": float(np.mean([mean_above(row, 1.0) <= ALPHA for row in rows])),
    }


def error(rounds: int, rate: float = ALPHA) -> float:
    """Return the Monte-Carlo standard error of a rate."""
    return math.sqrt(rate * (1 - rate) / rounds)


def print_answers(rng: np.random.Generator, most: int) -> bool:
    """Print the tables of answers and of families; say whether every promise was kept."""
    kept = True
    rounds = {n: max(100, int(most * share)) for n, share in zip(SIZES, SHARES, strict=True)}
    for n in SIZES:
        print(
            f"{n} questions: {rounds[n]} candidates a rate, "
            f"standard error {100 * error(rounds[n]):.2f} points"
        )
    print(
        "\n| questions | differing | early ends | false worse, no loss | false worse, at the margin"
        " | false not worse, at the margin | power: not worse (margin) | power: worse (loss)"
        " | items used: margin, no loss, loss | flaky gate: no loss | at 1 point |"
    )
    print("|---" * 11 + "|")
    for n in SIZES:
        for differing in DIFFERING:
            for early in (False, True):
                s = simulate(rng, n, differing, rounds[n], early=early)
                bar = ALPHA + 3 * error(rounds[n])
                low = POWER - 3 * error(rounds[n], POWER)
                false = s["none:worse"], s["edge:worse"], s["edge:not_worse"]
                power = s["confirmed:not_worse"], s["found:worse"]
                kept &= max(false) <= bar and min(power) >= low
                used = [s[f"{case}:items"] for case in ("edge", "confirmed", "found")]
                print(
                    f"| {n} | {100 * differing:.0f} % | {'yes' if early else 'no'} | "
                    + " | ".join(f"{100 * rate:.1f} %" for rate in false)
                    + f" | {100 * power[0]:.1f} % ({100 * s['margin']:.2f} points)"
                    + f" | {100 * power[1]:.1f} % ({100 * s['loss']:.2f} points) | "
                    + ", ".join(f"{100 * share:.0f} %" for share in used)
                    + f" | {100 * s['none:flaky']:.1f} % | {100 * s['edge:flaky']:.1f} % |",
                    flush=True,
                )
    print(
        "\n| questions | early ends | five metrics at their margins: worse "
        "| one of five at its margin: not worse |"
    )
    print("|---" * 4 + "|")
    for n in SIZES[:2]:
        for early in (False, True):
            count = rounds[n] // 5
            s = families(rng, n, count, early=early)
            kept &= max(s.values()) <= ALPHA + 3 * error(count)
            print(
                f"| {n} | {'yes' if early else 'no'} | {100 * s['worse']:.1f} % "
                f"| {100 * s['not_worse']:.1f} % |",
                flush=True,
            )
    return kept


def _ids(n: int) -> tuple[str, ...]:
    return tuple(map(str, range(n)))


def main() -> int:
    """Print the tables; status 1 if a promise is broken by more than 3 standard errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10_000, help="candidates a rate, n = 200")
    parser.add_argument("--rng-seed", type=int, default=0)
    parser.add_argument("--chunks-alone", action="store_true", help="the third table alone")
    options = parser.parse_args()
    rng, start, kept = np.random.default_rng(options.rng_seed), time.perf_counter(), True
    if not options.chunks_alone:
        kept = print_answers(rng, options.rounds)
    print(f"\n| by chunk | {' | '.join(f'{n} chunks' for n in CHUNKS)} |")
    print("|---" * (len(CHUNKS) + 1) + "|")
    for shape in SHAPES:
        found = [of_chunks(rng, shape, n, options.rounds) for n in CHUNKS]
        told = (f"{100 * s['not_worse']:.1f}, {100 * s['worse']:.1f} %" for s in found)
        print(f"| {shape} | {' | '.join(told)} |", flush=True)
    took, cpu = time.perf_counter() - start, environment.cpu().name
    print(f"\n{took:.0f} s on one core of {cpu}, Python {platform.python_version()}, ", end="")
    print(f"numpy {np.__version__}, scipy {scipy.__version__}; promise kept: {kept}")
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main())
