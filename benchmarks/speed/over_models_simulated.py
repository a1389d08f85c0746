"""Does the answer over models keep its level, and what does it find that single claims do not?

Two methods over models and seeds, differences of known truth. *Null* rows have no mean difference:
with models that gain or lose at random (``slope``), and with seeds that move all models alike under
one method (``shared``), in standard deviations of one seed's value. *Real* rows have the difference
``d`` on every model. Beside the mixed model that decides stand Wilcoxon's test and t over the
models' means, which take the seeds of different models for independent, and the share of the single
models whose own claim (Welch, uncorrected) holds. The second table holds the mean difference
against a margin: at its edge every verdict is false, without any difference "within" is right.

    python benchmarks/speed/over_models_simulated.py
"""

import argparse
import math
import platform
import sys
import time

import numpy as np
from scipy import stats

from benchsuite.records import environment
from benchsuite.statistics import welch
from benchsuite.statistics.equivalence import p_either
from benchsuite.statistics.over_models import compare_over_models

ALPHA = 0.05
# models, seeds, d, slope, shared, pairs
CASES = (
    (7, 5, 0.0, 0.0, 0.0, False),
    (7, 5, 0.0, 0.5, 0.0, False),
    (7, 5, 0.0, 0.0, 0.5, False),
    (7, 5, 0.0, 0.5, 0.5, False),
    (7, 5, 0.0, 0.5, 0.5, True),
    (4, 3, 0.0, 0.5, 0.0, False),
    (3, 5, 0.0, 0.5, 0.0, False),
    (7, 5, 0.8, 0.0, 0.0, False),
    (7, 5, 0.8, 0.5, 0.0, False),
)

# models, seeds, slope, shared, margin, of which the true difference is a share
MARGINS = (
    (7, 5, 0.0, 0.0, 0.5, 1.0),
    (7, 5, 0.5, 0.0, 0.5, 1.0),
    (7, 5, 0.5, 0.5, 0.5, 1.0),
    (3, 5, 0.5, 0.0, 0.5, 1.0),
    (7, 5, 0.0, 0.0, 0.5, 0.0),
    (7, 5, 0.0, 0.0, 1.0, 0.0),
    (7, 5, 0.5, 0.0, 1.0, 0.0),
    (7, 5, 0.0, 0.0, 0.5, 3.0),
)


def drawn(rng, models, seeds, d, slope, shared):
    """Return the arms of one simulated comparison."""
    gains = d + slope * rng.normal(size=models)
    moved = shared * rng.normal(size=(2, seeds))
    arms = {}
    for m in range(models):
        one, two = rng.normal(size=(2, seeds)) + moved
        arms[f"model {m}"] = (dict(enumerate(one - gains[m])), dict(enumerate(two)))
    return arms


def simulate(rng, rounds, models, seeds, d, slope, shared, pairs):
    """Return the shares of rounds in which each test finds a difference, and that cover it."""
    seen = {"mixed": 0, "covered": 0, "wilcoxon": 0, "t": 0, "single": 0.0}
    for _ in range(rounds):
        arms = drawn(rng, models, seeds, d, slope, shared)
        found = compare_over_models(arms, by_seed=pairs)
        seen["mixed"] += found.p_value < ALPHA
        seen["covered"] += found.ci_low <= -d <= found.ci_high
        seen["wilcoxon"] += found.wilcoxon_p < ALPHA
        seen["t"] += stats.ttest_1samp(list(found.per_model.values()), 0).pvalue < ALPHA
        tests = [welch(one.values(), two.values()) for one, two in arms.values()]
        held = [t.p_value < ALPHA and (d == 0 or t.difference < 0) for t in tests]
        seen["single"] += sum(held) / models
    return {name: n / rounds for name, n in seen.items()}


def at_the_margin(rng, rounds, models, seeds, slope, shared, margin, share):
    """Return the shares of rounds whose difference comes out within the margin, and beyond it."""
    seen = {"within": 0, "beyond": 0}
    for _ in range(rounds):
        arms = drawn(rng, models, seeds, share * margin, slope, shared)
        found = compare_over_models(arms, margin_of=lambda _: margin)
        if p_either(found.p_within, found.p_beyond) < ALPHA:
            seen["within" if found.p_within < found.p_beyond else "beyond"] += 1
    return {name: n / rounds for name, n in seen.items()}


def main():
    """Print the tables; status 1 if the mixed model makes too many false claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--rng-seed", type=int, default=0)
    options = parser.parse_args()
    rng, start = np.random.default_rng(options.rng_seed), time.perf_counter()
    error = math.sqrt(ALPHA * (1 - ALPHA) / options.rounds)
    print(f"at most {ALPHA + 3 * error:.4f} false claims\n")
    heads = ("models", "seeds", "d", "slope", "shared", "pairs", "mixed model", "its 95 % interval")
    print("| " + " | ".join((*heads, "Wilcoxon", "t over models", "a single model")) + " |")
    print("|---" * (len(heads) + 3) + "|")
    worst = 0.0
    for case in CASES:
        seen = simulate(rng, options.rounds, *case)
        worst = max(worst, seen["mixed"] if case[2] == 0 else 0.0)
        shares = (f"{100 * seen[k]:.1f} %" for k in ("mixed", "covered", "wilcoxon", "t", "single"))
        facts = (*map(str, case[:5]), "yes" if case[5] else "no")
        print("| " + " | ".join((*facts, *shares)) + " |", flush=True)
    heads = ("models", "seeds", "slope", "shared", "margin", "true difference", "within", "beyond")
    print("\n| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for case in MARGINS:
        seen = at_the_margin(rng, options.rounds, *case)
        worst = max(worst, sum(seen.values()) if case[5] == 1 else 0.0)
        facts = (*map(str, case[:5]), f"{case[4] * case[5]:g}")
        print("| " + " | ".join((*facts, *(f"{100 * n:.1f} %" for n in seen.values()))) + " |")
    took = time.perf_counter() - start
    print(
        f"\n{options.rounds} rounds a row, {took:.0f} s on {environment.cpu().name}, "
        f"Python {platform.python_version()}, numpy {np.__version__}"
    )
    return int(worst > ALPHA + 3 * error)


if __name__ == "__main__":
    sys.exit(main())
