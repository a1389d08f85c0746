"""Arms of known mean and scatter, and the claim that most tests judge."""

from benchsuite.statistics.inference.claims import Arm
from benchsuite.study import lower
from tests.statistics.samples_for_tests import with_moments

SEEDS = (42, 43, 44, 45, 46)
COLA_BELOW_RANDOM = lower("perplexity", "cola_zero", than="random")


def arm(mean, std, n=5, rng_seed=1):
    """Return an arm of ``n`` seeds with exactly this mean and standard deviation."""
    return Arm(dict(zip(SEEDS[:n], with_moments(mean, std, n, rng_seed), strict=True)))


def constant(value, n=5):
    """Return an arm whose seeds all gave one value."""
    return Arm(dict.fromkeys(SEEDS[:n], value))
