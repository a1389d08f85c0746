"""How the cells that wait are best shared out among workers, each of which holds one model.

Multifit (Coffman, Garey and Johnson 1978): the longest cells first, each into the first worker that
ends in time with it, and the earliest end for which that works out, by bisection. A worker that
would have to load the model has that much less time, and workers that hold it come first, so that a
model is loaded again only where that brings the end forward.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

_HALVINGS = 20
_LEAST_SECONDS = 1e-3


@dataclass(frozen=True)
class Kind:
    """Cells that differ in their seed alone: of one model, by one method."""

    model: str
    method: str


class Waiting(NamedTuple):
    """How many cells of a kind wait, and the seconds that each takes."""

    kind: Kind
    n: int
    seconds: float


Share = dict[Kind, int]


def share_out(
    free: Sequence[float],
    holds: Sequence[str | None],
    waiting: Sequence[Waiting],
    load: Callable[[str], float],
) -> list[Share]:
    """Return how many cells of each kind each worker gets, so that the last one ends early.

    ``free`` are the seconds until each worker is done with what it was given, ``holds`` the model
    that it has then, ``load`` the seconds that coming to another model costs.
    """
    longest_first = sorted(waiting, key=lambda some: (-some.seconds, some.kind.model))
    late = max(free) + sum(load(kind.model) + n * seconds for kind, n, seconds in waiting) + 1.0
    early, best = min(free), _fit(late, free, holds, longest_first, load)
    assert best is not None
    for _ in range(_HALVINGS):
        end = (early + late) / 2
        shares = _fit(end, free, holds, longest_first, load)
        if shares is None:
            early = end
        else:
            late, best = end, shares
    return best


def _fit(
    end: float,
    free: Sequence[float],
    holds: Sequence[str | None],
    longest_first: Sequence[Waiting],
    load: Callable[[str], float],
) -> list[Share] | None:
    """Return shares with which every worker is done by ``end``, or None where they do not fit."""
    room = [end - seconds for seconds in free]
    models = [{model} for model in holds]
    shares: list[Share] = [{} for _ in free]
    for kind, left, seconds in longest_first:
        cost = load(kind.model)
        first = sorted(range(len(free)), key=lambda w: (kind.model not in models[w], -room[w]))
        for worker in first:
            extra = 0.0 if kind.model in models[worker] else cost
            n = min(left, int((room[worker] - extra) / max(seconds, _LEAST_SECONDS)))
            if n <= 0:
                continue
            room[worker] -= extra + n * seconds
            models[worker].add(kind.model)
            shares[worker][kind] = n
            left -= n
        if left:
            return None
    return shares
