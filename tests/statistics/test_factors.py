"""Analysis of variance against scipy's one-way test, and its own identities."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import f_oneway

from benchsuite.statistics.factors import anova


def test_one_factor_is_scipys_one_way_test():
    rng = np.random.default_rng(0)
    groups = {name: rng.normal(loc=shift, size=n) for name, shift, n in (("a", 0, 6), ("b", 1, 9))}
    expected = f_oneway(*groups.values())
    levels = [name for name, values in groups.items() for _ in values]
    (effect,) = anova(np.concatenate(list(groups.values())), {"group": levels}).effects
    assert effect.f == pytest.approx(expected.statistic)
    assert effect.p_value == pytest.approx(expected.pvalue)


def test_balanced_factors_split_the_whole_sum_of_squares():
    rng = np.random.default_rng(1)
    cells = [(a, b) for a in "xyz" for b in "pq" for _ in range(4)]
    y = np.array([ord(a) / 7 + (b == "p") for a, b in cells]) + rng.normal(size=24)
    found = anova(y, {"a": [a for a, _ in cells], "b": [b for _, b in cells]})
    parts = sum(effect.sum_of_squares for effect in found.effects) + found.residual_sum_of_squares
    assert parts == pytest.approx(((y - y.mean()) ** 2).sum())
    assert [effect.df for effect in found.effects] == [2, 1]
    assert found.residual_df == 20
    swapped = anova(y, {"b": [b for _, b in cells], "a": [a for a, _ in cells]})
    for one, two in zip(found.effects, swapped.effects[::-1], strict=True):
        assert one.f == pytest.approx(two.f)


def test_what_cannot_be_told_says_why():
    flat = anova([1.0, 2.0, 3.0], {"one": ["a"] * 3, "same": ["x", "y", "z"]})
    assert "one level" in flat.effects[0].reason
    assert "nothing to estimate the noise" in flat.effects[1].reason
    tied = anova(range(6), {"a": list("xxyyzz"), "b": list("ppqqrr")})
    assert all("determine" in effect.reason for effect in tied.effects)


def test_false_positives_stay_at_alpha():
    rng = np.random.default_rng(2)
    levels = {"a": list("xyz") * 4, "b": list("pq") * 6}
    p_values = [
        effect.p_value for _ in range(300) for effect in anova(rng.normal(size=12), levels).effects
    ]
    share = float(np.mean(np.array(p_values) < 0.05))
    assert share < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 600)


def test_the_effect_is_the_partial_eta_squared():
    rng = np.random.default_rng(3)
    levels = {"a": list("xyz") * 4, "b": list("pq") * 6}
    found = anova(rng.normal(size=12), levels)
    for effect in found.effects:
        # F and its degrees of freedom give it too (Cohen 1973).
        expected = effect.f * effect.df / (effect.f * effect.df + found.residual_df)
        assert effect.partial_eta_squared == pytest.approx(expected)


def test_the_public_names_are_functions_and_classes_whatever_was_imported_first():
    import benchsuite.statistics as room

    for path in sorted(Path(room.__file__).parent.glob("*.py")):
        importlib.import_module(f"benchsuite.statistics.{path.stem}")
    assert not [name for name in room.__all__ if isinstance(getattr(room, name), ModuleType)]
