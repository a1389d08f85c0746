"""A mixed model of two methods over models and seeds, with Satterthwaite's degrees of freedom.

    y = model + method / 2 + model:method + seed + seed:method + rest

``model`` is fixed; ``model:method`` is how much more or less a model gains than another. ``seed``
is what a seed adds under every model and method, ``seed:method`` what it adds under one method, as
a seed that chooses the same calibration text for every model may. The methods' difference is
tested. Pairs are differences already: what a seed adds to both is gone from them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

Array = npt.NDArray[np.float64]
# A variance below this share of the residual one is at the edge: REML has set it to zero.
EDGE = 1e-4


@dataclass(frozen=True)
class Row:
    """One measured value: of which model, under which seed, by the first method or the second.

    ``first`` is None for the difference of a pair.
    """

    model: str
    seed: int
    first: bool | None
    value: float


@dataclass(frozen=True)
class Fit:
    """The methods' difference, its standard error and degrees of freedom, and the variances."""

    difference: float
    error: float
    df: float
    variances: dict[str, float]


def fit(rows: Sequence[Row]) -> Fit | None:
    """Return the fit by restricted maximum likelihood, None if there is none.

    ``seed:method`` is in the model wherever seeds recur: left out where it seems to be nothing,
    seeds that move all models alike make 7 % false claims at 5 %.
    """
    with threadpool_limits(limits=1):  # a hundred rows: several threads only wait for each other
        found = _fitted(rows, shared=True) if _seeds_recur(rows) else None
        return found or _fitted(rows, shared=False)


def _seeds_recur(rows: Sequence[Row]) -> bool:
    """Say whether a seed was run on several models under each method, and not one seed alone."""
    found: dict[tuple[int, bool | None], set[str]] = {}
    for row in rows:
        found.setdefault((row.seed, row.first), set()).add(row.model)
    seeds = {seed for seed, _ in found}
    return len(seeds) > 1 and all(len(models) > 1 for models in found.values())


def _fitted(rows: Sequence[Row], *, shared: bool) -> Fit | None:
    values = np.array([row.value for row in rows])
    scale = float(np.std(values)) or 1.0
    fixed, random = _design(rows, shared)
    likelihood = _Likelihood(values / scale, fixed, list(random.values()))
    try:
        # Methods that follow the gradient stop far from the maximum where a variance is zero.
        found = minimize(
            lambda roots: -likelihood.at(roots).value,
            np.ones(len(random)),
            method="Powell",
            options={"xtol": 1e-6, "ftol": 1e-10},
        )
        best = likelihood.at(found.x)
        components = [best.residual, *(best.residual * found.x**2)]
        error, df = _satterthwaite(fixed, list(random.values()), components)
    except np.linalg.LinAlgError:
        return None
    if not (np.isfinite(error) and error > 0 and np.isfinite(df)):
        return None
    squares = [float(c) * scale * scale for c in components]
    variances = dict(zip(("rest", *random), squares, strict=True))
    return Fit(best.effect * scale, error * scale, df, variances)


class _At(NamedTuple):
    """The restricted log-likelihood at given variances, the residual one, and the last effect."""

    value: float
    residual: float
    effect: float


class _Likelihood:
    """The restricted likelihood, the residual variance and the fixed effects profiled out.

    The variances enter as the roots of their ratios to the residual one. With V = I + Z R R Z' all
    that is needed of n values are the products of X, y and Z with each other: I + R Z'Z R, as wide
    as there are random effects, has V's determinant and gives its inverse (Henderson 1984).
    """

    def __init__(self, values: Array, fixed: Array, random: Sequence[Array]) -> None:
        known, effects = np.column_stack([fixed, values]), np.column_stack(random)
        self._free = len(values) - fixed.shape[1]
        self._widths = [part.shape[1] for part in random]
        self._known, self._cross = known.T @ known, effects.T @ known
        self._effects = effects.T @ effects

    def at(self, roots: Array) -> _At:
        """Return what the likelihood is there; LinAlgError where it has no value."""
        root = np.repeat(roots, self._widths)[:, None]
        lower = np.linalg.cholesky(np.eye(len(root)) + root * self._effects * root.T)
        seen = solve_triangular(lower, root * self._cross, lower=True)
        products = np.linalg.cholesky(self._known - seen.T @ seen)
        # The factor of [X y]'V^-1[X y] has that of X'V^-1X, the effects, and what is left of y.
        x, y, rest = products[:-1, :-1], products[-1, :-1], float(products[-1, -1])
        residual = rest**2 / self._free
        determinants = np.log(np.diag(lower)).sum() + np.log(np.diag(x)).sum()
        value = -0.5 * self._free * (np.log(residual) + 1) - determinants
        effect = solve_triangular(x.T, y, lower=False)[-1]
        return _At(float(value), residual, float(effect))


def _design(rows: Sequence[Row], shared: bool) -> tuple[Array, dict[str, Array]]:
    """Return the fixed effects' matrix, method last, and one matrix per random effect."""
    if rows[0].first is None:
        random = {"model:method": _indicators([row.model for row in rows])}
        random |= {"seed:method": _indicators([row.seed for row in rows])} if shared else {}
        return np.ones((len(rows), 1)), random
    half = np.array([0.5 if row.first else -0.5 for row in rows])
    models = _indicators([row.model for row in rows])
    random = {"model:method": models * half[:, None]}
    seeds = [row.seed for row in rows]
    if len(set(seeds)) > 1:
        random["seed"] = _indicators(seeds)
    if shared:
        random["seed:method"] = _indicators([(row.seed, row.first) for row in rows])
    return np.column_stack([models, half]), random


def _indicators(labels: Sequence[Any]) -> Array:
    known = sorted(set(labels))
    return np.array([[float(label == k) for k in known] for label in labels])


def _satterthwaite(
    fixed: Array, random: Sequence[Array], components: Sequence[float]
) -> tuple[float, float]:
    """Return the standard error of the last fixed effect and its degrees of freedom.

    Twice the squared variance over the variance of that variance, which the expected information
    of the components gives (Giesbrecht and Burns 1985); components at the edge are not estimated.
    """
    shapes = [np.eye(len(fixed)), *(z @ z.T for z in random)]
    active = [0] + [i for i in range(1, len(components)) if components[i] > EDGE * components[0]]
    inverse = np.linalg.inv(sum(components[i] * shapes[i] for i in active))
    covariance = np.linalg.inv(fixed.T @ inverse @ fixed)
    project = inverse - inverse @ fixed @ covariance @ fixed.T @ inverse
    weights = inverse @ fixed @ covariance[:, -1]
    gradient = np.array([weights @ shapes[i] @ weights for i in active])
    parts = [project @ shapes[i] for i in active]
    information = np.array([[0.5 * np.sum(p * q.T) for q in parts] for p in parts])
    variance = float(covariance[-1, -1])
    spread = float(gradient @ np.linalg.solve(information, gradient))
    return float(np.sqrt(variance)), max(1.0, 2 * variance**2 / spread)
