"""How the cells that wait are best shared out among workers, each of which holds one model.

Multifit (Coffman, Garey and Johnson 1978): the longest cells first, each to a worker that ends in
time with it, and the earliest end for which that works out, by bisection. A worker that would have
to load the model has that much less time, and workers that hold it come first, so that a model is
loaded again only where that brings the end forward.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

_HALVINGS = 10
# What the end need not be known better than: all is shared out anew when the next cell ends.
_NEAR_ENOUGH = 1 / 500
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


class _Some(NamedTuple):
    """What waits of one kind, as `_fit` wants it: looked up once, for it is fitted many times."""

    n: int
    seconds: float
    model: str
    load: float


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
    loads = {model: load(model) for model in {kind.model for kind, _, _ in waiting}}
    work = sum(n * seconds for _, n, seconds in waiting)
    some = [
        _Some(n, max(seconds, _LEAST_SECONDS), kind.model, loads[kind.model])
        for kind, n, seconds in longest_first
    ]

    def fit(end: float) -> _Given:
        return _fit(end, free, holds, some, 1) or _fit(end, free, holds, some, -1)

    early = _level(free, work)
    late = early + 2 * longest_first[0].seconds + sum(loads.values())
    best = fit(late)
    if not best:
        early, late = late, max(free) + work + sum(loads.values()) + 1.0
        best = fit(late)
    for _ in range(_HALVINGS):
        if late - early < _NEAR_ENOUGH * late:
            break
        end = (early + late) / 2
        given = fit(end)
        if given:
            late, best = end, given
        else:
            early = end
    return [{longest_first[i].kind: n for i, n in mine.items()} for mine in best]


def _level(free: Sequence[float], work: float) -> float:
    """Return when all would end together, if work could be cut at will and models were free."""
    return min((work + sum(sorted(free)[:n])) / n for n in range(1, len(free) + 1))


_Given = list[dict[int, int]]
"""For each worker, how many cells it gets of which place in the order."""


def _fit(
    end: float,
    free: Sequence[float],
    holds: Sequence[str | None],
    longest_first: Sequence[_Some],
    sign: int,
) -> _Given:
    """Return shares with which every worker is done by ``end``, or none where they do not fit.

    Of the workers that hold a model, and of the others, those come first that have the least time
    left (``sign`` 1), or else the most (-1): sometimes the one works out and sometimes the other.
    """
    room = [sign * (end - seconds) for seconds in free]
    holders: dict[str | None, list[int]] = {}
    for worker, model in enumerate(holds):
        holders.setdefault(model, []).append(worker)
    given: _Given = [{} for _ in free]

    def give(place: int, left: int, seconds: float, load: float, workers: Iterable[int]) -> int:
        """Hand out cells of ``seconds`` each, after ``load``; return how many are left."""
        for worker in workers:
            n = min(left, int((sign * room[worker] - load) / seconds))
            if n > 0:
                room[worker] -= sign * (load + n * seconds)
                given[worker][place] = n
                left -= n
                if not left:
                    break
        return left

    for place, (left, seconds, model, load) in enumerate(longest_first):
        mine = holders.setdefault(model, [])
        if len(mine) > 1:
            mine.sort(key=room.__getitem__)
        left = give(place, left, seconds, 0.0, mine)
        if left:
            others = [worker for worker in range(len(free)) if worker not in mine]
            others.sort(key=room.__getitem__)
            left = give(place, left, seconds, load, others)
            mine += [worker for worker in others if place in given[worker]]
        if left:
            return []
    return given
