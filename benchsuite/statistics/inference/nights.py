"""Which results changed from night to night, by a test that pays for its many looks.

Each night every series is compared with the first night of its present stretch, by the noise of
seeds (``changes.arm_change``). The series of a night are one family under Holm's correction, at the
part of alpha that the night may spend: alpha / (t (t + 1)) at look t, which adds up to alpha
however many nights come. So of histories in which nothing changed at most a share alpha ever has a
mark; and a night that is added changes no mark of those before.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from benchsuite.statistics.inference.changes import Change, arm_change, settled

Name = TypeVar("Name", bound=Hashable)
Arm = Mapping[int, float]


def spent(look: int, alpha: float) -> float:
    """Return the part of alpha that look 1, 2, 3, ... may spend: the sum over all is alpha."""
    return alpha / (look * (look + 1))


def over_nights(
    series: Mapping[Name, Sequence[Arm]], *, alpha: float = 0.05
) -> dict[Name, list[Change | None]]:
    """Return each series' change at each night, None where there is nothing to compare.

    A series has the values by seed of every night, none where it was not measured; all series are
    equally long. Where a change is beyond the noise, a new stretch begins with that night.
    """
    n_nights = max(map(len, series.values()), default=0)
    stretch: dict[Name, Arm] = {}
    found: dict[Name, list[Change | None]] = {name: [] for name in series}
    for night in range(n_nights):
        tonight = {name: arms[night] for name, arms in series.items()}
        looked = {name: arm for name, arm in tonight.items() if arm and name in stretch}
        changes = [arm_change(stretch[name], arm) for name, arm in looked.items()]
        if changes:
            changes = settled(changes, alpha=spent(night, alpha))
        told = dict(zip(looked, changes, strict=True))
        for name, arm in tonight.items():
            change = told.get(name)
            found[name].append(change)
            if arm and (name not in stretch or (change and change.outcome == "beyond_noise")):
                stretch[name] = arm
    return found
