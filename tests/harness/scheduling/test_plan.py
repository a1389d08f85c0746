"""Shares of work against all shares that there are."""

import itertools
import random

import pytest

from benchsuite.harness.scheduling.plan import Kind, Waiting, share_out


def end_of(share, free, holds, seconds, load):
    """Return when a worker ends that loads each model of its share once."""
    own = sum(seconds[kind] * n for kind, n in share.items())
    return free + own + sum(load[model] for model in {k.model for k in share if k.model != holds})


def best_end(cells, free, holds, seconds, load):
    """Return the earliest end by trying every assignment of every cell."""
    ends = []
    for given in itertools.product(range(len(free)), repeat=len(cells)):
        shares = [{} for _ in free]
        for kind, worker in zip(cells, given, strict=True):
            shares[worker][kind] = shares[worker].get(kind, 0) + 1
        each = zip(shares, free, holds, strict=True)
        ends.append(max(end_of(s, f, h, seconds, load) for s, f, h in each))
    return min(ends)


@pytest.mark.parametrize("seed", range(40))
def test_everything_is_shared_out_and_ends_nearly_as_early_as_it_can(seed):
    draw = random.Random(seed)
    models = ("a", "b", "c")
    kinds = [Kind(model, method) for model in models for method in ("x", "y")]
    cells = draw.choices(kinds, k=draw.randint(1, 7))
    seconds = {kind: draw.uniform(1, 10) for kind in kinds}
    load = {model: draw.choice([0.0, 1.0, 8.0]) for model in models}
    n = draw.randint(1, 3)
    free = [draw.uniform(0, 10) for _ in range(n)]
    holds = [draw.choice([*models, None]) for _ in range(n)]
    waiting = [Waiting(k, cells.count(k), seconds[k]) for k in dict.fromkeys(cells)]

    shares = share_out(free, holds, waiting, load.__getitem__)

    for kind, count, _ in waiting:
        assert sum(share.get(kind, 0) for share in shares) == count
    each = zip(shares, free, holds, strict=True)
    end = max(end_of(s, f, h, seconds, load) for s, f, h in each)
    assert end <= 1.25 * best_end(cells, free, holds, seconds, load)


def test_a_model_is_not_loaded_where_its_holder_ends_in_time():
    (first, second) = share_out(
        [0.0, 0.0], ["large", "small"], [Waiting(Kind("large", "x"), 4, 1.0)], lambda model: 26.0
    )
    assert first == {Kind("large", "x"): 4}
    assert second == {}


@pytest.mark.parametrize(
    ("free", "holds", "seconds", "load", "end"),
    [
        # Both hold a: the one with less time left takes its cell, and the other loads b.
        ([0.0, 2.0], ["a", "a"], {"b": 5.0, "a": 5.0}, {"a": 4.0, "b": 2.0}, 7.0),
        ([2.0, 0.0], ["a", "a"], {"b": 5.0, "a": 5.0}, {"a": 4.0, "b": 2.0}, 7.0),
        # One holds b: the other takes a, although it has more time left.
        ([4.0, 3.0], ["b", None], {"b": 1.0, "a": 1.0}, {"a": 0.0, "b": 2.0}, 5.0),
    ],
)
def test_the_end_is_the_earliest_whether_the_fuller_or_the_freer_worker_comes_first(
    free, holds, seconds, load, end
):
    waiting = [Waiting(Kind(model, "x"), 1, each) for model, each in seconds.items()]
    shares = share_out(free, holds, waiting, load.__getitem__)
    of_kind = {some.kind: some.seconds for some in waiting}
    each = zip(shares, free, holds, strict=True)
    assert max(end_of(s, f, h, of_kind, load) for s, f, h in each) == end
