"""Several methods over several models by their ranks: Friedman's and Nemenyi's tests.

Source: Demsar, "Statistical comparisons of classifiers over multiple data sets", 2006.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Ranks:
    """Mean ranks of methods over models, 1 the best; None where ``reason`` says why.

    ``statistic`` is Friedman's chi-square with k - 1 degrees of freedom, ``f`` Iman and Davenport's
    with k - 1 and (k - 1)(n - 1), whose ``p_value`` is the less conservative one; ``f`` is None
    where all models agree, whose p is exact. Two methods differ at .05, after correction for all
    pairs, if their mean ranks do by ``critical_difference``. ``pairs`` are Nemenyi's p-values.
    """

    n_models: int
    mean_ranks: Mapping[str, float] = field(default_factory=dict)
    statistic: float | None = None
    p_chi: float | None = None
    f: float | None = None
    p_value: float | None = None
    critical_difference: float | None = None
    pairs: Mapping[tuple[str, str], float] = field(default_factory=dict)
    reason: str = ""


def rank_methods(
    table: Mapping[str, Mapping[str, float]], *, lower_is_better: bool, alpha: float = 0.05
) -> Ranks:
    """Rank methods over models; ``table`` maps a model to method -> its mean.

    Methods that are not on every model are left out. Nemenyi's p-values need scikit-posthocs.
    """
    models = list(table)
    names = [m for m in (table[models[0]] if models else ()) if all(m in table[k] for k in models)]
    n, k = len(models), len(names)
    if n < 2 or k < 3:
        return Ranks(n, reason="ranks need two models at least, with three methods on each")
    from scipy import stats

    values = np.array([[table[model][name] for name in names] for model in models])
    ranks = stats.rankdata(values if lower_is_better else -values, axis=1)
    means = ranks.mean(axis=0)
    told = dict(zip(names, means.tolist(), strict=True))
    if np.all(ranks == ranks[0, 0]):
        return Ranks(n, told, reason="every method is equal on every model")
    chi = float(stats.friedmanchisquare(*values.T).statistic)
    room = n * (k - 1) - chi
    # All models agree on every rank: F has no denominator. So many agree by chance this often.
    agreed = float(math.factorial(k)) ** (1 - n)
    f = (n - 1) * chi / room if room > 1e-9 else math.inf
    return Ranks(
        n,
        told,
        chi,
        float(stats.chi2.sf(chi, k - 1)),
        f if math.isfinite(f) else None,
        float(stats.f.sf(f, k - 1, (k - 1) * (n - 1))) if math.isfinite(f) else agreed,
        critical_difference(k, n, alpha=alpha),
        *_nemenyi(values, names),
    )


def critical_difference(k: int, n: int, *, alpha: float = 0.05) -> float:
    """Return the difference of mean ranks of ``k`` methods over ``n`` models that is significant.

    q sqrt(k (k + 1) / 6 n), with q the studentized range over sqrt(2) (Demsar 2006, 3.2.2).
    """
    from scipy import stats

    q = float(stats.studentized_range.ppf(1 - alpha, k, math.inf)) / math.sqrt(2)
    return q * math.sqrt(k * (k + 1) / (6 * n))


def _nemenyi(
    values: npt.NDArray[np.float64], names: Sequence[str]
) -> tuple[dict[tuple[str, str], float], str]:
    try:
        from scikit_posthocs import posthoc_nemenyi_friedman
    except ImportError:
        install = "pip install 'benchsuite[statistics]'"
        return {}, f"Nemenyi's p-values need scikit-posthocs: {install}"
    found = posthoc_nemenyi_friedman(values).to_numpy()
    pairs = {
        (names[i], names[j]): float(found[i, j])
        for i in range(len(names))
        for j in range(i + 1, len(names))
    }
    return pairs, ""
