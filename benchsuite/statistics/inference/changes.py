"""Did results change between two runs by more than another choice of seeds would have changed them?

The null hypothesis is that new values are further seeds of the same experiment. A shift that is
the same for every seed but small against the seeds' scatter is therefore no change here, however
certain it is: it would not have been seen with other seeds.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from scipy.special import stdtr

from benchsuite.statistics.compare import holm, welch
from benchsuite.statistics.samples import (
    OUT_OF_RANGE,
    as_sample,
    is_constant,
    mean_of,
    refusal,
    std_of,
)
from benchsuite.statistics.unequal import guarded_p

NO_NOISE = "one seed shows no noise to compare with"


@dataclass(frozen=True)
class Change:
    """New values against old ones: ``outcome`` is equal, within_noise, beyond_noise or unknown.

    ``difference`` is new minus old in the metric's unit, ``p_value`` that of the test and
    ``p_holm`` its correction over the family; without a test ``reason`` says what decided.
    """

    outcome: str
    difference: float | None
    p_value: float | None = None
    p_holm: float | None = None
    reason: str = ""


def arm_change(old: Mapping[int, float], new: Mapping[int, float]) -> Change:
    """Compare the seeds of one method before and after: Welch's test, at the worst variances.

    An arm that does not vary over at least two seeds has no noise: any change of it is beyond.
    Seeds that were only left out, or only added, change nothing.
    """
    if old == new or _is_part(old, new) or _is_part(new, old):
        return Change("equal", 0.0)
    before, after = as_sample(old.values()), as_sample(new.values())
    why = refusal(("the old values", before), ("the new values", after), least=1)
    if why:
        return Change("unknown", None, reason=why)
    difference = mean_of(after) - mean_of(before)
    if min(len(before), len(after)) < 2:
        return Change("unknown", difference, reason=NO_NOISE)
    if is_constant(before) and is_constant(after) and difference == 0:
        return Change("equal", 0.0)
    if is_constant(before):
        return Change("beyond_noise", difference, reason="it did not vary over seeds before")
    test = welch(after, before)
    if test.p_value is None:
        return Change("unknown", difference, reason=test.reason)
    p_value = test.p_value if is_constant(after) else guarded_p(test.p_value, test.n_a, test.n_b)
    return Change("within_noise", difference, p_value)


def _is_part(some: Mapping[int, float], more: Mapping[int, float]) -> bool:
    return bool(some) and some.items() <= more.items()


def seed_change(old: Mapping[int, float], seed: int, new: float) -> Change:
    """Ask whether one seed's new value could be a further seed of the old arm.

    The prediction interval of one more observation decides: (new - mean) / (s sqrt(1 + 1/n)) has
    Student's t with n - 1 degrees of freedom (Hahn and Meeker 1991, section 4.7).
    """
    if seed in old and old[seed] == new:
        return Change("equal", 0.0)
    before = as_sample(old.values())
    why = refusal(("the old values", before), ("the new value", as_sample([new])), least=1)
    difference = None if why else new - old.get(seed, mean_of(before))
    if why or len(before) < 2:
        return Change("unknown", difference, reason=why or NO_NOISE)
    if is_constant(before) and before[0] == new:
        return Change("equal", 0.0)
    if is_constant(before):
        return Change("beyond_noise", difference, reason="it did not vary over seeds before")
    n = len(before)
    spread = std_of(before) * math.sqrt(1 + 1 / n)
    if spread == 0:
        return Change("unknown", difference, reason=OUT_OF_RANGE)
    statistic = (new - mean_of(before)) / spread
    return Change("within_noise", difference, float(2 * stdtr(n - 1, -abs(statistic))))


def settled(changes: Sequence[Change], *, alpha: float = 0.05) -> list[Change]:
    """Return the changes of one family with Holm's correction: which are beyond the noise."""
    corrected = holm([change.p_value for change in changes])
    return [
        change
        if p is None
        else replace(change, p_holm=p, outcome="beyond_noise" if p < alpha else "within_noise")
        for change, p in zip(changes, corrected, strict=True)
    ]
