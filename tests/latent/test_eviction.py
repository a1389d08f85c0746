"""Eviction against a slow computation that follows the formulas token by token."""

import math

import pytest
import torch

from benchsuite.latent import eviction

LAYERS, BATCH, HEADS, KV, ROWS, N, WIDTH = 2, 3, 4, 2, 5, 7, 4


@pytest.fixture
def drawn():
    generator = torch.Generator().manual_seed(3)
    queries = torch.randn(LAYERS, BATCH, HEADS, ROWS, WIDTH, generator=generator)
    keys = torch.randn(LAYERS, BATCH, KV, N, WIDTH, generator=generator)
    rows = torch.tensor([[0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 0, 1, 0]]).bool()
    valid = torch.tensor([[1] * 7, [1, 1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 0, 0]]).bool()
    return queries, keys, rows, valid


def slow_importance(queries, keys, rows, valid, layer, item, head):
    """Average the softmax over valid tokens, answer row by answer row, query head by query head."""
    group = HEADS // KV
    real = [n for n in range(N) if valid[item, n]]
    scores = dict.fromkeys(real, 0.0)
    asked = [r for r in range(ROWS) if rows[item, r]]
    for query_head in range(head * group, (head + 1) * group):
        for row in asked:
            query = queries[layer, item, query_head, row]
            weights = {
                n: math.exp(float(query @ keys[layer, item, head, n]) / math.sqrt(WIDTH))
                for n in real
            }
            for n in real:
                scores[n] += weights[n] / sum(weights.values()) / len(asked) / group
    return scores


def slow_redundancy(keys, valid, layer, item, head):
    real = [n for n in range(N) if valid[item, n]]
    unit = {
        n: keys[layer, item, head, n] / (keys[layer, item, head, n].norm() + 1e-8) for n in real
    }
    mean = {n: sum(float(unit[n] @ unit[m]) for m in real if m != n) / len(real) for n in real}
    total = sum(math.exp(-value) for value in mean.values())
    return {n: math.exp(-mean[n]) / total for n in real}


def every(*counts):
    return [tuple(int(i) for i in index) for index in torch.ones(counts).nonzero()]


@pytest.mark.parametrize("mix", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("n_kept", [2, 4, 9])
def test_kept_are_the_best_by_the_formula_in_their_order(drawn, mix, n_kept):
    queries, keys, rows, valid = drawn
    kept = eviction.r_kv(queries, keys, rows, valid, n_kept=n_kept, mix=mix)
    assert kept.positions.shape == (LAYERS, BATCH, KV, n_kept)
    for layer, item, head in every(LAYERS, BATCH, KV):
        important = slow_importance(queries, keys, rows, valid, layer, item, head)
        unlike = slow_redundancy(keys, valid, layer, item, head)
        scores = {n: mix * important[n] + (1 - mix) * unlike[n] for n in important}
        best = sorted(sorted(scores, key=scores.get, reverse=True)[:n_kept])
        mask = kept.mask[layer, item, head]
        assert kept.positions[layer, item, head][mask].tolist() == best
        # Free slots come last, where the chain of thought is shorter than the budget.
        assert mask.tolist() == [True] * len(best) + [False] * (n_kept - len(best))


def test_scores_are_the_formulas_numbers(drawn):
    queries, keys, rows, valid = drawn
    important = eviction.importance(queries, keys, rows, valid)
    unlike = eviction.redundancy(keys, valid)
    for layer, item, head in every(LAYERS, BATCH, KV):
        for slow, fast in (
            (slow_importance(queries, keys, rows, valid, layer, item, head), important),
            (slow_redundancy(keys, valid, layer, item, head), unlike),
        ):
            expected = [slow.get(n, 0.0) for n in range(N)]
            assert fast[layer, item, head].tolist() == pytest.approx(expected, abs=1e-6)


def test_padding_scores_zero_and_the_rest_sums_to_one(drawn):
    queries, keys, rows, valid = drawn
    for scores in (
        eviction.importance(queries, keys, rows, valid),
        eviction.redundancy(keys, valid),
    ):
        hidden = ~valid[None, :, None, :].expand_as(scores)
        assert scores[hidden].abs().max() == 0
        assert torch.allclose(scores.sum(-1), torch.ones(LAYERS, BATCH, KV))


def test_what_padding_holds_changes_nothing(drawn):
    queries, keys, rows, valid = drawn
    louder = torch.where(valid[None, :, None, :, None], keys, 1e4)
    before = eviction.r_kv(queries, keys, rows, valid, n_kept=3, mix=0.1)
    after = eviction.r_kv(queries, louder, rows, valid, n_kept=3, mix=0.1)
    assert torch.equal(before.positions, after.positions)


def test_a_repeated_key_is_the_first_to_go():
    keys = torch.eye(4)[[0, 1, 1, 1, 2]][None, None, None]
    unlike = eviction.redundancy(keys, torch.ones(1, 5).bool())[0, 0, 0]
    assert unlike[0] == unlike[4] > unlike[1]


def test_crop_keeps_the_first_valid_tokens(drawn):
    valid = drawn[3]
    kept = eviction.first(valid, 3, LAYERS, KV)
    assert kept.positions[0, :, 0].tolist() == [[0, 1, 2], [0, 1, 2], [2, 3, 4]]
    assert kept.mask.all()


def test_take_follows_the_positions(drawn):
    keys = drawn[1]
    kept = eviction.first(drawn[3], 3, LAYERS, KV)
    assert torch.equal(kept.take(keys)[1, 2, 1], keys[1, 2, 1, [2, 3, 4]])


def test_a_chain_of_thought_without_tokens_leaves_every_slot_free(drawn):
    queries, keys, rows, valid = drawn
    nothing = torch.zeros_like(valid)
    kept = eviction.r_kv(queries, keys, rows, nothing, n_kept=3, mix=0.1)
    assert not kept.mask.any()
    assert torch.isfinite(kept.take(keys)).all()
