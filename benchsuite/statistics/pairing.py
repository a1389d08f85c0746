"""Which items two arms share: paired by id, each id one item however many seeds met it.

Items without ids are paired by their place, which is said, and only where every seed of both arms
holds equally many. Where some have ids and others have none, nothing says which belong together.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class PerItem:
    """One seed's values of its items, float [n].

    ``ids`` [n] name the items. ``clusters`` [n] name what neighbours share (a passage, a stretch of
    text): a cluster is drawn or left out as a whole. Each is None where it is not known.
    """

    values: npt.ArrayLike
    ids: Sequence[Hashable] | npt.NDArray[Any] | None = None
    clusters: Sequence[Hashable] | npt.NDArray[Any] | None = None

    def __post_init__(self) -> None:
        n = len(self)
        for name, column in (("ids", self.ids), ("clusters", self.clusters)):
            if column is not None and len(column) != n:
                raise ValueError(f"{len(column)} {name} do not name {n} items")

    def __len__(self) -> int:
        return len(np.asarray(self.values))

    def only(self, kept: npt.NDArray[np.bool_]) -> "PerItem":
        """Return the items where ``kept`` bool [n] is true."""
        return replace(self, **{name: where(kept, v) for name, v in vars(self).items()})


def named(column: Any) -> list[Hashable]:
    """Return ids or clusters [n] as a list of their own values.

    An array made of them would turn tuples into rows, mix numbers with their texts, and cut NULs.
    """
    found: list[Hashable] = column.tolist() if isinstance(column, np.ndarray) else list(column)
    return found


def where(kept: npt.NDArray[np.bool_], column: Any) -> Any:
    """Return the entries of a column [n], or of None, where ``kept`` is true."""
    if column is None or isinstance(column, np.ndarray):
        return None if column is None else column[kept]
    entries = list(column)
    return [entries[place] for place in np.flatnonzero(kept)]


@dataclass(frozen=True)
class Matched:
    """The seeds' items that both arms hold, or the ``reason`` why there are none.

    ``by`` is ``id`` or ``place``. ``n_items`` counts distinct items, ``n_left_out`` those that only
    one arm holds.
    """

    a: list[Any] = field(default_factory=list)
    b: list[Any] = field(default_factory=list)
    by: str = "id"
    n_items: int = 0
    n_left_out: int = 0
    reason: str = ""


def neighbours(n: int) -> npt.NDArray[np.int64]:
    """Return the stretch of text to which each of ``n`` successive chunks belongs, int [n].

    Neighbours are alike: they share an article. Stretches of n^(1/3) chunks, the order that is
    right for blocks (Kunsch 1989; Hall, Horowitz and Jing 1995), but at least ten of them, leave
    little of that between them.
    """
    length = max(1, min(round(n ** (1 / 3)), n // 10))
    return np.arange(n) // length


def per_item(found: Any) -> Any:
    """Return a seed's items as they are, or plain values as items without ids."""
    return found if hasattr(found, "only") else PerItem(found)


def by_seed(arm: Mapping[int, Any] | Sequence[Any]) -> Mapping[int, Any]:
    """Return an arm as seed -> items; a plain list of them counts as the seeds 0, 1, 2 ..."""
    return arm if isinstance(arm, Mapping) else dict(enumerate(arm))


def matched(a: Mapping[int, Any] | Sequence[Any], b: Mapping[int, Any] | Sequence[Any]) -> Matched:
    """Return what two arms, seed -> items, share.

    Seeds of both arms share the ids that both hold under that seed. The seeds of one arm alone keep
    every id that the other arm holds under any.
    """
    first, second = ({s: per_item(items) for s, items in by_seed(arm).items()} for arm in (a, b))
    every = [*first.values(), *second.values()]
    if not first or not second:
        return Matched(reason="an arm keeps no items")
    if all(items.ids is None for items in every):
        return _by_place(first, second)
    if any(items.ids is None for items in every):
        return Matched(reason="some records name their items and others do not")
    if any(len(set(named(items.ids))) < len(items) for items in every):
        return Matched(reason="some ids name several items of one seed")
    one, two = (_ids(arm.values()) for arm in (first, second))
    left = [_kept(seed, items, second, two) for seed, items in sorted(first.items())]
    right = [_kept(seed, items, first, one) for seed, items in sorted(second.items())]
    shared = _ids(left) | _ids(right)
    n_left_out = len((one | two) - shared)
    if any(len(items) == 0 for items in (*left, *right)):
        reason = "the arms hold different items: no id is shared"
        return Matched(by="id", n_left_out=n_left_out, reason=reason)
    return Matched(left, right, "id", len(shared), n_left_out)


# Of fewer units than that (`effective_number`) nothing can be said: one holds nearly all items.
LEAST_WORTH = 1.5
ONE_CLUSTER = "one cluster holds nearly all items"


def effective_number(sizes: npt.ArrayLike) -> float:
    """Return how many units of one size say as much as units of ``sizes`` [n].

    The design effect's number (Kish 1965): n where all are alike, near 1 where one holds most.
    """
    row = np.asarray(sizes, np.float64)
    return float(row.sum() ** 2 / (row @ row))


def units(
    samples: Sequence[Any], namespaces: Iterable[Hashable] | None = None, *, clusters: bool = True
) -> tuple[list[npt.NDArray[np.int64]], int]:
    """Return for each sample the number of each item's unit, int [n], and how many units there are.

    A unit is what is taken as one: a cluster, or an item where there are none (or not
    ``clusters``). Ids mean the same item only within one namespace; by default all share one. An
    item belongs to the cluster that the first sample with clusters puts it in.
    """
    known: dict[Hashable, int] = {}
    of_item: dict[Hashable, int] = {}
    numbered: dict[int, npt.NDArray[np.int64]] = {}
    spaces = [""] * len(samples) if namespaces is None else list(namespaces)
    for one in sorted(range(len(samples)), key=lambda one: samples[one].clusters is None):
        items, space = samples[one], spaces[one]
        names = range(len(items)) if items.ids is None else named(items.ids)
        groups: Iterable[Hashable] = names
        if clusters and items.clusters is not None:
            groups = [("cluster", group) for group in named(items.clusters)]
        places = []
        for name, group in zip(names, groups, strict=True):
            if (space, name) not in of_item:
                of_item[space, name] = known.setdefault((space, group), len(known))
            places.append(of_item[space, name])
        numbered[one] = np.array(places, np.int64)
    return [numbered[one] for one in range(len(samples))], len(known)


def grouped_alike(samples: Iterable[Any]) -> bool:
    """Say whether all samples that name their items put the same ones together.

    What a cluster is called in each does not matter. Items that one sample alone has tell nothing.
    """
    of_item: dict[Hashable, Hashable] = {}
    for items in samples:
        if items.ids is None or items.clusters is None:
            continue
        mine = list(zip(named(items.ids), named(items.clusters), strict=True))
        pairs = {(of_item[name], group) for name, group in mine if name in of_item}
        if any(len({pair[end] for pair in pairs}) < len(pairs) for end in (0, 1)):
            return False
        of_item = dict(mine) | of_item
    return True


def _ids(samples: Iterable[Any]) -> set[Hashable]:
    return {name for items in samples for name in named(items.ids)}


def _kept(seed: int, items: Any, others: Mapping[int, Any], every: set[Hashable]) -> Any:
    allowed = _ids([others[seed]]) if seed in others else every
    names = named(items.ids)
    return items.only(np.array([name in allowed for name in names], bool))


def _by_place(a: Mapping[int, Any], b: Mapping[int, Any]) -> Matched:
    one, two = ([arm[seed] for seed in sorted(arm)] for arm in (a, b))
    lengths = [sorted({len(items) for items in arm}) for arm in (one, two)]
    n = lengths[0][-1]
    for arm in lengths:
        if len(arm) > 1:
            reason = "the seeds of an arm do not hold equally many items, and no ids"
            return Matched(by="place", n_items=n, reason=reason)
    if lengths[0] != lengths[1]:
        reason = f"{n} and {lengths[1][0]} items without ids cannot be paired"
        return Matched(by="place", n_items=n, reason=reason)
    return Matched(one, two, "place", n)
