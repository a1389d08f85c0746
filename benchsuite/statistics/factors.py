"""Analysis of variance with main effects: which factor moves a value, given the others?"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import fdtrc

from benchsuite.statistics.samples import as_sample, refusal


@dataclass(frozen=True)
class Effect:
    """One factor: degrees of freedom, sum of squares, F, p, and partial eta squared.

    That is its sum of squares over the same and what stays unexplained (Cohen 1973): the parts of
    several factors do not add up.
    F, p and partial eta squared are None where ``reason`` says why.
    """

    factor: str
    df: int
    sum_of_squares: float | None
    f: float | None
    p_value: float | None
    partial_eta_squared: float | None
    reason: str = ""


@dataclass(frozen=True)
class Anova:
    """The factors' effects, each given all others (type II), and what they leave unexplained."""

    effects: tuple[Effect, ...]
    n: int
    residual_df: int
    residual_sum_of_squares: float


def anova(values: Iterable[float], factors: Mapping[str, Sequence[str]]) -> Anova:
    """Return the main-effects analysis of variance of ``values`` [n] by ``factors`` (name -> [n]).

    A factor's sum of squares is what leaving it out adds to the residual (type II, so the order of
    factors does not matter and cells may be missing). A factor of one level, or one that the others
    determine, has no effect of its own and says so. Raises ``ValueError`` where values are missing
    or infinite.
    """
    y = as_sample(values)
    if reason := refusal(("the values", y), least=1):
        raise ValueError(reason)
    full = _design(factors, len(y))
    rank = int(np.linalg.matrix_rank(full))
    residual_df, left = len(y) - rank, _residual(full, y)
    effects = []
    for name in factors:
        reduced = _design({k: v for k, v in factors.items() if k != name}, len(y))
        df = rank - int(np.linalg.matrix_rank(reduced))
        if df == 0:
            reason = "it has one level, or the other factors determine it"
            effects.append(Effect(name, 0, None, None, None, None, reason))
            continue
        own = max(0.0, _residual(reduced, y) - left)
        if residual_df < 1 or left <= 1e-12 * float(((y - y.mean()) ** 2).sum()):
            reason = f"{len(y)} values leave nothing to estimate the noise from"
            effects.append(Effect(name, df, own, None, None, None, reason))
            continue
        f = own / df / (left / residual_df)
        p_value = float(fdtrc(df, residual_df, f))
        effects.append(Effect(name, df, own, f, p_value, own / (own + left)))
    return Anova(tuple(effects), len(y), residual_df, left)


def _design(factors: Mapping[str, Sequence[str]], n: int) -> np.ndarray:
    columns: list[np.ndarray] = [np.ones(n)]
    for levels in factors.values():
        _, *others = dict.fromkeys(levels)
        columns += [np.array([float(seen == level) for seen in levels]) for level in others]
    return np.column_stack(columns)


def _residual(design: np.ndarray, y: np.ndarray) -> float:
    fitted = design @ np.linalg.lstsq(design, y, rcond=None)[0]
    return float(((y - fitted) ** 2).sum())
