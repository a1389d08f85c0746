"""Items in batches: clear cases end early, and what is promised holds."""

import functools
from dataclasses import replace

import numpy as np
import pytest

from benchsuite.comparing import EarlyEnd, judge
from benchsuite.comparing.early import batches, joined, last_level
from benchsuite.comparing.pairs import PairedItems
from benchsuite.errors import UsageError
from tests.comparing.paired import answers, chunks


def renamed(items, prefix):
    """The same items under other ids."""
    return replace(items, ids=tuple(prefix + i for i in items.ids))


def ended(*metrics, **options):
    """Feed batches of all metrics until it is decided."""
    judged = EarlyEnd({m.metric: len(m.ids) for m in metrics}, **options)
    for batch in zip(*map(batches, metrics), strict=True):
        if judged.feed(batch) != "undecided":
            break
    return judged


def test_a_clear_loss_ends_at_once_and_a_close_one_does_not():
    clear, close = answers(1000, 300, 20), answers(1000, 50, 30)

    assert (ended(clear).outcome, ended(clear).looks) == ("worse", 1)
    assert (ended(close).outcome, ended(close).looks) == ("undecided", 5)
    assert ended(clear).verdict().metrics[0].n_items == 200


def test_a_clear_case_of_no_loss_ends_early():
    found = ended(answers(5000, 50, 50))

    assert found.outcome == "not_worse"
    assert found.looks < 5
    assert found.verdict().looks == found.looks


def test_every_look_is_paid_for():
    """What just reaches alpha at one look does not with five."""
    parts = [renamed(answers(200, 12 + (i > 2), 7), f"{i}-") for i in range(5)]
    once = judge([functools.reduce(joined, parts)])

    assert once.outcome == "worse"
    found = EarlyEnd({parts[0].metric: 1000})
    for part in parts:
        found.feed([part])
    (metric,) = found.verdict().metrics
    assert found.outcome == "undecided"
    assert metric.p_worse > once.metrics[0].p_worse
    assert metric.high - metric.low > once.metrics[0].high - once.metrics[0].low
    assert last_level(0.05) < 0.05


def test_a_metric_that_comes_whole_pays_nothing():
    judged = EarlyEnd({"nll": 40})
    judged.feed([items := chunks(np.random.default_rng(0).normal(0.01, 0.01, 40))])

    assert judged.verdict().metrics == judge([items]).metrics


def test_a_metric_that_is_not_worse_takes_no_further_items():
    fine, close = answers(5000, 5, 5, name="accuracy:a"), answers(5000, 300, 245, name="accuracy:b")

    found = ended(fine, close).verdict()

    assert [m.outcome for m in found.metrics] == ["not_worse", "undecided"]
    assert found.metrics[0].n_items < 5000 == found.metrics[1].n_items


def test_a_metric_without_items_leaves_it_undecided():
    fine = answers(2000, 5, 5, name="accuracy:a")
    judged = EarlyEnd({"accuracy:a": 2000, "accuracy:b": 100})

    assert judged.feed([fine]) == "undecided"
    assert judged.open == {"accuracy:b"}
    assert judged.verdict().outcome == "undecided"


def test_batches_are_drawn_at_random_and_hold_every_item_once():
    items = answers(103, 20, 0)
    cut = batches(items)

    assert sorted(i for part in cut for i in part.ids) == sorted(items.ids)
    assert {len(part.ids) for part in cut} <= {20, 21}
    # All 20 lost questions come first in the file, and in no batch alone.
    assert max((part.base - part.candidate).sum() for part in cut) < 12
    assert [part.ids for part in batches(items)] == [part.ids for part in cut]


def test_a_cluster_stays_in_one_batch():
    items = answers(100, 10, 10)
    items = PairedItems(
        items.metric, items.ids, items.base, items.candidate, tuple(str(i // 7) for i in range(100))
    )
    seen = [set(part.clusters) for part in batches(items)]

    assert sum(map(len, seen)) == len(set(items.clusters))
    assert ended(items).verdict().metrics[0].n_clusters == len(set(items.clusters))


@pytest.mark.parametrize("level", [{"alpha": 0.5}, {"power": 1.0}])
def test_levels_at_which_there_is_no_test_are_refused_before_anything_is_asked(level):
    with pytest.raises(UsageError):
        EarlyEnd({"nll": 40}, **level)


def test_an_item_comes_once_and_no_more_than_were_planned():
    items = answers(100, 10, 10)
    judged = EarlyEnd({items.metric: 150})
    judged.feed([items])

    with pytest.raises(ValueError, match="100 items in common"):
        judged.feed([items])
    with pytest.raises(ValueError, match="planned 50"):
        EarlyEnd({items.metric: 50}).feed([items])
