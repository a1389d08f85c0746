"""Metrics: every study's are declared, and numbers are shown as they say."""

import re
from dataclasses import replace

import numpy as np
import pytest

from benchsuite.errors import UsageError
from benchsuite.reporting import numbers
from benchsuite.study import (
    ACCURACY,
    PERPLEXITY,
    Metric,
    Study,
    lower,
    names,
    study,
    use_margins,
)

SHARE = Metric("accuracy", better="higher", unit="%", scale=100, format=".1f")


@pytest.mark.parametrize("name", names())
def test_methods_are_ranked_by_a_metric_with_a_better_side(name):
    assert study(name).ranked_by.better


@pytest.mark.parametrize("name", names())
def test_what_a_study_compares_is_declared(name):
    declared = study(name)
    compared = {claim.metric for claim in declared.claims if claim.other}
    assert compared <= {metric.name for metric in declared.metrics}


def test_a_side_that_there_is_not_is_refused():
    with pytest.raises(UsageError, match="better='more'"):
        Metric("speed", better="more")


def test_a_study_without_a_metric_is_refused():
    axes = {"model": ("tiny_llama_1m",), "method": ("a",)}
    with pytest.raises(UsageError, match="has no metric"):
        Study("own", "?", axes, (1,), metrics=())


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"scale": 0}, "scale=0"),
        ({"scale": -100}, "scale=-100"),
        ({"format": "%.2f"}, "format='%.2f'"),
        ({"margin": 0.01}, "margin 0.01 of v cannot be read"),
        ({"items": "right"}, "items='right'"),
        ({"items": ("right", "mean")}, "items="),
        ({"ranking": ("right",)}, "ranking="),
        ({"name": ""}, "name ''"),
    ],
)
def test_a_field_that_no_report_could_read_is_refused_where_it_is_declared(fields, told):
    with pytest.raises(UsageError, match=re.escape(told)):
        Metric(**{"name": "v", **fields})


@pytest.mark.parametrize(
    ("metrics", "told"),
    [
        ((Metric("v", better="higher"), Metric("v", better="lower")), "two metrics"),
        ((Metric("v"), Metric("w", key="v")), "two metrics under the name 'v'"),
        ((Metric("v"), Metric("times")), "the key 'times'"),
        ((Metric("v"), Metric("w", key="best")), "the key 'best'"),
        (("v",), "`metrics` with 'v'"),
        ("v", "`metrics` with 'v'"),
        (Metric("v"), "give a tuple of Metrics"),
        ((Metric("v", parts=True), Metric("w")), "ranks its methods by 'v', a table"),
    ],
)
def test_metrics_of_one_name_or_of_another_kind_are_refused(metrics, told):
    axes = {"model": ("tiny_llama_1m",), "method": ("a",)}
    with pytest.raises(UsageError, match=f"(?i){re.escape(told)}"):
        Study("own", "?", axes, (1,), metrics=metrics)


def test_items_make_the_metric():
    nll, right = np.array([1.0, 2.0, 3.0]), np.array([True, False, False, False])
    assert PERPLEXITY.items is not None
    assert ACCURACY.items is not None
    assert PERPLEXITY.items[1](nll.mean()) == pytest.approx(np.e**2)
    assert ACCURACY.items[1](right.mean()) == 25.0


@pytest.mark.parametrize(
    ("metric", "mean", "std", "told"),
    [
        (ACCURACY, 1.0, None, "1.0 %"),
        (ACCURACY, 1.0, 0.0, "1.0 ± 0 %"),
        (ACCURACY, 41.234, 0.8, "41.2 ± 0.8 %"),
        (SHARE, 0.01, None, "1.0 %"),
        (SHARE, 0.41234, 0.008, "41.2 ± 0.8 %"),
        (PERPLEXITY, 5.72, 0.08, "5.72 ± 0.08"),
        (PERPLEXITY, 5.7234, None, "5.7234"),
        (Metric("loss", unit="nats"), -0.5, None, "−0.5000 nats"),
        (Metric("loss", format=".2f"), -0.5, None, "−0.50"),
        (ACCURACY, None, None, "–"),
    ],
)
def test_a_mean_is_shown_with_its_unit(metric, mean, std, told):
    assert numbers.spread(metric, mean, std) == told


def test_a_tables_head_says_the_unit_instead():
    assert ACCURACY.heading == "accuracy (%)"
    assert numbers.spread(SHARE, 0.41234, 0.008, unit=False) == "41.2 ± 0.8"
    assert numbers.interval(SHARE, 0.412, 0.404, 0.42) == "41.2 [40.4, 42.0]"
    assert PERPLEXITY.heading == "perplexity"


def test_a_stored_number_bears_the_unit_only_if_it_is_in_it():
    assert ACCURACY.stored_heading == "accuracy (%)"
    assert SHARE.stored_heading == "accuracy"


def test_what_the_summary_keeps_of_a_metric_shows_the_same():
    again = Metric(**SHARE.as_dict())
    assert numbers.spread(again, 0.25, None) == numbers.spread(SHARE, 0.25, None) == "25.0 %"


@pytest.mark.parametrize("margin", ["", "0", "-1", "1 point", "nan", "inf%"])
def test_a_margin_that_is_none_is_refused(margin):
    with pytest.raises(UsageError, match="of speed cannot be read"):
        Metric("speed", margin=margin)


@pytest.mark.parametrize(
    ("name", "metric", "margin"),
    [
        ("calibration_selection", "perplexity", "0.5%"),
        ("quantizers", "kl", "0.01"),
        ("quantizers", "arc_accuracy", "1"),
        ("latent_training", "held_out_loss", "0.01"),
        ("uncertainty", "auroc", "0.01"),
    ],
)
def test_what_matters_is_declared_with_the_metric(name, metric, margin):
    assert study(name).metric(metric).margin == margin


def test_the_users_margin_stands_in_the_place_of_the_declared_one():
    use_margins({"perplexity": "2%"})
    try:
        assert study("calibration_selection").metric("perplexity").margin == "2%"
        assert study("quantizers").metric("kl").margin == "0.01"
    finally:
        use_margins({})
    assert study("calibration_selection").metric("perplexity").margin == "0.5%"


def test_what_is_in_a_table_is_like_the_table_s_numbers():
    tasks = Metric("tasks", better="higher", unit="%", margin="2", parts=True)
    axes = {"model": ("tiny_llama_1m",), "method": ("a", "b")}
    own = Study("own", "?", axes, (1,), metrics=(PERPLEXITY, tasks))

    arc = own.metric("tasks.arc")
    assert (arc.name, arc.better, arc.unit, arc.margin) == ("tasks.arc", "higher", "%", "2")
    assert not arc.parts
    assert own.metric("tasksarc") == Metric("tasksarc")
    try:
        use_margins({"tasks": "3", "tasks.mmlu": "4"})
        assert [own.metric(f"tasks.{task}").margin for task in ("arc", "mmlu")] == ["3", "4"]
    finally:
        use_margins({})
    with pytest.raises(UsageError, match=r"where records hold a table\. Name .* tasks\.average"):
        replace(own, claims=(lower("tasks", "a", than="b"),))
    assert replace(own, claims=(lower("tasks.arc", "a", than="b"),)).claims
