"""The file of a frozen plan: exact products, a digest over the content, errors with a fix."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchsuite.errors import UsageError
from benchsuite.study import Cell
from benchsuite.study.plan import content_digest, patterns, read_plan, readable

EMPTY = {"benchsuite_plan": 1}
POINTS = st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(1, 4))


def cell(model, method, seed, **parameters):
    return Cell("s", {"model": model, "method": method, "seed": seed}, parameters, {})


@given(st.sets(POINTS, min_size=1), st.sampled_from(["none", "method", "seed"]))
def test_the_products_are_the_cells_and_no_others(points, differs):
    own = {"none": lambda p: 8, "method": lambda p: ord(p[1]), "seed": lambda p: p[2] == 1}
    cells = [cell(*point, n=own[differs](point), same=2) for point in sorted(points)]

    shared, products = patterns(cells)

    written = [
        (*values, ({**shared, **product["parameters"]})["n"])
        for product in products
        for values in itertools.product(*product["axes"].values())
    ]
    assert sorted(written) == sorted((*p, own[differs](p)) for p in points)
    assert shared["same"] == 2


def test_a_whole_grid_is_one_product():
    cells = [cell(*point) for point in itertools.product("abc", "xy", range(1, 6))]
    (one,) = patterns(cells)[1]
    assert one["axes"] == {"model": ["a", "b", "c"], "method": ["x", "y"], "seed": [1, 2, 3, 4, 5]}


def test_the_text_reads_back_and_keeps_lists_of_values_on_a_line():
    body = {"a": [1, 2, 3], "b": [{"c": None}, {"d": "é"}], "e": {}, "f": []}
    assert json.loads(readable(body)) == body
    assert '"a": [1, 2, 3]' in readable(body)
    assert content_digest(body) == content_digest({"sha256": "x", **dict(reversed(body.items()))})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("[]", "this is no plan"),
        ("{", "this is no plan"),
        ('{"benchsuite_plan": 2}', "the plan has version 2, and 1 can be read"),
        ('{"benchsuite_plan": 1, "sha256": "0"}', "was changed after it was frozen"),
        (readable({**EMPTY, "sha256": content_digest(EMPTY)}), "the plan lacks something"),
    ],
)
def test_what_is_no_plan_is_one_paragraph(tmp_path, body, said):
    (tmp_path / "plan.json").write_text(body)
    with pytest.raises(UsageError, match=said):
        read_plan(tmp_path / "plan.json")


def test_a_plan_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_plan(tmp_path / "plan.json")
