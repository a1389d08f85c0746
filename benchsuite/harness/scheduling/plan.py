"""How the cells that wait are best shared out among workers, each of which holds one model.

Multifit (Coffman, Garey and Johnson 1978): the longest cells first, each to a worker that ends in
time with it, and the earliest end for which that works out, by bisection. A worker that would have
to load the model has that much less time, and workers that hold it come first, so that a model is
loaded again only where that brings the end forward.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

_HALVINGS = 10
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
    work = sum(n * seconds for _, n, seconds in waiting)
    loads = sum(load(model) for model in {kind.model for kind, _, _ in waiting})

    def fit(end: float) -> list[Share]:
        tight = _fit(end, free, holds, longest_first, load, tightest_first=True)
        return tight or _fit(end, free, holds, longest_first, load, tightest_first=False)

    early = _level(free, work)
    late = early + 2 * longest_first[0].seconds + loads
    best = fit(late)
    if not best:
        early, late = late, max(free) + work + loads + 1.0
        best = fit(late)
    for _ in range(_HALVINGS):
        end = (early + late) / 2
        shares = fit(end)
        if shares:
            late, best = end, shares
        else:
            early = end
    return best


def _level(free: Sequence[float], work: float) -> float:
    """Return when all would end together, if work could be cut at will and models were free."""
    return min((work + sum(sorted(free)[:n])) / n for n in range(1, len(free) + 1))


def _fit(
    end: float,
    free: Sequence[float],
    holds: Sequence[str | None],
    longest_first: Sequence[Waiting],
    load: Callable[[str], float],
    tightest_first: bool,
) -> list[Share]:
    """Return shares with which every worker is done by ``end``, or none where they do not fit.

    Of the workers that hold a model, and of the others, those come first that have the least time
    left, or else the most: sometimes the one works out and sometimes the other.
    """
    room = [end - seconds for seconds in free]
    models = [{model} for model in holds]
    shares: list[Share] = [{} for _ in free]
    sign = 1 if tightest_first else -1
    for kind, left, seconds in longest_first:
        cost = load(kind.model)
        order = sorted(
            range(len(free)), key=lambda w: (kind.model not in models[w], sign * room[w])
        )
        for worker in order:
            extra = 0.0 if kind.model in models[worker] else cost
            n = min(left, int((room[worker] - extra) / max(seconds, _LEAST_SECONDS)))
            if n <= 0:
                continue
            room[worker] -= extra + n * seconds
            models[worker].add(kind.model)
            shares[worker][kind] = n
            left -= n
        if left:
            return []
    return shares
