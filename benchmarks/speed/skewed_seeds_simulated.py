"""What skewed seeds do to claims against an arm without scatter, and what is said of it.

All claims are false: the seeds' true mean is the constant. Each goes through ``judge_family``, the
code that judges real records. Tables:

- seeds of five shapes against a constant: false claims by the t-test alone, and as they are judged;
  how many of these say what they suppose; how many call the seeds skewed; and how many families of
  seven such claims have any false one.
- normal seeds that differ by what they should find with 80 % power: what the rule for skewed ones
  costs.
- skewed seeds against an arm of less and less scatter.
- rules for any number of seeds: Hall's correction where they look skewed, or always. What false
  claims of lognormal seeds are left, and what normal ones find; without the judge.

    python benchmarks/speed/skewed_seeds_simulated.py [--studies 4000]
"""

import argparse
import math
import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from benchsuite.records import environment
from benchsuite.statistics import skewed
from benchsuite.statistics.compare import one_sample
from benchsuite.statistics.inference import robust
from benchsuite.statistics.inference.claims import Arm, Judgement, Question, judge_family
from benchsuite.statistics.power import minimum_detectable_effect
from benchsuite.study import Metric, lower

ALPHA, MODELS = 0.05, 7
SEEDS, CONSIDERED = (3, 5, 8, 10, 20), (3, 5, 8, 10, 15, 20)
RATIOS = (0.0, 0.1, 0.2, 0.3, 0.5, 1.0)  # the other arm's standard deviation over the seeds'
# Below what any of these seeds could resolve, so that no false claim is excused as a trivial one.
METRIC = Metric("metric", better="lower", margin="0.00001")

Rng = np.random.Generator
Draw = Callable[[Rng, tuple[int, ...]], np.ndarray]

LOGNORMAL_STD = math.sqrt(math.e * (math.e - 1))
SHAPES: dict[str, Draw] = {
    # Each with the mean 0.
    "normal": lambda rng, size: rng.normal(size=size),
    "lognormal, sigma .5": lambda rng, size: rng.lognormal(0, 0.5, size) - math.exp(0.125),
    "lognormal, sigma 1": lambda rng, size: rng.lognormal(0, 1, size) - math.exp(0.5),
    "the same mirrored": lambda rng, size: math.exp(0.5) - rng.lognormal(0, 1, size),
    "exponential": lambda rng, size: rng.exponential(size=size) - 1,
}


def judged(seeds: Iterable[np.ndarray], others: Iterable[np.ndarray]) -> list[Judgement]:
    """Judge a family of claims that seeds lie lower than another arm."""
    claim = lower("metric", "a", than="other")
    pairs = zip(seeds, others, strict=True)
    return judge_family(
        Question(claim, f"m{i}", _arm(a), _arm(b), shown=METRIC) for i, (a, b) in enumerate(pairs)
    )


def _arm(values: np.ndarray) -> Arm:
    return Arm(dict(enumerate(values.tolist())))


def decided(found: Iterable[Judgement]) -> list[Judgement]:
    """Return those that are held or violated."""
    return [j for j in found if j.outcome != "inconclusive"]


def shape(draw: Draw, n: int, studies: int, rng: Rng) -> dict[str, float]:
    """Return the shares of the first table for ``n`` seeds of one shape."""
    zero = np.zeros((1, n))
    found = [judged(draw(rng, (1, n)), zero)[0] for _ in range(studies)]
    false = decided(found)
    rounds, zeros = studies // 4, np.zeros((MODELS, n))
    families = [judged(draw(rng, (MODELS, n)), zeros) for _ in range(rounds)]
    least = [min(j.evidence["p_value"] for j in family) for family in families]
    return {
        "by_t": sum(j.evidence["p_value"] < ALPHA for j in found) / studies,
        "false": len(false) / studies,
        "said": sum("This supposes that" in j.sentence for j in false) / max(len(false), 1),
        "called_skewed": sum("are skewed" in j.sentence for j in false) / max(len(false), 1),
        "any_of_seven_by_t": sum(p < ALPHA / MODELS for p in least) / rounds,
        "any_of_seven": sum(bool(decided(family)) for family in families) / rounds,
    }


def found_of_normal(n: int, studies: int, rng: Rng) -> float:
    """Return how often ``n`` normal seeds find the effect that they promise to find."""
    effect, zero = minimum_detectable_effect(n, paired=True), np.zeros((1, n))
    return (
        len(decided(judged(rng.normal(effect, size=(1, n)), zero)[0] for _ in range(studies)))
        / studies
    )


def uneven(n: int, ratio: float, studies: int, rng: Rng) -> float:
    """Return the false claims of lognormal seeds against a normal arm of less scatter."""
    draw, std = SHAPES["lognormal, sigma 1"], ratio * LOGNORMAL_STD
    found = [judged(draw(rng, (1, n)), std * rng.normal(size=(1, n)))[0] for _ in range(studies)]
    return len(decided(found)) / studies


def shifted(effect: float) -> Draw:
    """Return how to draw normal seeds that differ from the constant by ``effect`` of their std."""
    return lambda rng, size: rng.normal(effect, size=size)


def considered(draw: Draw, n: int, studies: int, rng: Rng) -> tuple[float, float, float]:
    """Return the claims by t, by t and Hall where seeds look skewed, and by both always."""
    claimed = np.zeros(3)
    for seeds in draw(rng, (studies, n)):
        test = one_sample(seeds, 0.0)
        assert test.p_value is not None
        if test.p_value < ALPHA:
            skewness = skewed.skewness_of(seeds)
            both = skewed.p_value(test.difference, test.error, test.df, skewness) < ALPHA
            claimed += (1, both or not robust.is_skewed(seeds), both)
    by_t, where_skewed, always = claimed / studies
    return float(by_t), float(where_skewed), float(always)


def _row(*cells: object) -> None:
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def _head(*cells: str) -> None:
    print()
    _row(*cells)
    print("|" + "---|" * len(cells))


def _shown(shares: Sequence[float]) -> list[str]:
    return [f"{100 * share:.1f} %" for share in shares]


def main() -> int:
    """Print the tables; status 1 if a false claim does not say what it supposes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=4000, help="of each row")
    parser.add_argument("--rng-seed", type=int, default=0)
    options = parser.parse_args()
    rng, start, silent = np.random.default_rng(options.rng_seed), time.perf_counter(), 0
    _head("seeds", "shape", "by t", "false", "said", "called skewed", "any of 7 by t", "any of 7")
    for n in SEEDS:
        for name, draw in SHAPES.items():
            shares = shape(draw, n, options.studies, rng)
            silent += shares["said"] < 1 and shares["false"] > 0
            _row(n, name, *_shown(list(shares.values())))
    _head("seeds", "normal seeds find")
    for n in SEEDS:
        _row(n, *_shown([found_of_normal(n, options.studies, rng)]))
    _head("seeds", "other arm's scatter", "false")
    for n in (5, 10):
        for ratio in RATIOS:
            _row(n, ratio, *_shown([uneven(n, ratio, options.studies, rng)]))
    _head("seeds", "false by t", "Hall where skewed", "always", "power by t", "where", "always")
    for n in CONSIDERED:
        effect = minimum_detectable_effect(n, paired=True)
        false = considered(SHAPES["lognormal, sigma 1"], n, 5 * options.studies, rng)
        true = considered(shifted(effect), n, 5 * options.studies, rng)
        _row(n, *_shown([*false, *true]))
    took, cpu = time.perf_counter() - start, environment.cpu().name
    print(f"\n{took:.0f} s on {cpu}, Python {platform.python_version()}, numpy {np.__version__}")
    return int(silent > 0)


if __name__ == "__main__":
    sys.exit(main())
