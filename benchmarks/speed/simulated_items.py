"""Are claims over items judged at the level that they promise, and do their intervals cover?

Data of known truth go through the code that judges real records. AUROC claims compare two scores of
equal true AUROC, as an answer of several seeds whose questions overlap; both directions count as
false. Perplexity, KL and accuracy are compared between arms that run once, where items decide. Then
the intervals that records hold of one model: of AUROC, and of a share (accuracy, flips).

    python benchmarks/speed/simulated_items.py
"""

import argparse
import math
import platform
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from benchsuite.records import environment
from benchsuite.statistics import PerItem, Ranking, auroc, proportion_interval
from benchsuite.statistics.inference.claims import Arm, Question, judge_family
from benchsuite.study import higher, lower, ranks_better

ALPHA = 0.05
RANKS = ranks_better("auroc", "a", than="b")
# Each of n questions is drawn from so many times as many: seeds share some.
POOL = 1.5
Rng = np.random.Generator
# Fewer than ten questions are answered differently: the test is exact, at most 5 %, not about it.
EXACT = tuple(f"accuracy claim, n = {n}" for n in (10, 20, 50))


class Seen(NamedTuple):
    """What one study showed: a p-value below alpha; whether the interval has the truth; None."""

    false: bool | None
    covered: bool | None


def judged(claim, arm: Arm, other: Arm, truth: float) -> Seen:
    """Judge one claim that is false both ways, or whose true difference is ``truth``."""
    evidence = judge_family([Question(claim, "simulated", arm, other)], alpha=ALPHA)[0].evidence
    if evidence["p_value"] is None:
        return Seen(None, None)
    low, high = evidence["ci95"]
    return Seen(evidence["p_holm"] < ALPHA, bool(low <= truth <= high))


def ranks(rng: Rng, n: int, wrong: int, seeds: int, area: float) -> Seen:
    """Judge two scores of one true AUROC over seeds of ``n`` questions, ``wrong`` of them wrong."""
    size = n if seeds == 1 else round(POOL * n)
    labels = rng.permutation(size) < round(wrong * size / n)
    shared, own = rng.normal(size=size), rng.normal(size=(2, size))
    scores = (shared + own) / math.sqrt(2) + math.sqrt(2) * ndtri(area) * labels
    asked = [rng.choice(size, n, replace=False) for _ in range(seeds)]
    arms = []
    for row in scores:
        found = {s: Ranking(labels[q], row[q], q) for s, q in enumerate(asked)}
        areas = {s: auroc(*r[:2]).value for s, r in found.items()}
        arms.append(Arm({s: a for s, a in areas.items() if a is not None}, rankings=found))
    return judged(RANKS, *arms, 0.0)


def once(values: np.ndarray, metric: Callable) -> Arm:
    """Return an arm that runs once and keeps its items."""
    return Arm(
        {42: float(metric(values.mean()))},
        {42: PerItem(values, np.arange(len(values)))},
        item_metric=metric,
        constant=True,
    )


def perplexity(rng: Rng, n: int) -> Seen:
    """Judge two arms whose chunks have the same expected NLL."""
    text = rng.normal(2, 0.4, size=n)
    arms = (once(text + rng.normal(0, 0.05, size=n), np.exp) for _ in range(2))
    return judged(lower("perplexity", "a", than="b"), *arms, 0.0)


def kl(rng: Rng, n: int) -> Seen:
    """Judge two arms whose chunks have skewed KL, one twice as spread as the other."""
    hard = rng.normal(0, 0.5, size=n)
    arms = [np.exp(hard + rng.normal(0, s, size=n) - s**2 / 2) * 0.1 for s in (0.3, 0.6)]
    return judged(lower("kl", "a", than="b"), *(once(a, lambda mean: mean) for a in arms), 0.0)


def accuracy(rng: Rng, n: int) -> Seen:
    """Judge two arms that are right on 60 % of the questions each, alike on four of five."""
    right, other = rng.random((2, n)) < 0.6
    second = np.where(rng.random(n) < 0.8, right, other)
    arms = (once(a.astype(float), lambda mean: mean) for a in (right, second))
    return judged(higher("accuracy", "a", than="b"), *arms, 0.0)


def one_auroc(rng: Rng, n: int, wrong: int, area: float) -> Seen:
    """Return whether a record's interval of an AUROC has the true one."""
    labels = np.arange(n) < wrong
    found = auroc(labels, rng.normal(size=n) + math.sqrt(2) * ndtri(area) * labels)
    if found.ci_low is None or found.ci_high is None:
        return Seen(None, None)
    return Seen(None, found.ci_low <= area <= found.ci_high)


def one_share(rng: Rng, n: int, share: float) -> Seen:
    """Return whether a record's interval of a share has the true one."""
    low, high = proportion_interval(int(rng.binomial(n, share)), n)
    return Seen(None, low <= share <= high)


def cases() -> Iterator[tuple[str, Callable[[Rng], Seen], float]]:
    """Yield each row's name, its draw, and by which part of the rounds it is repeated.

    Of the questions of an accuracy claim one in ten is answered differently. Of fewer than about a
    hundred these are too few for a test that is not exact, which is on the safe side.
    """
    for n in (50, 100, 400):
        for wrong in (1, 3, 10, 50):
            if wrong == n:
                continue
            for seeds in (1, 2, 3, 5):
                name = f"AUROC claim, {wrong} wrong of {n}, seeds {seeds}"
                yield name, lambda r, a=(n, wrong, seeds): ranks(r, *a, 0.7), 1 / seeds
    for what in (perplexity, kl, accuracy):
        for n in (10, 20, 50, 400):
            yield f"{what.__name__} claim, n = {n}", lambda r, w=what, n=n: w(r, n), 1
    for n, wrong in ((50, 10), (100, 10), (400, 10), (100, 50), (400, 50)):
        for area in (0.5, 0.7, 0.85, 0.95):
            name = f"AUROC {area}, {wrong} wrong of {n}"
            yield name, lambda r, a=(n, wrong, area): one_auroc(r, *a), 1
    for n, share in ((50, 0.2), (100, 0.1), (400, 0.025), (400, 0.5)):
        yield f"share of {share:g}, n = {n}", lambda r, a=(n, share): one_share(r, *a), 2


def row(name: str, seen: list[Seen]) -> tuple[str, bool]:
    """Return a row of the table, and whether it keeps the promises."""
    texts, kept = [name, str(len(seen))], True
    most = 1.0 if name in EXACT else 0.97
    for column, low, high in (("false", 0.0, ALPHA), ("covered", 0.93, most)):
        known = [getattr(one, column) for one in seen if getattr(one, column) is not None]
        if not known:
            texts.append("undefined" if seen[0].covered is None else "")
            continue
        share, expected = sum(known) / len(known), ALPHA if column == "false" else 1 - ALPHA
        error = math.sqrt(expected * (1 - expected) / len(known))
        kept = kept and low - 3 * error <= share <= high + 3 * error
        texts.append(f"{100 * share:.1f} ± {100 * error:.1f} %")
    return f"| {' | '.join(texts)} |", kept


def main() -> int:
    """Print the table; status 1 if a row is more than 3 standard errors beyond its bounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1500, help="of a row with one seed")
    parser.add_argument("--rng-seed", type=int, default=0)
    options = parser.parse_args()
    rng, start, broken = np.random.default_rng(options.rng_seed), time.perf_counter(), []
    print("| what | rounds | false claims | coverage |\n|---|---|---|---|")
    for name, draw, part in cases():
        seen = [draw(rng) for _ in range(max(1, round(options.rounds * part)))]
        text, kept = row(name, seen)
        broken += [] if kept else [name]
        print(text, flush=True)
    took, cpu = time.perf_counter() - start, environment.cpu().name
    print(f"\n{took:.0f} s on {cpu}, Python {platform.python_version()}, numpy {np.__version__}")
    print(f"beyond their bounds by more than 3 standard errors: {', '.join(broken) or 'none'}")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
