"""The verdict on each metric and over all of them."""

import math

import numpy as np
import pytest

from benchsuite.comparing import PairedItems, judge, parse_margins
from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.statistics.paired_shares import p_above, p_below
from tests.comparing.paired import answers, chunks


def only(items, **options):
    (metric,) = judge([items], **options).metrics
    return metric


def test_an_accuracy_is_judged_by_its_questions():
    found = only(answers(1000, 60, 20))

    assert found.outcome == "worse"
    assert (found.lost, found.gained, found.n_items) == (60, 20, 1000)
    assert (found.base, found.candidate, found.loss) == pytest.approx((56.0, 52.0, 4.0))
    assert found.p_worse == p_above(1000, 60, 20, 0.01)
    assert found.p_not_worse == p_below(1000, 60, 20, 0.01)
    assert found.mcnemar_p < 1e-4
    assert 1 < found.low < 4 < found.high
    assert found.items_needed is None


def test_the_margin_is_what_makes_a_loss_matter():
    items = answers(5000, 60, 40)

    assert only(items).outcome == "not_worse"
    assert only(items, margins={"accuracy": "0.2"}).outcome == "undecided"
    assert only(items, margins={"accuracy:arc": "2", "accuracy": "0.2"}).margin == 2.0
    assert only(items, margins={"accuracy": "2%"}).margin == pytest.approx(0.02 * 51.2)


def test_what_is_undecided_says_how_many_items_would_decide():
    found = only(answers(200, 8, 8))

    assert found.outcome == "undecided"
    again = answers(found.items_needed, *[round(found.items_needed * 0.04)] * 2)
    assert only(again).outcome == "not_worse"
    assert found.items_needed == found.items_if_equal


def test_a_loss_at_the_margin_is_decided_by_no_number_of_items():
    found = only(answers(200, 6, 4))

    assert found.loss == found.margin == 1.0
    assert found.items_needed is None
    assert found.items_if_equal > 200


def test_a_loss_above_the_margin_needs_items_too():
    found = only(answers(200, 12, 6))

    assert found.outcome == "undecided"
    n = found.items_needed
    assert only(answers(n, round(0.06 * n), round(0.03 * n))).outcome == "worse"


def test_no_question_that_differs_is_not_worse_at_enough_questions():
    assert only(answers(200, 0, 0)).outcome == "undecided"
    assert only(answers(200, 0, 0)).items_needed < 600
    assert only(answers(600, 0, 0)).outcome == "not_worse"


def test_a_perplexity_is_judged_by_the_log_ratio_of_its_chunks():
    rng = np.random.default_rng(0)
    found = only(chunks(rng.normal(0.02, 0.004, 40)))

    assert found.metric == "perplexity"
    assert found.base == pytest.approx(math.exp(2))
    assert found.loss == pytest.approx(100 * (found.candidate / found.base - 1))
    assert found.margin == pytest.approx(0.5)
    assert found.outcome == "worse"
    points = only(chunks(rng.normal(0.02, 0.004, 40)), margins={"perplexity": "0.5"})
    assert points.margin == pytest.approx(100 * 0.5 / math.exp(2))


def test_a_kl_is_judged_in_nats():
    rng = np.random.default_rng(0)

    assert only(chunks(rng.gamma(4, 0.001, 60), "kl")).outcome == "not_worse"
    assert only(chunks(rng.gamma(4, 0.01, 60), "kl")).outcome == "worse"
    with pytest.raises(UsageError, match=r"[Ww]rite it in nats"):
        judge([chunks([0.1, 0.2], "kl")], margins={"kl": "5%"})


def test_questions_in_clusters_are_judged_by_clusters():
    items = answers(400, 20, 20)
    clustered = PairedItems(
        items.metric,
        items.ids,
        items.base,
        items.candidate,
        tuple(str(i // 20) for i in range(400)),
    )

    found = only(clustered)

    assert found.n_clusters == 20
    # The lost questions fill one cluster, and the gained ones another: 2 of 20 differ.
    assert found.high - found.low > 2 * (only(items).high - only(items).low)
    assert found.lost is None


def test_one_worse_metric_is_enough_and_all_must_be_not_worse():
    fine, bad = answers(2000, 20, 20, name="accuracy:a"), answers(2000, 160, 40, name="accuracy:b")
    open_ = answers(200, 8, 8, name="accuracy:c")

    assert judge([fine, bad, open_]).outcome == "worse"
    assert judge([fine, open_]).outcome == "undecided"
    assert judge([fine, answers(2000, 20, 18, name="accuracy:d")]).outcome == "not_worse"
    assert judge([fine, open_]).items_needed == only(open_).items_needed


def test_a_loss_among_many_metrics_has_to_be_clearer():
    close = answers(1000, 60, 33, name="accuracy:close")
    fine = [answers(2000, 20, 20, name=f"accuracy:{i}") for i in range(9)]

    assert only(close).outcome == "worse"
    found = judge([close, *fine])
    assert found.metrics[0].outcome == "undecided"
    assert found.metrics[0].p_worse_corrected == pytest.approx(10 * found.metrics[0].p_worse)


def test_a_loss_among_many_metrics_needs_more_items_and_no_loss_needs_no_more():
    loss, none = answers(200, 12, 6, name="accuracy:a"), answers(200, 8, 8, name="accuracy:b")
    others = [answers(2000, 20, 20, name=f"accuracy:{i}") for i in range(9)]

    alone = [only(items).items_needed for items in (loss, none)]
    beside = [judge([items, *others]).metrics[0].items_needed for items in (loss, none)]

    assert beside[0] > 1.5 * alone[0]
    assert beside[1] == alone[1]


@pytest.mark.parametrize(
    ("items", "told"),
    [
        (
            PairedItems("accuracy:a", (), np.zeros(0), np.zeros(0)),
            "no item was measured under both",
        ),
        (PairedItems("accuracy:a", ("q",), np.ones(1), np.full(1, 2.0)), "1 to 2 are no shares"),
        (PairedItems("nll", ("c", "d"), np.ones(2), np.array([1.0, np.nan])), "the first is d"),
        (PairedItems("bleu:a", ("q",), np.ones(1), np.ones(1)), "unknown kind of metric: 'bleu'"),
    ],
)
def test_what_cannot_be_judged_is_refused(items, told):
    with pytest.raises(BenchsuiteError, match=told):
        judge([items])


@pytest.mark.parametrize("level", [{"alpha": 0.0}, {"alpha": 0.5}, {"power": 1.0}, {"power": 0.1}])
def test_levels_at_which_there_is_no_test_are_refused(level):
    with pytest.raises(UsageError):
        judge([answers(10, 1, 1)], **level)


def test_margins_are_read_by_kind_or_metric():
    assert parse_margins(["accuracy=2", "perplexity=1%"]) == {"accuracy": "2", "perplexity": "1%"}
    assert parse_margins(["accuracy:arc=.5"]) == {"accuracy:arc": ".5"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("accuracy", "cannot be read. Write --margin METRIC=VALUE"),
        ("acuracy=1", "did you mean 'accuracy'"),
        ("accuracy=-1", "write a positive number"),
        ("accuracy=nan", "write a positive number"),
    ],
)
def test_a_margin_that_cannot_be_read_is_refused(text, told):
    with pytest.raises(UsageError, match=f"(?i){told}"):
        parse_margins([text])
