"""Samples with given moments, and strategies that the properties share."""

import math

import numpy as np
from hypothesis import strategies as st


def with_moments(mean, std, n, rng_seed=0):
    """Return n values whose mean and std (ddof 1) are the given ones."""
    raw = np.random.default_rng(rng_seed).normal(size=n)
    raw = (raw - raw.mean()) / raw.std(ddof=1)
    return list(mean + std * raw)


numbers = st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 6))


def seeds(least=2, most=8):
    return st.lists(numbers, min_size=least, max_size=most)


varied = seeds().filter(lambda v: np.std(v) > 1e-3 * (1 + max(map(abs, v))))
anything = st.lists(
    st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, 1e308, 1e-320, 5.7]),
    max_size=6,
)


def clean(result):
    """Say whether no field of a result is NaN and an undefined one carries its reason."""
    values = [v for v in vars(result).values() if isinstance(v, float)]
    return not any(math.isnan(v) for v in values) and (result.defined or bool(result.reason))
