"""The knapsack of mixed precision: one width for each layer, the least cost that fits.

Of each item exactly one option is taken. Dynamic programming over the items keeps, of all choices
so far, those that no other one undercuts in both size and cost (Nemhauser and Ullmann 1969). That
is exact: a choice that is undercut stays so, whatever is added. There are never more of them than
different sizes, which are few where the items' sizes have a large common divisor.
"""

from collections.abc import Sequence

import numpy as np


def cheapest(
    sizes: Sequence[Sequence[int]], costs: Sequence[Sequence[float]], capacity: int
) -> list[int] | None:
    """Return the option of each item whose sizes sum to ``capacity`` at most, at the least cost.

    ``sizes`` and ``costs`` have a row for each item and a number for each of its options. Among
    equal costs the smallest size is taken. None where nothing fits.
    """
    total, cost = np.zeros(1, np.int64), np.zeros(1)
    steps: list[tuple[np.ndarray, np.ndarray]] = []
    least = [min(row) for row in sizes]
    for i, (own_sizes, own_costs) in enumerate(zip(sizes, costs, strict=True)):
        n_options = len(own_sizes)
        total = (total[:, None] + np.asarray(own_sizes, np.int64)).ravel()
        cost = (cost[:, None] + np.asarray(own_costs, float)).ravel()
        # What could not take even the smallest of the items still to come is out.
        fits = np.flatnonzero(total <= capacity - sum(least[i + 1 :]))
        order = fits[np.lexsort((cost[fits], total[fits]))]
        best_before = np.minimum.accumulate(np.concatenate(([np.inf], cost[order])))[:-1]
        kept = order[cost[order] < best_before]
        if not len(kept):
            return None
        total, cost = total[kept], cost[kept]
        steps.append((kept // n_options, kept % n_options))
    place, chosen = len(total) - 1, []  # the largest that is kept is the cheapest
    for parents, options in reversed(steps):
        chosen.append(int(options[place]))
        place = int(parents[place])
    return chosen[::-1]
