"""Paired items of made-up models, as a comparison gives them; those of a comparison by name."""

import numpy as np

from benchsuite.comparing import PairedItems


def answers(n, lost, gained, right=0.5, name="accuracy:arc"):
    """Questions of which the base alone has ``lost`` right, the candidate alone ``gained``."""
    base = np.zeros(n)
    base[: lost + int(right * n)] = 1
    candidate = base.copy()
    candidate[:lost] = 0
    candidate[n - gained :] = 1
    return PairedItems(name, tuple(map(str, range(n))), base, candidate)


def chunks(differences, metric="nll"):
    base = np.full(len(differences), 2.0) if metric == "nll" else np.zeros(len(differences))
    ids = tuple(map(str, range(len(differences))))
    return PairedItems(metric, ids, base, base + np.asarray(differences))


def by_metric(found):
    """Return the items of a comparison's pair by their metric."""
    return {items.metric: items for items in found.items}
