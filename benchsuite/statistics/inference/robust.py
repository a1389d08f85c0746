"""Whether the seeds look like what a t-test supposes, and what tests without that say.

A t-test against a constant arm is misled by skewed seeds: with lognormal ones (sigma .5 to 1) it
claims a difference from their own mean in 8 to 18 % of studies. It does so where the seeds happen
to lack the long tail, and then look symmetric: no test can tell from five of them. So every such
claim says what it supposes, with tests of other suppositions beside. Many seeds do show skewness;
then the claim must hold with Hall's correction for it too (docs/statistics.md has the figures).
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import stdtrit

from benchsuite.statistics import skewed
from benchsuite.statistics.compare import one_sample
from benchsuite.statistics.exact import MOST_ARRANGEMENTS, sign_flip, smallest_p
from benchsuite.statistics.samples import Sample, as_sample, is_constant, mean_of, std_of

OUTLIER_LEVEL = 0.01
CAREFUL_FROM = 15
"""From so many seeds on skewed ones are judged with Hall's correction. With up to ten it undoes
less than a third of the t-test's false claims, and costs two points of power of normal seeds."""
# 95 % of normal samples of 3 to 25 have less skewness (2 million of each, numpy 2.2.6).
SKEWNESS = (
    0.705,
    1.07,
    1.206,
    1.24,
    1.23,
    1.208,
    1.183,
    1.159,
    1.135,
    1.108,
    1.085,
    1.061,
    1.039,
    1.018,
    0.996,
    0.978,
    0.959,
    0.941,
    0.925,
    0.909,
    0.894,
    0.879,
    0.866,
)


def skewness(sample: Sample) -> float | None:
    """Return the third moment over the cubed standard deviation; None where nothing varies."""
    if len(sample) < 3 or is_constant(sample):
        return None
    away = sample - mean_of(sample)
    away = away / np.abs(away).max()
    away -= away.mean()  # a mean near the values' last bits is rounded
    return float((away**3).mean() / (away**2).mean() ** 1.5)


def is_skewed(sample: Sample) -> bool:
    """Say whether normal seeds would be as skewed in less than one sample of twenty."""
    n, seen = len(sample), skewness(sample)
    if seen is None:
        return False
    if n - 3 < len(SKEWNESS):
        return abs(seen) > SKEWNESS[n - 3]
    return abs(seen) > 1.96 * math.sqrt(6 * (n - 2) / ((n + 1) * (n + 3)))


def seen_skewness(differences: Sample) -> float:
    """Return the skewness of the mean of seeds' differences to a constant, to be corrected for.

    0 where the seeds do not look skewed, or are too few for that to tell anything.
    """
    if len(differences) < CAREFUL_FROM or not is_skewed(differences):
        return 0.0
    # Their squares might not fit into float64.
    return skewed.skewness_of(differences / np.abs(differences).max())


def outlier(values: Mapping[int, float]) -> int | None:
    """Return the seed that stands apart from the others by Grubbs' test (1950) at 1 %, or None."""
    seeds = sorted(values)
    sample = as_sample(values[seed] for seed in seeds)
    n = len(sample)
    if n < 3 or is_constant(sample):
        return None
    away = np.abs(sample - mean_of(sample)) / std_of(sample)
    t = float(stdtrit(n - 2, OUTLIER_LEVEL / (2 * n))) ** 2
    bound = (n - 1) / math.sqrt(n) * math.sqrt(t / (n - 2 + t))
    return seeds[int(away.argmax())] if away.max() > bound else None


def diverged(values: Mapping[int, float]) -> list[int]:
    """Return the seeds whose value is not finite."""
    return [seed for seed in sorted(values) if not math.isfinite(values[seed])]


def beside_one_sample(a: Sample, b: Sample) -> dict[str, Any]:
    """Return what a t-test of two arms supposes of which one is constant, and what others say.

    Json-able. ``arm`` is 0 or 1, the one with seeds. ``hidden`` is the side on which values that
    they missed would undo the difference. The exact sign-flip test supposes symmetry and no
    normality; ``smallest_p`` is the least that it can give with so many seeds. The t-test of the
    logarithms supposes lognormal seeds, and asks whether the constant is their median.
    """
    arm = int(is_constant(a))
    seeded, constant = (b, float(a[0])) if arm else (a, float(b[0]))
    n = len(seeded)
    counted = 2**n <= MOST_ARRANGEMENTS
    logs = seeded.min() > 0 and constant > 0
    return {
        "supposes": "seeds that scatter alike to both sides of their mean",
        "arm": arm,
        "hidden": "higher" if mean_of(seeded) < constant else "lower",
        "skewness": skewness(seeded),
        "skewed": is_skewed(seeded),
        "sign_flip_p": sign_flip(seeded, [constant] * n).p_value if counted else None,
        "smallest_p": smallest_p(n, paired=True),
        "log_t_p": one_sample(np.log(seeded), math.log(constant)).p_value if logs else None,
    }
